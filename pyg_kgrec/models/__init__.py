"""Models: each one is a :class:`~pyg_kgrec.models.base.Recommender`."""

from pyg_kgrec.models.als import ALS
from pyg_kgrec.models.base import Recommender, load
from pyg_kgrec.models.blend import Blend
from pyg_kgrec.models.bprmf import BPRMF
from pyg_kgrec.models.ease import EASE
from pyg_kgrec.models.kgrec import KGRec
from pyg_kgrec.models.ksr import KSR
from pyg_kgrec.models.ktup import KTUP
from pyg_kgrec.models.lightgcn import LightGCN
from pyg_kgrec.models.mkr import MKR
from pyg_kgrec.models.neighbours import ItemKNN, RP3beta
from pyg_kgrec.models.popularity import Popularity

__all__ = [
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
]
