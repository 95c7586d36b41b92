from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kgrec.data import Vocabulary, as_ids, as_index

WORDS = Vocabulary(["ann", "bob", "eve"], "user")
NUMBERS = Vocabulary([10, 20, 30], "item")


def test_index_lookup_and_back() -> None:
    index = WORDS.index(["eve", "ann", "eve"])
    assert index.dtype == torch.long
    assert index.tolist() == [2, 0, 2]
    assert WORDS.lookup(["bob", "zoe"]).tolist() == [1, -1]
    assert WORDS.to_raw(index) == ["eve", "ann", "eve"]
    assert WORDS.to_raw(torch.tensor(1)) == ["bob"]
    assert len(WORDS) == 3
    assert "ann" in WORDS
    assert 0 not in WORDS
    assert repr(WORDS) == "Vocabulary(3 user ids)"


def test_series_and_numpy_scalars_are_raw_ids() -> None:
    assert WORDS.index(pd.Series(["bob", "eve"])).tolist() == [1, 2]
    assert NUMBERS.index(pd.Series([30, 10], dtype="Int64")).tolist() == [2, 0]
    assert NUMBERS.index([np.int64(20)]).tolist() == [1]
    assert Vocabulary(pd.Series([np.str_("a")], dtype=object)).ids == ["a"]


def test_unknown_ids_are_named_and_counted() -> None:
    with pytest.raises(ValueError, match=r"^1 user id is unknown \('zoe'\), expected ids of the store\.$"):
        WORDS.index(["ann", "zoe", "zoe"])
    with pytest.raises(ValueError, match=r"^5 item ids are unknown \(1, 2, 3, …\)"):
        NUMBERS.index([1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="the known ids are int, these are str"):
        NUMBERS.index(["10"])


@pytest.mark.parametrize("ids", [[1.0, 2.0], ["a", 1], [None], [True, False], ["a", float("nan")], [b"a"]])
def test_ids_of_other_types_are_refused(ids: list[object]) -> None:
    with pytest.raises(TypeError, match="expected raw ids that are all str or all int"):
        Vocabulary(ids)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected raw ids that are all str or all int"):
        WORDS.index(ids)  # type: ignore[arg-type]


def test_duplicates_and_bare_strings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The item ids hold 'a' more than once"):
        Vocabulary(["a", "b", "a"], "item")
    with pytest.raises(TypeError, match="a single str"):
        Vocabulary("abc")


@given(st.lists(st.text(), unique=True, min_size=1), st.data())
def test_round_trip(ids: list[str], data: st.DataObject) -> None:
    vocabulary = Vocabulary(ids)
    asked = data.draw(st.lists(st.sampled_from(ids)))
    assert vocabulary.to_raw(vocabulary.index(asked)) == asked


@pytest.mark.parametrize(
    "nodes",
    [
        torch.tensor([2, 0]),
        torch.tensor([2, 0], dtype=torch.uint8),
        np.array([2, 0], dtype=np.int32),
        ["eve", "ann"],
        ("eve", "ann"),
        pd.Series(["eve", "ann"]),
    ],
)
def test_as_index_takes_indices_and_raw_ids(nodes: object) -> None:
    index = as_index(nodes, WORDS, 3, "user")
    assert index.dtype == torch.long
    assert index.tolist() == [2, 0]


def test_as_index_takes_scalars_and_nothing() -> None:
    assert as_index("bob", WORDS, 3, "user").tolist() == [1]
    assert as_index(30, NUMBERS, 3, "item").tolist() == [2]
    assert as_index(torch.tensor(1), None, 3, "item").tolist() == [1]
    assert as_index([], WORDS, 3, "user").tolist() == []


@pytest.mark.parametrize(
    ("nodes", "error", "match"),
    [
        (torch.tensor([0.0]), TypeError, "float32 tensor, expected integer indices"),
        (torch.tensor([True]), TypeError, "bool tensor"),
        (np.array([0.0]), TypeError, "dtype float64"),
        (np.array([True]), TypeError, "raw ids go in as a list"),
        (torch.tensor([[0]]), ValueError, r"shape \[1, 1\], expected one dimension"),
        (torch.tensor([0, 3]), ValueError, r"user index 3 is out of range, expected 0\.\.2"),
        (torch.tensor([-1]), ValueError, "user index -1 is out of range"),
        ([0.5], TypeError, "hold float"),
        (2.0, TypeError, "are a float"),
        (None, TypeError, "are a NoneType"),
        ({"ann": 1}, TypeError, "are a dict"),
        ({"ann", 1}, TypeError, "hold int and str"),
        (pd.array([1, None]), TypeError, "hold NAType"),
        (torch.eye(2).to_sparse(), TypeError, "no dense tensor"),
        (["zoe"], ValueError, "1 user id is unknown"),
    ],
)
def test_as_index_refuses(nodes: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        as_index(nodes, WORDS, 3, "user")


def test_raw_ids_need_a_store_with_ids() -> None:
    with pytest.raises(ValueError, match=r"this store has none: pass a tensor of indices"):
        as_index(["ann"], None, 3, "user")


COUNTED = Vocabulary(range(1, 11))
NAMED = Vocabulary(["ann", "bob", "cyd"])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (np.int64(3), [2]),
        ({3, 1, 10}, [0, 2, 9]),
        (frozenset({2}), [1]),
        ({4: "d", 2: "b"}.keys(), [3, 1]),
        (pd.array([4, 2]), [3, 1]),
        (pd.Series([4, 2, 4], dtype="Int64").unique(), [3, 1]),
        (pd.Series([4, 2], dtype="category").unique(), [3, 1]),
        (pd.Index([4, 2]), [3, 1]),
        (as_ids(np.array([4, 2])), [3, 1]),
        (as_ids(torch.tensor([4, 2])), [3, 1]),
        (as_ids(pd.Series([4, 2])), [3, 1]),
        (as_ids(np.int64(4)), [3]),
        (as_index([4, 2]), [4, 2]),
        (as_index(pd.Series([4, 2])), [4, 2]),
        (as_index(np.array([4, 2])), [4, 2]),
        (as_index(3), [3]),
    ],
)
def test_numbers_that_are_ids_and_numbers_that_are_positions(nodes: object, expected: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_index(nodes, COUNTED, 10, "user").tolist() == expected


@pytest.mark.parametrize(
    "nodes",
    [
        np.array(["cyd", "ann"]),
        np.array(["cyd", "ann"], dtype=object),
        pd.Series(["cyd", "ann"]).unique(),
        pd.array(["cyd", "ann"]),
    ],
)
def test_arrays_of_strings_are_ids(nodes: object) -> None:
    assert as_index(nodes, NAMED, 3, "user").tolist() == [2, 0]
    assert as_ids(nodes) == ["cyd", "ann"]


def test_integers_that_look_like_ids_are_told() -> None:
    frame = pd.DataFrame({"user_id": [3, 1, 3, 7]})
    with pytest.warns(UserWarning, match=r"the first, 3, is read as user 4\. Pass as_ids") as told:
        assert as_index(frame.user_id.unique(), COUNTED, 10, "user").tolist() == [3, 1, 7]
    assert len(told) == 1
    assert as_index(as_ids(frame.user_id.unique()), COUNTED, 10, "user").tolist() == [2, 0, 6]
    with pytest.raises(ValueError, match=r"index 10 is out of range, expected 0\.\.9; 10 is a raw user id"):
        as_index(np.array([10]), COUNTED, 10, "user")


@pytest.mark.parametrize(
    "nodes", [np.array([0, 1, 2]), np.arange(10), torch.tensor([3, 1, 7]), np.array([], dtype=int)]
)
def test_positions_are_left_alone(nodes: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_index(nodes, COUNTED, 10, "user")
        as_index(nodes, Vocabulary(range(10)), 10, "user")
        as_index(nodes, Vocabulary([f"u{i}" for i in range(10)]), 10, "user")


@pytest.mark.parametrize(
    ("nodes", "error", "match"),
    [
        (np.array([0.5]), TypeError, "hold float"),
        ([None], TypeError, "hold NoneType"),
        (np.zeros((2, 2), dtype=int), ValueError, r"shape \[2, 2\], expected one dimension"),
        (2.5, TypeError, "ids are a float, expected a list"),
    ],
)
def test_what_cannot_be_ids(nodes: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        as_ids(nodes)


def test_what_cannot_be_positions() -> None:
    for nodes, error in (
        (["a"], TypeError),
        ([-1], ValueError),
        (2.5, TypeError),
        (torch.tensor([0.5]), TypeError),
    ):
        with pytest.raises(error):
            as_index(nodes)


@pytest.mark.parametrize("raw", ["x" * 10**6, 10**400])
def test_long_ids_are_shortened(raw: object) -> None:
    with pytest.raises(ValueError, match="1 user id is unknown") as error:
        as_index([raw], COUNTED, 10, "user")
    assert len(str(error.value)) <= 400
