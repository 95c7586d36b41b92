"""Models side by side: trained alike, over seeds, with tests of their differences."""

from pyg_kgrec.comparison.compare import compare
from pyg_kgrec.comparison.knowledge import KnowledgeReport, does_knowledge_pay
from pyg_kgrec.comparison.statistics import bootstrap_interval, holm, paired_t, permutation, wilcoxon
from pyg_kgrec.comparison.table import Comparison

__all__ = [
    "Comparison",
    "KnowledgeReport",
    "bootstrap_interval",
    "compare",
    "does_knowledge_pay",
    "holm",
    "paired_t",
    "permutation",
    "wilcoxon",
]
