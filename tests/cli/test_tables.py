"""Ids of a file are what is written there; a file that holds no table is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pyg_kgrec.cli.tables import read_table, unify


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["1", "2", "30"], [1, 2, 30]),
        (["1", "01", "30"], ["1", "01", "30"]),
        (["007", "008", "009"], ["007", "008", "009"]),
        (["NA", "null", "nan"], ["NA", "null", "nan"]),
        (["1", "NA", "3"], ["1", "NA", "3"]),
        (["1.10", "1.1", "2"], ["1.10", "1.1", "2"]),
        (["1.0", "2.0", "3.0"], ["1.0", "2.0", "3.0"]),
        (["1e5", "inf", "-0"], ["1e5", "inf", "-0"]),
        (["True", "False", "True"], ["True", "False", "True"]),
        (["9223372036854775808", "5", "6"], ["9223372036854775808", "5", "6"]),
        (["9223372036854775807", "-5", " 6"], [9223372036854775807, -5, 6]),
    ],
)
def test_ids_are_what_is_written(written: list[str], ids: list[str | int], tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("user_id,time\n" + "".join(f"{raw},{i}\n" for i, raw in enumerate(written)))
    table = read_table(str(file))
    assert table["user_id"].tolist() == ids
    assert table["time"].tolist() == [0, 1, 2]
    text = read_table(str(file), as_text=True)
    assert text["user_id"].tolist() == written


def test_numbers_that_are_no_ids_stay_numbers(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("uid,user,age,rating\n1.10,07,07,4.50\n,8,8,3\n")
    table = read_table(str(file), ids=("uid",))
    assert table["uid"].tolist()[0] == "1.10"
    assert table["uid"].isna().tolist() == [False, True]
    assert table[["user", "age", "rating"]].to_dict("list") == {
        "user": [7, 8],
        "age": [7, 8],
        "rating": [4.5, 3],
    }


def test_ids_of_one_kind_are_text_where_some_are() -> None:
    some, words = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": ["1.10", "2"]})
    kinds = pd.DataFrame({"a": pd.Categorical([7, 8])})
    large = pd.DataFrame({"a": pd.array([3, None], dtype="Int64")})
    nothing = pd.DataFrame({"a": pd.Series([], dtype=str)})
    unify([(some, "a"), (nothing, "a"), (kinds, "a")])
    assert some["a"].tolist() == [1, 2]
    assert kinds["a"].tolist() == [7, 8]
    unify([(some, "a"), (words, "a"), (kinds, "a"), (large, "a")])
    assert some["a"].tolist() == ["1", "2"]
    assert words["a"].tolist() == ["1.10", "2"]
    assert kinds["a"].tolist() == ["7", "8"]
    assert large["a"].iloc[0] == "3"
    assert pd.isna(large["a"].iloc[1])


def test_an_empty_cell_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("user_id,rating\na,\nb,2.5\n")
    table = read_table(str(file))
    assert table["rating"].isna().tolist() == [True, False]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "rows",
    [
        "0,102,Film 102,\n1,103,Film 103,\n",
        "0,102,Film 102,\n1,103,Film 103\n",
        '0,102,Film 102,""\n1,103,Film 103,\n',
    ],
)
def test_an_empty_cell_at_the_end_of_rows_shifts_nothing(
    rows: str, packed: bool, as_text: bool, tmp_path: Path
) -> None:
    content = f"user_id,item_id,title\n{rows}".encode()
    file = tmp_path / ("t.csv.gz" if packed else "t.csv")
    file.write_bytes(gzip.compress(content) if packed else content)
    table = read_table(str(file), as_text=as_text)
    assert list(table.columns) == ["user_id", "item_id", "title"]
    assert table["user_id"].tolist() == (["0", "1"] if as_text else [0, 1])
    assert table["item_id"].tolist() == (["102", "103"] if as_text else [102, 103])
    assert table["title"].tolist() == ["Film 102", "Film 103"]
    assert table.index.tolist() == [0, 1]


def test_a_trailing_separator_leaves_ids_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("user_id,item_id\n1,007,,\n2,8,,\n3,9,,\n")
    table = read_table(str(file))
    assert list(table.columns) == ["user_id", "item_id"]
    assert table["user_id"].tolist() == [1, 2, 3]
    assert table["item_id"].tolist() == ["007", "8", "9"]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1,2,3\n4,5\n", r"t\.csv has 3 cells in row 0 and 2 in its header"),
        ("0,2,\n1,5,6\n", r"t\.csv has 3 cells in row 1 and 2 in its header"),
        ("1,2,,x\n4,5\n", r"t\.csv has 4 cells in row 0 and 2 in its header"),
        ("1,2\n4,5,6\n", r"t\.csv is not a table .* line 3, saw 3"),
    ],
)
def test_a_row_of_more_cells_than_the_header_is_refused(
    rows: str, said: str, as_text: bool, tmp_path: Path
) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"user_id,item_id\n{rows}")
    with pytest.raises(ValueError, match=said):
        read_table(str(file), as_text=as_text)


def test_quoted_separators_are_no_further_cells(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('item_id,"the, title"\n1,"A, B"\n2,"C,\nD",\n')
    with pytest.raises(ValueError, match="saw 3"):
        read_table(str(file))
    file.write_text('item_id,"the, title"\n1,"A, B",\n2,"C,\nD",\n')
    table = read_table(str(file))
    assert table["the, title"].tolist() == ["A, B", "C,\nD"]


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


@pytest.mark.parametrize("separator", ["::", " | ", "||", "§", ".*", "\\t\\t"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip"])
def test_separators_of_several_characters(separator: str, suffix: str, tmp_path: Path) -> None:
    file, written = tmp_path / f"t{suffix}", separator.replace("\\t", "\t")
    lines = ["user_id,item_id,title,rating", '1,007,"A, ""B""",4.5', "2,8,C: D,3", ",9,,"]
    text = "\r\n".join(lines).replace(",", written).replace(f"A{written} ", f"A{written}")
    content = text.encode()
    if suffix == ".csv.zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("t.csv", content)
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(file.suffix, bytes)
        file.write_bytes(pack(content))
    table = read_table(str(file), separator=separator)
    assert list(table.columns) == ["user_id", "item_id", "title", "rating"]
    assert table["user_id"].tolist()[:2] == ["1", "2"]
    assert table["item_id"].tolist() == ["007", "8", "9"]
    assert table["title"].tolist()[:2] == [f'A{written}"B"', "C: D"]
    assert table["rating"].tolist()[:2] == [4.5, 3]
    assert table.isna().sum().tolist() == [1, 0, 1, 1]
    text = read_table(str(file), separator=separator, as_text=True)["item_id"].tolist()
    assert text == ["007", "8", "9"]


def test_a_long_separator_is_looked_for_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "ratings.dat"
    file.write_text("user_id::item_id::rating\n1::2::3\n1::2::3::4\n")
    with pytest.raises(ValueError, match=r"Expected 3 fields in line 3, saw 4"):
        read_table(str(file), separator="::")
    file.write_text("user_id::item_id\n1::2::\x1f\n1::2\n")
    with pytest.raises(ValueError, match="has 3 cells in row 0 and 2 in its header"):
        read_table(str(file), separator="::")
    file.write_text("user_id::item_id\n1::a\x1fb\n")
    assert read_table(str(file), separator="::")["item_id"].tolist() == ["a\x1fb"]
    with pytest.raises(
        ValueError, match=r"expected a table with ',' between its cells, or --set separator=::"
    ):
        read_table(str(file))
    with pytest.raises(ValueError, match="expected no quotes"):
        read_table(str(file), separator='","')


@pytest.mark.parametrize("suffix", [".dat", ".dat.gz"])
@pytest.mark.parametrize("separator", ["::", "|"])
def test_columns_of_a_file_without_a_line_of_names(separator: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"t{suffix}"
    names = ["user_id", "item_id", "rating"]

    def table(*lines: str, columns: list[str] = names) -> pd.DataFrame:
        text = "\n".join(lines).replace(",", separator).encode()
        file.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
        return read_table(str(file), separator=separator, columns=columns)

    plain = table("1,007,4.5", "2,8,3", "2,9,")
    assert plain.columns.tolist() == names
    assert plain["user_id"].tolist() == [1, 2, 2]
    assert plain["item_id"].tolist() == ["007", "8", "9"]
    assert plain["rating"].tolist()[:2] == [4.5, 3]
    pd.testing.assert_frame_equal(table("1,007,4.5,", "2,8,3,", "2,9,,"), plain, check_column_type=False)
    assert table("1,,", "2,8,3")["item_id"].isna().tolist() == [True, False]
    with pytest.raises(
        ValueError, match="has 3 cells in its first row and columns names 2, expected as many"
    ):
        table("1,7,4", columns=["user_id", "item_id"])
    with pytest.raises(
        ValueError, match="has 2 cells in its first row and columns names 3, expected as many"
    ):
        table("1,7")
    with pytest.raises(ValueError, match="has 4 cells in row 1 and 3 in columns"):
        table("1,7,4,", "2,8,3,5")
    with pytest.raises(ValueError, match="is not a table"):
        table("")


def test_a_parquet_file_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="expected no names for those of a Parquet file"):
        read_table(str(tmp_path / "t.parquet"), columns=["user_id"])


@pytest.mark.parametrize("separator", [None, "::"])
@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
def test_a_file_that_is_not_packed_as_it_says_is_named(
    suffix: str, separator: str | None, tmp_path: Path
) -> None:
    file = tmp_path / f"t.csv.{suffix}"
    file.write_bytes(b"user_id,item_id\n1,2\n")
    with pytest.raises(ValueError, match=rf"t\.csv\.{suffix} is not a table"):
        read_table(str(file), separator=separator)


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
