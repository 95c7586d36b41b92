"""Folding in: what is fitted, what is left alone, whom it can serve."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, EASE, KTUP, MKR, Blend, ItemKNN, KGRec, LightGCN, Recommender, fit
from pyg_kgrec.data import INTERACTS, ITEM, USER
from pyg_kgrec.models import folding
from pyg_kgrec.models import inputs as inputs_of_models
from pyg_kgrec.testing import build_splits, warns_once, with_newcomers

pytestmark = pytest.mark.usefixtures("one_thread")

HISTORY = [(10, 0), (10, 2), (10, 4), (11, 1), (11, 3), (11, 3)]
SMALL = {"hidden_channels": 8}


def objective(model: BPRMF, data: HeteroData, row: Tensor, item: list[int]) -> float:
    """What :meth:`Recommender.fold_in` says that it makes small, of one user, by its definition."""
    mean, spread = model.user_encoder.weight.mean(0), model.user_encoder.weight.std(0, correction=0)
    score = model.item_encoder.weight @ row
    others = [j for j in range(14) if j not in item]
    total = model.fold_prior / 2 * ((row - mean) / spread).pow(2).sum()
    for i in item:
        mean_odds = (score[others] - score[i]).exp().mean()
        total = total + softplus((model.objective.num_negatives * mean_odds).log())
    return float(total)


def test_the_row_is_the_most_probable_one() -> None:
    train, val, test = build_splits()
    model = BPRMF(train, **SMALL, loss="softmax", num_negatives=5)
    fit(model, train, val, max_epochs=3, lr=0.05, progress=False, monitor="ndcg@3")
    data = with_newcomers(test, HISTORY)
    row = model.fold_in(data, ["n0"]).user_encoder.weight[-1].detach()
    with torch.no_grad():
        least = objective(model, data, row, [0, 2, 4])
        for seed in range(20):
            step = 0.05 * row.norm() * torch.randn(8, generator=torch.Generator().manual_seed(seed))
            assert objective(model, data, row + step, [0, 2, 4]) > least


@pytest.mark.parametrize(
    "model",
    [
        lambda data: BPRMF(data, **SMALL),
        lambda data: LightGCN(data, **SMALL),
        lambda data: KGRec(data, **SMALL),
        lambda data: MKR(data, **SMALL),
        lambda data: MKR(data, **SMALL, head="mlp"),
        lambda data: KTUP(data, **SMALL),
        lambda data: KTUP(data, **SMALL, induction="soft"),
    ],
)
@pytest.mark.parametrize("features", [False, True])
def test_the_short_way_is_the_long_one(model: type[Recommender], features: bool) -> None:
    train, _, test = build_splits(features=features)
    mine: Recommender = model(train).eval()
    # Without interactions of theirs nobody hears of the users whose rows change.
    data = copy.copy(test)
    data[INTERACTS].edge_index, data[INTERACTS].time = (
        test[INTERACTS].edge_index[:, :3],
        test[INTERACTS].time[:3],
    )
    inputs, user = mine.prepare(data), torch.tensor([7, 2])
    table = mine.user_rows()
    assert table is not None
    with torch.no_grad():
        table.weight[user] = 0
        row = 0.1 * torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
        encoding, index = mine.encode(inputs), torch.arange(2)
        short = mine.with_rows(inputs, encoding, user, row).score_all(index)
        long = folding.encode_with_rows(mine, inputs, user, row).score_all(index)
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)
    assert isinstance(mine.user_rows().weight, torch.nn.Parameter)


def test_everything_else_stays() -> None:
    train, _, test = build_splits(features=True)
    model = KTUP(train, **SMALL).train()
    data = with_newcomers(test, HISTORY, features=1.0)
    state = torch.get_rng_state()
    folded = model.fold_in(data, ["n0", "n1", "n0"])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.signature.num_nodes[USER] == 10
    assert folded.signature.num_nodes[USER] == 12
    before, after = dict(model.named_parameters()), dict(folded.named_parameters())
    for name, parameter in before.items():
        assert torch.equal(after[name][: parameter.size(0)], parameter), name
        assert after[name].requires_grad == parameter.requires_grad
    rows = folded.user_rows().weight[10:]
    assert bool((rows.norm(dim=1) <= 1 + 1e-6).all())
    again = model.fold_in(data, ["n0", "n1"])
    assert torch.equal(again.user_rows().weight, folded.user_rows().weight)


def test_a_folded_model_is_a_model(tmp_path: Path) -> None:
    train, val, test = build_splits()
    data = with_newcomers(test, HISTORY)
    folded = LightGCN(train, **SMALL).fold_in(data, ["n1"])
    with warns_once(None):
        score = folded.score_all(data, ["n1"])
    folded.save(tmp_path / "folded.pt")
    assert torch.equal(LightGCN.load(tmp_path / "folded.pt").score_all(data, ["n1"]), score)
    fit(folded, train, val, max_epochs=1, progress=False, monitor="ndcg@3")
    assert not torch.equal(folded.score_all(data, ["n1"]), score)
    twice = folded.fold_in(data, ["n0", "n1"])
    assert twice.signature.ids[USER] == [f"u{i}" for i in range(10)] + ["n1", "n0"]
    with pytest.raises(ValueError, match="prepared by another"):
        twice.recommend(folded.prepare(data), ["n0"], k=2)


def test_a_known_user_is_learned_anew() -> None:
    train, val, test = build_splits()
    model = BPRMF(train, **SMALL)
    fit(model, train, val, max_epochs=2, progress=False, monitor="ndcg@3")
    folded = model.fold_in(test, ["u3"])
    assert folded.signature.num_nodes == model.signature.num_nodes
    changed = (folded.user_encoder.weight != model.user_encoder.weight).any(dim=1)
    assert changed.tolist() == [i == 3 for i in range(10)]


def test_users_without_ids_are_matched_by_position() -> None:
    train, _, test = build_splits(ids=False)
    data = copy.copy(test)
    data[USER].num_nodes, data[ITEM].num_nodes = 13, 14
    pairs = data[INTERACTS]
    pairs.edge_index = torch.cat([pairs.edge_index, torch.tensor([[12, 12], [0, 2]])], dim=1)
    pairs.time = torch.cat([pairs.time, pairs.time[-2:]])
    folded = BPRMF(train, **SMALL).fold_in(data, torch.tensor([12]))
    with warns_once(None):
        folded.recommend(data, torch.tensor([12]), k=3)
    with warns_once("1 user is a stranger"):
        folded.recommend(data, torch.tensor([11]), k=3)


def test_users_without_a_history() -> None:
    train, _, test = build_splits()
    model, data = BPRMF(train, **SMALL), with_newcomers(test, HISTORY[:3])
    with pytest.raises(ValueError, match=r"1 of 1 users \('n1'\) have no interaction with a known item"):
        model.fold_in(data, ["n1"])
    with warns_once("they stay strangers"):
        folded = model.fold_in(data, ["n0", "n1"])
    with warns_once("'n1'"):
        folded.recommend(data, ["n0", "n1"], k=2)
    only_new = with_newcomers(test, [(10, 14), (10, 15)])
    with pytest.raises(ValueError, match="expected a history"):
        model.fold_in(only_new, ["n0"])
    with pytest.raises(ValueError, match="unknown"):
        model.fold_in(data, ["nobody"])
    assert model.fold_in(data, torch.empty(0, dtype=torch.long)).signature.num_nodes[USER] == 10


def test_users_known_by_features_alone() -> None:
    train, _, test = build_splits(features=True)
    data = with_newcomers(test, HISTORY, features=1.0)
    with pytest.raises(ValueError, match="by their features alone"):
        BPRMF(train, **SMALL, features="x").fold_in(data, ["n0"])
    model = LightGCN(train, **SMALL, features="x")  # hears the history
    assert torch.equal(model.fold_in(data, ["n0"]).score_all(data, ["n0"]), model.score_all(data, ["n0"]))


def two(data: HeteroData) -> Blend:
    """A blend of two models with rows of users."""
    return Blend([BPRMF(data, hidden_channels=4), MKR(data, hidden_channels=4)], [0.5, 0.5])


@pytest.mark.parametrize("kind", [EASE, ItemKNN, BPRMF, two])
def test_a_model_serves_nobody_without_a_history(kind: Any) -> None:
    """A copy that still takes them for strangers is not returned in silence, whether users have rows or not."""
    train, _, test = build_splits()
    model = kind(train)
    fit(model, train, max_epochs=1, progress=False)
    data = with_newcomers(test, [(10, 0), (10, 2)])
    with warns_once("'n1'"):
        model.fold_in(data, ["n0", "n1"])
    with pytest.raises(ValueError, match="expected a history"):
        model.fold_in(data, ["n1"])
    with warns_once(None):
        model.fold_in(data, ["n0"])


class EncodedAgain(BPRMF):
    """A model that does not say how it encodes users with other rows."""

    with_rows = Recommender.with_rows  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [BPRMF, EncodedAgain, two])
def test_a_session_is_folded_in_and_nothing_else_changes(kind: Any) -> None:
    """No weight, no user, and nothing that would have encodings checked again while others are served."""
    train, _, test = build_splits()
    model = kind(train)
    fit(model, train, max_epochs=1, progress=False)
    data, ready = with_newcomers(test, HISTORY), model.prepare(test)
    folded = model.fold_in(data, ["n0", "n1"]).recommend(data, ["n0", "n1"], k=9)
    before, users = copy.deepcopy(model.state_dict()), model.signature.num_nodes[USER]
    steps = inputs_of_models._optimizer_steps[0]
    with warns_once(None):
        items, scores = model.recommend_session([[100, 102, 104], [101, 103]], k=9, data=ready)
    assert torch.equal(items, folded[0])
    torch.testing.assert_close(scores, folded[1])
    assert inputs_of_models._optimizer_steps[0] == steps
    assert model.signature.num_nodes[USER] == users
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", [BPRMF, KTUP])
def test_whom_it_folded_in_before_changes_no_row(kind: Any, tmp_path: Path) -> None:
    train, val, test = build_splits()
    model = kind(train, **SMALL)
    fit(model, train, val, max_epochs=2, lr=0.05, progress=False, monitor="ndcg@3")
    data = with_newcomers(test, HISTORY)
    expected = model.fold_in(data, ["n1"]).user_rows().weight[-1]
    first = model.fold_in(data, ["n0"])
    torch.testing.assert_close(first.fold_in(data, ["n1"]).user_rows().weight[-1], expected)
    again = first.fold_in(data, ["n0"]).user_rows().weight[-1]
    torch.testing.assert_close(again, first.user_rows().weight[-1])
    first.save(tmp_path / "model.pt")
    loaded = kind.load(tmp_path / "model.pt")
    torch.testing.assert_close(loaded.fold_in(data, ["n1"]).user_rows().weight[-1], expected)
    one, other = (m.recommend_session([103, 101], k=4, data=test) for m in (model, loaded))
    assert torch.equal(one[0], other[0])
    fit(first, train, max_epochs=1, progress=False)  # teaches rows anew
    assert first.signature.row_prior is None
    assert "row_prior" not in model.signature.state()


def test_each_part_of_a_blend_learns_the_users_that_it_can() -> None:
    train, val, test = build_splits()
    blend = Blend({"mf": BPRMF(train, **SMALL), "kg": KTUP(train, **SMALL)}, [0.5, 0.5])
    fit(blend, train, val, max_epochs=1, progress=False, monitor="ndcg@3")
    blend.threshold = 0.3
    # n0 has had nothing but a new item, which KTUP knows by its link.
    data = with_newcomers(test, [(10, 14), (11, 1), (11, 3)], links=[(14, 3)])
    folded = blend.fold_in(data, ["n0", "n1"])
    assert {name: part.signature.num_nodes[USER] for name, part in folded.parts.items()} == {
        "mf": 11,
        "kg": 12,
    }
    assert folded.threshold == 0.3
    assert folded.histories.keys() == blend.histories.keys()
    known = folded.known(folded.prepare(data))
    assert known.user[10:].tolist() == [True, True]
    alone = blend.parts["kg"].fold_in(data, ["n0", "n1"])
    rows = [part.user_rows().weight[-2:] for part in (alone, folded.parts["kg"])]  # type: ignore[union-attr]
    assert torch.equal(*rows)
