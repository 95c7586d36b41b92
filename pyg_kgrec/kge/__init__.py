"""What learns or ranks triples alone: TransH, false triples, training, completion, pre-trained embeddings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyg_kgrec.kge.embedding import KGEmbedding, KGTables, kg_embeddings, pretrained_embeddings
from pyg_kgrec.kge.evaluation import evaluate_completion
from pyg_kgrec.kge.sampling import TripleSampler
from pyg_kgrec.kge.scorers import CompletesTriples, HyperplaneScorer, TripleScorer
from pyg_kgrec.kge.transh import TransH

if TYPE_CHECKING:
    from pyg_kgrec.kge.training import (
        Constrained,
        UsesTrainingTriples,
        fit_kge,
        pretrain_transe,
        pretrain_transh,
    )

__all__ = [
    "CompletesTriples",
    "Constrained",
    "HyperplaneScorer",
    "KGEmbedding",
    "KGTables",
    "TransH",
    "TripleSampler",
    "TripleScorer",
    "UsesTrainingTriples",
    "evaluate_completion",
    "fit_kge",
    "kg_embeddings",
    "pretrain_transe",
    "pretrain_transh",
    "pretrained_embeddings",
]

_TRAINING = ("Constrained", "UsesTrainingTriples", "fit_kge", "pretrain_transe", "pretrain_transh")


def __getattr__(name: str) -> Any:
    """What trains brings Lightning, and is imported when it is first asked for."""
    if name not in _TRAINING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("pyg_kgrec.kge.training"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_TRAINING})
