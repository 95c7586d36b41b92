"""Transforms of the store."""

from pyg_kgrec.transforms.click_through import ClickThroughSplit
from pyg_kgrec.transforms.collaborative import CollaborativeKG
from pyg_kgrec.transforms.inverse import AddInverseTriples
from pyg_kgrec.transforms.knowledge import PermuteRelations, RandomKnowledge, ShuffleTails, WithoutKnowledge
from pyg_kgrec.transforms.split import LeaveOneOut, RandomSplit, TemporalSplit, apply_split
from pyg_kgrec.transforms.triples import TripleSplit

__all__ = [
    "AddInverseTriples",
    "ClickThroughSplit",
    "CollaborativeKG",
    "LeaveOneOut",
    "PermuteRelations",
    "RandomKnowledge",
    "RandomSplit",
    "ShuffleTails",
    "TemporalSplit",
    "TripleSplit",
    "WithoutKnowledge",
    "apply_split",
]
