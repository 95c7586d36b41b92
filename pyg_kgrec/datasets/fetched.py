"""Data sets made of a few public files: fetched once, checked to the last byte, processed once."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any, ClassVar, Final
from urllib.parse import urljoin, urlsplit

from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kgrec._files import kind_of, pack, read_packed, replace_file, shown
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.datasets.stored import code_digest, described, from_plain, to_plain

_TIMEOUT: Final = 60  # seconds without an answer
_MOST_SECONDS: Final = 600  # per file
_MOST_BYTES: Final = 2**26  # per file; the largest one has 15 MiB
_KIND: Final = "processed data set"
_WEB: Final = ("http", "https")


class FetchedDataset(InMemoryDataset):
    """A store read from files that are fetched into ``root`` and checked against fixed SHA-256 sums.

    Args:
        root: The folder that the data set lives in; it is made if it is missing.
        source: Where the files come from: a local folder (they are copied) or a base URL (they are downloaded);
            their public home if :obj:`None`.
        transform: Called on the store whenever it is accessed.
        pre_transform: Called on the store once, before it is saved. The files are processed again where another one
            made the saved store.
        force_reload: Whether to process the files again.

    Raises:
        FileNotFoundError: If ``source`` is a local folder that lacks a file.
        ValueError: If a file is not the expected one, to the last byte, or ``source`` is no folder or web address.
        ConnectionError: If a file could not be downloaded: it is too large, takes too long, or the server points to
            an address of another scheme.

    In all of these cases no file is left behind.

    The processed store is kept as ``processed/data.pt``, a file of this package's own that is read without running
    anything in it. It is made anew where it is damaged, where something else stands in its place, and where another
    ``pre_transform``, other raw files or other code made it.
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
        self.source = source
        self._store: HeteroData | None = None
        super().__init__(str(root), transform, pre_transform, force_reload=force_reload)
        # PyG's constructor calls _process and empties its fields afterwards.
        self.data, self.slices = self.collate([indexable(self._store)])
        self._store = None

    @abstractmethod
    def read(self) -> HeteroData:
        """The store, from the files in ``raw_dir``."""

    @property
    def sums(self) -> dict[str, str]:
        """The files that this form of the data set is made of, and their SHA-256 sums."""
        return self.sha256

    def places(self, name: str) -> list[str]:
        """Where a file may lie: addresses if the files come from their public home, else paths below ``source``.

        The first that is there counts; of a ``source`` that is an address only the first is tried.
        """
        return [f"{self.home}/{name}"] if self.source is None else [name]

    @property
    def raw_file_names(self) -> list[str]:
        """The files."""
        return list(self.sums)

    @property
    def processed_file_names(self) -> str:
        """The store, as tensors and lists."""
        return "data.pt"

    def download(self) -> None:
        """Fetches the files that are missing, and puts them in place once every one of them is right."""
        missing = {
            name: Path(path) for name, path in zip(self.sums, self.raw_paths) if not Path(path).is_file()
        }
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            for name in missing:
                found = _fetch(self.source, name, self.places(name), Path(folder) / name)
                self._verify(Path(folder) / name, f"from {shown(found)}")
            for name, path in missing.items():
                (Path(folder) / name).replace(path)

    def _process(self) -> None:
        """What PyG calls: its own form reads and writes pickles beside the store."""
        self._store = None if self.force_reload else self._kept()
        if self._store is None:
            if self.log:
                print("Processing...", file=sys.stderr)
            self.process()

    def process(self) -> None:
        """Builds the store from the files, and keeps it."""
        for path in self.raw_paths:
            self._verify(Path(path), f"in {self.raw_dir}")
        data = self.read()
        if self.pre_transform is not None:
            data = self.pre_transform(data)
            if not isinstance(data, HeteroData):
                raise TypeError(f"pre_transform returned {kind_of(data)}, expected a HeteroData")
        self._store = data
        path = Path(self.processed_paths[0])
        try:  # a store that cannot be kept, or a folder that may not be written to, is no reason to have no data
            content = pack({"origin": self._origin(), "store": to_plain(data)}, _KIND)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
        except (TypeError, ValueError, OSError) as error:
            warn_caller(f"the processed store is not kept, but made anew each time: {error}")

    def _kept(self) -> HeteroData | None:
        """The store that was kept, if this data set wrote it, from these files by this code."""
        try:
            content = read_packed(Path(self.processed_paths[0]), _KIND)
            return from_plain(content["store"]) if content["origin"] == self._origin() else None
        except (OSError, ValueError, LookupError):
            return None

    def _origin(self) -> dict[str, Any]:
        """All that the processed store depends on."""
        return {
            "dataset": type(self).__qualname__,
            "files": dict(self.sums),
            "code": code_digest(),
            "pre_transform": described(self.pre_transform),
        }

    def _verify(self, path: Path, where: str) -> None:
        found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), self.sums[path.name]
        if found != expected:
            raise ValueError(f"{path.name} {where} has the SHA-256 sum {found}, expected {expected}.")


def _fetch(source: str | PathLike[str] | None, name: str, places: list[str], target: Path) -> str:
    """Copies or downloads a file, and says where from."""
    start = places[0] if source is None else str(source)
    scheme = urlsplit(start).scheme.lower() if "://" in start else ""
    if scheme in _WEB:
        _download(start if source is None else f"{start.rstrip('/')}/{places[0]}", name, target)
        return start.rstrip("/").removesuffix(f"/{name}")
    if scheme:
        raise ValueError(f"source is {shown(start)!r}, expected a folder or an address of http or https")
    paths = [Path(start) / place for place in places]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{shown(paths[0])} does not exist, expected a local copy of {name}.")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{shown(path)} is larger than the {_MOST_BYTES} bytes that are taken")
    shutil.copyfile(path, target)
    return start


def _download(url: str, name: str, target: Path) -> None:
    """Fetches a file in a thread of its own: a server that drips bytes keeps its reader waiting for ever."""
    failed: list[BaseException] = []
    with target.open("wb") as file:
        limits = _Limits(file)

        def work() -> None:
            try:
                limits.fetch(url)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, name=f"download of {name}", daemon=True)
        thread.start()
        thread.join(max(_MOST_SECONDS, 0))
        if thread.is_alive():
            limits.ended = True
            failed.append(OSError(f"it took longer than {_MOST_SECONDS} seconds"))
    if failed:
        raise ConnectionError(
            f"{shown(url)} could not be downloaded ({shown(_reason(failed[0]), 150)}), expected {name}: "
            "pass source= a folder or another base URL that holds it."
        ) from failed[0]


class _Limits:
    """A file that takes a download up to a size: what arrives is counted, not what is announced."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._received, self.ended = file, 0, False

    def fetch(self, url: str) -> None:
        """Downloads a file into this one."""
        import pooch  # only who downloads needs it

        pooch.HTTPDownloader(
            timeout=_TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": self._look_at},
        )(url, self, None)

    def write(self, chunk: bytes) -> None:
        """Takes a chunk."""
        self._received += len(chunk)
        self._check_size(self._received)
        if self.ended:
            raise OSError("it took too long")
        self._file.write(chunk)

    def flush(self) -> None:
        """Does nothing: the file is closed before anyone reads it."""

    def _look_at(self, response: Any, *_: Any, **__: Any) -> None:
        """Looks at an answer before it is read, and before a redirection is followed."""
        if response.is_redirect:
            target = urlsplit(urljoin(response.url, response.headers["location"])).scheme.lower()
            if target != urlsplit(response.url).scheme.lower():
                raise OSError(f"the server points to an address of another scheme, {shown(target, 20)!r}")
        length = response.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise OSError(f"the server names {shown(length, 20)!r} as its length")
        self._check_size(int(length[:18]))
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise OSError("the server sends it compressed, which was not asked for")

    def _check_size(self, size: int) -> None:
        if size > _MOST_BYTES:
            raise OSError(f"it is larger than the {_MOST_BYTES} bytes that are taken")


def _reason(error: BaseException) -> str:
    """What the innermost cause of an error says: requests wraps them four deep."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)
