"""A store read once: what is kept of it, for how long, and how a change is noticed."""

from __future__ import annotations

import copy
import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KGRec, LightGCN, Popularity
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.models.inputs import Inputs, StoreStamp, WeightStamp, fingerprint
from pyg_kgrec.testing import Splits, build_splits, grown, permuted, users_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def splits() -> Splits:
    return build_splits(features=True)


@pytest.fixture
def model(splits: Splits) -> BPRMF:
    return BPRMF(splits[0], hidden_channels=4)


@pytest.fixture
def inputs(model: BPRMF, splits: Splits) -> Inputs:
    return model.prepare(splits[2])


# ---------------------------------------------------------------------- what it holds


def test_it_holds_the_edges_and_sizes_of_the_store(inputs: Inputs, splits: Splits) -> None:
    test = splits[2]
    assert (inputs.num_users, inputs.num_items, inputs.num_entities) == (10, 14, test[ENTITY].num_nodes)
    assert dict(inputs.num_nodes) == {t: test[t].num_nodes for t in (USER, ITEM, ENTITY)}
    assert torch.equal(inputs.edge_index, test[INTERACTS].edge_index)
    assert torch.equal(inputs.link, test[IS].edge_index)
    assert torch.equal(inputs.triple[[0, 2]], test[RELATES].edge_index)
    assert torch.equal(inputs.triple[1], test[RELATES].edge_type)
    assert all(row is None for row in inputs.row.values())
    for node_type in (USER, ITEM, ENTITY):
        assert torch.equal(inputs.x[node_type], test[node_type].x)
    assert repr(inputs) == (
        f"Inputs(num_users=10, num_items=14, num_entities={inputs.num_entities}, "
        f"num_triples={inputs.triple.size(1)}, device=cpu)"
    )


def test_a_store_without_knowledge_has_none(make_splits: Callable[..., Splits]) -> None:
    train = make_splits(knowledge=False)[0]
    inputs = BPRMF(train, hidden_channels=4).prepare(train)
    assert inputs.num_entities == 0
    assert inputs.triple.shape == (3, 0)
    assert inputs.link.shape == (2, 0)
    assert inputs.triple.dtype == inputs.link.dtype == torch.int64
    assert inputs.row[ENTITY] is inputs.x[ENTITY] is inputs.x[USER] is None


def test_nodes_and_relations_are_those_of_training(model: BPRMF, splits: Splits) -> None:
    train, other = splits[0], permuted(splits[2])
    inputs = model.prepare(other)
    for node_type in (USER, ITEM, ENTITY):
        row = inputs.row[node_type]
        assert row is not None
        assert [train[node_type].id[r] for r in row.tolist()] == other[node_type].id
    names = [train.relation_name[r] for r in inputs.triple[1].tolist()]
    assert names == [other.relation_name[r] for r in other[RELATES].edge_type.tolist()]
    for node_type in (USER, ITEM, ENTITY):
        new = model.prepare(grown(splits[2], features=True)).row[node_type]
        assert new is not None
        assert new.tolist() == list(range(-1, splits[2][node_type].num_nodes))


def test_rows_and_features_of_some_nodes(model: BPRMF, splits: Splits) -> None:
    other, some = permuted(splits[2]), torch.tensor([7, 0, 7])
    for data in (splits[2], other):
        inputs = model.prepare(data)
        row, x = inputs.nodes(ITEM)
        mine, features = inputs.nodes(ITEM, some)
        assert mine is not None
        assert features is not None
        assert torch.equal(mine, some if row is None else row[some])
        assert x is data[ITEM].x
        assert torch.equal(features, data[ITEM].x[some])
    bare = build_splits()[0]
    assert BPRMF(bare, hidden_channels=4).prepare(bare).nodes(USER, some)[1] is None


def test_pairs_seen_and_to_be_found(inputs: Inputs, splits: Splits) -> None:
    train, val, test = splits
    user = torch.arange(10)

    def pairs(index: Any) -> set[tuple[int, ...]]:
        return set(zip(*(column.tolist() for column in index.select(user))))

    seen = torch.cat([train[INTERACTS].edge_index, val[INTERACTS].edge_label_index], dim=1)
    assert pairs(inputs.seen) == set(map(tuple, seen.t().tolist()))
    assert pairs(inputs.labels) == set(map(tuple, test[INTERACTS].edge_label_index.t().tolist()))
    assert inputs.seen is inputs.seen
    assert inputs.labels is inputs.labels


def test_sequences_with_and_without_what_was_seen(inputs: Inputs, splits: Splits) -> None:
    store, user = splits[2][INTERACTS], torch.arange(10)
    whole, learned = inputs.sequences(), inputs.sequences(seen=False)
    assert whole.item.numel() == store.edge_index.size(1) + store.seen_edge_index.size(1)
    assert learned.item.numel() == store.edge_index.size(1)
    assert inputs.sequences() is whole
    assert inputs.sequences(seen=False) is learned
    assert torch.equal(whole.last(user, 99)[:, :4], learned.last(user, 99))


def test_a_sampler_of_each_distribution(inputs: Inputs) -> None:
    uniform = inputs.negatives()
    assert inputs.negatives("uniform") is uniform
    popular = inputs.negatives("popularity")
    assert popular is not uniform
    assert (uniform.distribution, popular.distribution) == ("uniform", "popularity")


def test_raw_ids_and_their_absence(inputs: Inputs) -> None:
    assert inputs.raw_ids(USER, [3, 0]) == ["u3", "u0"]
    assert inputs.vocabulary(ITEM) is inputs.vocabulary(ITEM)
    train = build_splits(ids=False)[0]
    bare = BPRMF(train, hidden_channels=4).prepare(train)
    assert bare.vocabulary(USER) is None
    assert bare.raw_ids(USER, [3, 0]) == [3, 0]


def test_it_cannot_be_changed(inputs: Inputs) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        inputs.edge_index = inputs.edge_index.flip(1)  # type: ignore[misc]


def test_the_graph_is_what_the_model_builds_of_it(splits: Splits) -> None:
    built: list[Inputs] = []

    class Watched(BPRMF):
        def build_graph(self, inputs: Inputs) -> Any:
            built.append(inputs)
            return {"edges": inputs.edge_index.size(1)}

    model = Watched(splits[0], hidden_channels=4)
    inputs = model.prepare(splits[0])
    assert built == [inputs]
    assert inputs.graph == {"edges": 40}
    assert inputs.graph is inputs.graph
    assert BPRMF(splits[0], hidden_channels=4).prepare(splits[0]).graph is None


# ---------------------------------------------------------------------- parts


def test_a_part_is_computed_once(inputs: Inputs) -> None:
    calls: list[int] = []

    def build() -> list[int]:
        calls.append(1)
        return calls

    first = inputs.part("mine", build)
    assert inputs.part("mine", build) is first
    assert inputs.part(("mine", 2), build) is first
    assert calls == [1, 1]


def test_nothing_may_be_a_part(inputs: Inputs) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert inputs.part("none", lambda: calls.append(1)) is None
    assert calls == [1]


def test_a_part_that_is_no_longer_valid_is_computed_again(inputs: Inputs) -> None:
    values = iter(range(10))
    first = inputs.replace("count", lambda kept: True, lambda: next(values))
    assert inputs.replace("count", lambda kept: kept == 0, lambda: next(values)) == first == 0
    assert inputs.replace("count", lambda kept: kept != 0, lambda: next(values)) == 1
    assert inputs.part("count", lambda: next(values)) == 1


def test_validity_is_asked_of_what_is_kept_only(inputs: Inputs) -> None:
    def fail(kept: object) -> bool:
        raise AssertionError("nothing is kept yet")

    assert inputs.replace("new", fail, lambda: 3) == 3


@pytest.mark.parametrize("kept", [False, True])
def test_a_failed_build_leaves_nothing_behind(inputs: Inputs, kept: bool) -> None:
    def fail() -> None:
        raise RuntimeError("no memory")

    if kept:
        inputs.part("mine", lambda: "old")
        with pytest.raises(RuntimeError, match="no memory"):
            inputs.replace("mine", lambda value: False, fail)
    else:
        with pytest.raises(RuntimeError, match="no memory"):
            inputs.part("mine", fail)
    assert inputs.part("mine", lambda: "new") == "new"
    with ThreadPoolExecutor(1) as other:  # and the lock is free for others
        assert other.submit(inputs.part, "mine", fail).result(timeout=10) == "new"


def test_a_store_whose_graph_fails_is_not_kept(splits: Splits) -> None:
    class Fragile(BPRMF):
        broken = True

        def build_graph(self, inputs: Inputs) -> Any:
            if self.broken:
                raise RuntimeError("no memory")

    model = Fragile(splits[0], hidden_channels=4)
    with pytest.raises(RuntimeError, match="no memory"):
        model.recommend(splits[2], ["u1"], k=2)
    model.broken = False
    assert model.recommend(splits[2], ["u1"], k=2)[0].shape == (1, 2)


def test_an_encoding_that_fails_leaves_the_store_usable(
    model: BPRMF, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.recommend(inputs, ["u1"], k=3)[0]
    with torch.no_grad():
        model.user_encoder.weight.mul_(2)  # type: ignore[union-attr]
    encode = BPRMF.encode
    monkeypatch.setattr(BPRMF, "encode", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.recommend(inputs, ["u1"], k=3)
    monkeypatch.setattr(BPRMF, "encode", encode)
    assert model.recommend(inputs, ["u1"], k=3)[0].shape == expected.shape


def test_a_part_may_need_another(inputs: Inputs) -> None:
    assert inputs.part("outer", lambda: inputs.part("inner", lambda: 2) + 1) == 3


def test_parts_are_built_without_gradients_and_outside_of_inference_mode(inputs: Inputs) -> None:
    weight = torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        found = inputs.part("outside", lambda: weight * 2)
    assert not found.requires_grad
    assert not found.is_inference()
    assert not inputs.part("plain", lambda: weight * 2).requires_grad


def test_threads_build_a_part_once(inputs: Inputs) -> None:
    start, calls = threading.Barrier(8), []

    def build() -> Tensor:
        calls.append(threading.get_ident())
        return torch.rand(3)

    def ask(i: int) -> list[Tensor]:
        start.wait(timeout=30)
        return [inputs.part(("shared", j), build) for j in range(50)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(calls) == 50
    assert all(one is other for row in found for one, other in zip(row, found[0]))


def test_threads_encode_once(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BPRMF(splits[0], hidden_channels=4)
    inputs, start, calls = model.prepare(splits[2]), threading.Barrier(8), []
    encode = BPRMF.encode
    monkeypatch.setattr(BPRMF, "encode", lambda self, inputs: calls.append(1) or encode(self, inputs))

    def ask(i: int) -> Tensor:
        start.wait(timeout=30)
        return model.score_all(inputs, torch.tensor([i]))

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(ask, range(8)))
    assert len(calls) == 1
    torch.testing.assert_close(torch.cat(rows), model.score_all(inputs, torch.arange(8)))


# ---------------------------------------------------------------------- a snapshot


def test_what_is_assigned_to_the_store_later_has_no_effect(model: BPRMF, splits: Splits) -> None:
    test = splits[2]
    ready, users = model.prepare(test), users_of(test)
    scores, lists = model.score_all(ready, users), model.recommend(ready, users, k=5)[0]
    frame = model.recommend(ready, ["u3"], k=3, as_frame=True)
    test[INTERACTS].edge_index = test[INTERACTS].edge_index[:, :5].clone()
    test[INTERACTS].time = test[INTERACTS].time[:5]
    del test[INTERACTS].seen_edge_index
    test[USER].x = test[USER].x + 1
    test[USER].id.reverse()
    test[ITEM].name[0] = "Renamed"
    test.relation_name.clear()
    del test[RELATES]
    assert torch.equal(model.score_all(ready, users), scores)
    assert torch.equal(model.recommend(ready, users, k=5)[0], lists)
    assert model.recommend(ready, ["u3"], k=3, as_frame=True).equals(frame)
    assert ready.data[ITEM].name[0] == "Item <0>"
    assert len(ready.data.relation_name) == 3
    assert model.prepare(ready) is ready


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda d: d[INTERACTS].edge_index[1].add_(0), r"data\['user', 'interacts', 'item'\]\.edge_index"),
        (lambda d: d[INTERACTS].seen_edge_index.clamp_(0), r"\.seen_edge_index"),
        (lambda d: d[INTERACTS].time.mul_(2), r"\.time"),
        (lambda d: d[USER].x.zero_(), r"data\['user'\]\.x"),
        (lambda d: d[IS].edge_index.add_(0), r"data\['item', 'is', 'entity'\]\.edge_index"),
        (lambda d: d[RELATES].edge_type.add_(0), r"data\['entity', 'relates', 'entity'\]\.edge_type"),
    ],
)
def test_a_tensor_that_was_written_to_is_named(
    model: BPRMF, splits: Splits, change: Callable[[HeteroData], Any], name: str
) -> None:
    test = splits[2]
    ready = model.prepare(test)
    change(test)
    message = f"{name} was written to after the store had been prepared, expected an unchanged store: call"
    for ask in (lambda: model.score_all(ready, ["u1"]), lambda: model.prepare(ready)):
        with pytest.raises(ValueError, match=message):
            ask()
    assert model.score_all(model.prepare(test), ["u1"]).shape == (1, 14)


def test_another_models_store_is_refused(splits: Splits, inputs: Inputs) -> None:
    for other in (BPRMF(splits[0], hidden_channels=4), Popularity(splits[0])):
        with pytest.raises(
            ValueError, match=f"was prepared by another {type(other).__name__} or another model"
        ):
            other.prepare(inputs)


def test_something_else_is_no_store(model: BPRMF) -> None:
    with pytest.raises(TypeError):
        model.prepare([1, 2])  # type: ignore[arg-type]


def test_a_store_that_is_asked_about_again_is_read_once(
    model: BPRMF, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, reads = splits[2], []
    read = Inputs.read.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Inputs, "read", classmethod(lambda *args: reads.append(1) or read(*args)))
    first = model.inputs(test)
    assert model.inputs(test) is first
    assert model.inputs(first) is first
    assert model.inputs(copy.copy(test)) is not first
    assert len(reads) == 2
    test[INTERACTS].edge_index.data[1, 0] = 13 - test[INTERACTS].edge_index[1, 0]  # no counter sees this
    assert model.inputs(test) is not first
    assert len(reads) == 3


def test_a_copy_of_a_model_reads_for_itself(model: BPRMF, splits: Splits) -> None:
    first = model.inputs(splits[2])
    twin = copy.deepcopy(model)
    assert twin.inputs(splits[2]) is not first
    assert torch.equal(twin.score_all(splits[2], ["u1"]), model.score_all(splits[2], ["u1"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_that_moves_prepares_again(model: BPRMF, inputs: Inputs) -> None:
    model.to("cuda")
    moved = model.prepare(inputs)
    assert moved.device.type == moved.edge_index.device.type == "cuda"
    assert model.prepare(inputs) is moved
    assert model.cpu().prepare(inputs) is inputs


def test_another_device_is_read_once(model: BPRMF, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen without another device: tensors of ``meta`` hold no data."""
    prepared = []
    prepare = BPRMF.prepare
    monkeypatch.setattr(BPRMF, "device", torch.device("meta"))
    monkeypatch.setattr(BPRMF, "prepare", lambda self, data: prepared.append(data) or "moved")
    assert inputs.checked(model) == "moved"
    assert inputs.checked(model) == "moved"
    assert prepared == [inputs.data]
    monkeypatch.setattr(BPRMF, "device", torch.device("cpu"))
    monkeypatch.setattr(BPRMF, "prepare", prepare)
    assert inputs.checked(model) is inputs


# ---------------------------------------------------------------------- stamps


def changes() -> dict[str, Callable[[HeteroData], Any]]:
    def assign(kind: Any, key: str, value: Callable[[Any], Any]) -> Callable[[HeteroData], None]:
        return lambda data: setattr(data[kind], key, value(data[kind][key]))

    def write_numpy(data: HeteroData) -> None:
        array = data[INTERACTS].edge_index.numpy()
        array[1, :2] = array[1, :2][::-1].copy()

    return {
        "another tensor": assign(INTERACTS, "edge_index", lambda t: t.flip(1)),
        "in place": lambda data: data[INTERACTS].edge_index.add_(0),
        "data": lambda data: data[RELATES].edge_type.data.add_(1),
        "numpy": write_numpy,
        "more nodes": lambda data: setattr(data[USER], "num_nodes", 11),
        "an id": lambda data: data[USER].id.__setitem__(0, "someone"),
        "ids in another order": lambda data: data[ITEM].id.reverse(),
        "a name": lambda data: data[ITEM].name.__setitem__(3, "Renamed"),
        "relations": lambda data: data.relation_name.reverse(),
        "features of another dtype": assign(USER, "x", lambda t: t.double()),
        "a further tensor": lambda data: setattr(data[INTERACTS], "rating", torch.ones(40)),
        "one less": lambda data: data[INTERACTS].pop("time"),
        "no features": lambda data: data[ENTITY].pop("x"),
    }


@pytest.mark.parametrize("change", changes())
def test_a_change_of_the_store_changes_its_stamp(splits: Splits, change: str) -> None:
    train = splits[0]
    before = StoreStamp.of(train)
    assert StoreStamp.of(train) == before
    changes()[change](train)
    assert StoreStamp.of(train) != before


def test_what_no_model_reads_is_not_in_a_stamp(splits: Splits) -> None:
    train = splits[0]
    before = StoreStamp.of(train)
    train["note"] = "mine"
    train["tag"].num_nodes = 3
    train[USER, "knows", USER].edge_index = torch.tensor([[0], [1]])
    assert StoreStamp.of(train) == before


def test_a_damaged_store_has_a_stamp(splits: Splits) -> None:
    train = splits[0]
    train[INTERACTS].edge_index = torch.eye(3).to_sparse()
    train[USER].x = None
    assert StoreStamp.of(train) == StoreStamp.of(train)


@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=9), data=st.data())
def test_a_fingerprint_tells_what_changed(values: list[int], data: st.DataObject) -> None:
    tensor = torch.tensor(values)
    before = fingerprint(tensor)
    assert fingerprint(tensor.clone()) == before
    place = data.draw(st.integers(0, len(values) - 1))
    bit = data.draw(st.integers(0, 63))
    other = tensor.clone()
    other[place] ^= (1 << bit) - (bit == 63) * 2**64
    assert fingerprint(other) != before


@pytest.mark.parametrize("size", [2, 508, 509, 510, 2000])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8, torch.bool])
def test_a_fingerprint_goes_by_the_order(size: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    tensor = torch.randint(0, 2 if dtype == torch.bool else 200, (size,), generator=rng).to(dtype)
    tensor[0], tensor[-1] = 1, 0
    moved = tensor.clone()
    moved[0], moved[-1] = 0, 1
    assert fingerprint(tensor) != fingerprint(moved)
    assert fingerprint(tensor.view(-1, 2) if size % 2 == 0 else tensor) == fingerprint(tensor)


def test_a_fingerprint_of_rows_that_change_places() -> None:
    table = torch.randn(1018, 64, generator=torch.Generator().manual_seed(0))
    seen = {fingerprint(table.roll(shift, 0)) for shift in (0, 1, 2, 32, 509)}
    assert len(seen) == 5
    assert fingerprint(table.t()) != fingerprint(table)
    assert fingerprint(table.t().contiguous().t()) == fingerprint(table)


@pytest.mark.parametrize("rows", [3, 700, 40_000])
def test_a_fingerprint_sees_signs_and_places(rows: int) -> None:
    table = torch.randn(rows, 2, generator=torch.Generator().manual_seed(0))
    one, column, pairs = table.clone(), table.clone(), table.clone()
    one[1, 1] *= -1
    column[:, 1] *= -1
    far = 0 if rows < 600 else 508
    pairs[[0, far]] = table[[far, 0]]
    seen = {fingerprint(x) for x in (table, one, column, pairs)}
    assert len(seen) == 3 + (far > 0)


def test_a_stamp_of_a_large_table_sees_any_sign_that_changes() -> None:
    table = torch.nn.Embedding(40_000, 8)
    for row in range(0, 40_000, 2_500):
        stamp = WeightStamp(table)
        table.weight.data[row, 1] *= -1
        torch.optim.SGD(
            [torch.nn.Parameter(torch.zeros(1))], lr=1.0
        ).step()  # after a step all bytes are looked at
        assert not stamp.holds(table)


def test_a_stamp_of_weights_goes_by_their_bytes(splits: Splits) -> None:
    model = KGRec(splits[0], hidden_channels=8)
    weight = model.user_encoder.weight
    assert weight is not None

    def numpy() -> None:
        array = weight.detach().numpy()
        array[0, 0] = np.float32(2)

    def swap() -> None:
        model.user_encoder.weight = torch.nn.Parameter(weight.detach().clone())

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        torch.optim.Adam(model.parameters(), fused=True).step()

    for change in (
        lambda: weight.data[0].mul_(2),
        numpy,
        lambda: weight.detach().mul_(1),
        step,
        swap,
        model.double,
    ):
        stamp = WeightStamp(model)
        assert stamp.holds(model)
        change()
        assert not stamp.holds(model)
    assert not WeightStamp(model).holds(copy.deepcopy(model))


@pytest.mark.parametrize("how", ["numpy", "data"])
@pytest.mark.parametrize(
    ("rows", "distance", "calls"),
    [
        (10, 1, 1),  # kept as a copy
        (1500, 1, 1),  # summed
        (1500, 1019, 2),  # summed, in one column of one width
        (5000, 39, 156),  # sampled: 39 rows of 32 words are eight strides of 156
    ],
)
def test_rows_that_change_places_are_other_weights(how: str, rows: int, distance: int, calls: int) -> None:
    model = torch.nn.Embedding(rows, 64)
    stamp = WeightStamp(model)
    assert all(stamp.holds(model) for _ in range(2))
    table = model.weight.data if how == "data" else model.weight.detach().numpy()
    table[[0, distance]] = table[[distance, 0]]
    assert not all(stamp.holds(model) for _ in range(calls))
    # After the step of an optimiser everything is looked at, and a step of another model's is no change.
    stamp = WeightStamp(model)
    other = torch.nn.Parameter(torch.zeros(1))
    other.grad = torch.ones(1)
    torch.optim.SGD([other], lr=1.0).step()
    assert stamp.holds(model)
    table[[0, distance]] = table[[distance, 0]]
    torch.optim.SGD([other], lr=1.0).step()
    assert not stamp.holds(model)


def test_indicators_that_change_places_are_other_weights() -> None:
    # Powers of two differ in their highest bits alone, which a sum with even weights loses.
    model = torch.nn.Embedding(5000, 64)
    model.weight.data.copy_(2.0 ** (torch.arange(5000) % 7).float()[:, None].expand(-1, 64))
    for distance in (39, 4 * 39, 64 * 39):
        stamp = WeightStamp(model)
        rows = model.weight.data
        rows[[0, distance]] = rows[[distance, 0]]
        assert not all(stamp.holds(model) for _ in range(156))


@pytest.mark.parametrize("start", [1, 2, 3])
def test_weights_and_features_may_begin_anywhere_in_memory(splits: Splits, start: int) -> None:
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.arange(10.0)[start : start + 4])
    stamp = WeightStamp(model)
    assert stamp.holds(model)
    model.weight.data[1] = 7
    assert not stamp.holds(model)
    train, _, test = splits
    for data in (train, test):
        data["item"].x = torch.arange(3.0 * 20).view(20, 3)[start : start + 14]
    assert fingerprint(test["item"].x) == fingerprint(test["item"].x.clone())
    model = BPRMF(train, hidden_channels=4)
    before = model.score_all(test, torch.tensor([0]))
    test["item"].x.data[0] += 1
    assert not torch.equal(model.score_all(test, torch.tensor([0])), before)


def test_a_step_that_changes_nothing_is_no_change(splits: Splits) -> None:
    model, other = (BPRMF(splits[0], hidden_channels=4) for _ in range(2))
    stamp = WeightStamp(model)
    for parameter in other.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(other.parameters(), lr=1.0).step()
    assert stamp.holds(model)
    assert stamp.holds(model)


def test_of_a_large_table_every_word_is_looked_at_in_its_turn() -> None:
    model = torch.nn.Embedding(5000, 64)  # 160,000 words
    stamp = WeightStamp(model)
    assert all(stamp.holds(model) for _ in range(3))
    model.weight.data[3210, 5] = 7.0
    turns = 160_000 // 1024
    assert not all(stamp.holds(model) for _ in range(turns))
    stamp = WeightStamp(model)
    model.weight.data.mul_(1.5)
    assert not stamp.holds(model)


@pytest.mark.parametrize("shape", [(0, 4), (1,), (3,), (7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_tensors_of_any_size_have_a_stamp(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    model = torch.nn.Module()
    model.register_buffer("table", torch.zeros(shape, dtype=dtype))
    stamp = WeightStamp(model)
    assert stamp.holds(model)
    model.table.data.fill_(1)
    assert stamp.holds(model) == (0 in shape)


def test_buffers_are_weights_too(splits: Splits) -> None:
    model = BPRMF(splits[0], hidden_channels=4)
    model.register_buffer("extra", torch.zeros(3))
    stamp = WeightStamp(model)
    model.extra[1] = 1.0
    assert not stamp.holds(model)


def test_models_without_weights_stay_as_they_are() -> None:
    model = torch.nn.Identity()
    assert WeightStamp(model).holds(model)
    assert not WeightStamp(model).holds(torch.nn.Identity())


def test_hooks_and_exchanged_modules_are_noticed(model: BPRMF, splits: Splits) -> None:
    ready, users = model.prepare(splits[2]), users_of(splits[2])
    before = model.score_all(ready, users)
    hook = model.item_encoder.register_forward_hook(lambda module, given, out: 3 * out)
    for store in (ready, splits[2]):
        torch.testing.assert_close(model.score_all(store, users), 3 * before)
    hook.remove()
    assert torch.equal(model.score_all(ready, users), before)
    hook = model.item_encoder.register_forward_pre_hook(lambda module, given: None)
    assert torch.equal(model.score_all(ready, users), before)
    hook.remove()


def test_layers_without_weights_that_go_are_noticed(splits: Splits) -> None:
    model = LightGCN(splits[0], hidden_channels=4, num_layers=2)
    ready, users = model.prepare(splits[2]), users_of(splits[2])
    before = model.score_all(ready, users)
    model.convs = model.convs[:1]
    after = model.score_all(ready, users)
    assert not torch.equal(after, before)
    assert torch.equal(after, model.score_all(model.prepare(splits[2].clone()), users))


def test_a_prepared_store_keeps_no_model_alive(splits: Splits) -> None:
    model = BPRMF(splits[0], hidden_channels=4)
    ready = model.prepare(splits[2])
    model.score_all(ready, users_of(splits[2]))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert ready.num_users == 10
