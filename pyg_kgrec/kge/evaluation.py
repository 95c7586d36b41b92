"""Knowledge-graph completion: every entity ranked as the head and as the tail of triples to be found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import KGEModel

from pyg_kgrec._arrays import plain_numbers
from pyg_kgrec._checks import check_flag, check_optional
from pyg_kgrec._files import kind_of
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ENTITY, has_knowledge, num_relations, validate
from pyg_kgrec.data.triples import (
    PARTS,
    Triples,
    check_same_terms,
    entity_name,
    first_shared,
    triple_name,
    triple_tensors,
    triples,
)
from pyg_kgrec.kge.scorers import CompletesTriples, TripleScorer, scorer_of

Side = Literal["head", "tail"]

_BLOCK = {"cpu": 2**22, "other": 2**26}
"""Scores at a time; on a processor no more than stay in its cache, where they are compared twice as fast."""

_FEWEST = 32
"""Triples at a time: for fewer of them a matrix product reads all entities for too little work."""


@plain_numbers
def evaluate_completion(
    model: torch.nn.Module,
    test: Triples,
    k: int | Sequence[int] = (1, 3, 10),
    filtered: bool = True,
    *,
    known: Triples | None = None,
    sides: Side | Sequence[Side] = ("head", "tail"),
    batch_size: int | None = None,
) -> dict[str, float]:
    r"""Ranks all entities as the tail of (h, r, ?) and as the head of (?, r, t) for every triple to be found.

    Ranks count from 1. Where other entities score exactly as the right one, its rank is the mean of the best
    and the worst that their order allows. With ``filtered`` other entities that make a true triple are left
    out: true are the training triples (``edge_index``), ``seen_edge_index``, the triples to be found themselves,
    and ``known``. MRR is the mean of 1 / rank, Hits@k the share of ranks up to k. A triple that stands twice
    among those to be found counts twice.

    Scores that differ by less than their arithmetic can tell are ranked as it finds them. Distances are sums of
    matrix products, with an error of about 1e-6 of the squared norms in float32: where many entities lie closer
    together than that, ranks can depend on ``batch_size`` in single places (hardly with embeddings in float64). Of
    a model without a closed form, whether equal entities are level is what its ``forward`` says.

    The scores of one batch, ``batch_size`` × number of entities, are the largest tensor; two to five of that
    size stand at a time (a model without a closed form also needs some tensors of 2\ :sup:`22` numbers).

    Args:
        model: A model of :mod:`torch_geometric.nn.kge` (TransE, DistMult, ComplEx, RotatE and
            :class:`~pyg_kgrec.kge.TransH` in closed form, any other by its ``forward``), or a recommender that
            knows triples (:class:`~pyg_kgrec.kge.CompletesTriples`: it has ``triple_scorer``).
        test: A store of :class:`~pyg_kgrec.transforms.TripleSplit`, whose ``edge_label_index`` and
            ``edge_label_type`` are to be found. For a model of PyG also heads, relations and tails: a tensor
            ``[3, n]`` or a tuple of three tensors ``[n]``, int64.
        k: One or several numbers of entities for Hits@k.
        filtered: Leave other true triples out.
        known: Further true triples, given as ``test``; of a store all that it holds.
        sides: ``'head'``, ``'tail'`` or both.
        batch_size: Triples at a time; by default so many that a matrix of scores has 2\ :sup:`22` numbers
            (2\ :sup:`26` on a GPU), and at least 32.

    Returns:
        ``{'mrr': …, 'mean_rank': …, 'hits@1': …, …}`` over all ranks, and the same of each side:
        ``'head_mrr'``, …, ``'tail_mrr'``, ….

    Raises:
        TypeError: If the model knows no triples, or an argument has a wrong type or dtype.
        ValueError: If there is nothing to be found; if a triple of a store is to be found and known, or an
            entity or relation is to be found that training has no triple of; if the stores ``test`` and ``known``
            number entities or relations differently; if a number is out of range; or if scores are NaN or
            infinite.
    """
    _check_arguments(model, test, filtered, known, batch_size)
    asked = _check_sides(sides)
    with _predicting(model):
        scorer = scorer_of(cast(Any, model), test)
        size = scorer.num_entities
        ks = _check_k(k, size)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        stores = {"test": test} if known is None else {"test": test, "known": known}
        _check_fit(stores, size, scorer.num_relations)
        task = _task(test, known if filtered else None, size, device)
        block = _BLOCK.get(device.type, _BLOCK["other"])
        rows = batch_size or max(_FEWEST, block // size)
        ranks = {side: task.ranks(scorer, side, filtered, rows) for side in asked}
    out = _metrics(torch.cat(list(ranks.values())), ks, "")
    for side, rank in ranks.items():
        out |= _metrics(rank, ks, f"{side}_")
    return out


def check_completion(model: torch.nn.Module, name: str, test: HeteroData) -> None:
    """Raises what :func:`evaluate_completion` would of a model and the store ``name``; nothing is ranked."""
    _check_knows_triples(model)
    check_triples(name, test, to_find=True)
    scorer = scorer_of(cast(Any, model), test)
    _check_fit({name: test}, scorer.num_entities, scorer.num_relations)
    _check_split(name, test)


def _metrics(rank: Tensor, ks: list[int], prefix: str) -> dict[str, float]:
    out = {"mrr": rank.reciprocal().mean(), "mean_rank": rank.mean()}
    out |= {f"hits@{k}": (rank <= k).double().mean() for k in ks}
    return {prefix + name: float(value) for name, value in out.items()}


@contextmanager
def _predicting(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of before is restored."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


# ---------------------------------------------------------------------- ranks


class _Answers:
    """Which entities are known to complete a pair of a relation and an entity."""

    def __init__(self, relation: Tensor, given: Tensor, answer: Tensor, num_entities: int) -> None:
        self._num_entities = num_entities
        self._key, group = (relation * num_entities + given).unique(return_inverse=True)
        self._pairs = PairIndex.from_pairs(torch.stack([group, answer]), self._key.numel())

    def select(self, relation: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Position in the batch and entity of all answers to pairs that have some, ``[m]`` int64 each."""
        return self._pairs.select(torch.searchsorted(self._key, relation * self._num_entities + given))


@dataclass(frozen=True)
class _Task:
    """Triples to be found ``[3, n]``, and the true answers to them by side."""

    triple: Tensor
    answers: dict[Side, _Answers]

    @classmethod
    def build(cls, triple: Tensor, true: Tensor, num_entities: int) -> _Task:
        """The task to find triples ``[3, n]`` where those of ``true`` ``[3, m]`` are true, they included."""
        head, relation, tail = true
        answers: dict[Side, _Answers] = {
            "tail": _Answers(relation, head, tail, num_entities),
            "head": _Answers(relation, tail, head, num_entities),
        }
        return cls(triple, answers)

    def ranks(self, scorer: TripleScorer, side: Side, filtered: bool, batch_size: int) -> Tensor:
        """Ranks of the right entities, ``[n]`` float64.

        Raises:
            ValueError: If scores are NaN or infinite.
        """
        found = []
        for head, relation, tail in zip(*(column.split(batch_size) for column in self.triple)):
            if side == "tail":
                scores, right, given = scorer.tails(head, relation), tail, head
            else:
                scores, right, given = scorer.heads(relation, tail), head, tail
            true = self.answers[side].select(relation, given) if filtered else None
            found.append(_rank(scores, right, true))
        rank = torch.cat(found)
        if bool(rank.isnan().any()):
            raise ValueError(
                "scores of triples are NaN or infinite, expected a model whose weights are finite"
            )
        return rank


def _rank(scores: Tensor, right: Tensor, true: tuple[Tensor, Tensor] | None) -> Tensor:
    """Ranks from scores ``[B, N]``, without the entities of ``true`` (row and entity, the right ones included).

    With b entities above the right one, w below and e level with it, m = b + w + e in all, the mean of the best
    and the worst rank is 1 + b + e/2 = 1 + (m + b − w)/2, where b − w is a sum of signs. NaN where a score is.
    """
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    mine = scores.gather(1, right.unsqueeze(1))
    ahead = scores - mine
    wrong = ahead.amax(1).isnan()  # the sign of NaN is 0
    # float32 counts to 2^24 without error.
    whole = scores.dtype if scores.size(1) <= 2**24 else torch.float64
    lead = ahead.sign_().sum(1, dtype=whole).double().masked_fill_(wrong, torch.nan)
    others = torch.full_like(lead, scores.size(1) - 1)
    if true is not None:
        row, entity = true
        sign = (scores[row, entity] - mine.squeeze(1)[row]).sign_().double()
        lead = lead.index_add(0, row, sign, alpha=-1)
        others = scores.size(1) - torch.bincount(row, minlength=right.numel()).double()
    return 1 + (others + lead) / 2


# ---------------------------------------------------------------------- what is to be found


def _task(test: Triples, known: Triples | None, num_entities: int, device: torch.device) -> _Task:
    """The triples to be found and their answers."""
    if isinstance(test, HeteroData):
        _check_split("test", test)
        find, more = triples(test, "edge_label").to(device), _all_triples(known, device)
        return _Task.build(find, torch.cat([_all_triples(test, device), more], dim=1), num_entities)
    find = _all_triples(test, device)
    return _Task.build(find, torch.cat([find, _all_triples(known, device)], dim=1), num_entities)


def _all_triples(given: Triples | None, device: torch.device) -> Tensor:
    """All that a store holds, or the triples that are given, ``[3, m]``."""
    if isinstance(given, HeteroData):
        return torch.cat([triples(given, part).to(device) for part in PARTS], dim=1)
    if given is None:
        return torch.empty(3, 0, dtype=torch.long, device=device)
    return (torch.stack(given) if isinstance(given, tuple) else given).to(device)


# ---------------------------------------------------------------------- checks


def _check_arguments(model: Any, test: Any, filtered: bool, known: Any, batch_size: int | None) -> None:
    """Checks what can be checked before the model is asked."""
    _check_knows_triples(model)
    check_flag(filtered=filtered)
    if isinstance(model, CompletesTriples) and not isinstance(test, HeteroData):
        raise TypeError(
            f"test is {kind_of(test)}, expected a store of TripleSplit for {kind_of(model)}, which "
            "matches entities and relations by what the store says of them"
        )
    check_triples("test", test, to_find=True)
    if known is not None:
        check_triples("known", known, to_find=False)
        if not filtered:
            raise ValueError(
                "known is given with filtered=False, expected filtered=True to leave triples out"
            )
    check_optional(1, batch_size=batch_size)


def _check_knows_triples(model: Any) -> None:
    if not isinstance(model, CompletesTriples | KGEModel):
        raise TypeError(
            f"model is {kind_of(model)}, which knows no triples, expected a KGEModel of "
            "torch_geometric.nn.kge or a recommender with triple_scorer, such as KTUP"
        )


def check_triples(name: str, given: Any, to_find: bool) -> None:
    """Raises TypeError or ValueError unless ``given`` holds triples, as a store or as tensors.

    Args:
        name: Of the argument, for messages.
        given: The triples.
        to_find: Whether there has to be one to be found.
    """
    if isinstance(given, HeteroData):
        validate(given)
        if not has_knowledge(given):
            raise ValueError(f"{name} has no knowledge graph, expected a store with triples")
        if to_find and not triple_tensors(given, "edge_label"):
            raise ValueError(f"{name} has no edge_label_index of triples, expected a store of TripleSplit")
        return
    expected = "a store, an int64 tensor [3, n] of heads, relations and tails, or a tuple of the three"
    columns = list(given) if isinstance(given, tuple) and len(given) == 3 else [given]
    if not all(isinstance(column, Tensor) for column in columns):
        raise TypeError(f"{name} is {kind_of(given)}, expected {expected}")
    for column in columns:
        if column.dtype != torch.long:
            raise TypeError(
                f"{name} has the dtype {str(column.dtype).removeprefix('torch.')}, expected {expected}"
            )
    shapes = [list(column.shape) for column in columns]
    if len(columns) == 1 and (len(shapes[0]) != 2 or shapes[0][0] != 3):
        raise ValueError(f"{name} has the shape {shapes[0]}, expected [3, n]: heads, relations and tails")
    if len(columns) == 3 and (len(shapes[0]) != 1 or shapes != shapes[:1] * 3):
        raise ValueError(f"{name} holds tensors of the shapes {shapes}, expected three of one length, [n]")
    if to_find and columns[0].numel() == 0:
        raise ValueError(f"{name} holds no triple to be found, expected at least one")


def _check_fit(stores: dict[str, Triples], num_entities: int, relations: int) -> None:
    """Checks that entities and relations are those of the model."""
    for name, given in stores.items():
        if isinstance(given, HeteroData):
            found = given[ENTITY].num_nodes
            if found != num_entities:
                raise ValueError(f"{name} has {found} entities, expected {num_entities} as the model has")
            if num_relations(given) > relations:
                raise ValueError(
                    f"{name} has {num_relations(given)} relations, expected at most {relations} as the model has"
                )
        else:
            _check_range(name, _all_triples(given, torch.device("cpu")), num_entities, relations)
    named = [given for given in stores.values() if isinstance(given, HeteroData)]
    if len(named) == 2:
        if list(named[0].relation_name) != list(named[1].relation_name):
            raise ValueError(
                "relation_name of known differs from that of test, expected the same relations in order"
            )
        check_same_terms("test", named[0], "known", named[1])


def _check_range(name: str, triple: Tensor, num_entities: int, num_relations: int) -> None:
    head, relation, tail = triple
    columns = {
        "head": (head, num_entities),
        "relation": (relation, num_relations),
        "tail": (tail, num_entities),
    }
    for what, (index, size) in columns.items():
        if index.numel() == 0:
            continue
        low, high = (int(bound) for bound in index.aminmax())
        if low < 0 or high >= size:
            wrong = low if low < 0 else high
            raise ValueError(f"{name} holds the {what} {wrong}, expected 0..{size - 1} as the model has")


def _check_split(store: str, test: HeteroData) -> None:
    """Checks that there is something to be found, in terms that training knows and not known as a whole."""
    find, learned = triples(test, "edge_label"), triples(test)
    if find.size(1) == 0:
        raise ValueError(f"edge_label_index of {store} holds no triple to be found, expected at least one")
    for part in ("edge", "seen_edge"):
        at = first_shared(triples(test, part).to(find.device), find, test[ENTITY].num_nodes)
        if at is not None:
            raise ValueError(
                f"triple {triple_name(test, find[:, at])} stands in {part}_index and in edge_label_index of "
                f"{store}, expected triples to be found that are not known yet"
            )
    for what, mine, theirs in (
        ("entity", find[[0, 2]].flatten(), learned[[0, 2]].flatten()),
        ("relation", find[1], learned[1]),
    ):
        new = mine[~torch.isin(mine, theirs)]
        if new.numel():
            first = int(new[0])
            name = entity_name(test, first) if what == "entity" else repr(test.relation_name[first])
            raise ValueError(
                f"{what} {name} stands in edge_label_index of {store} and in no training triple, expected each "
                f"{what} to have one to learn from, as TripleSplit leaves it"
            )


def _check_sides(sides: Any) -> list[Side]:
    one = isinstance(sides, str) or not isinstance(sides, Iterable)
    asked: list[Side] = [cast(Side, sides)] if one else list(sides)
    if not asked or any(side not in get_args(Side) for side in asked) or len(set(asked)) < len(asked):
        raise ValueError(f"sides is {sides!r}, expected 'head', 'tail' or both")
    return asked


def _check_k(k: Any, num_entities: int) -> list[int]:
    ks = list(k) if isinstance(k, Sequence) and not isinstance(k, str) else [k]
    if not ks:
        raise ValueError("k is empty, expected at least one number of entities")
    for one in ks:
        whole = isinstance(one, (int, np.integer)) and not isinstance(one, bool)
        if not whole or not 1 <= one <= num_entities:
            raise ValueError(f"k is {one!r}, expected a whole number from 1 to the {num_entities} entities")
    return [int(one) for one in ks]
