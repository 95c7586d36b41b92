"""Why a user gets an item: one kind of explanation per kind of reason, each as text, HTML, picture and graph."""

from pyg_kgrec.explain.blend import BlendExplanation
from pyg_kgrec.explain.counterfactual import Counterfactual
from pyg_kgrec.explain.deletion import DeletionExplanation
from pyg_kgrec.explain.explanation import Explanation
from pyg_kgrec.explain.graph import ExplainedGraph
from pyg_kgrec.explain.history import HistoryExplanation
from pyg_kgrec.explain.many import Explanations
from pyg_kgrec.explain.paths import PathExplanation
from pyg_kgrec.explain.preference import PreferenceExplanation
from pyg_kgrec.explain.reasons import Reason
from pyg_kgrec.explain.session import SessionExplanation, nearest_to_slots
from pyg_kgrec.explain.without import Without

__all__ = [
    "BlendExplanation",
    "Counterfactual",
    "DeletionExplanation",
    "ExplainedGraph",
    "Explanation",
    "Explanations",
    "HistoryExplanation",
    "PathExplanation",
    "PreferenceExplanation",
    "Reason",
    "SessionExplanation",
    "Without",
    "nearest_to_slots",
]
