"""Probabilities of a yes, from labelled validation pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, EASE, Calibration, KGRec, Popularity, calibrate, evaluate, fit
from pyg_kgrec.calibration import _line
from pyg_kgrec.data.store import INTERACTS
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit


@pytest.fixture(scope="module")
def stores() -> tuple[HeteroData, HeteroData]:
    """Labelled pairs of seen items, and of ten that nobody interacts with, half of which are a yes."""
    train, val, _ = RandomSplit(seed=0)(SyntheticKG(60, 50, 150, 5, seed=0)[0])
    generator = torch.Generator().manual_seed(0)
    user, item = (
        torch.randint(60, (600,), generator=generator),
        torch.randint(50, (600,), generator=generator),
    )
    liked = torch.rand(600, generator=generator) < 0.5
    for store in (train, val):
        edge = store[INTERACTS]
        kept = edge.edge_index[1] < 40
        edge.edge_index = edge.edge_index[:, kept]
        for name in set(edge.keys()) - {"edge_index"}:
            del edge[name]
    seen = torch.zeros(60, 50, dtype=torch.bool)
    seen[tuple(train[INTERACTS].edge_index)] = True
    val[INTERACTS].edge_label_index = torch.stack([user, item])
    val[INTERACTS].edge_label = torch.where(item < 40, seen[user, item] | (liked & (user < 12)), liked).long()
    return train, val


@pytest.fixture(scope="module")
def model(stores: tuple[HeteroData, HeteroData]) -> BPRMF:
    torch.manual_seed(0)
    return BPRMF(stores[0], 8).eval()


def pairs(val: HeteroData) -> tuple[Tensor, Tensor, Tensor]:
    edge = val[INTERACTS]
    return (*edge.edge_label_index, edge.edge_label)


def test_a_line_is_at_the_minimum_of_platts_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    score = 5 + 3 * torch.randn(200, generator=generator, dtype=torch.float64)
    label = (torch.rand(200, generator=generator, dtype=torch.float64) < (0.8 * score - 3).sigmoid()).long()
    a, b = _line(score, label)
    ones, zeros = int(label.sum()), int((1 - label).sum())
    target = torch.where(label > 0, (ones + 1) / (ones + 2), 1 / (zeros + 2)).double()
    error = (a * score + b).sigmoid() - target
    assert error.sum().item() == pytest.approx(0, abs=1e-8)
    assert (error * score).sum().item() == pytest.approx(0, abs=1e-8)
    assert 0.4 < a < 1.2


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_labels_that_scores_tell_apart_give_a_finite_line(scale: float) -> None:
    score = torch.arange(20, dtype=torch.float64) * scale
    label = (torch.arange(20) >= 10).long()
    a, b = _line(score, label)
    p = (a * score + b).sigmoid()
    assert bool(p.isfinite().all())
    assert bool((p.diff() >= 0).all())
    assert p[9] < 0.5 < p[10]


def test_scores_that_are_all_alike_give_the_share_of_a_yes() -> None:
    a, b = _line(torch.full((8,), 3.0).double(), torch.tensor([1, 0, 0, 0, 1, 0, 0, 0]))
    assert a == 0
    # The mean of Platt's targets, 3/4 twice and 1/8 six times.
    assert 1 / (1 + math.exp(-b)) == pytest.approx((2 * 3 / 4 + 6 / 8) / 8)


def test_items_that_training_has_no_pair_of_have_a_line_of_their_own(
    model: BPRMF, stores: tuple[HeteroData, HeteroData]
) -> None:
    _, val = stores
    user, item, label = pairs(val)
    found = calibrate(model, val)
    score = model.score(val, user, item).detach().double()
    assert found.seen == pytest.approx(_line(score[item < 40], label[item < 40]))
    assert found.unseen == pytest.approx(_line(score[item >= 40], label[item >= 40]))
    assert found.seen != found.unseen
    p = found.probability(model, val, user, item)
    a, b = found.unseen
    assert torch.allclose(p[item >= 40], (a * score[item >= 40] + b).sigmoid())
    assert p.dtype == torch.float64


def test_evaluate_tells_pairs_apart_by_probability(
    model: BPRMF, stores: tuple[HeteroData, HeteroData]
) -> None:
    _, val = stores
    user, item, label = pairs(val)
    found = calibrate(model, val)
    p = found.probability(model, val, user, item)
    of_yes, of_no = p[label == 1].unsqueeze(1), p[label == 0].unsqueeze(0)
    auc = ((of_yes > of_no).double() + 0.5 * (of_yes == of_no).double()).mean()
    metrics = evaluate(model, val, task="ctr", calibration=found)
    assert metrics["auc"] == pytest.approx(float(auc), abs=1e-6)
    assert metrics["acc"] == pytest.approx(float(((p > 0.5) == (label == 1)).double().mean()), abs=1e-6)


def test_unseen_items_get_their_share_of_a_yes_whatever_their_scores(
    stores: tuple[HeteroData, HeteroData],
) -> None:
    """Popularity gives unseen items 0, below all others; half of their pairs are a yes."""
    train, val = stores
    popularity = Popularity(train)
    before = evaluate(popularity, val, task="ctr")["auc"]
    found = calibrate(popularity, val)
    assert evaluate(popularity, val, task="ctr", calibration=found)["auc"] > before + 0.05
    _, item, label = pairs(val)
    unseen = item >= 40
    p = found.probability(popularity, val, pairs(val)[0][unseen], item[unseen])
    assert float(p.mean()) == pytest.approx(float(label[unseen].double().mean()), abs=0.02)


def test_one_kind_of_items_serves_for_both(model: BPRMF, stores: tuple[HeteroData, HeteroData]) -> None:
    for kind in (range(40), range(40, 50)):
        val = stores[1].clone()
        edge = val[INTERACTS]
        of = torch.isin(edge.edge_label_index[1], torch.tensor(list(kind)))
        edge.edge_label_index, edge.edge_label = edge.edge_label_index[:, of], edge.edge_label[of]
        found = calibrate(model, val)
        assert found.seen == found.unseen


def test_strangers_whose_scores_are_popularity_spoil_no_line(stores: tuple[HeteroData, HeteroData]) -> None:
    """EASE scores a user without history by popularity, which is a hundred times as large as its own scores."""
    train, val = (store.clone() for store in stores)
    user, item, label = pairs(val)
    strange = user < 3
    for store in (train, val):
        edge = store[INTERACTS]
        edge.edge_index = edge.edge_index[:, edge.edge_index[0] >= 3]
    model = EASE(train, l2=100.0)
    fit(model, train, progress=False)
    with pytest.warns(UserWarning, match="3 users are strangers"):
        found = calibrate(model, val)
    score = model.score(val, user, item).double()
    assert float(score[strange].max()) > 20 * float(score[~strange].max())
    known = ~strange & (item < 40)
    assert found.seen == pytest.approx(_line(score[known], label[known]))
    assert found.stranger == pytest.approx(_line(score[strange], label[strange]))
    edge = val[INTERACTS]
    edge.edge_label_index, edge.edge_label = edge.edge_label_index[:, ~strange], label[~strange]
    without = calibrate(model, val)
    assert (without.seen, without.unseen) == (found.seen, found.unseen)
    rest = label[~strange]
    assert without.stranger == pytest.approx(_line(torch.zeros(rest.numel()).double(), rest))


def test_raw_ids_and_a_prepared_store_give_the_same(stores: tuple[HeteroData, HeteroData]) -> None:
    train, val = stores
    torch.manual_seed(0)
    model = KGRec(train, 8).eval()
    found = calibrate(model, model.prepare(val))
    assert found == calibrate(model, val)
    users, items = [val["user"].id[3], val["user"].id[5]], [val["item"].id[2], val["item"].id[45]]
    by_id = found.probability(model, val, users, items)
    assert torch.equal(by_id, found.probability(model, val, torch.tensor([3, 5]), torch.tensor([2, 45])))
    assert bool(((by_id > 0) & (by_id < 1)).all())


def test_what_a_calibration_is_no_use_for_is_refused(
    model: BPRMF, stores: tuple[HeteroData, HeteroData]
) -> None:
    train, val = stores
    found = Calibration((1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
    with pytest.raises(ValueError, match="calibration is given with task 'ranking', expected task='ctr'"):
        evaluate(model, val, calibration=found)
    with pytest.raises(ValueError, match="calibration is given with a threshold"):
        evaluate(model, val, task="ctr", calibration=found, threshold=0.5)
    with pytest.raises(TypeError, match=r"calibration is 0\.5, expected what calibrate\(model, val\) gives"):
        evaluate(model, val, task="ctr", calibration=0.5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="has no edge_label"):
        calibrate(model, train)
    with pytest.raises(TypeError, match="model is"):
        calibrate(0.5, val)  # type: ignore[arg-type]
