from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, EASE, KTUP, MKR, KGRec, Popularity, Recommender, choose_threshold, evaluate, fit
from pyg_kgrec.data import INTERACTS, ITEM, RELATES, USER, read_atomic
from pyg_kgrec.evaluation import Ranks, best_threshold
from pyg_kgrec.models.encoding import DotProduct, Encoding
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.testing import build_splits, build_store
from pyg_kgrec.transforms import ClickThroughSplit, RandomSplit

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]
METRICS = ("recall", "ndcg", "precision", "hit", "mrr", "map", "coverage")


class Table(Recommender):
    """Scores that were written down, to be ranked."""

    def __init__(self, data: HeteroData, scores: Tensor) -> None:
        super().__init__(data)
        self.scores = scores

    def reset_parameters(self) -> None:
        pass

    def encode(self, inputs: Inputs) -> Written:
        return Written(self.scores)


@dataclass(frozen=True)
class Written(Encoding):
    """The scores of users ``[num_users, num_items]``."""

    scores: Tensor

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        return self.scores[user, item]

    def score_all(self, user: Tensor) -> Tensor:
        return self.scores[user]

    @property
    def item_embeddings(self) -> Tensor:
        return self.scores.t()


def by_hand(
    scores: list[list[float]],
    train: set[tuple[int, int]],
    seen: set[tuple[int, int]],
    relevant: set[tuple[int, int]],
    k: int,
) -> dict[str, float]:
    """The seven metrics as the textbook has them, one user and one rank at a time."""
    rows: list[list[float]] = []
    shown: set[int] = set()
    for user, row in enumerate(scores):
        wanted = {i for u, i in relevant if u == user}
        if not wanted:
            continue
        left = [i for i in range(len(row)) if (user, i) not in train | seen]
        ranked = sorted(left, key=lambda i: -row[i])[:k]
        shown |= set(ranked)
        hits = [item in wanted for item in ranked]
        dcg = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
        best = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted))))
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        first = next((rank + 1 for rank, hit in enumerate(hits) if hit), math.inf)
        rows.append(
            [
                sum(hits) / len(wanted),
                dcg / best,
                sum(hits) / k,
                float(any(hits)),
                1 / first,
                sum(precisions) / min(k, len(wanted)),
            ]
        )
    means = np.mean(rows, axis=0).tolist()
    coverage = len(shown) / len(scores[0])
    return {f"{name}@{k}": value for name, value in zip(METRICS, [*means, coverage])}


def store_of(
    num_users: int,
    num_items: int,
    train: set[tuple[int, int]],
    seen: set[tuple[int, int]],
    labels: dict[tuple[int, int], int],
) -> HeteroData:
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = num_users, num_items

    def pairs(rows: Any) -> Tensor:
        return torch.tensor(sorted(rows), dtype=torch.long).view(-1, 2).t()

    data[INTERACTS].edge_index = pairs(train)
    data[INTERACTS].seen_edge_index = pairs(seen)
    data[INTERACTS].edge_label_index = pairs(labels)
    data[INTERACTS].edge_label = torch.tensor([labels[pair] for pair in sorted(labels)])
    return data


@st.composite
def problems(draw: st.DrawFn) -> tuple[HeteroData, Tensor, dict[str, set[tuple[int, int]]], int]:
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    kind = st.sampled_from(["train", "seen", "positive", "negative", "none", "none"])
    part = {(u, i): draw(kind) for u in range(num_users) for i in range(num_items)}
    part[0, 0], part[0, 1] = "train", "positive"
    sets = {name: {pair for pair, k in part.items() if k == name} for name in set(part.values())}
    seed = draw(st.integers(0, 10**6))
    order = torch.rand(num_users, num_items, generator=torch.Generator().manual_seed(seed)).argsort(1)
    positive, negative = sets["positive"], sets.get("negative", set())
    labels = dict.fromkeys(positive, 1) | dict.fromkeys(negative, 0)
    data = store_of(num_users, num_items, sets["train"], sets.get("seen", set()), labels)
    return data, order.float(), sets, draw(st.integers(1, num_items))


@settings(max_examples=120, deadline=None)
@given(problem=problems())
def test_metrics_are_those_of_an_evaluator_written_apart(
    problem: tuple[HeteroData, Tensor, dict[str, set[tuple[int, int]]], int],
) -> None:
    data, scores, sets, k = problem
    result = evaluate(Table(data, scores), data, k=k, batch_size=2)
    expected = by_hand(scores.tolist(), sets["train"], sets.get("seen", set()), sets["positive"], k)
    assert list(result) == [f"{name}@{k}" for name in METRICS]
    assert result == pytest.approx(expected, abs=1e-6)
    users = evaluate(Table(data, scores), data, k=(1, k), per_user=True, batch_size=2)
    means = users[[f"{name}@{k}" for name in METRICS[:6]]].mean().to_dict()
    assert means == pytest.approx({name: expected[name] for name in means}, abs=1e-12)
    for user, row in users.iterrows():
        alone = {pair for pair in sets["positive"] if pair[0] == user}
        assert row["to_find"] == len(alone)
        assert row["interactions"] == sum(u == user for u, _ in sets["train"])
        by_user = by_hand(scores.tolist(), sets["train"], sets.get("seen", set()), alone, k)
        assert {name: row[name] for name in means} == pytest.approx({name: by_user[name] for name in means})


def test_several_lengths_are_those_one_by_one(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8)
    together = evaluate(model, test, k=[3, 10, 5])
    apart: dict[str, float] = {}
    for k in (3, 10, 5):
        apart |= evaluate(model, test, k=k)
    assert together == pytest.approx(apart)
    assert len(together) == 21


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_the_batch_size_does_not_matter(make_splits: Callable[..., Splits], batch_size: int) -> None:
    train, _, test = make_splits()
    model = BPRMF(train, hidden_channels=8)
    assert evaluate(model, test, k=5, batch_size=batch_size) == pytest.approx(evaluate(model, test, k=5))


def test_the_default_lengths_are_ten_and_twenty(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits(num_items=30)
    result = evaluate(Popularity(train), test)
    assert {name.split("@")[1] for name in result} == {"10", "20"}
    assert all(type(value) is float for value in result.values())


def test_the_graph_is_encoded_once(
    make_splits: Callable[..., Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _, test = make_splits()
    model, stores = Table(train, torch.rand(10, 14)), []
    encode = Table.encode
    monkeypatch.setattr(Table, "encode", lambda self, inputs: stores.append(inputs) or encode(self, inputs))
    first = evaluate(model, test, k=(3, 5), batch_size=2)
    assert len(stores) == 1
    assert (
        evaluate(model, stores[0], k=(3, 5), batch_size=2) == first
    )  # nor is a prepared store encoded again
    assert len(stores) == 1


def test_perfect_and_hopeless_scores(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits()
    scores = torch.zeros(10, 14)
    user, item = test[INTERACTS].edge_label_index
    scores[user, item] = 1
    best = evaluate(Table(train, scores), test, k=4)
    assert best["precision@4"] == pytest.approx(1 / 4)
    assert [best[f"{n}@4"] for n in ("recall", "ndcg", "hit", "mrr", "map")] == pytest.approx([1] * 5)
    worst = evaluate(Table(train, -scores), test, k=4)
    assert [worst[f"{n}@4"] for n in METRICS[:6]] == [0] * 6


def test_users_without_a_label_are_left_out() -> None:
    data = store_of(3, 4, {(0, 0), (1, 0), (2, 0)}, set(), {(0, 1): 1, (1, 1): 0})
    scores = torch.tensor([[9.0, 8, 0, 0], [9, 8, 0, 0], [0, 0, 8, 9]])
    result = evaluate(Table(data, scores), data, k=1)
    assert result["hit@1"] == 1
    assert result["coverage@1"] == 1 / 4


def test_padding_is_no_item() -> None:
    # The user has seen all but two of five items: three places of the list stay empty.
    data = store_of(1, 5, {(0, 0), (0, 1)}, {(0, 2)}, {(0, 3): 1})
    result = evaluate(Table(data, torch.arange(5.0)[None]), data, k=5)
    assert result["coverage@5"] == pytest.approx(2 / 5)
    assert result["precision@5"] == pytest.approx(1 / 5)
    assert result["mrr@5"] == pytest.approx(1 / 2)
    assert result["recall@5"] == 1


def test_a_label_given_twice_counts_once() -> None:
    data = store_of(1, 4, {(0, 0)}, set(), {(0, 1): 1, (0, 2): 1})
    expected = evaluate(Table(data, torch.arange(4.0)[None]), data, k=2)
    store = data[INTERACTS]
    store.edge_label_index = torch.cat([store.edge_label_index, store.edge_label_index], dim=1)
    store.edge_label = store.edge_label.repeat(2)
    assert evaluate(Table(data, torch.arange(4.0)[None]), data, k=2) == expected


def test_the_mode_of_the_model_is_restored(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8).train()
    first = evaluate(model, test, k=5)
    assert model.training
    assert first == evaluate(model.eval(), test, k=5)
    assert not model.training


def test_bad_arguments_are_refused(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits()
    model = Popularity(train)
    for k in (0, -1, 15, True, [5, 99], 2.5, "5", ["5"], None):
        kind = ValueError if (k in (0, -1, 15) and k is not True) or k == [5, 99] else TypeError
        with pytest.raises(kind, match="expected a whole number from 1 to the 14 items"):
            evaluate(model, test, k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k is 15, expected a whole number from 1 to the 14 items"):
        evaluate(model, test, k=15)
    with pytest.raises(ValueError, match="k is empty"):
        evaluate(model, test, k=[])
    unsplit = copy.copy(test)
    for key in [key for key in test[INTERACTS].keys() if key.startswith("edge_label")]:  # noqa: SIM118
        del unsplit[INTERACTS][key]
    with pytest.raises(ValueError, match="no edge_label_index to be ranked"):
        evaluate(model, unsplit, k=5)
    nothing = copy.copy(test)
    nothing[INTERACTS].edge_label = torch.zeros(10)
    with pytest.raises(ValueError, match="holds no pair to be found"):
        evaluate(model, nothing, k=5)
    strange = copy.copy(test)
    strange.relation_name = ["a", "b", "c"]
    with pytest.raises(ValueError, match="differs from the relations of training"):
        evaluate(model, strange, k=5)


def test_metrics_per_user_have_the_means_of_all(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits(num_users=30, num_items=25)
    model = KGRec(train, hidden_channels=8)
    users = evaluate(model, test, k=(3, 10), per_user=True, batch_size=7)
    means = evaluate(model, test, k=(3, 10))
    assert list(users.columns) == [
        "to_find",
        "interactions",
        *(n for n in means if not n.startswith("coverage")),
    ]
    assert users.mean().to_dict() | {n: means[n] for n in means if n.startswith("coverage")} == pytest.approx(
        means | users[["to_find", "interactions"]].mean().to_dict(), abs=1e-6
    )
    assert users.index.name == "user"
    assert users.index.tolist() == list(test[USER].id)
    pd.testing.assert_frame_equal(users, evaluate(model, model.prepare(test), k=(3, 10), per_user=True))


def test_users_without_ids_are_numbered_and_those_without_a_label_have_no_row() -> None:
    data = store_of(3, 4, {(0, 0), (1, 0), (2, 0), (2, 1)}, set(), {(0, 1): 1, (1, 1): 0, (2, 3): 1})
    scores = torch.tensor([[9.0, 8, 0, 0], [9, 8, 0, 0], [0, 0, 9, 8]])
    users = evaluate(Table(data, scores), data, k=2, per_user=True)
    assert users.index.tolist() == [0, 2]
    assert users["interactions"].tolist() == [1, 2]
    assert users["mrr@2"].tolist() == [1, 1 / 2]


def test_a_pair_adds_its_part_to_the_ndcg_of_its_user(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits(num_users=30, num_items=25)
    model = KGRec(train, hidden_channels=8)
    ranks = Ranks.of(model, model.prepare(test), 10)
    pairs, users = ranks.per_pair((3, 10)), ranks.per_user((3, 10))
    for k in (3, 10):
        assert pairs.groupby("user")[f"ndcg@{k}"].sum().to_numpy() == pytest.approx(
            users[f"ndcg@{k}"].to_numpy()
        )
        assert pairs.groupby("user")[f"hit@{k}"].mean().to_numpy() == pytest.approx(
            users[f"recall@{k}"].to_numpy()
        )
    seen = train[INTERACTS].edge_index.unique(dim=1)
    assert pairs["item_interactions"].tolist() == [int((seen[1] == item).sum()) for item in pairs["item"]]
    assert pairs["user_interactions"].tolist() == [int((seen[0] == user).sum()) for user in pairs["user"]]


@pytest.mark.parametrize("default", [1024, 7])
def test_means_are_the_same_to_the_last_bit_whatever_the_batches(
    make_splits: Callable[..., Splits], monkeypatch: pytest.MonkeyPatch, default: int
) -> None:
    train, _, test = make_splits(num_users=60, num_items=25)
    monkeypatch.setattr("pyg_kgrec.evaluation.rows_at_once", lambda items, asked=None: asked or default)
    model = Popularity(train)
    whole = evaluate(model, test, k=(3, 7))
    for batch_size in (1, 3, 7, 8, 20, 100):
        assert evaluate(model, test, k=(3, 7), batch_size=batch_size) == whole


def test_metrics_per_user_are_those_of_rankings(make_splits: Callable[..., Splits]) -> None:
    test = make_splits()[2]
    with pytest.raises(ValueError, match="per_user is True with task 'ctr', expected task='ranking'"):
        evaluate(Popularity(test), test, task="ctr", per_user=True)


def test_popularity_on_movielens(data_root: Path) -> None:
    splits = ("train", "valid", "test")
    train, _, test = read_atomic(data_root / "ml-100k", name="ml-100k", splits=splits)
    result = evaluate(Popularity(train), test, k=(10, 20))
    expected = {
        "ndcg@10": 0.1498,
        "recall@10": 0.1255,
        "precision@10": 0.1174,
        "hit@10": 0.6299,
        "mrr@10": 0.2825,
        "map@10": 0.0714,
        "ndcg@20": 0.1607,
        "recall@20": 0.1848,
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def test_click_through(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    test = ClickThroughSplit(seed=0)(data)[2]
    user, item = test[INTERACTS].edge_label_index
    label = test[INTERACTS].edge_label
    model = MKR(test, hidden_channels=4)
    score = model.score(test, user, item)
    ahead = score[label == 1].unsqueeze(1) - score[label == 0]
    expected = (ahead > 0).float().mean() + (ahead == 0).float().mean() / 2
    found = evaluate(model, test, task="ctr")
    assert found["auc"] == pytest.approx(float(expected), abs=1e-6)
    assert found["acc"] == pytest.approx(float(((score > 0) == (label == 1)).float().mean()))


def test_large_scores_are_told_apart(
    make_store: Callable[..., HeteroData], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = ClickThroughSplit(seed=0)(make_store())[2]
    model = MKR(test, hidden_channels=4)
    order = torch.arange(float(test[INTERACTS].edge_label.numel()))
    score = 200 + torch.where(test[INTERACTS].edge_label == 1, order + 1000, order)
    monkeypatch.setattr(DotProduct, "score", lambda *args: score)
    assert evaluate(model, test, task="ctr") == {"auc": 1.0, "acc": pytest.approx(0.5, abs=0.3)}


def test_click_through_needs_both_labels(make_splits: Callable[..., Any]) -> None:
    test = make_splits()[2]
    model = MKR(test, hidden_channels=4)
    with pytest.raises(ValueError, match="has no edge_label, expected pairs labelled 0 and 1"):
        evaluate(model, test, task="ctr")
    test[INTERACTS].edge_label = torch.ones(test[INTERACTS].edge_label_index.size(1))
    with pytest.raises(ValueError, match="holds one kind of label, expected both"):
        evaluate(model, test, task="ctr")
    with pytest.raises(ValueError, match="holds one kind of label, expected both"):
        fit(model, make_splits()[0], test, monitor="auc", progress=False)
    with pytest.raises(ValueError, match="task is 'rank', expected 'ranking' or 'ctr'"):
        evaluate(model, test, task="rank")  # type: ignore[arg-type]


def labelled(
    make_store: Callable[..., HeteroData], scores: list[float], labels: list[int]
) -> tuple[Table, HeteroData]:
    """A model with these scores for the first pairs of a store, and the store with these labels."""
    test = ClickThroughSplit(seed=0)(make_store())[2]
    pair = test[INTERACTS].edge_label_index[:, : len(labels)]
    test[INTERACTS].edge_label_index = pair
    test[INTERACTS].edge_label = torch.tensor(labels, dtype=torch.float32)
    table = torch.zeros(test[USER].num_nodes, test[ITEM].num_nodes)
    table[pair[0], pair[1]] = torch.tensor(scores, dtype=torch.float32)
    return Table(test, table), test


@pytest.mark.parametrize(
    ("scores", "labels", "expected", "acc"),
    [
        ([-4, -3, -2, -1], [0, 0, 1, 1], -2.5, 1.0),  # no score is above 0
        ([1, 2, 3, 4, 5], [0, 1, 0, 1, 1], 1.5, 0.8),  # 3.5 is as good: the lower of two
        ([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 1], 3.5, 4 / 6),  # 1.5, 3.5, 5.5
        ([2, 2, 2], [0, 1, 1], 0.0, 2 / 3),  # everything is 1
        ([2, 2, 2], [0, 0, 1], 4.0, 2 / 3),
        ([1.0, 1.0 + 2**-23], [0, 1], 1.0, 1.0),  # no number of this type between
        ([-9e16, 9e16], [0, 1], 0.0, 1.0),
    ],
)
def test_the_threshold_of_the_highest_accuracy(
    scores: list[float], labels: list[int], expected: float, acc: float, make_store: Callable[..., HeteroData]
) -> None:
    model, val = labelled(make_store, scores, labels)
    assert model.threshold == 0
    assert choose_threshold(model, val) == model.threshold == pytest.approx(expected)
    assert evaluate(model, val, task="ctr")["acc"] == pytest.approx(acc)
    assert evaluate(model, val, task="ctr", threshold=10**39)["acc"] == pytest.approx(
        labels.count(0) / len(labels)
    )


@given(pairs=st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=12))
def test_no_threshold_is_better(pairs: list[tuple[int, bool]]) -> None:
    score, label = (torch.tensor(column) for column in zip(*pairs))

    def right(threshold: float) -> int:
        return int(((score > threshold) == label).sum())

    found = best_threshold(score.float(), label.long())
    assert right(found) == max(map(right, [x / 2 for x in range(-11, 11)]))


@pytest.mark.parametrize(
    ("threshold", "error", "match"),
    [
        (math.nan, ValueError, "threshold is nan, expected a finite number"),
        pytest.param(10**400, ValueError, "^threshold is .{,150}, expected a finite number", id="huge"),
        ("high", TypeError, "threshold is 'high', expected a number"),
        (True, TypeError, "threshold is True, expected a number"),
    ],
)
def test_a_threshold_is_a_number(
    threshold: Any, error: type[Exception], match: str, make_store: Callable[..., HeteroData], tmp_path: Path
) -> None:
    test = ClickThroughSplit(seed=0)(make_store())[2]
    model = BPRMF(test, hidden_channels=4)
    with pytest.raises(error, match=match):
        evaluate(model, test, task="ctr", threshold=threshold)
    model.threshold = threshold
    with pytest.raises(error, match=match):
        model.save(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="threshold is 0\\.5, which a ranking has no use for"):
        evaluate(model, test, threshold=0.5)


@pytest.mark.parametrize("monitor", ["auc", "acc"])
@pytest.mark.parametrize("cls", [BPRMF, Popularity, KTUP])
def test_training_for_click_through_chooses_the_threshold(
    cls: type[Recommender], monitor: str, make_store: Callable[..., HeteroData], tmp_path: Path
) -> None:
    train, val, test = ClickThroughSplit(seed=0)(make_store())
    model = cls(train)
    history = fit(model, train, val, monitor=monitor, max_epochs=2, progress=False)
    chosen = model.threshold
    assert choose_threshold(model, val) == chosen
    found = evaluate(model, val, task="ctr")
    if len(history):
        assert found["acc"] == pytest.approx(history["acc"][history[monitor].argmax()])
    model.save(tmp_path / "model.pt")
    loaded = cls.load(tmp_path / "model.pt")
    assert loaded.threshold == chosen
    assert evaluate(loaded, test, task="ctr") == evaluate(model, test, task="ctr")
    fit(model, train, max_epochs=1, progress=False)
    assert model.threshold == 0


def test_logits_keep_the_threshold_0(make_store: Callable[..., HeteroData]) -> None:
    train, val, _ = ClickThroughSplit(seed=0)(make_store())
    cases: list[tuple[Any, bool]] = [("bce", True), ("softmax", False)]
    for loss, logits in cases:
        model = MKR(train, hidden_channels=4, loss=loss)
        fit(model, train, val, monitor="auc", max_epochs=1, progress=False)
        assert model.scores_are_logits == logits
        assert (model.threshold == 0) == logits


@pytest.mark.parametrize(
    ("metrics", "task", "message"),
    [
        (["recal"], "ranking", "metrics is 'recal', expected 'recall', 'ndcg'"),
        (["ndcg", "auc"], "ranking", "metrics is 'auc', expected"),
        (["ndcg"], "ctr", "metrics is 'ndcg', expected 'auc' or 'acc'"),
        ([], "ranking", "metrics is empty, expected at least one name"),
        ("ndcg", "ranking", "metrics is 'ndcg', expected a list of names"),
        ([3], "ranking", "metrics is 3, expected"),
    ],
)
def test_metrics_that_are_none_are_refused(metrics: Any, task: Any, message: str) -> None:
    train, _, test = build_splits()
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate(Popularity(train), test, k=3, task=task, metrics=metrics)


def test_coverage_is_no_users() -> None:
    train, _, test = build_splits()
    with pytest.raises(ValueError, match="metrics is 'coverage', expected"):
        evaluate(Popularity(train), test, k=3, metrics=["coverage"], per_user=True)


@pytest.mark.parametrize("kind", [BPRMF, EASE])
def test_warnings_name_the_line_of_the_caller(kind: Any) -> None:
    """Whatever stands between, or the user is sent to a line of the library."""
    store = build_store()
    store[RELATES].edge_index[:, 1], store[RELATES].edge_type[1] = (
        store[RELATES].edge_index[:, 0],
        store[RELATES].edge_type[0],
    )
    train, val, test = RandomSplit(val=0.2, test=0.2, seed=0)(store)
    held = val.clone()
    held[INTERACTS].edge_label_index = torch.cat(
        [val[INTERACTS].edge_label_index, train[INTERACTS].edge_index[:, :1]], dim=1
    )
    for key in [k for k in held[INTERACTS] if k.startswith("edge_label_") and k != "edge_label_index"]:
        del held[INTERACTS][key]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = kind(train)
        fit(model, train, held, max_epochs=1, monitor="ndcg@3", progress=False)
        evaluate(model, held, k=3)
        model.recommend_session(["i0", "unheard of"], k=2, data=test)
    texts = [str(warning.message) for warning in told]
    assert sum("stand there again" in text for text in texts) >= 1
    assert sum("cannot be: they stand in its" in text for text in texts) == 2
    assert sum("are unknown" in text for text in texts) == 1
    assert {warning.filename for warning in told} == {__file__}
