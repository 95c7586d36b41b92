from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data, HeteroData

from pyg_kgrec import Popularity
from pyg_kgrec.data import INTERACTS, IS, RELATES, has_knowledge, num_relations, validate
from pyg_kgrec.transforms import RandomSplit


def make_store(knowledge: bool = True) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes = 3
    data["user"].id = ["ann", "bob", "eve"]
    data["item"].num_nodes = 4
    data["item"].id = [10, 20, 30, 40]
    data["item"].name = ["ten", "twenty", "thirty", "forty"]
    data["item"].x = torch.ones(4, 2)
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 2], [0, 3, 1, 2]])
    data[INTERACTS].time = torch.tensor([1, 2, 3, 4])
    data[INTERACTS].rating = torch.tensor([1.0, 2.0, 3.0, 4.0])
    data[INTERACTS].edge_label_index = torch.tensor([[0, 1], [1, 2]])
    data[INTERACTS].edge_label = torch.tensor([0.0, 1.0])
    data[INTERACTS].seen_edge_index = torch.tensor([[2], [3]])
    if knowledge:
        data["entity"].num_nodes = 5
        data[IS].edge_index = torch.tensor([[0, 1], [4, 2]])
        data[RELATES].edge_index = torch.tensor([[0, 1, 4], [1, 4, 0]])
        data[RELATES].edge_type = torch.tensor([0, 1, 0])
        data.relation_name = ["likes", "knows"]
    return data


def set_value(key: Any, name: str, value: Any) -> Callable[[HeteroData], None]:
    return lambda data: setattr(data[key], name, value)


def drop(key: Any, name: str) -> Callable[[HeteroData], None]:
    return lambda data: data[key].__delattr__(name)


def test_good_stores_pass_and_are_left_alone() -> None:
    data = make_store()
    before = copy.copy(data)
    validate(data)
    assert data.to_dict() == before.to_dict()
    assert has_knowledge(data)
    assert num_relations(data) == 2


def test_knowledge_is_optional() -> None:
    data = make_store(knowledge=False)
    validate(data)
    assert not has_knowledge(data)
    assert num_relations(data) == 0


def test_num_nodes_may_come_from_features() -> None:
    data = make_store()
    del data["item"].num_nodes
    validate(data)


def test_empty_knowledge_passes() -> None:
    data = make_store()
    data[IS].edge_index = torch.empty(2, 0, dtype=torch.long)
    data[RELATES].edge_index = torch.empty(2, 0, dtype=torch.long)
    data[RELATES].edge_type = torch.empty(0, dtype=torch.long)
    data.relation_name = []
    data["entity"].num_nodes = 0
    validate(data)


def remove_relation_name(data: HeteroData) -> None:
    del data.relation_name


def remove_entity(data: HeteroData) -> None:
    del data["entity"]


def remove_links(data: HeteroData) -> None:
    del data[IS]


def remove_users(data: HeteroData) -> None:
    del data["user"]


INDEX = torch.tensor([[0, 1], [0, 1]])
KEY = r"^data\['user', 'interacts', 'item'\]\."
DAMAGE = [
    (remove_users, ValueError, r"^data\['user'\] is missing"),
    (remove_entity, ValueError, r"^data\['entity'\] is missing while data\['item', 'is', 'entity'\]"),
    (
        remove_links,
        ValueError,
        r"^data\['item', 'is', 'entity'\]\.edge_index is missing while data\['entity'\]",
    ),
    (remove_relation_name, ValueError, r"^data\.relation_name is missing while"),
    (drop(INTERACTS, "edge_index"), ValueError, KEY + "edge_index is missing"),
    (drop(RELATES, "edge_type"), ValueError, r"relates', 'entity'\]\.edge_type is missing"),
    (drop("user", "num_nodes"), ValueError, r"^data\['user'\]\.num_nodes is missing"),
    (set_value("user", "num_nodes", 3.0), TypeError, "num_nodes is a float, expected an int"),
    (set_value("user", "num_nodes", True), TypeError, "num_nodes is a bool"),
    (set_value("user", "num_nodes", -1), ValueError, r"num_nodes is -1, expected 0 or more"),
    (set_value("user", "num_nodes", 2), ValueError, "id has 3 ids, expected num_nodes = 2"),
    (set_value("entity", "num_nodes", 4), ValueError, r"edge_index\[1\] holds 4, expected indices in 0\.\.3"),
    (set_value("item", "x", torch.ones(3, 2)), ValueError, r"x has 3 rows, expected num_nodes = 4"),
    (set_value("item", "x", torch.ones(4)), ValueError, r"x has the shape \[4\]"),
    (set_value("item", "x", torch.ones(4, 2).long()), TypeError, "x is a int64 tensor"),
    (set_value("item", "x", torch.ones(4, 2).to_sparse()), TypeError, "dense float tensor"),
    (set_value("item", "x", [[1.0]] * 4), TypeError, "x is a list"),
    (set_value("item", "x", torch.tensor([[1.0], [2.0], [torch.nan], [4.0]])), ValueError, "first in row 2"),
    (set_value("item", "x", torch.full((4, 1), torch.inf)), ValueError, "holds NaN or infinity"),
    (set_value("item", "id", [1, 2, 3, 1]), ValueError, "id holds 1 more than once"),
    (set_value("item", "id", [1, 2, 3]), ValueError, "id has 3 ids, expected num_nodes = 4"),
    (set_value("item", "id", [1.0, 2.0, 3.0, 4.0]), TypeError, "id holds float, expected raw ids"),
    (set_value("item", "id", [1, "2", 3, 4]), TypeError, "id holds int and str"),
    (set_value("item", "id", ["a", "b", None, "c"]), TypeError, "id holds NoneType and str"),
    (set_value("item", "id", torch.arange(4)), TypeError, "id is a Tensor, expected a list"),
    (set_value("item", "name", ["a"]), ValueError, "name has 1 labels"),
    (set_value("item", "name", [1, 2, 3, 4]), TypeError, "name holds int, expected a list of str"),
    (set_value("item", "name", "abcd"), TypeError, "name is a str"),
    (set_value(INTERACTS, "edge_index", INDEX[:, :0]), ValueError, KEY + "edge_index is empty"),
    (set_value(INTERACTS, "edge_index", INDEX.int()), TypeError, KEY + "edge_index has the dtype int32"),
    (set_value(INTERACTS, "edge_index", INDEX.tolist()), TypeError, KEY + "edge_index is a list"),
    (set_value(INTERACTS, "edge_index", INDEX.flatten()), ValueError, r"shape \[4\], expected \[2, n\]"),
    (
        set_value(INTERACTS, "edge_index", INDEX - 1),
        ValueError,
        r"edge_index\[0\] holds -1, expected indices",
    ),
    (set_value(INTERACTS, "edge_index", INDEX + 2), ValueError, r"holds 3, expected indices in 0\.\.2"),
    (
        set_value(INTERACTS, "time", torch.ones(3)),
        ValueError,
        KEY + r"time has the shape \[3\], expected \[4\]",
    ),
    (set_value(INTERACTS, "time", torch.full((4,), torch.nan)), ValueError, KEY + "time holds NaN"),
    (set_value(INTERACTS, "rating", [1, 2, 3, 4]), TypeError, KEY + "rating is a list"),
    (set_value(INTERACTS, "rating", torch.ones(4, dtype=torch.cfloat)), TypeError, "expected real numbers"),
    (
        set_value(INTERACTS, "edge_label_index", INDEX + 9),
        ValueError,
        KEY + r"edge_label_index\[0\] holds 10",
    ),
    (set_value(INTERACTS, "edge_label", torch.ones(3)), ValueError, KEY + r"edge_label has the shape \[3\]"),
    (set_value(INTERACTS, "edge_label", torch.tensor([1, 2])), ValueError, "other than 0 and 1"),
    (drop(INTERACTS, "edge_label_index"), ValueError, "edge_label is present without edge_label_index"),
    (
        set_value(INTERACTS, "edge_label_time", torch.ones(3)),
        ValueError,
        r"edge_label_time has the shape \[3\]",
    ),
    (
        set_value(INTERACTS, "seen_edge_index", INDEX.float()),
        TypeError,
        "seen_edge_index has the dtype float32",
    ),
    (set_value(INTERACTS, "seen_edge_index", INDEX[:1]), ValueError, r"shape \[1, 2\], expected \[2, s\]"),
    (set_value(IS, "edge_index", INDEX + 3), ValueError, r"'is', 'entity'\]\.edge_index\[0\] holds 4"),
    (
        set_value(RELATES, "edge_index", INDEX + 4),
        ValueError,
        r"'relates', 'entity'\]\.edge_index\[0\] holds 5",
    ),
    (set_value(RELATES, "edge_type", torch.tensor([0, 1])), ValueError, r"edge_type has the shape \[2\]"),
    (set_value(RELATES, "edge_type", torch.tensor([0, 1, 2])), ValueError, "relation_name has 2 labels"),
    (set_value(RELATES, "edge_type", torch.tensor([0, -1, 0])), ValueError, "edge_type holds -1"),
    (set_value(RELATES, "edge_type", torch.ones(3)), TypeError, "edge_type has the dtype float32"),
    (set_value(RELATES, "edge_type", [0, 1, 0]), TypeError, "edge_type is a list"),
    (set_value(RELATES, "edge_type", torch.ones(3).long().to("meta")), ValueError, "on one device"),
    (lambda data: setattr(data, "relation_name", ("a", "b")), TypeError, "relation_name is a tuple"),
    (lambda data: setattr(data, "relation_name", ["a", 2]), TypeError, "relation_name holds int"),
]


@pytest.mark.parametrize(("damage", "error", "match"), DAMAGE)
def test_damage_is_named(damage: Callable[[HeteroData], None], error: type[Exception], match: str) -> None:
    data = make_store()
    damage(data)
    with pytest.raises(error, match=match) as caught:
        validate(data)
    assert_one_sentence(str(caught.value))


def assert_one_sentence(message: str) -> None:
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message


@pytest.mark.parametrize("data", [Data(), None, {"user": 3}])
def test_other_objects_are_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a torch_geometric\.data\.HeteroData"):
        validate(data)


SLOTS = [
    *[(kind, name) for kind in ("user", "item", "entity") for name in ("num_nodes", "x", "id", "name")],
    *[
        (INTERACTS, name)
        for name in ("edge_index", "time", "rating", "edge_label_index", "edge_label", "seen_edge_index")
    ],
    (IS, "edge_index"),
    (RELATES, "edge_index"),
    (RELATES, "edge_type"),
]
GARBAGE = st.one_of(
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.one_of(st.integers(), st.text(max_size=2), st.floats(), st.none()), max_size=5),
    st.builds(
        lambda shape, dtype, value: torch.full(shape, value).to(dtype),
        st.lists(st.integers(0, 4), max_size=3),
        st.sampled_from([torch.long, torch.int32, torch.float32, torch.bool, torch.float64, torch.cfloat]),
        st.sampled_from([0.0, 1.0, -1.0, 7.0, float("nan"), float("inf"), 1e30]),
    ),
    st.builds(lambda index: torch.tensor(index), st.lists(st.integers(-2, 6), min_size=3, max_size=3)),
)


@given(st.sampled_from(SLOTS), GARBAGE)
def test_random_damage_ends_in_one_sentence_or_passes(slot: tuple[Any, str], value: Any) -> None:
    data = make_store()
    data[slot[0]][slot[1]] = value
    try:
        validate(data)
    except (TypeError, ValueError) as error:
        message = str(error)
        assert message.startswith("data")
        assert_one_sentence(message)
    else:  # what passes must be usable: every index is in range
        for edge_type in (INTERACTS, IS, RELATES):
            index = data[edge_type].edge_index
            for row, kind in enumerate((edge_type[0], edge_type[2])):
                assert all(0 <= i < data[kind].num_nodes for i in index[row].tolist())


def _with(node_or_edge: Any, key: str, value: Any) -> HeteroData:
    data = make_store()
    data[node_or_edge][key] = value
    return data


STRANGE = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "meta": lambda: torch.empty(2, 3, device="meta"),
    "float8": lambda: torch.ones(2, 3).to(torch.float8_e4m3fn),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:.*quant.*:DeprecationWarning")
@pytest.mark.parametrize("kind", list(STRANGE))
@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("item", "x"),
        ("user", "n_id"),
        (INTERACTS, "edge_index"),
        (INTERACTS, "time"),
        (INTERACTS, "edge_label_index"),
        (RELATES, "edge_type"),
        (RELATES, "edge_label_index"),
        (IS, "edge_index"),
    ],
)
def test_strange_tensors_are_told_in_a_sentence(kind: str, where: Any, key: str) -> None:
    data = _with(where, key, STRANGE[kind]())
    with pytest.raises((TypeError, ValueError), match=r"expected .*\.$") as error:
        validate(data)
    assert len(str(error.value)) <= 400


@pytest.mark.parametrize("name", ["label", "labels", "y", "target", "click"])
@pytest.mark.parametrize("low", [0, -1, 0.0, False])
def test_labels_by_hand_are_not_passed_over(
    make_store: Callable[..., HeteroData], name: str, low: Any
) -> None:
    data = make_store()
    n = data[INTERACTS].edge_index.size(1)
    data[INTERACTS][name] = torch.tensor([low, type(low)(1)] * n)[:n]
    for door in (validate, Popularity, lambda data: RandomSplit()(data)):
        with pytest.raises(
            ValueError, match=f"{name} holds .* and 1 .*expected the positives alone"
        ) as caught:
            door(data)
        assert len(str(caught.value)) <= 400
    for harmless in (torch.ones(n), torch.arange(n), torch.rand(n), torch.zeros(3)):
        data[INTERACTS][name] = harmless
        validate(data)
    data[INTERACTS][name] = torch.tensor([low, type(low)(1)] * n)[:n]
    data[INTERACTS].edge_label_index = data[INTERACTS].edge_index
    data[INTERACTS].edge_label = torch.ones(n)
    validate(data)


def test_relations_have_labels_of_their_own() -> None:
    data = make_store()
    data.relation_name = ["likes", "likes"]
    with pytest.raises(
        ValueError, match="relation_name holds 'likes' more than once, expected each relation once"
    ):
        validate(data)
