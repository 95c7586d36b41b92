"""Knowledge-aware recommendation on PyTorch Geometric: one heterogeneous store, one way to train and explain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_kgrec.calibration import Calibration, calibrate, choose_threshold
    from pyg_kgrec.comparison import Comparison, KnowledgeReport, does_knowledge_pay
    from pyg_kgrec.comparison.compare import compare
    from pyg_kgrec.data import check_split
    from pyg_kgrec.evaluation import evaluate
    from pyg_kgrec.explain import Explanation
    from pyg_kgrec.exporting import export
    from pyg_kgrec.faithfulness import ExplanationReport, evaluate_explanations
    from pyg_kgrec.kge import evaluate_completion, fit_kge, pretrain_transe, pretrain_transh
    from pyg_kgrec.models import (
        ALS,
        BPRMF,
        EASE,
        KSR,
        KTUP,
        MKR,
        Blend,
        ItemKNN,
        KGRec,
        LightGCN,
        Popularity,
        Recommender,
        RP3beta,
        load,
    )
    from pyg_kgrec.presets import preset
    from pyg_kgrec.refitting import refit
    from pyg_kgrec.training import fit

__version__ = "0.2.0"

__all__ = [
    "ALS",
    "BPRMF",
    "EASE",
    "KSR",
    "KTUP",
    "MKR",
    "Blend",
    "Calibration",
    "Comparison",
    "Explanation",
    "ExplanationReport",
    "ItemKNN",
    "KGRec",
    "KnowledgeReport",
    "LightGCN",
    "Popularity",
    "RP3beta",
    "Recommender",
    "calibrate",
    "check_split",
    "choose_threshold",
    "compare",
    "does_knowledge_pay",
    "evaluate",
    "evaluate_completion",
    "evaluate_explanations",
    "export",
    "fit",
    "fit_kge",
    "load",
    "preset",
    "pretrain_transe",
    "pretrain_transh",
    "refit",
]

_NAMES = {
    "calibration": ("Calibration", "calibrate", "choose_threshold"),
    "comparison": ("Comparison", "KnowledgeReport", "compare", "does_knowledge_pay"),
    "data": ("check_split",),
    "evaluation": ("evaluate",),
    "explain": ("Explanation",),
    "exporting": ("export",),
    "faithfulness": ("ExplanationReport", "evaluate_explanations"),
    "kge": ("evaluate_completion", "fit_kge", "pretrain_transe", "pretrain_transh"),
    "models": (
        "ALS",
        "BPRMF",
        "EASE",
        "KSR",
        "KTUP",
        "MKR",
        "Blend",
        "ItemKNN",
        "KGRec",
        "LightGCN",
        "Popularity",
        "RP3beta",
        "Recommender",
        "load",
    ),
    "presets": ("preset",),
    "refitting": ("refit",),
    "training": ("fit",),
}
"""The names of this package by the module that has them."""

_LATER = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {*_NAMES, "datasets", "nn", "ops", "transforms"}


def __getattr__(name: str) -> Any:
    """Imports a name, or a module, when it is first asked for: nobody waits for what is not used."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_MODULES})
