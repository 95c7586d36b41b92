# mypy: disable-error-code="no-untyped-def"
"""The arrays of an index, and sums over segments of several pieces and over relations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyg_kgrec.ops.index import Segments, WildIndexError
from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.rows import add, fill, slots_ok, store
from pyg_kgrec.ops.numba.threads import ELEMENTS, as_array, parallel, ranges_of, run, tasks_of

CHANGED = (
    "the pieces of this index do not belong together: it was changed after it was built; build a new one"
)
_GROUP_BYTES = 1 << 26  # most memory for the partial gradients of relations

_View = TypeVar("_View", "Pieces", "Triples")
_views: WeakIdKeyDictionary = WeakIdKeyDictionary()


class Pieces:
    """The pieces of one order of the edges, as NumPy arrays, and how they are handed out."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.ptr, self.edge, self.start, self.segment, self.slot, self.split, self.split_ptr = map(
            as_array, tensors
        )
        Segments(*tensors).check_sound()
        self.count = len(self.segment)
        # Segments of several pieces are few: what says where they are is kept out of the reach of others.
        self.split, self.split_ptr = self.split.copy(), self.split_ptr.copy()
        self.slots = int(self.split_ptr[-1]) if len(self.split_ptr) else 0
        self.slot_piece = np.flatnonzero(self.slot >= 0)
        """The piece of each slot."""
        # An edge counts as much as a segment's own overhead.
        work = self.start + np.arange(self.count + 1)
        tasks = tasks_of(int(work[-1]))
        cuts = np.searchsorted(work, work[-1] * np.arange(tasks + 1) // tasks)
        self.ranges = list(itertools.pairwise(cuts.clip(max=self.count).tolist()))
        """Ranges of pieces of about equal work."""

    @property
    def num_segments(self) -> int:
        """Number of segments."""
        return len(self.ptr) - 1

    def args(self) -> tuple[Any, ...]:
        """What loops over pieces take first."""
        self.check_slots()
        return self.ptr, self.start, self.segment, self.slot

    def check_slots(self) -> None:
        """Each piece looks at its own segment, in the loops; here, that no two write to one slot.

        Raises:
            WildIndexError: The index was changed after it was built.
        """
        if self.slots and not np.array_equal(self.slot[self.slot_piece], np.arange(self.slots)):
            raise WildIndexError(CHANGED)

    def check_ends(self) -> None:
        """Raise where the segments do not begin with the first edge and end with the last one."""
        if len(self.ptr) == 0 or self.ptr[0] != 0 or self.ptr[-1] != len(self.edge):
            raise WildIndexError(CHANGED)

    def part(self, like: Tensor, *shape: int) -> np.ndarray[Any, Any]:
        """Room for the partial results of segments of several pieces."""
        return as_array(like.new_empty(self.slots, *shape))

    def merge(self, kernel: Any, *args: Any, of: np.ndarray[Any, Any] | None = None) -> None:
        """Join partial results; ``of`` maps segments to rows of the result."""
        if len(self.split):
            target = self.split if of is None else of[self.split]
            run(kernel, ranges_of(len(self.split), self.slots), target, self.split_ptr, *args)


class Triples:
    """The flat tensors of a :class:`~pyg_kgrec.ops.index.TripleIndex`."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.head_row, self.input_row, _, self.tail, self.edge_type = map(as_array, tensors[:5])
        self.col_row, self.col_type = as_array(tensors[7]), as_array(tensors[8])
        self.rows, self.cols = Pieces(tensors[9:16]), Pieces(tensors[16:23])
        self.edges = len(self.tail)
        known = len(self.cols.edge)
        if (len(self.edge_type), len(self.col_row), len(self.col_type)) != (self.edges, known, known):
            raise WildIndexError("the tensors of this index do not belong together; build the index anew")


def view(kind: type[_View], tensors: Sequence[Tensor]) -> _View:
    """The arrays of an index, made once for as long as its first tensor lives."""
    where = (*map(Tensor.data_ptr, tensors), *map(Tensor.numel, tensors))
    known = _views.get(tensors[0])
    if known is None or known[0] is not kind or known[1] != where:
        # The arrays hold the memory that ``where`` names, but not the tensor that is the key.
        known = _views[tensors[0]] = (kind, where, kind(tensors))
    found: _View = known[2]
    return found


def mask_of(keep: Tensor | None, axes: int = 1) -> tuple[np.ndarray[Any, Any], bool]:
    """A mask, and whether there is one: the arguments ``keep`` and ``masked`` of loops."""
    return (np.zeros((0,) * axes, dtype=np.bool_), False) if keep is None else (as_array(keep), True)


@jit
def merge_sum(lo, hi, split_segment, split_ptr, out, part):
    """Add up the partial sums of segments of several pieces."""
    one = out.dtype.type(1)
    acc = np.empty(out.shape[1], out.dtype)
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not slots_ok(a, b, m, part.shape[0], out.shape[0]):
            return 1
        fill(acc, out.dtype.type(0))
        for s in range(a, b):
            add(acc, one, part, s, 0, out.shape[1])
        store(out, m, acc, one, 0, out.shape[1])
    return 0


@jit
def sum_groups(lo, hi, groups, out):
    """Add up the groups' partial gradients [G, R · d] for the numbers ``lo .. hi``."""
    for i in range(lo, hi):
        s = groups[0, i]
        for g in range(1, groups.shape[0]):
            s += groups[g, i]
        out[i] = s
    return 0


def _group_ranges(ranges: list[tuple[int, int]], relation: Tensor) -> list[list[tuple[int, int]]]:
    """Join ranges into groups, each with partial relation gradients of its own, within the memory bound."""
    size = max(relation.numel() * relation.element_size(), 1)
    groups = max(1, min(len(ranges), _GROUP_BYTES // size))
    return [ranges[len(ranges) * g // groups : len(ranges) * (g + 1) // groups] for g in range(groups)]


def relation_gradient(
    kernel: Callable[[tuple[int, int], Any], int], ranges: list[tuple[int, int]], relation: Tensor
) -> Tensor:
    """Gradient of relations, to which all ranges add: groups of ranges add to tables of their own.

    Args:
        kernel: Called with a range and the table that it adds to; returns how many indices were out of range.
        ranges: Of pieces, or of sequences.
        relation: [R, d].
    """
    groups = _group_ranges(ranges, relation)
    partial = torch.zeros(len(groups), *relation.shape, dtype=relation.dtype)
    buffer = as_array(partial)
    parallel(lambda g: sum(kernel(span, buffer[g]) for span in groups[g]), len(groups))
    if len(groups) == 1:
        return partial[0].clone()
    result = torch.empty_like(relation)
    flat = buffer.reshape(len(groups), -1)
    run(
        sum_groups, ranges_of(result.numel(), partial.numel() // ELEMENTS), flat, as_array(result).reshape(-1)
    )
    return result
