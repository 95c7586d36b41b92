"""One attention in the forms that are compared, the graphs that they are compared on, and the bytes that they move.

``per-edge`` is what public code has (both ends of each triple projected), ``pyg`` the best that PyG's pieces give
(nodes projected, ``utils.softmax``, ``utils.scatter``); all others are backends of :mod:`pyg_kgrec.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from pyg_kgrec import ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HEADS = 2


class Size(NamedTuple):
    """A triple graph to measure on."""

    nodes: int
    triples: int
    channels: int
    shape: str
    relations: int = 51

    def __str__(self) -> str:
        return f"N={self.nodes:,} E={self.triples:,} d={self.channels} {self.shape} float32 {DEVICE}"


class Graph(NamedTuple):
    """Triples in any order, and the index of them."""

    edge_index: Tensor
    edge_type: Tensor
    triples: ops.TripleIndex


_graphs: dict[Size, Graph] = {}


def graph(size: Size) -> Graph:
    """Triples and their index; ``hubs`` draws both ends from a power law: a few nodes hold most of them."""
    size = size._replace(channels=0)  # which the graph does not depend on
    if size not in _graphs:
        _graphs.clear()
        torch.manual_seed(0)
        share = torch.rand(2, size.triples, device=DEVICE, dtype=torch.float64)
        edge_index = (size.nodes * (share if size.shape == "uniform" else share**4)).long()
        del share
        edge_type = torch.randint(size.relations, (size.triples,), device=DEVICE)
        index = ops.TripleIndex.build(edge_index, edge_type, size.nodes, size.relations)
        _graphs[size] = Graph(edge_index, edge_type, index)
    return _graphs[size]


def per_edge(x: Tensor, weight: Tensor, relation: Tensor, size: Size) -> Tensor:
    """Attention with its projection as public code has it."""
    (head, tail), kind, _ = graph(size)
    rel = relation[kind]
    query = (x[head] @ weight).view(-1, HEADS, size.channels // HEADS)
    key = ((x[tail] @ weight) * rel).view_as(query)
    share = softmax((query * key).sum(-1) / (size.channels // HEADS) ** 0.5, head, num_nodes=size.nodes)
    message = (x[tail] * rel).view_as(query) * share.unsqueeze(-1)
    return x.new_zeros(x.shape).index_add(0, head, message.flatten(1))


def composed(query: Tensor, value: Tensor, relation: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
    """Attention from PyG's pieces, of rows that are projected already."""
    (head, tail), nodes, width = edge_index.unbind(), query.size(0), query.size(1) // HEADS
    rel = relation.index_select(0, edge_type)
    at_head = query.index_select(0, head).view(-1, HEADS, width)
    key = (query.index_select(0, tail) * rel).view_as(at_head)
    share = softmax((at_head * key).sum(-1) / width**0.5, head, num_nodes=nodes)
    message = (value.index_select(0, tail) * rel).view_as(at_head) * share.unsqueeze(-1)
    return scatter(message.flatten(1), head, 0, nodes, "sum")


def pyg(x: Tensor, weight: Tensor, relation: Tensor, size: Size) -> Tensor:
    """Attention with its projection from PyG's pieces: project nodes, then gather."""
    return composed(x @ weight, x, relation, *graph(size)[:2])


def ours(x: Tensor, weight: Tensor, relation: Tensor, size: Size) -> Tensor:
    """Attention with its projection by the backend that is asked for."""
    return ops.relational_attention(x @ weight, x, relation, graph(size).triples, HEADS)


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random leaf tensors."""
    torch.manual_seed(1)
    return [(torch.randn(s, device=DEVICE) * 0.1).to(dtype).requires_grad_() for s in shapes]


def both_passes(run: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], None]:
    """Forward and backward with a fixed gradient."""
    with torch.no_grad():
        gradient = torch.randn_like(run(*inputs))

    def step() -> None:
        for x in inputs:
            x.grad = None
        run(*inputs).backward(gradient)

    return step


class Traffic(NamedTuple):
    """Bytes of one forward and backward pass of the operators of ``relational_attention``.

    Attributes:
        gathered: What the passes of the compiled form load and store, a row as often as a triple asks for it:
            forward key and value; backward these again, then query and gradient by tail for the gradients of
            tables, and two pairs of rows for that of relations, hence ten rows per triple. Rows of the few
            relations, which stay in a cache, are left out.
        unique: Each row that a triple uses, and each other number that the two operators take or give, once per
            operator, however often it is asked for.
    """

    gathered: int
    unique: int


def traffic(size: Size, dtype: torch.dtype = torch.float32) -> Traffic:
    """Bytes of the attention alone, without its projection; heads, tails and both are counted on the graph."""
    (head, tail), _, index = graph(size)
    triples, nodes, row = size.triples, size.nodes, size.channels * dtype.itemsize
    wide_row, per_head, entry = 4 * size.channels, 4 * HEADS, index.tail.dtype.itemsize
    is_head = torch.zeros(nodes, dtype=torch.bool, device=head.device).index_fill(0, head, True)
    is_tail = torch.zeros_like(is_head).index_fill(0, tail, True)
    heads, tails, both = (int(mask.sum()) for mask in (is_head, is_tail, is_head | is_tail))
    gathered = triples * (10 * row + 12 * entry + 8 * per_head) + nodes * (
        4 * row + 4 * wide_row + 2 * per_head
    )
    relations = (
        5 * size.relations * row
    )  # read twice by the two passes together, and again for the tables' gradients
    forward = both * row + tails * row + nodes * (row + per_head) + triples * (2 * entry + per_head)
    backward = (both + tails + 2 * heads + 2 * nodes) * row + nodes * per_head
    backward += triples * (7 * entry + per_head)
    return Traffic(gathered + relations, forward + backward + 3 * size.relations * row)
