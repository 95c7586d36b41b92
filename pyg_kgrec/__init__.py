"""Knowledge-aware recommendation on PyTorch Geometric: one heterogeneous store, one way to train and explain."""

from pyg_kgrec.comparison import Comparison, KnowledgeReport, compare, does_knowledge_pay
from pyg_kgrec.data import check_split
from pyg_kgrec.evaluation import choose_threshold, evaluate
from pyg_kgrec.explain import Explanation
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

__version__ = "0.1.0"

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
    "fit",
    "fit_kge",
    "load",
    "preset",
    "pretrain_transe",
    "pretrain_transh",
    "refit",
]
