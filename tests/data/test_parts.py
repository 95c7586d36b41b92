from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_kgrec import check_split
from pyg_kgrec.data import INTERACTS, ITEM, RELATES, USER, from_pandas, split_frames, validate
from pyg_kgrec.transforms import apply_split

Frame = pd.DataFrame
LONG = pd.DataFrame({"user_id": ["x" * 900], "item_id": ["y" * 900], "time": [1]})


def frame(*rows: tuple[Any, ...], columns: str = "user_id item_id time") -> Frame:
    return pd.DataFrame(rows, columns=columns.split())


TRAIN = frame(("a", "x", 1), ("a", "y", 2), ("b", "x", 3))
VAL = frame(("a", "z", 4), ("b", "y", 5))
TEST = frame(("c", "w", 6), ("a", "w", 7))
KNOWLEDGE = {
    "triples": pd.DataFrame({"head": ["1", "2"], "relation": ["r", "s"], "tail": ["2", "3"]}),
    "links": pd.DataFrame({"item_id": ["x", "w"], "entity_id": ["1", "2"]}),
}


def pairs(store: Any, key: str = "edge_label_index") -> list[tuple[str, str]]:
    users, items = store[USER].id, store[ITEM].id
    return [(users[u], items[i]) for u, i in store[INTERACTS][key].T.tolist()]


def listed(part: Frame) -> list[tuple[str, str]]:
    return list(part[["user_id", "item_id"]].itertuples(index=False, name=None))


def test_each_frame_is_a_part_and_all_share_their_nodes() -> None:
    parts = split_frames(TRAIN, VAL, TEST, **KNOWLEDGE)
    for part, rows in zip(parts, (TRAIN, VAL, TEST)):
        validate(part)
        assert pairs(part) == listed(rows)
        assert pairs(part, "edge_index") == listed(TRAIN)
        assert part[INTERACTS].edge_label_time.tolist() == rows["time"].tolist()
        assert list(part[USER].id) == ["a", "b", "c"]  # c is of test alone
        assert list(part[ITEM].id) == ["x", "y", "z", "w"]
        assert part[RELATES].edge_index is parts[0][RELATES].edge_index
    assert pairs(parts[2], "seen_edge_index") == listed(VAL)
    report = check_split(*parts, time="all")
    assert report.ok
    lacking = report.frame.set_index(["check", "parts"])["count"]
    assert lacking["users that training lacks", "test"] == 1
    assert lacking["items that training lacks", "test"] == 1


@pytest.mark.parametrize("unknown", ["raise", "drop"])
def test_it_is_what_splitting_the_whole_gives(unknown: Any) -> None:
    generator = np.random.default_rng(0)
    code = generator.permutation(400)[:200]
    whole = pd.DataFrame({"user": code // 20, "item": code % 20, "rating": generator.integers(1, 6, 200)})
    split = generator.integers(0, 3, 200)
    order = np.argsort(split, kind="stable")
    links = pd.DataFrame({"item": [0, 99], "entity": ["1", "2"]})
    settings: dict[str, Any] = {"triples": KNOWLEDGE["triples"], "links": links, "min_rating": 3}
    if unknown == "raise":
        settings["links"] = links[:1]
    settings["unknown"] = unknown
    with pytest.warns() if unknown == "drop" else nullcontext():
        parts = split_frames(*(whole[split == part] for part in range(3)), **settings)
        data = from_pandas(whole.iloc[order], **settings)
    kept = split[order][whole["rating"].to_numpy()[order] >= 3]
    for mine, theirs in zip(parts, apply_split(data, torch.from_numpy(kept))):
        assert list(mine[USER].id) == list(theirs[USER].id)
        assert list(mine[INTERACTS].keys()) == list(theirs[INTERACTS].keys())
        for key, value in theirs[INTERACTS].items():
            assert torch.equal(mine[INTERACTS][key], value), key


def test_labels_go_with_their_rows() -> None:
    columns = "user item label"
    train = frame(("a", "x", 1), ("a", "y", 0), columns=columns)
    val = frame(("a", "z", 1), columns=columns)
    test = frame(("b", "x", 0), ("b", "y", 1), columns=columns)
    parts = split_frames(train, val, test, label_col="label")
    assert [part[INTERACTS].edge_label.tolist() for part in parts] == [[1, 0], [1], [0, 1]]
    assert pairs(parts[2], "edge_index") == [("a", "x")]
    assert pairs(parts[2], "seen_edge_index") == [("a", "z")]


def test_the_columns_of_ids_may_have_other_names_beside_unread_ones() -> None:
    train, test = TRAIN.rename(columns={"user_id": "user"}), TEST.assign(user="somebody")
    assert pairs(split_frames(train, VAL, test)[2]) == listed(TEST)


def test_a_part_may_be_empty_and_ids_of_other_names_and_kinds_of_int() -> None:
    train = pd.DataFrame({"user": np.array([1, 2], "uint8"), "item_id": [3, 4]}, index=[7, 7])
    test = pd.DataFrame({"user_id": pd.array([2], "Int64"), "item_id": pd.Categorical([3]), "note": ["-"]})
    for nothing in (train[:0], pd.DataFrame(columns=["user", "item_id"])):
        parts = split_frames(train, nothing, test)
        assert [len(pairs(part)) for part in parts] == [2, 0, 1]
        assert list(parts[0][USER].id) == [1, 2]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"test": frame(("b", "x", 9))}, ValueError, "test: 1 pair of .* 'b' and 'x' in train and test, exp"),
        ({"test": pd.concat([VAL, TEST])}, ValueError, "test: 2 pairs .* 'a' and 'z' in val and test, exp"),
        ({"test": TEST.drop(columns="time")}, ValueError, "test: the column of each time is none, while "),
        ({"val": VAL.rename(columns={"time": "timestamp"})}, ValueError, "val: .* is 'timestamp', while .* 'time'"),
        ({"val": None}, TypeError, "val is a NoneType, expected a pandas DataFrame"),
        ({"train": TRAIN[:0]}, ValueError, "train: no row is left that counts"),
        ({"test": TEST.drop(columns="user_id")}, ValueError, "test: there is no column 'user_id' or 'user'"),
        (
            {"test": TEST.assign(user_id=[1, 2])},
            TypeError,
            "test: column 'user_id' holds ids that are int while those of train: column 'user_id' are str",
        ),
        ({"test": TEST.assign(time=[1, np.nan])}, ValueError, "test: column 'time' holds nan in row 1, expected"),
        ({"test": TEST.assign(item_id=["x", None])}, ValueError, "test: column 'item_id' has no value in row 1"),
        ({"test": pd.concat([TEST, TEST["time"]], axis=1)}, ValueError, "test: column 'time' is there more than"),
        ({"min_rating": 3}, ValueError, "there is no column of ratings"),
        ({"user_features": ["age"]}, ValueError, "users is not given"),
        ({"links": KNOWLEDGE["links"]}, ValueError, "links is given without triples"),
        ({"val": LONG, "test": LONG}, ValueError, "test: 1 pair"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as error:
        split_frames(**{"train": TRAIN, "val": VAL, "test": TEST} | change)
    assert len(str(error.value)) <= 400


@pytest.mark.parametrize("name", ["click", "weight"])
def test_columns_that_say_more_stand_there_once(name: str) -> None:
    def twice(part: Frame, values: list[int]) -> Frame:
        first = part.assign(**{name: 1})
        return pd.concat([first, pd.DataFrame({name: values})], axis=1)

    with pytest.raises(ValueError, match=f"val: column '{name}' is there more than once"):
        split_frames(TRAIN.assign(**{name: 1}), twice(VAL, [1, 0]), TEST.assign(**{name: 1}))


def test_numbers_keep_their_precision() -> None:
    start = 1_700_000_000_000_000_000
    parts = [
        part.assign(time=start + part["time"], rating=np.array([0.7] * len(part), np.float32))
        for part in (TRAIN, VAL, TEST)
    ]
    train, _, test = split_frames(*parts, min_rating=0.7)
    assert train[INTERACTS].time.tolist() == [start + 1, start + 2, start + 3]
    assert test[INTERACTS].edge_label_time.tolist() == [start + 6, start + 7]


def test_a_part_without_rows_needs_no_types() -> None:
    rated = [part.assign(rating=3.0) for part in (TRAIN, TEST)]
    _, val, test = split_frames(rated[0], Frame(columns=rated[0].columns), rated[1])
    assert val[INTERACTS].edge_label_index.size(1) == 0
    assert test[INTERACTS].edge_label_time.tolist() == [6, 7]


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float16"), ("float16", "Float32")])
def test_ratings_are_compared_in_the_precision_of_their_frame(dtypes: tuple[str, str]) -> None:
    def part(user: str, items: str, dtype: str) -> Frame:
        rating = pd.Series([0.7, 0.1, 0.69, 0.7][: len(items)], dtype=dtype)
        return pd.DataFrame({"user_id": user, "item_id": list(items), "rating": rating})

    parts = part("a", "wxyz", dtypes[0]), part("b", "wxyz", dtypes[1]), part("c", "", dtypes[0])
    known = pd.DataFrame({"item_id": list("zyx"), "age": [1.0, 2.0, 3.0]})
    train, val, test = split_frames(*parts, min_rating=0.7)
    assert pairs(train) == [("a", "w"), ("a", "z")]
    assert pairs(val) == [("b", "w"), ("b", "z")]
    assert pairs(test) == []
    assert train[INTERACTS].rating.dtype == val[INTERACTS].edge_label_rating.dtype == torch.float32
    train, val, _ = split_frames(*parts, items=known, item_features=["age"], unknown="drop", min_rating=0.1)
    assert pairs(train) == [("a", "x"), ("a", "y"), ("a", "z")]
    assert pairs(val) == [("b", "x"), ("b", "y"), ("b", "z")]
