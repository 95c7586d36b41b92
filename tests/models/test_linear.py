from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import ALS, BPRMF, EASE, Blend, ItemKNN, LightGCN, Popularity, RP3beta, evaluate, fit
from pyg_kgrec.data import INTERACTS, ITEM, USER
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import IS, RELATES
from pyg_kgrec.datasets import MovieLens100K
from pyg_kgrec.models import memory, neighbours
from pyg_kgrec.models.gram import gram, ridge_weights, shared_facts
from pyg_kgrec.models.search import read_grid, refined
from pyg_kgrec.ops.ranking import largest
from pyg_kgrec.testing import permuted

pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]
SOLVED = (EASE, ItemKNN, RP3beta, ALS)


def solved(model: type, train: HeteroData, *args: object, **settings: object):
    torch.manual_seed(0)
    made = model(train, *args, **settings)
    fit(made, train)
    return made


def matrix(data: HeteroData) -> Tensor:
    """The interactions as a dense matrix of zeros and ones, float64."""
    out = torch.zeros(data[USER].num_nodes, data[ITEM].num_nodes, dtype=torch.float64)
    out[tuple(data[INTERACTS].edge_index)] = 1
    return out


def facts_by_hand(data: HeteroData) -> set[frozenset[int]]:
    """The sets of items that share a link or relation, direction and other entity."""
    links = data[IS].edge_index.t().tolist()
    found: dict[tuple[object, ...], set[int]] = {}
    for item, entity in links:
        found.setdefault(("is", entity), set()).add(item)
        for (head, tail), relation in zip(
            data[RELATES].edge_index.t().tolist(), data[RELATES].edge_type.tolist()
        ):
            if head == entity:
                found.setdefault((relation, "out", tail), set()).add(item)
            if tail == entity:
                found.setdefault((relation, "in", head), set()).add(item)
    return {key: frozenset(items) for key, items in found.items() if len(items) > 1}  # type: ignore[return-value]


# ------------------------------------------------------------------ EASE


def ease_by_hand(x: Tensor, l2: float, extra: Tensor | float = 0.0) -> Tensor:
    """Each item's column regressed on all others, one system per item."""
    number = x.size(1)
    weight = torch.zeros(number, number, dtype=torch.float64)
    full = x.t() @ x + extra + l2 * torch.eye(number, dtype=torch.float64)
    for j in range(number):
        rest = [i for i in range(number) if i != j]
        weight[rest, j] = torch.linalg.solve(full[rest][:, rest], full[rest, j])
    return weight


def test_ease_regresses_each_item_on_all_others(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = solved(EASE, train, 2.5)
    expected = matrix(train) @ ease_by_hand(matrix(train), 2.5)
    torch.testing.assert_close(
        model.score_all(test, torch.arange(10)).double(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_knowledge_stands_in_the_gram_matrix(make_splits: SplitBuilder, power: float) -> None:
    train, _, test = make_splits()
    groups = facts_by_hand(train)
    facts = torch.zeros(14, len(groups), dtype=torch.float64)
    for column, items in enumerate(groups.values()):  # type: ignore[attr-defined]
        facts[list(items), column] = len(items) ** -power
    assert shared_facts(EASE(train).prepare(train)).start.numel() - 1 == len(groups) > 2
    model = solved(EASE, train, 2.5, knowledge=0.7, power=power)
    expected = matrix(train) @ ease_by_hand(matrix(train), 2.5, 0.7 * facts @ facts.t())
    torch.testing.assert_close(
        model.score_all(test, torch.arange(10)).double(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("columns", "rows"), [(7, 40), (60, 5), (3, 200)])
def test_gram_matrices_by_a_dense_product(columns: int, rows: int) -> None:
    rng = torch.Generator().manual_seed(0)
    dense = (torch.rand(rows, columns, generator=rng) < torch.linspace(0, 0.6, columns)).double()
    index = PairIndex.from_pairs(dense.t().nonzero().t(), columns)
    weight = torch.rand(columns, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(gram(index, rows), dense @ dense.t(), rtol=0, atol=0)
    torch.testing.assert_close(gram(index, rows, weight), (dense * weight) @ dense.t())


def test_ease_lists_partial_correlations(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = solved(EASE, train, 2.5)
    x = matrix(train)
    precision = torch.linalg.inv(x.t() @ x + 2.5 * torch.eye(14, dtype=torch.float64))
    scale = precision.diagonal().rsqrt()
    expected = -scale[3] * precision[3] * scale
    items, scores = model.similar_items(test, torch.tensor([3]), k=13)
    torch.testing.assert_close(scores[0].double(), expected[items[0]], rtol=1e-4, atol=1e-5)


def test_memory_is_asked_for_before_it_is_taken(
    make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = make_splits()[0]
    large = train.clone()
    large[ITEM].num_nodes = 10**7
    del large[ITEM].id, large[ITEM].name
    with pytest.raises(
        ValueError, match=r"EASE on 10000000 items needs 2607703.2 GiB .* take ItemKNN or RP3beta"
    ):
        EASE(large)
    with pytest.raises(ValueError, match=r"needs \S*[1-9]\S* GiB .* 9.3e-10 GiB is allowed \(max_memory\)"):
        EASE(train, max_memory=1e-9)
    model = EASE(train)
    monkeypatch.setattr(memory, "free_memory", lambda device: 28 * 14**2 - 1)
    with pytest.raises(ValueError, match="is free"):
        fit(model, train, progress=False)
    assert model.signature.trained is None or not model.choice
    with pytest.raises(ValueError, match="is free"):
        EASE(train, knowledge=True)


def test_the_inverse_takes_the_place_of_its_matrix() -> None:
    matrix = torch.rand(40, 40, dtype=torch.float64)
    matrix = matrix @ matrix.t() + torch.eye(40, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    expected = (-inverse / inverse.diagonal()).fill_diagonal_(0)
    place = matrix.data_ptr()
    found = ridge_weights(matrix)
    assert found.data_ptr() == place
    assert torch.allclose(found, expected, atol=1e-10)


def test_a_file_asks_for_the_memory_of_its_weights_alone(
    make_splits: SplitBuilder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _, test = make_splits()
    solved(EASE, train, 2.0).save(tmp_path / "ease.pt")
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 14**2)
    EASE.load(tmp_path / "ease.pt", test)
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 14**2 - 1)
    with pytest.raises(ValueError, match=r"needs 7\.3e-07 GiB"):
        EASE.load(tmp_path / "ease.pt", test)


# ------------------------------------------------------------------ neighbours


def in_blocks(monkeypatch: pytest.MonkeyPatch, block: str, kept: int) -> None:
    """Lets a small catalogue be solved as a large one is: all pairs of items, or those that share users."""
    if block == "whole":
        return
    monkeypatch.setattr(neighbours, "_DENSE", 0)
    monkeypatch.setattr(neighbours, "_BLOCK", 40)
    monkeypatch.setattr(neighbours, "_KEPT", kept)
    monkeypatch.setattr(neighbours, "_SPARSE", {"dense": 10**9, "sparse": 0, "either": 1.2}[block])


def neighbours_by_hand(similar: Tensor, k: int, rows: bool) -> Tensor:
    """The k largest entries of each row (or column), of equal ones the first."""
    kept = torch.zeros_like(similar)
    for i in range(similar.size(0)):
        line = similar[i] if rows else similar[:, i]
        order = sorted(range(line.numel()), key=lambda j: (-float(line[j].float()), j))
        for j in order[:k]:
            kept[(i, j) if rows else (j, i)] = line[j]
    return kept


@pytest.mark.parametrize("kept", [0, neighbours._KEPT])
@pytest.mark.parametrize("block", ["whole", "dense", "sparse", "either"])
@pytest.mark.parametrize("weights", [None, "tf-idf", "bm25"])
def test_item_neighbours_by_a_dense_matrix(
    make_splits: SplitBuilder, weights: str | None, block: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks(monkeypatch, block, kept)
    train, _, test = make_splits(num_users=11, per_user=5)
    x = matrix(train)
    weighted = x.clone()
    if weights is not None:
        weighted *= (14 / (1 + x.sum(1, keepdim=True))).log()
    if weights == "bm25":
        size = x.sum(0)
        weighted *= 101 / (100 * (0.2 + 0.8 * size / size.mean()) + 1)
    norm = weighted.norm(dim=0)
    similar = weighted.t() @ weighted / (norm[:, None] * norm + 2)
    similar.fill_diagonal_(0)
    model = solved(ItemKNN, train, 4, 2.0, weights=weights)
    expected = x @ neighbours_by_hand(similar, 4, rows=False)
    users = torch.arange(11)
    torch.testing.assert_close(model.score_all(test, users).double(), expected, rtol=1e-5, atol=1e-6)
    pairs = torch.cartesian_prod(users, torch.arange(14)).t()
    torch.testing.assert_close(model.score(test, *pairs).double(), expected.flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [0, neighbours._KEPT])
@pytest.mark.parametrize("block", ["whole", "dense", "sparse", "either"])
def test_rp3beta_walks_three_steps(
    make_splits: SplitBuilder, block: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks(monkeypatch, block, kept)
    train, _, test = make_splits()
    x = matrix(train)
    to_user = (x.t() / x.sum(0).clamp(min=1)[:, None]) ** 0.7
    to_item = (x / x.sum(1)[:, None]) ** 0.7
    walk = to_user @ to_item / x.sum(0).clamp(min=1) ** 0.4
    walk.fill_diagonal_(0)
    model = solved(RP3beta, train, 3, 0.7, 0.4)
    expected = x @ neighbours_by_hand(walk, 3, rows=True)
    score = model.score_all(test, torch.arange(10)).double()
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-6)
    similar, near = model.similar_items(test, torch.tensor([2]), k=5)
    order = walk[2].argsort(descending=True)[:3]
    torch.testing.assert_close(near[0, :3].double(), walk[2][order], rtol=1e-5, atol=1e-6)
    assert similar[0, 3:].tolist() == [-1, -1]


def test_the_largest_by_a_sort_and_of_equal_ones_the_lowest_place() -> None:
    score = torch.tensor([[0.0, -0.0, 1.5, -2.0, -torch.inf, 1.5], [-1.0, -1.0, -3.0, 2.0, 2.0, -0.5]])
    place = torch.tensor([3, 0, 5, 1, 2, 4])
    for kind in (torch.float32, torch.float64):
        values, columns = largest(score.to(kind), 6, place)
        assert columns.tolist() == [[5, 2, 1, 0, 3, 4], [3, 4, 5, 1, 0, 2]]
        assert torch.equal(values, score.to(kind).gather(1, columns))
    assert largest(score, 3)[1].tolist() == [[2, 5, 0], [3, 4, 5]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_least_squares_in_half_precision_are_refused(dtype: torch.dtype, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = ALS(train, 4, 0.03, 0.1, num_sweeps=1)
    fit(model, train, progress=False)
    before, users = model.score_all(test, torch.arange(10)), torch.arange(10)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(TypeError, match=f"embeddings of ALS are {name}, expected float32 or float64"):
        model.to(dtype).score_all(test, users)
    with pytest.raises(TypeError, match=f"embeddings of ALS are {name}, expected float32 or float64"):
        fit(model, train, progress=False)
    again = model.float().score_all(test, users)  # fit has left the embeddings as they were
    assert (again - before).abs().max() < 0.1


def test_items_that_nothing_speaks_for_come_by_popularity(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = solved(ItemKNN, train, 1)
    items, scores = model.recommend(test, torch.arange(10), k=14)
    popular = Popularity(train).score_all(train, torch.tensor([0]))[0]
    for row, score in zip(items, scores):
        zero = row[(score == 0) & (row >= 0)]
        assert zero.numel() > 1
        assert bool((popular[zero].diff() < 0).all())


# ------------------------------------------------------------------ ALS


def test_als_is_where_no_single_row_can_be_better(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = solved(ALS, train, 3, 0.05, 0.2, num_sweeps=60)
    x = matrix(train).double()
    size = torch.cat([x.sum(1) + 0.2 * 14, x.sum(0) + 0.2 * 10])

    def loss(table: Tensor) -> Tensor:
        score = table[:10] @ table[10:].t()
        fit_loss = (x * (1 - score) ** 2).sum() + 0.2 * (score**2).sum()
        return fit_loss + 0.05 * (size * table.square().sum(1)).sum()

    encoding = model.encoding(model.prepare(test))
    table = torch.cat([encoding.user, encoding.item]).double().requires_grad_()
    loss(table).backward()
    assert float(table.grad.abs().max()) < 2e-3
    assert float(loss(table)) < 0.9 * float(loss(torch.zeros(24, 3, dtype=torch.float64)))


def test_als_begins_where_the_seed_says(make_splits: SplitBuilder) -> None:
    train, val, test = make_splits()
    scores = []
    for _ in range(2):
        torch.manual_seed(4)
        model = ALS(train, 3, [0.03, 0.3], 0.1, num_sweeps=2)
        fit(model, train, val, monitor="ndcg@3")
        scores.append(model.score_all(test, torch.arange(10)))
    assert torch.equal(*scores)


# ------------------------------------------------------------------ what they share


@pytest.mark.parametrize("kind", [EASE, ItemKNN, ALS])
def test_a_search_that_is_interrupted_chooses_nothing(
    kind: type, make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = make_splits()
    grid = {"num_neighbors": 2, "shrinkage": [1.0, 2.0]} if kind is ItemKNN else {"l2": [1.0, 2.0]}
    if kind is ALS:
        grid |= {"hidden_channels": 4, "unobserved_weight": 0.1, "num_sweeps": 2}
    torch.manual_seed(0)
    model = kind(train, **grid)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with monkeypatch.context() as patch:
        figures = iter([{"ndcg@3": 0.2}])
        patch.setattr("pyg_kgrec.training.ranking", lambda *args: next(figures))
        with pytest.raises(StopIteration):
            fit(model, train, val, monitor="ndcg@3", progress=False)
    assert model.choice == {}
    with pytest.raises(ValueError, match="has not been solved, expected a call of fit"):
        model.recommend(train, k=3)
    fit(model, train, val, monitor="ndcg@3", progress=False)
    torch.manual_seed(0)
    again = kind(train, **grid)
    assert all(torch.equal(weight, before[name]) for name, weight in again.state_dict().items())
    fit(again, train, val, monitor="ndcg@3", progress=False)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("model", SOLVED)
def test_what_the_history_adds_is_the_score(make_splits: SplitBuilder, model: type) -> None:
    train, _, test = make_splits()
    one = solved(model, train)
    for user, item in ((3, 4), (0, 13)):
        why = one.explain(test, torch.tensor(user), torch.tensor(item))
        score = float(one.score(test, torch.tensor([user]), torch.tensor([item])))
        assert why.score == pytest.approx(score, rel=1e-4, abs=1e-6)
        assert why.units["weight"].sum() == pytest.approx(score, rel=1e-4, abs=1e-6)
        if model is not ALS:  # whose users are solved anew for what is left
            assert why.units["contribution"].sum() == pytest.approx(score, rel=1e-4, abs=1e-6)
        assert set(why.units["kind"]) <= {"history"}
        mine = test[INTERACTS].edge_index
        had = {f"Item <{i}>" for u, i in mine.t().tolist() if u == user}
        assert set(why.units["name"]) == had
        lowers = bool((why.units["contribution"] > 0).any())
        assert ("of your history" in str(why)) == lowers
        assert ("no single fact explains this" in str(why)) != lowers
        assert "&lt;" in why._repr_html_()
        assert why.to_hetero().edge_label_index.flatten().tolist() == [user, item]


@pytest.mark.parametrize("model", [EASE, ItemKNN, RP3beta])
def test_without_an_item_of_the_history_the_score_loses_what_it_added(
    make_splits: SplitBuilder, model: type
) -> None:
    train, _, test = make_splits()
    one = solved(model, train)
    best = one.recommend(test, torch.tensor([3]), k=1)[0][0]
    unit = one.explain(test, torch.tensor(3), best).units.iloc[0]
    item = test[ITEM].name.index(unit["name"])
    before = float(one.score(test, torch.tensor([3]), best))
    pairs = test[INTERACTS].edge_index
    left = ~((pairs[0] == 3) & (pairs[1] == item))
    test[INTERACTS].edge_index, test[INTERACTS].time = pairs[:, left], test[INTERACTS].time[left]
    after = float(one.score(test, torch.tensor([3]), best))
    assert before > after
    assert before - after == pytest.approx(unit["contribution"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("model", SOLVED)
def test_the_history_has_a_row_per_choice_and_the_best_is_kept(
    make_splits: SplitBuilder, model: type
) -> None:
    train, val, _ = make_splits(num_users=30, num_items=40, per_user=8)
    one = ALS(train, 3, [0.03, 0.3], num_sweeps=2) if model is ALS else model(train)
    history = fit(one, train, val, monitor="recall@3", progress=False)
    assert history["epoch"].tolist() == list(range(len(history)))
    assert not history.duplicated(list(one.names)).any()
    best = history.loc[history["recall@3"].idxmax()]
    assert one.choice == {name: best[name] for name in one.names}
    assert evaluate(one, val, k=3)["recall@3"] == pytest.approx(best["recall@3"])
    assert history["recall@3"].nunique() > 1
    assert not one.training


@pytest.mark.parametrize("model", SOLVED)
def test_nothing_is_answered_before_it_is_solved(make_splits: SplitBuilder, model: type) -> None:
    train, val, test = make_splits()
    one = model(train)
    assert one.choice == {}
    for ask in (
        lambda: one.recommend(test, ["u1"]),
        lambda: one.score_all(test, ["u1"]),
        lambda: evaluate(one, val, k=3),
        lambda: one.explain(test, "u1", 101),
    ):
        with pytest.raises(ValueError, match="has not been solved, expected a call of fit"):
            ask()
    fit(one, train)
    one.recommend(test, ["u1"])
    one.reset_parameters()
    with pytest.raises(ValueError, match="has not been solved"):
        one.recommend(test, ["u1"])


@pytest.mark.parametrize("model", SOLVED)
def test_weights_that_change_are_seen(make_splits: SplitBuilder, model: type) -> None:
    train, _, test = make_splits()
    one, other = solved(model, train), solved(model, train)
    ready, users = one.prepare(test), torch.arange(10)
    before = one.score_all(ready, users)
    with torch.no_grad():
        for buffer in one.buffers():
            if buffer.dtype == torch.float32:
                buffer.mul_(0.5)
    assert not torch.allclose(one.score_all(ready, users), before)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one.score_all(ready, users), before)


@pytest.mark.parametrize("model", SOLVED)
def test_another_order_of_items_is_learned_from_by_raw_id(make_splits: SplitBuilder, model: type) -> None:
    train, _, test = make_splits()
    torch.manual_seed(0)
    first, second = model(train), model(train)
    second.load_state_dict(first.state_dict())
    fit(first, train)
    fit(second, permuted(train))
    users = list(test[USER].id)
    torch.testing.assert_close(
        second.score_all(test, users), first.score_all(test, users), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("model", "settings", "error", "message"),
    [
        (EASE, {"l2": -1}, ValueError, "l2 is -1, expected a finite number above 0"),
        (EASE, {"l2": 0}, ValueError, "l2 is 0, expected a finite number above 0"),
        (EASE, {"l2": math.nan}, ValueError, "l2 is nan"),
        (EASE, {"l2": math.inf}, ValueError, "l2 is inf"),
        (EASE, {"l2": []}, ValueError, "l2 is empty, expected one number"),
        (EASE, {"l2": "many"}, TypeError, "l2 is 'many', expected a number or a list"),
        (EASE, {"l2": True}, TypeError, "l2 is True"),
        (EASE, {"l2": ["a" * 10**6]}, TypeError, "l2 is 'aaa.*expected a number"),
        (EASE, {"l2": range(1, 10**4)}, ValueError, "l2 has 9999 values, expected at most 1000"),
        (EASE, {"knowledge": -0.1}, ValueError, "knowledge is -0.1, expected a finite number at least 0"),
        (EASE, {"knowledge": ()}, ValueError, "knowledge is empty"),
        (EASE, {"power": -1}, ValueError, "power is -1"),
        (EASE, {"max_memory": 0}, ValueError, "max_memory is 0, expected above 0"),
        (EASE, {"max_memory": "1"}, TypeError, "max_memory is '1'"),
        (ItemKNN, {"num_neighbors": 0}, ValueError, "num_neighbors is 0"),
        (ItemKNN, {"num_neighbors": [1.5]}, TypeError, "num_neighbors is 1.5, expected whole numbers"),
        (ItemKNN, {"num_neighbors": []}, ValueError, "num_neighbors is empty"),
        (ItemKNN, {"shrinkage": -1}, ValueError, "shrinkage is -1"),
        (ItemKNN, {"weights": "log"}, ValueError, "weights is 'log', expected 'tf-idf' or 'bm25'"),
        (RP3beta, {"alpha": 0}, ValueError, "alpha is 0"),
        (RP3beta, {"beta": -1}, ValueError, "beta is -1"),
        (ALS, {"hidden_channels": 0}, ValueError, "hidden_channels is 0"),
        (ALS, {"num_sweeps": 1.5}, TypeError, "num_sweeps is 1.5"),
        (ALS, {"l2": -1}, ValueError, "l2 is -1"),
        (ALS, {"unobserved_weight": []}, ValueError, "unobserved_weight is empty"),
    ],
)
def test_bad_numbers_are_one_sentence(
    make_splits: SplitBuilder, model: type, settings: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        model(make_splits()[0], **settings)
    assert len(str(caught.value)) <= 400


def test_a_grid_without_validation_is_refused_and_a_default_is_none(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    for model, settings in (
        (EASE, {"l2": (1, 2)}),
        (ItemKNN, {"shrinkage": [1, 2]}),
        (RP3beta, {"beta": [0, 1]}),
    ):
        one = model(train, **settings)
        with pytest.raises(ValueError, match="has 2 values to choose from and fit got no validation store"):
            fit(one, train)
        assert one.choice == {}
    assert solved(EASE, train).choice == {"l2": 100, "knowledge": 0, "power": 0}
    assert solved(EASE, train, knowledge=True).choice == {"l2": 100, "knowledge": 1, "power": 0}
    assert solved(ItemKNN, train).choice == {"num_neighbors": 200, "shrinkage": 10}
    assert solved(RP3beta, train).choice == {"num_neighbors": 100, "alpha": 0.8, "beta": 0.6}
    assert solved(ALS, train).choice == {"l2": 0.03, "unobserved_weight": 0.1}


def test_grids_of_any_kind_are_kept_by_a_file(make_splits: SplitBuilder, tmp_path) -> None:
    train, val, test = make_splits()
    model = EASE(train, np.array([1, 2, 5]), knowledge=torch.tensor([0.0, 1.0]), power=np.float32(0.5))
    fit(model, train, val, monitor="ndcg@3")
    model.save(tmp_path / "ease.pt")
    loaded = EASE.load(tmp_path / "ease.pt", test)
    assert loaded.settings == {
        "l2": (1.0, 2.0, 5.0),
        "knowledge": (0.0, 1.0),
        "power": 0.5,
        "max_memory": None,
    }
    assert loaded.choice == model.choice
    assert loaded.signature.trained is not None


def test_values_between_the_best_and_its_neighbours() -> None:
    assert refined(10.0, [1.0, 10.0, 100.0]) == [3.2, 32.0]
    assert refined(1.0, [1.0, 10.0]) == [3.2]
    assert refined(0.0, [0.0, 1.0]) == []
    assert read_grid("k", [3, 3, 2], whole=True) == [3, 2]


def test_a_model_with_weights_of_its_own_is_trained_as_ever(make_splits: SplitBuilder) -> None:
    train, val, _ = make_splits()
    assert BPRMF(train).learns()
    assert not EASE(train).learns()
    frozen = BPRMF(train).requires_grad_(False)
    assert list(fit(frozen, train, val, monitor="ndcg@3").columns) == ["epoch"]
    with pytest.raises(ValueError, match="EASE writes no checkpoints"):
        fit(EASE(train), train, resume=__file__)


@pytest.mark.slow
def test_the_figures_of_movielens(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "ml-100k"
    if not folder.is_dir():
        pytest.skip(f"no MovieLens 100K at {folder}")
    train, val, test = MovieLens100K(str(tmp_path), source=str(folder)).split()
    for settings, figures in (
        ({}, (0.2591, 0.3475, 0.3988)),
        ({"knowledge": 1, "power": 0}, (0.2599, 0.3463, 0.3960)),
    ):
        model = EASE(train, 300, **settings)
        found = (
            fit(model, train, val)["ndcg@10"][0],
            *map(evaluate(model, test).get, ("ndcg@10", "recall@20")),
        )
        assert found == pytest.approx(figures, abs=6e-5)


# ------------------------------------------------------------------ other precisions


@pytest.fixture(params=[torch.float16, torch.bfloat16, torch.float64], ids=str)
def precision(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """A precision, after which the default is what it was."""
    before = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize("kind", [EASE, ItemKNN, RP3beta, ALS, LightGCN])
@pytest.mark.parametrize("cast", [True, False])
def test_models_of_another_precision_answer(
    kind: type, cast: bool, precision: torch.dtype, make_splits: SplitBuilder
) -> None:
    train, _, test = make_splits()
    if not cast:
        torch.set_default_dtype(precision)
    if kind is ALS and precision.itemsize < 4:
        with pytest.raises(TypeError, match="expected float32 or float64, in which least squares are solved"):
            solved(kind, train).to(precision).recommend(test, torch.tensor([0]))
        return
    if kind is LightGCN:
        model = kind(train, hidden_channels=4)
        model = model.to(precision) if cast else model
    else:
        model = solved(kind, train)
        model = model.to(precision) if cast else model
    user = torch.tensor([0, 1])
    item, score = model.recommend(test, user, k=3)
    frame = model.recommend(test, user, k=3, as_frame=True)
    assert frame["score"].tolist() == score.flatten().tolist()
    assert model.similar_items(test, user, k=2, as_frame=True)["score"].notna().all()
    assert model.similar_users(test, user, k=2, as_frame=True)["score"].notna().all()
    torch.testing.assert_close(model.score(test, user, item[:, 0]), score[:, 0], rtol=0.02, atol=0.02)
    assert 0 <= evaluate(model, test, k=3)["ndcg@3"] <= 1
    why = model.explain(test, user[:1], k=1)
    assert len(why[0].units)
    assert len(why.to_frame())
    if kind is not LightGCN:
        assert model.recommend_session(item[0], k=2, as_frame=True)["score"].notna().all()


@pytest.mark.parametrize("kind", [Popularity, Blend])
def test_what_needs_no_weights_answers_in_another_precision(
    kind: type, precision: torch.dtype, make_splits: SplitBuilder
) -> None:
    train, _, test = make_splits()
    model = Popularity(train) if kind is Popularity else Blend([solved(EASE, train), solved(RP3beta, train)])
    if kind is Blend:
        fit(model, train)
    frame = model.to(precision).recommend(test, torch.tensor([0, 1]), k=3, as_frame=True)
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert frame["score"].notna().all()


@pytest.mark.parametrize("block", ["dense", "sparse", "either"])
@pytest.mark.parametrize(
    "make", [ItemKNN, partial(ItemKNN, weights="bm25"), partial(RP3beta, beta=[0.0, 0.6])]
)
def test_what_serves_several_choices_changes_none(
    make_splits: SplitBuilder, make: Any, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = make_splits(num_users=11, per_user=5)
    found = []
    for kind, kept in (("whole", 0), (block, 0), (block, neighbours._KEPT)):
        with monkeypatch.context() as patch:
            in_blocks(patch, kind, kept)
            model = make(train)
            fit(model, train, val, monitor="ndcg@5", progress=False)
        found.append((model.choice, model.nearness, model.neighbour.masked_fill(model.nearness == 0, -1)))
    for choice, nearness, neighbour in found[1:]:
        assert choice == found[0][0]
        torch.testing.assert_close(nearness, found[0][1])
        assert torch.equal(neighbour, found[0][2])


@pytest.mark.parametrize(
    ("make", "before", "after"),
    [
        (partial(EASE, l2=[10.0]), "l2=10.0, knowledge=None)", "l2=10, knowledge=None)"),
        (partial(EASE, knowledge=[0.1]), "l2=None, knowledge=0.1)", "l2=100, knowledge=0.1, power=0)"),
        (ItemKNN, "num_neighbors=None)", "num_neighbors=200, shrinkage=10)"),
        (RP3beta, "num_neighbors=None)", "num_neighbors=100, alpha=0.8, beta=0.6)"),
        (
            partial(ALS, hidden_channels=8),
            "hidden_channels=8)",
            "hidden_channels=8, l2=0.03, unobserved_weight=0.1)",
        ),
    ],
)
def test_a_solved_model_says_what_was_chosen(
    make_splits: SplitBuilder, make: Any, before: str, after: str
) -> None:
    train, _, _ = make_splits()
    model = make(train)
    assert repr(model).endswith(", " + before)
    fit(model, train, progress=False)
    assert repr(model).endswith(", " + after)
