from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, validate
from pyg_kgrec.transforms import AddInverseTriples, RandomSplit, TripleSplit

Row = tuple[int, int, int]
ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=60)


def make_store(rows: list[Row]) -> HeteroData:
    """A store of triples (head, relation, tail) over eight entities (one in none of them) and three relations."""
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes, data[ENTITY].num_nodes = 2, 2, 8
    data[ITEM].x = torch.ones(2, 3)
    data[INTERACTS].edge_index = torch.tensor([[0, 1], [0, 1]])
    data[IS].edge_index = torch.tensor([[0], [3]])
    head, relation, tail = torch.tensor(rows).view(-1, 3).t()
    data[RELATES].edge_index = torch.stack([head, tail])
    data[RELATES].edge_type = relation
    data[RELATES].row = torch.arange(len(rows))
    data.relation_name = ["a", "b", "c"]
    return data


def rows_of(store: Any, index: str = "edge_index", relation: str = "edge_type") -> list[Row]:
    return list(zip(store[index][0].tolist(), store[relation].tolist(), store[index][1].tolist()))


def dense(num_entities: int = 6, num_relations: int = 3) -> list[Row]:
    """All triples of a few entities: most of them can be held out."""
    return [(h, r, t) for h in range(num_entities) for r in range(num_relations) for t in range(num_entities)]


@given(
    rows=ROWS,
    val=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 9),
)
def test_parts_partition_the_rows_and_training_keeps_every_term(
    rows: list[Row], val: float, test: float, seed: int
) -> None:
    data = make_store(rows)
    distinct = len(set(rows))
    expected = [int(distinct * share + 0.5 + 1e-9) for share in (val, test)]
    try:
        parts = TripleSplit(val, test, seed)(data)
    except ValueError:  # too few can be held out: see the next test
        return
    stores = [part[RELATES] for part in parts]
    held = [rows_of(store, "edge_label_index", "edge_label_type") for store in stores]
    assert [len(set(part)) for part in held[1:]] == expected
    assert sorted(held[0] + held[1] + held[2]) == sorted(rows)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not set(held[first]) & set(held[second])
    assert {term for h, _, t in held[0] for term in (h, t)} == {term for h, _, t in rows for term in (h, t)}
    assert {r for _, r, _ in held[0]} == {r for _, r, _ in rows}
    for store, part in zip(stores, held):
        places = store["edge_label_row"].tolist()
        assert places == sorted(places)  # the order of the rows is kept
        assert [rows[place] for place in places] == part
        assert store.edge_index is stores[0].edge_index
        assert rows_of(store) == held[0]
        assert store["row"].tolist() == stores[0]["edge_label_row"].tolist()
    assert rows_of(stores[2], "seen_edge_index", "seen_edge_type") == held[1]
    assert stores[2]["seen_row"].tolist() == stores[1]["edge_label_row"].tolist()
    assert not any(key.startswith("seen") for store in stores[:2] for key in store)
    for part in parts:
        validate(part)


@given(rows=ROWS, seed=st.integers(0, 9))
def test_as_many_as_it_says_can_be_held_out(rows: list[Row], seed: int) -> None:
    data = make_store(rows)
    distinct = len(set(rows))
    with pytest.raises(ValueError, match=f"ask for {distinct} of the {distinct} different triples") as caught:
        TripleSplit(0.0, 0.9999, seed)(data)
    at_most = int(str(caught.value).split("at most ")[1].split()[0])
    assert at_most < distinct
    held = rows_of(
        TripleSplit(0.0, at_most / distinct, seed)(data)[2][RELATES], "edge_label_index", "edge_label_type"
    )
    assert len(set(held)) == at_most
    with pytest.raises(ValueError, match=f"at most {at_most} with seed {seed}: every entity"):
        TripleSplit(0.0, (at_most + 1) / (distinct + 1e-6), seed)(data)


def test_no_triple_is_held_out_where_each_is_the_only_one_of_an_entity() -> None:
    chain = [(0, 0, 1), (2, 0, 3), (4, 1, 5)]
    with pytest.raises(ValueError, match="ask for 1 of the 3 different triples, expected at most 0"):
        TripleSplit(0.0, 0.3)(make_store(chain))
    assert TripleSplit(0.1, 0.1)(make_store(chain))[1][RELATES].edge_label_index.size(1) == 0


def test_the_last_triple_of_a_relation_stays() -> None:
    rows = [row for row in dense() if row[1] < 2] + [(0, 2, 1)]
    for seed in range(20):
        train = TripleSplit(0.3, 0.4, seed)(make_store(rows))[0]
        assert (train[RELATES].edge_type == 2).sum() == 1


def test_all_rows_of_a_triple_go_together() -> None:
    rows = dense() * 3
    parts = TripleSplit(0.25, 0.25, seed=1)(make_store(rows))
    for part, expected in zip(parts, (54, 27, 27)):
        count = Counter(rows_of(part[RELATES], "edge_label_index", "edge_label_type"))
        assert set(count.values()) == {3}
        assert len(count) == expected


def test_every_triple_that_may_be_held_out_is_drawn_alike() -> None:
    data = make_store(dense(7))  # 147 triples, of which at most nine must stay
    for part in (1, 2):
        drawn: Counter[Row] = Counter()
        for seed in range(200):
            split = TripleSplit(0.2, 0.2, seed)(data)
            drawn.update(rows_of(split[part][RELATES], "edge_label_index", "edge_label_type"))
        assert sum(drawn.values()) == 200 * 29
        assert min(drawn[row] for row in dense(7)) > 15  # 39.5 on average, with a deviation of 5.6
        assert max(drawn.values()) < 65


def test_the_rest_is_shared_and_the_input_is_left_alone() -> None:
    data = make_store(dense())
    before = dict(data[RELATES].items())
    parts = TripleSplit()(data)
    for part in parts:
        assert part[ITEM].x is data[ITEM].x
        assert part[INTERACTS].edge_index is data[INTERACTS].edge_index
        assert part[IS].edge_index is data[IS].edge_index
        assert part.relation_name is data.relation_name
    assert dict(data[RELATES].items()) == before


def test_the_split_follows_its_seed_and_leaves_the_global_state_alone() -> None:
    data = make_store(dense())

    def held_out(seed: int) -> list[list[Row]]:
        stores = (part[RELATES] for part in TripleSplit(seed=seed)(data))
        return [rows_of(store, "edge_label_index", "edge_label_type") for store in stores]

    state = torch.get_rng_state()
    first = held_out(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert held_out(5) == first
    assert held_out(6) != first


def test_stores_that_share_their_triples_are_split_alike(make_store: Callable[..., HeteroData]) -> None:
    parts = [TripleSplit(seed=3)(store)[2] for store in RandomSplit(seed=0)(make_store(20, 30))]
    for part in parts[1:]:
        assert torch.equal(part[RELATES].edge_label_index, parts[0][RELATES].edge_label_index)
        assert part[INTERACTS].edge_label_index.size(1) != parts[0][INTERACTS].edge_label_index.size(1)


@pytest.mark.parametrize(
    ("val", "test", "match"),
    [
        (-0.1, 0.1, r"val is -0\.1, expected a share of the triples"),
        (0.1, 1.0, r"test is 1\.0, expected a share"),
        (float("nan"), 0.1, "val is nan"),
        (0.5, 0.5, "leave some for training"),
    ],
)
def test_shares_out_of_range(val: float, test: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TripleSplit(val, test)


def without_knowledge(data: HeteroData) -> None:
    del data[ENTITY], data[IS], data[RELATES], data.relation_name


def without_triples(data: HeteroData) -> None:
    data[RELATES].edge_index, data[RELATES].edge_type = torch.empty(2, 0).long(), torch.empty(0).long()


def damaged(data: HeteroData) -> None:
    data[RELATES].edge_type = data[RELATES].edge_type + 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without_knowledge, "data has no knowledge graph, expected triples to be split"),
        (without_triples, r"'relates', 'entity'\]\.edge_index is empty, expected triples"),
        (damaged, "edge_type holds 7"),
    ],
)
def test_stores_that_cannot_be_split(change: Callable[[HeteroData], None], match: str) -> None:
    data = make_store(dense())
    change(data)
    with pytest.raises(ValueError, match=match):
        TripleSplit()(data)


def test_a_split_store_is_refused() -> None:
    for part in TripleSplit()(make_store(dense())):
        with pytest.raises(
            ValueError, match=r"'relates', 'entity'\]\.edge_label_index is present: the triples"
        ):
            TripleSplit()(part)


def test_repr() -> None:
    assert repr(TripleSplit(0.2)) == "TripleSplit(val=0.2, test=0.1, seed=0)"


# ---------------------------------------------------------------------- what validate says of it

LABEL = r"^data\['entity', 'relates', 'entity'\]\.edge_label_"
SEEN = r"^data\['entity', 'relates', 'entity'\]\.seen_edge_"
PAIR = torch.tensor([[0, 1], [1, 0]])


def change(name: str, value: Any) -> Callable[[Any], None]:
    def apply(store: Any) -> None:
        if value is None:
            del store[name]
        else:
            store[name] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        (
            change("edge_label_type", None),
            ValueError,
            LABEL + r"type is missing, expected an int64 tensor \[n\]",
        ),
        (change("edge_label_index", None), ValueError, LABEL + "type is present without edge_label_index"),
        (change("edge_label_type", PAIR[0].int()), TypeError, LABEL + "type has the dtype int32"),
        (
            change("edge_label_type", [0, 1]),
            TypeError,
            LABEL + r"type is a list, expected an int64 tensor \[n\]",
        ),
        (change("edge_label_type", PAIR), ValueError, LABEL + r"type has the shape \[2, 2\], expected \["),
        (
            change("edge_label_type", torch.full((11,), 3)),
            ValueError,
            LABEL + r"type holds 3, expected indices in 0\.\.2",
        ),
        (
            change("edge_label_index", PAIR[:1]),
            ValueError,
            LABEL + r"index has the shape \[1, 2\], expected \[2, n\]",
        ),
        (
            change("edge_label_index", PAIR + 7),
            ValueError,
            LABEL + r"index\[0\] holds 8, expected indices in 0\.\.7",
        ),
        (
            change("seen_edge_type", None),
            ValueError,
            SEEN + r"type is missing, expected an int64 tensor \[s\]",
        ),
        (change("seen_edge_index", None), ValueError, SEEN + "type is present without seen_edge_index"),
        (change("seen_edge_type", torch.full((11,), -1)), ValueError, SEEN + "type holds -1"),
        (change("seen_edge_index", PAIR.float()), TypeError, SEEN + "index has the dtype float32"),
    ],
)
def test_damage_to_held_out_triples_is_named(
    damage: Callable[[Any], None], error: type[Exception], match: str
) -> None:
    test = copy.copy(TripleSplit()(make_store(dense()))[2])
    assert test[RELATES].edge_label_type.shape == test[RELATES].seen_edge_type.shape == (11,)
    damage(test[RELATES])
    with pytest.raises(error, match=match) as caught:
        validate(test)
    message = str(caught.value)
    assert message.endswith(".")
    assert ". " not in message


def ends(rows: list[Row]) -> set[tuple[int, int]]:
    return {(head, tail) for head, _, tail in rows}


@given(rows=ROWS, seed=st.integers(0, 3))
def test_a_triple_and_its_reverse_go_together(rows: list[Row], seed: int) -> None:
    try:
        parts = TripleSplit(0.1, 0.2, seed, inverse="together")(make_store(rows))
    except ValueError:  # so many cannot be held out
        return
    held = [rows_of(part[RELATES], "edge_label_index", "edge_label_type") for part in parts]
    assert Counter(row for part in held for row in part) == Counter(rows)
    for one in range(3):
        for other in range(3):
            if one != other:
                assert not {(t, h) for h, t in ends(held[one])} & ends(held[other])
    assert {e for pair in ends(held[0]) for e in pair} == {e for h, _, t in rows for e in (h, t)}
    assert {r for _, r, _ in held[0]} == {r for _, r, _ in rows}
    assert len(set(held[2])) >= round(0.2 * len(set(rows)) - 0.01)


def test_inverse_triples_that_were_added_are_held_back_together() -> None:
    data = make_store([(h, r, t) for h in range(4) for r in range(3) for t in range(4, 8)])
    data = AddInverseTriples()(data)
    _, val, test = TripleSplit(0.1, 0.1, inverse="together")(data)
    for part in (val, test):
        held = rows_of(part[RELATES], "edge_label_index", "edge_label_type")
        assert len(held) >= 0.1 * data[RELATES].num_edges
        assert {(t, (r + 3) % 6, h) for h, r, t in held} == set(held)
    apart = TripleSplit(0.1, 0.1)(data)[2][RELATES]
    held = rows_of(apart, "edge_label_index", "edge_label_type")
    assert {(t, (r + 3) % 6, h) for h, r, t in held} != set(held)
    assert (
        repr(TripleSplit(inverse="together")) == "TripleSplit(val=0.1, test=0.1, seed=0, inverse='together')"
    )
    with pytest.raises(ValueError, match="inverse is 'both', expected 'apart' or 'together'"):
        TripleSplit(inverse="both")  # type: ignore[arg-type]


def test_without_reverse_triples_both_ways_are_the_same() -> None:
    data = make_store([(h, r, t) for h in range(4) for r in range(3) for t in range(4, 8)])
    for one, other in zip(TripleSplit(0.1, 0.2, 5)(data), TripleSplit(0.1, 0.2, 5, inverse="together")(data)):
        assert len(rows_of(one[RELATES], "edge_label_index", "edge_label_type")) == len(
            rows_of(other[RELATES], "edge_label_index", "edge_label_type")
        )


def test_columns_of_triples_are_split_whatever_their_names() -> None:
    data = make_store(dense())
    data[RELATES].source_index = data[RELATES].row
    for part in TripleSplit(0.1, 0.1)(data):
        assert torch.equal(part[RELATES].source_index, part[RELATES].row)
        assert torch.equal(part[RELATES].edge_label_source_index, part[RELATES].edge_label_row)
