from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyg_kgrec.data import INTERACTS, IS, RELATES, read_atomic, validate

FILES = {
    ".inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "7\t20\t5\t100\n8\t10\t3\t101\n7\t10\t4\t102\n8\t30\t1\t103\n",
    ".kg": "head_id:token\trelation_id:token\ttail_id:token\nm.1\tfilm.by\tm.2\nm.3\tfilm.by\tm.2\n",
    ".link": "item_id:token\tentity_id:token\n10\tm.3\n20\tm.1\n",
    ".item": "item_id:token\tyear:token\tmovie_title:token_seq\n10\t1990\tTen\n40\t\t\n20\t1999\tTwo\tTens\n",
    ".user": "age:token\tuser_id:token\n30\t8\n40\t7\n",
}
FILES[".item"] = FILES[".item"].replace("Two\tTens", "Two “Tens”")
SPLITS = {
    ".train.inter": FILES[".inter"].replace("8\t30\t1\t103\n", ""),
    ".valid.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n8\t30\t1\t103\n",
    ".test.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t50\t2\t104\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix, text in (FILES | SPLITS).items():
        (tmp_path / f"toy{suffix}").write_text(text, encoding="utf-8")
    return tmp_path


def test_reads_all_five_files(folder: Path) -> None:
    data = read_atomic(folder, "toy")
    assert data["user"].id == ["8", "7"]
    assert data["item"].id == ["10", "40", "20", "30"]
    assert data["item"].name == ["Ten", "40", "Two “Tens”", "30"]
    assert data["entity"].id == ["m.1", "m.2", "m.3"]
    assert data[INTERACTS].edge_index.tolist() == [[1, 0, 1, 0], [2, 0, 0, 3]]
    assert data[INTERACTS].time.tolist() == [100, 101, 102, 103]
    assert data[INTERACTS].rating.tolist() == [5, 3, 4, 1]
    assert data[IS].edge_index.tolist() == [[0, 2], [2, 0]]
    assert data[RELATES].edge_index.tolist() == [[0, 2], [1, 1]]
    assert data.relation_name == ["film.by"]


def test_side_files_are_optional(folder: Path) -> None:
    for suffix in (".kg", ".link", ".item", ".user"):
        (folder / f"toy{suffix}").unlink()
    data = read_atomic(str(folder), name="toy")
    assert data["user"].id == ["7", "8"]
    assert data["item"].id == ["20", "10", "30"]
    assert data.edge_types == [INTERACTS]


def test_reads_fixed_splits_over_one_vocabulary(folder: Path) -> None:
    train, val, test = read_atomic(folder, "toy", ("train", "valid", "test"))
    assert train["item"].id == ["10", "40", "20", "30", "50"]
    for part in (train, val, test):
        assert part[INTERACTS].edge_index.tolist() == [[1, 0, 1], [2, 0, 0]]
        validate(part)
    assert val[INTERACTS].edge_label_index.tolist() == [[0], [3]]
    assert test[INTERACTS].edge_label_index.tolist() == [[1], [4]]
    assert test[INTERACTS].seen_edge_index.tolist() == [[0], [3]]
    assert test[INTERACTS].seen_time.tolist() == [103]


def test_a_pair_in_two_files_counts_in_its_latest_row(folder: Path) -> None:
    with (folder / "toy.test.inter").open("a") as file:
        file.write("8\t10\t5\t999\n")
    train, _, test = read_atomic(folder, "toy", ["train", "valid", "test"])
    assert train[INTERACTS].edge_index.tolist() == [[1, 1], [2, 0]]
    assert test[INTERACTS].edge_label_index.tolist() == [[1, 0], [4, 0]]


def test_min_rating(folder: Path) -> None:
    assert read_atomic(folder, "toy", min_rating=4)[INTERACTS].rating.tolist() == [5, 4]
    train, val, _ = read_atomic(folder, "toy", ("train", "valid", "test"), min_rating=4)
    assert train[INTERACTS].edge_index.size(1) == 2
    assert val[INTERACTS].edge_label_index.size(1) == 0
    with pytest.raises(ValueError, match=r"^toy\.inter: no rating is 9 or more"):
        read_atomic(folder, "toy", min_rating=9)


def test_windows_line_ends_byte_order_mark_and_no_last_newline(folder: Path) -> None:
    for suffix, text in FILES.items():
        (folder / f"toy{suffix}").write_bytes(
            b"\xef\xbb\xbf" + text.rstrip("\n").replace("\n", "\r\n").encode()
        )
    data = read_atomic(folder, "toy")
    assert data["item"].name == ["Ten", "40", "Two “Tens”", "30"]
    assert data[INTERACTS].time.tolist() == [100, 101, 102, 103]


BAD = [
    (
        ".inter",
        "user_id:token",
        "user_id",
        r"^toy\.inter, line 1: the header has 'user_id', expected name:type",
    ),
    (".inter", "user_id:token", "user_id:word", "line 1: the header has 'user_id:word'"),
    (".inter", "item_id:token", "user_id:token", "the header has 'user_id' twice"),
    (
        ".inter",
        "user_id:token",
        "uid:token",
        r"^toy\.inter: there is no column user_id:token, the header has uid",
    ),
    (".inter", "user_id:token", "user_id:float", "column 'user_id' has the type float, expected token"),
    (".inter", "rating:float", "rating:token", "column 'rating' has the type token, expected float"),
    (
        ".inter",
        "\t5\t",
        "\tfive\t",
        r"^toy\.inter, line 2: column 'rating' holds 'five', expected a finite number",
    ),
    (".inter", "\t3\t", "\tnan\t", "line 3: column 'rating' holds 'nan'"),
    (".inter", "102", "inf", "line 4: column 'timestamp' holds 'inf'"),
    (
        ".inter",
        "8\t10\t3\t101",
        "8\t10\t3",
        r"line 3: the count of columns is 3, expected 4 as in the header",
    ),
    (".inter", "8\t10\t3\t101", "8\t10\t3\t101\t9", "line 3: the count of columns is 5, expected 4"),
    (".inter", "8\t10\t3\t101\n", "\n", "line 3: the count of columns is 1"),
    (".inter", "8\t10\t3\t101", "\t10\t3\t101", "line 3: column 'user_id' is empty, expected an id"),
    (".inter", FILES[".inter"].partition("\n")[2], "", r"^toy\.inter: there is no row"),
    (".inter", FILES[".inter"], "", r"^toy\.inter, line 1: the header has ''"),
    (".kg", "relation_id", "rel", r"^toy\.kg: there is no column relation_id:token"),
    (
        ".kg",
        "m.1\tfilm.by\tm.2\n",
        "m.1 film.by m.2\n",
        r"^toy\.kg, line 2: the count of columns is 1, expected 3",
    ),
    (".link", "20\tm.1", "99\tm.1", r"^toy\.link: 1 item id unknown to toy\.item and toy\.inter \('99'\)"),
    (".link", "20\tm.1", "20\tm.9", r"^toy\.link: 1 entity id unknown to toy\.kg \('m\.9'\)"),
    (".item", "40\t", "10\t", r"^toy\.item: item id '10' is listed more than once"),
    (".user", "user_id:token", "user:token", r"^toy\.user: there is no column user_id:token"),
]


@pytest.mark.parametrize(("suffix", "old", "new", "match"), BAD)
def test_damaged_files(folder: Path, suffix: str, old: str, new: str, match: str) -> None:
    path = folder / f"toy{suffix}"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        read_atomic(folder, "toy")
    assert str(caught.value).endswith(".")


def test_missing_files_and_encodings(folder: Path) -> None:
    (folder / "toy.link").write_bytes("item_id:token\tentity_id:token\nä\tb\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^toy\.link: byte 30 is not UTF-8"):
        read_atomic(folder, "toy")
    (folder / "toy.link").unlink()
    with pytest.warns(UserWarning, match=r"toy\.kg came without links"):
        read_atomic(folder, "toy")
    with pytest.raises(FileNotFoundError, match=r"other\.inter does not exist, expected an atomic file"):
        read_atomic(folder, "other")
    (folder / "toy.valid.inter").unlink()
    with pytest.raises(FileNotFoundError, match=r"toy\.valid\.inter does not exist"):
        read_atomic(folder, "toy", ("train", "valid", "test"))


def test_bad_splits(folder: Path) -> None:
    with pytest.raises(TypeError, match="splits is 'train', expected three names"):
        read_atomic(folder, "toy", "train")
    with pytest.raises(ValueError, match="splits has 2 names, expected three"):
        read_atomic(folder, "toy", ("train", "test"))
    (folder / "toy.test.inter").write_text("user_id:token\titem_id:token\n7\t50\n")
    with pytest.raises(
        ValueError, match=r"^toy\.test\.inter: the columns read are user_id, item_id, expected those"
    ):
        read_atomic(folder, "toy", ("train", "valid", "test"))


def assert_valid_or_one_sentence(folder: Path) -> None:
    message = "toy."
    try:
        validate(read_atomic(folder, "toy"))
    except ValueError as error:
        message = str(error)
    assert "toy." in message
    assert message.endswith(".")


GARBAGE = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=6).map(str.encode),
    st.sampled_from([b"\t", b"\n", b"\r", b"\0", b'"']),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1), st.integers(0, 20), GARBAGE)
@pytest.mark.filterwarnings("ignore:.*came without links")
def test_garbage_ends_in_one_sentence_or_a_valid_store(
    folder: Path, suffix: str, where: float, cut: int, garbage: bytes
) -> None:
    for other, text in FILES.items():
        (folder / f"toy{other}").write_text(text, encoding="utf-8")
    raw = FILES[suffix].encode()
    start = int(where * len(raw))
    (folder / f"toy{suffix}").write_bytes(raw[:start] + garbage + raw[start + cut :])
    assert_valid_or_one_sentence(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
@pytest.mark.filterwarnings("ignore:.*came without links")
def test_truncated_files_end_in_one_sentence_or_a_valid_store(
    folder: Path, suffix: str, where: float
) -> None:
    for other, text in FILES.items():
        (folder / f"toy{other}").write_text(text, encoding="utf-8")
    raw = FILES[suffix].encode()
    (folder / f"toy{suffix}").write_bytes(raw[: int(where * len(raw))])
    assert_valid_or_one_sentence(folder)


def test_movielens_with_its_fixed_split(data_root: Path) -> None:
    stores = read_atomic(data_root / "ml-100k", name="ml-100k", splits=("train", "valid", "test"))
    labels = [store[INTERACTS].edge_label_index for store in stores]
    assert [label.size(1) for label in labels] == [79619, 9942, 10439]
    test = stores[2]
    assert {kind: test[kind].num_nodes for kind in test.node_types} == {
        "user": 943,
        "item": 1682,
        "entity": 34628,
    }
    assert test[RELATES].edge_index.size(1) == 91631
    assert len(test.relation_name) == 24
    assert test[IS].edge_index.size(1) == 1598
    assert test["item"].num_nodes - test[IS].edge_index[0].unique().numel() == 84
    assert test["item"].id[:3] == ["1", "2", "3"]
    assert test["item"].name[0] == "Toy Story"
    whole = read_atomic(data_root / "ml-100k", name="ml-100k")
    index = whole[INTERACTS].edge_index
    assert torch.equal(
        (index[0] * 1682 + index[1]).sort()[0],
        torch.cat(labels, 1).mul(torch.tensor([[1682], [1]])).sum(0).sort()[0],
    )
    assert whole[INTERACTS].time[0] == 881250949


def write(folder: Path, suffix: str, text: str, encoding: str = "utf-8") -> None:
    (folder / f"toy{suffix}").write_text(text, encoding=encoding)


CLICKS = (
    "user_id:token\titem_id:token\tlabel:float\ttimestamp:float\n"
    "7\t20\t1\t100\n8\t10\t1\t101\n7\t10\t0\t102\n8\t30\t0\t103\n"
)


@pytest.mark.parametrize("kind", ["float", "token"])
def test_labels_are_heard_or_refused(folder: Path, kind: str) -> None:
    write(folder, ".inter", CLICKS.replace("label:float", f"label:{kind}"))
    with pytest.raises(ValueError, match=r"^toy\.inter: column 'label' holds .* expected label_col='label'"):
        read_atomic(folder, "toy")
    store = read_atomic(folder, "toy", label_col="label")[INTERACTS]
    assert store.edge_index.tolist() == [[1, 0], [2, 0]]
    assert store.edge_label_index.tolist() == [[1, 0, 1, 0], [2, 0, 0, 3]]
    assert store.edge_label.tolist() == [1, 1, 0, 0]
    assert read_atomic(folder, "toy", label_col=False)[INTERACTS].edge_index.size(1) == 4


def test_labels_go_where_their_file_says(folder: Path) -> None:
    header, *lines = CLICKS.splitlines(keepends=True)
    for suffix, part in (
        (".train.inter", lines[:2] + lines[3:]),
        (".valid.inter", []),
        (".test.inter", lines[2:3]),
    ):
        write(folder, suffix, header + "".join(part))
    train, val, test = read_atomic(folder, "toy", ("train", "valid", "test"), label_col="label")
    assert train[INTERACTS].edge_label.tolist() == [1, 1, 0]
    assert test[INTERACTS].edge_label.tolist() == [0]
    assert test[INTERACTS].edge_label_index.tolist() == [[1], [0]]
    assert test[INTERACTS].edge_label_time.tolist() == [102]
    for part in (train, val, test):
        assert part[INTERACTS].edge_index.tolist() == [[1, 0], [2, 0]]
        validate(part)


def test_weights_ratings_and_lists_are_said(folder: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"toy\.inter: column 'rating' holds 1\.0 to 5\.0 and all rows count"
    ):
        read_atomic(folder, "toy")
    write(folder, ".inter", FILES[".inter"].replace("rating", "weight"))
    with pytest.warns(UserWarning, match="column 'weight' is not read"):
        read_atomic(folder, "toy")
    assert read_atomic(folder, "toy", rating_col="weight", min_rating=4)[INTERACTS].rating.tolist() == [5, 4]
    write(folder, ".inter", FILES[".inter"].replace("rating:float", "item_id_list:token_seq"))
    with pytest.warns(
        UserWarning, match="column 'item_id_list' is not read: only the item of a row"
    ) as caught:
        read_atomic(folder, "toy")
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("end", ["\n", "\n\n", "  \n\n", "\r\n\r\n", "\n\t\t\t\n"])
def test_blank_lines_at_the_end_are_nothing(folder: Path, end: str) -> None:
    expected = repr(read_atomic(folder, "toy", min_rating=0).to_dict())
    for suffix, text in FILES.items():
        (folder / f"toy{suffix}").write_bytes(text.encode() + end.encode())
    assert repr(read_atomic(folder, "toy", min_rating=0).to_dict()) == expected


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_another_separator_is_named_and_read(folder: Path, separator: str) -> None:
    expected = repr(read_atomic(folder, "toy", min_rating=0).to_dict())
    for suffix, text in FILES.items():
        write(folder, suffix, text.replace("\t", separator))
    with pytest.raises(
        ValueError, match=r"^toy\.inter, line 1: the header has '.' between .* expected tabs"
    ) as caught:
        read_atomic(folder, "toy")
    assert f"separator={separator!r}" in str(caught.value)
    assert repr(read_atomic(folder, "toy", min_rating=0, separator=separator).to_dict()) == expected


def test_quotes_in_a_header_are_named(folder: Path) -> None:
    write(folder, ".inter", FILES[".inter"].replace("user_id:token", '"user_id:token"'))
    with pytest.raises(ValueError, match="quotes belong to the text in atomic files"):
        read_atomic(folder, "toy")
    write(folder, ".inter", FILES[".inter"].replace("user_id:token", " user_id:token "))
    assert read_atomic(folder, "toy", min_rating=0)["user"].id == ["8", "7"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8-sig", "utf-32"])
def test_files_in_another_encoding(folder: Path, encoding: str) -> None:
    for suffix, text in FILES.items():
        write(folder, suffix, text.replace("Ten", "Tén"), encoding)
    if encoding in ("utf-16-le", "cp1252"):
        with pytest.raises(ValueError, match=r"encoding="):
            read_atomic(folder, "toy", min_rating=0)
    for named in {encoding, None if encoding.endswith(("16", "32", "sig")) else encoding}:
        data = read_atomic(folder, "toy", min_rating=0, encoding=named)
        assert data["item"].name == ["Tén", "40", "Two “Téns”", "30"]


def test_a_byte_that_is_no_text_is_named_with_its_line(folder: Path) -> None:
    (folder / "toy.link").write_bytes(b"item_id:token\tentity_id:token\n10\tm.3\n20\t\xe4\n")
    with pytest.raises(ValueError, match=r"^toy\.link: byte 40 is not UTF-8 \(line 3\).*encoding='cp1252'"):
        read_atomic(folder, "toy", min_rating=0)


def test_links_of_other_items_can_be_dropped(folder: Path) -> None:
    write(folder, ".link", FILES[".link"] + "99\tm.1\n20\tm.99\n")
    with pytest.raises(ValueError, match=r"unknown to toy\.item and toy\.inter \('99'\).*unknown='drop'"):
        read_atomic(folder, "toy", min_rating=0)
    with pytest.warns(
        UserWarning, match=r"dropped 1 of 4 rows of toy\.link, item id .*; 1 of 3 rows of toy\.link, entity"
    ):
        data = read_atomic(folder, "toy", min_rating=0, unknown="drop")
    assert data["item"].id == ["10", "40", "20", "30"]
    assert data[IS].edge_index.tolist() == [[0, 2], [2, 0]]


def test_repeated_triples_are_counted(folder: Path) -> None:
    write(folder, ".kg", FILES[".kg"] + "m.1\tfilm.by\tm.2\n" * 3)
    with pytest.warns(UserWarning, match=r"^toy\.kg: 3 of 5 rows repeat a triple"):
        assert read_atomic(folder, "toy", min_rating=0)[RELATES].edge_index.size(1) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"min_rating": 10**400}, ValueError, "min_rating is an int of"),
        ({"label_col": 0}, TypeError, "label_col is 0"),
        ({"rating_col": False}, TypeError, "rating_col is False"),
        ({"label_col": "clicks"}, ValueError, r"^toy\.inter: there is no column clicks:float"),
        ({"splits": 5}, TypeError, "splits is 5"),
        ({"splits": ("train", "x" * 9_000, "test")}, FileNotFoundError, "cannot be read"),
        ({"name": 5}, TypeError, "name is 5"),
        ({"name": "x" * 300_000}, FileNotFoundError, "cannot be read"),
        ({"root": None}, TypeError, "root is None"),
        ({"encoding": "hex"}, ValueError, "encoding is 'hex'"),
        ({"encoding": "a\0b"}, ValueError, "encoding is"),
        ({"separator": "\n"}, ValueError, "separator is"),
        ({"separator": None}, TypeError, "separator is None"),
    ],
)
def test_odd_arguments(folder: Path, arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        read_atomic(**{"root": folder, "name": "toy"} | arguments)
    assert len(str(caught.value)) <= 400
    assert "\n" not in str(caught.value)


def test_messages_about_huge_files_are_short(folder: Path) -> None:
    huge = "x" * 300_000
    for suffix, text in (
        (".inter", huge),
        (".inter", f"{huge}:token\titem_id:token\n"),
        (".inter", FILES[".inter"].replace("100", huge)),
        (".link", FILES[".link"].replace("10", huge)),
        (".user", FILES[".user"] + f"30\t{huge}\n30\t{huge}\n"),
    ):
        for other in FILES:
            write(folder, other, FILES[other])
        write(folder, suffix, text)
        with pytest.raises(ValueError, match=r"^toy\.") as caught:
            read_atomic(folder, "toy", min_rating=0)
        assert len(str(caught.value)) <= 400


def test_whole_times_of_nanoseconds_are_exact(folder: Path) -> None:
    start = 1_700_000_000_000_000_000
    lines = [f"{user}\t{item}\t5\t{start + place}" for place, (user, item) in enumerate(["ax", "ay", "bx"])]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "exact.inter").write_text("\n".join([head, *lines]), encoding="utf-8")
    assert read_atomic(folder, "exact")[INTERACTS].time.tolist() == [start, start + 1, start + 2]


def test_a_separator_of_two_characters(tmp_path: Path) -> None:
    (tmp_path / "toy.inter").write_text("user_id:token::item_id:token\nu1::1.10\nu2::007\n")
    with pytest.raises(ValueError, match=r"separator='::' reads such files"):
        read_atomic(tmp_path, "toy")
    data = read_atomic(tmp_path, "toy", separator="::")
    assert list(data["item"].id) == ["1.10", "007"]
