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
"""Edges that a list of those that take part has room for: it stays in the nearest cache."""


@jit
def piece_ok(ptr, a, b, segment, slot, num_edges, num_segments, num_slots):
    """Whether a piece ``a .. b`` fits a block, lies inside its segment and tables, and is all of it or has a slot.

    Pieces follow each other, and each is looked at: where all are right, every row of the result is written. There
    are no branches: the compiler would count who uses ``ptr``, for each piece and across threads.
    """
    inside = (segment >= 0) & (segment < num_segments) & (segment < ptr.shape[0] - 1)
    one = np.int64(inside)
    first, last = ptr[segment * one], ptr[segment * one + one]
    inside &= (first >= 0) & (first <= a) & (a <= b) & (b <= last) & (last <= num_edges) & (b - a <= BLOCK)
    whole = (slot == -1) & (a == first) & (b == last)
    return inside & (whole | ((slot >= 0) & (slot < num_slots) & (b - a < last - first)))


@inline
def slots_ok(a, b, segment, num_slots, num_segments):
    """Whether the slots ``a .. b`` of a segment of several pieces, and the segment, lie inside their tables."""
    return 0 <= a <= b <= num_slots and 0 <= segment < num_segments


@intrinsic
def prefetch(typing_context: Any, table: Any, row: Any) -> Any:
    """Ask for a row of a table that will be needed :data:`AHEAD` edges later, where there is such a row.

    As an intrinsic, because a function that is copied into a loop counts who uses ``table``, for each edge.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, args[0])
        rows, columns = cgutils.unpack_tuple(builder, array.shape, 2)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        call = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [byte], call)
        step = columns.type(64 // (kind.dtype.bitwidth // 8))  # a cache line
        with (
            builder.if_then(builder.icmp_unsigned("<", args[1], rows)),
            cgutils.for_range_slice(builder, step.type(0), columns, step, inc=True) as (column, _),
        ):
            cell = cgutils.get_item_pointer(context, builder, kind, array, [args[1], column])
            builder.call(ask, [builder.bitcast(cell, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, types.intp), generate


@jit
def list_kept(p, hi, piece_ptr, num_edges, edge, keep, masked, chosen, first):
    """List the positions that take part, of as many pieces from ``p`` on as ``chosen`` and ``first`` have room for.

    Which edges are masked out is random, and no processor foresees it: they are sorted out here, without branches,
    and the rows of the others can be asked for ahead of their use, across pieces. Those of piece ``p + i`` are
    ``chosen[first[i]:first[i + 1]]``; one that lies outside the edges, or is longer than :data:`BLOCK`, has none.

    Args:
        p: The first piece.
        hi: The piece after the last one.
        piece_ptr: Where pieces begin.
        num_edges: Number of positions.
        edge: The edge at each position; empty where that is its own number.
        keep: Whether an edge takes part.
        masked: Whether ``keep`` is given.
        chosen: Room for :data:`BLOCK` positions, uint64.
        first: Room for where the pieces begin in it.

    Returns:
        The piece after those that are listed.
    """
    known, q, last = 0, p, min(hi, p + first.shape[0] - 1)
    first[0] = 0
    while q < last:
        a, b = piece_ptr[q], piece_ptr[q + 1]
        if not (0 <= a <= b <= num_edges and b - a <= chosen.shape[0]):
            a, b = 0, 0
        if known + b - a > chosen.shape[0]:
            break
        for j in range(a, b):
            chosen[known] = j
            e = edge[j] if edge.shape[0] > 0 else j
            known += not masked or not 0 <= e < keep.shape[0] or keep[e]  # a wild one is refused by the loop
        q += 1
        first[q - p] = known
    return q


def _place(context: Any, builder: Any, kinds: Any, args: Any) -> Any:
    """The address of an element, and the name of the memory that holds sums, in the compiler's words."""
    array = context.make_array(kinds[0])(context, builder, args[0])
    at = cgutils.unpack_tuple(builder, args[1], kinds[0].ndim)
    domain = builder.module.add_metadata(["pyg_kgrec"])
    scopes = builder.module.add_metadata([builder.module.add_metadata(["sums", domain])])
    return cgutils.get_item_pointer(context, builder, kinds[0], array, at), scopes


def _read(side: str) -> Any:
    @intrinsic
    def read(typing_context: Any, table: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, scopes = _place(context, builder, signature.args, args)
            value = builder.load(address)
            value.set_metadata(side, scopes)
            return value

        return table.dtype(table, at), generate

    return read


def _write(side: str) -> Any:
    @intrinsic
    def write(typing_context: Any, table: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, scopes = _place(context, builder, signature.args, args)
            builder.store(args[2], address).set_metadata(side, scopes)
            return context.get_dummy_value()

        return types.void(table, at, table.dtype), generate

    return write


# Sums and tables share no memory, which the compiler cannot see: it would look before every loop over channels, and
# those are short. Sums are arrays of a loop's own and the gradients that it adds up, tables all else.
_get, _put = _read("noalias"), _write("noalias")
_sum, _keep = _read("alias.scope"), _write("alias.scope")


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
        _keep(acc, (d,), _sum(acc, (d,)) + w * _get(a, (i, d)))


@jit
def add2(acc, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to ``acc``."""
    i, j = np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        _keep(acc, (d,), _sum(acc, (d,)) + w * _get(a, (i, d)) * _get(b, (j, d)))


@jit
def add2_row(out, n, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to out[n]."""
    n, i, j = np.uint64(n), np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        _keep(out, (n, d), _sum(out, (n, d)) + w * _get(a, (i, d)) * _get(b, (j, d)))


@jit
def add4_row(out, n, w, a, i, b, j, v, c, k, e, l, lo, hi):  # noqa: E741
    """Add w · a[i] ⊙ b[j] + v · c[k] ⊙ e[l] to out[n]."""
    n, i, j, k, l = np.uint64(n), np.uint64(i), np.uint64(j), np.uint64(k), np.uint64(l)  # noqa: E741
    for d in range(np.uint64(lo), np.uint64(hi)):
        more = w * _get(a, (i, d)) * _get(b, (j, d)) + v * _get(c, (k, d)) * _get(e, (l, d))
        _keep(out, (n, d), _sum(out, (n, d)) + more)


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
        _put(out, (i, d), scale * _sum(acc, (d,)))
