"""KGRec's scores without some triples and interactions: exactly, and only what changes is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

from pyg_kgrec.data.store import RELATES
from pyg_kgrec.explain.units import HISTORY, KINDS, TRIPLE, Removals, Units
from pyg_kgrec.models.graph import CollaborativeGraph
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.nn.attn_hgcn import AttnHGCN
from pyg_kgrec.ops import TripleIndex
from pyg_kgrec.ops.rows import gather_rows, softmax_by

_TRIPLE, _HISTORY = KINDS.index(TRIPLE), KINDS.index(HISTORY)
_ROWS = 2**14  # changed rows of a block of removals, about
_EDGES = 2**16  # edges that are gathered at a time where a row is aggregated anew
_MARKS = 2**25  # marks that a block of pairs holds: 32 MiB
_SCORES = 2**22  # scores of the catalogue that a block holds: 32 MiB
_INVERSE = "~"

# A row is brought up to date by subtracting what it lost, in float64. Where little is left, digits are lost, and
# what should be zero is not: such a row is aggregated anew from what remains.
_LEAST_WEIGHT = 1e-3
_MOST_WEIGHT = 1e6
_LEAST_NORM = 1e-6


@dataclass(frozen=True, eq=False)
class Facts:
    """Triples that are left out together because they say one thing: copies of a triple, and its inverses.

    The inverse of (h, r, t) is (t, ~r, h), as :class:`~pyg_kgrec.transforms.AddInverseTriples` adds it to a store
    and KGRec's ``inverse=True`` to its graph.

    Attributes:
        of_triple: Fact of each triple of the store, ``[T]`` int64.
        triple: The first triple of each fact, ``[F]`` int64.
        of_edge: Fact of each edge of the graph's index, ``[E]`` int64, −1 for a link.
        ptr: Fact f is the edges ``edge[ptr[f]:ptr[f + 1]]``, ``[F + 1]`` int64.
        edge: Edges of the graph's index, by fact.
    """

    of_triple: Tensor
    triple: Tensor
    of_edge: Tensor
    ptr: Tensor
    edge: Tensor

    @classmethod
    def of(cls, inputs: Inputs) -> Facts:
        """Facts of a store."""
        graph: CollaborativeGraph = inputs.graph
        device = inputs.device
        fact, count = number_facts(inputs.data, device)
        position = torch.arange(fact.numel(), device=device)
        first = position.new_full((count,), fact.numel()).scatter_reduce(0, fact, position, "amin")
        of_edge = torch.cat([fact, fact.new_full((1,), -1)])[graph.triple]
        order = of_edge.sort(stable=True)[1]
        order = order[int((of_edge < 0).sum()) :]
        return cls(fact, first, of_edge, cumsum(torch.bincount(of_edge[order], minlength=count)), order)


def number_facts(data: HeteroData, device: torch.device) -> tuple[Tensor, int]:
    """The fact of each triple of a store, ``[T]`` int64, and how many there are."""
    fact, distinct = distinct_facts(data, device)
    return fact, distinct.size(0)


def distinct_facts(data: HeteroData, device: torch.device) -> tuple[Tensor, Tensor]:
    """The fact of each triple of a store, ``[T]`` int64, and what each fact is, ``[F, 3]`` int64.

    That is relation, head and tail, of the triple that is not turned round, whichever of the two the store holds.
    """
    key = torch.empty(0, 3, dtype=torch.long, device=device)
    if RELATES in data.edge_types:
        (head, tail), relation = data[RELATES].edge_index, data[RELATES].edge_type.long()
        names = list(data.relation_name)
        place = {name: number for number, name in enumerate(names)}
        base = torch.tensor(
            [place.get(name[1:], -1) if name.startswith(_INVERSE) else -1 for name in names],
            dtype=torch.long,
            device=relation.device,
        )
        base = base[relation] if names else relation
        turned = base >= 0
        key = torch.stack(
            [
                torch.where(turned, base, relation),
                torch.where(turned, tail, head),
                torch.where(turned, head, tail),
            ],
            dim=1,
        ).to(device)
    distinct, fact = torch.unique(key, dim=0, return_inverse=True)
    return fact, distinct


@dataclass(frozen=True, eq=False)
class _Hop:
    """A hop over the triples, with what it computed.

    Attributes:
        x: What it reads, ``[num_inputs, d]``.
        query: x W, of the same shape.
        tail: Row of ``x`` of each edge's tail, −1 for a zero vector, ``[E]``.
        head: Row of ``x`` of each row of the result, ``[M]``.
        weight: ω of each edge, ``[E, H]``.
        log_sum: Logarithm of what the weights of a row were divided by, ``[M, H]``.
        total: The sum before normalisation, ``[M, d]``.
        own: The sum, normalised, ``[M, d]``: the result, but for a gate.
    """

    x: Tensor
    query: Tensor
    tail: Tensor
    head: Tensor
    weight: Tensor
    log_sum: Tensor
    total: Tensor
    own: Tensor


@dataclass(frozen=True, eq=False)
class _Changes:
    """Rows that are others without what a removal leaves out.

    Attributes:
        key: removal · size + row, ascending, ``[n]`` int64.
        value: The rows as they are then, ``[n, d]``.
        size: Rows of the whole table.
    """

    key: Tensor
    value: Tensor
    size: int

    @property
    def removal(self) -> Tensor:
        return self.key // max(self.size, 1)

    @property
    def row(self) -> Tensor:
        return self.key % max(self.size, 1)

    def find(self, removal: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Places of rows, and whether they are here at all; a row of −1 is not."""
        place, found = _find(self.key, removal * self.size + row)
        return place, found & (row >= 0)


@dataclass(frozen=True, eq=False)
class _Left:
    """What a block of removals leaves out.

    Attributes:
        user: User of each removal, ``[R]``.
        item: Item of each removal, ``[R]``.
        edge_key: removal · E + edge of each edge left out, ascending and distinct.
        edge_removal: Its removal.
        edge: Its edge.
        pair_key: removal · num_items + item of each item left out of the user's history, ascending and distinct.
        pair_removal: Its removal.
        pair_item: Its item.
        pair_count: How often the user had it, in the dtype of the tables.
        degree: Interactions that the user of each removal is left with, ``[R]``.
    """

    user: Tensor
    item: Tensor
    edge_key: Tensor
    edge_removal: Tensor
    edge: Tensor
    pair_key: Tensor
    pair_removal: Tensor
    pair_item: Tensor
    pair_count: Tensor
    degree: Tensor


class Trace:
    """A pass of the encoder over a store, kept with all that leaving something out needs of it.

    Tables are float64 whatever the model is: the effect of one triple among thousands is smaller than what float32
    rounds off. They hold a row for each head of a triple and hop.

    Args:
        encoder: The encoder, which is not kept.
        graph: The graph that it propagates over.
        facts: The facts of the graph.
        user: Layer-0 embeddings of the users, ``[num_users, d]``.
        node: Layer-0 embeddings of the nodes, ``[num_nodes, d]``.
        gamma: Rationale score of each triple of the store, ``[T]``.
    """

    def __init__(
        self,
        encoder: AttnHGCN,
        graph: CollaborativeGraph,
        facts: Facts,
        user: Tensor,
        node: Tensor,
        gamma: Tensor,
    ) -> None:
        self.graph, self.facts, self.num_layers = graph, facts, encoder.num_layers
        none = gamma.new_zeros(facts.triple.numel())
        self.gamma = none.scatter_reduce(0, facts.of_triple, gamma, "amax")  # of each fact
        conv = encoder.conv
        self.heads_of_attention = conv.num_heads
        self.projection, self.relation = conv.weight.double(), conv.relation_embedding.double()
        self.gate = None if encoder.gate is None else encoder.gate.double()
        index, pairs = graph.triples, graph.pairs
        self.num_rows, self.num_edges = index.num_rows, index.num_edges
        self.row, self.edge_type, self.row_ptr = (
            index.row.long(),
            index.edge_type.long(),
            index.rows.ptr.long(),
        )
        self.node_of_row = index.heads.long()
        self.row_of_item = index.input_row[: graph.num_items].long()
        self.history_ptr, self.history_item = pairs.by_user.ptr.long(), pairs.item.long()
        self.pair_count = torch.bincount(graph.pair, minlength=graph.pair_key.numel()).double()
        self.degree = pairs.degree()
        self.hops: list[_Hop] = []
        self.users: list[Tensor] = []  # embeddings of the users, layer by layer
        self.user_sums: list[Tensor] = []  # sums of the items of each user, by the layer of the items
        self.item_sums: list[Tensor] = []  # weighted sums of the users of each item, by their layer
        if self.gate is not None:
            order = pairs.by_item.edge.long()
            self.audience_ptr, self.audience = pairs.by_item.ptr.long(), pairs.user.long()[order]
        self._run(user.double(), node.double())
        self._index_tails()

    # ------------------------------------------------------------------ the pass itself

    def _run(self, user: Tensor, node: Tensor) -> None:
        index, x = self.graph.triples, node
        self.users.append(user)
        tables = [node]
        for layer in range(self.num_layers):
            hop = self._hop(index if layer == 0 else index.inner, x)
            self.hops.append(hop)
            rows = self._rows_of(layer, self.history_item)
            everyone = torch.arange(self.graph.num_users, device=user.device)
            who = everyone.repeat_interleave(self.degree, output_size=self.history_item.numel())
            self.user_sums.append(torch.zeros_like(user).index_add_(0, who, gather_rows(x, rows)))
            mean = self.user_sums[-1] * _reciprocal(self.degree).unsqueeze(1)
            x = hop.own
            if self.gate is not None:
                weighted = self.users[-1] * self._weight(self.degree).unsqueeze(1)
                total = user.new_zeros(self.graph.num_items, user.size(1)).index_add_(
                    0, self.history_item, weighted[who]
                )
                self.item_sums.append(total)
                count = self.audience_ptr.diff()
                x = x.clone()
                items = slice(None, self.graph.num_items)  # the first rows where items have a gate
                x[items] = torch.lerp(x[items], _unit(total), self._openness(count))
            self.users.append(_unit(mean))
            tables.append(x)
        self.tables = tables
        item = torch.arange(self.graph.num_items, device=user.device)
        self.user = torch.stack(self.users).sum(0)
        self.item = node[: self.graph.num_items] + sum(
            gather_rows(table, self.row_of_item[item]) for table in tables[1:]
        )

    def _hop(self, index: TripleIndex, x: Tensor) -> _Hop:
        query, tail, head = x @ self.projection, index.tail.long(), index.head_row.long()
        heads, rows = self.heads_of_attention, self.num_rows
        weight = x.new_empty(self.num_edges, heads)
        log_sum = x.new_full((rows, heads), -torch.inf)
        total = x.new_zeros(rows, x.size(1))
        for first, last in _spans(self.row_ptr.diff(), _EDGES):
            edge = slice(int(self.row_ptr[first]), int(self.row_ptr[last]))
            own = self.row[edge] - first
            relation = self.relation[self.edge_type[edge]]
            logits = self._logits(query[head[self.row[edge]]], gather_rows(query, tail[edge]) * relation)
            part = log_sum[first:last]
            at = own.unsqueeze(1).expand_as(logits)
            top = part.scatter_reduce(0, at, logits, "amax")
            odds = torch.zeros_like(part).index_add_(0, own, (logits - top[own]).exp())
            part.copy_(torch.where(odds > 0, top + odds.log(), -torch.inf))
            weight[edge] = (logits - part[own]).exp()
            message = self._weighted(weight[edge], gather_rows(x, tail[edge]) * relation)
            total[first:last].index_add_(0, own, message)
        return _Hop(x, query, tail, head, weight, log_sum, total, _unit(total))

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Logits of edges ``[n, H]``, of queries and keys ``[n, d]`` (with their relation)."""
        width = query.size(1) // self.heads_of_attention
        return (query * key).view(query.size(0), self.heads_of_attention, width).sum(-1) / width**0.5

    def _weighted(self, weight: Tensor, message: Tensor) -> Tensor:
        """Messages ``[n, d]`` times weights ``[n, H]`` or ``[n, 1]`` of each head of attention."""
        n, d = message.shape
        heads = self.heads_of_attention
        return (message.view(n, heads, d // heads) * weight.unsqueeze(-1)).view(n, d)

    def _rows_of(self, layer: int, item: Tensor) -> Tensor:
        """Rows of items in the table of a layer."""
        return item if layer == 0 else self.row_of_item[item]

    @staticmethod
    def _weight(degree: Tensor) -> Tensor:
        """1/|N_u| as the graph has it, in float32."""
        return _reciprocal(degree).float().double()

    def _openness(self, count: Tensor) -> Tensor:
        """The gate of items with so many users, ``[n, 1]``."""
        assert self.gate is not None
        count = count.double()
        return (torch.sigmoid(self.gate[0] + self.gate[1] * count.log1p()) * (count > 0)).unsqueeze(1)

    def _index_tails(self) -> None:
        """Edges by tail, and by row and tail, both over the rows of heads."""
        index, rows = self.graph.triples, self.num_rows
        tail = index.input_row.long()[self.hops[0].tail] if self.num_edges else self.hops[0].tail
        self.tail_row = tail
        known = (tail >= 0).nonzero().flatten()
        key, order = (self.row[known] * rows + tail[known]).sort()
        self.row_tail_key, self.row_tail_edge = key, known[order]
        by_tail = tail[known].sort(stable=True)
        self.tail_edge = known[by_tail[1]]
        self.tail_ptr = cumsum(torch.bincount(by_tail[0], minlength=rows))
        # Rows that a changed row changes within so many hops, at most.
        reach = torch.ones(rows, dtype=torch.long, device=tail.device)
        self.reach = [reach]
        for _ in range(self.num_layers - 1):
            more = reach.clone().index_add_(0, tail[known], reach[self.row[known]])
            reach = more.clamp_(max=max(rows, 1))
            self.reach.append(reach)

    # ------------------------------------------------------------------ what a score reads

    def units(self, user: Tensor, item: Tensor) -> Units:
        """All units of pairs; see :meth:`pyg_kgrec.models.kgrec.KGRec.score_units`."""
        number = user.numel()
        size = max(1, _MARKS // max(self.num_rows + self.facts.triple.numel(), 1))
        found = [user.new_empty(2, 0)]
        for first in range(0, number, size):
            pair, fact = self._facts_of(user[first : first + size], item[first : first + size])
            found.append(torch.stack([pair + first, fact]))
        (pair, fact), (past_pair, past) = torch.cat(found, dim=1), self._history_of(user)
        # Both are sorted by pair: each goes behind what stands before it of the other.
        facts, pasts = (torch.bincount(p, minlength=number) for p in (pair, past_pair))
        place = torch.arange(pair.numel(), device=user.device) + (pasts.cumsum(0) - pasts)[pair]
        behind = torch.arange(past.numel(), device=user.device) + facts.cumsum(0)[past_pair]
        kind = torch.full((pair.numel() + past.numel(),), _HISTORY, device=user.device)
        node, of = torch.empty_like(kind), torch.empty_like(kind)
        weight = self.gamma.new_full(kind.shape, torch.nan)
        kind[place], node[place], of[place] = _TRIPLE, self.facts.triple[fact], pair
        node[behind], of[behind] = past, past_pair
        weight[place] = self.gamma[fact]
        return Units(of, kind, node, weight)

    def _history_of(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs and distinct items of their users' histories."""
        number = self.graph.num_items
        if not self.graph.pair_key.numel():
            return user[:0], user[:0]
        low, high = (torch.searchsorted(self.graph.pair_key, end * number) for end in (user, user + 1))
        pair, place = _ragged(low, high - low)
        return pair, self.graph.pair_key[place] % number

    def _facts_of(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs and the facts that their scores read, pair after pair."""
        marks = torch.zeros(user.numel(), self.facts.triple.numel(), dtype=torch.bool, device=user.device)
        if not self.facts.triple.numel():
            return user[:0], user[:0]
        pair, row = self._rows_read(user, item)[0].nonzero(
            as_tuple=True
        )  # the further hops read some of these
        owner, edge = self._edges_of(row)
        fact = self.facts.of_edge[edge]
        is_fact = fact >= 0
        marks[pair[owner][is_fact], fact[is_fact]] = True
        pair, fact = marks.nonzero(as_tuple=True)
        return pair, fact

    def _rows_read(self, user: Tensor, item: Tensor) -> list[Tensor]:
        """Rows whose results after hop l the scores of pairs read, ``[B, M]`` bool for l = 1 … ``num_layers``.

        Through triples alone: what a gate brings of other users is not followed.
        """
        pair = torch.arange(user.numel(), device=user.device)
        row = self.row_of_item[item]
        mark = torch.zeros(user.numel(), self.num_rows, dtype=torch.bool, device=user.device)
        mark[pair[row >= 0], row[row >= 0]] = True
        read = [mark]
        for hop in range(self.num_layers - 1, 0, -1):
            of, row = mark.nonzero(as_tuple=True)
            owner, edge = self._edges_of(row)
            tail = self.tail_row[edge]
            mark = mark.clone()
            mark[of[owner][tail >= 0], tail[tail >= 0]] = True
            if hop == self.num_layers - 1:
                of, past = self._history_of(user)
                row = self.row_of_item[past]
                mark[of[row >= 0], row[row >= 0]] = True
            read.append(mark)
        return read[::-1]

    def _edges_of(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Places in ``row`` and edges of its rows."""
        start = self.row_ptr[row]
        return _ragged(start, self.row_ptr[row + 1] - start)

    # ------------------------------------------------------------------ what is left of it

    def changes(self, user: Tensor, item: Tensor, units: Units, removals: Removals) -> Tensor:
        """By how much scores change, ``[R]`` float64; arguments as of ``Recommender.scores_without``."""
        out = self.user.new_zeros(len(removals))
        for block, left in self._blocks(user, item, units, removals, every=False):
            rows, of_user = self._propagate(left, every=False)
            of_item = torch.zeros_like(of_user)
            number = torch.arange(left.item.numel(), device=of_user.device)
            for table, changed in zip(self.tables[1:], rows):
                row = self.row_of_item[left.item]
                place, found = changed.find(number, row)
                of_item[found] += changed.value[place[found]] - table[row[found]]
            out[block] = (of_user * self.item[left.item]).sum(1) + (
                (self.user[left.user] + of_user) * of_item
            ).sum(1)
        return out

    def changes_of_all(
        self, user: Tensor, item: Tensor, units: Units, removals: Removals
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """By how much the scores of the catalogue change, block by block.

        Yields:
            Places of removals ``[n]``, their users ``[n]`` and the changes ``[n, num_items]`` float64.
        """
        for block, left in self._blocks(user, item, units, removals, every=True):
            rows, of_user = self._propagate(left, every=True)
            change = of_user @ self.item.t()
            now = self.user[left.user] + of_user
            for table, changed in zip(self.tables[1:], rows):
                removal, row = changed.removal, changed.row
                node = self.node_of_row[row]
                of = (node < self.graph.num_items).nonzero().flatten()
                removal, row, node = removal[of], row[of], node[of]
                moved = ((changed.value[of] - table[row]) * now[removal]).sum(1)
                change.view(-1).index_add_(0, removal * self.graph.num_items + node, moved)
            yield block, left.user, change

    def _blocks(
        self, user: Tensor, item: Tensor, units: Units, removals: Removals, *, every: bool
    ) -> Iterator[tuple[Tensor, _Left]]:
        """Blocks of removals that change about as many rows, and what each leaves out."""
        removal, kind, node = removals.removal(), units.kind[removals.unit], units.node[removals.unit]
        pair = removals.pair(units)
        if bool(((kind != _TRIPLE) & (kind != _HISTORY)).any()):
            raise ValueError("KGRec's units are triples and items of the history, got units of another kind")
        number = len(removals)
        # Rows that change: those that the heads of the triples reach, and with a gate the user's items as well.
        is_triple = kind == _TRIPLE
        fact = self.facts.of_triple[node[is_triple]]
        owner, place = _ragged(self.facts.ptr[fact], self.facts.ptr[fact + 1] - self.facts.ptr[fact])
        edge, of_edge = self.facts.edge[place], removal[is_triple][owner]
        reach = self.reach[-1 if every or self.num_layers > 2 else 0]
        cost = removal.new_ones(number).index_add_(0, of_edge, reach[self.row[edge]])
        if self.gate is not None:
            of_items = torch.cat(
                [reach.new_zeros(1), reach[: self.graph.num_items][self.history_item].cumsum(0)]
            )
            audience = of_items[self.history_ptr].diff()
            of = removal[~is_triple]
            cost.index_add_(0, of, audience[user[pair[of]]])
            if self.num_layers > 2:
                cost.fill_(self.num_rows + self.graph.num_users)
        cost.clamp_(max=self.num_rows + self.graph.num_users)
        order = torch.argsort(pair, stable=True)
        most = number
        if every:
            most = max(1, _SCORES // max(self.graph.num_items, 1))
        elif self.num_layers > 2:
            most = max(1, _MARKS // max(self.num_rows * self.num_layers, 1))
        position = torch.empty_like(order)
        position[order] = torch.arange(number, device=order.device)
        edge_key = torch.unique(position[of_edge] * self.num_edges + edge)
        pair_key = torch.unique(position[removal[~is_triple]] * self.graph.num_items + node[~is_triple])
        for first, last in _spans(cost[order], _ROWS, most):
            block = order[first:last]
            who, what = user[pair[block]], item[pair[block]]
            yield block, self._left(first, last, who, what, edge_key, pair_key)

    def _left(
        self, first: int, last: int, user: Tensor, item: Tensor, edge_key: Tensor, pair_key: Tensor
    ) -> _Left:
        """What removals ``first:last`` of all leave out, renumbered from 0."""

        def part(key: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
            ends = torch.searchsorted(key, key.new_tensor([first * size, last * size])).tolist()
            key = key[ends[0] : ends[1]] - first * size
            return key, key // max(size, 1), key % max(size, 1)

        key, of, past = part(pair_key, self.graph.num_items)
        count, found = self._count(user[of], past)
        key, of, past, count = key[found], of[found], past[found], count[found]
        degree = self.degree[user].double().index_add_(0, of, -count).long()
        return _Left(user, item, *part(edge_key, self.num_edges), key, of, past, count, degree)

    def _count(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """How often users have had items, and whether at all."""
        place, found = _find(self.graph.pair_key, user * self.graph.num_items + item)
        if not self.graph.pair_key.numel():
            return user.new_zeros(user.numel(), dtype=torch.float64), found
        return self.pair_count[place] * found, found

    def _propagate(self, left: _Left, *, every: bool) -> tuple[list[_Changes], Tensor]:
        """Changed rows after each hop, and the sum of the changes of each removal's user, ``[R, d]``."""
        number, size = left.user.numel(), self.num_rows
        empty = self.user.new_empty(0, self.user.size(1))
        rows = _Changes(left.edge_key[:0], empty, size)
        users = _Changes(left.edge_key[:0], empty, self.graph.num_users)
        needed = None
        if not every and self.num_layers > 2 and self.gate is None:
            pairs, of_pair = torch.unique(left.user * self.graph.num_items + left.item, return_inverse=True)
            read = self._rows_read(pairs // self.graph.num_items, pairs % self.graph.num_items)
            needed = [(marks, of_pair) for marks in read]
        changed, of_user = [], self.user.new_zeros(number, self.user.size(1))
        mine = torch.arange(number, device=left.user.device)
        for layer in range(self.num_layers):
            last = layer + 1 == self.num_layers
            new_users = self._users(layer, left, rows, everyone=self.gate is not None and not last)
            place, found = new_users.find(mine, left.user)
            of_user[found] += new_users.value[place[found]] - self.users[layer + 1][left.user[found]]
            ends = last and not every
            rows = self._rows(
                layer, left, rows, users, ends, None if needed is None or ends else needed[layer]
            )
            changed.append(rows)
            users = new_users
        return changed, of_user

    # ------------------------------------------------------------------ one hop over the triples

    def _rows(
        self,
        layer: int,
        left: _Left,
        before: _Changes,
        users: _Changes,
        ends: bool,
        needed: tuple[Tensor, Tensor] | None,
    ) -> _Changes:
        """Rows after a hop that differ: all, those ``needed``, or where it ``ends`` that of each removal's item."""
        hop, size = self.hops[layer], self.num_rows
        query = before.value @ self.projection

        def keep(removal: Tensor, row: Tensor) -> Tensor:
            if ends:
                return row == self.row_of_item[left.item[removal]]
            if needed is None:
                return torch.ones_like(row, dtype=torch.bool)
            marks, of_pair = needed
            return marks[of_pair[removal], row]

        # Edges that are left out, and edges whose tail changed.
        gone = keep(left.edge_removal, self.row[left.edge]).nonzero().flatten()
        gone_of, gone = left.edge_removal[gone], left.edge[gone]
        of, tail = before.removal, before.row
        if ends:
            row = self.row_of_item[left.item[of]]
            low, high = (torch.searchsorted(self.row_tail_key, row * size + end) for end in (tail, tail + 1))
            source, place = _ragged(low, (high - low) * (row >= 0))
            touched = self.row_tail_edge[place]
        else:
            source, place = _ragged(self.tail_ptr[tail], self.tail_ptr[tail + 1] - self.tail_ptr[tail])
            touched = self.tail_edge[place]
        stay = ~_find(left.edge_key, of[source] * self.num_edges + touched)[1]
        if needed is not None:
            stay &= keep(of[source], self.row[touched])
        source, touched = source[stay], touched[stay]
        touched_key = of[source] * size + self.row[touched]
        gone_key = gone_of * size + self.row[gone]
        itself = before.key[keep(of, tail)]
        key = torch.unique(torch.cat([gone_key, touched_key, itself]))

        # What they had and now have.
        removal, row = key // max(size, 1), key % max(size, 1)
        place, stale = before.find(removal, row)
        total, share = hop.total[row].clone(), hop.weight.new_ones(key.numel(), self.heads_of_attention)
        scale = total.square().sum(1)
        old = torch.cat([gone, touched])
        at = torch.searchsorted(key, torch.cat([gone_key, touched_key]))
        message = self._weighted(
            hop.weight[old], gather_rows(hop.x, hop.tail[old]) * self.relation[self.edge_type[old]]
        )
        total.index_add_(0, at, -message)
        share.index_add_(0, at, -hop.weight[old])
        scale.index_add_(0, at, message.square().sum(1))
        relation, at = self.relation[self.edge_type[touched]], at[gone.numel() :]
        logits = self._logits(hop.query[hop.head[self.row[touched]]], query[source] * relation)
        weight = (logits - hop.log_sum[self.row[touched]]).exp()
        total.index_add_(0, at, self._weighted(weight, before.value[source] * relation))
        share.index_add_(0, at, weight)
        anew = stale | ~((share > _LEAST_WEIGHT) & (share < _MOST_WEIGHT)).all(1)
        total = self._weighted(share.masked_fill(anew.unsqueeze(1), 1).reciprocal(), total)
        anew |= total.square().sum(1) < _LEAST_NORM**2 * scale
        own = _unit(total)
        again = anew.nonzero().flatten()
        queries = hop.query[hop.head[row[again]]]
        stale = stale[again]
        queries[stale] = query[place[again][stale]]
        own[again] = _unit(self._aggregate(hop, left, before, query, removal[again], row[again], queries))
        changed = _Changes(key, own, size)
        return changed if self.gate is None else self._gated(layer, left, changed, users, ends)

    def _aggregate(
        self,
        hop: _Hop,
        left: _Left,
        before: _Changes,
        queries: Tensor,
        removal: Tensor,
        row: Tensor,
        query: Tensor,
    ) -> Tensor:
        """Sums of rows over all edges that are left, ``[n, d]``, with given queries ``[n, d]``."""
        out = query.new_zeros(query.shape)
        for first, last in _spans(self.row_ptr[row + 1] - self.row_ptr[row], _EDGES):
            at, edge = self._edges_of(row[first:last])
            of = removal[first:last][at]
            stays = ~_find(left.edge_key, of * self.num_edges + edge)[1]
            at, edge, of = at[stays], edge[stays], of[stays]
            x, key = gather_rows(hop.x, hop.tail[edge]), gather_rows(hop.query, hop.tail[edge])
            place, other = before.find(of, self.tail_row[edge])
            x[other], key[other] = before.value[place[other]], queries[place[other]]
            relation = self.relation[self.edge_type[edge]]
            logits = self._logits(query[first:last][at], key * relation)
            weight = softmax_by(logits, at, last - first)
            out[first:last].index_add_(0, at, self._weighted(weight, x * relation))
        return out

    # ------------------------------------------------------------------ users

    def _users(self, layer: int, left: _Left, before: _Changes, *, everyone: bool) -> _Changes:
        """Users after a hop that differ: the removals' own, or everyone's."""
        size, items = self.graph.num_users, self.graph.num_items
        table = self.tables[layer]
        gone_key = left.pair_removal * size + left.user[left.pair_removal]
        removal, row = before.removal, before.row
        item = self.node_of_row[row]
        place = (item < items).nonzero().flatten()
        if everyone:
            start = self.audience_ptr[item[place]]
            at, of = _ragged(start, self.audience_ptr[item[place] + 1] - start)
            place, user = place[at], self.audience[of]
            count = torch.ones_like(user, dtype=torch.float64)
        else:
            user = left.user[removal[place]]
            count, found = self._count(user, item[place])
            place, user, count = place[found], user[found], count[found]
        removal, row, item = removal[place], row[place], item[place]
        stay = ~self._is_gone(left, removal, user, item)
        place, removal, row, user, count = (t[stay] for t in (place, removal, row, user, count))
        touched_key = removal * size + user
        key = torch.unique(torch.cat([gone_key, touched_key]))
        removal_of, user_of = key // max(size, 1), key % max(size, 1)
        total = self.user_sums[layer][user_of].clone()
        scale = total.square().sum(1)
        past = gather_rows(table, self._rows_of(layer, left.pair_item)) * left.pair_count.unsqueeze(1)
        at = torch.searchsorted(key, gone_key)
        total.index_add_(0, at, -past)
        scale.index_add_(0, at, past.square().sum(1))
        if layer > 0:
            at = torch.searchsorted(key, touched_key)
            was = table[row]
            total.index_add_(0, at, (before.value[place] - was) * count.unsqueeze(1))
            scale.index_add_(0, at, was.square().sum(1) * count)
        degree = torch.where(user_of == left.user[removal_of], left.degree[removal_of], self.degree[user_of])
        again = (total.square().sum(1) < _LEAST_NORM**2 * scale).nonzero().flatten()
        total[again] = self._histories(layer, left, before, removal_of[again], user_of[again])
        return _Changes(key, _unit(total * _reciprocal(degree).unsqueeze(1)), size)

    def _is_gone(self, left: _Left, removal: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """Whether interactions are left out by a removal."""
        gone = _find(left.pair_key, removal * self.graph.num_items + item)[1]
        return gone & (user == left.user[removal])

    def _histories(self, layer: int, left: _Left, before: _Changes, removal: Tensor, user: Tensor) -> Tensor:
        """Sums over all items that are left to users, ``[n, d]``."""
        out = self.user.new_zeros(user.numel(), self.user.size(1))
        for first, last in _spans(self.degree[user], _EDGES):
            start = self.history_ptr[user[first:last]]
            at, place = _ragged(start, self.degree[user[first:last]])
            of, item = removal[first:last][at], self.history_item[place]
            stay = ~self._is_gone(left, of, user[first:last][at], item)
            at, of, item = at[stay], of[stay], item[stay]
            x = gather_rows(self.tables[layer], self._rows_of(layer, item))
            if layer > 0:
                place, found = before.find(of, self.row_of_item[item])
                x[found] = before.value[place[found]]
            out[first:last].index_add_(0, at, x)
        return out

    # ------------------------------------------------------------------ the gate

    def _gated(self, layer: int, left: _Left, own: _Changes, users: _Changes, ends: bool) -> _Changes:
        """Rows as they come through the gate, of changed sums of triples and changed users before the hop."""
        size, items, table = self.num_rows, self.graph.num_items, self.users[layer]
        mine = torch.arange(left.user.numel(), device=left.user.device)
        weight = self._weight(self.degree)
        # Interactions that carry something else: those of changed users, and all of a user who loses some.
        loses = torch.zeros_like(mine, dtype=torch.bool).index_fill_(0, left.pair_removal, True)
        user_key = torch.unique(torch.cat([users.key, (mine * users.size + left.user)[loses]]))
        removal, user = user_key // max(users.size, 1), user_key % max(users.size, 1)
        place, other = users.find(removal, user)
        was = table[user] * weight[user].unsqueeze(1)
        now = table[user].clone()
        now[other] = users.value[place[other]]
        degree = torch.where(user == left.user[removal], left.degree[removal], self.degree[user])
        now *= self._weight(degree).unsqueeze(1)
        at, past = _ragged(self.history_ptr[user], self.degree[user])
        item = self.history_item[past]
        if ends:
            ours = item == left.item[removal[at]]
            at, item = at[ours], item[ours]
        gone = self._is_gone(left, removal[at], user[at], item)
        touched_key = removal[at] * size + item
        key = torch.unique(torch.cat([own.key, touched_key]))
        removal_of, row = key // max(size, 1), key % max(size, 1)
        place, found = own.find(removal_of, row)
        mixed = self.hops[layer].own[row].clone()
        mixed[found] = own.value[place[found]]
        is_item = (row < items).nonzero().flatten()
        item_of, of = row[is_item], removal_of[is_item]
        total = self.item_sums[layer][item_of].clone()
        scale = total.square().sum(1)
        into = torch.searchsorted(key[is_item], touched_key)
        total.index_add_(0, into, torch.where(gone.unsqueeze(1), 0, now[at]) - was[at])
        scale.index_add_(0, into, was[at].square().sum(1))
        count = self.audience_ptr.diff()[item_of].double().index_add_(0, into, -gone.double())
        again = ((total.square().sum(1) < _LEAST_NORM**2 * scale) | (scale == 0)).nonzero().flatten()
        changed_users = _Changes(user_key, now, users.size)
        total[again] = self._audiences(left, changed_users, table, of[again], item_of[again])
        mixed[is_item] = torch.lerp(mixed[is_item], _unit(total), self._openness(count))
        return _Changes(key, mixed, size)

    def _audiences(
        self, left: _Left, weighted: _Changes, table: Tensor, removal: Tensor, item: Tensor
    ) -> Tensor:
        """Weighted sums over all users that are left to items, ``[n, d]``."""
        out = self.user.new_zeros(item.numel(), self.user.size(1))
        count, weight = self.audience_ptr.diff(), self._weight(self.degree)
        for first, last in _spans(count[item], _EDGES):
            chosen = item[first:last]
            at, place = _ragged(self.audience_ptr[chosen], count[chosen])
            of, user = removal[first:last][at], self.audience[place]
            stay = ~self._is_gone(left, of, user, chosen[at])
            at, of, user = at[stay], of[stay], user[stay]
            x = table[user] * weight[user].unsqueeze(1)
            found_at, found = weighted.find(of, user)
            x[found] = weighted.value[found_at[found]]
            out[first:last].index_add_(0, at, x)
        return out


def _unit(x: Tensor) -> Tensor:
    """Rows divided by their norm, as the encoder does."""
    return normalize(x, dim=-1, eps=1e-12)


def _reciprocal(degree: Tensor) -> Tensor:
    """1/n, and 0 for 0."""
    return (1 / degree.double().clamp(min=1)) * (degree > 0)


def _ragged(start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Runs ``start[k] … start[k] + length[k] − 1``, one after the other: k and the position of each."""
    owner = torch.arange(length.numel(), device=length.device).repeat_interleave(length)
    first = length.cumsum(0) - length
    return owner, torch.arange(owner.numel(), device=owner.device) + (start - first)[owner]


def _find(key: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Places in ascending keys, and whether they hold what is wanted."""
    if not key.numel():
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(key, wanted).clamp_(max=key.numel() - 1)
    return place, key[place] == wanted


def _spans(cost: Tensor, budget: int, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Cuts a row of things into spans of at most a budget and at most ``most`` things, and at least one."""
    number, total = cost.numel(), cost.cumsum(0)
    first, spent = 0, 0
    while first < number:
        last = int(torch.searchsorted(total, spent + budget, right=True))
        last = min(max(last, first + 1), number if most is None else first + most)
        yield first, last
        first, spent = last, int(total[last - 1])
