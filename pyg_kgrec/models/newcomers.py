"""Sessions: histories of people whom no store holds, and the lists that they get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec._checks import check_k, check_optional, check_scores
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import INTERACTS, IS, ITEM, NODE_TYPES, RELATES, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.data.vocabulary import as_index, is_collection
from pyg_kgrec.models.encoding import Encoding, rows_at_once
from pyg_kgrec.models.folding import fold_strangers
from pyg_kgrec.models.inputs import Inputs, node_columns
from pyg_kgrec.models.strangers import Known, WithStrangers, is_told, popularity

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

Ranked = tuple[Tensor, Tensor, list[bool]]
"""Items ``[B, k]`` and scores ``[B, k]`` of sessions, and which of them hold something that the model knows."""


def hears_sessions(model: Recommender) -> bool:
    """Whether a history alone is enough for a list: it is heard, or a row can be learned from it."""
    return "interactions" in model.hears[USER] or model.strangers()["user with history"] == "fold_in"


def deaf_sentence(model: Recommender) -> str:
    """Why a model cannot hear sessions."""
    name = type(model).__name__
    if "anyone" in model.hears[USER]:
        why = "recommends the same to everyone"
    else:
        why = "hears no interactions, and has no rows of users that a history could teach"
    return (
        f"{name} cannot hear the session of a stranger: it {why}, expected a model that a history is enough "
        "for, such as KGRec, KSR, KTUP or EASE"
    )


def recommend_session(
    model: Recommender, session: Any, k: int, data: Any, as_frame: bool, batch_size: int | None
) -> tuple[Tensor, Tensor] | pd.DataFrame:
    """See :meth:`~pyg_kgrec.models.base.Recommender.recommend_session`."""
    if not hears_sessions(model):
        raise TypeError(deaf_sentence(model))
    model.check_ready()
    inputs = model.session_inputs() if data is None else model.inputs(data)
    check_k(k, inputs.num_items)
    check_optional(1, batch_size=batch_size)
    several = _are_sessions(session)
    given: list[Any] = list(cast(Any, session)) if several else [session]
    read = [_read(model, inputs, one) for one in given]
    number = sum(item.numel() + len(unknown) for item, unknown in read)
    _warn_of_unknown(model, inputs, [unknown for _, unknown in read], number)
    items = [item.to(model.device) for item, _ in read]
    found, top, heard = model.rank_sessions(inputs, items, k, rows_at_once(inputs.num_items, batch_size))
    if not all(heard) and not is_told():
        who = f"{heard.count(False)} of {len(heard)} sessions hold" if several else "the session holds"
        whom = " for them" if several else ""
        warn_caller(f"{who} no known item: the most popular items are recommended{whom}")
    if not as_frame:
        return (found, top) if several else (found[0], top[0])
    mask = (found >= 0).cpu()
    row, place = mask.nonzero().unbind(1)
    columns: dict[str, Any] = {}
    if several:
        labels = session.index if isinstance(session, pd.Series) else pd.RangeIndex(len(given))
        columns["session"] = labels.to_numpy()[row.numpy()]
    columns["rank"] = place.numpy() + 1
    columns |= node_columns(inputs, ITEM, found.cpu()[mask].tolist(), ITEM)
    return frame_of(columns | {"score": to_numpy(top.cpu()[mask])})


# ---------------------------------------------------------------------- one user more


def rank_one_by_one(model: Recommender, inputs: Inputs, sessions: list[Tensor], k: int, rows: int) -> Ranked:
    """What :meth:`recommend` gives a new user of the store, once for every session: exact for every model.

    Each session has a store of its own, because a user who joins a graph changes what the others hear. A model that
    hears no interactions learns the user's row there.
    """
    lists, heard = [], []
    hears = "interactions" in model.hears[USER]
    for session in sessions:
        with torch.inference_mode(False), torch.no_grad():
            own, mine = model.prepare(with_user(model, inputs, session)), model
            user = torch.tensor([own.num_users - 1], device=own.device)
            if not hears and bool(model.known(own).item[session].any()):
                mine = model.fold_in(own, user)
                own = mine.prepare(own.data)
            heard.append(bool(mine.known(own).user[user]))
            lists.append(mine.encoding(own).rank(user, k, own.seen, rows))
    found, top = (torch.cat(parts) for parts in zip(*lists)) if lists else _none(model, k)
    return found, check_scores(top), heard


def rank_folded(model: Recommender, inputs: Inputs, sessions: list[Tensor], k: int, rows: int) -> Ranked:
    """What users get whose rows are folded in, all sessions side by side.

    For a model whose users have nothing to do with one another, and which encodes some users with other rows by
    itself (:meth:`~pyg_kgrec.models.base.Recommender.with_rows`).
    """
    known = model.known(inputs).item
    mine = as_pairs([session[known[session]] for session in sessions], inputs.device)
    with torch.inference_mode(False):
        encoding = fold_strangers(model.evaluating(), inputs, mine, known)
    return rank_histories(model, inputs, encoding, sessions, k, rows)


def rank_histories(
    model: Recommender, inputs: Inputs, encoding: Encoding, sessions: list[Tensor], k: int, rows: int
) -> Ranked:
    """What users get whose only trace is their history, all sessions side by side.

    Args:
        model: A model whose users have nothing to do with one another.
        inputs: The store.
        encoding: An encoding whose users are the sessions.
        sessions: Items of each, ``[n]`` int64.
        k: Number of items.
        rows: Sessions ranked at a time.
    """
    item = model.known(inputs).item
    user = torch.tensor([bool(item[session].any()) for session in sessions], dtype=torch.bool)
    known = Known.of(user.to(inputs.device), item)
    if not (known.every_user and known.every_item):
        encoding = WithStrangers(encoding, known, inputs.part("popularity", lambda: popularity(inputs)))
    who = torch.arange(len(sessions), device=inputs.device)
    with torch.inference_mode(False), torch.no_grad():
        found, top = encoding.rank(who, k, as_pairs(sessions, inputs.device), rows)
    return found, check_scores(top), user.tolist()


def as_pairs(sessions: list[Tensor], device: torch.device) -> PairIndex:
    """The items of each session, each once."""
    size = [session.numel() for session in sessions]
    who = torch.arange(len(sessions)).repeat_interleave(torch.tensor(size, dtype=torch.long)).to(device)
    item = torch.cat([who[:0], *(session.to(device) for session in sessions)])
    return PairIndex.from_pairs(torch.stack([who, item]), len(sessions))


def with_user(model: Recommender, inputs: Inputs, session: Tensor) -> HeteroData:
    """A store with one user more, the last one, whose interactions are a session.

    It holds what models read. The user is nobody whom the model or the store knows, has features of 0, and has had
    an item that stands twice in the session when it stands there last; times go on from the latest of the store.

    Args:
        model: The model that is to recommend.
        inputs: What it prepared of a store.
        session: Items, ``[n]`` int64, oldest first.

    Raises:
        ValueError: If the store's users are told by their place in another one.
    """
    data, out = inputs.data, HeteroData()
    users, trained = data[USER], model.signature.num_nodes[USER]
    if "n_id" in users and "id" not in users:
        raise ValueError(
            "data['user'] has n_id and no id, so that a new user could not be told from those of training, "
            "expected a store with raw ids, or a whole one"
        )
    # Without ids users are told by position: that of a user of training is not a stranger's.
    more = 1 if "id" in users else max(1, trained + 1 - users.num_nodes)
    for kind in NODE_TYPES:
        if kind in data.node_types:
            for key in ("id", "name", "n_id", "x"):
                if data[kind].get(key) is not None:
                    out[kind][key] = data[kind][key]
            out[kind].num_nodes = data[kind].num_nodes
    out[USER].num_nodes = number = users.num_nodes + more
    if "id" in users:
        out[USER].id = [*users.id, _new_id(users.id, model.signature.ids[USER] or [])]
    if "name" in users:
        out[USER].name = [*users.name, *[""] * more]
    if "x" in users:
        out[USER].x = torch.cat([users.x, users.x.new_zeros(more, users.x.size(1))])
    last = list(dict.fromkeys(reversed(session.tolist())))[::-1]
    old, pairs = data[INTERACTS], data[INTERACTS].edge_index
    item = torch.tensor(last, dtype=torch.long, device=pairs.device)
    out[INTERACTS].edge_index = torch.cat([pairs, torch.stack([torch.full_like(item, number - 1), item])], 1)
    if old.get("time") is not None:
        times = [
            old[key].max() for key in ("time", "seen_time") if old.get(key) is not None and old[key].numel()
        ]
        now = max(times).to(old.time)
        new = now + torch.arange(1, len(last) + 1, device=now.device).to(old.time.dtype)
        out[INTERACTS].time = torch.cat([old.time, new.to(old.time.device)])
    for key in ("seen_edge_index", "seen_time"):
        if old.get(key) is not None:
            out[INTERACTS][key] = old[key]
    if RELATES in data.edge_types:
        out[IS].edge_index = data[IS].edge_index
        out[RELATES].edge_index, out[RELATES].edge_type = data[RELATES].edge_index, data[RELATES].edge_type
        out.relation_name = data.relation_name
    return out


def _new_id(*known: list[Any]) -> Any:
    """A raw id that stands in none of some lists."""
    ids = {raw for some in known for raw in some}
    if ids and isinstance(next(iter(ids)), int):
        return max(ids) + 1
    new = "a new user"
    while new in ids:
        new += "'"
    return new


def _none(model: Recommender, k: int) -> tuple[Tensor, Tensor]:
    return torch.empty(0, k, dtype=torch.long, device=model.device), torch.empty(0, k, device=model.device)


def catalogue_inputs(model: Recommender) -> Inputs:
    """What is remembered of training's items, for a model that reads no more of a store."""
    catalogue = model.signature.catalogue
    known: Inputs | None = model._prepared.get(catalogue)
    if known is None or known.device != model.device:
        with torch.inference_mode(False), torch.no_grad():
            known = model._prepared[catalogue] = Inputs.read(model, catalogue)
    return known


# ---------------------------------------------------------------------- what is given


def _read(model: Recommender, inputs: Inputs, session: Any) -> tuple[Tensor, list[str]]:
    """Indices of the items of a session, those that are known, and the others as a message quotes them."""
    if isinstance(session, Tensor) or (isinstance(session, np.ndarray) and session.dtype.kind not in "OUT"):
        if 0 in session.shape:  # whatever its dtype
            return torch.empty(0, dtype=torch.long), []
        return as_index(session, inputs.vocabulary(ITEM), inputs.num_items, ITEM), []
    if not is_collection(session) or isinstance(session, set | frozenset):
        raise TypeError(
            f"the session is {kind_of(session)}, expected a list of raw ids or names, or a tensor of indices"
        )
    given: list[Any] = list(cast(Any, session))
    strange = [x for x in given if isinstance(x, bool) or not isinstance(x, str | int | np.integer)]
    if strange:
        raise TypeError(f"the session holds {kind_of(strange[0])}, expected raw ids or names of items")
    ids, names = _words(model, inputs)
    if given and not ids and not names:
        raise ValueError(
            "a list holds raw ids or names of items but there are none here, expected a tensor of indices"
        )
    index = [ids.get(x, names.get(x.strip().casefold(), -1) if isinstance(x, str) else -1) for x in given]
    unknown = [repr(x) for x, i in zip(given, index) if i < 0]
    return torch.tensor([i for i in index if i >= 0], dtype=torch.long), unknown


def _warn_of_unknown(model: Recommender, inputs: Inputs, unknown: list[list[str]], number: int) -> None:
    """One warning of all items that sessions hold and nothing else knows, of so many in all."""
    every = [text for of_session in unknown for text in of_session]
    if not every:
        return
    ids, _ = _words(model, inputs)
    different = list(dict.fromkeys(every))
    named = ", ".join(shown(text, 60) for text in different[:3]) + (", …" if len(different) > 3 else "")
    kind = f" (raw ids are {type(next(iter(ids))).__name__})" if ids else ""
    which = "the session" if len(unknown) == 1 else f"{len(unknown)} sessions"
    warn_caller(f"{len(every)} of {number} items of {which} are unknown ({named}) and left out{kind}")


def _words(model: Recommender, inputs: Inputs) -> tuple[dict[str | int, int], dict[str, int]]:
    """Items by raw id; by name without regard to case, of several the most popular."""
    ids, names = inputs.data[ITEM].get("id"), inputs.data[ITEM].get("name")

    def build() -> tuple[dict[str | int, int], dict[str, int]]:
        popular_last = model.session_popularity(inputs).argsort(descending=True, stable=True).flip(0).tolist()
        by_name = {names[i].strip().casefold(): i for i in popular_last} if names is not None else {}
        return {raw: i for i, raw in enumerate(ids or [])}, by_name

    return inputs.part("session words", build)


def _are_sessions(session: Any) -> bool:
    """Whether this is a list of sessions rather than one.

    Raises:
        TypeError: If some of its elements are sessions and others items.
    """
    if isinstance(session, np.ndarray | pd.Series) and session.dtype != object:
        return False
    if not isinstance(session, list | tuple | np.ndarray | pd.Series) or not len(session):
        return False
    are = [is_collection(x) or (isinstance(x, Tensor) and x.dim() > 0) for x in session]
    if any(are) and not all(are):
        odd = next(x for x, is_one in zip(session, are) if not is_one)
        raise TypeError(
            f"a list of sessions holds {shown(repr(odd), 60)} beside them, expected sessions alone or items alone"
        )
    return all(are)
