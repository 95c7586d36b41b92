"""Hot operations: pure tensors in, tensors out, several backends.

===========  =========================================================================================
``torch``    plain PyTorch, any device, differentiated by autograd; stands beside the operation itself
``numba``    one pass over the edges on the CPU, compiled by Numba (extra ``fused``)
``triton``   the same on a GPU (extra ``triton``); on the CPU under ``TRITON_INTERPRET=1``
``scatter``  segment reductions of torch-scatter, where installed (extra ``kernels``), to compare with
``scan``     plain PyTorch, any device: a recurrence over scalars instead of vectors
===========  =========================================================================================

``auto``, the default, picks by device, size and what is installed; :func:`report` shows what it picks and
why. ``with ops.backend('torch'):`` or the environment variable ``PYG_KGREC_BACKEND`` ask for one by name.
Backends differ in speed and rounding only: random ones draw the same numbers from the same seed.

An operation is read top to bottom in one file: what it computes, what it checks, its plain form, its operator and
derivative. Compiled forms stand in files of the same name in :mod:`.numba` and :mod:`.triton`.

Graphs come as a :class:`TripleIndex` or :class:`BipartiteIndex`, built once and cached by the caller.
"""

from pyg_kgrec.ops.aggregate import relational_mean as relational_mean
from pyg_kgrec.ops.aggregate import weighted_aggregate as weighted_aggregate
from pyg_kgrec.ops.attention import rationale_scores as rationale_scores
from pyg_kgrec.ops.attention import relational_attention as relational_attention
from pyg_kgrec.ops.attention import segment_softmax as segment_softmax
from pyg_kgrec.ops.dispatch import backend as backend
from pyg_kgrec.ops.dispatch import report as report
from pyg_kgrec.ops.dropout import dropout_normalize as dropout_normalize
from pyg_kgrec.ops.hashing import make_seed as make_seed
from pyg_kgrec.ops.hyperplane import HyperplaneTargets as HyperplaneTargets
from pyg_kgrec.ops.hyperplane import Induction as Induction
from pyg_kgrec.ops.hyperplane import choose_relation as choose_relation
from pyg_kgrec.ops.hyperplane import hyperplane_scores as hyperplane_scores
from pyg_kgrec.ops.hyperplane import translate as translate
from pyg_kgrec.ops.index import BipartiteIndex as BipartiteIndex
from pyg_kgrec.ops.index import Segments as Segments
from pyg_kgrec.ops.index import TripleIndex as TripleIndex
from pyg_kgrec.ops.memory import relational_memory as relational_memory
from pyg_kgrec.ops.ranking import catalogue_cross_entropy as catalogue_cross_entropy
from pyg_kgrec.ops.ranking import rank_topk as rank_topk
from pyg_kgrec.ops.ranking import sampled_scores as sampled_scores
from pyg_kgrec.ops.sampling import gumbel_noise as gumbel_noise
from pyg_kgrec.ops.sampling import sample_mask as sample_mask
from pyg_kgrec.ops.sampling import search_rows as search_rows
from pyg_kgrec.ops.sampling import stratified_keep as stratified_keep
from pyg_kgrec.ops.sampling import topk_mask as topk_mask
