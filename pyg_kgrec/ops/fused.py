"""Backend ``fused``: one pass over the triples on the CPU, without [E, d] intermediates.

Why Numba and not C++: it installs as a wheel where no compiler is, and compiles once (about a second a
kernel, then cached on disk beside the package, or in the user's cache folder where that is read-only), while
an inline C++ extension needs a compiler, ninja and half a minute at first use. It is imported at the first
call of an operation, never with the package.

Threads: kernels release the GIL and are called on ranges of equal work, handed out in turn, by as many threads
as ``torch.get_num_threads()``: PyTorch's own OpenMP threads where its library can be found (:class:`_Team`),
else Python threads (:class:`_Pool`). This needs none of Numba's threading layers (one of which is not
thread-safe, one of which brings a second OpenMP runtime that spins against PyTorch's), works from several callers
at once and after a fork, and leaves compilation twice as fast. Results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_TASKS = 16  # most ranges; fixed, so that sums over groups of rows do not depend on the number of threads
_TASK = 8192  # least work items of a range: below, handing it out costs more than it brings
_GROUP_BYTES = 1 << 26  # most memory for the partial gradients of relations
_MEMORY_WORK = 16  # work items that a step of one relation of the memory counts as: about 100 ns


_View = TypeVar("_View", "_Pieces", "_Triples")


@cache
def _loops() -> Any:
    from pyg_kgrec.ops import _loops

    return _loops


class _Pool:
    """Threads that live as long as the process and are started anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Drop the executor without waiting for its threads, which a forked child does not have."""
        self.__init__()  # type: ignore[misc]

    def run(self, work: Callable[[], None], size: int) -> None:
        """Call ``work`` on ``size`` threads, the calling one among them."""
        with self._lock:
            if self._executor is None or self._size < size - 1:
                self._executor = ThreadPoolExecutor(size - 1, thread_name_prefix="pyg_kgrec")
                self._size = size - 1
            executor = self._executor
        helpers = [executor.submit(work) for _ in range(size - 1)]
        work()
        for helper in helpers:
            helper.result()


class _Team:
    """PyTorch's own OpenMP threads.

    After each of PyTorch's operations they spin for a while, waiting for the next one: other threads would have to
    share the processors with them.
    """

    _BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def __init__(self, parallel: Any) -> None:
        self._parallel = parallel

    @classmethod
    def find(cls) -> _Team | None:
        """The team, or None where PyTorch has brought no OpenMP library of that kind."""
        for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
            try:
                parallel = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD).GOMP_parallel
            except (OSError, AttributeError):
                continue
            parallel.argtypes = [cls._BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            return cls(parallel)
        return None

    def run(self, work: Callable[[], None], size: int) -> None:
        """Call ``work`` on ``size`` threads, the calling one among them."""
        self._parallel(self._BODY(lambda _: work()), None, size, 0)


_pool = _Pool()
_threads: _Pool | _Team = _Team.find() or _pool


def _after_fork() -> None:
    """A forked child has neither the pool's threads nor OpenMP's, and must not wait for them."""
    global _threads
    _pool.forget()
    _threads = _pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _parallel(run: Callable[[int], int], tasks: int) -> None:
    """Call ``run(0) … run(tasks - 1)`` on several threads, the calling one among them.

    Raises:
        IndexError: A kernel met indices out of range (its results are to be thrown away).
    """
    ticket, bad, failed = itertools.count(), [0], []

    def work() -> None:
        try:
            while (task := next(ticket)) < tasks:
                bad.append(run(task))
        except BaseException as error:
            failed.append(error)

    size = min(torch.get_num_threads(), tasks)
    if size > 1:
        _threads.run(work, size)
    else:
        work()
    if failed:
        raise failed[0]
    if any(bad):
        raise IndexError(
            f"{sum(bad)} indices point outside the tables given to this operation; "
            "the index was changed after it was built, or belongs to another graph"
        )


def _tasks(work: int) -> int:
    """Into how many ranges some work is cut."""
    return min(max(work // _TASK, 1), _TASKS)


def _ranges(count: int, work: int) -> list[tuple[int, int]]:
    """Cut ``0 .. count`` into equal ranges."""
    tasks = _tasks(work)
    return [(count * i // tasks, count * (i + 1) // tasks) for i in range(tasks)]


def _run(kernel: Any, ranges: Sequence[tuple[int, int]], *args: Any) -> None:
    if torch.get_num_threads() == 1:  # one call does: ranges follow one another
        ranges = [(ranges[0][0], ranges[-1][1])]
    _parallel(lambda i: kernel(*ranges[i], *args), len(ranges))


def _np(x: Tensor) -> np.ndarray[Any, Any]:
    return x.detach().contiguous().numpy()


class _Pieces:
    """The pieces of one order of the edges, as NumPy arrays, and how they are handed out."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.ptr, self.edge, self.start, self.segment, self.slot, self.split, self.split_ptr = map(
            _np, tensors
        )
        self.count = len(self.segment)
        if len(self.start) != self.count + 1 or len(self.slot) != self.count:
            raise IndexError("the pieces of this index do not belong together; build the index anew")
        self.slots = int(self.split_ptr[-1]) if len(self.split_ptr) else 0
        # An edge counts as much as a segment's own overhead.
        work = self.start + np.arange(self.count + 1)
        tasks = _tasks(int(work[-1]))
        cuts = np.searchsorted(work, work[-1] * np.arange(tasks + 1) // tasks)
        self.ranges = list(itertools.pairwise(cuts.clip(max=self.count).tolist()))
        """Ranges of pieces of about equal work."""

    @property
    def num_segments(self) -> int:
        return len(self.ptr) - 1

    def args(self) -> tuple[Any, ...]:
        return self.start, self.segment, self.slot

    def part(self, like: Tensor, *shape: int) -> np.ndarray[Any, Any]:
        return _np(like.new_empty(self.slots, *shape))

    def merge(self, kernel: Any, *args: Any, of: np.ndarray[Any, Any] | None = None) -> None:
        """Join partial results; ``of`` maps segments to rows of the result."""
        if len(self.split):
            target = self.split if of is None else of[self.split]
            _run(kernel, _ranges(len(self.split), self.slots), target, self.split_ptr, *args)


class _Triples:
    """The flat tensors of a :class:`~pyg_kgrec.ops.index.TripleIndex`."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.head_row, self.input_row, _, self.tail, self.edge_type = map(_np, tensors[:5])
        self.col_row, self.col_type = _np(tensors[7]), _np(tensors[8])
        self.rows, self.cols = _Pieces(tensors[9:16]), _Pieces(tensors[16:23])
        self.edges = len(self.tail)
        known = len(self.cols.edge)
        if (len(self.edge_type), len(self.col_row), len(self.col_type)) != (self.edges, known, known):
            raise IndexError("the tensors of this index do not belong together; build the index anew")


_views: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _view(kind: type[_View], tensors: Sequence[Tensor]) -> _View:
    """The arrays of an index, made once for as long as its first tensor lives."""
    where = [(t.data_ptr(), t.numel()) for t in tensors]
    known = _views.get(tensors[0])
    if known is None or known[0] is not kind or known[1] != where:
        # The arrays hold the memory that ``where`` names, but not the tensor that is the key.
        known = _views[tensors[0]] = (kind, where, kind(tensors))
    view: _View = known[2]
    return view


def _keep(keep: Tensor | None, axes: int = 1) -> tuple[np.ndarray[Any, Any], bool]:
    return (np.zeros((0,) * axes, dtype=np.bool_), False) if keep is None else (_np(keep), True)


def _group_ranges(ranges: list[tuple[int, int]], relation: Tensor) -> list[list[tuple[int, int]]]:
    """Join ranges into groups, each with partial relation gradients of its own, within the memory bound."""
    size = max(relation.numel() * relation.element_size(), 1)
    groups = max(1, min(len(ranges), _GROUP_BYTES // size))
    return [ranges[len(ranges) * g // groups : len(ranges) * (g + 1) // groups] for g in range(groups)]


def _relation_gradient(
    kernel: Callable[[tuple[int, int], Any], int], ranges: list[tuple[int, int]], relation: Tensor
) -> Tensor:
    groups = _group_ranges(ranges, relation)
    partial = torch.zeros(len(groups), *relation.shape, dtype=relation.dtype)
    buffer = _np(partial)
    _parallel(lambda g: sum(kernel(span, buffer[g]) for span in groups[g]), len(groups))
    if len(groups) == 1:
        return partial[0].clone()
    result = torch.empty_like(relation)
    flat = buffer.reshape(len(groups), -1)
    _run(_loops().sum_groups, _ranges(result.numel(), partial.numel()), flat, _np(result).reshape(-1))
    return result


def attention_forward(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: Sequence[Tensor],
    num_heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    loops, ix = _loops(), _view(_Triples, index)
    rows = len(ix.head_row)
    out = query.new_empty(rows, query.size(1))
    logits, lse = query.new_empty(ix.edges, num_heads), query.new_empty(rows, num_heads)
    part = ix.rows.part(query, query.size(1)), ix.rows.part(query, num_heads), ix.rows.part(query, num_heads)
    _run(
        loops.attention_forward, ix.rows.ranges, *ix.rows.args(), ix.head_row, ix.tail, ix.edge_type,
        _np(query), _np(value), _np(relation), *_keep(keep), num_heads, _np(out), _np(logits), _np(lse),
        *part,
    )  # fmt: skip
    ix.rows.merge(loops.merge_attention, num_heads, _np(out), _np(lse), *part)
    return out, logits, lse


def attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, value and relation."""
    loops, ix = _loops(), _view(_Triples, index)
    q, r, g, width = _np(query), _np(relation), _np(grad), query.size(1)
    d_query, d_value = torch.empty_like(query), torch.empty_like(value)
    slope = _np(logits.new_empty(ix.edges, 2 * num_heads))
    part = ix.rows.part(query, width)
    fixed = (
        *ix.rows.args(), ix.head_row, ix.tail, ix.edge_type, q, _np(value), r, *_keep(keep), num_heads, g,
        _np(out), _np(logits), _np(lse), slope, _np(d_query), part,
    )  # fmt: skip
    d_relation = _relation_gradient(
        lambda span, buffer: loops.attention_backward_rows(*span, *fixed, buffer), ix.rows.ranges, relation
    )
    ix.rows.merge(loops.merge_sum, _np(d_query), part, of=ix.head_row)

    part_query, part_value = ix.cols.part(query, width), ix.cols.part(query, width)
    _run(
        loops.attention_backward_cols, ix.cols.ranges, ix.cols.ptr, *ix.cols.args(), ix.cols.edge, ix.col_row,
        ix.col_type, ix.head_row, ix.input_row, q, r, *_keep(keep), num_heads, g, slope, _np(d_query), _np(d_value),
        part_query, part_value,
    )  # fmt: skip
    ix.cols.merge(loops.merge_sum, _np(d_query), part_query)
    ix.cols.merge(loops.merge_sum, _np(d_value), part_value)
    return d_query, d_value, d_relation


def rationale_scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E]."""
    loops, ix = _loops(), _view(_Triples, index)
    logits = query.new_empty(ix.edges, 1)
    _run(
        loops.mean_logits, ix.rows.ranges, ix.rows.start, ix.rows.segment, ix.head_row, ix.tail,
        ix.edge_type, _np(query), _np(relation), *_keep(keep), num_heads, _np(logits),
    )  # fmt: skip
    return _softmax(logits, ix.rows, times_count=True).view(-1)


def relational_mean_forward(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    loops, ix = _loops(), _view(_Triples, index)
    out = value.new_empty(len(ix.head_row), value.size(1))
    part = ix.rows.part(value, value.size(1))
    _run(
        loops.mean_forward, ix.rows.ranges, *ix.rows.args(), ix.tail, ix.edge_type, _np(value),
        _np(relation), *_keep(keep), _np(count), _np(out), part,
    )  # fmt: skip
    ix.rows.merge(loops.merge_sum, _np(out), part)
    return out


def relational_mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of value and relation."""
    loops, ix = _loops(), _view(_Triples, index)
    g, c, kept = _np(grad), _np(count), _keep(keep)
    fixed = (*ix.rows.args(), ix.tail, ix.edge_type, _np(value), *kept, c, g)
    d_relation = _relation_gradient(
        lambda span, buffer: loops.mean_backward_rows(*span, *fixed, buffer), ix.rows.ranges, relation
    )
    d_value, part = torch.empty_like(value), ix.cols.part(value, value.size(1))
    _run(
        loops.mean_backward_cols, ix.cols.ranges, *ix.cols.args(), ix.cols.edge, ix.col_row, ix.col_type,
        _np(relation), *kept, c, g, _np(d_value), part,
    )  # fmt: skip
    ix.cols.merge(loops.merge_sum, _np(d_value), part)
    return d_value, d_relation


def aggregate(x: Tensor, source: Tensor, weight: Tensor | None, segments: Sequence[Tensor]) -> Tensor:
    """Weighted sum of the rows ``source`` of ``x`` over each segment's edges, [S, d]."""
    loops, seg = _loops(), _view(_Pieces, segments)
    out, part = x.new_empty(seg.num_segments, x.size(1)), seg.part(x, x.size(1))
    given = _np(x.new_empty(0)) if weight is None else _np(weight.to(x.dtype))
    _run(
        loops.aggregate, seg.ranges, *seg.args(), seg.edge, _np(source), _np(x), given, weight is not None,
        _np(out), part,
    )  # fmt: skip
    seg.merge(loops.merge_sum, _np(out), part)
    return out


def _softmax(src: Tensor, seg: _Pieces, times_count: bool) -> Tensor:
    loops, heads = _loops(), src.size(1)
    out = torch.empty_like(src, memory_format=torch.contiguous_format)
    part = seg.part(src, heads), seg.part(src, heads), np.empty((seg.slots, heads), np.int64)
    _run(loops.softmax_forward, seg.ranges, *seg.args(), _np(src), _np(out), *part, times_count)
    if len(seg.split):
        pieces = np.flatnonzero(seg.slot >= 0)
        ranges = _ranges(len(seg.split), seg.slots)
        _run(loops.softmax_rescale, ranges, seg.split_ptr, pieces, seg.start, _np(out), *part, times_count)
    return out


def segment_softmax_forward(src: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Softmax over each segment, [E, H]."""
    return _softmax(src, _view(_Pieces, segments), times_count=False)


def segment_softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Gradient of the source."""
    seg, result = _view(_Pieces, segments), torch.empty_like(out)
    ranges = _ranges(seg.num_segments, out.numel())
    _run(_loops().softmax_backward, ranges, seg.ptr, _np(grad), _np(out), _np(result))
    return result


def _dropout_args(x: Tensor, p: float, seed: Tensor) -> tuple[Any, ...]:
    dtype = _np(x).dtype.type
    return int(seed), int(p * 2**32), dtype(1 / (1 - p)), dtype(1e-12)


def dropout_normalize_forward(x: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result and the inverse norms [N]."""
    out, inverse = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.size(0))
    _run(
        _loops().dropout_normalize_forward, _ranges(x.size(0), x.numel()), _np(x), *_dropout_args(x, p, seed),
        _np(out), _np(inverse),
    )  # fmt: skip
    return out, inverse


def dropout_normalize_backward(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor) -> Tensor:
    """Gradient of the input."""
    result = torch.empty_like(out)
    _run(
        _loops().dropout_normalize_backward, _ranges(out.size(0), out.numel()), _np(grad), _np(out),
        _np(inverse), *_dropout_args(out, p, seed), _np(result),
    )  # fmt: skip
    return result


def sampled_scores_forward(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    """Inner products [B, k]."""
    out = user.new_empty(sample.shape)
    ranges = _ranges(sample.size(0), sample.numel())
    _run(_loops().sampled_scores, ranges, _np(user), _np(item), _np(sample), _np(out))
    return out


def sampled_scores_backward(
    grad: Tensor, user: Tensor, item: Tensor, sample: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of users and items."""
    loops, g, keys = _loops(), _np(grad), _np(sample)
    d_user, d_item = torch.empty_like(user), torch.empty_like(item)
    ranges = _ranges(sample.size(0), sample.numel())
    _run(loops.sampled_scores_of_user, ranges, _np(item), keys, g, _np(d_user))
    ptr, row = np.zeros(item.size(0) + 1, np.int64), np.empty(sample.numel(), np.int64)
    value = np.empty(sample.numel(), g.dtype)
    _run(lambda lo, hi: loops.sort_by_item(keys, g, ptr, row, value), [(0, 1)])
    tasks = _tasks(sample.numel())
    cuts = np.searchsorted(ptr, sample.numel() * np.arange(1, tasks) // tasks).clip(max=item.size(0)).tolist()
    ranges = list(itertools.pairwise([0, *cuts, item.size(0)]))
    _run(loops.sampled_scores_of_item, ranges, ptr, row, value, _np(user), _np(d_item))
    return d_user, d_item


def stratified_keep(segments: Sequence[Tensor], quota: Tensor, seed: Tensor) -> Tensor:
    """Mask [E]."""
    seg = _view(_Pieces, segments)
    keep = torch.empty(len(seg.edge), dtype=torch.bool)
    cuts = np.searchsorted(seg.ptr, np.linspace(0, len(seg.edge), _TASKS + 1)[1:-1])
    bounds = [0, *cuts.clip(max=seg.num_segments).tolist(), seg.num_segments]
    _run(
        _loops().stratified_keep, list(itertools.pairwise(bounds)), seg.ptr, seg.edge, _np(quota), int(seed),
        _np(keep),
    )  # fmt: skip
    return keep


def search_rows(key: Tensor, ptr: Tensor, row: Tensor, query: Tensor) -> Tensor:
    """Positions [B, k]."""
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    ranges = _ranges(query.size(0), query.numel())
    _run(_loops().search_rows, ranges, _np(key), _np(ptr), _np(row), _np(query), _np(out))
    return out


def topk_mask(score: Tensor, k: int) -> Tensor:
    """Mask [E]."""
    keep = torch.empty(score.numel(), dtype=torch.bool)
    bits = np.int32 if score.dtype == torch.float32 else np.int64
    values = _np(score + 0.0).view(bits)  # adding zero turns -0 into 0
    lowest = int(np.array(-np.inf, dtype=values.dtype.str.replace("i", "f")).view(bits))
    _loops().topk_mask(values, k, lowest, _np(keep))
    return keep


def rank_topk(
    user: Tensor, item: Tensor, k: int, ptr: Tensor | None, seen: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    """Items [B, k] and scores [B, k]."""
    index, value = torch.empty(user.size(0), k, dtype=torch.long), user.new_empty(user.size(0), k)
    where, best = _np(index), _np(value)
    transposed = item.t()
    excluding = ptr is not None and seen is not None
    start_of = np.zeros(1, np.int64) if ptr is None else _np(ptr)
    banned = np.zeros(0, start_of.dtype) if seen is None else _np(seen)
    for start in range(0, user.size(0), block):
        score = user[start : start + block] @ transposed
        stop = start + score.size(0)
        _run(
            _loops().topk_rows, _ranges(stop - start, score.numel()), _np(score), start_of[start : stop + 1],
            banned, excluding, k, where[start:stop], best[start:stop],
        )  # fmt: skip
    return index, value


def hyperplane_scores(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str | Tensor, norm: str
) -> Tensor:
    """Scores [B, I], all but ``'soft'`` with ``'l2'``; loops overwrite matrix products in the result."""
    loops = _loops()
    pi_x, pi_y = (x @ translation.t() for x in (source, target))
    nu_x, nu_y = (x @ normal.t() for x in (source, target))
    out = source.new_empty(source.size(0), target.size(0))
    ranges = _ranges(source.size(0), out.numel())
    if isinstance(relation, str) and relation == "soft":
        c_x, c_y = pi_x @ normal, pi_y @ normal
        own = [(n * pi).sum(-1, keepdim=True) for n, pi in ((nu_x, pi_x), (nu_y, pi_y))]
        left = torch.cat([nu_x, -pi_x, own[0], torch.ones_like(own[0])], 1)
        right = torch.cat([pi_y, nu_y, torch.ones_like(own[1]), -own[1]], 1)
        torch.mm(left, right.t(), out=out)
        a, b = source + pi_x @ translation, target - pi_y @ translation
        _run(loops.soft_absolute, ranges, _np(a), _np(b), _np(c_x), _np(c_y), _np(out))
        return out
    given = relation if isinstance(relation, Tensor) else torch.empty(0, dtype=torch.long)
    by_relation = _np(pi_x), _np(pi_y.t()), _np(nu_x), _np(nu_y.t())
    chosen = _np(given), isinstance(relation, Tensor)
    if norm == "l1":
        tables = _np(translation), _np(normal)
        _run(loops.hard_absolute, ranges, _np(source), _np(target), *by_relation, *tables, *chosen, _np(out))
        return out
    torch.mm(source, target.t(), out=out)
    squared = [_np(x.pow(2).sum(-1)) for x in (source, target, translation, normal)]
    along = _np(2 * (translation * normal).sum(-1))
    _run(loops.hard_squared, ranges, *by_relation, *squared, along, *chosen, _np(out))
    return out


def _memory_args(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """Ranges of sequences, and what the loops read."""
    ranges = _ranges(entity.size(0), attention.numel() * _MEMORY_WORK)
    return ranges, (_np(entity.flatten(0, 1)), _np(relation), _np(attention), *_keep(mask, axes=2))


def relational_memory_forward(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    read = torch.empty_like(entity)
    memory = entity.new_empty(entity.size(0), *relation.shape)
    ranges, fixed = _memory_args(entity, relation, attention, mask)
    _run(_loops().memory_forward, ranges, *fixed, _np(read.flatten(0, 1)), _np(memory.flatten(0, 1)))
    return read, memory


def relational_memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of entity, relation and attention."""
    d_entity, d_attention = torch.empty_like(entity), torch.empty_like(attention)
    ranges, given = _memory_args(entity, relation, attention, mask)
    fixed = (
        *given, _np(grad_read.flatten(0, 1)), _np(grad_memory.flatten(0, 1)), _np(d_entity.flatten(0, 1)),
        _np(d_attention),
    )  # fmt: skip
    loops = _loops()
    d_relation = _relation_gradient(
        lambda span, buffer: loops.memory_backward(*span, *fixed, buffer), ranges, relation
    )
    return d_entity, d_relation, d_attention


def relational_memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> Tensor:
    """Gradient of attention alone: the products of the reads' gradients with the memory."""
    d_attention = torch.empty_like(attention)
    ranges, fixed = _memory_args(entity, relation, attention, mask)
    _run(_loops().memory_weights_backward, ranges, *fixed, _np(grad_read.flatten(0, 1)), _np(d_attention))
    return d_attention
