"""The store: its names, its check, its ids, and the readers that build it."""

from pyg_kgrec.data.schema import (
    ENTITY,
    INTERACTS,
    IS,
    ITEM,
    RELATES,
    USER,
    EdgeType,
    has_knowledge,
    num_relations,
    validate,
)
from pyg_kgrec.data.vocabulary import Vocabulary, as_index

__all__ = [
    "ENTITY",
    "INTERACTS",
    "IS",
    "ITEM",
    "RELATES",
    "USER",
    "EdgeType",
    "Vocabulary",
    "as_index",
    "has_knowledge",
    "num_relations",
    "validate",
]
