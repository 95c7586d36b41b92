"""What learns or ranks triples alone: TransH, false triples, training, completion, pre-trained embeddings."""

from pyg_kgrec.kge.embedding import KGEmbedding, KGTables, kg_embeddings, pretrained_embeddings
from pyg_kgrec.kge.evaluation import evaluate_completion
from pyg_kgrec.kge.sampling import TripleSampler
from pyg_kgrec.kge.scorers import CompletesTriples, HyperplaneScorer, TripleScorer
from pyg_kgrec.kge.training import (
    Constrained,
    UsesTrainingTriples,
    fit_kge,
    pretrain_transe,
    pretrain_transh,
)
from pyg_kgrec.kge.transh import TransH

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
