from __future__ import annotations

import copy
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import ComplEx, DistMult, KGEModel, RotatE, TransE

from pyg_kgrec import BPRMF, evaluate_completion, fit_kge, pretrain_transe, pretrain_transh
from pyg_kgrec.data import ENTITY, RELATES
from pyg_kgrec.data.triples import triples
from pyg_kgrec.kge import TransH, TripleSampler
from pyg_kgrec.transforms import AddInverseTriples, TripleSplit

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]
QUICK: dict[str, Any] = {
    **{"max_epochs": 4, "batch_size": 16, "lr": 0.02, "eval_every": 1},
    **{"progress": False, "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def splits(make_store: Callable[..., HeteroData]) -> Splits:
    """69 triples to learn from, 9 and 9 to be found."""
    return TripleSplit(0.1, 0.1)(make_store(10, 42))


def build(train: HeteroData, kind: type[KGEModel] = TransE, seed: int = 0, **settings: Any) -> KGEModel:
    seed_everything(seed)
    return kind(train[ENTITY].num_nodes, len(train.relation_name), 8, **settings)


def quick(model: KGEModel, *stores: HeteroData, **arguments: Any) -> pd.DataFrame:
    return fit_kge(model, *stores, **{**QUICK, **arguments})


def weights(model: KGEModel) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


KINDS = [TransE, DistMult, ComplEx, RotatE, TransH]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_of_pyg_learns(kind: type[KGEModel], sparse: bool, splits: Splits) -> None:
    model = build(splits[0], kind, sparse=sparse)
    before = weights(model)
    history = quick(model, splits[0], max_epochs=12)
    assert list(history.columns) == ["epoch", "loss", "seconds"]
    assert history["epoch"].tolist() == list(range(12))
    assert history["loss"].iloc[-3:].mean() < 0.95 * history["loss"].iloc[:3].mean()
    assert all(bool((a != b).any()) for a, b in zip(before, weights(model)))


# ---------------------------------------------------------------------- seeds


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: type[KGEModel], splits: Splits) -> None:
    runs = []
    for seed in (7, 7, 8):
        model = build(splits[0], kind)
        torch.rand(seed)  # what the caller draws does not matter
        history = quick(model, *splits[:2], seed=seed, max_epochs=2)
        runs.append((weights(model), history.drop(columns="seconds")))
    assert equal(runs[0][0], runs[1][0])
    pd.testing.assert_frame_equal(runs[0][1], runs[1][1])
    assert not equal(runs[0][0], runs[2][0])


def test_evaluation_changes_nothing_of_training(splits: Splits) -> None:
    first, second = build(splits[0]), build(splits[0])
    history = quick(first, *splits[:2], monitor="mean_rank", max_epochs=6, patience=None)
    quick(second, splits[0], max_epochs=int(history["mean_rank"].argmin()) + 1)
    assert equal(weights(first), weights(second))


def global_states() -> tuple[Any, ...]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist()


def test_global_randomness_is_left_as_it_was(splits: Splits) -> None:
    model = build(splits[0])
    torch.manual_seed(5)
    before = global_states()
    quick(model, *splits[:2])
    pretrain_transe(splits[0], 4, **QUICK)
    pretrain_transh(splits[0], 4, **QUICK)
    assert global_states() == before


def test_weights_are_trained_on_as_they_are(splits: Splits) -> None:
    model = build(splits[0], DistMult)
    before = weights(model)
    quick(model, splits[0], max_epochs=1, lr=1e-12)
    for old, new in zip(before, weights(model)):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-9)


# ---------------------------------------------------------------------- history, best weights, stopping


def test_the_history_tells_what_was_evaluated(splits: Splits) -> None:
    history = quick(build(splits[0]), *splits[:2], eval_every=2, monitor="tail_hits@2", max_epochs=5)
    names = ["mrr", "mean_rank", "hits@1", "hits@2", "hits@3", "hits@10"]
    figures = [f"{side}{name}" for side in ("", "head_", "tail_") for name in names]
    assert list(history.columns) == ["epoch", "loss", "seconds", *figures]
    assert history["tail_hits@2"].notna().tolist() == [False, True, False, True, False]
    assert history["epoch"].dtype == int
    assert bool((history["seconds"] > 0).all())


@pytest.mark.parametrize(("monitor", "best"), [("mrr", "max"), ("head_mrr", "max"), ("mean_rank", "min")])
def test_the_best_weights_are_restored(splits: Splits, monitor: str, best: str) -> None:
    model = build(splits[0])
    history = quick(model, *splits[:2], max_epochs=25, patience=None, lr=0.3, monitor=monitor)
    assert len(history) == 25
    figure = history[monitor]
    assert figure.iloc[-1] != getattr(figure, best)()  # so that something is restored
    assert evaluate_completion(model, splits[1])[monitor] == pytest.approx(getattr(figure, best)(), abs=1e-9)


def test_training_stops_early(splits: Splits) -> None:
    history = quick(
        build(splits[0]), *splits[:2], max_epochs=300, patience=2, min_epochs=1, lr=0.3, eval_every=3
    )
    figure = history["mrr"].dropna().tolist()
    assert len(history) == 3 * len(figure) < 300
    assert int(np.argmax(figure)) == len(figure) - 3


def test_patience_ends_nothing_before_the_least_epochs(splits: Splits) -> None:
    arguments = {"max_epochs": 20, "patience": 1, "lr": 0.3, "eval_every": 1}
    assert len(quick(build(splits[0]), *splits[:2], min_epochs=1, **arguments)) < 12
    assert len(quick(build(splits[0]), *splits[:2], min_epochs=12, **arguments)) >= 12


def test_without_validation_the_last_weights_stay(splits: Splits) -> None:
    model, again = build(splits[0]), build(splits[0])
    quick(model, splits[0])
    quick(again, splits[0], monitor="mean_rank", patience=1)
    assert equal(weights(model), weights(again))


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_in_evaluation_mode(splits: Splits, mode: bool) -> None:
    model = build(splits[0]).train(mode)
    quick(model, *splits[:2], max_epochs=1)
    assert not any(module.training for module in model.modules())


def test_every_triple_is_learned_once_an_epoch(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loss = build(splits[0]), TransE.loss
    learned: list[list[tuple[int, ...]]] = []

    def watch(*triple: Tensor) -> Tensor:
        learned.append(list(zip(*(column.tolist() for column in triple))))
        return loss(model, *triple)

    monkeypatch.setattr(model, "loss", watch)
    quick(model, splits[0], max_epochs=2, batch_size=40)
    expected = sorted(map(tuple, triples(splits[0]).t().tolist()))
    assert [len(batch) for batch in learned] == [40, len(expected) - 40] * 2
    assert sorted(learned[0] + learned[1]) == sorted(learned[2] + learned[3]) == expected
    assert learned[0] != learned[2]


# ---------------------------------------------------------------------- TransH


def test_transh_refuses_a_triple_without_false_ones_before_it_learns(
    make_store: Callable[..., HeteroData],
) -> None:
    data = make_store()
    size = data[ENTITY].num_nodes
    every, one = torch.arange(size), torch.full((size,), 3)
    full = torch.cat([torch.stack([every, one]), torch.stack([one, every])], dim=1)
    data[RELATES].edge_index = torch.cat([data[RELATES].edge_index, full], dim=1)
    data[RELATES].edge_type = torch.cat([data[RELATES].edge_type, torch.zeros(2 * size, dtype=torch.long)])
    own = build(data, TransH)
    own.sampler = TripleSampler(triples(data), size)
    for model in (build(data, TransH), own):
        before, sampler = weights(model), model.sampler
        with pytest.raises(ValueError, match=r"triple \(3, 0, 3\) is true whatever its head or tail is"):
            quick(model, data, batch_size=4)
        assert equal(weights(model), before)
        assert model.sampler is sampler


def test_vectors_of_transh_stay_within_the_sphere(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(splits[0], TransH)
    longest: list[float] = []
    loss = model.loss

    def watch(*triple: Tensor) -> Tensor:
        longest.append(max(float(table.norm(dim=1).max()) for table in weights(model)))
        return loss(*triple)

    monkeypatch.setattr(model, "loss", watch)
    quick(model, splits[0], lr=0.2)
    assert max(longest) <= 1 + 1e-6
    assert max(float(table.norm(dim=1).max()) for table in weights(model)) <= 1 + 1e-6


def test_transh_is_lent_a_sampler_that_knows_the_training_triples(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(splits[0], TransH)
    true, sample = set(map(tuple, triples(splits[0]).t().tolist())), model.random_sample
    corrupted: set[tuple[int, ...]] = set()

    def watch(*triple: Tensor) -> tuple[Tensor, ...]:
        out = sample(*triple)
        corrupted.update(map(tuple, torch.stack(out).t().tolist()))
        return out

    monkeypatch.setattr(model, "random_sample", watch)
    quick(model, *splits[:2])
    assert len(corrupted) > 100
    assert not corrupted & true
    assert model.sampler is None


def test_a_sampler_of_one_s_own_is_kept(splits: Splits, make_store: Callable[..., HeteroData]) -> None:
    whole = make_store(10, 42)
    model, lent = build(splits[0], TransH), build(splits[0], TransH)
    assert isinstance(model, TransH)
    model.sampler = sampler = TripleSampler(triples(whole), whole[ENTITY].num_nodes)
    quick(model, splits[0])
    quick(lent, splits[0])
    assert model.sampler is sampler
    assert not equal(weights(model), weights(lent))


def test_the_sampler_goes_when_training_fails(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(splits[0], TransH)

    def fail(*_: Tensor) -> Tensor:
        assert model.sampler is not None
        raise RuntimeError("no loss")

    monkeypatch.setattr(model, "loss", fail)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no loss"):
        quick(model, splits[0])
    assert model.sampler is None
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------------- interruption


def test_ctrl_c_ends_with_the_best_weights_so_far(
    splits: Splits, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, handler, loss = build(splits[0]), signal.getsignal(signal.SIGINT), TransE.loss
    calls: list[int] = []

    def press(*triple: Tensor) -> Tensor:
        calls.append(0)
        if len(calls) == 12:  # in the third epoch of five steps each
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, *triple)

    monkeypatch.setattr(model, "loss", press)
    history = quick(model, *splits[:2], max_epochs=50, patience=None)
    assert len(history) == 3
    assert len(calls) == 12
    printed = capsys.readouterr().out
    assert "Interrupted after 3 epochs; the best weights so far" in printed
    assert evaluate_completion(model, splits[1])["mrr"] == pytest.approx(history["mrr"].max(), abs=1e-9)
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_is_said_and_no_file_is_left(
    splits: Splits, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick(build(splits[0]), *splits[:2])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- pre-training


@pytest.mark.parametrize(("pretrain", "kind"), [(pretrain_transe, TransE), (pretrain_transh, TransH)])
def test_pretraining_gives_vectors_of_the_store(
    pretrain: Callable[..., KGEModel], kind: type[KGEModel], splits: Splits
) -> None:
    train, val, _ = splits
    quick: dict[str, Any] = {**QUICK, "max_epochs": 12}
    model = pretrain(train, 16, val=val, **quick)
    assert type(model) is kind
    assert model.node_emb.weight.shape == (train[ENTITY].num_nodes, 16)
    assert model.rel_emb.weight.shape == (3, 16)
    again, other = (pretrain(train, 16, val=val, seed=s, **quick) for s in (0, 1))
    assert equal(weights(model), weights(again))
    assert not equal(weights(model), weights(other))
    chance = pretrain(train, 16, **{**QUICK, "max_epochs": 1, "lr": 1e-9})
    learned, by_chance = (evaluate_completion(one, triples(train))["mrr"] for one in (model, chance))
    assert learned > 2 * by_chance


@pytest.mark.parametrize("pretrain", [pretrain_transe, pretrain_transh])
def test_the_defaults_of_pretraining_learn(pretrain: Callable[..., KGEModel], splits: Splits) -> None:
    model = pretrain(splits[0], progress=False, accelerator="cpu")
    assert model.hidden_channels == 64
    assert evaluate_completion(model, triples(splits[0]))["mrr"] > 0.3


def test_settings_of_the_models_are_passed_on(splits: Splits) -> None:
    transe = pretrain_transe(splits[0], 4, margin=0.3, p_norm=2.0, **QUICK)
    assert (transe.margin, transe.p_norm) == (0.3, 2.0)
    transh = pretrain_transh(splits[0], 4, margin=0.3, p_norm=1, orthogonality=0.7, **QUICK)
    assert (transh.margin, transh.p_norm, transh.orthogonality) == (0.3, 1, 0.7)
    with pytest.raises(ValueError, match="p_norm is 3, expected 1 or 2"):
        pretrain_transh(splits[0], 4, p_norm=3, **QUICK)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, "max_epochs is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"eval_every": 0}, "eval_every is 0"),
        ({"lr": 0.0}, r"lr is 0\.0, expected a positive"),
        ({"monitor": "ndcg@10"}, "monitor is 'ndcg@10', expected 'mrr', 'mean_rank' or 'hits@10'"),
        ({"monitor": "hits"}, "monitor is 'hits', expected"),
        ({"monitor": "hits@0"}, "monitor is 'hits@0', expected"),
        ({"monitor": "hits@99"}, r"monitor is 'hits@99', expected .* \(up to hits@48\)"),
        ({"monitor": "both_mrr"}, "monitor is 'both_mrr', expected"),
    ],
)
def test_bad_arguments_are_refused_before_anything_happens(
    splits: Splits, arguments: dict[str, Any], message: str
) -> None:
    model = build(splits[0]).eval()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        quick(model, *splits[:2], **arguments)
    assert equal(weights(model), before)
    assert not model.training


def test_bad_stores_are_refused_before_anything_happens(
    splits: Splits, make_store: Callable[..., HeteroData]
) -> None:
    train, val, _ = splits
    model = build(train)
    before = weights(model)
    whole, empty, damaged = make_store(10, 42), copy.copy(train), copy.copy(train)
    empty[RELATES].edge_index, empty[RELATES].edge_type = torch.empty(2, 0).long(), torch.empty(0).long()
    damaged[RELATES].edge_type = damaged[RELATES].edge_type + 2
    for stores, message in (
        (
            (make_store(knowledge=False), val),
            "train holds no triple, expected a store with a knowledge graph",
        ),
        ((empty, val), "train holds no triple"),
        ((damaged, val), "edge_type holds 3"),
        ((make_store(10, 20), val), "train has 26 entities and 3 relations, expected 48 and at most 3"),
        ((train, whole), "val has no edge_label_index of triples, expected a store of TripleSplit"),
        ((train, train), r"triple \(.*\) stands in edge_index and in edge_label_index of val"),
        (
            (whole, val),
            r"triple \('e\d+', '.*', 'e\d+'\) stands in edge_index of train and in edge_label_index of val",
        ),
        ((train, TripleSplit()(make_store(10, 20))[1]), "val has 26 entities, expected 48 as the model has"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(model, *stores)
    assert equal(weights(model), before)
    with pytest.raises(ValueError, match="train holds no triple"):
        pretrain_transe(make_store(knowledge=False))


def test_other_models_are_refused(splits: Splits) -> None:
    model: Any = BPRMF(splits[0], hidden_channels=4)
    with pytest.raises(TypeError, match=r"model is a BPRMF, expected a KGEModel .*is trained by fit"):
        quick(model, *splits[:2])
    with pytest.raises(TypeError, match=r"data is a list, expected a torch_geometric\.data\.HeteroData"):
        quick(build(splits[0]), [])  # type: ignore[arg-type]


def test_weights_that_become_nan_are_named(splits: Splits) -> None:
    model = build(splits[0], DistMult)
    model.rel_emb.weight.data[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"rel_emb\.weight of the model holds NaN or infinity"):
        quick(model, splits[0])
    model = build(splits[0], DistMult)
    before = model.rel_emb.weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"training stopped at step \d+ of epoch \d: the part 'loss' of the loss is"
    ):
        quick(model, splits[0], lr=1e30)
    assert torch.equal(model.rel_emb.weight, before)


def test_two_stores_number_entities_and_relations_alike(splits: Splits) -> None:
    train, val, _ = splits
    model = build(train, DistMult)
    before = weights(model)
    renamed = val.clone()
    renamed.relation_name = list(val.relation_name)[::-1]
    for name in ("edge_type", "edge_label_type"):
        renamed[RELATES][name] = len(val.relation_name) - 1 - val[RELATES][name]
    renumbered = val.clone()
    renumbered[ENTITY].id = list(val[ENTITY].id)[::-1]
    for store, what in ((renamed, "relation"), (renumbered, "entity")):
        with pytest.raises(
            ValueError, match=f"{what} 0 is '.*' in val and '.*' in train, expected two stores"
        ):
            quick(model, train, store)
    assert equal(weights(model), before)


def test_training_may_know_further_relations(splits: Splits) -> None:
    train, val, _ = splits
    more = AddInverseTriples()(train)
    assert len(more.relation_name) > len(val.relation_name)
    assert "mrr" in quick(build(more), more, val, max_epochs=1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *(("hidden_channels", value, TypeError) for value in (1.5, "8")),
        *(("hidden_channels", value, ValueError) for value in (0, -3)),
        *(("seed", value, TypeError) for value in (1.5, True, None)),
        *(("margin", value, error) for value, error in (("a", TypeError), (float("nan"), ValueError))),
        *(("p_norm", value, error) for value, error in ((0, ValueError), (-1, ValueError), ("2", TypeError))),
        ("monitor", 3, ValueError),
        ("orthogonality", -1.0, ValueError),
    ],
)
def test_settings_that_are_none_are_named(
    splits: Splits, name: str, value: Any, error: type[Exception]
) -> None:
    for pretrain in (pretrain_transe, pretrain_transh):
        if name != "orthogonality" or pretrain is pretrain_transh:
            with pytest.raises(error, match=f"{name} is {value!r}, expected"):
                pretrain(splits[0], **{**QUICK, name: value})
