"""Data sets made of a few public files: fetched once, checked to the last byte, processed once."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final

from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kgrec.data.labels import indexable

_TIMEOUT: Final = 60  # seconds without an answer
_MOST_SECONDS: Final = 600  # per file
_MOST_BYTES: Final = 2**26  # per file; the largest one has 15 MiB


class FetchedDataset(InMemoryDataset):
    """A store read from files that are fetched into ``root`` and checked against fixed SHA-256 sums.

    Args:
        root: The folder that the data set lives in; it is made if it is missing.
        source: Where the files come from: a local folder (they are copied) or a base URL (they are downloaded);
            their public home if :obj:`None`.
        transform: Called on the store whenever it is accessed.
        pre_transform: Called on the store once, before it is saved.
        force_reload: Whether to process the files again.

    Raises:
        FileNotFoundError: If ``source`` is a local folder that lacks a file.
        ValueError: If a file is not the expected one, to the last byte.
        ConnectionError: If a file could not be downloaded.

    In all three cases no file is left behind.
    """

    home: ClassVar[str]
    """Base URL of the files' public home."""

    sha256: ClassVar[dict[str, str]]
    """The files and their sums."""

    def __init__(
        self,
        root: str | PathLike[str],
        source: str | PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.source = self.home if source is None else source
        super().__init__(str(root), transform, pre_transform, force_reload=force_reload)
        self.load(self.processed_paths[0], data_cls=HeteroData)
        self.data = indexable(self._data)

    @abstractmethod
    def read(self) -> HeteroData:
        """The store, from the files in ``raw_dir``."""

    @property
    def raw_file_names(self) -> list[str]:
        """The files."""
        return list(self.sha256)

    @property
    def processed_file_names(self) -> str:
        """The store, as tensors and lists."""
        return "data.pt"

    def download(self) -> None:
        """Fetches all files, and puts them in place once every one of them is right."""
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            for name in self.sha256:
                _fetch(self.source, name, Path(folder) / name)
                self._verify(Path(folder) / name, f"from {self.source}")
            for name, path in zip(self.sha256, self.raw_paths):
                (Path(folder) / name).replace(path)

    def process(self) -> None:
        """Builds the store from the files."""
        for path in self.raw_paths:
            self._verify(Path(path), f"in {self.raw_dir}")
        data = self.read()
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        target = Path(self.processed_paths[0])
        partial = target.with_suffix(".partial")
        self.save([data], str(partial))
        partial.replace(target)

    def _verify(self, path: Path, where: str) -> None:
        found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), self.sha256[path.name]
        if found != expected:
            raise ValueError(f"{path.name} {where} has the SHA-256 sum {found}, expected {expected}.")


def _fetch(source: str | PathLike[str], name: str, target: Path) -> None:
    if not (isinstance(source, str) and source.startswith(("http://", "https://"))):
        path = Path(source) / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist, expected a local copy of {name}.")
        shutil.copyfile(path, target)
        return
    import pooch  # only who downloads needs it
    from requests import RequestException

    url = f"{source.rstrip('/')}/{name}"
    try:
        pooch.HTTPDownloader(progressbar=_Limits(), timeout=_TIMEOUT)(url, str(target), None)
    except (OSError, RequestException) as error:
        raise ConnectionError(
            f"{url} could not be downloaded ({_reason(error)}), expected {name}: "
            "pass source= a folder or another base URL that holds it."
        ) from error


class _Limits:
    """Ends a download that is too large or takes too long; pooch tells it of every chunk, as a progress bar."""

    def __init__(self) -> None:
        self.total, self._received, self._started = 0, 0, time.monotonic()

    def update(self, received: int) -> None:
        """Counts a chunk."""
        self._received += received
        if max(self.total, self._received) > _MOST_BYTES:
            raise OSError(f"it is larger than the {_MOST_BYTES} bytes that are taken")
        if time.monotonic() - self._started > _MOST_SECONDS:
            raise OSError(f"it took longer than {_MOST_SECONDS} seconds")

    def reset(self) -> None:
        """Starts to count afresh."""
        self._received = 0

    def close(self) -> None:
        """Does nothing: there is no bar."""


def _reason(error: BaseException) -> str:
    """What the innermost cause of an error says: requests wraps them four deep."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)
