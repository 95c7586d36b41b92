"""Knowledge-aware recommendation on PyTorch Geometric: one heterogeneous store, one way to train and explain."""

from pyg_kgrec.evaluation import evaluate
from pyg_kgrec.explain import Explanation
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
)
from pyg_kgrec.presets import preset
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
    "Explanation",
    "ItemKNN",
    "KGRec",
    "LightGCN",
    "Popularity",
    "RP3beta",
    "Recommender",
    "evaluate",
    "evaluate_completion",
    "fit",
    "fit_kge",
    "preset",
    "pretrain_transe",
    "pretrain_transh",
]
