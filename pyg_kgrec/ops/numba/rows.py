# mypy: disable-error-code="no-untyped-def"
"""Loops over rows of tables that the loops of several operations share."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from pyg_kgrec.ops.index import PIECE
from pyg_kgrec.ops.numba.compiler import inline, jit

AHEAD = 8
"""Gathers are bound by the latency of memory: edges between asking for a row and using it."""

BLOCK = PIECE
"""Edges that a list of those that take part has room for at first: it stays in the nearest cache."""


@inline
def piece_ok(ptr, a, b, segment, slot, num_edges, num_segments, num_slots):
    """Whether a piece ``a .. b`` lies inside its segment and its tables, and is all of it or has a slot.

    Pieces follow each other, and each is looked at: where all are right, every row of the result is written.
    """
    if not (0 <= segment < num_segments and segment < ptr.shape[0] - 1):
        return False
    if not 0 <= ptr[segment] <= a <= b <= ptr[segment + 1] <= num_edges:
        return False
    if slot == -1:
        return a == ptr[segment] and b == ptr[segment + 1]
    return 0 <= slot < num_slots and b - a < ptr[segment + 1] - ptr[segment]


@inline
def slots_ok(a, b, segment, num_slots, num_segments):
    """Whether the slots ``a .. b`` of a segment of several pieces, and the segment, lie inside their tables."""
    return 0 <= a <= b <= num_slots and 0 <= segment < num_segments


@intrinsic
def _prefetch_cell(typing_context: Any, table: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of table[row, column]; no result, and no fault whatever the address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, args[0])
        cell = cgutils.get_item_pointer(context, builder, kind, array, [args[1], args[2]])
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        call = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], call)
        builder.call(prefetch, [builder.bitcast(cell, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp), generate


@inline
def prefetch(table, row):
    """Ask for a row of a table that will be needed :data:`AHEAD` edges later."""
    if 0 <= row < table.shape[0]:
        for d in range(0, table.shape[1], 64 // table.itemsize):
            _prefetch_cell(table, row, d)


@jit
def list_kept(p, hi, piece_ptr, num_edges, edge, keep, masked, chosen, first):
    """List the positions that take part, of as many pieces from ``p`` on as ``chosen`` and ``first`` have room for.

    Which edges are masked out is random, and no processor foresees it: they are sorted out here, without branches,
    and the rows of the others can be asked for ahead of their use, across pieces. Those of piece ``p + i`` are
    ``chosen[first[i]:first[i + 1]]``; a piece that lies outside the edges has none.

    Args:
        p: The first piece.
        hi: The piece after the last one.
        piece_ptr: Where pieces begin.
        num_edges: Number of positions.
        edge: The edge at each position; empty where that is its own number.
        keep: Whether an edge takes part.
        masked: Whether ``keep`` is given.
        chosen: Room for positions, uint64; made anew where the piece ``p`` alone is longer.
        first: Room for where the pieces begin in it.

    Returns:
        The piece after those that are listed, and ``chosen``.
    """
    known, q, last = 0, p, min(hi, p + first.shape[0] - 1)
    first[0] = 0
    while q < last:
        a, b = piece_ptr[q], piece_ptr[q + 1]
        if not 0 <= a <= b <= num_edges:
            a, b = 0, 0
        if known + b - a > chosen.shape[0]:
            if q > p:
                break
            chosen = np.empty(b - a, np.uint64)
        for j in range(a, b):
            chosen[known] = j
            e = edge[j] if edge.shape[0] > 0 else j
            known += not masked or not 0 <= e < keep.shape[0] or keep[e]  # a wild one is refused by the loop
        q += 1
        first[q - p] = known
    return q, chosen


@jit
def dot(zero, a, i, b, j, lo, hi):
    """Sum of a[i] · b[j] over channels ``lo .. hi``."""
    i, j, s = np.uint64(i), np.uint64(j), zero
    for d in range(np.uint64(lo), np.uint64(hi)):
        s += a[i, d] * b[j, d]
    return s


@jit
def dot3(zero, a, i, b, j, c, k, lo, hi):
    """Sum of a[i] · b[j] · c[k] over channels ``lo .. hi``."""
    i, j, k, s = np.uint64(i), np.uint64(j), np.uint64(k), zero
    for d in range(np.uint64(lo), np.uint64(hi)):
        s += a[i, d] * b[j, d] * c[k, d]
    return s


@jit
def add(acc, w, a, i, lo, hi):
    """Add w · a[i] to ``acc``."""
    i = np.uint64(i)
    for d in range(np.uint64(lo), np.uint64(hi)):
        acc[d] += w * a[i, d]


@jit
def add2(acc, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to ``acc``."""
    i, j = np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        acc[d] += w * a[i, d] * b[j, d]


@jit
def add2_row(out, n, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to out[n]."""
    n, i, j = np.uint64(n), np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[n, d] += w * a[i, d] * b[j, d]


@jit
def add4_row(out, n, w, a, i, b, j, v, c, k, e, l, lo, hi):  # noqa: E741
    """Add w · a[i] ⊙ b[j] + v · c[k] ⊙ e[l] to out[n]."""
    n, i, j, k, l = np.uint64(n), np.uint64(i), np.uint64(j), np.uint64(k), np.uint64(l)  # noqa: E741
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[n, d] += w * a[i, d] * b[j, d] + v * c[k, d] * e[l, d]


@jit
def fill(acc, value):
    """Write a number to all of ``acc``."""
    for d in range(acc.shape[0]):
        acc[d] = value


@jit
def fill_row(out, i, value):
    """Write a number to all of out[i]."""
    i = np.uint64(i)
    for d in range(np.uint64(out.shape[1])):
        out[i, d] = value


@jit
def store(out, i, acc, scale, lo, hi):
    """Write scale · acc to out[i]."""
    i = np.uint64(i)
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[i, d] = scale * acc[d]
