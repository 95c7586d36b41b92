"""KGRec: self-supervised rationalisation of a knowledge graph for recommendation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec.data.cache import cached, node_features
from pyg_kgrec.data.sampling import Distribution, NegativeSampler, check_distribution
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.models.base import DotProductRecommender, EncodedPairs
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.attn_hgcn import AttnHGCN
from pyg_kgrec.nn.contrast import Contrast
from pyg_kgrec.nn.encoder import Features, NodeEncoder, embed_rows
from pyg_kgrec.nn.loss import Loss, check_loss, l2_penalty, ranking_loss
from pyg_kgrec.nn.rationale import (
    Guide,
    ItemTriples,
    drop_knowledge,
    item_rationale,
    mask_rationale,
    sample_interactions,
    sparsify_interactions,
    sparsify_triples,
)
from pyg_kgrec.ops import BipartiteIndex, TripleIndex
from pyg_kgrec.transforms.collaborative import NODE, NODE_RELATES, collaborative_kg

if TYPE_CHECKING:
    from pyg_kgrec.explain import Explanation

Task = Guide | Literal["none"]


@dataclass(frozen=True)
class KGRecGraph:
    """What a store's graph is to KGRec; computed once for a store and a device.

    Attributes:
        num_users: Number of users.
        num_items: Number of items, the first nodes.
        num_nodes: Number of nodes, items and entities.
        triples: Index of the triples, relations in training's numbers.
        edge_index: The triples head → tail in the order of the index, ``[2, T]``.
        triple: Position of each triple in the store, ``[T]`` in the order of the index, −1 for a link.
        pairs: Index of the interactions over items.
        inner_pairs: The same over the heads of triples.
        inter_weight: 1/|N_u| for each interaction in the order of ``pairs``, ``[n]``.
        user_row: Row of each user in training, ``[num_users]``, or None where they are the same.
        node_row: Row of each node in training, ``[num_nodes]``, or None where they are the same.
        entity: Entity of each node or −1, ``[num_nodes]``.
        item: The items' nodes, ``[num_items]``.
        pair_key: user · num_items + item of each distinct interaction, ascending.
        pair: Position of each interaction in ``pair_key``, ``[n]``.
        item_triples: The triples that the items head and end.
    """

    num_users: int
    num_items: int
    num_nodes: int
    triples: TripleIndex
    edge_index: Tensor
    triple: Tensor
    pairs: BipartiteIndex
    inner_pairs: BipartiteIndex
    inter_weight: Tensor
    user_row: Tensor | None
    node_row: Tensor | None
    entity: Tensor
    item: Tensor
    pair_key: Tensor
    pair: Tensor
    item_triples: ItemTriples

    def interactions_of(self, user: Tensor, item: Tensor) -> Tensor:
        """Which interactions are one of some pairs: mask ``[n]`` bool."""
        if self.pair_key.numel() == 0:
            return torch.zeros_like(self.pair, dtype=torch.bool)
        key = user * self.num_items + item
        place = torch.searchsorted(self.pair_key, key).clamp_(max=self.pair_key.numel() - 1)
        known = self.pair_key[place] == key
        # Unknown pairs mark an entry of their own: a boolean index would make a GPU wait for the host.
        among = torch.zeros(self.pair_key.numel() + 1, dtype=torch.bool, device=user.device)
        among[place.masked_fill_(~known, self.pair_key.numel())] = True
        return among[self.pair]

    def hops_of(self, hops: Tensor, node: Tensor) -> Tensor:
        """Rows of the sum of the hops for some nodes; zero for a node that heads no triple."""
        return embed_rows(hops, self.triples.input_row[node].long())


@dataclass(frozen=True)
class _Drawn:
    """A training step's random choices.

    Attributes:
        keep: Triples that sparsifying left, ``[T]`` bool.
        seen: Those of them that the encoder sees, ``[T]`` bool.
        hidden: Those that it has to reconstruct, positions ``[2 · mae_msize]``, or None.
        ends: Heads and tails of those, ``[2, 2 · mae_msize]``.
        score: Rationale scores γ, ``[T]``.
        noisy: γ with Gumbel noise, ``[T]``.
        keep_inter: Interactions that sparsifying left, ``[n]`` bool.
        inter_weight: Their rescaled weights, 0 for the others, ``[n]``.
    """

    keep: Tensor
    seen: Tensor
    hidden: Tensor | None
    ends: Tensor
    score: Tensor
    noisy: Tensor
    keep_inter: Tensor
    inter_weight: Tensor


class KGRec(DotProductRecommender):
    r"""Knowledge Graph Self-Supervised Rationalization for Recommendation.

    Users and items are encoded by :class:`~pyg_kgrec.nn.AttnHGCN` over the collaborative knowledge graph
    (:class:`~pyg_kgrec.transforms.CollaborativeKG`) and scored by an inner product. In training every step

    1. keeps a random share of each relation's triples and of the interactions,
    2. scores the kept triples: :math:`\gamma = |\mathcal{N}_h| \omega` (:meth:`AttnHGCNConv.rationale_score`),
    3. hides the triples with the highest noisy :math:`\gamma`, and as many random ones, from the encoder,
    4. ranks positives over sampled negatives,
    5. reconstructs the hidden triples: :math:`-\log \sigma(\mathbf{e}_h \cdot (\mathbf{e}_t \odot \mathbf{e}_r))`,
    6. contrasts a view of the items through interactions with one through knowledge.

    Yang et al., KDD 2023. The loss is the sum of ranking loss, ``decay`` times the L2 norm of the vectors of the
    batch, ``mae_coef`` times reconstruction and ``cl_coef`` times contrast.

    Args:
        data: The training store.
        hidden_channels: Size d of all vectors.
        num_layers: Number of hops.
        num_heads: Number of attention heads.
        dropout: Share of values dropped after each hop.
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        loss: ``'softmax'`` (over the positive and ``num_negatives`` sampled negatives) or ``'bpr'`` (the paper's).
        num_negatives: Negatives a positive; by default 256 for ``'softmax'``, 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        node_dropout_rate: Share of triples and interactions that a step leaves out.
        mae_coef: Weight of the reconstruction.
        mae_msize: Triples hidden for their score (and as many at random).
        cl_coef: Weight of the contrast.
        cl_tau: Temperature of the contrast.
        cl_drop: Share of triples and interactions that the contrasted views leave out.
        decay: Weight of the L2 norm.
        masking: ``'rationale'``, ``'random'`` (ablation: ignore γ) or ``'none'`` (ablation: no reconstruction).
        contrast: ``'rationale'``, ``'random'`` or ``'none'``, likewise.
        use_kg: False ignores all triples (ablation).
        inverse: Add inverse relations, as the paper does.
        item_gate: Let items hear from their users through a learned gate (:class:`AttnHGCN`); not in the paper.
        hide_targets: In a training step users do not hear from the items that they are to be taught (of a batch
            larger than a quarter of all interactions, from so many of them); not in the paper.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
        *,
        features: Features = "both",
        loss: Loss = "softmax",
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        node_dropout_rate: float = 0.5,
        mae_coef: float = 0.1,
        mae_msize: int = 256,
        cl_coef: float = 0.01,
        cl_tau: float = 1.0,
        cl_drop: float = 0.5,
        decay: float = 1e-5,
        masking: Task = "rationale",
        contrast: Task = "rationale",
        use_kg: bool = True,
        inverse: bool = False,
        item_gate: bool = False,
        hide_targets: bool = True,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "data", "__class__")}
        super().__init__(data, settings)
        _check_rates(node_dropout_rate=node_dropout_rate, cl_drop=cl_drop)
        _check_tasks(masking=masking, contrast=contrast)
        check_distribution(negatives)
        if mae_msize < 0:
            raise ValueError(f"mae_msize is {mae_msize}, expected 0 or more triples")
        self.hidden_channels = hidden_channels
        self.loss: Loss = loss
        self.num_negatives = check_loss(loss, num_negatives)
        self.negatives: Distribution = negatives
        self.node_dropout_rate = node_dropout_rate
        self.mae_coef, self.mae_msize = mae_coef, mae_msize
        self.cl_coef, self.cl_drop = cl_coef, cl_drop
        self.decay = decay
        self.masking = masking if use_kg and mae_coef > 0 else "none"
        self.contrast_guide = contrast if use_kg and cl_coef > 0 else "none"
        self.use_kg = use_kg
        self.inverse = inverse
        self.hide_targets = hide_targets

        schema, width = self.signature, self.signature.in_channels
        relations = len(schema.relation_name) + (1 if schema.num_nodes[ENTITY] else 0)
        self.num_relations = relations * (2 if inverse else 1)
        alone = schema.entity_node >= schema.num_nodes[ITEM]
        num_nodes = schema.num_nodes[ITEM] + int(alone.sum())
        self.user_encoder = NodeEncoder(schema.num_nodes[USER], hidden_channels, width[USER], features)
        # A linked item and entity are one node with one row in one table; their features have widths of their own.
        self.features: Features = features
        inductive = (
            features == "x" and width[ITEM] > 0 and (width[ENTITY] > 0 or schema.num_nodes[ENTITY] == 0)
        )
        self.node_encoder = NodeEncoder(0 if inductive else num_nodes, hidden_channels)
        self.item_encoder = NodeEncoder(0, hidden_channels, width[ITEM], features)
        self.entity_encoder = NodeEncoder(0, hidden_channels, width[ENTITY], features)
        self.encoder = AttnHGCN(
            hidden_channels, self.num_relations, num_layers, num_heads, dropout, item_gate
        )
        self.contrast = Contrast(hidden_channels, cl_tau)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform).

        The relation ``'is'`` of a link starts as the vector of ones: an item that is an entity hears of it what
        it is.
        """
        for module in (
            self.user_encoder,
            self.node_encoder,
            self.item_encoder,
            self.entity_encoder,
            self.encoder,
            self.contrast,
        ):
            module.reset_parameters()
        names = self.signature.relation_name
        with torch.no_grad():
            self.encoder.conv.relation_embedding[len(names) :: len(names) + 1] = 1.0

    # ------------------------------------------------------------------ the store's graph and nodes

    def graph(self, data: HeteroData) -> KGRecGraph:
        """The store's graph as this model uses it, computed once for a store and a device."""
        device = self.device
        inputs = [data[INTERACTS].edge_index, data[USER].num_nodes, collaborative_kg(data, self.inverse)]
        for store in (data[t] for t in (USER, ITEM, ENTITY) if t in data.node_types):
            inputs += [store[name] for name in ("id", "n_id") if name in store]
        key = ("kgrec", self.inverse, self.use_kg, device)
        return cached(data, key, inputs, lambda: self._build_graph(data), owner=self.signature)

    def _build_graph(self, data: HeteroData) -> KGRecGraph:
        device = self.device
        ckg = collaborative_kg(data, self.inverse)
        node, relates = ckg[NODE], ckg[NODE_RELATES]
        edge_index, edge_type, triple = (relates[k] for k in ("edge_index", "edge_type", "triple"))
        number = self.signature.relations(data)
        if number is not None:
            known = number.numel() + 1  # with 'is', which stays last
            number = torch.cat([number, torch.tensor([known - 1])]).to(edge_type.device)
            edge_type = number[edge_type % known] + edge_type // known * known
        if not self.use_kg:
            edge_index, edge_type, triple = edge_index[:, :0], edge_type[:0], triple[:0]
        num_users, num_items, num_nodes = data[USER].num_nodes, data[ITEM].num_nodes, node.num_nodes
        triples = TripleIndex.build(
            edge_index.to(device),
            edge_type.to(device),
            num_nodes,
            self.num_relations,
            compact=True,
            always=0 if self.encoder.gate is None else num_items,
        )
        perm = triples.perm.long()
        pairs = BipartiteIndex.build(data[INTERACTS].edge_index.to(device), num_users, num_items)
        pair_key, pair = torch.unique(pairs.user.long() * num_items + pairs.item.long(), return_inverse=True)
        return KGRecGraph(
            num_users=num_users,
            num_items=num_items,
            num_nodes=num_nodes,
            triples=triples,
            edge_index=edge_index.to(device)[:, perm],
            triple=triple.to(device)[perm],
            pairs=pairs,
            inner_pairs=AttnHGCN.inner_pairs(pairs, triples),
            inter_weight=pairs.mean_weight(),
            user_row=self.signature.rows(data, USER, device),
            node_row=self._node_rows(data, node.entity.to(device), node.entity_node.to(device)),
            entity=node.entity.to(device),
            item=torch.arange(num_items, device=device),
            pair_key=pair_key,
            pair=pair,
            item_triples=ItemTriples.build(edge_index.to(device)[:, perm], num_items),
        )

    def _node_rows(self, data: HeteroData, entity: Tensor, entity_node: Tensor) -> Tensor | None:
        """Row of each node: that of its item, else that of its entity, else none."""
        item_row = self.signature.rows(data, ITEM, self.device)
        entity_row = self.signature.rows(data, ENTITY, self.device) if ENTITY in data.node_types else None
        trained = self.signature.entity_node.to(self.device)
        if item_row is None and entity_row is None and torch.equal(trained, entity_node):
            return None
        if entity_row is None:
            entity_row = torch.arange(entity_node.numel(), device=self.device)
        row = torch.full_like(entity, -1)
        is_entity = entity >= 0
        row[is_entity] = torch.cat([trained, trained.new_tensor([-1])])[entity_row[entity[is_entity]]]
        num_items = data[ITEM].num_nodes
        if item_row is None:
            item_row = torch.arange(num_items, device=self.device)
        row[:num_items] = torch.where(item_row >= 0, item_row, row[:num_items])
        return row

    def embed(self, data: HeteroData, graph: KGRecGraph) -> tuple[Tensor, Tensor]:
        """Layer-0 vectors of users ``[num_users, channels]`` and nodes ``[num_nodes, channels]``."""
        user = self.user_encoder(graph.user_row, node_features(data, USER, self.device))
        projects_item = self.item_encoder.projection is not None
        projects_entity = self.entity_encoder.projection is not None
        if self.node_encoder.weight is None:
            node = user.new_zeros(graph.num_nodes, self.hidden_channels)
        else:
            node = self.node_encoder(graph.node_row)
            if self.features == "x" and (projects_item or projects_entity):
                by_id = torch.ones(graph.num_nodes, 1, device=self.device)
                by_id[: graph.num_items] = not projects_item
                by_id[graph.num_items :] = not projects_entity
                node = node * by_id
        if projects_item:
            item = self.item_encoder(x=node_features(data, ITEM, self.device))
            node = node.index_add(0, torch.arange(graph.num_items, device=self.device), item)
        if projects_entity:
            entity = self.entity_encoder(x=node_features(data, ENTITY, self.device))
            is_entity = graph.entity >= 0
            node = node.index_add(0, is_entity.nonzero().flatten(), entity[graph.entity[is_entity]])
        return user, node

    def encode(self, data: HeteroData) -> EncodedPairs:
        """Vectors of all users and items of the store, hops included."""
        graph = self.graph(data)
        user, node = self.embed(data, graph)
        user_hops, node_hops = self.encoder.hops(
            user, node, graph.triples, graph.pairs, graph.inter_weight, inner_pairs=graph.inner_pairs
        )
        return EncodedPairs(user + user_hops, node[: graph.num_items] + graph.hops_of(node_hops, graph.item))

    def rationale_score(self, data: HeteroData) -> Tensor:
        """γ of every triple of the store, ``[T]`` in the store's order, without gradient; 1 is an average one.

        A triple's score as the head has it; with ``inverse``, the tail's side is not counted.
        """
        graph = self.graph(data)
        with self.predicting():
            _, node = self.embed(data, graph)
            score = self.encoder.conv.rationale_score(node, graph.triples)
        forward = graph.triples.edge_type % self.num_relations < self.num_relations // (1 + self.inverse)
        mine = (graph.triple >= 0) & forward
        out = score.new_zeros(data[RELATES].edge_index.size(1) if RELATES in data.edge_types else 0)
        out[graph.triple[mine]] = score[mine]
        return out

    # ------------------------------------------------------------------ training

    def training_losses(
        self, data: HeteroData, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            data: The training store.
            user: Users of positive pairs, ``[B]``.
            item: Items of positive pairs, ``[B]``.
            generator: Source of all randomness of the step.

        Returns:
            ``'ranking'``, ``'decay'`` and, where used, ``'reconstruction'`` and ``'contrast'``, weighted.
        """
        graph, conv = self.graph(data), self.encoder.conv
        user_0, node_0 = self.embed(data, graph)
        query = conv.project(node_0)
        drawn = self._draw(graph, node_0, query, (user, item), generator)
        # Items and the ends of hidden triples are taken from the table once: every way that the gradient has
        # into the table costs a table of its size.
        near = torch.cat([graph.item, drawn.ends.flatten()])
        near_0 = embedding(near, node_0)
        item_0 = near_0[: graph.num_items]
        user_hops, node_hops = self.encoder.hops(
            user_0,
            node_0,
            graph.triples,
            graph.pairs,
            drawn.inter_weight,
            item=item_0,
            inner_pairs=graph.inner_pairs,
            query=query,
            keep=drawn.seen,
            generator=generator,
        )

        e_near = near_0 + graph.hops_of(node_hops, near)
        e_items = e_near[: graph.num_items]
        e_u = (user_0 + user_hops)[user]
        negative = NegativeSampler.from_store(data, self.negatives).sample(
            user, self.num_negatives, generator
        )
        scores = ops.sampled_scores(e_u, e_items, torch.cat([item.unsqueeze(1), negative], dim=1))
        losses = {
            "ranking": ranking_loss(self.loss, scores),
            "decay": self.decay * l2_penalty(e_u, e_items, item, negative),
        }
        if drawn.hidden is not None:
            e_h, e_t = e_near[graph.num_items :].chunk(2)
            e_r = conv.relation_embedding[graph.triples.edge_type[drawn.hidden]]
            losses["reconstruction"] = self.mae_coef * -logsigmoid((e_h * e_t * e_r).sum(-1)).mean()
        if self.contrast_guide != "none":
            views = self._views(graph, user_0, item_0, node_0, drawn, generator)
            losses["contrast"] = self.cl_coef * self.contrast(*views, generator=generator)
        return losses

    def _draw(
        self,
        graph: KGRecGraph,
        node: Tensor,
        query: Tensor,
        target: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> _Drawn:
        """Sparsifies, scores and masks."""
        share = 1 - self.node_dropout_rate
        keep = sparsify_triples(graph.triples, share, generator)
        keep_inter = sparsify_interactions(graph.inter_weight, share, generator)
        if self.hide_targets:
            # A batch may be all there is, and users must hear of something: a quarter at most is hidden.
            user, item = (end[: graph.pairs.num_edges // 4] for end in target)
            keep_inter = keep_inter & ~graph.interactions_of(user, item)
        score = self.encoder.conv.rationale_score(node, graph.triples, query=query, keep=keep)
        noisy = score + ops.gumbel_noise(score, generator)
        seen, hidden, ends = keep, None, graph.edge_index[:, :0]
        size = min(self.mae_msize, int(graph.triples.num_edges * share) // 4)
        if self.masking != "none" and size > 0:
            hidden = mask_rationale(noisy, keep, size, self.masking, generator)
            seen, ends = keep.index_fill(0, hidden, False), graph.edge_index[:, hidden]
        weight = graph.inter_weight * keep_inter / share
        return _Drawn(keep, seen, hidden, ends, score, noisy, keep_inter, weight)

    def _views(
        self,
        graph: KGRecGraph,
        user: Tensor,
        item: Tensor,
        node: Tensor,
        drawn: _Drawn,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Items through interactions with rational items and through rational triples, ``[num_items, d]`` each."""
        guide = cast(Guide, self.contrast_guide)
        stay = (1 - self.node_dropout_rate) * (1 - self.cl_drop)
        triples = graph.triples

        dropped = int((1 - self.node_dropout_rate) * triples.num_edges) - int(stay * triples.num_edges)
        strong = drop_knowledge(drawn.noisy, drawn.keep, dropped, guide, generator)
        knowledge = self.encoder.knowledge_view(node, triples, strong, generator)

        rationale = item_rationale(drawn.score, graph.item_triples, drawn.keep)
        count = int(stay * graph.pairs.num_edges)
        chosen = sample_interactions(
            rationale, graph.pairs.item.long(), drawn.keep_inter, count, guide, generator
        )
        weight = drawn.inter_weight * chosen / (1 - self.cl_drop)
        interactions = self.encoder.interaction_view(user, item, graph.pairs, weight, generator)
        return interactions, item + graph.hops_of(knowledge, graph.item)

    # ------------------------------------------------------------------ explanation

    def _explain(self, data: HeteroData, user: int, item: int) -> Explanation:
        from pyg_kgrec.explain import explain_by_rationale

        return explain_by_rationale(
            data,
            user,
            item,
            self.rationale_score(data),
            self.score(data, torch.tensor([user]), torch.tensor([item])).item(),
        )


def _check_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} is {rate}, expected a share in [0, 1)")


def _check_tasks(**tasks: str) -> None:
    for name, task in tasks.items():
        if task not in ("rationale", "random", "none"):
            raise ValueError(f"{name} is {task!r}, expected 'rationale', 'random' or 'none'")
