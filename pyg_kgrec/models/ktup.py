"""KTUP: a user's preference and a relation of the knowledge graph as one translation, learned from both sides."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import margin_ranking_loss
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec._checks import (
    check_at_least,
    check_choices,
    check_factor,
    check_finite,
    check_positive,
    check_weight,
)
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ENTITY, ITEM, USER
from pyg_kgrec.explain import PreferenceExplanation
from pyg_kgrec.explain.units import PREFERENCE, Removals, Units
from pyg_kgrec.kge import HyperplaneScorer, TransH, TripleSampler
from pyg_kgrec.models.base import Batch, Store, predicting
from pyg_kgrec.models.encoding import Encoding, Translations
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linked import LinkedRecommender
from pyg_kgrec.models.objective import Objective, distinct_items
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss
from pyg_kgrec.nn.norms import Norm, clip_norm_, orthogonality_loss, unit_norm_
from pyg_kgrec.ops import Induction

Joint = Literal["sum", "alternate"]
Transfer = Literal["both", "preferences"]

_SCORES = 2**22  # held at a time where something is left out: 16 MiB
_START = 0.1  # norm of users and items at the start, and of entities that items are aligned to


class _Aligned(NamedTuple):
    """Items with and without their entities, the entity of each link and its item's row, further entities."""

    aligned: Tensor
    item: Tensor
    row: Tensor
    entity: Tensor
    further: Tensor


class KTUP(LinkedRecommender):
    r"""Knowledge-enhanced translation-based user preference, and TUP, the same without the knowledge graph.

    A user likes an item under a preference, which is a translation on a hyperplane, as a relation of the knowledge
    graph is in TransH (:class:`~pyg_kgrec.nn.TransH`); each preference goes with one relation. With
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
        hidden_channels: Size d of all embeddings.
        induction: ``'hard'``, one preference per pair, or ``'soft'``, all of them by their weights.
        norm: Distance on both sides: ``'l2'`` (squared) or ``'l1'``.
        temperature: Of the Gumbel-softmax, in training with ``'hard'``.
        use_kg: False is TUP.
        num_preferences: Of TUP; by default as many as the store has relations, 20 without any. KTUP has one for
            each relation.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        loss: ``'softmax'`` or ``'bpr'`` (the paper's).
        num_negatives: Number of negatives per positive; by default 16 for ``'softmax'`` and 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        score_scale: What scores are multiplied with in the ranking loss. With norms of 1 or less distances are
            bounded, and this decides how sure of itself the model can be.
        joint: ``'sum'``: every step adds as many random triples as it has pairs; ``'alternate'``: after each batch
            of pairs comes one of triples, by an optimiser of its own with (1 − λ) / λ times the learning rate.
        joint_ratio: λ; 1 learns no triples.
        margin: Of the loss on triples.
        align_weight: α.
        orthogonality: Weight of the orthogonality losses.
        transfer: What the triples teach recommendation. ``'both'``, the paper's: entities are a part of their items
            and drawn towards them, and entities and relations learn from both tasks. ``'preferences'``: relations
            and their normals are a part of the preferences, and what recommendation makes of them does not change
            them, nor are entities drawn to items (no alignment loss): the triples are learned as TransH alone
            would learn them, while recommendation goes on.
        entity_weight: What an item's mean entity is multiplied with in î; by default 1 for ``'both'`` and
            0.1 for ``'preferences'``, whose entities have norms of up to 1 from the start where users and
            items begin at 0.1. With 0 items know nothing of their entities, and a new item is not known by them.
        knowledge_epochs: Epochs in which the triples are learned alone before training, by Adam at a rate of 0.003
            (:func:`pyg_kgrec.fit` does it, once). They come in the same order whatever the seed of ``fit``.
        triple_lr: Learning rate of entities and relations, as a multiple of ``fit``'s.
        item_norm: The longest that î may be; ``inf`` is the paper's. A sum of two embeddings within the unit ball
            may have norm 2, where no user comes: without the bound KTUP recommends worse than TUP, whose items are
            within the ball. TUP needs no bound and has none.

    Raises:
        TypeError: If a number is none.
        ValueError: If an argument is unknown or out of range, the store has no relations though ``use_kg`` is
            True, or ``num_preferences`` is not their number.
    """

    search_space: ClassVar[dict[str, Any]] = {
        "lr": (3e-4, 1e-2),
        "joint_ratio": (0.3, 0.9),
        "margin": (0.5, 2.0),
    }
    shown = ("hidden_channels", "num_preferences", "induction", "norm", "use_kg")

    learned_triples: Tensor
    """With ``knowledge_epochs``: whether the triples were learned, or taken from a TransH, before training."""

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
        transfer: Transfer = "both",
        entity_weight: float | None = None,
        knowledge_epochs: int = 0,
        triple_lr: float = 1.0,
    ) -> None:
        check_choices(
            induction=(induction, get_args(Induction)),
            norm=(norm, get_args(Norm)),
            joint=(joint, get_args(Joint)),
            transfer=(transfer, get_args(Transfer)),
        )
        check_finite(joint_ratio=joint_ratio)
        if not 0 <= joint_ratio <= 1 or (joint == "alternate" and joint_ratio == 0):
            raise ValueError(
                f"joint_ratio is {joint_ratio}, expected a share in [0, 1] (above 0 for 'alternate')"
            )
        check_factor(temperature=temperature, score_scale=score_scale, triple_lr=triple_lr)
        check_positive(item_norm=item_norm)  # without a bound it is infinite
        check_weight(margin=margin, align_weight=align_weight, orthogonality=orthogonality)
        check_at_least(0, knowledge_epochs=knowledge_epochs)
        if entity_weight is not None:
            check_weight(entity_weight=entity_weight)
        super().__init__(data, hidden_channels, features, use_kg)
        self.objective = Objective(loss, num_negatives, negatives, {"softmax": 16, "bpr": 1})
        self.num_preferences = _check_preferences(num_preferences, self.signature.relation_name, use_kg)
        self.induction, self.norm, self.temperature = induction, norm, temperature
        self.score_scale, self.item_norm = score_scale, item_norm
        self.joint, self.joint_ratio = joint, joint_ratio
        self.margin, self.align_weight, self.orthogonality = margin, align_weight, orthogonality
        self.transfer, self.knowledge_epochs, self.triple_lr = transfer, knowledge_epochs, triple_lr
        self.entity_weight = _ENTITY_WEIGHT[transfer] if entity_weight is None else float(entity_weight)
        self.hears_links = self.use_kg and self.entity_weight > 0
        if self.use_kg and joint == "alternate" and joint_ratio < 1:
            self.knowledge_interval, self.knowledge_lr = 1, (1 - joint_ratio) / joint_ratio
        size = self.num_preferences, hidden_channels
        self.preference, self.preference_normal = Parameter(torch.empty(size)), Parameter(torch.empty(size))
        if self.use_kg:
            self.relation, self.relation_normal = Parameter(torch.empty(size)), Parameter(torch.empty(size))
            if knowledge_epochs:
                self.register_buffer("learned_triples", torch.tensor(False))
        self._longest: Tensor | None = None
        self.reset_parameters()

    def _translations(self) -> tuple[str, ...]:
        own = ("preference", "preference_normal")
        return (*own, "relation", "relation_normal") if self.use_kg else own

    def reset_parameters(self) -> None:
        """Draws all parameters anew: translations and normals of norm 1, users, items and entities of norm 0.1.

        The paper starts all on the unit sphere. Under the softmax, embeddings that start long overfit before they
        learn; preferences must be long for the induction to be felt at all. With ``transfer='preferences'``
        entities start at norm 1, as in TransH.
        """
        for node_type, encoder in self.encoders.items():
            encoder.reset_parameters()  # type: ignore[operator]
            for table in encoder.parameters():
                unit_norm_(table)
                if node_type != ENTITY or self.transfer == "both":
                    table.data.mul_(_START)
        for name in self._translations():
            unit_norm_(self.get_parameter(name))
        self._set_learned_triples(False)

    def _set_learned_triples(self, learned: bool) -> None:
        if self.use_kg and self.knowledge_epochs:
            self.learned_triples.fill_(learned)

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
        self._set_learned_triples(True)

    def pretrain(self, inputs: Inputs, *, progress: bool = True) -> None:
        """Learns the triples alone for ``knowledge_epochs``, unless it has or started from a TransH."""
        count = inputs.triple.size(1)
        if not self.use_kg or not self.knowledge_epochs or not count or bool(self.learned_triples):
            return
        if progress:
            print(f"Learning {count:,} triples alone for {self.knowledge_epochs} epochs (knowledge_epochs).")
        from pyg_kgrec.models.knowledge_stage import learn_triples  # Lightning with it: where a model trains

        learn_triples(self, inputs, progress)
        self._set_learned_triples(True)

    def triple_parameters(self) -> list[Parameter]:
        """What the triples' task learns: entities (and their features' projection), relations and normals."""
        return (
            [*self.encoders[ENTITY].parameters(), self.relation, self.relation_normal] if self.use_kg else []
        )

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Entities and relations at ``triple_lr`` times the learning rate, all else at the learning rate."""
        if not self.use_kg or self.triple_lr == 1:
            return super().parameter_groups(lr)
        own = [p for p in self.triple_parameters() if p.requires_grad]
        ids = {id(p) for p in own}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in ids]
        return [{"params": rest, "lr": lr}, {"params": own, "lr": lr * self.triple_lr}]

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
                "expected finite embeddings: try a lower learning rate"
            )

    def epoch_metrics(self, inputs: Inputs) -> dict[str, float]:
        """No metrics, but a look at the tables."""
        if self._longest is not None and self._longest.device.type != "cpu":
            self._longest = clip_norm_(list(self._tables().values()))
            self._check_finite()
        return {}

    # ------------------------------------------------------------------ embeddings

    def preferences(self) -> tuple[Tensor, Tensor]:
        """Translations T and normals N, ``[num_preferences, hidden_channels]`` each."""
        if not self.use_kg:
            return self.preference, self.preference_normal
        relation: Tensor = self.relation
        normal: Tensor = self.relation_normal
        if self.transfer == "preferences":
            relation, normal = relation.detach(), normal.detach()
        return (self.preference + relation) / 2, (self.preference_normal + normal) / 2

    def _align(self, inputs: Inputs, item: Tensor | None = None, further: Tensor | None = None) -> _Aligned:
        """Some items (all if None) with their entities, and further entities."""
        embedding = self.embed(inputs, ITEM, item)
        node = torch.arange(embedding.size(0), device=embedding.device) if item is None else item
        row, entity = inputs.graph.entities_of.select(node)
        if not self.use_kg:
            return _Aligned(embedding, embedding, row, embedding[:0], embedding[:0])
        if self.entity_weight == 0 and self.transfer == "preferences":  # then nobody asks for them
            row, entity = row[:0], entity[:0]
        share = torch.bincount(row, minlength=node.numel())[row].to(embedding.dtype).reciprocal()
        share = self.entity_weight * share
        # One look-up for all: each costs a gradient of the size of the table.
        wanted = entity if further is None else torch.cat([entity, further])
        mine, rest = self.embed(inputs, ENTITY, wanted).tensor_split([entity.numel()])
        if self.transfer == "preferences":
            mine = mine.detach()
        aligned = embedding.index_add(0, row, mine * share.unsqueeze(1)).renorm(2, 0, self.item_norm)
        return _Aligned(aligned, embedding, row, mine, rest)

    def encode(self, inputs: Inputs) -> Translations:
        """Users, aligned items, and the tables of preferences."""
        user, item = self.embed(inputs, USER), self._align(inputs).aligned
        return Translations(user, item, *self.preferences(), self.induction, self.norm)

    def with_rows(self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor) -> Translations:
        """An encoding of some users with other rows; see the base class."""
        assert isinstance(encoding, Translations)
        return encoding.of_users(self.embed(inputs, USER, user) + row)

    def admissible_rows(self, row: Tensor) -> Tensor:
        """Rows brought back to norm 1 or less, as :meth:`constrain` does."""
        return row / row.norm(dim=1, keepdim=True).clamp(min=1)

    # ------------------------------------------------------------------ training

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The recommendation task and, with ``joint='sum'``, as many random triples as there are pairs.

        Args:
            inputs: The training store.
            batch: Users and their positive items, ``[B]`` each.
            generator: Source of all randomness of the step.
        """
        user, item = batch
        candidate = self.objective.candidates(inputs, user, item, generator)
        needed, index = distinct_items(candidate, inputs.num_items)
        ratio = self.joint_ratio if self.joint == "sum" else 1.0
        ends, relation = self._false_and_true(inputs, len(user) if ratio < 1 else 0, generator)
        parts = self._align(inputs, needed, ends.flatten())

        users, row = user.unique(return_inverse=True)
        noise = None
        if self.induction == "hard":
            noise = ops.gumbel_noise(parts.aligned.new_empty(*index.shape, self.num_preferences), generator)
        scores = ops.hyperplane_scores(
            self.embed(inputs, USER, users), parts.aligned, *self.preferences(),
            self.induction, self.norm, index, row, noise, self.temperature,
        )  # fmt: skip
        losses = {
            "ranking": self.objective(self.score_scale * scores),
            "orthogonality": self.orthogonality * orthogonality_loss(self.preference, self.preference_normal),
        }
        if self.use_kg and self.transfer == "both":
            losses["alignment"] = self.align_weight * self._alignment(parts, index[:, 0])
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
        self, inputs: Inputs, count: int, generator: torch.Generator, triple: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ends ``[2, 2, B]`` (heads and tails, of true and of corrupted triples) and relations ``[B]``.

        Of the triples at some positions, or of ``count`` random ones.
        """
        total, device = inputs.triple.size(1), inputs.device
        if triple is None:
            count = count if self.use_kg and total else 0
            triple = torch.randint(max(total, 1), (count,), device=device, generator=generator)
        if triple.numel() == 0:
            return torch.empty(2, 2, 0, dtype=torch.long, device=device), triple
        sampler = inputs.part("false triples", lambda: _false_triples(inputs))
        head, relation, tail = inputs.triple[:, triple]
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
        self, inputs: Inputs, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The knowledge task: margin ranking of some triples against corrupted ones, and orthogonality.

        Args:
            inputs: The training store.
            triple: Positions of triples, ``[B]`` int64.
            generator: Source of all randomness of the step.
        """
        self.check_knows("triples can be learned")
        ends, relation = self._false_and_true(inputs, 0, generator, triple)
        return self._knowledge(self.embed(inputs, ENTITY, ends.flatten()).view(*ends.shape, -1), relation)

    # ------------------------------------------------------------------ triples

    def score_triples(self, inputs: Inputs, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores of triples, ``[B]``; 0 is a perfect translation."""
        h, t = self.embed(inputs, ENTITY, head), self.embed(inputs, ENTITY, tail)
        return ops.translate(h, self.relation[relation], self.relation_normal[relation], t, self.norm)

    def triple_scorer(self, data: Store) -> HyperplaneScorer:
        """Scores of all heads and all tails, for :func:`pyg_kgrec.evaluate_completion`."""
        inputs = self.inputs(data)
        self.check_knows("triples can be completed")
        number = self.signature.relations(inputs.data)
        tables = [self.relation.detach(), self.relation_normal.detach()]
        if number is not None:
            tables = [table[number.to(table.device)] for table in tables]
        with predicting():
            return HyperplaneScorer(self.embed(inputs, ENTITY), tables[0], tables[1], self.norm)

    # ------------------------------------------------------------------ explanation

    def unit_labels(self) -> list[tuple[str, str]]:
        """Names of the preferences, and of the relations that they are."""
        if self.use_kg:
            return [(name, name) for name in self.signature.relation_name]
        return [(f"preference {r}", "") for r in range(self.num_preferences)]

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """All preferences of each pair, weighted by their probability.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        encoded = self._encoded(inputs)
        pi = encoded.weights(encoded.user[user], encoded.item[item])
        pair = torch.arange(user.numel(), device=user.device).repeat_interleave(self.num_preferences)
        node = torch.arange(self.num_preferences, device=user.device).repeat(user.numel())
        return Units.of(PREFERENCE, pair, node, (pi / self.temperature).softmax(1).flatten())

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
        """Scores without some preferences: of a model without these rows of its tables.

        Where one preference is chosen (``induction='hard'``) the best of the others is; where all are weighed, the
        weight of what is left out is 0. Without any preference the score is the plain distance.

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
        removal, node = removals.of_kind(units, PREFERENCE)
        gone = torch.zeros(len(removals), self.num_preferences, dtype=torch.bool, device=user.device)
        gone[removal, node] = True
        if not every:
            u, i = encoded.user[user[pair]], encoded.item[item[pair]]
            pi = encoded.weights(u, i)
            if self.induction == "soft":
                return encoded.score_under(u, i, pi.masked_fill(gone, 0))
            some = ~gone.all(1, keepdim=True)
            return encoded.score_under(u, i, some * ops.choose_relation(pi.masked_fill(gone, -torch.inf)))
        out = encoded.item.new_empty(len(removals), inputs.num_items)
        # One product of matrices for each set of preferences that is left: a few, where one is left out at a time.
        kinds, row = gone.unique(dim=0, return_inverse=True)
        for number, absent in enumerate(kinds):
            mine = (row == number).nonzero().flatten()
            tables = encoded.translation[~absent], encoded.normal[~absent]
            if bool(absent.all()):  # no translation along no normal
                tables = torch.zeros_like(encoded.translation[:1]), torch.zeros_like(encoded.normal[:1])
            for some in mine.split(max(1, _SCORES // max(inputs.num_items, 1))):
                out[some] = ops.hyperplane_scores(
                    encoded.user[user[pair[some]]], encoded.item, *tables, self.induction, self.norm
                )
        return out

    def _encoded(self, inputs: Inputs) -> Translations:
        encoded = self.own_encoding(inputs)
        assert isinstance(encoded, Translations)
        return encoded

    def _explain(self, inputs: Inputs, user: int, item: int) -> PreferenceExplanation:
        encoded = self._encoded(inputs)
        u, i = encoded.user[user : user + 1], encoded.item[item : item + 1]
        pi = encoded.weights(u, i)
        pair, profile = ((x / self.temperature).flatten() for x in (pi, u @ encoded.translation.t()))
        triple_weight = torch.zeros(inputs.triple.size(1), device=u.device)
        if self.use_kg:
            triple_weight = pair.softmax(0)[inputs.triple[1]]
        who, what = (torch.tensor([node], device=u.device) for node in (user, item))
        return PreferenceExplanation.from_preferences(
            inputs.data,
            user,
            item,
            float(encoded.score(who, what)),
            [name for name, _ in self.unit_labels()],
            pair,
            profile,
            pair[:0],
            triple_weight,
        )


_ENTITY_WEIGHT: dict[Transfer, float] = {"both": 1.0, "preferences": 0.1}


def _check_preferences(num_preferences: int | None, relations: list[str], use_kg: bool) -> int:
    if use_kg and not relations:
        raise ValueError(
            "the store has no relations, expected a knowledge graph for KTUP, or use_kg=False for TUP"
        )
    if num_preferences is None:
        return len(relations) or 20
    check_at_least(1, num_preferences=num_preferences)
    if use_kg and num_preferences != len(relations):
        raise ValueError(
            f"num_preferences is {num_preferences}, but the store has {len(relations)} relations: with use_kg=True "
            "expected one preference for each (or None)"
        )
    return num_preferences


def _false_triples(inputs: Inputs) -> TripleSampler:
    """What samples false triples, asked before the first step whether there is one for each."""
    sampler = TripleSampler(inputs.triple, inputs.num_entities)
    sampler.check(inputs.triple)
    return sampler
