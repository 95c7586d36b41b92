"""MKR: recommendation and knowledge-graph embedding as two tasks that share what items and entities know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import HeteroData
from torch_geometric.nn import MLP, Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.nn.resolver import activation_resolver

from pyg_kgrec import ops
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.sampling import Distribution, NegativeSampler, check_distribution
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.models.base import DotProductRecommender, EncodedPairs, Recommender
from pyg_kgrec.models.linked import LinkedGraph, LinkedRecommender
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.cross_compress import CrossUnits, Unit, check_unit
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss, check_loss, ranking_loss

if TYPE_CHECKING:
    from pyg_kgrec.explain import Explanation

Head = Literal["dot", "mlp"]
Partners = Literal["sample", "mean"]
Form = Literal["authors", "paper"]

_START = 0.1  # norm of a vector at the start
_BLOCK = 2**22  # floats of a layer in a block of the MLP head: 16 MiB, half the time of 64


class MKR(LinkedRecommender, DotProductRecommender):
    r"""Multi-Task Feature Learning for Knowledge Graph Enhanced Recommendation.

    An item v goes with each of its entities :math:`e \in S(v)` through L cross&compress units
    (:class:`~pyg_kgrec.nn.CrossCompressUnit`), a user through L dense layers :math:`\mathcal M`,

    .. math::
        \mathbf{u}_L = \mathcal{M}^L(\mathbf{u}), \qquad
        \mathbf{v}_L = \frac{1}{|S(v)|} \sum_{e \in S(v)} \mathcal{C}^L(\mathbf{v}, \mathbf{e})[\mathbf{v}], \qquad
        \hat y_{uv} = \sigma(f(\mathbf{u}_L, \mathbf{v}_L)),

    and a triple (h, r, t) is scored by how well its tail is predicted from the head after the same units,

    .. math::
        \mathbf{h}_L = \frac{1}{|S(h)|} \sum_{v \in S(h)} \mathcal{C}^L(\mathbf{v}, \mathbf{h})[\mathbf{e}], \qquad
        \hat{\mathbf{t}} = \sigma(\mathcal{M}^K([\mathbf{h}_L, \mathbf{r}])), \qquad
        s = \sigma(\mathcal{M}^L(\mathbf{t}) \cdot \hat{\mathbf{t}}).

    Training alternates: after every ``knowledge_interval`` batches of pairs comes one of triples, by an
    optimiser of its own. Wang et al., WWW 2019, eq. 1–9. The knowledge side is that of the authors' code;
    with ``knowledge_form='paper'`` the relation goes through the dense layers,
    :math:`\mathcal{M}^L(\mathbf{r})`, the tail is its own vector, and :math:`\hat{\mathbf{t}}` is what the
    dense layers give, without the last σ.

    An item without an entity and a head without an item skip the units, which the paper leaves open.

    Args:
        data: The training store.
        hidden_channels: Size d of all vectors.
        num_layers: Number of units and of dense layers L (1 is MKR-1L).
        num_kge_layers: Dense layers K that predict the tail.
        head: f: ``'dot'``, the inner product, or ``'mlp'`` on [u_L, v_L].
        num_head_layers: Layers H of that MLP.
        unit: ``'cross_compress'``, ``'dcn'`` (MKR-DCN) or ``'stitch'`` (MKR-stitch).
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        activation: Of the dense layers: a name that PyG knows; the authors' code has ``'relu'``.
        layer_lr: Learning rate of dense layers and units, as a multiple of that of the vectors. They are in every
            step and a vector is in few: at the same rate the layers run ahead and leave the vectors few dimensions.
        loss: ``'bce'`` (the paper's), ``'softmax'`` or ``'bpr'``; by default ``'bce'`` where the store labels its
            pairs and ``'softmax'`` where it holds positives only.
        num_negatives: Negatives a positive where pairs have no labels; by default 256 for ``'softmax'``, else 1.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        partners: In training the units take the ``'mean'`` over all of S(v), as in prediction, or ``'sample'`` one
            partner, as in the paper's Algorithm 1.
        use_kg: False ignores the entities altogether (ablation).
        knowledge_interval: Batches of pairs t between two batches of triples; None leaves that task out (ablation).
        knowledge_lr: λ₁, the learning rate of the triples' task as a multiple of the other one.
        knowledge_loss: ``'authors'`` raises the scores of true triples; ``'paper'`` (eq. 9) lowers those of false
            ones too, one for each, with a random tail.
        knowledge_form: ``'authors'`` or ``'paper'``, see above.
        decay: λ₂, weight of half the squared norm of a batch's vectors (a mean over the batch) and of the
            weights of layers and units.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        num_layers: int = 1,
        num_kge_layers: int = 1,
        *,
        head: Head = "dot",
        num_head_layers: int = 2,
        unit: Unit = "cross_compress",
        features: Features = "both",
        activation: str = "tanh",
        loss: Loss | Literal["bce"] | None = None,
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        partners: Partners = "mean",
        use_kg: bool = True,
        knowledge_interval: int | None = 2,
        knowledge_lr: float = 0.1,
        knowledge_loss: Form = "authors",
        layer_lr: float = 0.01,
        knowledge_form: Form = "authors",
        decay: float = 1e-6,
    ) -> None:
        if loss is None:
            labelled = isinstance(data, HeteroData) and "edge_label" in data[INTERACTS]
            loss = "bce" if labelled else "softmax"
        settings = {k: v for k, v in locals().items() if k not in ("self", "data", "labelled", "__class__")}
        _check_arguments(
            num_layers,
            num_kge_layers,
            head,
            num_head_layers,
            partners,
            knowledge_interval,
            knowledge_lr,
            knowledge_loss,
            knowledge_form,
            layer_lr,
        )
        check_distribution(negatives)
        super().__init__(data, settings, hidden_channels, features, use_kg)
        self.num_layers = num_layers
        self.loss = loss
        self.num_negatives = _check_loss(loss, num_negatives)
        self.negatives: Distribution = negatives
        self.partners = partners
        knows = self.use_kg and len(self.signature.relation_name) > 0
        self.knowledge_interval = knowledge_interval if knows else None
        self.knowledge_lr = knowledge_lr
        self.knowledge_loss, self.knowledge_form = knowledge_loss, knowledge_form
        self.decay, self.layer_lr = decay, layer_lr
        self.head = head

        d = hidden_channels
        check_unit(unit)
        self.unit = unit
        self.units = CrossUnits(d, num_layers, unit) if self.use_kg else None
        self.user_mlp = _dense([d] * (num_layers + 1), activation)
        self.head_mlp = None
        if head == "mlp":
            # The first layer as a part for users and one for items: neither knows of the other.
            inner = 1 if num_head_layers == 1 else 2 * d
            self.head_user = torch.nn.Linear(d, inner)
            self.head_item = torch.nn.Linear(d, inner, bias=False)
            if num_head_layers > 1:
                channels = [inner] * (num_head_layers - 1) + [1]
                self.head_mlp = MLP(channels, norm=None, act=activation, plain_last=True)
        self.activation = activation
        if self.knowledge_interval is not None:
            self.relation_embedding = Parameter(torch.empty(len(self.signature.relation_name), d))
            self.knowledge_mlp = _dense([d] * (num_layers + 1), activation)  # of tails, or of relations
            self.tail_mlp = _dense([2 * d] * num_kge_layers + [d], activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew: small vectors, and layers that change nothing much.

        Dense layers start as the identity (Xavier's start where they are not square) with biases of zero. Random
        biases, PyTorch's usual start, are what kills ReLU networks here: beside small vectors they alone
        decide which neurons are on, the same for every user, and with d = 4 and two layers one start in eight
        has a layer with none. Vectors come from a normal distribution of deviation 0.1/√d; longer ones
        overfit before they learn. Those of entities lie around 1/√d, where a cross&compress unit starts as v'
        = v.
        """
        for name, module in self.named_children():
            if name != "encoders":
                module.reset_parameters()  # type: ignore[operator]
            for layer in module.modules():
                if isinstance(layer, (torch.nn.Linear, Linear)):
                    _start_dense(layer)
        scale = _START / self.hidden_channels**0.5
        for encoder in self.encoders.values():
            encoder.reset_parameters()  # type: ignore[operator]
            if encoder.weight is not None:
                torch.nn.init.normal_(encoder.weight, std=scale)  # type: ignore[arg-type]
        if self.use_kg and self.unit == "cross_compress" and self.encoders[ENTITY].weight is not None:
            with torch.no_grad():
                self.encoders[ENTITY].weight.add_(self.hidden_channels**-0.5)  # type: ignore[union-attr, operator]
        if self.knowledge_interval is not None:
            torch.nn.init.normal_(self.relation_embedding, std=scale)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Vectors at the learning rate, dense layers and units at ``layer_lr`` times it."""
        own: list[Parameter] = []
        shared: list[Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                vectors = name.startswith(("encoders.", "relation_embedding"))
                (own if vectors else shared).append(parameter)
        return [{"params": own, "lr": lr}, {"params": shared, "lr": lr * self.layer_lr}]

    # ------------------------------------------------------------------ towers

    def _after_units(
        self,
        data: HeteroData,
        graph: LinkedGraph,
        vector: Tensor,
        item: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """v_L of some items (all if None) with their vectors; with a generator of one sampled entity each."""
        if self.units is None:
            return vector
        row, entity = _partners(graph.entities_of, item, generator)
        return self.units.items(vector, self._embed(data, graph, ENTITY, entity), row)

    def entity_latent(
        self, data: HeteroData, entity: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """h_L of some entities, ``[n, hidden_channels]``; with a generator of one sampled item each."""
        graph = self.graph(data)
        vector = self._embed(data, graph, ENTITY, entity)
        row, item = _partners(graph.items_of, entity, generator)
        assert self.units is not None
        return self.units.entities(vector, self._embed(data, graph, ITEM, item), row)

    def encode(self, data: HeteroData) -> EncodedPairs:
        """What a score is made of: u_L and v_L, or, for the MLP head, its first layer's part of each."""
        graph = self.graph(data)
        user, item = self._embed(data, graph, USER), self._embed(data, graph, ITEM)
        return self._head_inputs(self.user_mlp(user), self._after_units(data, graph, item, None, None))

    def _head_inputs(self, user: Tensor, item: Tensor) -> EncodedPairs:
        if self.head == "dot":
            return EncodedPairs(user, item)
        return EncodedPairs(self.head_user(user), self.head_item(item))

    def _head(self, summed: Tensor) -> Tensor:
        """The rest of the MLP head on the sum of both parts, ``[..., inner]`` to ``[...]``."""
        if self.head_mlp is None:
            return summed.squeeze(-1)
        hidden = self.head_mlp.act(summed)
        out: Tensor = self.head_mlp(hidden.flatten(0, -2)).view(hidden.shape[:-1])
        return out

    def score_encoded(self, encoded: EncodedPairs, user: Tensor, item: Tensor) -> Tensor:
        """Logits of pairs, ``[B]``."""
        if self.head == "dot":
            return super().score_encoded(encoded, user, item)
        return self._head(encoded.user[user] + encoded.item[item])

    def score_all_encoded(self, encoded: EncodedPairs, user: Tensor) -> Tensor:
        """Logits of the catalogue, ``[B, num_items]``: one matrix product, or the MLP in 16 MiB blocks."""
        if self.head == "dot":
            return super().score_all_encoded(encoded, user)
        part = encoded.user[user]
        width = part.size(1)
        items = max(1, min(encoded.item.size(0), _BLOCK // width))
        users = max(1, _BLOCK // (width * items))
        rows = [
            torch.cat([self._head(u.unsqueeze(1) + v) for v in encoded.item.split(items)], dim=1)
            for u in part.split(users)
        ]
        return torch.cat(rows) if rows else part.new_empty(0, encoded.item.size(0))

    def rank(
        self, data: HeteroData, encoded: EncodedPairs, user: Tensor, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Top ``k`` unseen items of users."""
        if self.head == "dot":
            return super().rank(data, encoded, user, k, batch_size)
        return Recommender.rank(self, data, encoded, user, k, batch_size)

    # ------------------------------------------------------------------ recommendation task

    def training_examples(self, data: HeteroData) -> tuple[Tensor, ...]:
        """Users and items, and their labels where the loss is ``'bce'`` and the store has some."""
        store = data[INTERACTS]
        if self.loss == "bce" and "edge_label" in store:
            user, item = store.edge_label_index
            return user, item, store.edge_label
        return super().training_examples(data)

    def batch_losses(
        self, data: HeteroData, batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss of a batch of pairs, labelled or all positive."""
        return self.training_losses(data, batch[0], batch[1], generator, *batch[2:])

    def training_losses(
        self,
        data: HeteroData,
        user: Tensor,
        item: Tensor,
        generator: torch.Generator,
        label: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The recommendation task: loss of a batch of pairs, and L2 norm.

        Args:
            data: The training store.
            user: Users, ``[B]``.
            item: Items, ``[B]``.
            generator: Source of all randomness of the step.
            label: 0 or 1 a pair, ``[B]``; all are positives, and negatives are sampled, if None.
        """
        items = item.unsqueeze(1)
        if label is None:
            sampler = NegativeSampler.from_store(data, self.negatives)
            items = torch.cat([items, sampler.sample(user, self.num_negatives, generator)], dim=1)
        needed, place = None, items
        if items.numel() < data[ITEM].num_nodes:  # else encoding the whole catalogue is less work
            needed, place = items.unique(return_inverse=True)
        graph = self.graph(data)
        user_0, item_0 = self._embed(data, graph, USER, user), self._embed(data, graph, ITEM, needed)
        sampling = generator if self.partners == "sample" else None
        encoded = self._head_inputs(
            self.user_mlp(user_0), self._after_units(data, graph, item_0, needed, sampling)
        )
        if self.head == "dot":
            scores = ops.sampled_scores(encoded.user, encoded.item, place)
        else:
            scores = self._head(encoded.user.unsqueeze(1) + encoded.item[place])
        if self.loss == "bce":
            target = torch.zeros_like(scores)
            target[:, 0] = 1 if label is None else label.to(scores.dtype)
            ranking = binary_cross_entropy_with_logits(scores, target)
        else:
            ranking = ranking_loss(self.loss, scores)
        norm = user_0.pow(2).sum(-1).mean() + item_0.pow(2).sum(-1)[place].mean()
        layers: list[torch.nn.Module] = [self.user_mlp] if self.units is None else [self.user_mlp, self.units]
        if self.head == "mlp":
            layers += [self.head_user, self.head_item] + (
                [self.head_mlp] if self.head_mlp is not None else []
            )
        return {"ranking": ranking, "decay": self.decay / 2 * (norm + _squared_norm(layers))}

    # ------------------------------------------------------------------ knowledge task

    def knowledge_losses(
        self, data: HeteroData, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The knowledge task: how badly the tails of some triples are predicted, and L2 norm.

        Args:
            data: The training store.
            triple: Positions of triples, ``[B]`` int64.
            generator: Source of all randomness of the step.
        """
        head, relation, tail = self.graph(data).triple[:, triple]
        sampling = generator if self.partners == "sample" else None
        predicted = self.predict_tail(data, head, relation, sampling)
        loss = -self._triple_score(predicted, self.tail_latent(data, tail)).mean()
        if self.knowledge_loss == "paper":
            wrong = torch.randint(data[ENTITY].num_nodes, tail.shape, device=tail.device, generator=generator)
            loss = loss + self._triple_score(predicted, self.tail_latent(data, wrong)).mean()
        graph = self.graph(data)
        norm = self.relation_embedding[relation].pow(2).sum(-1).mean()
        for end in (head, tail):
            norm = norm + self._embed(data, graph, ENTITY, end).pow(2).sum(-1).mean()
        assert self.units is not None
        norm = norm + _squared_norm([self.units, self.knowledge_mlp, self.tail_mlp])
        return {"knowledge": loss, "knowledge_decay": self.decay / 2 * norm}

    @staticmethod
    def _triple_score(predicted: Tensor, tail: Tensor) -> Tensor:
        return (predicted * tail).sum(-1).sigmoid()

    def predict_tail(
        self,
        data: HeteroData,
        head: Tensor,
        relation: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Predicted tails :math:`\hat{\mathbf{t}}` of heads and relations ``[B]``: ``[B, hidden_channels]``."""
        entity, vector = self.entity_latent(data, head, generator), self.relation_embedding[relation]
        if self.knowledge_form == "paper":
            vector = self.knowledge_mlp(vector)
        out: Tensor = self.tail_mlp(torch.cat([entity, vector], dim=-1))
        return out if self.knowledge_form == "paper" else out.sigmoid()

    def tail_latent(self, data: HeteroData, tail: Tensor) -> Tensor:
        """Vectors that predicted tails are compared with, ``[B, hidden_channels]``."""
        vector = self._embed(data, self.graph(data), ENTITY, tail)
        if self.knowledge_form == "paper":
            return vector
        out: Tensor = self.knowledge_mlp(vector)
        return out

    def triple_scores(self, data: HeteroData, triple: Tensor | None = None) -> Tensor:
        """Scores s of some triples of the store (all if None), ``[B]``, in (0, 1)."""
        return self._over_triples(data, triple, self._triple_score)

    def kge_rmse(self, data: HeteroData) -> float:
        r"""Mean over the store's triples of :math:`\sqrt{\mathrm{mean}_d\, (t - \hat t)^2}`."""
        distances = self._over_triples(data, None, lambda p, t: (t - p).pow(2).mean(-1).sqrt())
        return float(distances.mean())

    def _over_triples(
        self, data: HeteroData, triple: Tensor | None, function: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        self._check_knows("triples can be scored")
        everything = self.graph(data).triple
        chosen = everything if triple is None else everything[:, triple]
        with self.predicting():
            blocks = [
                function(self.predict_tail(data, head, relation), self.tail_latent(data, tail))
                for head, relation, tail in chosen.split(2**15, dim=1)
            ]
        return torch.cat(blocks) if blocks else torch.empty(0, device=self.device)

    def epoch_metrics(self, data: HeteroData) -> dict[str, float]:
        """``kge_rmse`` of the store's triples, where they are learned from."""
        return {} if self.knowledge_interval is None else {"kge_rmse": self.kge_rmse(data)}

    def _check_knows(self, what: str) -> None:
        if self.knowledge_interval is None:
            raise ValueError(f"this model has no knowledge task, expected one before {what}")

    # ------------------------------------------------------------------ explanation

    def _explain(self, data: HeteroData, user: int, item: int) -> Explanation:
        from pyg_kgrec.explain import explain_by_deletion

        graph = self.graph(data)
        user_node, item_node = (torch.tensor([i], device=self.device) for i in (user, item))
        entity = graph.entities_of.select(item_node)[1] if self.use_kg else item_node[:0]
        nodes = {USER: user_node, ITEM: item_node, ENTITY: entity}
        vectors = {t: self._embed(data, graph, t, nodes[t]) for t in self.encoders}
        score = self._score_without(vectors)
        units: list[tuple[str, int, float]] = []
        if entity.numel():
            without = self._score_without_each(vectors)
            units += [(ENTITY, int(e), float(score - s)) for e, s in zip(entity, without)]
            units.append(
                ("all", -1, float(score - self._score_without(vectors | {ENTITY: vectors[ENTITY][:0]})))
            )
        for node_type in self.encoders:
            if self.encoders[node_type].projection is not None and nodes[node_type].numel():
                bare = self._embed(_without_features(data, node_type), graph, node_type, nodes[node_type])
                other = self._score_without(vectors | {node_type: bare})
                units.append((f"{node_type} features", -1, float(score - other)))

        num_triples = data[RELATES].num_edges if RELATES in data.edge_types else 0
        weight = torch.zeros(num_triples, device=self.device)
        if self.knowledge_interval is not None:
            among = torch.isin(graph.triple[[0, 2]], entity).any(0).nonzero().flatten()
            weight[among] = self.triple_scores(data, among).to(weight.dtype)
        return explain_by_deletion(
            data, user, item, float(score), units, weight, "how well its tail is predicted, context"
        )

    def _score_without(self, vectors: dict[str, Tensor]) -> Tensor:
        """Score of one user's vector, one item's and those of its entities (maybe none)."""
        item = vectors[ITEM]
        if self.units is not None:
            row = torch.zeros(vectors[ENTITY].size(0), dtype=torch.long, device=item.device)
            item = self.units.items(item, vectors[ENTITY], row)
        return self._score_latent(self.user_mlp(vectors[USER]), item)[0]

    def _score_without_each(self, vectors: dict[str, Tensor]) -> Tensor:
        """Scores without the first, the second, … entity, ``[m]``; without its only one the item is itself."""
        item, entity = vectors[ITEM], vectors[ENTITY]
        assert self.units is not None
        out = self.units(item.expand_as(entity), entity)[0]
        rest = (out.sum(0) - out) / max(out.size(0) - 1, 1) if out.size(0) > 1 else item
        return self._score_latent(self.user_mlp(vectors[USER]).expand_as(rest), rest)

    def _score_latent(self, user: Tensor, item: Tensor) -> Tensor:
        """Logits of pairs of latent vectors, ``[B]``."""
        encoded = self._head_inputs(user, item)
        place = torch.arange(user.size(0), device=user.device)
        return self.score_encoded(encoded, place, place)

    def __repr__(self) -> str:
        sizes = self.signature.num_nodes
        return (
            f"{type(self).__name__}({sizes[USER]}, {sizes[ITEM]}, {sizes[ENTITY]}, "
            f"hidden_channels={self.hidden_channels}, num_layers={self.num_layers}, unit={self.unit!r}, "
            f"head={self.head!r})"
        )


def _start_dense(layer: Any) -> None:
    """The identity, or Xavier's start where there is none, and a bias of zero."""
    if layer.weight.size(0) == layer.weight.size(1):
        torch.nn.init.eye_(layer.weight)
    else:
        glorot(layer.weight)
    zeros(layer.bias)


def _dense(channels: list[int], activation: str) -> MLP:
    """Dense layers, each followed by its activation."""
    try:
        activation_resolver(activation)
    except ValueError as error:
        raise ValueError(f"activation is {activation!r}, expected one that PyG knows, like 'relu'") from error
    return MLP(channels, norm=None, act=activation, plain_last=False)


def _without_features(data: HeteroData, node_type: str) -> HeteroData:
    """The store with features of zero for one node type."""
    out = copy.copy(data)
    out[node_type].x = torch.zeros_like(data[node_type].x)
    return out


def _squared_norm(modules: list[torch.nn.Module]) -> Tensor:
    """Squared norm of all parameters of some modules."""
    return torch.cat([p.flatten() for module in modules for p in module.parameters()]).pow(2).sum()


def _partners(
    index: PairIndex, node: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Partners of some nodes (all if None) or one sampled of each: positions of nodes, and partners, ``[m]``."""
    if node is None:
        node = torch.arange(index.start.numel() - 1, device=index.start.device)
    if generator is None:
        return index.select(node)
    start = index.start[node]
    degree = index.start[node + 1] - start
    row = (degree > 0).nonzero().flatten()
    noise = torch.rand(row.shape, dtype=torch.float64, device=row.device, generator=generator)
    return row, index.item[start[row] + (noise * degree[row]).long()]


def _check_loss(loss: str, num_negatives: int | None) -> int:
    if loss == "bce":
        return check_loss("bpr", num_negatives)
    if loss not in ("softmax", "bpr"):
        raise ValueError(f"loss is {loss!r}, expected 'bce', 'softmax' or 'bpr'")
    return check_loss(loss, num_negatives)


def _check_arguments(
    num_layers: int,
    num_kge_layers: int,
    head: str,
    num_head_layers: int,
    partners: str,
    knowledge_interval: int | None,
    knowledge_lr: float,
    knowledge_loss: str,
    knowledge_form: str,
    layer_lr: float,
) -> None:
    counts = {"num_layers": num_layers, "num_kge_layers": num_kge_layers, "num_head_layers": num_head_layers}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    for name, choice, known in (
        ("head", head, get_args(Head)),
        ("partners", partners, get_args(Partners)),
        ("knowledge_loss", knowledge_loss, get_args(Form)),
        ("knowledge_form", knowledge_form, get_args(Form)),
    ):
        if choice not in known:
            raise ValueError(f"{name} is {choice!r}, expected {known[0]!r} or {known[1]!r}")
    if knowledge_interval is not None and knowledge_interval < 1:
        raise ValueError(
            f"knowledge_interval is {knowledge_interval}, expected at least 1, or None for no such task"
        )
    for name, ratio in (("knowledge_lr", knowledge_lr), ("layer_lr", layer_lr)):
        if not ratio > 0:
            raise ValueError(f"{name} is {ratio}, expected a positive multiple of the learning rate")
