"""A model trained on a split, and the one that is served."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    MKR,
    Blend,
    ItemKNN,
    LightGCN,
    Popularity,
    Recommender,
    fit,
    refit,
)
from pyg_kgrec.data import ENTITY, IS, RELATES, from_pandas
from pyg_kgrec.refitting import best_epoch
from pyg_kgrec.testing import build_splits, build_store, users_of
from pyg_kgrec.transforms import RandomSplit

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_model_is_trained_anew_for_the_best_number_of_epochs() -> None:
    data, (train, *_) = build_store(), build_splits()
    model = BPRMF(train, hidden_channels=4)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    history = pd.DataFrame({"epoch": [0, 1, 2, 3], "ndcg@3": [0.1, float("nan"), 0.3, 0.3]})
    assert best_epoch(history, "ndcg@3") == 3
    served = refit(model, data, history, monitor="ndcg@3", seed=2, progress=False)
    assert served.settings == model.settings
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    torch.manual_seed(2)
    expected = BPRMF(data, hidden_channels=4)
    fit(expected, data, max_epochs=3, seed=2, progress=False)
    assert torch.equal(served.score_all(data, users_of(data)), expected.score_all(data, users_of(data)))
    state = torch.get_rng_state()
    again = refit(model, data, max_epochs=3, seed=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.score_all(data, users_of(data)), expected.score_all(data, users_of(data)))
    assert not bool(
        torch.isin(served.recommend(data, ["u0"], k=8)[0], data["user", "item"].edge_index[1, :6]).any()
    )


@pytest.mark.parametrize("kind", [EASE, ItemKNN, ALS])
def test_a_solved_model_keeps_what_validation_chose(kind: Any) -> None:
    data, (train, val, _) = build_store(), build_splits()
    model = kind(train)
    fit(model, train, val, monitor="ndcg@3", progress=False)
    served = refit(model, data, progress=False)
    assert served.choice == model.choice
    assert isinstance(served, kind)


def test_a_blend_keeps_its_weights_and_refits_its_parts() -> None:
    data, (train, val, _) = build_store(), build_splits()
    blend = Blend({"graph": BPRMF(train, hidden_channels=4), "items": EASE(train)})
    fit(blend, train, val, max_epochs=2, monitor="ndcg@3", progress=False)
    served = refit(blend, data, monitor="ndcg@3", progress=False)
    assert isinstance(served, Blend)
    assert served.weights == pytest.approx(blend.weights)
    assert served.parts["items"].choice == blend.parts["items"].choice  # type: ignore[attr-defined]
    assert bool((served.recommend(data, k=3)[0] >= 0).all())


def test_given_embeddings_of_the_graph_are_taken_over() -> None:
    data, (train, *_) = build_store(), build_splits()
    order = torch.arange(data[ENTITY].num_nodes).flip(0)
    turned = data.clone()  # the same graph, its entities and relations in another order
    turned[ENTITY].id = [data[ENTITY].id[i] for i in order.tolist()]
    turned[IS].edge_index = torch.stack([data[IS].edge_index[0], order[data[IS].edge_index[1]]])
    turned[RELATES].edge_index = order[data[RELATES].edge_index]
    turned.relation_name = data.relation_name[::-1]
    turned[RELATES].edge_type = len(data.relation_name) - 1 - data[RELATES].edge_type
    tables = torch.randn(order.numel(), 4), torch.randn(len(data.relation_name), 4)
    model = KSR(train, embedding_channels=4, hidden_channels=4, kg_embedding=tables)
    served = refit(model, turned, max_epochs=1, progress=False)
    assert isinstance(served, KSR)
    assert torch.equal(served.entity_start, tables[0][order])
    assert torch.equal(served.relation_key, tables[1].flip(0))
    again = refit(served, data, max_epochs=1, progress=False)
    assert isinstance(again, KSR)
    assert torch.equal(again.entity_start, tables[0])
    turned[ENTITY].id = ["another", *turned[ENTITY].id[1:]]
    with pytest.raises(ValueError, match=r"1 of \d+ entities of data have no row in the kg_embedding"):
        refit(model, turned, max_epochs=1, progress=False)


@pytest.mark.parametrize("way", ["file", "folder", "tuned"])
def test_given_embeddings_are_taken_over_from_a_model_that_was_read_or_tuned(
    way: str, tmp_path: Path
) -> None:
    data, (train, val, _) = build_store(), build_splits()
    tables = torch.randn(data[ENTITY].num_nodes, 4), torch.randn(len(data.relation_name), 4)
    model = KSR(train, embedding_channels=4, hidden_channels=4, kg_embedding=tables)
    if way == "file":
        model.save(tmp_path / "model.pt")
        model = KSR.load(tmp_path / "model.pt")
    elif way == "folder":
        pytest.importorskip("safetensors")
        model.save_pretrained(tmp_path / "model")
        model = KSR.from_pretrained(tmp_path / "model")
    else:
        pytest.importorskip("optuna")
        fit(model, train, val, tune={"gamma": [2.0]}, max_epochs=1, monitor="ndcg@3", progress=False)
    assert model.settings["kg_embedding"] is None
    served = refit(model, data, max_epochs=1, progress=False)
    assert isinstance(served, KSR)
    assert torch.equal(served.entity_start, tables[0])
    assert torch.equal(served.relation_key, tables[1])


def test_nothing_to_learn_is_fitted_all_the_same() -> None:
    data, (train, *_) = build_store(), build_splits()
    served = refit(Popularity(train), data)
    assert torch.equal(served.recommend(data, k=3)[0], Popularity(data).recommend(data, k=3)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither history nor max_epochs is given"),
        ({"history": pd.DataFrame({"epoch": [0]})}, "history has no values of 'ndcg@10'"),
        ({"history": [1]}, "history is a list, expected the DataFrame"),
        ({"history": [1], "max_epochs": 1}, "history is a list, expected the DataFrame"),
        ({"max_epochs": 0}, "max_epochs is 0, expected at least 1"),
        ({"max_epochs": 1, "val": None}, "refit takes neither val nor resume"),
        ({"max_epochs": 1, "seed": -1}, "seed is -1"),
        ({"max_epochs": 1, "monitor": ["x"]}, r"monitor is \['x'\], expected the name of a metric"),
        ({"max_epochs": 1, "monitor": "x"}, "monitor is 'x', expected a metric and a length"),
        ({"max_epochs": 1, "lr": -1}, "lr is -1, expected a positive learning rate"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    train, *_ = build_splits()
    with pytest.raises((TypeError, ValueError), match=message):
        refit(BPRMF(train, hidden_channels=4), build_store(), **arguments)


def test_what_a_part_cannot_be_fitted_with_is_refused_before_another_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, (train, *_) = build_store(), build_splits()
    parts = {"one": BPRMF(train, hidden_channels=4), "two": BPRMF(train, hidden_channels=4)}
    blend = Blend(parts, weights=[0.5, 0.5], fit={"two": {"batch_size": "x"}})
    trained: list[Any] = []
    monkeypatch.setattr(
        import_module("pyg_kgrec.refitting"), "fit", lambda *args, **kwargs: trained.append(1)
    )
    with pytest.raises(TypeError, match="batch_size is 'x', expected a whole number"):
        refit(blend, data, max_epochs=1, progress=False)
    assert not trained
    with pytest.raises(TypeError, match=r"monitor is \['x'\], expected the name of a metric"):
        best_epoch(pd.DataFrame({"ndcg@3": [0.1]}), ["x"])  # type: ignore[arg-type]


def test_a_part_of_a_split_is_refused() -> None:
    train, _, test = build_splits()
    for part in (train, test):
        with pytest.raises(ValueError, match="data holds edge_label_index, so it is a part of a split"):
            refit(BPRMF(train, hidden_channels=4), part, max_epochs=1)


@pytest.mark.parametrize("kind", [EASE, Popularity, lambda data: MKR(data, hidden_channels=4)])
def test_a_whole_store_with_labels_is_no_part_of_a_split(kind: Any) -> None:
    """It holds edge_label_index, all of which is to be learned."""
    frame = pd.DataFrame(
        [(f"u{u}", f"i{(u * 3 + n) % 11}", n % 3 > 0) for u in range(9) for n in range(8)],
        columns=["user", "item", "label"],
    )
    data = from_pandas(frame, label_col="label")
    train, val, _ = RandomSplit(val=0.2, test=0.2)(data)
    model = kind(train)
    fit(model, train, val, max_epochs=1, monitor="ndcg@3", progress=False)
    served = refit(model, data, max_epochs=1, progress=False)
    assert served.settings.get("loss") == model.settings.get("loss")
    assert served.signature.popularity is not None
    assert int(served.signature.popularity.sum()) == data["user", "interacts", "item"].edge_index.size(1)
    with pytest.raises(ValueError, match="part of a split"):
        refit(model, train, max_epochs=1, progress=False)


def test_a_part_of_a_blend_is_refitted_with_its_own_arguments() -> None:
    data, (train, val, _) = build_store(), build_splits()
    own = {"lr": 0.2, "max_epochs": 3, "patience": None, "monitor": "ndcg@3"}
    blend = Blend({"mf": BPRMF(train, hidden_channels=4), "items": EASE(train)}, fit={"mf": own})
    fit(blend, train, val, monitor="ndcg@3", progress=False)
    blend.threshold, blend.parts["items"].threshold = 0.7, 0.4
    served = refit(blend, data, monitor="ndcg@3", seed=1, progress=False)
    assert isinstance(served, Blend)
    # The weights of the parts are drawn one after another, the first part's first.
    alone = refit(
        blend.parts["mf"], data, blend.histories["mf"], lr=0.2, monitor="ndcg@3", seed=1, progress=False
    )
    for one, other in zip(served.parts["mf"].parameters(), alone.parameters()):
        assert torch.equal(one, other)
    assert served.fit_arguments == blend.fit_arguments
    assert (served.threshold, served.parts["items"].threshold) == (0.7, 0.4)


def test_a_blend_is_refitted_with_a_scheduler_and_a_folder_as_it_was_fitted(tmp_path: Path) -> None:
    data, (train, *_) = build_store(), build_splits()
    parts = {"mf": BPRMF(train, hidden_channels=4), "graph": LightGCN(train), "items": EASE(train)}
    fit(parts["items"], train, progress=False)
    asked: dict[str, Any] = {"max_epochs": 1, "scheduler": "cosine", "progress": False}
    served = refit(Blend(parts, weights=[0.2, 0.3, 0.5]), data, checkpoint_dir=tmp_path, **asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "mf"]
    alone = refit(parts["mf"], data, **asked)
    for one, other in zip(served.parts["mf"].parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


class _Rates(Callback):
    """The rate of the last step of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
def test_each_epoch_has_the_rate_that_the_training_on_the_split_had(scheduler: Any) -> None:
    data, (train, val, _) = build_store(), build_splits()
    model, rates, asked = (
        BPRMF(train, hidden_channels=4),
        _Rates(),
        {"scheduler": scheduler, "progress": False},
    )
    history = fit(model, train, val, max_epochs=8, patience=None, monitor="ndcg@3", **asked)
    history["ndcg@3"] = [0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1, 0.1]
    refit(model, data, history, monitor="ndcg@3", callbacks=[rates], **asked)
    assert rates.seen == history["lr"].tolist()[:4]
    blend, rates.seen[:] = Blend({"mf": model}, weights=[1]), []
    blend.histories["mf"] = history
    refit(blend, data, monitor="ndcg@3", callbacks=[rates], **asked)
    assert rates.seen == history["lr"].tolist()[:4]
    rates.seen[:] = []
    refit(model, data, history, max_epochs=9, monitor="ndcg@3", callbacks=[rates], **asked)
    assert len(rates.seen) == 9
    assert rates.seen == sorted(rates.seen, reverse=True)
    assert rates.seen[-1] > 0


def test_a_schedule_that_cannot_be_repeated_is_refused() -> None:
    data, (train, *_) = build_store(), build_splits()
    model, asked = BPRMF(train, hidden_channels=4), {"monitor": "ndcg@3", "progress": False}
    read = pd.DataFrame({"epoch": [0, 1], "ndcg@3": [0.1, 0.2]})
    with pytest.raises(
        ValueError, match=r"scheduler is 'cosine', but history does not say over how many epochs"
    ):
        refit(model, data, read, scheduler="cosine", **asked)
    with pytest.raises(
        ValueError, match="scheduler is 'plateau', which waits for the metric of a validation"
    ):
        refit(model, data, read, scheduler="plateau", **asked)
    read.attrs["max_epochs"] = 0
    with pytest.raises(ValueError, match=r"history.attrs\['max_epochs'\] is 0, expected at least 1"):
        refit(model, data, read, scheduler="cosine", **asked)


def test_a_training_that_was_over_says_how_long_it_was_to_be(tmp_path: Path) -> None:
    train, *_ = build_splits()
    asked: dict[str, Any] = {"max_epochs": 2, "progress": False}
    fit(BPRMF(train, hidden_channels=4), train, checkpoint_dir=tmp_path, **asked)
    again = fit(BPRMF(train, hidden_channels=4), train, resume=tmp_path / "last.ckpt", **asked)
    assert again.attrs["max_epochs"] == 2


def test_what_tuning_chose_for_a_part_counts_before_what_all_parts_get() -> None:
    data, (train, *_) = build_store(), build_splits()
    blend = Blend({"mf": BPRMF(train, hidden_channels=4)}, weights=[1])
    history = blend.histories["mf"] = pd.DataFrame({"epoch": [0], "ndcg@3": [0.1]})
    history.attrs["tune"] = {"settings": {}, "fit": {"lr": 0.2, "max_epochs": 7}}
    asked: dict[str, Any] = {"monitor": "ndcg@3", "progress": False}
    served = refit(blend, data, lr=0.01, **asked)
    alone = refit(blend.parts["mf"], data, history, **asked)
    other = refit(blend.parts["mf"], data, history, lr=0.01, **asked)
    rows, expected, given = (next(x.parameters()) for x in (served.parts["mf"], alone, other))
    assert torch.equal(rows, expected)
    assert not torch.equal(expected, given)


def test_the_best_epoch_is_found_in_whatever_order_and_selection_rows_stand() -> None:
    values = [np.nan, 0.2, np.nan, 0.5, np.nan, 0.5, 0.4]
    history = pd.DataFrame({"epoch": range(7), "ndcg@10": values})
    assert best_epoch(history) == 4
    assert best_epoch(history.dropna()) == 4
    assert best_epoch(history.sort_values("ndcg@10", ascending=False)) == 4
    assert best_epoch(history.iloc[::-1]) == 4
    assert best_epoch(history[history["epoch"] > 4]) == 6
    assert best_epoch(history.drop(columns="epoch")) == 4


def test_a_part_without_a_history_is_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, *_ = build_splits()
    blend = Blend({n: BPRMF(train, hidden_channels=4) for n in ("first", "second")}, weights=[0.5, 0.5])
    blend.histories["first"] = history = pd.DataFrame({"epoch": [0], "ndcg@10": [0.1]})
    trained: list[Recommender] = []
    monkeypatch.setattr("pyg_kgrec.refitting.fit", lambda model, *_, **__: trained.append(model))
    with pytest.raises(ValueError, match=r"the part second of the Blend has no history.*expected max_epochs"):
        refit(blend, build_store(), history)
    blend.histories["second"] = pd.DataFrame({"epoch": [0], "auc": [0.1]})
    with pytest.raises(ValueError, match=r"history has no values of 'ndcg@10' \(it has epoch, auc\)"):
        refit(blend, build_store())
    assert not trained
    assert refit(blend, build_store(), max_epochs=1).weights == blend.weights  # type: ignore[attr-defined]
    assert [type(model) for model in trained] == [BPRMF, BPRMF, Blend]
