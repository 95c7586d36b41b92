"""Layers and losses: one file a layer, its equation in the docstring."""

from pyg_kgrec.nn.attn_hgcn import AttnHGCN, AttnHGCNConv
from pyg_kgrec.nn.contrast import Contrast
from pyg_kgrec.nn.cross_compress import CrossCompressUnit, CrossStitchUnit, CrossUnit
from pyg_kgrec.nn.encoder import NodeEncoder
from pyg_kgrec.nn.loss import bpr_loss, sampled_softmax_loss
from pyg_kgrec.nn.transh import HyperplaneScorer, TransH

__all__ = [
    "AttnHGCN",
    "AttnHGCNConv",
    "Contrast",
    "CrossCompressUnit",
    "CrossStitchUnit",
    "CrossUnit",
    "HyperplaneScorer",
    "NodeEncoder",
    "TransH",
    "bpr_loss",
    "sampled_softmax_loss",
]
