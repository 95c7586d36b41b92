"""What is served now, and how it is replaced while requests are answered."""

from __future__ import annotations

import logging
import os
import re
import threading
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

from torch_geometric.data import HeteroData

from pyg_kgrec._files import kind_of, shown
from pyg_kgrec.data import load_store
from pyg_kgrec.models import load
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.served import Served

LOG = logging.getLogger("pyg_kgrec.serving")
ModelSource: TypeAlias = Recommender | str | os.PathLike[str]
StoreSource: TypeAlias = HeteroData | str | os.PathLike[str]

_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[\w.~-]*[/\\])+[\w.~-]*")


class Service:
    """A model and a store, from files or as they are, and the generation that answers.

    Args:
        model: The model, or the path of its file.
        data: The store, or the path of its file.

    Attributes:
        current: What answers now. A request reads it once, so that all of its answer is of one generation.

    Raises:
        FileNotFoundError: If a file is missing.
        TypeError: If something else is given.
        ValueError: If a file is damaged, or the model does not fit the store.
    """

    def __init__(self, model: ModelSource, data: StoreSource) -> None:
        for name, source, kind in (("model", model, Recommender), ("data", data, HeteroData)):
            if not isinstance(source, kind | str | os.PathLike):
                what = "a model" if kind is Recommender else "a store"
                raise TypeError(f"{name} is {kind_of(source)}, expected {what} or the path of its file")
        self._model, self._data = model, data
        self._lock = threading.Lock()
        self.current = self._read(1)

    def reload(self) -> Served:
        """Reads the files anew, prepares what they hold aside, and lets it answer from then on.

        Requests that are being answered end with what they began with.

        Raises:
            Refused: If the service was made of objects, or the files cannot be served; what answered before goes
                on. The sentence names no path.
        """
        if isinstance(self._model, Recommender) and isinstance(self._data, HeteroData):
            raise Refused(
                HTTPStatus.CONFLICT,
                "this service was made of a model and a store in memory, expected files to read anew",
            )
        with self._lock:
            before = self.current
            try:
                served = self._read(before.generation + 1)
            except (ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError) as error:
                LOG.info("nothing new is served: %s", error)  # the caller is told
                raise Refused(
                    HTTPStatus.CONFLICT,
                    f"generation {before.generation} goes on serving, the new files cannot: "
                    f"{self._without_paths(str(error) or type(error).__name__)}",
                ) from error
            self.current = served
        LOG.info("generation %d serves", served.generation)
        return served

    def _read(self, generation: int) -> Served:
        store = self._data if isinstance(self._data, HeteroData) else load_store(Path(self._data))
        model = self._model if isinstance(self._model, Recommender) else load(Path(self._model), store)
        return Served(model, store, generation)

    def _without_paths(self, text: str) -> str:
        for source, name in ((self._model, "the model's file"), (self._data, "the store's file")):
            if isinstance(source, str | os.PathLike):
                path = os.fspath(source)
                for written in (path, shown(path), os.path.abspath(path), shown(os.path.abspath(path))):  # noqa: PTH100
                    text = text.replace(written, name)
        return _PATH.sub("a file", text)
