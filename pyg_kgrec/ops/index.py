"""Orders of a graph that never change during training, computed once and cached by the caller.

A training step keeps only a random part of the triples. Rebuilding sorted structures for each such part would
cost more than the step itself, so the operations take the index of the *whole* graph and an optional mask
``keep`` (or a weight of zero) in the index's own order.

Every order is cut into *pieces*: runs of at most :data:`PIECE` edges that belong to one segment. A segment
that is longer than that (a hub) consists of several pieces, whose partial results are merged in a fixed order.
No kernel therefore needs atomics, one hub keeps no processor waiting, and the same input gives the same bits
whatever the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

PIECE = 1024
"""Longest run of edges that one piece of work holds."""

_IN_FLIGHT = 4096
"""Pieces that a GPU works on at once, about: a small graph's hubs are cut into as many, down to ``PIECE // 4``."""

NEARBY = 160
"""Mean number of triples of one relation that one piece of work holds, taken from neighbouring heads."""

_INDEX_DTYPES = (torch.int32, torch.int64)


class WildIndexError(RuntimeError, IndexError, ValueError):
    """An index that was changed after it was built, or points outside the tables given: it is not followed."""


_version = attrgetter("_version")


class _Tensors:
    """What the dataclasses of this module share: they hold tensors, sizes and each other."""

    def __post_init__(self) -> None:
        flat: list[Tensor] = []
        for name in (f.name for f in fields(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if isinstance(value, Tensor):
                flat.append(value)
            elif isinstance(value, _Tensors):
                flat.extend(value.tensors())
        # Known from the start, frozen like the rest.
        object.__setattr__(self, "_flat", tuple(flat))
        # Those made in inference mode do not count their writes.
        object.__setattr__(self, "_counting", tuple(x for x in flat if not x.is_inference()))
        object.__setattr__(self, "_versions", self._current_versions())

    def _current_versions(self) -> tuple[int, ...]:
        """How often each tensor that counts it was written to."""
        return tuple(map(_version, self._counting))  # type: ignore[attr-defined]

    def tensors(self) -> list[Tensor]:
        """All tensors, flat, in the order of the fields; the form in which custom operators take an index."""
        return list(self._flat)  # type: ignore[attr-defined]

    def to(self, device: torch.device | str) -> Any:
        """The same index with its tensors on another device."""
        moved = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)  # type: ignore[arg-type]
            if isinstance(getattr(self, f.name), (Tensor, _Tensors))
        }
        return replace(self, **moved)  # type: ignore[type-var]

    def check_unchanged(self) -> None:
        """Raise if a tensor of this index was written to after the index was built.

        Raises:
            WildIndexError: The index was changed in place.
        """
        if torch.compiler.is_compiling():
            return
        if self._versions != self._current_versions():  # type: ignore[attr-defined]
            raise WildIndexError(
                f"a tensor of this {type(self).__name__} was changed in place after it was built; "
                "build a new index from the changed graph"
            )

    def check_sound(self) -> None:
        """Raise if the tensors of this index do not fit each other; takes about as long as a pass over them.

        For what version numbers do not tell: writes to a tensor's memory through NumPy, and indexes put together
        by hand.

        Raises:
            WildIndexError: A tensor holds what :meth:`build` never writes.
        """
        if not self._is_sound():
            raise WildIndexError(
                f"a tensor of this {type(self).__name__} points outside the tables it speaks of: it was changed "
                "after it was built; build a new index from the graph"
            )

    def _is_sound(self) -> bool:
        raise NotImplementedError


def _longest_piece(edges: int, device: str) -> int:
    """Edges that a piece holds at most: on a GPU, few where there are few, so that hubs do not last longest."""
    return PIECE if device == "cpu" else max(1, PIECE // 4, min(PIECE, edges // _IN_FLIGHT))


def _by_first_edge(segments: Segments) -> Tensor:
    """The pieces by the first edge that they hold; those that hold none last."""
    first, last = segments.piece_ptr[:-1].long(), segments.piece_ptr[1:].long()
    edges = segments.edge.numel()
    edge = torch.full_like(first, edges)
    some = first < last
    edge[some] = segments.edge.long()[first[some]]
    return torch.argsort(edge, stable=True).to(segments.edge.dtype)


def _within(index: Tensor, lowest: int, size: int) -> bool:
    """Whether all entries are in ``lowest .. size - 1``."""
    if not index.numel():
        return True
    low, high = index.aminmax()
    return lowest <= int(low) and int(high) < size


def _is_order(index: Tensor, size: int) -> bool:
    """Whether each of ``0 .. size - 1`` is there once."""
    return torch.equal(index.long().sort().values, torch.arange(size, device=index.device))


@dataclass(frozen=True, eq=False)
class Segments(_Tensors):
    """Edges sorted by a key, as a compressed pointer, cut into pieces of bounded length.

    Attributes:
        ptr: [S + 1]; segment ``s`` holds the positions ``ptr[s]:ptr[s + 1]``.
        edge: [n]; the edge at each position (positions of the head-sorted order for a transpose).
        piece_ptr: [P + 1]; piece ``p`` holds the positions ``piece_ptr[p]:piece_ptr[p + 1]``.
        piece_segment: [P]; the segment of each piece. An empty segment has one empty piece.
        piece_slot: [P]; -1 where the piece is a whole segment, else the row of its partial result.
        split_segment: [L]; the segments that consist of more than one piece.
        split_ptr: [L + 1]; the slots of each such segment.
    """

    ptr: Tensor
    edge: Tensor
    piece_ptr: Tensor
    piece_segment: Tensor
    piece_slot: Tensor
    split_segment: Tensor
    split_ptr: Tensor

    @classmethod
    def from_sorted(cls, ptr: Tensor, edge: Tensor, group: Tensor | None = None) -> Segments:
        """Cut the segments of a compressed pointer ``ptr`` [S + 1] into pieces.

        Args:
            ptr: [S + 1].
            edge: [n].
            group: [n]; a piece also ends where this changes.
        """
        piece = _longest_piece(edge.numel(), ptr.device.type)
        ptr64 = ptr.long()
        length = ptr64.diff()
        begin, owner = ptr64[:-1], torch.arange(length.numel(), device=ptr.device)
        if group is not None and group.numel():
            of_edge = owner.repeat_interleave(length)
            inside = ((group[1:] != group[:-1]) & (of_edge[1:] == of_edge[:-1])).nonzero().view(-1) + 1
            begin, order = torch.sort(torch.cat([begin, inside]), stable=True)
            owner = torch.cat([owner, of_edge[inside]])[order]
            length = torch.cat([begin, ptr64[-1:]]).diff()
        parts = ((length + piece - 1) // piece).clamp(min=1)
        segment = owner.repeat_interleave(parts)
        place = torch.arange(segment.numel(), device=ptr.device) - (
            parts.cumsum(0) - parts
        ).repeat_interleave(parts)
        start = begin.repeat_interleave(parts) + place * piece
        count = torch.bincount(segment, minlength=ptr.numel() - 1)
        is_split = count > 1
        of_split = is_split[segment]
        slot = torch.where(of_split, of_split.long().cumsum(0) - 1, -1)
        split_segment = is_split.nonzero().view(-1)
        return cls(
            ptr=ptr,
            edge=edge,
            piece_ptr=torch.cat([start, ptr64[-1:]]).to(ptr.dtype),
            piece_segment=segment.to(ptr.dtype),
            piece_slot=slot.to(ptr.dtype),
            split_segment=split_segment.to(ptr.dtype),
            split_ptr=cumsum(count[split_segment]).to(ptr.dtype),
        )

    @classmethod
    def by_key(
        cls, key: Tensor, num_segments: int, edge: Tensor | None = None, span: int | None = None
    ) -> Segments:
        """Sort edges (their positions, or the given ones) stably by ``key`` and cut them into pieces.

        Args:
            key: [n].
            num_segments: Keys are below it.
            edge: [n].
            span: No piece holds edges from both sides of a multiple of it.
        """
        _, order = torch.sort(key, stable=True)
        ptr = cumsum(torch.bincount(key, minlength=num_segments)).to(key.dtype)
        edge = (order if edge is None else edge[order]).to(key.dtype)
        return cls.from_sorted(ptr, edge, None if span is None else edge // span)

    @property
    def num_segments(self) -> int:
        """Number of segments."""
        return self.ptr.numel() - 1

    def _is_sound(self) -> bool:
        ptr, start, segment, slot = (
            x.long() for x in (self.ptr, self.piece_ptr, self.piece_segment, self.piece_slot)
        )
        size, number = self.edge.numel(), self.num_segments
        if not all(p.numel() and int(p[0]) == 0 and int(p[-1]) == size for p in (ptr, start)):
            return False
        if slot.numel() != segment.numel() or start.numel() != segment.numel() + 1:
            return False
        if bool((ptr[:-1] > ptr[1:]).any()) or not _within(segment, 0, number):
            return False
        # Every segment has a piece, and each piece lies in its own.
        step = torch.cat([segment.new_full((1,), -1), segment, segment.new_full((1,), number)]).diff()
        if bool((step[:-1] < 0).any()) or bool((step > 1).any()):
            return False
        first, last = ptr[:-1][segment], ptr[1:][segment]
        low, high = start[:-1], start[1:]
        if bool(((low < first) | (low > high) | (high > last)).any()):
            return False
        whole = (low == first) & (high == last)
        split = segment[~whole]
        if bool((slot[whole] != -1).any()) or not torch.equal(
            slot[~whole], torch.arange(split.numel(), device=slot.device)
        ):
            return False
        of, count = split.unique_consecutive(return_counts=True)
        return torch.equal(self.split_segment.long(), of) and torch.equal(
            self.split_ptr.long(), cumsum(count)
        )


@dataclass(frozen=True, eq=False)
class TripleIndex(_Tensors):
    """A triple graph in the orders that forward and backward passes need: by head, by tail, by relation.

    All per-triple arguments and results of the operations (``keep``, logits, scores) are in *sorted* order,
    by head and stable; ``x[index.perm]`` brings something from the graph's order into it and
    :meth:`to_original` takes it back.

    Output rows are all nodes, or with ``compact=True`` only the nodes that are the head of some triple: all
    others come out of a hop as exactly zero. ``index.inner`` is the same graph for hops that take such
    compact rows as *input* too: there a tail that is no head is the zero vector, its logit is 0 (and counts in the
    softmax), its message zero. The numbers are those of the dense form.

    Attributes:
        head_row: [M]; the input row of each output row.
        input_row: [N]; the output row of each input row, -1 where there is none.
        row: [E]; the output row of each triple.
        tail: [E]; the input row of each triple's tail, -1 for a zero vector.
        edge_type: [E]; the relation of each triple.
        perm: [E]; the column of ``edge_index`` that each triple came from.
        heads: [M]; the node of each output row.
        col_row: The output row of each triple in the order of ``cols``.
        col_type: The relation of each triple in the order of ``cols``.
        rows: The triples of each output row (the edges are the positions themselves).
        cols: The triples of each input row as tail.
        rels: The triples of each relation, in pieces of neighbouring heads.
        rel_order: The pieces of ``rels`` by their first triple: in this order, pieces that are worked on together
            read the rows of the same heads.
        num_nodes: Nodes of the graph.
    """

    head_row: Tensor
    input_row: Tensor
    row: Tensor
    tail: Tensor
    edge_type: Tensor
    perm: Tensor
    heads: Tensor
    col_row: Tensor
    col_type: Tensor
    rows: Segments
    cols: Segments
    rels: Segments
    rel_order: Tensor
    num_nodes: int

    @classmethod
    def build(
        cls,
        edge_index: Tensor,
        edge_type: Tensor,
        num_nodes: int,
        num_relations: int | None = None,
        compact: bool = False,
        always: int = 0,
    ) -> TripleIndex:
        """Build the index from triples in any order.

        Args:
            edge_index: [2, E] int32 or int64, head (which receives) over tail.
            edge_type: [E], same dtype, in ``0 .. num_relations - 1``.
            num_nodes: Number of nodes; heads and tails lie in ``0 .. num_nodes - 1``.
            num_relations: Number of relations; by default the largest type plus one.
            compact: Give output rows to heads only,
            always: and to the first ``always`` nodes.

        Raises:
            TypeError: Wrong dtypes.
            ValueError: Wrong shapes, devices, or an index out of range.
        """
        _check_edges("edge_index", edge_index)
        if edge_type.dtype != edge_index.dtype:
            raise TypeError(
                f"edge_type is {edge_type.dtype} but edge_index {edge_index.dtype}: expected the same"
            )
        if edge_type.shape != edge_index.shape[1:]:
            raise ValueError(
                f"edge_type has shape {tuple(edge_type.shape)}, expected ({edge_index.size(1)},): "
                "one relation per triple"
            )
        if edge_type.device != edge_index.device:
            raise ValueError(f"edge_type is on {edge_type.device} but edge_index on {edge_index.device}")
        _check_range("edge_index", edge_index, num_nodes, "num_nodes")
        if num_relations is None:
            num_relations = int(edge_type.max()) + 1 if edge_type.numel() else 0
        _check_range("edge_type", edge_type, num_relations, "num_relations")

        dtype, device = edge_index.dtype, edge_index.device
        head, perm = torch.sort(edge_index[0], stable=True)
        tail, edge_type = edge_index[1][perm], edge_type[perm]
        degree = torch.bincount(head, minlength=num_nodes)
        if compact:
            has_row = degree > 0
            has_row[:always] = True
            heads = has_row.nonzero().view(-1)
            input_row = torch.full((num_nodes,), -1, dtype=torch.long, device=device)
            input_row[heads] = torch.arange(heads.numel(), device=device)
            degree = degree[heads]
        else:
            heads = input_row = torch.arange(num_nodes, device=device)
        row, cols = input_row[head].to(dtype), Segments.by_key(tail, num_nodes)
        rels = Segments.by_key(edge_type, num_relations, span=NEARBY * max(num_relations, 1))
        return cls(
            head_row=heads.to(dtype),
            input_row=input_row.to(dtype),
            row=row,
            tail=tail,
            edge_type=edge_type,
            perm=perm.to(dtype),
            heads=heads.to(dtype, copy=True),
            col_row=row[cols.edge.long()],
            col_type=edge_type[cols.edge.long()],
            rows=Segments.from_sorted(
                cumsum(degree).to(dtype), torch.arange(head.numel(), dtype=dtype, device=device)
            ),
            cols=cols,
            rels=rels,
            rel_order=_by_first_edge(rels),
            num_nodes=num_nodes,
        )

    @cached_property
    def inner(self) -> TripleIndex:
        """The index of a later hop, whose input has the rows of this index's output."""
        if self.num_rows == self.num_nodes:
            return self
        dtype, device = self.tail.dtype, self.tail.device
        position = torch.full((self.num_nodes,), -1, dtype=dtype, device=device)
        rows = torch.arange(self.num_rows, dtype=dtype, device=device)
        position[self.heads.long()] = rows
        of_node = self.tail if self.num_inputs == self.num_nodes else self.heads[self.tail.long()]
        tail = position[of_node.long()]
        known = (tail >= 0).nonzero().view(-1)
        cols = Segments.by_key(tail[known], self.num_rows, known.to(dtype))
        return replace(
            self,
            head_row=rows,
            input_row=rows.clone(),
            tail=tail,
            col_row=self.row[cols.edge.long()],
            col_type=self.edge_type[cols.edge.long()],
            cols=cols,
        )

    @property
    def num_edges(self) -> int:
        """Number of triples."""
        return self.tail.numel()

    @property
    def num_rows(self) -> int:
        """Output rows."""
        return self.head_row.numel()

    @property
    def num_inputs(self) -> int:
        """Input rows."""
        return self.input_row.numel()

    @property
    def num_relations(self) -> int:
        """Number of relations."""
        return self.rels.num_segments

    def _is_sound(self) -> bool:
        edges, rows, inputs = self.num_edges, self.num_rows, self.num_inputs
        return (
            all(part._is_sound() for part in (self.rows, self.cols, self.rels))
            and (self.rows.num_segments, self.cols.num_segments) == (rows, inputs)
            and all(x.numel() == edges for x in (self.row, self.edge_type, self.perm))
            and self.heads.numel() == rows
            and self.col_row.numel() == self.col_type.numel() == self.cols.edge.numel()
            and _within(self.head_row, 0, inputs)
            and _within(self.input_row, -1, rows)
            and _within(self.row, 0, rows)
            and _within(self.tail, -1, inputs)
            and _within(self.edge_type, 0, self.num_relations)
            and _within(self.perm, 0, edges)
            and _within(self.heads, 0, self.num_nodes)
            and _within(self.col_row, 0, rows)
            and _within(self.col_type, 0, self.num_relations)
            and all(_within(part.edge, 0, edges) for part in (self.rows, self.cols, self.rels))
            and _is_order(self.rel_order, self.rels.piece_segment.numel())
        )

    def degree(self, keep: Tensor | None = None) -> Tensor:
        """Triples of each output row, [M] int64; with ``keep`` [E] only the kept ones."""
        ptr = self.rows.ptr.long()
        length = ptr.diff()
        if ptr.device.type == "cpu" and not torch.compiler.is_compiling() and not self._is_whole(length):
            self.check_sound()
        if keep is None:
            return length
        return cumsum(keep.long())[ptr].diff()

    def _is_whole(self, length: Tensor) -> bool:
        """Whether rows of these lengths hold each triple once."""
        return length.numel() == 0 or (int(length.min()) >= 0 and int(length.sum()) == self.num_edges)

    def to_original(self, x: Tensor) -> Tensor:
        """Bring something per triple, [E, …] in this index's order, into the order of ``edge_index``."""
        out = torch.empty_like(x)
        out[self.perm.long()] = x
        return out

    def dense(self, x: Tensor) -> Tensor:
        """Spread output rows [M, d] over all nodes [num_nodes, d]; the others are zero."""
        if self.num_rows == self.num_nodes:
            return x
        return x.new_zeros(self.num_nodes, *x.shape[1:]).index_copy(0, self.heads.long(), x)


@dataclass(frozen=True, eq=False)
class BipartiteIndex(_Tensors):
    """Interactions by user and by item. Weights are in the order by user (``perm``), as in a CSR.

    Attributes:
        user: [E]; sorted.
        item: [E]; row of the item table, -1 for a zero vector.
        perm: [E]; the column of ``edge_index`` that each interaction came from.
        by_user: Interactions of each user.
        by_item: Interactions of each row of the item table.
        num_users: Number of users.
        num_items: Rows of the item table.
    """

    user: Tensor
    item: Tensor
    perm: Tensor
    by_user: Segments
    by_item: Segments
    num_users: int
    num_items: int

    @classmethod
    def build(cls, edge_index: Tensor, num_users: int, num_items: int) -> BipartiteIndex:
        """Build the index from interactions [2, E] (user over item, int32 or int64) in any order.

        Raises:
            TypeError: Wrong dtype.
            ValueError: Wrong shape or an index out of range.
        """
        _check_edges("edge_index", edge_index)
        _check_range("edge_index[0]", edge_index[0], num_users, "num_users")
        _check_range("edge_index[1]", edge_index[1], num_items, "num_items")
        dtype = edge_index.dtype
        user, perm = torch.sort(edge_index[0], stable=True)
        item = edge_index[1][perm]
        edge = torch.arange(user.numel(), dtype=dtype, device=user.device)
        ptr = cumsum(torch.bincount(user, minlength=num_users)).to(dtype)
        return cls(
            user=user,
            item=item,
            perm=perm.to(dtype),
            by_user=Segments.from_sorted(ptr, edge),
            by_item=Segments.by_key(item, num_items),
            num_users=num_users,
            num_items=num_items,
        )

    def with_item_rows(self, row: Tensor, num_rows: int) -> BipartiteIndex:
        """The same interactions over another item table.

        Args:
            row: [num_items], same dtype as the index; the row of each item, -1 where it is a zero vector.
            num_rows: Rows of the new table.

        Raises:
            ValueError: ``row`` has the wrong length or holds something outside ``-1 .. num_rows - 1``.
        """
        if row.shape != (self.num_items,):
            raise ValueError(
                f"row has shape {tuple(row.shape)}, expected ({self.num_items},): one row per item"
            )
        _check_range("row", row, num_rows, "num_rows", lowest=-1)
        item = torch.where(self.item >= 0, row[self.item.clamp(min=0).long()], -1).to(self.item.dtype)
        known = (item >= 0).nonzero().view(-1)
        return replace(
            self,
            item=item,
            by_item=Segments.by_key(item[known], num_rows, known.to(item.dtype)),
            num_items=num_rows,
        )

    @property
    def num_edges(self) -> int:
        """Number of interactions."""
        return self.user.numel()

    def _is_sound(self) -> bool:
        edges = self.num_edges
        return (
            self.by_user._is_sound()
            and self.by_item._is_sound()
            and (self.by_user.num_segments, self.by_item.num_segments) == (self.num_users, self.num_items)
            and self.item.numel() == self.perm.numel() == edges
            and _within(self.user, 0, self.num_users)
            and _within(self.item, -1, self.num_items)
            and _within(self.perm, 0, edges)
            and _within(self.by_user.edge, 0, edges)
            and _within(self.by_item.edge, 0, edges)
        )

    def degree(self) -> Tensor:
        """Interactions of each user, [num_users] int64."""
        return self.by_user.ptr.long().diff()

    def mean_weight(self) -> Tensor:
        """The weight ``1 / |N_u|`` of each interaction, [E] float32, in this index's order."""
        return self.degree().float().reciprocal()[self.user.long()]


def _check_edges(name: str, edges: Tensor) -> None:
    if edges.dtype not in _INDEX_DTYPES:
        raise TypeError(f"{name} is {edges.dtype}, expected torch.int32 or torch.int64")
    if edges.dim() != 2 or edges.size(0) != 2:
        raise ValueError(f"{name} has shape {tuple(edges.shape)}, expected (2, number of edges)")


def _check_range(name: str, index: Tensor, size: int, what: str, lowest: int = 0) -> None:
    if not index.numel():
        return
    low, high = (int(x) for x in index.aminmax())
    if low < lowest or high >= size:
        wrong = low if low < lowest else high
        raise ValueError(f"{name} holds {wrong}, expected values in {lowest} … {size - 1} ({what} is {size})")
