from __future__ import annotations

import datetime
import enum
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_kgrec.data import INTERACTS, IS, ITEM, RELATES, Vocabulary, from_pandas, has_knowledge, validate
from pyg_kgrec.data.interactions import labelled_pairs, positive_pairs, seen_pairs


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
    # pandas makes a column of nothing one of floats
    none = pd.DataFrame({"item_id": [], "entity_id": []}, dtype=float)
    assert from_pandas(interactions(), triples(), none)[IS].edge_index.shape == (2, 0)


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
        "^links: column 'item_id' holds ids that are int while those of interactions: column 'item_id' are str",
    ),
    (
        {"triples": triples(tail_id=[1, 2])},
        TypeError,
        "^triples: column 'tail_id' holds ids that are int while those of triples: column 'head_id' are str",
    ),
    (
        {"triples": triples(), "entities": pd.DataFrame({"entity": [1, 3, 7]})},
        TypeError,
        "^entities: column 'entity' holds ids that are int while those of triples: column 'head_id' are str",
    ),
    (
        {"users": pd.DataFrame({"user_id": [1, 3, 7]})},
        TypeError,
        "^users: column 'user_id' holds ids that are int while those of interactions: column 'user_id' are str",
    ),
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


LABELLED = {"label": [0, 1, 1], "timestamp": [3, 2, 1], "rating": [5, 4, 1]}


@pytest.mark.parametrize("labels", [[0, 1, 1], [-1, 1, 1], [False, True, True], pd.Categorical([0, 1, 1])])
def test_rows_labelled_0_are_no_interactions(labels: Any) -> None:
    data = from_pandas(interactions(**LABELLED | {"label": labels}), label_col="label")
    store = data[INTERACTS]
    assert store.edge_index.tolist() == [[1, 0], [0, 1]]
    assert store.time.tolist() == [2, 1]
    assert store.rating.tolist() == [4, 1]
    assert store.edge_label_index.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert store.edge_label.tolist() == [0, 1, 1]
    assert store.edge_label.dtype == torch.float32
    assert store.edge_label_time.tolist() == [3, 2, 1]
    assert store.edge_label_rating.tolist() == [5, 4, 1]
    assert positive_pairs(data).tolist() == store.edge_index.tolist()
    assert not {(0, 0)} & set(
        zip(*(t.tolist() for t in seen_pairs(data, torch.device("cpu")).select(torch.arange(2))))
    )
    assert [t.tolist() for t in labelled_pairs(data)] == [[0, 1, 0], [0, 0, 1], [0, 1, 1]]
    validate(data)


def test_labels_of_one_kind() -> None:
    data = from_pandas(interactions(label=[1, 1, 1]), label_col="label")
    assert set(data[INTERACTS].keys()) == {"edge_index"}
    with pytest.raises(ValueError, match="column 'label' labels no row as a positive"):
        from_pandas(interactions(label=[0, 0, 0]), label_col="label")


def test_the_latest_label_and_a_low_rating_count() -> None:
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [5, 6, 5], "label": [1, 1, 0], "rating": [3, 1, 3]})
    with pytest.warns(
        UserWarning, match="1 of 3 rows repeat a user-item pair, the latest row of each pair is kept"
    ):
        store = from_pandas(frame, label_col="label")[INTERACTS]
    assert store.edge_label.tolist() == [1, 0]
    assert store.edge_index.tolist() == [[0], [1]]


@pytest.mark.filterwarnings("ignore:.*repeat a user-item pair")
def test_a_positive_below_the_lowest_rating_is_none() -> None:
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [5, 6, 5], "label": [1, 1, 0], "rating": [3, 1, 3]})
    with pytest.raises(ValueError, match="labels no row as a positive"):
        from_pandas(frame, label_col="label", min_rating=2)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("label", [0, 1, 1]),
        ("Label", [-1, 1, 1]),
        ("is_click", [True, False, True]),
        ("clicked", ["yes", "no", "no"]),
        ("target", [1, None, 1]),
        ("label", [0, 0, 0]),
    ],
)
def test_labels_that_nobody_asked_for_are_not_guessed(name: str, labels: list[Any]) -> None:
    frame = interactions(**{name: labels})
    with pytest.raises(ValueError, match=f"'{name}' holds .* expected label_col='{name}' .* label_col=False"):
        from_pandas(frame)
    assert from_pandas(frame, label_col=False)[INTERACTS].edge_index.size(1) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_pandas(interactions(**{name: [1, 1, 1]}))


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ([0, 1, 2], ValueError, "holds 0, 1, 2, expected labels 0 and 1, or -1 and 1"),
        ([-1, 0, 1], ValueError, "holds -1, 0, 1, expected labels"),
        ([0.2, 0.9, 1], ValueError, "expected labels 0 and 1"),
        (["a", "b", "c"], TypeError, "expected numbers"),
        ([1, None, 0], ValueError, "holds nan in row 1"),
    ],
)
def test_labels_that_are_none(labels: list[Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        from_pandas(interactions(label=labels), label_col="label")


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            {"rating": [5, 1, 3]},
            "'rating' holds 1.0 to 5.0 and all rows count as positives.*min_rating=1.0 keeps all",
        ),
        (
            {"weight": [5, 1, 3]},
            "'weight' is not read: all rows count as positives alike.*rating_col='weight'",
        ),
        ({"Play_Count": [5, 1, 3]}, "'Play_Count' is not read"),
        ({"label": [0, 1, 2]}, "'label' is not read: all rows count as positives"),
        ({"item_id_list": [[1], [2], [3]]}, "'item_id_list' is not read: only the item of a row counts"),
        ({"user_id": ["7", "07", "7.0"]}, r"2 user ids differ .* in spelling only \('07' and '7'\)"),
        ({"user_id": ["a", "nan", "b"]}, "the user id 'nan' looks like a missing value that became text"),
    ],
)
def test_what_is_not_asked_for_is_said_once(columns: dict[str, Any], match: str) -> None:
    with pytest.warns(UserWarning, match=match) as caught:
        data = from_pandas(interactions(**columns))
    assert [warning.filename for warning in caught] == [__file__]
    assert data[INTERACTS].edge_index.size(1) == 3


def test_equal_ratings_or_a_threshold_need_no_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_pandas(interactions(rating=[3, 3, 3], weight=[1, 1, 1]))
        from_pandas(interactions(rating=[1, 2, 3]), min_rating=1)
        from_pandas(interactions(rating=[1, 2, 3], label=[1, 0, 1]), label_col="label")
        from_pandas(interactions(label=[0, 1, 1]), rating_col="label", min_rating=1)


def test_repeated_triples_are_counted_and_kept() -> None:
    facts = pd.concat([triples(), triples()])
    with pytest.warns(UserWarning, match="triples: 2 of 4 rows repeat a triple; they are kept"):
        data = from_pandas(interactions(), facts, links())
    assert data[RELATES].edge_index.size(1) == 4


def test_unknown_ids_can_be_dropped() -> None:
    facts = triples(head_id=["e3", "zz"])
    kept = pd.DataFrame({"entity_id": ["e1", "e3", "e7"]})
    joined = links(item_id=["i5", "nowhere", "i9"], entity_id=["e7", "e3", "zz"])
    with pytest.warns(UserWarning, match="unknown='drop' has dropped") as caught:
        data = from_pandas(interactions(), facts, joined, entities=kept, unknown="drop")
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "1 of 2 rows of triples, entity id unknown to entities ('zz')" in message
    assert "1 of 3 rows of links, item id unknown to interactions ('nowhere')" in message
    assert "1 of 2 rows of links, entity id unknown to entities ('zz')" in message
    assert data["item"].id == ["i9", "i5"]
    assert data["entity"].id == ["e1", "e3", "e7"]
    assert data[RELATES].edge_index.tolist() == [[1], [0]]
    assert data[IS].edge_index.tolist() == [[1], [2]]
    with pytest.raises(
        ValueError, match=r"unknown to entities \('zz'\).*unknown='drop' leaves such rows out"
    ):
        from_pandas(interactions(), facts, joined, entities=kept)
    with pytest.raises(ValueError, match="unknown is 'skip', expected 'raise' or 'drop'"):
        from_pandas(interactions(), unknown="skip")  # type: ignore[arg-type]


def test_interactions_without_features_can_be_dropped() -> None:
    items = pd.DataFrame({"item_id": ["i5"], "year": [1.0]})
    with pytest.warns(UserWarning, match=r"2 of 3 rows of interactions, item id unknown to items \('i9'\)"):
        data = from_pandas(
            interactions(label=[0, 1, 1]),
            items=items,
            item_features="year",
            unknown="drop",
            label_col="label",
        )
    assert data["user"].id == ["u2"]
    assert data["item"].x.tolist() == [[1.0]]


def test_another_spelling_is_named() -> None:
    frame = interactions(item_id=["1", "2", "1"])
    with pytest.raises(ValueError, match=r"unknown to interactions \('1\.0'\).*'1\.0' is written '1'"):
        from_pandas(frame, triples(), links(item_id=["1.0", "2", "2"]))


HUGE = "x" * 300_000


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"time_col": 0}, TypeError, "time_col is 0, expected the name of a column"),
        ({"user_col": ["user_id"]}, TypeError, "user_col is a list"),
        ({"rating_col": True}, TypeError, "rating_col is True"),
        ({"user_col": HUGE}, ValueError, "there is no column 'xxx"),
        ({"min_rating": 10**400}, ValueError, "min_rating is an int of 1329 bits"),
        ({"min_rating": 10**5000}, ValueError, "min_rating is an int of"),
        ({"min_rating": float("nan")}, ValueError, "min_rating is nan"),
        ({"min_rating": "3"}, TypeError, "min_rating is '3', expected a number"),
        ({"items": NODES, "item_features": 5}, TypeError, "item_features is 5, expected a list"),
        ({"items": NODES, "item_features": [["year"]]}, TypeError, "a feature is a list"),
        ({"interactions": pd.concat({"a": interactions()}, axis=1)}, ValueError, "the columns have 2 levels"),
        (
            {"interactions": interactions().set_axis([HUGE, HUGE + "y"], axis=1)},
            ValueError,
            "the columns are 'xxx",
        ),
        ({"interactions": interactions(user_id=[HUGE, None, "a"])}, ValueError, "no value in row 1"),
        ({"triples": triples(), "links": links(item_id=[HUGE] * 3)}, ValueError, "1 item id unknown"),
        ({"items": pd.DataFrame({"item_id": [HUGE, HUGE]})}, ValueError, "'x+…x+' is listed more than once"),
        (
            {"interactions": interactions(user_id=pd.Categorical([1, None, 2]))},
            ValueError,
            "no value in row 1",
        ),
        (
            {"interactions": interactions(user_id=pd.array([1, None, 2], dtype="Int64"))},
            ValueError,
            "no value in row 1",
        ),
        (
            {"interactions": interactions(timestamp=[datetime.date(2020, 1, 1)] * 3)},
            TypeError,
            "pd.to_datetime help",
        ),
    ],
)
def test_odd_arguments_end_in_a_short_sentence(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        from_pandas(**({"interactions": interactions(rating=[1, 1, 1])} | arguments))
    assert len(str(caught.value)) <= 400
    assert "\n" not in str(caught.value)


def test_columns_may_have_names_that_are_no_text() -> None:
    data = from_pandas(pd.DataFrame([[7, 8, 9], [7, 6, 5]]), user_col=0, item_col=1, time_col=2)  # type: ignore[arg-type]
    assert data["item"].id == [8, 6]
    assert data[INTERACTS].time.tolist() == [9, 5]


def test_text_of_a_subclass_of_str_is_plain_text() -> None:
    data = from_pandas(interactions(user_id=pd.Series([np.str_("a"), "b", "c"], dtype=object)))
    assert [type(raw) for raw in data["user"].id] == [str] * 3


DAYS = [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01T00:00:00.5")]
SECONDS = [1577923200.0, 1577836800.0, 1577836800.5]


@pytest.mark.parametrize(
    "times",
    [
        pd.Series(DAYS, dtype=object),
        pd.Series(DAYS).astype("category"),
        pd.Series(DAYS).astype("datetime64[ms]"),
        pd.Series(DAYS).dt.tz_localize("Asia/Tokyo").dt.tz_convert("UTC") + pd.Timedelta(hours=9),
        pd.Series([day.to_pydatetime() for day in DAYS], dtype=object),
        pd.Series(pd.Categorical(SECONDS)),
        pd.Series(SECONDS, dtype="Float64"),
    ],
)
def test_times_in_any_dtype(times: pd.Series) -> None:
    assert from_pandas(interactions(timestamp=times))[INTERACTS].time.tolist() == SECONDS


@pytest.mark.parametrize("kind", ["timestamp[ns]", "timestamp[us, tz=Europe/Berlin]", "timestamp[ms]"])
def test_times_of_arrow(kind: str) -> None:
    pytest.importorskip("pyarrow")
    days = [day.tz_localize("UTC").tz_convert("Europe/Berlin") for day in DAYS] if "tz=" in kind else DAYS
    times = pd.Series(days).astype(f"{kind}[pyarrow]")
    assert from_pandas(interactions(timestamp=times))[INTERACTS].time.tolist() == SECONDS
    times[1] = None
    with pytest.raises(ValueError, match="holds nan in row 1"):
        from_pandas(interactions(timestamp=times))


def test_ids_of_arrow() -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"user_id": [7, 3], "item_id": ["a", "b"]})
    data = from_pandas(frame.astype({"user_id": "int64[pyarrow]", "item_id": "string[pyarrow]"}))
    assert data["user"].id == [7, 3]
    assert data["item"].id == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["purchased", "is-click", "Is_Liked", "y", "ClickLabel", "was_bought", "relevance"]
)
def test_labels_under_other_names_are_not_guessed(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' holds .* expected label_col='{name}'"):
        from_pandas(interactions(**{name: [0, 1, 1]}))


@pytest.mark.parametrize("name", ["Rating", "Book-Rating", "user_rating", "play count", "watch_score"])
def test_ratings_under_other_names_are_told_of(name: str) -> None:
    with pytest.warns(UserWarning, match=f"'{name}' is not read: all rows count as positives alike"):
        from_pandas(interactions(**{name: [5, 1, 3]}))


def test_no_row_counts_alike_where_it_is_said_which_do() -> None:
    """Nor does every name that ends in such letters tell of a weight."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_pandas(interactions(discount=[5, 1, 3]))
        from_pandas(interactions(rating=[5, 1, 3], watch_score=[5, 1, 3]), min_rating=2)
        from_pandas(interactions(label=[0, 1, 1], watch_score=[5, 1, 3]), label_col="label")


def test_labels_are_noticed_under_a_name_that_another_frame_has_too() -> None:
    known = triples().rename(columns={"head_id": "click", "tail_id": "target"})
    for name in ("click", "target"):
        with pytest.raises(ValueError, match=f"column '{name}' holds 1, 0 and may tell positives"):
            from_pandas(
                interactions(**{name: [1, 0, 1]}), known, links(), head_col="click", tail_col="target"
            )
    rated = interactions(weight=[1, 2, 3])
    with pytest.warns(UserWarning, match="column 'weight' is not read"):
        from_pandas(rated, triples(weight=["a", "b"]), links(), relation_col="weight")


@pytest.mark.parametrize("name", ["label", "weight"])
def test_columns_that_say_more_must_not_be_there_twice(name: str) -> None:
    frame = interactions(**{name: [1, 1, 1], "other": [1, 0, 1]}).rename(columns={"other": name})
    with pytest.raises(ValueError, match=f"interactions: column '{name}' is there more than once"):
        from_pandas(frame)


def test_columns_that_nothing_looks_at_may_be_there_twice() -> None:
    frame = interactions(label=[1, 1, 1], note=[1, 0, 1])
    frame = pd.concat([frame, frame[["label", "note"]]], axis=1)
    data = from_pandas(frame, label_col=False)
    assert data[INTERACTS].num_edges == 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "Float32"])
def test_the_lowest_rating_is_compared_in_the_precision_of_the_ratings(dtype: str) -> None:
    frame = interactions(rating=pd.Series([0.7, 0.6, 0.8], dtype=dtype))
    assert from_pandas(frame, min_rating=0.7)[INTERACTS].edge_index.tolist() == [[0, 0], [0, 1]]
    with pytest.raises(ValueError, match="no rating is 1e\\+300 or more"):
        from_pandas(frame, min_rating=1e300)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "object"])
def test_large_whole_times_keep_their_order(dtype: str) -> None:
    start = 1_700_000_000_000_000_000
    frame = interactions(user_id=["a"] * 4, item_id=["x", "y", "x", "z"])
    frame["time"] = pd.Series([start + 2, start + 3, start + 1, start], dtype=dtype)
    with pytest.warns(UserWarning, match="repeat a user-item pair"):
        data = from_pandas(frame)
    assert data[INTERACTS].time.dtype == torch.int64
    assert data[INTERACTS].time.tolist() == [start + 2, start + 3, start]


def test_times_beyond_int64_are_floats() -> None:
    data = from_pandas(interactions(time=pd.Series([2**64 - 1, 0, 1], dtype="uint64")))
    assert data[INTERACTS].time.tolist() == [2.0**64, 0.0, 1.0]


@pytest.mark.parametrize("ids", [[7, 5, 7], ["u", "v", "u"]])
def test_dictionaries_of_arrow_are_the_ids_they_stand_for(ids: list[Any]) -> None:
    arrow = pytest.importorskip("pyarrow")
    column = pd.Series(pd.arrays.ArrowExtensionArray(arrow.array(ids).dictionary_encode()))
    data = from_pandas(interactions(user_id=column))
    assert data["user"].id == ids[:2]
    assert set(map(type, data["user"].id)) == {type(ids[0])}


def test_members_of_an_enumeration_of_strings_are_the_strings() -> None:
    class Kind(str, enum.Enum):  # noqa: UP042 - str() of a StrEnum is its value
        FILM = "film"
        BOOK = "book"

    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": [Kind.FILM, Kind.BOOK]})
    items = pd.DataFrame({"item_id": ["book", "film"], "name": [Kind.BOOK, Kind.FILM]})
    data = from_pandas(frame, items=items)
    assert data[ITEM].id == data[ITEM].name == ["book", "film"]
    assert data[INTERACTS].edge_index.tolist() == [[0, 1], [1, 0]]
    assert Vocabulary(data[ITEM].id, ITEM).index([Kind.FILM, Kind.BOOK]).tolist() == [1, 0]


def test_times_as_iso_8601_writes_them_are_unix_seconds() -> None:
    written = ["2025-01-01 10:00:00", "2025-01-01T10:00:00+02:00", "2025-01-02", "2025-01-03 00:00:00.5"]
    frame = pd.DataFrame({"user": list("aabb"), "item": [1, 2, 1, 3], "time": written})
    time = from_pandas(frame)[INTERACTS].time
    assert time.tolist() == [1735725600.0, 1735718400.0, 1735776000.0, 1735862400.5]
    whole = from_pandas(frame.assign(time=pd.array([text[:10] for text in written], dtype="string")))
    assert whole[INTERACTS].time.dtype == torch.int64
    named = from_pandas(frame.rename(columns={"time": "bought_at"}), time_col="bought_at")
    assert torch.equal(named[INTERACTS].time, time)
    for bad in ("2025-13-01", "1.1.2025", "20250101", "978300760", "soon"):
        with pytest.raises(
            TypeError, match=r"'time' has the dtype .*, expected numbers, datetimes, or times as ISO"
        ):
            from_pandas(frame.assign(time=bad))
    with pytest.raises(ValueError, match="'time' holds nan in row 1"):
        from_pandas(frame.assign(time=[written[0], None, *written[2:]]))
    with pytest.raises(
        TypeError, match=r"'rating' has the dtype .*, expected numbers \("
    ):  # a rating is no time
        from_pandas(frame.assign(rating="2025-01-01"))


def test_times_that_nobody_reads_are_named() -> None:
    frame = pd.DataFrame({"user": ["a", "b"], "item": [1, 2], "bought": pd.to_datetime(["2025-01-01"] * 2)})
    with pytest.warns(
        UserWarning, match=r"'bought' holds times and is not read: .*time_col='bought' reads it"
    ):
        from_pandas(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_pandas(frame, time_col="bought")
        from_pandas(frame.assign(time=[1, 2]))


def test_quantities_that_nobody_reads_are_named() -> None:
    frame = pd.DataFrame({"user": ["a", "b"], "item": [1, 2], "qty": [1, 3]})
    with pytest.warns(UserWarning, match=r"'qty' is not read: all rows count as positives alike"):
        from_pandas(frame)
