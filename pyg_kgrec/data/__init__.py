"""The store: its names, its check, its ids, and the readers that build it."""

from pyg_kgrec.data.atomic import read_atomic
from pyg_kgrec.data.files import load_store, save_store
from pyg_kgrec.data.frames import from_pandas
from pyg_kgrec.data.kgat import read_kgat
from pyg_kgrec.data.labels import Labels, indexable
from pyg_kgrec.data.leaks import SplitReport, check_split
from pyg_kgrec.data.parts import split_frames
from pyg_kgrec.data.repeats import count_repeats, drop_repeats
from pyg_kgrec.data.store import (
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
from pyg_kgrec.data.summaries import StoreSummary, summary
from pyg_kgrec.data.vocabulary import Vocabulary, as_ids, as_index

__all__ = [
    "ENTITY",
    "INTERACTS",
    "IS",
    "ITEM",
    "RELATES",
    "USER",
    "EdgeType",
    "Labels",
    "SplitReport",
    "StoreSummary",
    "Vocabulary",
    "as_ids",
    "as_index",
    "check_split",
    "count_repeats",
    "drop_repeats",
    "from_pandas",
    "has_knowledge",
    "indexable",
    "load_store",
    "num_relations",
    "read_atomic",
    "read_kgat",
    "save_store",
    "split_frames",
    "summary",
    "validate",
]
