"""Layers and losses: one file per layer, its equation in the docstring."""

from pyg_kgrec._deprecation import moved
from pyg_kgrec.nn.attn_hgcn import AttnHGCN, AttnHGCNConv
from pyg_kgrec.nn.contrast import Contrast
from pyg_kgrec.nn.cross_compress import CrossCompressUnit, CrossStitchUnit, CrossUnit
from pyg_kgrec.nn.encoder import NodeEncoder
from pyg_kgrec.nn.loss import bpr_loss, sampled_softmax_loss

__all__ = [
    "AttnHGCN",
    "AttnHGCNConv",
    "Contrast",
    "CrossCompressUnit",
    "CrossStitchUnit",
    "CrossUnit",
    "NodeEncoder",
    "bpr_loss",
    "sampled_softmax_loss",
]

__getattr__ = moved(__name__, "0.4", HyperplaneScorer="pyg_kgrec.kge", TransH="pyg_kgrec.kge")
