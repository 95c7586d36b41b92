"""Files are written whole, and only what was written is read."""

from __future__ import annotations

import errno
import io
import os
import threading
import zipfile
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec import _files
from pyg_kgrec._files import kind_of, pack, read_packed, replace_file, shown, unpack
from pyg_kgrec.data import load_store

CONTENT = {"weights": torch.arange(6.0).view(2, 3), "names": ["a", "b"], "k": 3}


def forged(body: bytes, what: str = "model") -> bytes:
    """A file whose sum is right, whatever it holds."""
    honest = pack({}, what)
    start = honest[: honest.index(b"\r\n")].split(b" ")
    return b" ".join([*start[:-2], b"%d" % len(body), _files._sum(what, body)]) + b"\r\n" + body


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


# ---------------------------------------------------------------------- writing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / ("long " * 51)[:255]
    for content in (b"first", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_many_threads_write_one_path(tmp_path: Path) -> None:
    path, failed = tmp_path / "file", []

    def write(number: int) -> None:
        try:
            for _ in range(5):
                replace_file(path, bytes([number]) * 10_000)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert not failed
    assert (len(content), len(set(content))) == (10_000, 1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace", "interrupt"])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    if step == "replace":
        monkeypatch.setattr(Path, "replace", full)
    else:
        monkeypatch.setattr(os, "fsync", stopped if step == "interrupt" else full)
    expected = (KeyboardInterrupt, None) if step == "interrupt" else (OSError, "the disk is full")
    with pytest.raises(expected[0], match=expected[1]) as raised:
        replace_file(path, b"new")
    if step != "interrupt":
        assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: opened(Path("/dev/full"), "wb"))
    with pytest.raises(OSError, match=r"file cannot be written \(the disk is full\); nothing is changed"):
        replace_file(tmp_path / "file", b"new")


def test_no_folder_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing is not a folder to save file in"):
        replace_file(tmp_path / "missing" / "file", b"")
    with pytest.raises(ValueError, match="is a folder, expected the name of a file"):
        replace_file(tmp_path, b"")


# ---------------------------------------------------------------------- reading


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, pack(CONTENT, "model"))
    found = read_packed(path, "model")
    assert torch.equal(found.pop("weights"), CONTENT["weights"])
    assert found == {"names": ["a", "b"], "k": 3}


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    data, path = pack(CONTENT, "model"), tmp_path / "file"
    for place in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"file (is damaged|has format|is a file of)"):
            unpack(bytes(damaged), "model", path)
        with pytest.raises(ValueError, match=r"damaged|empty"):
            unpack(data[:place], "model", path)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "file is damaged or no file of a model of this package: it is empty"),
        (b"junk" + pack(CONTENT, "model"), "file is damaged: other bytes stand before"),
        (
            pack(CONTENT, "model") + b"junk",
            "file is damaged: it has [0-9]+ bytes after its first line, expected",
        ),
        (pack(CONTENT, "store"), "file is a file of a store, expected one of a model"),
        (pack(CONTENT, "model").replace(b"kgrec 1 ", b"kgrec 2 ", 1), "file has format 2, expected 1"),
        (
            saved(CONTENT),
            "file is damaged or no file of a model of this version: torch.save or an older version wrote it",
        ),
        (
            b"user_id:token\titem_id:token\n",
            "file is damaged or no file of a model of this package: it does not begin",
        ),
    ],
)
def test_other_bytes_are_refused_in_a_sentence(tmp_path: Path, data: bytes, match: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        read_packed(path, "model")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def compressed(size: int) -> bytes:
    source, buffer = zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(size)}))), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        saved({"w": Evil()}),
        saved([1, 2]),
        saved({1: 2}),
        saved({"w": torch.zeros(1).expand(10**12)}),
        saved({"w": [torch.zeros(1).expand(10**6)]}),
        saved({"w": torch.eye(2).to_sparse()}),
        saved({"w": torch.empty(2, device="meta")}),
        compressed(10**6),
        saved(CONTENT)[:-20],
        b"PK\x03\x04",
        b"",
    ],
)
def test_a_forged_file_runs_nothing_and_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="file is damaged or no file of a model of this package: what it holds"
    ):
        unpack(forged(body), "model", Path("file"))
    assert not Path("ran").exists()


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*missing"):
        read_packed(tmp_path / "missing", "model")
    with pytest.raises(ValueError, match="is a folder, expected a file of a model"):
        read_packed(tmp_path, "model")


def test_a_long_path_is_shortened() -> None:
    assert shown("a\nb") == "a b"
    assert len(shown("x" * 10**5)) == 100
    assert shown(Path("/folder/file.pt")) == "/folder/file.pt"


# ---------------------------------------------------------------------- what version 0.1 wrote


@pytest.mark.parametrize("name", ["KGRec", "MKR", "KTUP", "KSR", "LightGCN", "BPRMF", "Popularity"])
@pytest.mark.parametrize("kind", ["schema", "signature"])
def test_files_of_0_1_are_refused_in_one_sentence(
    name: str, kind: str, make_store: Callable[..., HeteroData], tmp_path: Path
) -> None:
    """0.1 wrote what ``torch.save`` makes, in two forms, without a sum; Lightning made its checkpoints."""
    model = getattr(pyg_kgrec, name)
    data = make_store()
    path, checkpoint, store = (tmp_path / file for file in ("model.pt", "last.ckpt", "train.store"))
    signature = {"num_nodes": {"user": 1, "item": 1, "entity": 1}, "ids": {}, "relation_name": []}
    content = {
        "pyg_kgrec": 2,
        "model": name,
        "settings": {},
        kind: signature,
        "state_dict": {"a": torch.ones(1)},
    }
    torch.save(content, path)
    torch.save(
        {"epoch": 1, "state_dict": {"model.a": torch.ones(1)}, "loops": {}, "callbacks": {}}, checkpoint
    )
    torch.save(data, store)
    told = "is damaged or no file of a {} of this version: torch.save or an older version wrote it"
    for read, what in (
        (lambda: pyg_kgrec.load(path), "model"),
        (lambda: model.load(path, data), "model"),
        (lambda: load_store(store), "store"),
    ):
        with pytest.raises(ValueError, match=told.format(what)) as caught:
            read()
        assert len(str(caught.value)) <= 400
    if name not in ("Popularity", "KSR"):
        with pytest.raises(ValueError, match=told.format("training checkpoint")):
            pyg_kgrec.fit(model(data), data, max_epochs=1, resume=checkpoint, progress=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "an int"),
        (3.0, "a float"),
        ([], "a list"),
        (None, "a NoneType"),
        (UserWarning(), "a UserWarning"),
        (EOFError(), "an EOFError"),
        (type("MKR", (), {})(), "an MKR"),
        (type("RP3beta", (), {})(), "an RP3beta"),
        (type("LightGCN", (), {})(), "a LightGCN"),
        (ABC, "the class ABC"),
        (int, "the class int"),
    ],
)
def test_a_message_says_what_a_value_is(value: Any, words: str) -> None:
    assert kind_of(value) == words
