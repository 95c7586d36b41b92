"""Scores of every entity as the head or the tail of triples: closed forms, and any model by its ``forward``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import ComplEx, DistMult, KGEModel, RotatE, TransE

from pyg_kgrec import ops
from pyg_kgrec.kge.transh import TransH
from pyg_kgrec.nn.norms import check_norm

_GATHERED = 2**22
"""Numbers per tensor of a model that scores triple by triple."""


class TripleScorer(Protocol):
    """What completes triples: a score of every entity as their tail or as their head, the higher the better."""

    @property
    def num_entities(self) -> int:
        """Number of entities N."""

    @property
    def num_relations(self) -> int:
        """Number of relations."""

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        """Scores of every entity as the tail, ``[B, N]``, of heads and relations ``[B]`` int64."""

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores of every entity as the head, ``[B, N]``, of relations and tails ``[B]`` int64."""


@runtime_checkable
class CompletesTriples(Protocol):
    """A recommender that knows triples, as :class:`~pyg_kgrec.KTUP` does.

    One method makes a model of one's own ready for :func:`~pyg_kgrec.evaluate_completion`.
    """

    def triple_scorer(self, data: HeteroData) -> TripleScorer:
        """A scorer whose entities and relations are numbered as in the store ``data``.

        It is called in evaluation mode without gradients, and used before that ends.

        Raises:
            ValueError: If the store does not fit the model, or the model was built without a task on triples.
        """


def scorer_of(model: KGEModel | CompletesTriples, data: Any) -> TripleScorer:
    """The scorer of a recommender on a store, or of a model of PyG.

    Args:
        model: The model.
        data: The store that numbers entities and relations; a model of PyG has numbers of its own.
    """
    if isinstance(model, CompletesTriples):
        return model.triple_scorer(data)
    return _CLOSED.get(type(model).forward, _ByForward)(model)


class HyperplaneScorer:
    r"""Completes triples by translation on hyperplanes: scores of every entity as the tail or the head.

    The head side is the tail side read backwards: the distance of :math:`\mathbf{h}_\perp + \mathbf{r}` from
    :math:`\mathbf{t}_\perp` is that of :math:`\mathbf{t}_\perp - \mathbf{r}` from :math:`\mathbf{h}_\perp`.

    Args:
        entity: Embeddings of entities, ``[N, d]``.
        translation: Translations of relations, ``[R, d]``.
        normal: Normals of their hyperplanes, ``[R, d]``.
        norm: ``'l1'`` or ``'l2'`` (squared).
    """

    def __init__(self, entity: Tensor, translation: Tensor, normal: Tensor, norm: str = "l2") -> None:
        check_norm(norm)
        self.entity, self.translation, self.normal, self.norm = entity, translation, normal, norm

    @property
    def num_entities(self) -> int:
        """Number of entities N."""
        return self.entity.size(0)

    @property
    def num_relations(self) -> int:
        """Number of relations."""
        return self.translation.size(0)

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        """Scores of every entity as the tail, ``[B, N]``, of heads and relations ``[B]`` int64."""
        return self._scores(self.entity[head], self.translation, relation)

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores of every entity as the head, ``[B, N]``, of relations and tails ``[B]`` int64."""
        return self._scores(self.entity[tail], -self.translation, relation)

    def _scores(self, source: Tensor, translation: Tensor, relation: Tensor) -> Tensor:
        def scores(rows: Tensor, relations: Tensor) -> Tensor:
            return ops.hyperplane_scores(rows, self.entity, translation, self.normal, relations, self.norm)

        return _of_two_rows(scores, source, relation)


# ---------------------------------------------------------------------- closed forms


class _Rotation:
    """A head turned by a relation, h ∘ r, beside the tail: their product (DistMult, ComplEx) or distance (RotatE).

    The head side is the same with the tail turned back, t ∘ r̄; real vectors are their own conjugates.
    """

    def __init__(self, entity: Tensor, relation: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._entity, self._relation, self._compare = entity, relation, compare
        self._table = _real(entity)
        self.num_entities, self.num_relations = entity.size(0), relation.size(0)

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        return self._scores(self._entity[head] * self._relation[relation])

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        return self._scores(self._entity[tail] * self._relation[relation].conj())

    def _scores(self, query: Tensor) -> Tensor:
        return _of_two_rows(lambda rows: self._compare(rows, self._table), _real(query))


class _Translation:
    """A head moved by a relation, h + r, beside the tail (TransE)."""

    def __init__(self, entity: Tensor, relation: Tensor, p: float) -> None:
        self._entity, self._relation, self._p = entity, relation, p
        self.num_entities, self.num_relations = entity.size(0), relation.size(0)

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        return self._scores(self._entity[head] + self._relation[relation])

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        return self._scores(self._entity[tail] - self._relation[relation])

    def _scores(self, query: Tensor) -> Tensor:
        return _of_two_rows(lambda rows: -torch.cdist(rows, self._entity, self._p), query)


class _ByForward:
    """Any model of PyG: triple by triple through its ``forward``, in blocks."""

    def __init__(self, model: KGEModel) -> None:
        self._model = model
        self._block = max(1, _GATHERED // max(model.hidden_channels, 1))
        self.num_entities: int = model.num_nodes
        self.num_relations: int = model.num_relations

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        return self._all(relation, lambda row, entity: (head[row], relation[row], entity))

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        return self._all(relation, lambda row, entity: (entity, relation[row], tail[row]))

    def _all(self, relation: Tensor, triple: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> Tensor:
        n = self.num_entities
        pair = torch.arange(relation.numel() * n, device=relation.device)
        scores = [self._model(*triple(block // n, block % n)) for block in pair.split(self._block)]
        return torch.cat(scores).view(relation.numel(), n)


def _of_two_rows(scores: Callable[..., Tensor], *query: Tensor) -> Tensor:
    """Scores of queries, of which the product with a table never sees one alone.

    A product of one row sums up the table's last rows in another order than the others, and equal rows then differ
    in their last bit: what is level would be ranked.
    """
    if query[0].size(0) != 1:
        return scores(*query)
    return scores(*(torch.cat([one, one]) for one in query))[:1]


def _real(vector: Tensor) -> Tensor:
    return torch.view_as_real(vector.resolve_conj()).flatten(1) if vector.is_complex() else vector


def _product(query: Tensor, table: Tensor) -> Tensor:
    return query @ table.t()


def _distmult(model: DistMult) -> TripleScorer:
    return _Rotation(model.node_emb.weight, model.rel_emb.weight, _product)


def _complex(model: ComplEx) -> TripleScorer:
    entity = torch.complex(model.node_emb.weight, model.node_emb_im.weight)
    return _Rotation(entity, torch.complex(model.rel_emb.weight, model.rel_emb_im.weight), _product)


def _rotate(model: RotatE) -> TripleScorer:
    entity = torch.complex(model.node_emb.weight, model.node_emb_im.weight)
    angle, margin = model.rel_emb.weight, model.margin
    turn = torch.polar(torch.ones_like(angle), angle)
    return _Rotation(entity, turn, lambda query, table: margin - torch.cdist(query, table))


def _transe(model: TransE) -> TripleScorer:
    entity = normalize(model.node_emb.weight, p=model.p_norm, dim=-1)
    return _Translation(entity, model.rel_emb.weight, float(model.p_norm))


def _transh(model: TransH) -> TripleScorer:
    tables = model.node_emb.weight, model.rel_emb.weight, model.normal_emb.weight
    return HyperplaneScorer(*tables, model.norm)


# By the function that scores and not by class: a subclass may have a forward of its own.
_CLOSED: dict[Any, Callable[[Any], TripleScorer]] = {
    DistMult.forward: _distmult,
    ComplEx.forward: _complex,
    RotatE.forward: _rotate,
    TransE.forward: _transe,
    TransH.forward: _transh,
}
