"""KSR: a recurrent network for the order of a session, and a memory, one slot per relation, for its content."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import GRU, Linear, Parameter
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence
from torch_geometric.data import HeteroData
from torch_geometric.nn.inits import glorot, zeros

from pyg_kgrec import ops
from pyg_kgrec._arrays import default_dtype
from pyg_kgrec._checks import (
    MOST_LAYERS,
    check_channels,
    check_factor,
    check_flag,
    check_shares,
    check_within,
)
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.sequences import Sequences, check_times
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.explain import SessionExplanation, nearest_to_slots
from pyg_kgrec.explain.units import HISTORY, SLOT, Removals, Units, left_out
from pyg_kgrec.kge import KGEmbedding, KGTables, kg_embeddings, pretrained_embeddings
from pyg_kgrec.models.base import Batch
from pyg_kgrec.models.encoding import Products
from pyg_kgrec.models.inputs import Inputs, WeightStamp
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.session import SessionRecommender
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features, embed_rows
from pyg_kgrec.nn.loss import full

SessionLoss = Literal["ce", "bpr"]

_SESSIONS = 256  # read at a time in prediction


class EncodedItems(NamedTuple):
    """What sessions and scores need of n items.

    Attributes:
        q: Embeddings that the GRU reads, ``[n, embedding_channels]``.
        e: Mean of their entities, ``[n, K]``; 0 for an item without one.
        linked: Whether they have an entity, ``[n]`` bool.
        scored: q̃, ``[n, embedding_channels]``.
    """

    q: Tensor
    e: Tensor
    linked: Tensor
    scored: Tensor


class ReadSession(NamedTuple):
    """The result of reading B sessions of L steps.

    Attributes:
        h: States of the GRU, ``[B, L, hidden_channels]``.
        attention: Over relations, ``[B, L, R]``.
        memory: Slots after the last step, ``[B, R, K]``.
        out: p, ``[B, L, embedding_channels]``.
    """

    h: Tensor
    attention: Tensor
    memory: Tensor
    out: Tensor


@dataclass(frozen=True)
class Sessions(Products):
    """What scores are made of: a user's embedding is read off the session when it is asked for.

    Attributes:
        model: Reads the sessions.
        items: The items of the store.
        sequences: Every user's items, oldest first.
        state: First states of the GRU, ``[num_users, hidden_channels]``; None where they are 0.
    """

    model: KSR
    items: EncodedItems
    sequences: Sequences
    state: Tensor | None

    def users(self, user: Tensor) -> Tensor:
        """Embeddings p after the last item of each user's session, ``[B, embedding_channels]``."""
        some, row = user.unique(return_inverse=True)
        out = [self.items.scored[:0]]
        for part in some.split(_SESSIONS):
            session = self.sequences.last(part, self.model.max_length)
            out.append(_at_last(self.read(session, part).out, session))
        return torch.cat(out)[row]

    def read(self, session: Tensor, user: Tensor) -> ReadSession:
        """Reads sessions ``[B, L]``, padded with −1, of users ``[B]``."""
        state = None if self.state is None else self.state[user]
        return self.model.read(self.items, session.clamp(min=0), session >= 0, state)

    @property
    def item_embeddings(self) -> Tensor:
        """The items as they are scored."""
        return self.items.scored

    @property
    def user_embeddings(self) -> Tensor:
        """Embeddings p after the last item of every user's session."""
        number = self.sequences.start.numel() - 1
        return self.users(torch.arange(number, device=self.sequences.start.device))


class KSR(SessionRecommender):
    r"""Knowledge-enhanced sequential recommender.

    A session is a user's latest items in the order of time. A GRU reads their embeddings :math:`\mathbf{q}_i`, and
    a memory with one slot per relation, :math:`\mathbf{v}_a` (0 at first), is written with what the knowledge graph
    knows of each item: with :math:`\mathbf{e}_i` the embedding of its entity (the mean of several) and
    :math:`\mathbf{k}_a` that of the relation,

    .. math::
        \mathbf{e}_a = \mathbf{e}_i + \mathbf{k}_a, \quad z_a = \sigma(\mathbf{v}_a \cdot \mathbf{e}_a), \quad
        \mathbf{v}_a \leftarrow (1 - z_a)\, \mathbf{v}_a + z_a\, \mathbf{e}_a .

    Then the GRU's state :math:`\mathbf{h}_t` reads it by attention to relations,

    .. math::
        \alpha_a = \mathrm{softmax}_a(\gamma\, (\mathbf{W} \mathbf{h}_t + \mathbf{b}) \cdot \mathbf{k}_a), \qquad
        \mathbf{m}_t = \sum_a \alpha_a \mathbf{v}_a,

    and the next item is scored as

    .. math::
        \hat y_i = (\mathbf{W}_u [\mathbf{h}_t, \mathbf{m}_t] + \mathbf{b}_u) \cdot
        (\mathbf{W}_i [\mathbf{q}_i, \mathbf{e}_i] + \mathbf{b}_i) .

    Huang et al., "Improving Sequential Recommendation with Knowledge-Enhanced Memory Networks", SIGIR 2018. An
    item without an entity writes nothing.

    Every item but a user's first is learned from those before it in its window of ``max_length``, all positions of
    a window in one pass (windows are padded on the right). What is learned is ``edge_index`` in the order of
    ``time`` (``edge_label_index`` has no say); a prediction is made from what ``edge_index`` and
    ``seen_edge_index`` hold.
    Interactions of one user at the same time stay in the order of the rows. A user without any is known by
    features, or not at all (:meth:`strangers`).

    Features of items go into q, beside the knowledge, those of entities are added to e, those of users, where there
    are some, make the first state of the GRU.

    Args:
        data: The training store; its interactions have a ``time``.
        embedding_channels: Size of item embeddings q.
        hidden_channels: Size of the GRU's state.
        num_layers: Layers of the GRU.
        dropout: Probability of an entry of q to be dropped on its way into the GRU, in training.
        gamma: γ, sharpness of the attention.
        loss: ``'ce'``, cross entropy over the catalogue, or ``'bpr'`` against sampled negatives.
        freeze_kg: Keep entities as they were pre-trained; False learns them on. Relations are always kept.
        kg_embedding: Embeddings of entities and relations: a trained :class:`~torch_geometric.nn.kge.KGEModel` of
            the store, a pair of float tensors ``[num_entities, K]`` and ``[num_relations, K]``, or a file that
            keeps them. By default, and where there is no such file yet, :func:`pyg_kgrec.fit` first trains a TransE
            (:meth:`pretrain`; about a minute for 90,000 triples), and writes the file. Until then the model
            answers nothing.
        max_length: Most items of a session: its latest.
        kg_channels: K of that TransE.
        num_negatives: Number of negatives per positive for ``'bpr'``.
        negatives: Their distribution, ``'uniform'`` or ``'popularity'``.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``; items without ``x`` use IDs.
        use_kg: False is the GRU alone: no memory, no entities (ablation). So is a store without triples.

    Raises:
        ValueError: If an argument is out of range, interactions have no time, or ``kg_embedding`` has the wrong
            shape, holds NaN, or is given for a store without triples.
        TypeError: If a size is no whole number, or ``kg_embedding`` is of another kind or dtype.
    """

    fit_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-3, "batch_size": 64}
    hears = MappingProxyType({USER: ("interactions", "features"), ITEM: ("row", "features", "links")})

    of_graph = ("kg_embedding",)

    search_space: ClassVar[dict[str, Any]] = {
        "lr": (1e-3, 1e-2),
        "dropout": [0.0, 0.1, 0.3],
        "gamma": (1.0, 30.0),
    }
    shown = ("embedding_channels", "hidden_channels", "num_layers", "gamma", "max_length", "use_kg")

    entity_start: Tensor
    relation_key: Tensor
    pretrained: Tensor
    popularity: Tensor

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        embedding_channels: int = 64,
        hidden_channels: int = 128,
        num_layers: int = 1,
        *,
        dropout: float = 0.1,
        gamma: float = 10.0,
        loss: SessionLoss = "ce",
        freeze_kg: bool = True,
        kg_embedding: KGEmbedding | None = None,
        max_length: int = 50,
        kg_channels: int = 64,
        num_negatives: int = 1,
        negatives: Distribution = "uniform",
        features: Features = "both",
        use_kg: bool = True,
    ) -> None:
        check_channels(
            embedding_channels=embedding_channels, hidden_channels=hidden_channels, kg_channels=kg_channels
        )
        check_within(1, MOST_LAYERS, num_layers=num_layers)
        check_within(1, 2**31, max_length=max_length)
        check_shares(dropout=dropout)
        check_factor(gamma=gamma)
        check_flag(freeze_kg=freeze_kg, use_kg=use_kg)
        signature = data if isinstance(data, StoreSignature) else StoreSignature.from_store(data)
        tables: KGTables | None = None
        if isinstance(data, HeteroData):
            check_times(data)
            known = RELATES in data.edge_types and data[RELATES].num_edges > 0
            if use_kg and not known and kg_embedding is not None:
                raise ValueError(
                    "kg_embedding is given, but the store has no triples, expected a knowledge graph"
                )
            use_kg = use_kg and known
            if use_kg and kg_embedding is not None:
                tables = kg_embeddings(data, kg_embedding, kg_channels)
                kg_channels = kg_channels if tables is None else tables.entity.size(1)
        # What a file keeps: the embeddings themselves are among the weights.
        self._understood(kg_embedding=None, kg_channels=kg_channels, use_kg=use_kg)
        channels = {ITEM: embedding_channels, ENTITY: kg_channels}
        super().__init__(signature, hidden_channels, features, use_kg, channels, tables=(ITEM,))
        self.objective = Objective(loss, num_negatives, negatives, {"ce": 1, "bpr": 1})
        self.embedding_channels, self.kg_channels = embedding_channels, kg_channels
        self.num_layers, self.dropout, self.gamma = num_layers, dropout, gamma
        self.max_length = max_length
        # A model that is read from a file has no say in which file its embeddings are written to.
        given = isinstance(data, HeteroData) and isinstance(kg_embedding, str | os.PathLike)
        self.kg_file = Path(kg_embedding) if given else None  # type: ignore[arg-type]

        self.gru = GRU(embedding_channels, hidden_channels, num_layers, bias=False, batch_first=True)
        knows = kg_channels if self.use_kg else 0
        self.session_layer = Linear(hidden_channels + knows, embedding_channels)
        self.item_layer = Linear(embedding_channels + knows, embedding_channels)
        if self.use_kg:
            self.query = Linear(hidden_channels, kg_channels)
            size = self.signature.num_nodes[ENTITY], len(self.signature.relation_name)
            start = tables or KGTables(*(torch.zeros(rows, kg_channels) for rows in size))
            self.register_buffer("entity_start", start.entity.clone())
            self.register_buffer("relation_key", start.relation.clone())
            self.register_buffer("pretrained", torch.tensor(tables is not None))
            self.entity = None if freeze_kg else Parameter(start.entity.clone())
        count = torch.zeros(self.signature.num_nodes[ITEM], dtype=torch.long)
        if isinstance(data, HeteroData):
            count = torch.bincount(data[INTERACTS].edge_index[1].cpu(), minlength=count.numel())
        self.register_buffer("popularity", count)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier); embeddings of entities go back to what was pre-trained."""
        for encoder in self.encoders.values():
            encoder.reset_parameters()  # type: ignore[operator]
        for weight in self.gru.parameters():
            glorot(weight)
        for layer in [self.session_layer, self.item_layer, *([self.query] if self.use_kg else [])]:
            glorot(layer.weight)
            zeros(layer.bias)
        if self.use_kg and self.entity is not None:
            with torch.no_grad():
                self.entity.copy_(self.entity_start)

    def pretrain(self, inputs: Inputs, *, progress: bool = True) -> None:
        """Trains a TransE on the store's triples where no embeddings were given, and writes the file named."""
        if not self.use_kg or bool(self.pretrained):
            return
        # Drawn and learned as the model's own numbers are, whatever PyTorch's default dtype is by now.
        with default_dtype(self.entity_start.dtype):
            tables = pretrained_embeddings(
                inputs.data, self.kg_channels, path=self.kg_file, progress=progress
            )
        row, number = inputs.row[ENTITY], self.signature.relations(inputs.data)
        for mine, theirs, to in (
            (self.entity_start, tables.entity, row), (self.relation_key, tables.relation, number)
        ):  # fmt: skip
            known = slice(None) if to is None else to >= 0
            mine[known if to is None else to[known].to(mine.device)] = theirs[known].to(mine)
        self.pretrained.fill_(True)
        if self.entity is not None:
            self.entity.data.copy_(self.entity_start)

    def _of_graph(self, data: HeteroData) -> dict[str, Any]:
        """The embeddings that were given, in the order of a store's entities and relations."""
        if not self.use_kg or "kg_embedding" not in self.of_graph_given:
            return {}
        if not bool(self.pretrained):  # a file that is not there yet
            return {"kg_embedding": self.kg_file}
        row, number = self.signature.match(data, ENTITY), self.signature.relations(data)
        if row is not None and bool((row < 0).any()):
            raise ValueError(
                f"{int((row < 0).sum())} of {row.numel()} entities of data have no row in the kg_embedding of this "
                "KSR, expected the knowledge graph that the embeddings are of"
            )
        entity, relation = self.entity_start.cpu(), self.relation_key.cpu()
        tables = entity if row is None else entity[row], relation if number is None else relation[number]
        return {"kg_embedding": tables}

    def check_ready(self) -> None:
        """Raises ValueError while embeddings of entities and relations are missing."""
        if self.use_kg and not bool(self.pretrained):
            raise ValueError(
                "this KSR was never fitted: it has no embeddings of entities and relations yet, expected fit to be "
                "called first, or kg_embedding to be given"
            )

    def history(self, inputs: Inputs) -> Tensor:
        """What sessions are made of: ``edge_index`` and ``seen_edge_index``, ``[2, n]`` int64."""
        known = INTERACTS in inputs.data.edge_types
        seen = inputs.data[INTERACTS].get("seen_edge_index") if known else None
        return (
            inputs.edge_index if seen is None else torch.cat([inputs.edge_index, seen.to(inputs.device)], 1)
        )

    # ------------------------------------------------------------------ items

    def _items(self, inputs: Inputs, item: Tensor | None = None) -> EncodedItems:
        """Some items of a store, all if None."""
        q = self.embed(inputs, ITEM, item)
        if not self.use_kg:
            return EncodedItems(q, q[:, :0], q.new_zeros(q.size(0), dtype=torch.bool), self.item_layer(q))
        node = torch.arange(q.size(0), device=q.device) if item is None else item
        row, entity = inputs.graph.entities_of.select(node)
        embedding, degree = self._entities(inputs, entity), torch.bincount(row, minlength=q.size(0))
        share = degree[row].to(embedding.dtype).reciprocal().unsqueeze(1)
        e = embedding.new_zeros(q.size(0), embedding.size(1)).index_add(0, row, embedding * share)
        return EncodedItems(q, e, degree > 0, self.item_layer(torch.cat([q, e], dim=1)))

    def _entities(self, inputs: Inputs, entity: Tensor | None = None) -> Tensor:
        """KG embeddings of some entities, all if None; those that training never saw have their features alone."""
        row, x = inputs.nodes(ENTITY, entity)
        table = self.entity_start if self.entity is None else self.entity
        out = table if row is None else embed_rows(table, row)
        return out + self.encoders[ENTITY](x=x) if ENTITY in self.encoders else out

    # ------------------------------------------------------------------ sessions

    def read(
        self,
        items: EncodedItems,
        index: Tensor,
        mask: Tensor,
        state: Tensor | None = None,
        dropout_mask: Tensor | None = None,
    ) -> ReadSession:
        """Reads sessions to their end.

        Args:
            items: The items that they are made of.
            index: Positions of the items among them, ``[B, L]`` int64; anything valid in padding.
            mask: What is no padding, ``[B, L]`` bool; padding stands on the right.
            state: First states of the GRU, ``[B, hidden_channels]``; 0 if None.
            dropout_mask: What q is multiplied with, ``[B, L, embedding_channels]``.
        """
        q = embedding(index, items.q) * mask.unsqueeze(-1)
        q = q if dropout_mask is None else q * dropout_mask
        first = None if state is None else state.expand(self.num_layers, -1, -1).contiguous()
        h, _ = self.gru(q, first)
        if not self.use_kg:
            return ReadSession(h, h[..., :0], h.new_zeros(h.size(0), 0, 0), self.session_layer(h))
        attention = (self.gamma * self.query(h) @ self.relation_key.t()).softmax(dim=-1)
        writes = mask & items.linked[index]
        m, memory = ops.relational_memory(embedding(index, items.e), self.relation_key, attention, writes)
        return ReadSession(h, attention, memory, self.session_layer(torch.cat([h, m], dim=-1)))

    def _state(self, inputs: Inputs, user: Tensor | None = None) -> Tensor | None:
        """First states of the GRU from features of some users (all if None); None without any."""
        if USER not in self.encoders:
            return None
        out: Tensor = self.encoders[USER](x=inputs.nodes(USER, user)[1])
        return out

    def encode(self, inputs: Inputs) -> Sessions:
        """The items, and what users' embeddings are read off."""
        return Sessions(self, self._items(inputs), inputs.sequences(), self._state(inputs))

    # ------------------------------------------------------------------ training

    def training_examples(self, inputs: Inputs) -> Batch:
        """Windows of sessions and whose they are (:meth:`~pyg_kgrec.data.sequences.Sequences.windows`)."""
        sequences = Sequences.from_store(inputs.data, torch.device("cpu"), seen=False)
        window, user = sequences.windows(self.max_length)
        if user.numel() == 0:
            raise ValueError(
                "no user of train has more than one interaction, expected sessions where one item follows another"
            )
        if self.objective.loss == "bpr":
            keep = inputs.has_negatives(user)
            return window[keep], user[keep]
        return window, user

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of every item of some windows but the first, predicted from those before it.

        Args:
            inputs: The training store.
            batch: Windows ``[B, L]``, padded with −1 on the right, and their users ``[B]``.
            generator: Source of all randomness of the step.
        """
        window, user = batch
        session, target = window[:, :-1], window[:, 1:]
        state, dropout_mask = self._state(inputs, user), self._dropout_mask(session, generator)
        mask, index, learned = session >= 0, session.clamp(min=0), target >= 0
        if self.objective.loss == "ce":
            items = self._items(inputs)
            out = self.read(items, index, mask, state, dropout_mask).out[learned]
            return {"ranking": ops.catalogue_cross_entropy(out, items.scored, target[learned])}
        owner = user.unsqueeze(1).expand_as(target)[learned]
        candidate = self.objective.candidates(inputs, owner, target[learned], generator)
        # Of a large catalogue only what the step needs.
        needed, where = torch.cat([index.flatten(), candidate.flatten()]).unique(return_inverse=True)
        items, (index, candidate) = self._items(inputs, needed), _split_like(where, index, candidate)
        out = self.read(items, index, mask, state, dropout_mask).out[learned]
        return {"ranking": self.objective(ops.sampled_scores(full(out), full(items.scored), candidate))}

    def _dropout_mask(self, session: Tensor, generator: torch.Generator) -> Tensor | None:
        """What dropout leaves of q, scaled up; None outside of training."""
        if not self.training or self.dropout == 0:
            return None
        size = (*session.shape, self.embedding_channels)
        dtype = self.session_layer.weight.dtype
        wide = dtype if dtype == torch.float64 else torch.float32  # whatever PyTorch's default dtype is
        noise = torch.rand(size, dtype=wide, device=session.device, generator=generator)
        return (noise >= self.dropout).to(dtype) / (1 - self.dropout)

    def session_scores(self, inputs: Inputs, item: Tensor) -> Tensor:
        """Scores of all items after a session of nobody's, whose first state of the GRU is 0."""
        items, latest = self._kept_items(inputs), item[-self.max_length :].unsqueeze(0)
        return items.scored @ self.read(items, latest, torch.ones_like(latest, dtype=torch.bool)).out[0, -1]

    def _kept_items(self, inputs: Inputs) -> EncodedItems:
        """What sessions need of the items of a store, until a weight changes."""
        kept: tuple[WeightStamp, EncodedItems] = inputs.replace(
            "items", lambda kept: kept[0].holds(self), lambda: (WeightStamp(self), self._items(inputs))
        )
        return kept[1]

    def scores_of_sessions(self, inputs: Inputs, sessions: list[Tensor]) -> Tensor:
        """Scores of all items after each of some sessions, ``[B, num_items]``, which are read side by side."""
        if len(sessions) == 1:
            return self.session_scores(inputs, sessions[0]).unsqueeze(0)
        items = self._kept_items(inputs)
        rows = []
        for first in range(0, len(sessions), _SESSIONS):
            some = [item[-self.max_length :] for item in sessions[first : first + _SESSIONS]]
            index = pad_sequence(some, batch_first=True, padding_value=-1)
            rows.append(_at_last(self.read(items, index.clamp(min=0), index >= 0).out, index))
        return torch.cat(rows) @ items.scored.t()

    # ------------------------------------------------------------------ explanation

    def unit_labels(self) -> list[tuple[str, str]]:
        """Names of the slots, which are the relations'."""
        return [(name, name) for name in self.signature.relation_name] if self.use_kg else []

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The items of each user's session, latest first, and the slots of the memory, weighted by attention.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        encoded = self._encoded(inputs)
        some, place = user.unique(return_inverse=True)
        session = encoded.sequences.last(some, self.max_length).flip(1)[place]
        pair, step = (session >= 0).nonzero(as_tuple=True)
        item_at = session[pair, step]
        first = _first_of(pair * max(inputs.num_items, 1) + item_at)
        parts = [Units.of(HISTORY, pair[first], item_at[first])]
        if self.use_kg:
            number = self.relation_key.size(0)
            attention = torch.cat(
                [
                    _at_last(encoded.read(read, who).attention, read)
                    for who in some.split(_SESSIONS)
                    for read in [encoded.sequences.last(who, self.max_length)]
                ]
                or [self.relation_key.new_empty(0, number)]
            )
            pair = (session >= 0).any(1).nonzero().flatten().repeat_interleave(number)
            slot = torch.arange(number, device=user.device).repeat(pair.numel() // max(number, 1))
            parts.append(Units.of(SLOT, pair, slot, attention[place[pair], slot]))
        return Units.join(parts)

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        """Scores after sessions without some items, and from a memory without some slots.

        An item is left out wherever it stands; the items before it move up, older ones into the window of
        ``max_length``. What a slot says is left out of what the memory says; the attention to the others stays as
        it is.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
            units: Units of the pairs.
            removals: What is left out together.
            every: Score all items for the user of each removal.

        Returns:
            ``[R]`` float, or ``[R, num_items]`` with ``every``.
        """
        encoded, pair = self._encoded(inputs), removals.pair(units)
        num_items = max(inputs.num_items, 1)
        removal, node = removals.of_kind(units, HISTORY)
        where, slot = removals.of_kind(units, SLOT)
        # How far back a window may have to go: as many steps as a removal takes out of the whole sequence.
        sequences = encoded.sequences
        whose = user[pair[removal]]
        often = _count_steps(sequences, whose * num_items + node, num_items)
        more = torch.zeros_like(pair).index_add_(0, removal, often)
        out = []
        for some in torch.arange(len(removals), device=inputs.device).split(_SESSIONS):
            first, who = int(some[0]), user[pair[some]]
            longest = self.max_length + (int(more[some].max()) if some.numel() else 0)
            longer = sequences.last(who, longest)
            row = torch.arange(some.numel(), device=inputs.device).unsqueeze(1).expand_as(longer)
            mine = (removal >= first) & (removal <= int(some[-1]))
            gone = left_out(
                removal[mine] - first, node[mine], num_items + 1, row.flatten(), longer.flatten()
            ).view_as(longer)
            session = _latest(longer.masked_fill(gone, -1), self.max_length)
            found = encoded.read(session, who)
            p = _at_last(found.out, session)
            if self.use_kg:
                silent = torch.zeros(some.numel(), self.relation_key.size(0), device=inputs.device)
                here = (where >= first) & (where <= int(some[-1]))
                silent[where[here] - first, slot[here]] = 1
                read = _at_last(found.attention, session) * silent
                of_memory = self.session_layer.weight[:, self.hidden_channels :]
                p = p - torch.einsum("br,brk->bk", read, found.memory) @ of_memory.t()
            scored = encoded.items.scored
            out.append(p @ scored.t() if every else (p * scored[item[pair[some]]]).sum(1))
        if out:
            return torch.cat(out)
        return torch.empty((0, inputs.num_items) if every else (0,), device=inputs.device)

    def _encoded(self, inputs: Inputs) -> Sessions:
        encoded = self.own_encoding(inputs)
        assert isinstance(encoded, Sessions)
        return encoded

    def _explain(self, inputs: Inputs, user: int, item: int) -> SessionExplanation:
        encoded = self._encoded(inputs)
        who = torch.tensor([user], device=self.device)
        read = encoded.sequences.last(who, self.max_length)
        found = encoded.read(read, who)
        session = read[0][read[0] >= 0]
        score = float(_at_last(found.out, read)[0] @ encoded.items.scored[item])
        held = pd.DataFrame(columns=["relation", "entity", "similarity", "items"])
        if self.use_kg and session.numel():
            items = session.unique()
            row, mine = inputs.graph.entities_of.select(items)
            if mine.numel():  # else nothing was written
                linked, entity = (items[row], mine), self._entities(inputs)
                held = nearest_to_slots(found.memory[0], self.relation_key, entity, inputs.triple, linked)
        return SessionExplanation.from_memory(
            inputs.data,
            user,
            item,
            score,
            session,
            found.out.new_empty(0),
            self.signature.relation_name if self.use_kg else [],
            found.attention[0, : session.numel()],
            found.out.new_empty(0),
            held,
            inputs.triple,
        )


def _latest(session: Tensor, length: int) -> Tensor:
    """The last ``length`` items of sessions with gaps ``[B, L]``, padded with −1 on the right again."""
    there = session >= 0
    number = there.sum(1, keepdim=True)
    place = there.cumsum(1) - 1 - (number - length).clamp(min=0)
    width = max(1, min(length, int(number.max()) if number.numel() else 1))
    out = session.new_full((session.size(0), width + 1), -1)
    kept = there & (place >= 0)
    out.scatter_(1, torch.where(kept, place, width), torch.where(kept, session, -1))
    return out[:, :width]


def _count_steps(sequences: Sequences, key: Tensor, num_items: int) -> Tensor:
    """How often an item stands in a user's sequence, ``[n]`` int64, for keys user · num_items + item."""
    users = (key // num_items).unique()
    start, length = sequences.start[users], sequences.start[users + 1] - sequences.start[users]
    row = torch.arange(users.numel(), device=key.device).repeat_interleave(length)
    offset = torch.arange(row.numel(), device=key.device) - (length.cumsum(0) - length)[row]
    there, count = (users[row] * num_items + sequences.item[start[row] + offset]).unique(return_counts=True)
    if not there.numel():
        return torch.zeros_like(key)
    place = torch.searchsorted(there, key).clamp(max=there.numel() - 1)
    return torch.where(there[place] == key, count[place], 0)


def _first_of(key: Tensor) -> Tensor:
    """Where each key stands first, ascending, of keys ``[n]`` int64."""
    value, place = key.unique(return_inverse=True)
    first = torch.full_like(value, key.numel())
    return first.scatter_reduce_(0, place, torch.arange(key.numel(), device=key.device), "amin").sort().values


def _at_last(steps: Tensor, session: Tensor) -> Tensor:
    """What stands at each session's last item (an empty one's first step): ``[B, L, d]`` to ``[B, d]``."""
    last = ((session >= 0).sum(1) - 1).clamp(min=0)
    return steps[torch.arange(session.size(0), device=session.device), last]


def _split_like(flat: Tensor, *tensors: Tensor) -> list[Tensor]:
    """A flat tensor cut into pieces of these sizes and shapes."""
    pieces = flat.split([t.numel() for t in tensors])
    return [piece.view(t.shape) for piece, t in zip(pieces, tensors)]
