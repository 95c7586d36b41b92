"""Users whom training did not see, learned from their history while everything else stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import softplus

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.models.encoding import Encoding
from pyg_kgrec.models.inputs import Inputs

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

Model = TypeVar("Model", bound="Recommender")

BLOCK = 2**22  # scores held at a time: 16 MiB, and as much for their gradient
STEPS, RATE = 100, 0.1  # of Adam, in units of the deviation of training's rows
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's


def fold_in(model: Model, inputs: Inputs, users: Tensor) -> Model:
    """See :meth:`~pyg_kgrec.models.base.Recommender.fold_in`; users ``[n]`` int64."""
    table = model.user_rows()
    without_rows = table is None or table.weight is None
    if without_rows and "interactions" not in model.hears[USER]:
        if table is None:
            raise TypeError(
                f"{type(model).__name__} has no rows of users (user_rows) and hears no interactions: it cannot "
                "learn users from a history"
            )
        raise ValueError(
            f"this {type(model).__name__} knows users by their features alone (features='x'), expected rows of "
            "users that a history could teach"
        )
    folded = copy.deepcopy(model).eval()
    if users.numel() == 0:
        return folded
    user, history = histories(model, inputs, users.unique())
    if without_rows:
        return folded
    mean, spread = prior(model)
    row = _enlarge(folded, inputs, user)
    folded.signature = replace(folded.signature, row_prior=torch.stack([mean, spread]).cpu())
    own = folded.prepare(inputs.data)
    table = folded.user_rows()
    assert table is not None
    assert table.weight is not None
    with torch.inference_mode(False):
        fitted = fit_rows(folded, own, user, history, mean, spread)
        with torch.no_grad():
            table.weight[row] = fitted.to(table.weight.dtype)
    return folded


def histories(model: Recommender, inputs: Inputs, user: Tensor) -> tuple[Tensor, PairIndex]:
    """Those of some users that have a history of known items, and the known items of all users."""
    has, history = has_history(model, inputs, user)
    if bool(has.all()):
        return user, history
    lacking = user[~has]
    named = ", ".join(repr(r)[:40] for r in inputs.raw_ids(USER, lacking[:3].tolist()))
    said = (
        f"{lacking.numel()} of {user.numel()} users ({named}) have no interaction with a known item in "
        "edge_index, from which they could be learned"
    )
    if not bool(has.any()):
        raise ValueError(f"{said}, expected a history")
    warn_caller(f"{said}: they stay strangers")
    return user[has], history


def has_history(model: Recommender, inputs: Inputs, user: Tensor) -> tuple[Tensor, PairIndex]:
    """Whether each of some users ``[n]`` had an item that the model knows, and the known items of all users."""
    known = model.known(inputs).item
    pairs = inputs.edge_index[:, known[inputs.edge_index[1]]]
    history = PairIndex.from_pairs(pairs, inputs.num_users)
    return history.start[user + 1] > history.start[user], history


def _enlarge(model: Recommender, inputs: Inputs, user: Tensor) -> Tensor:
    """Gives users ``[n]`` of a store rows of zeros in a model's signature and table, and returns which."""
    signature = model.signature
    old = signature.num_nodes[USER]
    row = signature.match(inputs.data, USER)
    row = torch.arange(inputs.num_users) if row is None else row
    user = user.cpu()
    row, ids = row[user], signature.ids[USER]
    new = (row < 0).nonzero().flatten()
    if ids is not None:
        row[new] = torch.arange(old, old + new.numel())
        ids = ids + inputs.raw_ids(USER, user[new].tolist())
        size = len(ids)
    else:  # nodes without ids are matched by position
        row[new] = user[new]
        size = max(old, int(row.max()) + 1)
    trained = torch.zeros(size, dtype=torch.bool)
    trained[:old] = True if signature.trained is None else signature.trained
    trained[row] = True
    model.signature = replace(
        signature,
        num_nodes=signature.num_nodes | {USER: size},
        ids=signature.ids | {USER: ids},
        trained=trained,
    )
    table = model.user_rows()
    assert table is not None
    assert table.weight is not None
    weight = table.weight.detach()
    enlarged = torch.cat([weight, weight.new_zeros(size - old, weight.size(1))])
    row = row.to(weight.device)
    enlarged[row] = 0
    table.weight, table.num_embeddings = Parameter(enlarged), size
    return row


def prior(model: Recommender) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the rows that training taught, ``[d]`` each, whoever was folded in since."""
    table = model.user_rows()
    assert table is not None
    assert table.weight is not None
    weight, trained = table.weight.detach(), model.signature.trained
    if model.signature.row_prior is not None:
        mean, spread = model.signature.row_prior.to(weight)
        return mean, spread
    if trained is not None and bool(trained.any()):
        weight = weight[trained.to(weight.device)]
    spread, mean = torch.std_mean(weight, dim=0, correction=0)
    # A dimension in which all rows are the same would leave nothing to be learned.
    return mean, spread.clamp(min=float(spread.mean()) * 0.01 + 1e-8)


def fit_rows(
    model: Recommender, inputs: Inputs, user: Tensor, history: PairIndex, mean: Tensor, spread: Tensor
) -> Tensor:
    """The most probable rows of some users; see :meth:`~pyg_kgrec.models.base.Recommender.fold_in`.

    Args:
        model: A model whose rows of these users are 0.
        inputs: A store that it prepared.
        user: Users, ``[n]`` int64.
        history: The items that users are learned from.
        mean: μ, ``[d]``.
        spread: σ, ``[d]``.

    Returns:
        Rows ``[n, d]``.
    """
    with torch.no_grad():
        encoding = model.encode(inputs)
    known = model.known(inputs).item
    size = max(1, BLOCK // max(inputs.num_items, 1))
    requires = [p.requires_grad for p in model.parameters()]
    try:
        model.requires_grad_(False)
        parts = [
            _fit_block(model, inputs, encoding, part, history.select(part), known, mean, spread)
            for part in user.split(size)
        ]
    finally:
        for parameter, was in zip(model.parameters(), requires):
            parameter.requires_grad_(was)
    return torch.cat(parts)


def fold_strangers(model: Model, inputs: Inputs, histories: PairIndex, known: Tensor) -> Encoding:
    """An encoding of users whom no store holds, each with the row that a history teaches, nothing else changed.

    Args:
        model: A model in evaluation mode, whose users have nothing to do with one another, with a
            :meth:`~pyg_kgrec.models.base.Recommender.with_rows` of its own; it is only read.
        inputs: A store that it prepared, of which users are not read.
        histories: Known items of each; who has none keeps a row of 0.
        known: Items that may stand among the negatives, ``[num_items]`` bool.
    """
    number = histories.start.numel() - 1
    own = inputs.of_strangers(number)
    with torch.no_grad():
        encoding = model.encode(own)
    mean, spread = prior(model)
    who = torch.arange(number, device=inputs.device)
    user = who[histories.start.diff() > 0]
    row = mean.new_zeros(who.numel(), mean.numel())
    for part in user.split(max(1, BLOCK // max(inputs.num_items, 1))):
        pairs = histories.select(part)
        row[part] = _fit_block(model, own, encoding, part, pairs, known, mean, spread)
    with torch.no_grad():
        return model.with_rows(own, encoding, who, row)


def _fit_block(
    model: Recommender,
    inputs: Inputs,
    encoding: Encoding,
    user: Tensor,
    pairs: tuple[Tensor, Tensor],
    known: Tensor,
    mean: Tensor,
    spread: Tensor,
) -> Tensor:
    def scores(row: Tensor) -> Tensor:
        return model.with_rows(inputs, encoding, user, model.admissible_rows(row)).score_all(index)

    index = torch.arange(user.numel(), device=user.device)
    return model.admissible_rows(most_probable(model, scores, pairs, known, user.numel(), mean, spread))


def most_probable(
    model: Recommender,
    scores: Callable[[Tensor], Tensor],
    pairs: tuple[Tensor, Tensor],
    known: Tensor,
    number: int,
    mean: Tensor,
    spread: Tensor,
) -> Tensor:
    """The most probable rows of users given what they had; see ``fold_in`` of the base class.

    Args:
        model: Says by which loss, and how many negatives.
        scores: Scores of all items ``[n, num_items]`` under rows ``[n, d]``, differentiable.
        pairs: Which of the users had which items, ``[m]`` int64 each.
        known: Items that may stand among the negatives, ``[num_items]`` bool.
        number: n.
        mean: μ, ``[d]``.
        spread: σ, ``[d]``.

    Returns:
        Rows ``[n, d]``, before :meth:`~pyg_kgrec.models.base.Recommender.admissible_rows`.
    """
    who, item = pairs
    objective: Any = getattr(model, "objective", None)
    negatives = getattr(objective, "num_negatives", 1)
    scale = getattr(model, "score_scale", 1.0)
    other = known.repeat(number, 1)
    other[who, item] = False
    # Scores of all items that might have been drawn, as many as a step draws.
    shift = (negatives / other.sum(1).clamp(min=1)).log().to(mean.dtype)
    z = torch.zeros(number, mean.numel(), dtype=mean.dtype, device=mean.device, requires_grad=True)
    first, second, mine = torch.zeros_like(z), torch.zeros_like(z), ~other
    pair = who * known.numel() + item
    with torch.enable_grad():
        for step in range(STEPS):
            score = scale * scores(mean + spread * z)
            rest = score.masked_fill(mine, -torch.inf).logsumexp(1) + shift
            # index_select adds gradients in a fixed order; an index in brackets does not, with several threads.
            margin = rest.index_select(0, who) - score.flatten().index_select(0, pair)
            loss = softplus(margin).sum() + model.fold_prior / 2 * z.pow(2).sum()
            (gradient,) = torch.autograd.grad(loss, [z])
            with torch.no_grad():
                _adam(z, gradient, first, second, step, RATE * (1 - step / STEPS))
    return mean + spread * z.detach()


def _adam(z: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, rate: float) -> None:
    """A step of Adam in place, as :class:`torch.optim.Adam` makes it, with its two moments.

    An optimizer of PyTorch tells whoever listens that weights have changed (every encoding is then checked again),
    and costs more than the step: rows that are folded in are no weights of a model that answers meanwhile.
    """
    first.lerp_(gradient, 1 - _BETAS[0])
    second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
    scale = (1 - _BETAS[1] ** (step + 1)) ** 0.5
    z.addcdiv_(first, (second.sqrt() / scale).add_(_EPSILON), value=-rate / (1 - _BETAS[0] ** (step + 1)))


def encode_with_rows(model: Recommender, inputs: Inputs, user: Tensor, row: Tensor) -> Encoding:
    """Everything encoded again with other rows of users ``[n]``; see ``with_rows`` of the base class."""
    table = model.user_rows()
    assert table is not None
    weight = table.weight
    assert weight is not None
    place = inputs.nodes(USER, user)[0]
    assert place is not None
    try:
        del table._parameters["weight"]
        table.weight = weight.detach().index_copy(0, place, row)  # type: ignore[assignment]
        return Chosen(model.encode(inputs), user)
    finally:
        del table.weight
        table.weight = weight


class Chosen(Encoding):
    """Some users of an encoding.

    Args:
        own: The encoding of all users.
        user: Which users, ``[n]`` int64.
    """

    def __init__(self, own: Encoding, user: Tensor) -> None:
        self.own, self.user = own, user

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs, ``[B]``."""
        return self.own.score(self.user[user], item)

    def score_all(self, user: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``[B, num_items]``."""
        return self.own.score_all(self.user[user])

    @property
    def item_embeddings(self) -> Tensor:
        """Those of the encoding."""
        return self.own.item_embeddings
