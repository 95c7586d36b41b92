from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kgrec.data import INTERACTS, IS, RELATES, from_pandas, has_knowledge, validate


def interactions(**columns: Any) -> pd.DataFrame:
    frame = {"user_id": ["u2", "u1", "u2"], "item_id": ["i9", "i9", "i5"]} | columns
    return pd.DataFrame({name: values for name, values in frame.items() if values is not None})


def triples(**columns: Any) -> pd.DataFrame:
    frame = {"head_id": ["e3", "e1"], "relation_id": ["by", "about"], "tail_id": ["e1", "e7"]} | columns
    return pd.DataFrame(frame)


def links(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["i5", "i5", "i9"], "entity_id": ["e7", "e3", "e1"]} | columns)


def test_interactions_alone_make_a_store() -> None:
    data = from_pandas(interactions())
    assert data["user"].id == ["u2", "u1"]
    assert data["item"].id == ["i9", "i5"]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert "time" not in data[INTERACTS]
    assert "rating" not in data[INTERACTS]
    assert not has_knowledge(data)


def test_knowledge_is_numbered_in_reading_order() -> None:
    data = from_pandas(interactions(), triples(), links())
    assert data["entity"].id == ["e3", "e1", "e7"]
    assert data.relation_name == ["by", "about"]
    assert data[RELATES].edge_index.tolist() == [[0, 1], [1, 2]]
    assert data[RELATES].edge_type.tolist() == [0, 1]
    assert data[IS].edge_index.tolist() == [[1, 1, 0], [2, 0, 1]]
    validate(data)


def test_rows_of_node_frames_come_first_with_names_and_features() -> None:
    items = pd.DataFrame(
        {
            "item_id": ["i1", "i5", "i9"],
            "title": ["One", None, "Nine"],
            "year": [1, 5, 9],
            "new": [True, False, True],
        }
    )
    users = pd.DataFrame({"user_id": ["u1"], "nick": ["Ann"]})
    entities = pd.DataFrame(
        {"entity_id": ["e9", "e7", "e3", "e1"], "name": list("abcd"), "v": [0.5, 1, 2, 3]}
    )
    data = from_pandas(
        interactions(),
        triples(),
        links(),
        items,
        users,
        entities,
        user_name="nick",
        item_features=["year", "new"],
        entity_features="v",
    )
    assert data["item"].id == ["i1", "i5", "i9"]
    assert data["item"].name == ["One", "i5", "Nine"]
    assert data["item"].x.dtype == torch.float32
    assert data["item"].x.tolist() == [[1, 1], [5, 0], [9, 1]]
    assert data["user"].id == ["u1", "u2"]
    assert data["user"].name == ["Ann", "u2"]
    assert data["entity"].id == ["e9", "e7", "e3", "e1"]
    assert data["entity"].x.tolist() == [[0.5], [1], [2], [3]]
    assert data[INTERACTS].edge_index.tolist() == [[1, 0, 1], [2, 2, 1]]
    assert data[IS].edge_index.tolist() == [[1, 1, 2], [1, 2, 3]]


def test_usual_and_chosen_column_names() -> None:
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 4], "time": [5, 6]})
    facts = pd.DataFrame({"head": ["a"], "relation": [7], "tail": ["b"]})
    same = from_pandas(frame, facts, pd.DataFrame({"item": [3], "entity": ["b"]}))
    assert same["user"].id == [1, 2]
    assert same.relation_name == ["7"]
    assert same[INTERACTS].time.tolist() == [5, 6]
    chosen = from_pandas(
        frame.set_axis(["who", "what", "when"], axis=1),
        facts.set_axis(["h", "r", "t"], axis=1),
        pd.DataFrame({"what": [3], "thing": ["b"]}),
        user_col="who",
        item_col="what",
        time_col="when",
        entity_col="thing",
        head_col="h",
        relation_col="r",
        tail_col="t",
    )
    for edge_type in (INTERACTS, IS, RELATES):
        assert torch.equal(chosen[edge_type].edge_index, same[edge_type].edge_index)
    assert torch.equal(chosen[INTERACTS].time, same[INTERACTS].time)


@pytest.mark.parametrize(
    ("times", "dtype", "expected"),
    [
        ([881250949, 881250950, 881250951], torch.int64, [881250949, 881250950, 881250951]),
        ([881250949.0, 881250950.0, 881250951.0], torch.int64, [881250949, 881250950, 881250951]),
        ([0.25, 0.5, 1.0], torch.float64, [0.25, 0.5, 1.0]),
        (pd.to_datetime(["1970-01-02", "1970-01-01", "1970-01-03"]), torch.int64, [86400, 0, 172800]),
        (pd.to_datetime(["1970-01-01T01:00:00.5+01:00"] * 3, utc=True), torch.float64, [0.5] * 3),
        (pd.array([3, 2, 1], dtype="Int64"), torch.int64, [3, 2, 1]),
    ],
)
def test_times_keep_every_digit(times: Any, dtype: torch.dtype, expected: list[float]) -> None:
    store = from_pandas(interactions(timestamp=times))[INTERACTS]
    assert store.time.dtype == dtype
    assert store.time.tolist() == expected


@pytest.mark.parametrize("dtype", ["category", "object", "string", "str"])
def test_ids_in_any_string_dtype(dtype: str) -> None:
    data = from_pandas(interactions().astype(dtype))
    assert data["user"].id == ["u2", "u1"]


@pytest.mark.parametrize("dtype", ["int32", "Int64", "uint8", "object", "category"])
def test_ids_in_any_int_dtype(dtype: str) -> None:
    frame = pd.DataFrame({"user_id": [7, 3], "item_id": [1, 1]}).astype(dtype)
    data = from_pandas(frame)
    assert data["user"].id == [7, 3]
    assert {type(raw) for raw in data["user"].id} == {int}


def test_repeated_pairs_keep_the_latest() -> None:
    frame = pd.DataFrame(
        {"user": [1, 1, 1, 2, 1], "item": [5, 6, 5, 5, 6], "rating": [1, 2, 3, 4, 5], "time": [9, 1, 3, 1, 1]}
    )
    store = from_pandas(frame)[INTERACTS]
    assert store.rating.tolist() == [1, 4, 5]
    assert store.edge_index.tolist() == [[0, 1, 0], [0, 0, 1]]
    untimed = from_pandas(frame.drop(columns="time"))[INTERACTS]
    assert untimed.rating.tolist() == [3, 4, 5]
    # The latest opinion counts, even where an earlier one was better.
    assert from_pandas(frame.drop(columns="time"), min_rating=4)[INTERACTS].rating.tolist() == [4, 5]


def test_min_rating_drops_interactions_but_no_nodes() -> None:
    data = from_pandas(interactions(rating=[5, 2, 3]), triples(), links(), min_rating=4)
    assert data[INTERACTS].edge_index.tolist() == [[0], [0]]
    assert data["user"].num_nodes == 2
    assert data["item"].num_nodes == 2


def test_triples_without_links_warn() -> None:
    with pytest.warns(UserWarning, match="triples came without links") as caught:
        data = from_pandas(interactions(), triples())
    assert caught[0].filename == __file__
    assert data[IS].edge_index.shape == (2, 0)


def test_empty_knowledge() -> None:
    data = from_pandas(interactions(), triples().iloc[:0], links().iloc[:0])
    assert data["entity"].num_nodes == 0
    assert data.relation_name == []


NODES = pd.DataFrame({"item_id": ["i5", "i9"], "year": [1.0, 2.0], "word": ["a", "b"], "gap": [1.0, None]})
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"interactions": None}, TypeError, "^interactions is a NoneType, expected a pandas DataFrame"),
    ({"triples": [("a", "b", "c")]}, TypeError, "^triples is a list"),
    ({"interactions": interactions(user_id=None, userid=["a"] * 3)}, ValueError, r"did you mean 'userid'\?"),
    ({"interactions": interactions().iloc[:0]}, ValueError, "^interactions: there is no row"),
    (
        {"user_col": "uid"},
        ValueError,
        "^interactions: there is no column 'uid', the columns are 'user_id', 'item_id'",
    ),
    ({"rating_col": "stars"}, ValueError, "^interactions: there is no column 'stars'"),
    (
        {"interactions": interactions(user_id=[1.0, 2.0, 3.0])},
        TypeError,
        "dtype float64, expected raw ids that are",
    ),
    ({"interactions": interactions(user_id=[1, None, 3])}, TypeError, "missing values turn int columns"),
    ({"interactions": interactions(user_id=["a", None, "b"])}, ValueError, "'user_id' has no value in row 1"),
    ({"interactions": interactions(user_id=["a", 1, "b"])}, TypeError, "'user_id' holds int and str"),
    ({"interactions": interactions(user_id=[True, False, True])}, TypeError, "'user_id' holds bool"),
    (
        {"interactions": interactions(item_id=[2**64, 1, 2])},
        ValueError,
        r"'item_id' holds ids of 2\*\*63 or more",
    ),
    (
        {"interactions": interactions(item_id=[2**63, 1, 2])},
        ValueError,
        r"'item_id' holds ids of 2\*\*63 or more",
    ),
    (
        {"interactions": interactions(rating=["a", "b", "c"])},
        TypeError,
        "'rating' has the dtype str|object, expected",
    ),
    ({"interactions": interactions(rating=[1, np.nan, 2])}, ValueError, "'rating' holds nan in row 1"),
    ({"interactions": interactions(timestamp=[1, np.inf, 2])}, ValueError, "'timestamp' holds inf in row 1"),
    (
        {"interactions": interactions(timestamp=pd.to_datetime(["2020", None, "2021"]))},
        ValueError,
        "nan in row 1",
    ),
    ({"interactions": interactions(), "min_rating": 3}, ValueError, "there is no column of ratings"),
    ({"interactions": interactions(rating=[1, 2, 3]), "min_rating": 4}, ValueError, "no rating is 4 or more"),
    ({"links": links()}, ValueError, "^links is given without triples"),
    ({"entities": pd.DataFrame({"entity_id": ["a"]})}, ValueError, "^entities is given without triples"),
    (
        {"triples": triples(), "links": links(item_id=["i5", "i7", "i8"])},
        ValueError,
        r"^links: 2 item ids unknown to interactions \('i7', 'i8'\)",
    ),
    (
        {"triples": triples(), "links": links(entity_id=["e1", "e1", "x"])},
        ValueError,
        r"^links: 1 entity id unknown to triples \('x'\)",
    ),
    (
        {"triples": triples(), "entities": pd.DataFrame({"entity_id": ["e1", "e3"]})},
        ValueError,
        r"^triples: 1 entity id unknown to entities \('e7'\)",
    ),
    (
        {"triples": triples(), "links": links(item_id=[1, 2, 3])},
        TypeError,
        "^links: ids are int while those of interactions are str",
    ),
    ({"triples": triples(tail_id=[1, 2])}, TypeError, "^triples: ids are int while those of triples are str"),
    ({"triples": triples(relation_id=[0.5, 1])}, TypeError, "column 'relation_id' has the dtype float64"),
    (
        {"triples": triples().drop(columns="tail_id")},
        ValueError,
        "^triples: there is no column 'tail_id' or 'tail'",
    ),
    ({"items": pd.concat([NODES, NODES])}, ValueError, "^items: item id 'i5' is listed more than once"),
    ({"items": NODES, "item_features": ["yeer"]}, ValueError, r"no column 'yeer'.*did you mean 'year'"),
    ({"items": NODES, "item_features": ["word"]}, TypeError, "^items: column 'word' has the dtype"),
    ({"items": NODES, "item_features": ["gap"]}, ValueError, "^items: column 'gap' holds nan in row 1"),
    ({"items": NODES[:1], "item_features": ["year"]}, ValueError, r"^items: 1 item ids have no row \('i9'\)"),
    ({"item_features": ["year"]}, ValueError, "^items is not given"),
    ({"user_name": "nick"}, ValueError, "^users is not given"),
    ({"items": NODES, "item_name": "label"}, ValueError, "^items: there is no column 'label'"),
    (
        {"interactions": pd.concat([interactions(), interactions()], axis=1)},
        ValueError,
        "'user_id' is there more than once",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "match"), BAD)
@pytest.mark.filterwarnings("ignore:triples came without links")
def test_bad_frames(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        from_pandas(**({"interactions": interactions()} | arguments))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=2),
    st.binary(max_size=2),
)


@given(
    frame=st.sampled_from(["interactions", "triples", "links", "items"]),
    column=st.integers(0, 3),
    cells=st.lists(CELLS, min_size=3, max_size=3),
)
def test_garbage_columns_end_in_one_sentence_or_a_valid_store(
    frame: str, column: int, cells: list[Any]
) -> None:
    frames = {
        "interactions": interactions(rating=[1, 2, 3], timestamp=[1, 2, 3]),
        "triples": triples(head_id=["e3", "e1"]),
        "links": links(),
        "items": NODES.copy(),
    }
    damaged = frames[frame]
    name = damaged.columns[column % len(damaged.columns)]
    damaged[name] = pd.Series(cells[: len(damaged)], index=damaged.index)
    message = f"{frame}."
    try:
        validate(from_pandas(**frames, item_features=["year"]))
    except (TypeError, ValueError) as error:
        message = str(error)
    # Ids of interactions and links that the table of items does not have are told of that table.
    assert any(name in message for name in (frame, "links", "items"))
    assert message.endswith(".")


def test_numbers_that_do_not_fit_into_float32() -> None:
    with pytest.raises(ValueError, match=r"column 'rating' holds 1e\+39 in row 1, expected .* float32\."):
        from_pandas(interactions(rating=[1, 1e39, 3]))
    items = NODES.assign(year=[1.0, -4e38, 2.0][: len(NODES)])
    with pytest.raises(ValueError, match=r"items: column 'year' holds -4e\+38 in row 1"):
        from_pandas(interactions(), items=items, item_features=["year"])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), min_size=1))
def test_the_store_says_what_the_frame_says(rows: list[tuple[int, int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    data = from_pandas(frame)
    index = data[INTERACTS].edge_index
    pairs = [(data["user"].id[u], data["item"].id[i]) for u, i in index.t().tolist()]
    assert len(set(pairs)) == len(pairs)
    latest = {pair: max(t for u, i, t in rows if (u, i) == pair) for pair in {(u, i) for u, i, _ in rows}}
    assert dict(zip(pairs, data[INTERACTS].time.tolist())) == latest
    assert data["user"].id == list(dict.fromkeys(user for user, _, _ in rows))
