"""Whether explanations are true: what scores and ranks do when the reasons given are really left out."""

from pyg_kgrec.faithfulness.evaluate import evaluate_explanations
from pyg_kgrec.faithfulness.facts import fact_effects
from pyg_kgrec.faithfulness.report import ExplanationReport

__all__ = ["ExplanationReport", "evaluate_explanations", "fact_effects"]
