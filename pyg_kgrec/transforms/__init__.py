"""Transforms of the store."""

from pyg_kgrec.transforms.split import LeaveOneOut, RandomSplit, TemporalSplit, apply_split

__all__ = ["LeaveOneOut", "RandomSplit", "TemporalSplit", "apply_split"]
