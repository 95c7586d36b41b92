from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyg_kgrec.data import INTERACTS, IS, RELATES, read_kgat, validate

FILES = {
    "train.txt": "0 1 2 3 4 5\n2 0 1\n",
    "test.txt": "0 6\n1\n2 2 3\n",
    "kg_final.txt": "0 0 7\n3 2 8\n7 0 8\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def pairs(store: object) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in store.t().tolist()}  # type: ignore[attr-defined]


def test_reads_lists_and_triples(folder: Path) -> None:
    train, val, test = read_kgat(folder, val=0)
    assert train[INTERACTS].edge_index.tolist() == [[0, 0, 0, 0, 0, 2, 2], [1, 2, 3, 4, 5, 0, 1]]
    assert val[INTERACTS].edge_label_index.shape == (2, 0)
    assert test[INTERACTS].edge_label_index.tolist() == [[0, 2, 2], [6, 2, 3]]
    assert {kind: train[kind].num_nodes for kind in train.node_types} == {"user": 3, "item": 7, "entity": 9}
    assert train[IS].edge_index.tolist() == [list(range(7))] * 2
    assert train[RELATES].edge_index.tolist() == [[0, 3, 7], [7, 8, 8]]
    assert train[RELATES].edge_type.tolist() == [0, 2, 0]
    assert train.relation_name == ["0", "1", "2"]
    assert train["user"].id == [0, 1, 2]


def test_validation_comes_off_the_training_pairs(folder: Path) -> None:
    train, val, test = read_kgat(folder, val=0.4, seed=1)
    training, validation = pairs(train[INTERACTS].edge_index), pairs(val[INTERACTS].edge_label_index)
    whole = pairs(read_kgat(folder, val=0)[0][INTERACTS].edge_index)
    assert training | validation == whole
    assert not training & validation
    assert sorted(user for user, _ in validation) == [0, 0, 2]
    assert pairs(test[INTERACTS].seen_edge_index) == validation
    again = read_kgat(folder, val=0.4, seed=1)[1]
    assert pairs(again[INTERACTS].edge_label_index) == validation
    others = [pairs(read_kgat(folder, val=0.4, seed=s)[1][INTERACTS].edge_label_index) for s in range(2, 8)]
    assert any(other != validation for other in others)


def test_repeated_pairs_count_once_and_in_training(folder: Path) -> None:
    (folder / "train.txt").write_text("0 1 2 1\n0 2 3\n")
    (folder / "test.txt").write_text("0 3 4 4")
    train, _, test = read_kgat(folder, val=0)
    assert train[INTERACTS].edge_index.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert test[INTERACTS].edge_label_index.tolist() == [[0], [4]]


def test_items_beyond_the_entities_have_none(folder: Path) -> None:
    (folder / "kg_final.txt").write_text("0 0 1\n")
    train, _, _ = read_kgat(folder)
    assert train["entity"].num_nodes == 2
    assert train[IS].edge_index.tolist() == [[0, 1], [0, 1]]
    (folder / "kg_final.txt").write_text("")
    train, _, _ = read_kgat(folder)
    assert train["entity"].num_nodes == 0
    validate(train)


@pytest.mark.parametrize("ends", ["\r\n", " \n", "\n\n"])
def test_line_ends(folder: Path, ends: str) -> None:
    expected = [store.to_dict() for store in read_kgat(folder)]
    for name, text in FILES.items():
        (folder / name).write_bytes(text.replace("\n", ends).encode())
    got = [store.to_dict() for store in read_kgat(folder)]
    assert repr(got) == repr(expected)


BAD = [
    (
        "train.txt",
        "0 1 2\n1 x7 2\n",
        r"^train\.txt, line 2: found 'x' in '1 x7 2', expected numbers from 0 up",
    ),
    ("train.txt", "0 1\n\n1 -2\n", r"^train\.txt, line 3: found '-' in '1 -2'"),
    ("train.txt", "0 1.5\n", r"^train\.txt, line 1: found '\.'"),
    ("train.txt", "0 1\n1 12345678901234567890 3\n", r"^train\.txt, line 2: there is an id of 20 digits"),
    ("train.txt", "0 1\n1 99999999\n", r"^train\.txt, line 2: there is an id of 8 digits"),
    ("train.txt", "", r"^train\.txt: there is no pair"),
    ("train.txt", "0\n1\n", r"^train\.txt: there is no pair"),
    ("test.txt", "0,1\n", r"^test\.txt, line 1: found ','"),
    ("kg_final.txt", "0 0 1\n1 2\n", r"^kg_final\.txt, line 2: the count of numbers is 2, expected three"),
    ("kg_final.txt", "0 0 1 4\n", r"^kg_final\.txt, line 1: the count of numbers is 4"),
    ("kg_final.txt", "0 0 1\n1 2\n3\n", r"^kg_final\.txt, line 2"),
    ("kg_final.txt", "0 r 1\n", r"^kg_final\.txt, line 1: found 'r'"),
]


@pytest.mark.parametrize(("name", "text", "match"), BAD)
def test_damaged_files(folder: Path, name: str, text: str, match: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=match) as caught:
        read_kgat(folder)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
        read_kgat(folder)


def test_a_seed_of_numpy_s_is_a_seed(folder: Path) -> None:
    one, other = (read_kgat(folder, val=0.4, seed=seed)[1] for seed in (3, np.int64(3)))  # type: ignore[arg-type]
    assert one[INTERACTS].edge_label_index.equal(other[INTERACTS].edge_label_index)


@pytest.mark.parametrize("val", [-0.1, 1.0, float("nan")])
def test_share_out_of_range(folder: Path, val: float) -> None:
    with pytest.raises(ValueError, match="expected a share of the training pairs"):
        read_kgat(folder, val=val)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(FILES)),
    st.binary(max_size=30) | st.text("0123456789 \n\r-", max_size=30).map(str.encode),
)
def test_garbage_ends_in_one_sentence_or_a_valid_store(folder: Path, name: str, garbage: bytes) -> None:
    for other, text in FILES.items():
        (folder / other).write_text(text)
    (folder / name).write_bytes(garbage)
    message = name + "."
    try:
        for store in read_kgat(folder):
            validate(store)
    except ValueError as error:
        message = str(error)
    assert message.startswith(name)
    assert message.endswith(".")
    assert "\n" not in message


def test_a_repeated_triple_counts_once(folder: Path) -> None:
    once = read_kgat(folder)[0][RELATES]
    (folder / "kg_final.txt").write_text("0 0 7\n0 0 7\n3 2 8\n7 0 8\n0 0 7\n3 2 8\n")
    store = read_kgat(folder)[0][RELATES]
    assert store.edge_index.tolist() == once.edge_index.tolist() == [[0, 3, 7], [7, 8, 8]]
    assert store.edge_type.tolist() == once.edge_type.tolist()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(folder: Path, encoding: str) -> None:
    expected = repr([store.to_dict() for store in read_kgat(folder)])
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding=encoding)
    assert repr([store.to_dict() for store in read_kgat(folder)]) == expected


def test_separators_and_encodings(folder: Path) -> None:
    expected = repr([store.to_dict() for store in read_kgat(folder)])
    for name, text in FILES.items():
        (folder / name).write_text(text.replace(" ", ","), encoding="utf-16-le")
    with pytest.raises(ValueError, match=r"^train\.txt: character 1 is NUL, .* encoding='utf-16-le'"):
        read_kgat(folder)
    with pytest.raises(ValueError, match=r"line 1: found ',' .* \(separator=',' reads it\)"):
        read_kgat(folder, encoding="utf-16-le")
    assert (
        repr([store.to_dict() for store in read_kgat(folder, encoding="utf-16-le", separator=",")])
        == expected
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"val": "0.1"}, TypeError, "val is '0.1'"),
        ({"val": 10**400}, ValueError, "val is an int of"),
        ({"seed": 1.5}, TypeError, r"seed is 1\.5, expected a whole number"),
        ({"seed": 2**70}, ValueError, "expected a whole number of 64 bits"),
        ({"root": 5}, TypeError, "root is 5, expected the folder"),
        ({"root": "x" * 10_000}, FileNotFoundError, "cannot be read"),
        ({"encoding": "no such"}, ValueError, "encoding is 'no such'"),
        ({"encoding": 8}, TypeError, "encoding is 8"),
        ({"separator": ""}, ValueError, "separator is ''"),
        ({"separator": "1"}, ValueError, "expected no digit"),
    ],
)
def test_odd_arguments(folder: Path, arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        read_kgat(**{"root": folder} | arguments)
    assert len(str(caught.value)) <= 400
