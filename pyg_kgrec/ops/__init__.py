"""Hot operations behind one door: pure tensors in, tensors out, several backends.

======================  ==============================================================================
``reference``           plain PyTorch, any device, differentiated by autograd
``scatter``             segment reductions of torch-scatter, where installed (extra ``kernels``)
``scan``                plain PyTorch, any device: a recurrence over scalars instead of vectors
``fused``               one pass over the triples on the CPU, compiled by Numba (extra ``fused``)
``triton``              the same on a GPU (extra ``triton``); on the CPU under ``TRITON_INTERPRET=1``
======================  ==============================================================================

``auto``, the default, picks by device, size and what is installed; :func:`report` shows what it picks and
why. ``with ops.backend('reference'):`` or the environment variable ``PYG_KGREC_BACKEND`` ask for one by name.
Backends differ in speed and rounding only: random ones draw the same numbers from the same seed.

Graphs come as a :class:`TripleIndex` or :class:`BipartiteIndex`, built once and cached by the caller;
:class:`GraphStamp` tells whether a cached index still fits its graph.
"""

from pyg_kgrec.ops.door import backend, report
from pyg_kgrec.ops.functional import (
    dropout_normalize,
    gumbel_noise,
    make_seed,
    rank_topk,
    rationale_scores,
    relational_attention,
    relational_mean,
    sample_mask,
    sampled_scores,
    search_rows,
    segment_softmax,
    stratified_keep,
    topk_mask,
    weighted_aggregate,
)
from pyg_kgrec.ops.hyperplane import Induction, choose_relation, hyperplane_scores, translate
from pyg_kgrec.ops.index import BipartiteIndex, GraphStamp, Segments, TripleIndex
from pyg_kgrec.ops.memory import relational_memory

__all__ = [
    "BipartiteIndex",
    "GraphStamp",
    "Induction",
    "Segments",
    "TripleIndex",
    "backend",
    "choose_relation",
    "dropout_normalize",
    "gumbel_noise",
    "hyperplane_scores",
    "make_seed",
    "rank_topk",
    "rationale_scores",
    "relational_attention",
    "relational_mean",
    "relational_memory",
    "report",
    "sample_mask",
    "sampled_scores",
    "search_rows",
    "segment_softmax",
    "stratified_keep",
    "topk_mask",
    "translate",
    "weighted_aggregate",
]
