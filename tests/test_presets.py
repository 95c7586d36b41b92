from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import pytest
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec import fit, preset
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


@pytest.mark.parametrize(("model", "dataset"), ALL)
def test_a_preset_is_a_copy(model: str, dataset: str) -> None:
    before = copy.deepcopy(PRESETS)
    settings = preset(model, dataset)
    for part in settings.values():
        for name in part:
            part[name] = None
        part["another"] = 1
    assert before == PRESETS
    assert preset(model, dataset) == before[model][dataset]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no presets for model 'BERT', expected one of"):
        preset("BERT", "last-fm")
    with pytest.raises(ValueError, match=r"KGRec has no preset for 'netflix', expected one of \['alibaba"):
        preset("KGRec", "netflix")
