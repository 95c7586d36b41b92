from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec import KTUP, MKR, KGRec, fit, preset
from pyg_kgrec.presets import PRESETS
from pyg_kgrec.transforms import ClickThroughSplit

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = [(model, dataset) for model, datasets in PRESETS.items() for dataset in datasets]


@pytest.mark.parametrize(("model", "dataset"), ALL)
def test_every_preset_trains(
    model: str,
    dataset: str,
    make_splits: Callable[..., tuple[HeteroData, ...]],
    make_store: Callable[..., HeteroData],
) -> None:
    settings = preset(model, dataset)
    labelled = settings["fit"]["monitor"] == "auc"
    split = ClickThroughSplit()(make_store(num_items=24)) if labelled else make_splits(num_items=24)
    train, val, _ = split
    assert set(settings) == {"model", "fit"}
    assert settings["fit"].keys() <= inspect.signature(fit).parameters.keys()
    built = getattr(pyg_kgrec, model)(train, **settings["model"])
    assert built.settings.items() >= settings["model"].items()
    history = fit(built, train, val, **settings["fit"], max_epochs=1, progress=False, accelerator="cpu")
    assert settings["fit"].get("monitor", "ndcg@10") in history


def test_kgrecs_settings_are_the_authors() -> None:
    last_fm = preset("KGRec", "last-fm")
    assert last_fm["fit"] == {"lr": 1e-4, "batch_size": 1024, "monitor": "recall@20"}
    expected = {
        "hidden_channels": 64,
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.1,
        "node_dropout_rate": 0.5,
        "decay": 1e-5,
        "mae_coef": 0.1,
        "mae_msize": 256,
        "cl_coef": 0.01,
        "cl_tau": 1.0,
        "cl_drop": 0.5,
        "loss": "bpr",
        "num_negatives": 1,
        "inverse": True,
        "item_gate": False,
        "hide_targets": False,
    }
    assert last_fm["model"] == expected
    contrast = {
        name: tuple(preset("KGRec", name)["model"][k] for k in ("cl_coef", "cl_tau", "cl_drop"))
        for name in ("mind", "alibaba-ifashion")
    }
    assert contrast == {"mind": (0.001, 0.1, 0.6), "alibaba-ifashion": (0.001, 0.2, 0.5)}
    assert last_fm["model"].keys() <= inspect.signature(KGRec).parameters.keys()


def test_mkrs_settings_are_the_papers() -> None:
    found = {
        name: tuple(
            preset("MKR", name)["model"][k]
            for k in ("num_layers", "hidden_channels", "knowledge_interval", "knowledge_lr")
        )
        for name in PRESETS["MKR"]
    }
    assert found == {
        "movielens-1m": (1, 8, 3, 0.5),
        "book-crossing": (1, 8, 2, 0.1),
        "last-fm": (2, 4, 2, 0.1),
        "bing-news": (3, 16, 5, 0.2),
    }
    model = preset("MKR", "last-fm")["model"]
    assert (model["num_kge_layers"], model["head"], model["decay"]) == (1, "dot", 1e-6)
    assert model.keys() <= inspect.signature(MKR).parameters.keys()


def test_ktups_settings_are_the_authors() -> None:
    found = preset("KTUP", "dbbook2014")
    names = ("hidden_channels", "induction", "norm", "loss", "joint_ratio", "margin", "align_weight")
    assert tuple(found["model"][k] for k in names) == (100, "soft", "l1", "bpr", 0.7, 1.0, 1.0)
    assert found["fit"] == {"lr": 1e-3, "batch_size": 400, "monitor": "ndcg@10"}
    assert found["model"].keys() <= inspect.signature(KTUP).parameters.keys()


def test_a_preset_is_a_copy() -> None:
    preset("KGRec", "last-fm")["model"]["hidden_channels"] = 1
    assert preset("KGRec", "last-fm")["model"]["hidden_channels"] == 64


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no presets for model 'BERT', expected one of"):
        preset("BERT", "last-fm")
    with pytest.raises(ValueError, match=r"KGRec has no preset for 'netflix', expected one of \['alibaba"):
        preset("KGRec", "netflix")
