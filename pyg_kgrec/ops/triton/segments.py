# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Sums over segments, and what the files of this backend share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _gather_sum(
    order, piece_ptr, piece_segment, piece_slot, edge, left_row, right_row, left, right, weight, out, part,
    lefts, rights,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    BY_POSITION: tl.constexpr, PAIR: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr,
    ORDERED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Sum of weight · left[row] ⊙ right[row] over the edges of each segment; a row of -1 adds nothing."""
    p = tl.program_id(0)
    if ORDERED:
        p = tl.load(order + p)
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    n, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    acc = tl.zeros([HP, KP], ACC)
    for start in range(first, last, BLOCK):
        j = start + tl.arange(0, BLOCK)
        live = j < last
        e = tl.load(edge + j, mask=live, other=0).to(tl.int64)
        spot = j if BY_POSITION else e
        row = tl.load(left_row + spot, mask=live, other=-1).to(tl.int64)
        live = live & (row >= 0) & (row < lefts)
        cell = live[:, None, None] & inside[None, :, :]
        term = tl.load(left + row[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(ACC)
        if PAIR:
            other = tl.load(right_row + spot, mask=live, other=-1).to(tl.int64)
            cell = cell & ((other >= 0) & (other < rights))[:, None, None]
            at = other[:, None, None] * (H * K) + channel[None, :, :]
            term = term * tl.load(right + at, mask=cell, other=0).to(ACC)
        if WEIGHTED:
            if SHARED:
                w = tl.load(weight + e, mask=live, other=0).to(ACC)[:, None]
            else:
                w = tl.load(
                    weight + e[:, None] * H + h[None, :], mask=live[:, None] & (h < H)[None, :], other=0
                )
            term = term * w.to(ACC)[:, :, None]
        acc += tl.sum(term, axis=0)
    if slot < 0:
        tl.store(out + n * (H * K) + channel, acc, mask=inside)
    else:
        tl.store(part + slot * (H * K) + channel, acc, mask=inside)


@triton.jit
def _merge_sum(
    split_segment, split_ptr, via, out, part,
    D: tl.constexpr, BLOCK: tl.constexpr, SLOTS: tl.constexpr, VIA: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0)
    n = tl.load(split_segment + i).to(tl.int64)
    if VIA:
        n = tl.load(via + n).to(tl.int64)
    first, last = tl.load(split_ptr + i).to(tl.int64), tl.load(split_ptr + i + 1).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], part.dtype.element_ty)
    for start in range(first, last, SLOTS):
        s = start + tl.arange(0, SLOTS)
        cell = (s < last)[:, None] & (d < D)[None, :]
        acc += tl.sum(tl.load(part + s[:, None] * D + d[None, :], mask=cell, other=0), axis=0)
    tl.store(out + n * D + d, acc, mask=d < D)


SLOTS = 32
"""Partial results that are added up together: where one waits for the next, a hub's take as long as its edges."""


class Segments(NamedTuple):
    """The tensors of :class:`pyg_kgrec.ops.Segments`."""

    ptr: Tensor
    edge: Tensor
    piece_ptr: Tensor
    piece_segment: Tensor
    piece_slot: Tensor
    split_segment: Tensor
    split_ptr: Tensor

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return self.piece_segment.numel()

    def part(self, width: int, dtype: torch.dtype) -> Tensor:
        """Room for partial results; pieces bound the number of slots without asking the device for it."""
        slots = self.pieces if self.split_segment.numel() else 0
        return torch.empty(slots, width, dtype=dtype, device=self.ptr.device)

    def merge(self, out: Tensor, part: Tensor, via: Tensor | None = None) -> None:
        """Add up partial results; ``via`` maps segments to rows of the result."""
        if self.split_segment.numel():
            width, block = out.size(1), 32
            grid = (self.split_segment.numel(), triton.cdiv(width, block))
            _merge_sum[grid](
                self.split_segment, self.split_ptr, self.ptr if via is None else via, out, part, D=width,
                BLOCK=block, SLOTS=SLOTS, VIA=via is not None,
            )  # fmt: skip


class Triples(NamedTuple):
    """What kernels take of the tensors of :class:`pyg_kgrec.ops.TripleIndex`."""

    head_row: Tensor
    input_row: Tensor
    row: Tensor
    tail: Tensor
    edge_type: Tensor
    col_row: Tensor
    col_type: Tensor
    rows: Segments
    cols: Segments
    rels: Segments
    rel_order: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Triples:
        """From the flat list of an index."""
        head_row, input_row, row, tail, edge_type, _, _, col_row, col_type = tensors[:9]
        rows, cols, rels = (Segments(*tensors[i : i + 7]) for i in (9, 16, 23))
        return cls(
            head_row, input_row, row, tail, edge_type, col_row, col_type, rows, cols, rels, tensors[30]
        )


def accumulator(x: Tensor) -> tuple[torch.dtype, Any]:
    """The dtype in which rows of ``x`` are added up, for PyTorch and for Triton."""
    return (torch.float64, tl.float64) if x.dtype == torch.float64 else (torch.float32, tl.float32)


def sizes_of(
    x: Tensor, heads: int, edges: int = 16, numbers: int = 1024, registers: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Heads and channels per head, as they are and padded, and how a piece is worked on.

    One warp per piece keeps most pieces in flight: most segments are short, and the pieces of long ones are many.

    Args:
        x: [N, d]; a table.
        heads: Number of heads.
        edges: Most edges that go through together.
        numbers: What they may read of each table, if that leaves four edges.
        registers: The most that a thread may have with up to 64 channels, and with up to 128. The assembler plans
            with a limit: it asks for rows together that it else asks for one by one, in fewer registers.
    """
    width = x.size(1) // heads
    padded = triton.next_power_of_2(heads) * triton.next_power_of_2(width)
    sizes = {
        "H": heads,
        "K": width,
        "HP": triton.next_power_of_2(heads),
        "KP": triton.next_power_of_2(width),
        "ACC": accumulator(x)[1],
        "BLOCK": max(1, min(edges, max(1024, numbers) // padded, max(4, numbers // padded))),
        "num_warps": 1,
    }
    limit = [most for most, channels in zip(registers, (64, 128), strict=False) if padded <= channels]
    if limit and x.dtype != torch.float64 and torch.version.hip is None:
        sizes["maxnreg"] = limit[0]
    return sizes


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Make the GPU of a tensor the current one."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def gather_sum(
    seg: Segments, left: Tensor, left_row: Tensor, right: Tensor | None = None, right_row: Tensor | None = None,
    weight: Tensor | None = None,
    by_position: bool = False, num_heads: int = 1, order: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Sum over each segment of weight · left ⊙ right, in the accumulation dtype; ``order`` orders pieces."""
    dtype, width = accumulator(left)[0], left.size(1)
    out = left.new_empty(seg.ptr.numel() - 1, width, dtype=dtype)
    if order is None:
        sizes = sizes_of(left, num_heads, edges=8, numbers=512, registers=(64, 64))
    else:  # pieces of many edges
        sizes = sizes_of(left, num_heads, edges=32, numbers=4096)
    part, none = seg.part(width, dtype), seg.ptr
    if seg.pieces:
        with on_device(left):
            _gather_sum[(seg.pieces,)](
                none if order is None else order, *seg[2:5], seg.edge, left_row,
                none if right_row is None else right_row, left,
                left if right is None else right, left if weight is None else weight, out, part, left.size(0),
                left.size(0) if right is None else right.size(0), **sizes,
                BY_POSITION=by_position, PAIR=right is not None, WEIGHTED=weight is not None,
                SHARED=weight is not None and weight.dim() == 1, ORDERED=order is not None,
            )  # fmt: skip
            seg.merge(out, part)
    return out
