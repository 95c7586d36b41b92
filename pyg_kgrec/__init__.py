"""Knowledge-aware recommendation on PyTorch Geometric: one heterogeneous store, one way to train and explain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyg_kgrec.data import check_split
from pyg_kgrec.explain import Explanation
from pyg_kgrec.kge import evaluate_completion
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

if TYPE_CHECKING:
    from pyg_kgrec.comparison import Comparison, KnowledgeReport, does_knowledge_pay
    from pyg_kgrec.comparison.compare import compare
    from pyg_kgrec.evaluation import choose_threshold, evaluate
    from pyg_kgrec.exporting import export
    from pyg_kgrec.faithfulness import ExplanationReport, evaluate_explanations
    from pyg_kgrec.kge import fit_kge, pretrain_transe, pretrain_transh
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

_LATER = {
    "Comparison": "comparison",
    "ExplanationReport": "faithfulness",
    "KnowledgeReport": "comparison",
    "choose_threshold": "evaluation",
    "compare": "comparison",
    "does_knowledge_pay": "comparison",
    "evaluate": "evaluation",
    "evaluate_explanations": "faithfulness",
    "export": "exporting",
    "fit": "training",
    "fit_kge": "kge",
    "pretrain_transe": "kge",
    "pretrain_transh": "kge",
    "refit": "refitting",
}
"""What brings Lightning or torchmetrics, seconds of an import, and the module that has it."""


def __getattr__(name: str) -> Any:
    """Imports what trains, evaluates and compares when it is first asked for, the modules themselves included."""
    if name in _LATER.values():
        return import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
