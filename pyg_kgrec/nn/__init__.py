"""Layers and losses: one file per layer, its equation in the docstring."""

from typing import Any

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

_MOVED = ("HyperplaneScorer", "TransH")


def __getattr__(name: str) -> Any:
    """Names that were here before they had a folder of their own."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings
    from importlib import import_module

    value = getattr(import_module("pyg_kgrec.kge"), name)
    warnings.warn(f"pyg_kgrec.nn.{name} is pyg_kgrec.kge.{name} now", DeprecationWarning, stacklevel=2)
    globals()[name] = value  # so that it is said once
    return value
