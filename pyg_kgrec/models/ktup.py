"""KTUP: a user's preference and a relation of the knowledge graph as one translation, learned from both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import margin_ranking_loss
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec.data.cache import cached
from pyg_kgrec.data.sampling import Distribution, NegativeSampler, check_distribution
from pyg_kgrec.data.store import ENTITY, ITEM, RELATES, USER
from pyg_kgrec.kge.sampling import TripleSampler
from pyg_kgrec.kge.scorers import HyperplaneScorer
from pyg_kgrec.kge.transh import TransH
from pyg_kgrec.models.linked import LinkedGraph, LinkedRecommender
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss, check_loss, ranking_loss
from pyg_kgrec.nn.norms import Norm, check_norm, clip_norm_, orthogonality_loss, unit_norm_
from pyg_kgrec.ops import Induction

if TYPE_CHECKING:
    from pyg_kgrec.explain import Explanation

Joint = Literal["sum", "alternate"]

_START = 0.1  # norm of users, items and entities at the start
_BLOCK = 2**22  # scores that ranking holds at a time: 16 MiB


@dataclass(frozen=True)
class EncodedTranslation:
    """What scores are made of.

    Attributes:
        user: u, ``[num_users, d]``.
        item: î, ``[num_items, d]``: items with the mean of their entities added, within ``item_norm``.
        translation: T = (P + R) / 2, ``[num_preferences, d]``.
        normal: N = (W_p + W_r) / 2, ``[num_preferences, d]``.
    """

    user: Tensor
    item: Tensor
    translation: Tensor
    normal: Tensor


class _Aligned(NamedTuple):
    """Items with and without their entities, their links (row and entity's vector), further entities' vectors."""

    aligned: Tensor
    item: Tensor
    row: Tensor
    entity: Tensor
    further: Tensor


class KTUP(LinkedRecommender):
    r"""Knowledge-enhanced translation-based user preference, and TUP, the same without the knowledge graph.

    A user likes an item under a preference, which is a translation on a hyperplane, as a relation of the knowledge
    graph is in TransH (:class:`~pyg_kgrec.kge.TransH`); each preference goes with one relation. With
    :math:`\mathbf{T} = (\mathbf{P} + \mathbf{R}) / 2`, :math:`\mathbf{N} = (\mathbf{W}_p + \mathbf{W}_r) / 2`
    (rows are preferences) and an item aligned to its entities, :math:`\hat{\mathbf{i}} = \mathbf{i} +
    \mathrm{mean}_{e \in S(i)}\, \mathbf{e}`, shortened to ``item_norm`` if longer, the preference is induced
    from the pair,

    .. math::
        \boldsymbol\pi = (\mathbf{u} + \hat{\mathbf{i}})\, \mathbf{T}^\top, \qquad
        \hat{\mathbf{p}} = \boldsymbol\pi \mathbf{T}, \quad \hat{\mathbf{w}} = \boldsymbol\pi \mathbf{N}, \qquad
        \hat y_{ui} = -\| \mathbf{u}_\perp + \hat{\mathbf{p}} - \hat{\mathbf{i}}_\perp \|^2, \quad
        \mathbf{x}_\perp = \mathbf{x} - (\mathbf{x} \cdot \hat{\mathbf{w}})\, \hat{\mathbf{w}},

    or ``'hard'``: the one preference of the largest :math:`\pi` stands for the mixture; in training a
    straight-through Gumbel-softmax chooses it, in prediction the arg max. A triple is scored as
    :math:`-\| \mathbf{e}_{h\perp} + \mathbf{r} - \mathbf{e}_{t\perp} \|^2`. The loss is

    .. math::
        \lambda\, (\mathcal{L}_{rank} + \mathcal{L}_{orth}(\mathbf{P}, \mathbf{W}_p) + \alpha\,
        \mathrm{mean}_{(i, e)} \|\mathbf{i} - \mathbf{e}\|^2) + (1 - \lambda)\, (\mathcal{L}_{margin} +
        \mathcal{L}_{orth}(\mathbf{R}, \mathbf{W}_r)),

    with the margin ranking loss of true triples against ones with another head or tail, never a true one.
    After every step each row of every table is brought back to norm 1 or less. Cao et al., "Unifying
    Knowledge Graph Learning and Recommendation", WWW 2019. (The authors' code for TUP halves π; the paper,
    and this, do not.)

    Args:
        data: The training store.
        hidden_channels: Size d of all vectors.
        induction: ``'hard'``, one preference a pair, or ``'soft'``, all of them by their weights.
        norm: Distance on both sides: ``'l2'`` (squared) or ``'l1'``.
        temperature: Of the Gumbel-softmax, in training with ``'hard'``.
        use_kg: False is TUP.
        num_preferences: Of TUP; by default as many as the store has relations, 20 without any. KTUP has one for
            each relation.
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        loss: ``'softmax'`` or ``'bpr'`` (the paper's).
        num_negatives: Negatives a positive; by default 16 for ``'softmax'`` and 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        score_scale: What scores are multiplied with in the ranking loss. With norms of 1 or less distances are
            bounded, and this decides how sure of itself the model can be.
        joint: ``'sum'``: every step adds as many random triples as it has pairs; ``'alternate'``: after each batch
            of pairs comes one of triples, by an optimiser of its own with (1 − λ) / λ times the learning rate.
        joint_ratio: λ; 1 learns no triples.
        margin: Of the loss on triples.
        align_weight: α.
        orthogonality: Weight of the orthogonality losses.
        item_norm: The longest that î may be; ``inf`` is the paper's. A sum of two vectors within the unit ball may
            have norm 2, where no user comes: without the bound KTUP recommends worse than TUP, whose items are
            within the ball. TUP needs no bound and has none.

    Raises:
        ValueError: If an argument is unknown or out of range, the store has no relations though ``use_kg`` is
            True, or ``num_preferences`` is not their number.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        *,
        induction: Induction = "hard",
        norm: Norm = "l2",
        temperature: float = 1.0,
        use_kg: bool = True,
        num_preferences: int | None = None,
        features: Features = "both",
        loss: Loss = "softmax",
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        score_scale: float = 2.0,
        joint: Joint = "sum",
        joint_ratio: float = 0.5,
        margin: float = 1.0,
        align_weight: float = 1.0,
        orthogonality: float = 1.0,
        item_norm: float = 1.0,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "data", "__class__")}
        _check_arguments(
            induction, norm, joint, joint_ratio,
            temperature=temperature, score_scale=score_scale, item_norm=item_norm,
        )  # fmt: skip
        check_distribution(negatives)
        super().__init__(data, settings, hidden_channels, features, use_kg)
        self.num_preferences = _check_preferences(num_preferences, self.signature.relation_name, use_kg)
        self.induction: Induction = induction
        self.norm: Norm = norm
        self.temperature = temperature
        self.loss: Loss = loss
        few = 16 if loss == "softmax" and num_negatives is None else num_negatives
        self.num_negatives = check_loss(loss, few)
        self.negatives: Distribution = negatives
        self.score_scale = score_scale
        self.joint, self.joint_ratio = joint, joint_ratio
        self.item_norm = item_norm
        self.margin, self.align_weight, self.orthogonality = margin, align_weight, orthogonality
        if self.use_kg and joint == "alternate" and joint_ratio < 1:
            self.knowledge_interval, self.knowledge_lr = 1, (1 - joint_ratio) / joint_ratio
        size = self.num_preferences, hidden_channels
        self.preference, self.preference_normal = Parameter(torch.empty(size)), Parameter(torch.empty(size))
        if self.use_kg:
            self.relation, self.relation_normal = Parameter(torch.empty(size)), Parameter(torch.empty(size))
        self._longest: Tensor | None = None
        self.reset_parameters()

    def _translations(self) -> tuple[str, ...]:
        own = ("preference", "preference_normal")
        return (*own, "relation", "relation_normal") if self.use_kg else own

    def reset_parameters(self) -> None:
        """Draws all parameters anew: translations and normals of norm 1, users, items and entities of norm 0.1.

        The paper starts all on the unit sphere. Under the softmax, vectors that start long overfit before they
        learn; preferences must be long for the induction to be felt at all.
        """
        for encoder in self.encoders.values():
            encoder.reset_parameters()  # type: ignore[operator]
            for table in encoder.parameters():
                unit_norm_(table)
                table.data.mul_(_START)
        for name in self._translations():
            unit_norm_(self.get_parameter(name))

    def start_from(self, transh: TransH) -> None:
        """Takes entities and relations from a trained TransH, as the paper does before joint training.

        Args:
            transh: Trained on a store with the same entities and relations in the same order
                (:func:`pyg_kgrec.pretrain_transh`).

        Raises:
            ValueError: If sizes or the norm differ, or entities have no table of their own here.
        """
        if not self.use_kg:
            raise ValueError("this model has no relations (use_kg=False), expected one to start from TransH")
        entity = self.encoders[ENTITY].weight
        if entity is None:
            raise ValueError(
                "entities have no table of their own (features='x'), expected one to start from TransH"
            )
        found = {
            "entities": (transh.num_nodes, self.signature.num_nodes[ENTITY]),
            "relations": (transh.num_relations, self.num_preferences),
            "channels": (transh.hidden_channels, self.hidden_channels),
            "norm": (transh.norm, self.norm),
        }
        for what, (given, expected) in found.items():
            if given != expected:
                raise ValueError(f"the TransH has {what} {given}, expected {expected} as this model has")
        pairs = (
            (entity, transh.node_emb),
            (self.relation, transh.rel_emb),
            (self.relation_normal, transh.normal_emb),
        )
        with torch.no_grad():
            for mine, theirs in pairs:
                mine.copy_(theirs.weight)  # type: ignore[operator, union-attr]
        self.constrain()

    # ------------------------------------------------------------------ norms

    def _tables(self) -> dict[str, Tensor]:
        """Every table, by a name to be read."""
        tables: dict[str, Tensor] = {}
        for node_type, encoder in self.encoders.items():
            for name, table in encoder.named_parameters():
                tables[node_type if name == "weight" else f"{node_type} features"] = table.data
        return tables | {name: self.get_parameter(name).data for name in self._translations()}

    def constrain(self) -> None:
        """Brings every row of every table back to norm 1 or less.

        Raises:
            ValueError: If a table holds NaN or infinity. Found at once on a CPU; on a GPU, where asking would
                make it wait at every step, at the end of the epoch.
        """
        tables = self._tables()
        self._longest = clip_norm_(list(tables.values()))
        if self._longest.device.type == "cpu":
            self._check_finite()

    def _check_finite(self) -> None:
        if self._longest is not None and not bool(self._longest.isfinite().all()):
            broken = int((~self._longest.isfinite()).nonzero()[0])
            raise ValueError(
                f"the table {list(self._tables())[broken]!r} holds NaN or infinity after a step of training, "
                "expected finite vectors: try a lower learning rate"
            )

    def epoch_metrics(self, data: HeteroData) -> dict[str, float]:
        """No metrics, but a look at the tables."""
        if self._longest is not None and self._longest.device.type != "cpu":
            self._longest = clip_norm_(list(self._tables().values()))
            self._check_finite()
        return {}

    # ------------------------------------------------------------------ vectors

    def preferences(self) -> tuple[Tensor, Tensor]:
        """Translations T and normals N, ``[num_preferences, hidden_channels]`` each."""
        if not self.use_kg:
            return self.preference, self.preference_normal
        return (self.preference + self.relation) / 2, (self.preference_normal + self.relation_normal) / 2

    def _align(
        self,
        data: HeteroData,
        graph: LinkedGraph,
        item: Tensor | None = None,
        further: Tensor | None = None,
    ) -> _Aligned:
        """Some items (all if None) with their entities, and the vectors of further entities."""
        vector = self._embed(data, graph, ITEM, item)
        node = torch.arange(vector.size(0), device=vector.device) if item is None else item
        row, entity = graph.entities_of.select(node)
        if not self.use_kg:
            return _Aligned(vector, vector, row, vector[:0], vector[:0])
        share = torch.bincount(row, minlength=node.numel())[row].to(vector.dtype).reciprocal()
        # One look-up for all: each costs a gradient of the size of the table.
        wanted = entity if further is None else torch.cat([entity, further])
        vectors = self._embed(data, graph, ENTITY, wanted)
        mine, rest = vectors[: entity.numel()], vectors[entity.numel() :]
        aligned = vector.index_add(0, row, mine * share.unsqueeze(1)).renorm(2, 0, self.item_norm)
        return _Aligned(aligned, vector, row, mine, rest)

    def encode(self, data: HeteroData) -> EncodedTranslation:
        """Users, aligned items, and the tables of preferences."""
        graph = self.graph(data)
        return EncodedTranslation(
            self._embed(data, graph, USER), self._align(data, graph).aligned, *self.preferences()
        )

    def score_encoded(self, encoded: EncodedTranslation, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs by the definition, ``[B]``."""
        u, i = encoded.user[user], encoded.item[item]
        pi = (u + i) @ encoded.translation.t()
        return self._score_under(u, i, pi if self.induction == "soft" else ops.choose_relation(pi), encoded)

    def score_all_encoded(self, encoded: EncodedTranslation, user: Tensor) -> Tensor:
        """Scores of the catalogue in closed form, ``[B, num_items]`` (:func:`pyg_kgrec.ops.hyperplane_scores`)."""
        return ops.hyperplane_scores(
            encoded.user[user], encoded.item, encoded.translation, encoded.normal, self.induction, self.norm
        )

    def rank(
        self, data: HeteroData, encoded: Any, user: Tensor, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Top ``k`` unseen items of users, at most 16 MiB of scores (and at least a user's) at a time."""
        most = max(1, _BLOCK // max(encoded.item.size(0), 1))
        return super().rank(data, encoded, user, k, min(batch_size, most))

    def item_vectors(self, encoded: EncodedTranslation) -> Tensor:
        """The aligned items."""
        return encoded.item

    # ------------------------------------------------------------------ training

    def training_losses(
        self, data: HeteroData, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The recommendation task and, with ``joint='sum'``, as many random triples as there are pairs.

        Args:
            data: The training store.
            user: Users, ``[B]``.
            item: Their positive items, ``[B]``.
            generator: Source of all randomness of the step.
        """
        sampler = NegativeSampler.from_store(data, self.negatives)
        items = torch.cat([item.unsqueeze(1), sampler.sample(user, self.num_negatives, generator)], dim=1)
        needed, place = None, items
        if items.numel() < data[ITEM].num_nodes:  # else encoding the whole catalogue is less work
            needed, place = items.unique(return_inverse=True)
        graph, ratio = self.graph(data), self.joint_ratio if self.joint == "sum" else 1.0
        ends, relation = self._false_and_true(data, len(user) if ratio < 1 else 0, generator)
        parts = self._align(data, graph, needed, ends.flatten())

        users, row = user.unique(return_inverse=True)
        noise = None
        if self.induction == "hard":
            noise = ops.gumbel_noise(parts.aligned.new_empty(*place.shape, self.num_preferences), generator)
        scores = ops.hyperplane_scores(
            self._embed(data, graph, USER, users), parts.aligned, *self.preferences(),
            self.induction, self.norm, place, row, noise, self.temperature,
        )  # fmt: skip
        losses = {
            "ranking": ranking_loss(self.loss, self.score_scale * scores),
            "orthogonality": self.orthogonality * orthogonality_loss(self.preference, self.preference_normal),
        }
        if self.use_kg:
            losses["alignment"] = self.align_weight * self._alignment(parts, place[:, 0])
        losses = {name: ratio * loss for name, loss in losses.items()}
        if relation.numel():
            knowledge = self._knowledge(parts.further.view(*ends.shape, -1), relation)
            losses |= {name: (1 - ratio) * loss for name, loss in knowledge.items()}
        return losses

    def _alignment(self, parts: _Aligned, item: Tensor) -> Tensor:
        """Mean distance of an item and an entity over the links of a batch of items; 0 without any."""
        count = torch.bincount(item, minlength=parts.item.size(0))[parts.row].to(parts.item.dtype)
        between = parts.item.index_select(0, parts.row) - parts.entity
        distance = (between.abs() if self.norm == "l1" else between.pow(2)).sum(-1)
        return (count * distance).sum() / count.sum().clamp(min=1)

    def _false_and_true(
        self, data: HeteroData, count: int, generator: torch.Generator, triple: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ends ``[2, 2, B]`` (heads and tails, of true and of corrupted triples) and relations ``[B]``.

        Of the triples at some positions, or of ``count`` random ones.
        """
        graph = self.graph(data)
        total, device = graph.triple.size(1), graph.triple.device
        if triple is None:
            count = count if self.use_kg and total else 0
            triple = torch.randint(max(total, 1), (count,), device=device, generator=generator)
        if triple.numel() == 0:
            return torch.empty(2, 2, 0, dtype=torch.long, device=device), triple
        num_entities = data[ENTITY].num_nodes
        sampler = cached(
            data, "triples", [graph.triple], lambda: TripleSampler(graph.triple, num_entities), self.signature
        )
        head, relation, tail = graph.triple[:, triple]
        false_head, false_tail = sampler.sample(head, relation, tail, generator)
        return torch.stack([torch.stack([head, false_head]), torch.stack([tail, false_tail])]), relation

    def _knowledge(self, ends: Tensor, relation: Tensor) -> dict[str, Tensor]:
        """Losses of triples whose heads and tails, true and false, are ``[2, 2, B, hidden_channels]``."""
        r, w = (table.index_select(0, relation) for table in (self.relation, self.relation_normal))
        true, false = ops.translate(ends[0], r, w, ends[1], self.norm)
        return {
            "knowledge": margin_ranking_loss(true, false, torch.ones_like(true), self.margin),
            "knowledge_orthogonality": self.orthogonality
            * orthogonality_loss(self.relation, self.relation_normal),
        }

    def knowledge_losses(
        self, data: HeteroData, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The knowledge task: margin ranking of some triples against corrupted ones, and orthogonality.

        Args:
            data: The training store.
            triple: Positions of triples, ``[B]`` int64.
            generator: Source of all randomness of the step.
        """
        self._check_knows("triples can be learned")
        ends, relation = self._false_and_true(data, 0, generator, triple)
        vectors = self._embed(data, self.graph(data), ENTITY, ends.flatten())
        return self._knowledge(vectors.view(*ends.shape, -1), relation)

    # ------------------------------------------------------------------ triples

    def triple_scores(self, data: HeteroData, triple: Tensor | None = None) -> Tensor:
        """Scores of some triples of the store (all if None), ``[B]``; 0 is a perfect translation."""
        self.signature.check(data)
        self._check_knows("triples can be scored")
        everything = self.graph(data).triple
        chosen = everything if triple is None else everything[:, triple]
        with self.predicting():
            entity = self._embed(data, self.graph(data), ENTITY)
            blocks = [
                ops.translate(
                    entity[head],
                    self.relation[relation],
                    self.relation_normal[relation],
                    entity[tail],
                    self.norm,
                )
                for head, relation, tail in chosen.split(2**15, dim=1)
            ]
        return torch.cat(blocks) if blocks else torch.empty(0, device=self.device)

    def triple_scorer(self, data: HeteroData) -> HyperplaneScorer:
        """Scores of all heads and all tails, for :func:`pyg_kgrec.evaluate_completion`."""
        self.signature.check(data)
        self._check_knows("triples can be completed")
        number = self.signature.relations(data)
        tables = [self.relation.detach(), self.relation_normal.detach()]
        if number is not None:
            tables = [table[number.to(table.device)] for table in tables]
        with self.predicting():
            entity = self._embed(data, self.graph(data), ENTITY)
        return HyperplaneScorer(entity, tables[0], tables[1], self.norm)

    def _check_knows(self, what: str) -> None:
        if not self.use_kg:
            raise ValueError(f"this model has no knowledge task (use_kg=False), expected one before {what}")

    # ------------------------------------------------------------------ explanation

    def _explain(self, data: HeteroData, user: int, item: int) -> Explanation:
        from pyg_kgrec.explain import explain_by_preference

        encoded, graph = self.encode(data), self.graph(data)
        u, i = encoded.user[user : user + 1], encoded.item[item : item + 1]
        pi = (u + i) @ encoded.translation.t()
        weight = pi if self.induction == "soft" else ops.choose_relation(pi)
        score = self._score_under(u, i, weight, encoded)
        out = torch.eye(self.num_preferences, dtype=torch.bool, device=u.device)
        if self.induction == "soft":
            without = pi.masked_fill(out, 0)
        else:
            without = ops.choose_relation(pi.masked_fill(out, -torch.inf))
        contribution = score - self._score_under(u, i, without, encoded)
        pair, profile = ((x / self.temperature).flatten() for x in (pi, u @ encoded.translation.t()))
        num_triples = data[RELATES].num_edges if RELATES in data.edge_types else 0
        triple_weight = torch.zeros(num_triples, device=u.device)
        if self.use_kg:
            triple_weight = pair.softmax(0)[graph.triple[1]]
        names = self.signature.relation_name if self.use_kg else []
        return explain_by_preference(
            data,
            user,
            item,
            float(score),
            names or [f"preference {r}" for r in range(self.num_preferences)],
            pair,
            profile,
            contribution.flatten(),
            triple_weight,
        )

    def _score_under(self, user: Tensor, item: Tensor, weight: Tensor, encoded: EncodedTranslation) -> Tensor:
        """Scores of pairs ``[n, d]`` (or one) under weights of preferences ``[n, num_preferences]``: ``[n]``."""
        p, w = weight @ encoded.translation, weight @ encoded.normal
        return ops.translate(user, p, w, item, self.norm)

    def __repr__(self) -> str:
        sizes = self.signature.num_nodes
        return (
            f"{type(self).__name__}({sizes[USER]}, {sizes[ITEM]}, {sizes[ENTITY]}, "
            f"hidden_channels={self.hidden_channels}, num_preferences={self.num_preferences}, "
            f"induction={self.induction!r}, norm={self.norm!r}, use_kg={self.use_kg})"
        )


def _check_preferences(num_preferences: int | None, relations: list[str], use_kg: bool) -> int:
    if use_kg and not relations:
        raise ValueError(
            "the store has no relations, expected a knowledge graph for KTUP, or use_kg=False for TUP"
        )
    if num_preferences is None:
        return len(relations) or 20
    if num_preferences < 1:
        raise ValueError(f"num_preferences is {num_preferences}, expected at least 1")
    if use_kg and num_preferences != len(relations):
        raise ValueError(
            f"num_preferences is {num_preferences}, but the store has {len(relations)} relations: with use_kg=True "
            "expected one preference for each (or None)"
        )
    return num_preferences


def _check_arguments(induction: str, norm: str, joint: str, joint_ratio: float, **positive: float) -> None:
    check_norm(norm)
    for name, choice, known in (("induction", induction, Induction), ("joint", joint, Joint)):
        if choice not in get_args(known):
            raise ValueError(f"{name} is {choice!r}, expected {' or '.join(map(repr, get_args(known)))}")
    if not 0 <= joint_ratio <= 1 or (joint == "alternate" and joint_ratio == 0):
        raise ValueError(
            f"joint_ratio is {joint_ratio}, expected a share in [0, 1] (above 0 for 'alternate')"
        )
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected above 0")
