"""MovieLens 100K with a Freebase knowledge graph."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kgrec.data.atomic import read_atomic
from pyg_kgrec.data.folds import apply_split

_NAME: Final = "ml-100k"
_HOME: Final = "https://raw.githubusercontent.com/RUCAIBox/RecBole/master/recbole/dataset_example/ml-100k"
_SHA256: Final = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
    "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
_TIMEOUT: Final = 60  # seconds without an answer
# One label (0 train, 1 validation, 2 test) for each row of ml-100k.inter, in the order of the rows. It was made
# by looking up every row in the three files of the split, ml-100k.{train,valid,test}.inter, which hold each row
# exactly once. Packed four labels a byte, the first in the lowest bits.
_SPLIT: Final = Path(__file__).with_name("ml-100k-split.npy")


class MovieLens100K(InMemoryDataset):
    """MovieLens 100K: 100,000 ratings with times, and 91,631 Freebase triples around the films.

    943 users, 1,682 items with titles, 34,628 entities, 24 relations. 1,598 items are linked to an entity, 84
    are not; all items and all entities stay in the store. Users and items stand in the order of the files
    ``ml-100k.user`` and ``ml-100k.item``; raw ids are strings.

    The five files are fetched once into ``root``, checked against fixed SHA-256 sums, and processed.

    Args:
        root: The folder that the data set lives in; it is made if it is missing.
        source: Where the five atomic files come from: a local folder (they are copied) or a base URL (they are
            downloaded); the public RecBole repository if :obj:`None`.
        transform: Called on the store whenever it is accessed.
        pre_transform: Called on the store once, before it is saved.
        force_reload: Whether to process the files again.

    Raises:
        FileNotFoundError: If ``source`` is a local folder that lacks a file.
        ValueError: If a file is not the expected one, to the last byte.
        ConnectionError: If a file could not be downloaded.

    In all three cases no file is left behind.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        source: str | PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.source = _HOME if source is None else source
        super().__init__(str(root), transform, pre_transform, force_reload=force_reload)
        self.load(self.processed_paths[0], data_cls=HeteroData)

    @property
    def raw_file_names(self) -> list[str]:
        """The five atomic files."""
        return list(_SHA256)

    @property
    def processed_file_names(self) -> str:
        """The store, as tensors and lists."""
        return "data.pt"

    def download(self) -> None:
        """Fetches all five files, and puts them in place once every one of them is right."""
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            for name in _SHA256:
                _fetch(self.source, name, Path(folder) / name)
                _verify(Path(folder) / name, f"from {self.source}")
            for name, path in zip(_SHA256, self.raw_paths):
                (Path(folder) / name).replace(path)

    def process(self) -> None:
        """Builds the store from the files."""
        for path in self.raw_paths:
            _verify(Path(path), f"in {self.raw_dir}")
        data = read_atomic(self.raw_dir, _NAME)
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        target = Path(self.processed_paths[0])
        partial = target.with_suffix(".partial")
        self.save([data], str(partial))
        partial.replace(target)

    def split(self) -> tuple[HeteroData, HeteroData, HeteroData]:
        """The fixed split, about 80/10/10 % of each user's ratings: 79,619, 9,942 and 10,439 pairs.

        Returns:
            The stores ``(train, val, test)`` of :func:`~pyg_kgrec.transforms.apply_split`, ready for ``fit``
            and ``evaluate``.
        """
        packed = np.load(_SPLIT)
        fold = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
        return apply_split(self[0], torch.from_numpy(fold.reshape(-1).astype(np.int64)))


def _fetch(source: str | PathLike[str], name: str, target: Path) -> None:
    if not (isinstance(source, str) and source.startswith(("http://", "https://"))):
        path = Path(source) / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist, expected a local copy of {name}.")
        shutil.copyfile(path, target)
        return
    url = f"{source.rstrip('/')}/{name}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, target.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConnectionError(
            f"{url} could not be downloaded ({reason}), expected {name}: "
            "pass source= a folder or another base URL that holds it."
        ) from error


def _verify(path: Path, where: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256[path.name]:
        raise ValueError(f"{path.name} {where} has the SHA-256 sum {found}, expected {_SHA256[path.name]}.")
