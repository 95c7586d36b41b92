"""Ids of a file are what is written there; a file that holds no table is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from pyg_kgrec.cli import tables
from pyg_kgrec.cli.tables import read_table


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["1", "2", "30"], [1, 2, 30]),
        (["1", "01", "30"], ["1", "01", "30"]),
        (["007", "008", "009"], ["007", "008", "009"]),
        (["NA", "null", "nan"], ["NA", "null", "nan"]),
        (["1", "NA", "3"], ["1", "NA", "3"]),
    ],
)
def test_ids_are_what_is_written(
    written: list[str], ids: list[str | int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_LINES", 2)
    file = tmp_path / "t.csv"
    file.write_text("user_id,time\n" + "".join(f"{raw},{i}\n" for i, raw in enumerate(written)))
    table = read_table(str(file))
    assert table["user_id"].tolist() == ids
    assert table["time"].tolist() == [0, 1, 2]
    text = read_table(str(file), as_text=True)
    assert text["user_id"].tolist() == written


def test_an_empty_cell_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("user_id,rating\na,\nb,2.5\n")
    table = read_table(str(file))
    assert table["rating"].isna().tolist() == [True, False]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("user_id,item_id\nJosé,1\n".encode(encoding))
    named = encoding if encoding == "cp1252" else None
    table = read_table(str(file), encoding=named)
    assert list(table.columns) == ["user_id", "item_id"]
    assert table["user_id"].tolist() == ["José"]
    if named:
        with pytest.raises(ValueError, match=r"byte 19 is not UTF-8 .*encoding="):
            read_table(str(file))


def test_separators(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a"], "item_id": ["b"]})
    for separator, written in (("\t", r"separator=\t"), (";", "separator=;"), ("|", "separator=|")):
        file = tmp_path / "t.csv"
        frame.to_csv(file, sep=separator, index=False)
        with pytest.raises(ValueError, match="one column") as caught:
            read_table(str(file))
        assert written in str(caught.value)
        pd.testing.assert_frame_equal(read_table(str(file), separator=written.partition("=")[2]), frame)
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    pd.testing.assert_frame_equal(read_table(str(tmp_path / "t.tsv")), frame)


def test_packed_files(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv.gz"
    file.write_bytes(gzip.compress(b"user_id\titem_id\n01\t2\n"))
    table = read_table(str(file))
    assert table["user_id"].tolist() == ["01"]
    file.write_bytes(gzip.compress(b"user_id\titem_id\n01\t2\n" * 100)[:40])
    with pytest.raises(ValueError, match=r"t\.tsv\.gz is not a table"):
        read_table(str(file))


@pytest.mark.parametrize("content", [b"", b"a,b\n1\n1,2,3\n", b"\x00\x01\x02"])
def test_what_is_no_table_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read_table(str(file))
    assert len(str(caught.value)) <= 400
    with pytest.raises(FileNotFoundError, match="no file"):
        read_table(str(tmp_path / "other.csv"))
