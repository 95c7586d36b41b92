"""Knowledge-aware recommendation on PyTorch Geometric: one heterogeneous store, one way to train and explain."""

from pyg_kgrec.evaluation import evaluate
from pyg_kgrec.explain import Explanation
from pyg_kgrec.kge import evaluate_completion, fit_kge, pretrain_transe, pretrain_transh
from pyg_kgrec.models import BPRMF, EASE, KSR, KTUP, MKR, Blend, KGRec, LightGCN, Popularity, Recommender
from pyg_kgrec.presets import preset
from pyg_kgrec.training import fit

__version__ = "0.1.0"

__all__ = [
    "BPRMF",
    "EASE",
    "KSR",
    "KTUP",
    "MKR",
    "Blend",
    "Explanation",
    "KGRec",
    "LightGCN",
    "Popularity",
    "Recommender",
    "evaluate",
    "evaluate_completion",
    "fit",
    "fit_kge",
    "preset",
    "pretrain_transe",
    "pretrain_transh",
]
