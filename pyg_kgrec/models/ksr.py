"""KSR: a recurrent network for the order of a session, and a memory with a slot a relation for what is in it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import GRU, Linear, Parameter
from torch_geometric.data import HeteroData
from torch_geometric.nn.inits import glorot, zeros

from pyg_kgrec import ops
from pyg_kgrec.data.cache import cached, node_features
from pyg_kgrec.data.interactions import seen_pairs
from pyg_kgrec.data.sampling import Distribution, NegativeSampler, check_distribution
from pyg_kgrec.data.sequences import Sequences
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.data.vocabulary import as_index
from pyg_kgrec.kge.embedding import KGEmbedding, KGTables, kg_embeddings, pretrained_embeddings
from pyg_kgrec.models.base import Nodes, check_k, raw_ids
from pyg_kgrec.models.linked import LinkedGraph, LinkedRecommender
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features, embed_rows
from pyg_kgrec.nn.loss import bpr_loss, catalogue_cross_entropy

if TYPE_CHECKING:
    from pyg_kgrec.explain import Explanation

SessionLoss = Literal["ce", "bpr"]

_SESSIONS = 256  # read at a time in prediction


class EncodedItems(NamedTuple):
    """What sessions and scores need of n items.

    Attributes:
        q: Vectors that the GRU reads, ``[n, embedding_channels]``.
        e: Mean of their entities, ``[n, K]``; 0 for an item without one.
        linked: Whether they have an entity, ``[n]`` bool.
        scored: q̃, ``[n, embedding_channels]``.
    """

    q: Tensor
    e: Tensor
    linked: Tensor
    scored: Tensor


class ReadSession(NamedTuple):
    """What came of reading B sessions of L steps.

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
class EncodedSessions:
    """What scores are made of: a user's vector is read off the session when it is asked for.

    Attributes:
        items: The items of the store.
        sequences: Every user's items, oldest first.
        state: First states of the GRU, ``[num_users, hidden_channels]``; None where they are 0.
    """

    items: EncodedItems
    sequences: Sequences
    state: Tensor | None


class KSR(LinkedRecommender):
    r"""Knowledge-enhanced sequential recommender.

    A session is a user's latest items in the order of time. A GRU reads their vectors :math:`\mathbf{q}_i`, and a
    memory with one slot a relation, :math:`\mathbf{v}_a` (0 at first), is written with what the knowledge graph
    knows of each item: with :math:`\mathbf{e}_i` the vector of its entity (the mean of several) and
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
    Interactions of one user at the same time stay in the order of the rows. A user without any is scored by the
    biases alone (and features).

    Features of items go into q, beside the knowledge, those of entities are added to e, those of users, where there
    are some, make the first state of the GRU.

    Args:
        data: The training store; its interactions have a ``time``.
        embedding_channels: Size of item vectors q.
        hidden_channels: Size of the GRU's state.
        num_layers: Layers of the GRU.
        dropout: Probability of an entry of q to be dropped on its way into the GRU, in training.
        gamma: γ, sharpness of the attention.
        loss: ``'ce'``, cross entropy over the catalogue, or ``'bpr'`` against sampled negatives.
        freeze_kg: Keep entities as they were pre-trained; False learns them on. Relations are always kept.
        kg_embedding: Vectors of entities and relations: a trained :class:`~torch_geometric.nn.kge.KGEModel` of the
            store, a pair of float tensors ``[num_entities, K]`` and ``[num_relations, K]``, or a file that keeps
            them (read if it is there, else written). By default :func:`pyg_kgrec.pretrain_transe` trains a
            TransE, which takes about a minute for 90,000 triples: once for a store, and as long as that lives.
        max_length: Most items of a session: its latest.
        kg_channels: K of that TransE.
        num_negatives: Negatives a positive for ``'bpr'``.
        negatives: Their distribution, ``'uniform'`` or ``'popularity'``.
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``; items without ``x`` use IDs.
        use_kg: False is the GRU alone: no memory, no entities (ablation). So is a store without triples.

    Raises:
        ValueError: If an argument is out of range, interactions have no time, or ``kg_embedding`` has the wrong
            shape, holds NaN, or is given for a store without triples.
        TypeError: If a size is no whole number, or ``kg_embedding`` is of another kind or dtype.
    """

    fit_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-3, "batch_size": 64}

    entity_start: Tensor
    relation_key: Tensor
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
        settings = {k: v for k, v in locals().items() if k not in ("self", "data", "__class__")}
        sizes = {
            "embedding_channels": embedding_channels,
            "hidden_channels": hidden_channels,
            "num_layers": num_layers,
            "max_length": max_length,
            "kg_channels": kg_channels,
            "num_negatives": num_negatives,
        }
        _check_arguments(sizes, dropout, gamma, loss)
        check_distribution(negatives)
        schema = data if isinstance(data, StoreSignature) else StoreSignature.from_store(data)
        tables: KGTables | None = None
        if isinstance(data, HeteroData):
            Sequences.from_store(data, torch.device("cpu"))  # asks for time
            known = RELATES in data.edge_types and data[RELATES].num_edges > 0
            if use_kg and not known and kg_embedding is not None:
                raise ValueError(
                    "kg_embedding is given, but the store has no triples, expected a knowledge graph"
                )
            use_kg = use_kg and known
            if use_kg:
                tables = kg_embeddings(data, kg_embedding, kg_channels)
                if tables is None:
                    path = kg_embedding if isinstance(kg_embedding, str | os.PathLike) else None
                    tables = pretrained_embeddings(data, kg_channels, path=path, progress=False)
                kg_channels = tables.entity.size(1)
        # What a file keeps: the vectors themselves are among the weights.
        settings |= {"kg_embedding": None, "kg_channels": kg_channels, "use_kg": use_kg}
        channels = {ITEM: embedding_channels, ENTITY: kg_channels}
        super().__init__(schema, settings, hidden_channels, features, use_kg, channels, tables=(ITEM,))
        self.embedding_channels, self.kg_channels = embedding_channels, kg_channels
        self.num_layers, self.dropout, self.gamma = num_layers, dropout, gamma
        self.loss: SessionLoss = loss
        self.freeze_kg, self.max_length = freeze_kg, max_length
        self.num_negatives = num_negatives
        self.negatives: Distribution = negatives

        self.gru = GRU(embedding_channels, hidden_channels, num_layers, bias=False, batch_first=True)
        knows = kg_channels if self.use_kg else 0
        self.session_layer = Linear(hidden_channels + knows, embedding_channels)
        self.item_layer = Linear(embedding_channels + knows, embedding_channels)
        if self.use_kg:
            self.query = Linear(hidden_channels, kg_channels)
            size = self.signature.num_nodes[ENTITY], len(self.signature.relation_name)
            if tables is None:
                tables = KGTables(*(torch.zeros(rows, kg_channels) for rows in size))
            self.register_buffer("entity_start", tables.entity.clone())
            self.register_buffer("relation_key", tables.relation.clone())
            self.entity = None if freeze_kg else Parameter(tables.entity.clone())
        count = torch.zeros(self.signature.num_nodes[ITEM], dtype=torch.long)
        if isinstance(data, HeteroData):
            count = torch.bincount(data[INTERACTS].edge_index[1].cpu(), minlength=count.numel())
        self.register_buffer("popularity", count)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier); vectors of entities go back to what was pre-trained."""
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

    # ------------------------------------------------------------------ items

    def _items(self, data: HeteroData, item: Tensor | None = None) -> EncodedItems:
        """Some items of a store, all if None."""
        graph = self.graph(data)
        q = self._embed(data, graph, ITEM, item)
        if not self.use_kg:
            return EncodedItems(q, q[:, :0], q.new_zeros(q.size(0), dtype=torch.bool), self.item_layer(q))
        node = torch.arange(q.size(0), device=q.device) if item is None else item
        row, entity = graph.entities_of.select(node)
        vectors, degree = self._entities(data, graph, entity), torch.bincount(row, minlength=q.size(0))
        share = degree[row].to(vectors.dtype).reciprocal().unsqueeze(1)
        e = vectors.new_zeros(q.size(0), vectors.size(1)).index_add(0, row, vectors * share)
        return EncodedItems(q, e, degree > 0, self.item_layer(torch.cat([q, e], dim=1)))

    def _entities(self, data: HeteroData, graph: LinkedGraph, entity: Tensor | None = None) -> Tensor:
        """KG vectors of some entities, all if None; those that training never saw have their features alone."""
        row = graph.row[ENTITY]
        if entity is not None:
            row = entity if row is None else row[entity]
        table = self.entity_start if self.entity is None else self.entity
        out = table if row is None else embed_rows(table, row)
        if ENTITY in self.encoders:
            out = out + self.encoders[ENTITY](x=node_features(data, ENTITY, self.device, entity))
        return out

    # ------------------------------------------------------------------ sessions

    def read(
        self,
        items: EncodedItems,
        place: Tensor,
        there: Tensor,
        state: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> ReadSession:
        """Reads sessions to their end.

        Args:
            items: The items that they are made of.
            place: Places of the items among them, ``[B, L]`` int64; anything valid in padding.
            there: What is no padding, ``[B, L]`` bool; padding stands on the right.
            state: First states of the GRU, ``[B, hidden_channels]``; 0 if None.
            keep: What q is multiplied with, ``[B, L, embedding_channels]``.
        """
        q = items.q[place] * there.unsqueeze(-1)
        q = q if keep is None else q * keep
        first = None if state is None else state.expand(self.num_layers, -1, -1).contiguous()
        h, _ = self.gru(q, first)
        if not self.use_kg:
            return ReadSession(h, h[..., :0], h.new_zeros(h.size(0), 0, 0), self.session_layer(h))
        attention = (self.gamma * self.query(h) @ self.relation_key.t()).softmax(dim=-1)
        writes = there & items.linked[place]
        m, memory = ops.relational_memory(items.e[place], self.relation_key, attention, writes)
        return ReadSession(h, attention, memory, self.session_layer(torch.cat([h, m], dim=-1)))

    def _state(self, data: HeteroData, user: Tensor | None = None) -> Tensor | None:
        """First states of the GRU from features of some users (all if None); None without any."""
        if USER not in self.encoders:
            return None
        out: Tensor = self.encoders[USER](x=node_features(data, USER, self.device, user))
        return out

    def encode(self, data: HeteroData) -> EncodedSessions:
        """The items, and what users' vectors are read off."""
        return EncodedSessions(self._items(data), Sequences.from_store(data, self.device), self._state(data))

    def user_vectors(self, encoded: EncodedSessions, user: Tensor) -> Tensor:
        """Vectors p after the last item of each user's session, ``[B, embedding_channels]``."""
        out = [encoded.items.scored[:0]]
        for some in user.split(_SESSIONS):
            session = encoded.sequences.last(some, self.max_length)
            state = None if encoded.state is None else encoded.state[some]
            read = self.read(encoded.items, session.clamp(min=0), session >= 0, state)
            out.append(_at_last(read.out, session))
        return torch.cat(out)

    def score_encoded(self, encoded: EncodedSessions, user: Tensor, item: Tensor) -> Tensor:
        """Inner products of pairs, ``[B]``."""
        some, place = user.unique(return_inverse=True)
        return (self.user_vectors(encoded, some)[place] * encoded.items.scored[item]).sum(-1)

    def score_all_encoded(self, encoded: EncodedSessions, user: Tensor) -> Tensor:
        """Inner products with every item, ``[B, num_items]``."""
        return self.user_vectors(encoded, user) @ encoded.items.scored.t()

    def rank(
        self, data: HeteroData, encoded: EncodedSessions, user: Tensor, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Top ``k`` unseen items of users by :func:`pyg_kgrec.ops.rank_topk`."""
        seen = seen_pairs(data, user.device).rows(user)
        return ops.rank_topk(self.user_vectors(encoded, user), encoded.items.scored, k, seen, batch_size)

    def item_vectors(self, encoded: EncodedSessions) -> Tensor:
        """The items as they are scored."""
        return encoded.items.scored

    # ------------------------------------------------------------------ training

    def training_examples(self, data: HeteroData) -> tuple[Tensor, ...]:
        """Windows of sessions and whose they are (:meth:`~pyg_kgrec.data.sequences.Sequences.windows`)."""
        sequences = Sequences.from_store(data, torch.device("cpu"), seen=False)
        window, user = sequences.windows(self.max_length)
        if user.numel() == 0:
            raise ValueError(
                "no user of train has more than one interaction, expected sessions where one item follows another"
            )
        return window, user

    def batch_losses(
        self, data: HeteroData, batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of every item of some windows but the first, told from those before it."""
        window, user = batch
        return self._losses(data, window[:, :-1], window[:, 1:], user, generator)

    def training_losses(
        self, data: HeteroData, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of pairs, told from what their users had before."""
        sequences = Sequences.from_store(data, self.device, seen=False)
        session = sequences.before(user, item, self.max_length)
        last = ((session >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        target = torch.full_like(session, -1).scatter_(1, last, item.unsqueeze(1))
        return self._losses(data, session, target, user, generator)

    def _losses(
        self, data: HeteroData, session: Tensor, target: Tensor, user: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss of ``target`` (−1 for none) after each step of sessions, ``[B, L]`` both."""
        state, keep = self._state(data, user), self._keep(session, generator)
        there, place, learned = session >= 0, session.clamp(min=0), target >= 0
        if self.loss == "ce":
            items = self._items(data)
            out = self.read(items, place, there, state, keep).out[learned]
            return {"ranking": catalogue_cross_entropy(out, items.scored, target[learned])}
        owner = user.unsqueeze(1).expand_as(target)[learned]
        negative = NegativeSampler.from_store(data, self.negatives).sample(
            owner, self.num_negatives, generator
        )
        candidate = torch.cat([target[learned].unsqueeze(1), negative], dim=1)
        # Of a large catalogue only what the step needs.
        needed, where = torch.cat([place.flatten(), candidate.flatten()]).unique(return_inverse=True)
        items, (place, candidate) = self._items(data, needed), _split_like(where, place, candidate)
        out = self.read(items, place, there, state, keep).out[learned]
        return {"ranking": bpr_loss((out.unsqueeze(1) * items.scored[candidate]).sum(-1))}

    def _keep(self, session: Tensor, generator: torch.Generator) -> Tensor | None:
        """What dropout leaves of q, scaled up; None outside of training."""
        if not self.training or self.dropout == 0:
            return None
        size = (*session.shape, self.embedding_channels)
        noise = torch.rand(size, device=session.device, generator=generator)
        return (noise >= self.dropout).to(self.session_layer.weight.dtype) / (1 - self.dropout)

    # ------------------------------------------------------------------ sessions of people that training never saw

    def recommend_session(
        self, session: Nodes, k: int = 10, *, data: HeteroData | None = None, as_frame: bool = False
    ) -> Any:
        """The best next items of a session that no store holds.

        Items that are unknown are left out, and a warning says which; a session of which nothing is left gets the
        most popular items of training, and a warning says so. Items of the session are not recommended.

        Args:
            session: Items, oldest first: raw ids or names (list, Series; a name that several items have is the
                most popular of them), or indices (tensor, array).
            k: Number of items.
            data: A store, whole as any other, for one that has other items than training, or features. The state of
                the GRU begins at 0, as nobody's features are known.
            as_frame: Return a DataFrame: ``rank`` (from 1), ``item`` (raw id), ``name`` where items have names,
                ``score``.

        Returns:
            Items ``[k]`` int64 and scores ``[k]``, padded with −1 and −inf; or a DataFrame.

        Raises:
            TypeError: If the session is a single item, or holds something else than items.
            ValueError: If ``k`` is out of range, an index is, or the model needs features and ``data`` is None.
        """
        store = self._catalogue(data)
        check_k(k, store[ITEM].num_nodes)
        item = self._session(store, session).to(self.device)
        if item.numel() == 0:
            warnings.warn(
                "the session holds no known item: the most popular items are recommended", stacklevel=2
            )
            count = self._popularity(store)
            found = count.argsort(descending=True, stable=True)[:k]
            top = count[found].to(self.session_layer.weight.dtype)
        else:
            with self.predicting():
                items, latest = self._items(store), item[-self.max_length :].unsqueeze(0)
                read = self.read(items, latest, torch.ones_like(latest, dtype=torch.bool))
                score = items.scored @ read.out[0, -1]
            score[item] = -torch.inf
            top, found = score.topk(k)
        found = found.masked_fill(top == -torch.inf, -1)
        if not as_frame:
            return found, top
        there = (found >= 0).cpu()
        found, top = found.cpu()[there], top.cpu()[there]
        columns: dict[str, Any] = {"rank": np.arange(1, found.numel() + 1), ITEM: raw_ids(store, ITEM, found)}
        if "name" in store[ITEM]:
            columns["name"] = [store[ITEM].name[i] for i in found.tolist()]
        return pd.DataFrame(columns | {"score": top.numpy()})

    def _catalogue(self, data: HeteroData | None) -> HeteroData:
        """The store to look items up in: the one given, or what is remembered of training's."""
        if data is not None:
            self.signature.check(data)
            return data
        projected = [t for t in (ITEM, ENTITY) if self._projects(t)]
        if projected:
            raise ValueError(
                f"the model was trained with features of {' and '.join(projected)} nodes, which it does not keep: "
                "expected data, a store that holds them"
            )
        if self.use_kg and self.signature.link is None:
            raise ValueError(
                "the file of this model does not hold the links of items and entities, expected data, a store "
                "that does"
            )
        return self.signature.catalogue

    def _popularity(self, store: HeteroData) -> Tensor:
        """Interactions of each item in training, ``[num_items]`` int64."""
        row = self.graph(store).row[ITEM]
        return self.popularity if row is None else embed_rows(self.popularity.unsqueeze(1), row).squeeze(1)

    def _session(self, store: HeteroData, session: Nodes) -> Tensor:
        """Indices of the items of a session, those that are known."""
        if isinstance(session, Tensor | np.ndarray):
            if 0 in session.shape:  # whatever its dtype
                return torch.empty(0, dtype=torch.long)
            return as_index(session, None, store[ITEM].num_nodes, ITEM)
        if not isinstance(session, list | tuple | range | pd.Series | pd.Index):
            raise TypeError(
                f"the session is a {type(session).__name__}, expected a list of raw ids or names, or a tensor of "
                "indices"
            )
        given = list(session)
        strange = [x for x in given if isinstance(x, bool) or not isinstance(x, str | int | np.integer)]
        if strange:
            raise TypeError(
                f"the session holds a {type(strange[0]).__name__}, expected raw ids or names of items"
            )
        ids, names = self._words(store)
        if given and not ids and not names:
            raise ValueError(
                "a list holds raw ids or names of items but there are none here, expected a tensor of indices"
            )
        index = [ids.get(x, names.get(x.strip().casefold(), -1) if isinstance(x, str) else -1) for x in given]
        unknown = list(dict.fromkeys(repr(x) for x, i in zip(given, index) if i < 0))
        if unknown:
            named = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            kind = f" (raw ids are {type(next(iter(ids))).__name__})" if ids else ""
            warnings.warn(
                f"{sum(i < 0 for i in index)} of {len(given)} items of the session are unknown ({named}) and left "
                f"out{kind}",
                stacklevel=3,
            )
        return torch.tensor([i for i in index if i >= 0], dtype=torch.long)

    def _words(self, store: HeteroData) -> tuple[dict[str | int, int], dict[str, int]]:
        """Items by raw id; by name without regard to case, of several the most popular."""
        ids, names = store[ITEM].get("id"), store[ITEM].get("name")

        def build() -> tuple[dict[str | int, int], dict[str, int]]:
            popular_last = self._popularity(store).argsort(descending=True, stable=True).flip(0).tolist()
            by_name = {names[i].strip().casefold(): i for i in popular_last} if names is not None else {}
            return {raw: i for i, raw in enumerate(ids or [])}, by_name

        inputs = [ids, names, store[ITEM].num_nodes, self.popularity]
        return cached(store, "session words", inputs, build, owner=self)

    # ------------------------------------------------------------------ explanation

    def _explain(self, data: HeteroData, user: int, item: int) -> Explanation:
        from pyg_kgrec.explain import explain_by_memory, nearest_to_slots

        encoded, graph = self.encode(data), self.graph(data)
        who, target = torch.tensor([user], device=self.device), encoded.items.scored[item]

        def read(sessions: Tensor) -> tuple[Tensor, ReadSession]:
            state = None if encoded.state is None else encoded.state[who.expand(sessions.size(0))]
            found = self.read(encoded.items, sessions.clamp(min=0), sessions >= 0, state)
            return _at_last(found.out, sessions) @ target, found

        # Where a step is left out of a full session, the item before it moves up.
        longer = encoded.sequences.last(who, self.max_length + 1)[0]
        longer = longer[longer >= 0]
        session = longer[-self.max_length :]
        step = torch.arange(longer.numel(), device=self.device)
        left_out = step[-self.max_length :].unsqueeze(1)
        shorter = longer[step[:-1] + (step[:-1] >= left_out)]
        nothing = longer.new_full((1, 1), -1)
        score, found = read(session.unsqueeze(0) if session.numel() else nothing)
        without = [
            read(some if some.size(1) else nothing)[0] for some in shorter.split(_SESSIONS) if len(some)
        ]
        contribution = score - torch.cat(without) if without else score[:0]
        slots, held = (
            found.attention.new_zeros(0),
            pd.DataFrame(columns=["relation", "entity", "similarity", "items"]),
        )
        if self.use_kg and session.numel():
            of_memory = self.session_layer.weight[:, self.hidden_channels :]
            slots = (found.attention[0, -1].unsqueeze(1) * found.memory[0]) @ of_memory.t() @ target
            items = session.unique()
            row, mine = graph.entities_of.select(items)
            if mine.numel():  # else nothing was written
                linked, entity = (items[row], mine), self._entities(data, graph)
                held = nearest_to_slots(found.memory[0], self.relation_key, entity, graph.triple, linked)
        return explain_by_memory(
            data,
            user,
            item,
            float(score),
            session,
            contribution,
            self.signature.relation_name if self.use_kg else [],
            found.attention[0, : session.numel()],
            slots,
            held,
            graph.triple,
        )

    def __repr__(self) -> str:
        sizes = self.signature.num_nodes
        return (
            f"{type(self).__name__}({sizes[USER]}, {sizes[ITEM]}, {sizes[ENTITY]}, "
            f"embedding_channels={self.embedding_channels}, hidden_channels={self.hidden_channels}, "
            f"num_layers={self.num_layers}, gamma={self.gamma}, max_length={self.max_length}, use_kg={self.use_kg})"
        )


def _at_last(steps: Tensor, session: Tensor) -> Tensor:
    """What stands at each session's last item (an empty one's first step): ``[B, L, d]`` to ``[B, d]``."""
    last = ((session >= 0).sum(1) - 1).clamp(min=0)
    return steps[torch.arange(session.size(0), device=session.device), last]


def _split_like(flat: Tensor, *tensors: Tensor) -> list[Tensor]:
    """A flat tensor cut into pieces of these sizes and shapes."""
    pieces = flat.split([t.numel() for t in tensors])
    return [piece.view(t.shape) for piece, t in zip(pieces, tensors)]


def _check_arguments(sizes: dict[str, int], dropout: float, gamma: float, loss: str) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name} is {size!r}, expected a whole number")
        if size < 1:
            raise ValueError(f"{name} is {size}, expected at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected a share in [0, 1)")
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}, expected above 0")
    if loss not in get_args(SessionLoss):
        raise ValueError(f"loss is {loss!r}, expected 'ce' or 'bpr'")
