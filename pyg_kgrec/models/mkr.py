"""MKR: recommendation and knowledge-graph embedding as two tasks that share what items and entities know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits, embedding
from torch_geometric.data import HeteroData
from torch_geometric.nn import MLP, Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.nn.resolver import activation_resolver

from pyg_kgrec import ops
from pyg_kgrec._checks import (
    MOST_LAYERS,
    check_at_least,
    check_choices,
    check_factor,
    check_weight,
    check_within,
)
from pyg_kgrec._files import shown
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, USER
from pyg_kgrec.explain import DeletionExplanation
from pyg_kgrec.explain.units import FEATURES, OF_ENTITY, Removals, Units, left_out
from pyg_kgrec.models.base import Batch, Store
from pyg_kgrec.models.encoding import DotProduct, Encoding
from pyg_kgrec.models.inputs import Inputs, WeightStamp
from pyg_kgrec.models.linked import LinkedRecommender
from pyg_kgrec.models.objective import NUM_NEGATIVES, Objective, distinct_items
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.strangers import below_known, nodes_known
from pyg_kgrec.nn.cross_compress import CrossUnits, Unit, check_unit
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss, full

Head = Literal["dot", "mlp"]
Partners = Literal["sample", "mean"]
Form = Literal["authors", "paper"]

_START = 0.1  # norm of an embedding at the start
_BLOCK = 2**22  # floats of a layer in a block of the MLP head: 16 MiB, half the time of 64


@dataclass(frozen=True, eq=False)
class _Without:
    """Removals, and what they are of.

    Attributes:
        inputs: The prepared store.
        user: User of each removal, ``[R]`` int64.
        item: Its item, ``[R]`` int64.
        units: Units of the pairs.
        removals: What is left out together.
        bare: Whether the features of the user, the item and the entities are gone, ``[3, R]`` bool.
    """

    inputs: Inputs
    user: Tensor
    item: Tensor
    units: Units
    removals: Removals
    bare: Tensor

    @classmethod
    def of(cls, inputs: Inputs, user: Tensor, item: Tensor, units: Units, removals: Removals) -> _Without:
        """Removals of pairs ``[B]``."""
        pair = removals.pair(units)
        removal, kind = removals.of_kind(units, FEATURES)
        bare = torch.zeros(3, len(removals), dtype=torch.bool, device=inputs.device)
        bare[kind, removal] = True
        return cls(inputs, user[pair], item[pair], units, removals, bare)


@dataclass(frozen=True)
class MLPHead(Encoding):
    """Scores by an MLP on the sum of a user's and an item's part of its first layer.

    Attributes:
        user: ``[num_users, inner]``.
        item: ``[num_items, inner]``.
        mlp: What follows the first layer, or None where that is all there is (``inner`` is 1 then).
    """

    user: Tensor
    item: Tensor
    mlp: MLP | None

    def of(self, summed: Tensor) -> Tensor:
        """Scores of sums of both parts, ``[..., inner]`` to ``[...]``."""
        if self.mlp is None:
            return summed.squeeze(-1)
        hidden = self.mlp.act(summed)
        out: Tensor = self.mlp(hidden.flatten(0, -2)).view(hidden.shape[:-1])
        return out

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Logits of pairs, ``[B]``."""
        return self.of(self.user[user] + self.item[item])

    def score_all(self, user: Tensor) -> Tensor:
        """Logits of the catalogue, ``[B, num_items]``, in 16 MiB blocks."""
        part = self.user[user]
        width = part.size(1)
        items = max(1, min(self.item.size(0), _BLOCK // width))
        users = max(1, _BLOCK // (width * items))
        rows = [
            torch.cat([self.of(u.unsqueeze(1) + v) for v in self.item.split(items)], dim=1)
            for u in part.split(users)
        ]
        return torch.cat(rows) if rows else part.new_empty(0, self.item.size(0))

    @property
    def item_embeddings(self) -> Tensor:
        """The items' part of the first layer."""
        return self.item

    @property
    def user_embeddings(self) -> Tensor:
        """The users' part of the first layer."""
        return self.user


class MKR(LinkedRecommender):
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

    An item without an entity and a head without an item skip the units, which the paper leaves open. A new item
    that only its entities are known of goes through the units as the mean of the known items.

    Args:
        data: The training store.
        hidden_channels: Size d of all embeddings.
        num_layers: Number of units and of dense layers L (1 is MKR-1L).
        num_kge_layers: Dense layers K that predict the tail.
        head: f: ``'dot'``, the inner product, or ``'mlp'`` on [u_L, v_L].
        num_head_layers: Layers H of that MLP.
        unit: ``'cross_compress'``, ``'dcn'`` (MKR-DCN) or ``'stitch'`` (MKR-stitch).
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        activation: Of the dense layers: a name that PyG knows; the authors' code has ``'relu'``.
        layer_lr: Learning rate of dense layers and units, as a multiple of that of the embeddings. They are in
            every step and an embedding is in few: at the same rate the layers run ahead and leave the embeddings
            few dimensions.
        loss: ``'bce'`` (the paper's), ``'softmax'`` or ``'bpr'``; by default ``'bce'`` where the store labels its
            pairs and ``'softmax'`` where it holds positives only.
        num_negatives: Number of negatives per positive where pairs have no labels; by default 256 for
            ``'softmax'``, else 1.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        partners: In training the units take the ``'mean'`` over all of S(v), as in prediction, or ``'sample'`` one
            partner, as in the paper's Algorithm 1.
        use_kg: False ignores the entities altogether (ablation).
        knowledge_interval: Batches of pairs t between two batches of triples; None leaves that task out (ablation).
        knowledge_lr: λ₁, the learning rate of the triples' task as a multiple of the other one.
        knowledge_loss: ``'authors'`` raises the scores of true triples; ``'paper'`` (eq. 9) lowers those of false
            ones too, one for each, with a random tail.
        knowledge_form: ``'authors'`` or ``'paper'``, see above.
        decay: λ₂, weight of half the squared norm of a batch's embeddings (a mean over the batch) and of the
            weights of layers and units.
    """

    fold_prior = 1.0
    search_space: ClassVar[dict[str, Any]] = {
        "lr": (3e-4, 1e-2),
        "knowledge_lr": (1e-2, 1.0),
        "layer_lr": (1e-3, 1.0),
        "decay": (1e-8, 1e-4),
    }
    shown = ("hidden_channels", "num_layers", "unit", "head")

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
        check_within(
            1, MOST_LAYERS, num_layers=num_layers, num_kge_layers=num_kge_layers, num_head_layers=num_head_layers
        )  # fmt: skip
        if knowledge_interval is not None:
            check_at_least(1, knowledge_interval=knowledge_interval)
        check_choices(
            head=(head, get_args(Head)), partners=(partners, get_args(Partners)),
            knowledge_loss=(knowledge_loss, get_args(Form)), knowledge_form=(knowledge_form, get_args(Form)),
        )  # fmt: skip
        check_factor(knowledge_lr=knowledge_lr, layer_lr=layer_lr)
        check_weight(decay=decay)
        check_unit(unit)
        if loss is None:
            labelled = isinstance(data, HeteroData) and "edge_label" in data[INTERACTS]
            loss = "bce" if labelled else "softmax"
            self._understood(loss=loss)
        super().__init__(data, hidden_channels, features, use_kg)
        self.objective = Objective(loss, num_negatives, negatives, {"bce": 1, **NUM_NEGATIVES})
        self.num_layers, self.head, self.unit, self.partners = num_layers, head, unit, partners
        if self.use_kg and self.signature.relation_name:
            self.knowledge_interval = knowledge_interval
        self.knowledge_lr = knowledge_lr
        self.knowledge_loss, self.knowledge_form = knowledge_loss, knowledge_form
        self.decay, self.layer_lr = decay, layer_lr

        d = hidden_channels
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
        if self.knows:
            self.relation_embedding = Parameter(torch.empty(len(self.signature.relation_name), d))
            self.knowledge_mlp = _dense([d] * (num_layers + 1), activation)  # of tails, or of relations
            self.tail_mlp = _dense([2 * d] * num_kge_layers + [d], activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew: small embeddings, and layers that change nothing much.

        Dense layers start as the identity (Xavier's start where they are not square) with biases of zero. Random
        biases, PyTorch's usual start, are what kills ReLU networks here: beside small embeddings they
        alone decide which neurons are on, the same for every user, and with d = 4 and two layers one start in eight
        has a layer with none. Embeddings come from a normal distribution of deviation 0.1/√d; longer ones
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
        if self.knows:
            torch.nn.init.normal_(self.relation_embedding, std=scale)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Embeddings at the learning rate, dense layers and units at ``layer_lr`` times it."""
        learned = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        tables = [p for name, p in learned if name.startswith(("encoders.", "relation_embedding"))]
        layers = [p for name, p in learned if not name.startswith(("encoders.", "relation_embedding"))]
        return [{"params": tables, "lr": lr}, {"params": layers, "lr": lr * self.layer_lr}]

    # ------------------------------------------------------------------ towers

    def _items(self, inputs: Inputs) -> Tensor:
        """All items before any unit; one that nothing but its entities is known of is the mean of the known items.

        A unit multiplies an item with its entity: of a row of zeros it makes the same whatever the entity is.
        """
        item = self.embed(inputs, ITEM)
        if self.units is None or (inputs.row[ITEM] is None and self.has_rows(ITEM)):
            return item
        own = nodes_known(self, inputs, ITEM, ("row", "features"))
        alone = self.linked_items(inputs) & ~own
        if not bool(alone.any()) or not bool(own.any()):
            return item
        return torch.where(alone.unsqueeze(1), item[own].mean(0), item)

    def _after_units(
        self, inputs: Inputs, start: Tensor, item: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """v_L of some items (all if None); with a generator from one sampled entity each."""
        if self.units is None:
            return start
        row, entity = inputs.graph.entities_of.partners(item, generator)
        return self.units.items(start, self.embed(inputs, ENTITY, entity), row)

    def entity_latent(
        self, inputs: Inputs, entity: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """h_L of some entities, ``[n, hidden_channels]``; with a generator from one sampled item each."""
        row, item = inputs.graph.items_of.partners(entity, generator)
        assert self.units is not None
        return self.units.entities(self.embed(inputs, ENTITY, entity), self.embed(inputs, ITEM, item), row)

    def encode(self, inputs: Inputs) -> Encoding:
        """What a score is made of: u_L and v_L, or, for the MLP head, its first layer's part of each."""
        item = self._after_units(inputs, self._items(inputs), None, None)
        return self._encoding(self.user_mlp(self.embed(inputs, USER)), item)

    def _encoding(self, user: Tensor, item: Tensor) -> DotProduct | MLPHead:
        if self.head == "dot":
            return DotProduct(user, item)
        return MLPHead(self.head_user(user), self.head_item(item), self.head_mlp)

    def with_rows(
        self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor
    ) -> DotProduct | MLPHead:
        """An encoding of some users with other rows; see the base class."""
        latent = self.user_mlp(self.embed(inputs, USER, user) + row)
        if isinstance(encoding, MLPHead):
            return replace(encoding, user=self.head_user(latent))
        assert isinstance(encoding, DotProduct)
        return DotProduct(latent, encoding.item)

    # ------------------------------------------------------------------ recommendation task

    def training_examples(self, inputs: Inputs) -> Batch:
        """Users and items, and their labels where the loss is ``'bce'`` and the store has some."""
        store = inputs.data[INTERACTS]
        if self.objective.loss == "bce" and "edge_label" in store:
            return (*store.edge_label_index, store.edge_label)
        return super().training_examples(inputs)

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The recommendation task: loss of a batch of pairs, and L2 norm.

        Args:
            inputs: The training store.
            batch: Users, items ``[B]`` and perhaps labels, 0 or 1 per pair; without them all are positives, and
                negatives are sampled.
            generator: Source of all randomness of the step.
        """
        user, item, *label = batch
        candidate = item.unsqueeze(1)
        if not label:
            candidate = self.objective.candidates(inputs, user, item, generator)
        needed, index = distinct_items(candidate, inputs.num_items)
        user_0, item_0 = self.embed(inputs, USER, user), self.embed(inputs, ITEM, needed)
        sampling = generator if self.partners == "sample" else None
        encoded = self._encoding(self.user_mlp(user_0), self._after_units(inputs, item_0, needed, sampling))
        if isinstance(encoded, DotProduct):
            scores = ops.sampled_scores(encoded.user, encoded.item, index)
        else:
            scores = encoded.of(encoded.user.unsqueeze(1) + embedding(index, encoded.item))
        if self.objective.loss == "bce":
            target = torch.zeros_like(scores)
            target[:, 0] = label[0].to(scores.dtype) if label else 1
            ranking = binary_cross_entropy_with_logits(full(scores), full(target))
        else:
            ranking = self.objective(scores)
        norm = user_0.pow(2).sum(-1).mean() + item_0.pow(2).sum(-1).gather(0, index.flatten()).mean()
        layers = [self.user_mlp, self.units]
        if self.head == "mlp":
            layers += [self.head_user, self.head_item, self.head_mlp]
        return {"ranking": ranking, "decay": self.decay / 2 * (norm + _squared_norm(layers))}

    # ------------------------------------------------------------------ knowledge task

    def knowledge_losses(
        self, inputs: Inputs, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The knowledge task: how badly the tails of some triples are predicted, and L2 norm.

        Args:
            inputs: The training store.
            triple: Positions of triples, ``[B]`` int64.
            generator: Source of all randomness of the step.
        """
        head, relation, tail = inputs.triple[:, triple]
        sampling = generator if self.partners == "sample" else None
        predicted = self.predict_tail(inputs, head, relation, sampling)
        loss = -_triple_score(predicted, self.tail_latent(inputs, tail)).mean()
        if self.knowledge_loss == "paper":
            wrong = torch.randint(inputs.num_entities, tail.shape, device=tail.device, generator=generator)
            loss = loss + _triple_score(predicted, self.tail_latent(inputs, wrong)).mean()
        norm = embedding(relation, self.relation_embedding).pow(2).sum(-1).mean()
        for end in (head, tail):
            norm = norm + self.embed(inputs, ENTITY, end).pow(2).sum(-1).mean()
        norm = norm + _squared_norm([self.units, self.knowledge_mlp, self.tail_mlp])
        return {"knowledge": loss, "knowledge_decay": self.decay / 2 * norm}

    def predict_tail(
        self,
        inputs: Inputs,
        head: Tensor,
        relation: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Predicted tails :math:`\hat{\mathbf{t}}` of heads and relations ``[B]``: ``[B, hidden_channels]``."""
        entity = self.entity_latent(inputs, head, generator)
        predicate = embedding(relation, self.relation_embedding)
        if self.knowledge_form == "paper":
            predicate = self.knowledge_mlp(predicate)
        out: Tensor = self.tail_mlp(torch.cat([entity, predicate], dim=-1))
        return out if self.knowledge_form == "paper" else out.sigmoid()

    def tail_latent(self, inputs: Inputs, tail: Tensor) -> Tensor:
        """What predicted tails are compared with, ``[B, hidden_channels]``."""
        own = self.embed(inputs, ENTITY, tail)
        return own if self.knowledge_form == "paper" else self.knowledge_mlp(own)

    def score_triples(self, inputs: Inputs, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores s of triples, ``[B]``, in (0, 1)."""
        return _triple_score(self.predict_tail(inputs, head, relation), self.tail_latent(inputs, tail))

    def kge_rmse(self, data: Store) -> float:
        r"""Mean over the store's triples of :math:`\sqrt{\mathrm{mean}_d\, (t - \hat t)^2}`."""
        inputs, model = self.inputs(data), self.evaluating()
        self.check_knows("triples can be scored")

        def distance(inputs: Inputs, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
            difference = model.tail_latent(inputs, tail) - model.predict_tail(inputs, head, relation)
            return difference.pow(2).mean(-1).sqrt()

        return float(self.over_triples(inputs, None, distance).mean())

    @property
    def knows(self) -> bool:
        """Whether the model learns from triples."""
        return self.knowledge_interval is not None

    def epoch_metrics(self, inputs: Inputs) -> dict[str, float]:
        """``kge_rmse`` of the store's triples, where they are learned from."""
        return {"kge_rmse": self.kge_rmse(inputs)} if self.knows else {}

    # ------------------------------------------------------------------ explanation

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The entities S(v) of each item, and features of the user, the item and the entities, where they are used.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        every = torch.arange(user.numel(), device=user.device)
        pair, entity = inputs.graph.entities_of.select(item)
        parts = [Units.of(OF_ENTITY, pair, entity)]
        for place, node_type in enumerate((USER, ITEM, ENTITY)):
            if self.projects(node_type):
                having = pair.unique() if node_type == ENTITY else every
                parts.append(Units.of(FEATURES, having, torch.full_like(having, place)))
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
        """Scores without some of the item's entities, or with features of 0.

        Without any entity an item skips the units. Features of the entities are those of all of S(v), which other
        items may share. An item that is known by none of its own any more starts from the mean item, like any that
        is known by its entities alone; one of which nothing is left that the model knows scores below all others.

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
        without, device = _Without.of(inputs, user, item, units, removals), inputs.device
        number = torch.arange(len(removals), device=device)
        latent, lost = self._after_removals(without, number, without.item)
        blocks = max(1, _BLOCK // max(inputs.num_items, 1))
        if every:
            out = [self._all_without(without, some, latent, lost) for some in number.split(blocks)]
            return torch.cat(out) if out else torch.empty(0, inputs.num_items, device=device)
        score = self._score_latent(self._user_latent(inputs, without.user, without.bare[0]), latent)
        for some in number[lost].split(blocks):
            whole = self._all_without(without, some, latent, lost)
            score[some] = whole.gather(1, without.item[some].unsqueeze(1)).squeeze(1)
        return score

    def known_without(
        self, inputs: Inputs, user: Tensor, item: Tensor, units: Units, removals: Removals
    ) -> Tensor | None:
        """Items that are left a row, features or a known entity; see the base class."""
        without = _Without.of(inputs, user, item, units, removals)
        number = torch.arange(len(removals), device=inputs.device)
        row, also = self._also_changed(without, number)
        row, items = torch.cat([number, row]), torch.cat([without.item, also])
        lost = self._after_removals(without, row, items)[1]
        if not bool(lost.any()):
            return None
        known = self.known(inputs).item.repeat(len(removals), 1)
        known[row[lost], items[lost]] = False
        return known

    def _all_without(self, without: _Without, some: Tensor, latent: Tensor, lost: Tensor) -> Tensor:
        """Scores of all items after some removals ``[r]``, ``[r, num_items]``.

        Args:
            without: What is left out.
            some: Numbers of removals, ascending.
            latent: v_L of the item of each removal, ``[R, hidden_channels]``.
            lost: Whether nothing is known of it any more, ``[R]`` bool.
        """
        inputs, who, what, bare = without.inputs, without.user, without.item, without.bare
        score = self.own_encoding(inputs).score_all(who[some])
        known = self.known(inputs).item.expand(score.shape)
        changed = bare[0][some].nonzero().flatten()
        if changed.numel():
            stripped = self._user_latent(inputs, who[some[changed]], bare[0][some[changed]])
            other = self._encoding(stripped, self._item_latent(inputs))
            score[changed] = other.score_all(torch.arange(changed.numel(), device=score.device))
        row, items = self._also_changed(without, some)
        if row.numel():
            rows = some[row]
            also, unknown = self._after_removals(without, rows, items)
            score[row, items] = self._score_latent(self._user_latent(inputs, who[rows], bare[0][rows]), also)
            known = known.index_put((row[unknown], items[unknown]), known.new_zeros(()))
        own = torch.arange(some.numel(), device=score.device)
        score[own, what[some]] = self._score_latent(
            self._user_latent(inputs, who[some], bare[0][some]), latent[some]
        )
        known = known.index_put((own[lost[some]], what[some][lost[some]]), known.new_zeros(()))
        now_bare = self.known(inputs).item & ~known
        if bool(now_bare.any()):
            # With them all that were bare before: at one score, as on a store without what is left out.
            last = now_bare.any(1, keepdim=True) & ~known
            score = torch.where(last, below_known(score, known).unsqueeze(1), score)
        return score

    def _also_changed(self, without: _Without, some: Tensor) -> tuple[Tensor, Tensor]:
        """Other items that change with what some removals leave out: places among the removals, and the items."""
        inputs, bare = without.inputs, without.bare
        # Items that share an entity whose features are gone change with it.
        stripped = bare[2][some].nonzero().flatten()
        place, entity = inputs.graph.entities_of.select(without.item[some[stripped]])
        held, also = inputs.graph.items_of.select(entity)
        found = torch.stack([stripped[place[held]], also])
        if self.units is not None and bool(bare[1][some].any()):
            # Items that start from the mean item change with any that this is a mean over.
            own = nodes_known(self, inputs, ITEM, ("row", "features"))
            alone = (self.linked_items(inputs) & ~own).nonzero().flatten()
            place = (bare[1][some] & own[without.item[some]]).nonzero().flatten()
            found = torch.cat([found, torch.cartesian_prod(place, alone).t()], dim=1)
        row, item = found.unique(dim=1)
        return row, item

    def _embed_bare(self, inputs: Inputs, node_type: str, node: Tensor, bare: Tensor) -> Tensor:
        """Embeddings of some nodes ``[n]``, those that are ``bare`` with features of 0."""
        row, x = inputs.nodes(node_type, node)
        if x is not None:
            x = x.masked_fill(bare.unsqueeze(1), 0)
        out: Tensor = self.encoders[node_type](row, x)
        return out

    def _user_latent(self, inputs: Inputs, user: Tensor, bare: Tensor) -> Tensor:
        out: Tensor = self.user_mlp(self._embed_bare(inputs, USER, user, bare))
        return out

    def _item_latent(self, inputs: Inputs) -> Tensor:
        """v_L of all items, kept until a weight changes."""
        kept: tuple[WeightStamp, Tensor] = inputs.replace(
            "item latent",
            lambda kept: kept[0].holds(self),
            lambda: (WeightStamp(self), self._after_units(inputs, self._items(inputs), None, None)),
        )
        return kept[1]

    def _after_removals(self, without: _Without, number: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """v_L of items ``[m]`` after removals ``[m]``, and whether nothing is known of them any more."""
        inputs, asked = without.inputs, without.item[number]
        links, own = inputs.graph.entities_of, item == asked
        row, entity = links.select(item)
        removal, node = without.removals.of_kind(without.units, OF_ENTITY)
        size = max(inputs.num_entities, 1)
        gone = own[row] & left_out(removal, node, size, number[row], entity)
        row, entity = row[~gone], entity[~gone]
        # S(v) of the item that was asked about, whose features may be gone from other items too.
        owner, member = links.select(asked)
        stripped = without.bare[2][number[row]] & left_out(owner, member, size, row, entity)
        linked = torch.zeros_like(own)
        if row.numel():
            by_row, known = (nodes_known(self, inputs, ENTITY, s) for s in (("row",), ("row", "features")))
            linked[row[torch.where(stripped, by_row[entity], known[entity])]] = True
        start, lost = self._starts_after(without, number, item, linked)
        if self.units is None:
            return start, lost
        return self.units.items(start, self._embed_bare(inputs, ENTITY, entity, stripped), row), lost

    def _starts_after(
        self, without: _Without, number: Tensor, item: Tensor, linked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`_items` is after removals, and which items nothing is known of any more.

        Args:
            without: What is left out.
            number: Removals, ``[m]`` int64.
            item: Items, ``[m]`` int64.
            linked: Whether they are still linked to a known entity, ``[m]`` bool.

        Returns:
            ``[m, hidden_channels]`` float and ``[m]`` bool.
        """
        inputs, asked, bare = without.inputs, without.item[number], without.bare[1][number]
        by_row = nodes_known(self, inputs, ITEM, ("row",))
        own = nodes_known(self, inputs, ITEM, ("row", "features"))
        gone = bare & (item == asked) & own[item]
        start = torch.where(
            gone.unsqueeze(1), self._embed_bare(inputs, ITEM, item, gone), self._items(inputs)[item]
        )
        mine = torch.where(gone, by_row[item], own[item])
        lost = self.known(inputs).item[item] & ~mine & ~linked
        # The mean item is one over fewer items, or over one that is another now.
        some = (linked & ~mine & bare & own[asked]).nonzero().flatten()
        if self.units is not None and some.numel():
            known, kept = self.embed(inputs, ITEM), by_row[asked[some]]
            then = self._embed_bare(inputs, ITEM, asked[some], torch.ones_like(kept))
            total = known[own].sum(0) - known[asked[some]] + then.masked_fill(~kept.unsqueeze(1), 0)
            count = (own.sum() - 1 + kept.long()).unsqueeze(1)
            none = self._embed_bare(inputs, ITEM, item[some], gone[some])
            start[some] = torch.where(count > 0, total / count.clamp(min=1), none)
        return start, lost

    def _explain(self, inputs: Inputs, user: int, item: int) -> DeletionExplanation:
        who, what = (torch.tensor([i], device=self.device) for i in (user, item))
        entity = inputs.graph.entities_of.select(what)[1]
        weight = torch.zeros(inputs.triple.size(1), device=self.device)
        if self.knows:
            among = torch.isin(inputs.triple[[0, 2]], entity).any(0).nonzero().flatten()
            weight[among] = self.triple_scores(inputs, among).to(weight.dtype)
        score = float(self.own_encoding(inputs).score(who, what))
        return DeletionExplanation.from_units(
            inputs.data, user, item, score, [], weight, "how well its tail is predicted, context"
        )

    def _score_latent(self, user: Tensor, item: Tensor) -> Tensor:
        """Logits of pairs of latent embeddings, ``[B]``."""
        index = torch.arange(user.size(0), device=user.device)
        return self._encoding(user, item).score(index, index)


def _triple_score(predicted: Tensor, tail: Tensor) -> Tensor:
    return (full(predicted) * full(tail)).sum(-1).sigmoid()


def _start_dense(layer: Any) -> None:
    """The identity, or Xavier's start where there is none, and a bias of zero."""
    if layer.weight.size(0) == layer.weight.size(1):
        torch.nn.init.eye_(layer.weight)
    else:
        glorot(layer.weight)
    zeros(layer.bias)


def _dense(channels: list[int], activation: str) -> MLP:
    """Dense layers, each followed by its activation."""
    if not isinstance(activation, str):
        raise TypeError(
            f"activation is {shown(repr(activation))}, expected a name that PyG knows, like 'relu'"
        )
    try:
        activation_resolver(activation)
    except ValueError as error:
        raise ValueError(f"activation is {activation!r}, expected one that PyG knows, like 'relu'") from error
    return MLP(channels, norm=None, act=activation, plain_last=False)


def _squared_norm(modules: list[torch.nn.Module | None]) -> Tensor:
    """Squared norm of all parameters of some modules."""
    weights = [p.flatten() for module in modules if module is not None for p in module.parameters()]
    return torch.cat(weights).pow(2).sum()
