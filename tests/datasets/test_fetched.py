"""A data set of two small files, on a server of this machine, and what strangers may put in its folders."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose

from pyg_kgrec.data import INTERACTS, from_pandas
from pyg_kgrec.datasets import fetched
from pyg_kgrec.datasets.fetched import FetchedDataset
from pyg_kgrec.datasets.stored import described

FILES = {"pairs.csv": b"user_id,item_id\na,x\nb,y\na,y\n", "notes.txt": b"nothing\n" * 100}


class Small(FetchedDataset):
    home = "http://127.0.0.1:9"
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    reads = 0

    def read(self) -> HeteroData:
        type(self).reads += 1
        return from_pandas(pd.read_csv(Path(self.raw_dir) / "pairs.csv"))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Small, "reads", 0)
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_processed_store_is_kept_and_read(source: Path, tmp_path: Path) -> None:
    first = Small(tmp_path / "root", source)
    again = Small(tmp_path / "root", source / "nowhere")
    assert Small.reads == 1
    assert list(again[0]["user"].id) == list(first[0]["user"].id) == ["a", "b"]
    assert torch.equal(again[0][INTERACTS].edge_index, first[0][INTERACTS].edge_index)
    assert [p.name for p in (tmp_path / "root" / "processed").iterdir()] == ["data.pt"]
    Small(tmp_path / "root", force_reload=True)
    assert Small.reads == 2


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["data.pt", "pre_transform.pt", "pre_filter.pt"])
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.parametrize("built", [False, True])
def test_a_planted_file_runs_nothing(
    source: Path, tmp_path: Path, name: str, save: Callable[[Any, Path], Any], built: bool
) -> None:
    root = tmp_path / "root"
    if built:
        Small(root, source)
    (root / "processed").mkdir(parents=True, exist_ok=True)
    save(Evil(tmp_path / "ran"), root / "processed" / name)
    data = Small(root, source)[0]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1, 0], [0, 1, 1]]
    assert not (tmp_path / "ran").exists()


def test_damage_is_mended(source: Path, tmp_path: Path) -> None:
    path = Path(Small(tmp_path / "root", source).processed_paths[0])
    whole = path.read_bytes()
    for number, damaged in enumerate(
        (b"", whole[:-1], whole[:200], whole[:-9] + b"x" + whole[-8:], b"j" + whole)
    ):
        path.write_bytes(damaged)
        assert list(Small(tmp_path / "root")[0]["user"].id) == ["a", "b"]
        assert Small.reads == number + 2
        assert len(path.read_bytes()) == len(whole)


def marked(value: int) -> Callable[[HeteroData], HeteroData]:
    def mark(data: HeteroData) -> HeteroData:
        data.mark = value
        return data

    return mark


class Mark:
    def __init__(self, value: int) -> None:
        self.value = value

    def __call__(self, data: HeteroData) -> HeteroData:
        data.mark = self.value
        return data


@pytest.mark.parametrize(
    "make",
    [
        Mark,
        marked,
        lambda value: Compose([Mark(0), Mark(value)]),
        lambda value: {1: lambda data: marked(1)(data), 2: lambda data: marked(2)(data)}[value],
    ],
)
def test_another_pre_transform_processes_anew(
    source: Path, tmp_path: Path, make: Callable[[int], Callable[[HeteroData], HeteroData]]
) -> None:
    for value, reads in ((1, 1), (1, 1), (2, 2), (2, 2), (1, 3)):
        assert Small(tmp_path / "root", source, pre_transform=make(value))[0].mark == value
        assert Small.reads == reads
    assert "mark" not in Small(tmp_path / "root")[0]


MODULE = """
SIZE = {size}

def helper(data):
    data.mark = {value}
    return deeper(data)

def deeper(data, plus={plus}):
    data.mark += SIZE + plus
    return data if SIZE else helper(data)

def outer(data):
    return (lambda: helper(data))()

class Outer:
    def __call__(self, data):
        return helper(data)
"""


@pytest.mark.parametrize("name", ["outer", "Outer"])
def test_what_a_pre_transform_calls_and_reads_of_its_module_counts(name: str) -> None:
    def sum_of(**values: int) -> str:
        held: dict[str, Any] = {"__name__": "mine"}
        exec(MODULE.format(**{"size": 1, "value": 2, "plus": 3, **values}), held)
        return described(held[name]() if name == "Outer" else held[name])

    assert sum_of() == sum_of()
    assert len({sum_of(), sum_of(size=4), sum_of(value=4), sum_of(plus=4)}) == 4


def test_other_code_processes_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Small(tmp_path / "root", source)
    monkeypatch.setattr(fetched, "code_digest", lambda: "other")
    Small(tmp_path / "root")
    assert Small.reads == 2


def test_what_a_file_cannot_hold_is_not_kept(source: Path, tmp_path: Path) -> None:
    def strange(data: HeteroData) -> HeteroData:
        data.mark = Mark(3)
        return data

    for reads in (1, 2):
        with pytest.warns(
            UserWarning, match="not kept, but made anew each time: '_global_store' has mark of type Mark"
        ):
            assert Small(tmp_path / "root", source, pre_transform=strange)[0].mark.value == 3
        assert Small.reads == reads
    with pytest.raises(TypeError, match="pre_transform returned a NoneType, expected a HeteroData"):
        Small(tmp_path / "root", source, pre_transform=lambda data: None)


def test_a_folder_that_cannot_be_written_to(source: Path, tmp_path: Path) -> None:
    Small(tmp_path / "root", source)
    (tmp_path / "root" / "processed" / "data.pt").unlink()
    (tmp_path / "root" / "processed").rmdir()
    (tmp_path / "root" / "processed").touch()
    with pytest.warns(UserWarning, match="not kept, but made anew each time"):
        assert list(Small(tmp_path / "root")[0]["user"].id) == ["a", "b"]


# ---------------------------------------------------------------------- downloads


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of a path."""

    protocol_version = "HTTP/1.0"

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        content = FILES.get(name, b"")
        headers: dict[str, str] = {}
        if kind == "announced":
            headers["Content-Length"] = "9" * 30
        elif kind == "nonsense":
            headers["Content-Length"] = "many"
        elif kind == "redirected":
            headers["Location"] = f"/plain/{name}"
        elif kind == "downgraded":
            headers["Location"] = f"ftp://127.0.0.1/{name}"
        elif kind == "opened":
            headers["Location"] = f"file:///etc/{name}"
        elif kind == "compressed":
            headers["Content-Encoding"] = "gzip"
            content = gzip.compress(bytes(10**6))
        elif kind == "endless":
            content = bytes(2 * 10**5)
        self.send_response(302 if "Location" in headers else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if kind == "dripping":
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
        self.wfile.write(content)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.block_on_close = False
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@pytest.mark.parametrize("kind", ["plain", "redirected"])
def test_a_download(server: str, tmp_path: Path, kind: str) -> None:
    for number, address in enumerate((server, server.replace("http", "HTTP"))):
        assert len(Small(tmp_path / f"{number}", f"{address}/{kind}")) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("announced", "it is larger than the 100000 bytes that are taken"),
        ("endless", "it is larger than the 100000 bytes that are taken"),
        ("nonsense", "the server names 'many' as its length"),
        ("compressed", "the server sends it compressed, which was not asked for"),
        ("downgraded", "the server points to an address of another scheme, 'ftp'"),
        ("opened", "the server points to an address of another scheme, 'file'"),
        ("dripping", "it took longer than 0.3 seconds"),
    ],
)
def test_a_hostile_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.setattr(fetched, "_MOST_BYTES", 10**5)
    if kind == "dripping":
        monkeypatch.setattr(fetched, "_MOST_SECONDS", 0.3)
    with pytest.raises(ConnectionError, match=message) as raised:
        Small(tmp_path / "root", f"{server}/{kind}")
    assert len(str(raised.value)) <= 400
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_a_redirection_to_an_unprotected_address_is_refused() -> None:
    class Answer:
        is_redirect = True
        url = "https://example.org/a"
        headers = {"location": "http://example.org/a"}

    with pytest.raises(OSError, match="another scheme, 'http'"):
        fetched._Limits(None)._look_at(Answer())  # type: ignore[arg-type]
    Answer.headers = {"location": "//example.org/b"}
    fetched._Limits(None)._look_at(Answer())  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["ftp://example.org/data", "FILE:///etc", "s3://bucket"])
def test_addresses_of_another_kind(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="expected a folder or an address of http or https"):
        Small(tmp_path / "root", source)
