"""A model with its store, read once: answers of the library in raw ids, without a word of HTTP."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._files import shown
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.data.vocabulary import Vocabulary
from pyg_kgrec.explain import Explanation
from pyg_kgrec.models.base import Recommender, predicting
from pyg_kgrec.models.newcomers import deaf_sentence, hears_sessions
from pyg_kgrec.models.session import SessionRecommender
from pyg_kgrec.models.strangers import told
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.graph import ReasonGraph

_KEPT: Final = 64
"""Explanations that are kept, because their units are left out next."""

RawId = str | int


class Served:
    """One generation of what is served: a model, its prepared store, and answers.

    Every method takes and returns raw ids (positions where the store has none) and plain values, and may be called
    from several threads at once.

    Args:
        model: The model; it is not changed, and must not be trained while it is served.
        data: The store to recommend on.
        generation: A number that tells it from those before and after.

    Attributes:
        seconds: What one user's recommendation takes, about, measured once.
        session_seconds: What one session's takes, likewise.
        explain_reason: Why :meth:`explain` does not answer; empty if it does.
        session_reason: Why :meth:`session` does not; empty if it does.
        similar_reason: Why :meth:`similar` does not; empty if it does.

    Raises:
        TypeError: If ``model`` is no model or ``data`` no store.
        ValueError: If they do not fit each other.
    """

    def __init__(self, model: Recommender, data: HeteroData, generation: int = 1) -> None:
        self.model, self.generation = model, generation
        self.inputs = model.prepare(data)
        self.name = type(model).__name__
        self._explained: OrderedDict[tuple[int, int], Explanation] = OrderedDict()
        self._lock = threading.Lock()
        self._ids: dict[str, Vocabulary | None] = {t: self.inputs.vocabulary(t) for t in (USER, ITEM)}
        self._names: dict[str, Any] = {t: self.inputs.data[t].get("name") for t in (USER, ITEM)}
        self._searched = {t: self._texts(t) for t in (USER, ITEM)}
        self.similar_reason, self.seconds = "", 0.0
        self.explain_reason = self._warm_up()
        self.session_seconds = 0.0
        self.session_reason = self._warm_up_sessions()

    def _warm_up(self) -> str:
        """Answers once, so that the first request finds all that is built once; why there are no explanations."""
        known = self.model.known(self.inputs)
        with told():
            user = known.user.nonzero().flatten()[:1]
            first = torch.zeros(min(1, self.inputs.num_users), dtype=torch.long, device=self.inputs.device)
            found, _ = self.model.recommend(self.inputs, user if user.numel() else first, k=1)
            item = found.flatten()
            item = item[item >= 0]
            started = time.thread_time()  # of this thread alone: other processes do not make a model slow
            if self.inputs.num_users:
                self.recommend([self._raw(USER, int((user if user.numel() else first)[0]))], k=1)
            self.seconds = time.thread_time() - started
            try:
                if self.inputs.num_items:
                    self.model.similar_items(self.inputs, torch.zeros(1, dtype=torch.long), k=1)
            except TypeError as error:
                self.similar_reason = str(error)
            if not user.numel() or not item.numel() or not bool(known.item[item].all()):
                has = type(self.model)._explain is not Recommender._explain
                return "" if has else f"{self.name} has no explanations"
            try:
                self.model.explain(self.inputs, user, item[:1])
            except TypeError as error:
                return str(error)
        return ""

    def _warm_up_sessions(self) -> str:
        """Answers a session once; why there are no answers."""
        if not hears_sessions(self.model):
            return deaf_sentence(self.model)
        one = torch.arange(min(1, self.inputs.num_items))
        try:
            for _ in range(2):  # the first one builds what the others find
                started = time.thread_time()
                self._rank_session(one, 1)
                self.session_seconds = time.thread_time() - started
        except ValueError as error:
            return str(error)
        return ""

    @property
    def grows(self) -> bool:
        """Whether a session becomes a user of a graph that is propagated over anew."""
        return not isinstance(self.model, SessionRecommender)

    # ------------------------------------------------------------------ what there is

    def health(self) -> dict[str, Any]:
        """What is served."""
        return {
            "status": "ok",
            "model": self.name,
            "num_users": self.inputs.num_users,
            "num_items": self.inputs.num_items,
            "generation": self.generation,
            "explains": not self.explain_reason,
            "sessions": not self.session_reason,
            "named": any(names is not None for names in self._names.values()),
        }

    def find(self, node_type: str, query: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Users or items whose id or name holds some letters, whatever their case, and how many there are."""
        words = query.casefold()
        texts = self._searched[node_type]
        if not words:
            return [self._node(node_type, i) for i in range(min(limit, len(texts)))], len(texts)
        found = [i for i, text in enumerate(texts) if words in text]
        return [self._node(node_type, i) for i in found[:limit]], len(found)

    def history(self, user: RawId, limit: int) -> dict[str, Any]:
        """What a user has had: the latest first where interactions have times, else in the store's order."""
        index = self._index(USER, [user], "user")
        items = self.inputs.seen.of(index)
        try:
            past = self.inputs.sequences()
        except ValueError:  # without times there is no latest
            pass
        else:
            start, end = past.start[int(index) : int(index) + 2].tolist()
            items = past.item[start:end].flip(0)
        some = list(dict.fromkeys(items.tolist()))
        return {"user": user, "items": [self._node(ITEM, i) for i in some[:limit]], "total": len(some)}

    # ------------------------------------------------------------------ what is recommended

    def recommend(
        self,
        users: Sequence[RawId],
        k: int = 10,
        items: Sequence[RawId] | None = None,
        exclude: Sequence[RawId] | None = None,
        exclude_seen: bool = True,
        without: tuple[RawId, Sequence[int]] | None = None,
    ) -> dict[str, Any]:
        """The best items for some users, as :meth:`~pyg_kgrec.Recommender.recommend` finds them.

        Args:
            users: Users.
            k: Number of items per user.
            items: Candidates; by default the catalogue.
            exclude: Items that are recommended to none of these users.
            exclude_seen: Leave out what each user has had.
            without: An item and numbers of units that :meth:`explain` gave for the one user and this item: the list
                that the user would get had these never been.

        Raises:
            Refused: If an id is unknown, ``k`` is above the number of candidates, or the units are not those of an
                explanation.
        """
        index = self._index(USER, users, "users")
        among = None if items is None else self._index(ITEM, items, "items")
        pairs = None
        if exclude:
            not_these = self._index(ITEM, exclude, "exclude")
            who = index.unique()
            pairs = torch.stack([who.repeat_interleave(not_these.numel()), not_these.repeat(who.numel())])
        number = self.inputs.num_items if among is None else among.unique().numel()
        if among is not None and not number:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "items is empty, expected at least one candidate, or null for the whole catalogue",
            )
        if k > number:
            what = "items of the catalogue" if among is None else "candidates"
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"k is {shown(str(k), 20)}, expected 1 to the {number} {what}",
            )
        if without is not None:
            found, scores = self._without(index, k, among, pairs, exclude_seen, without)
        else:
            with told():
                found, scores = self.model.recommend(
                    self.inputs, index, k, items=among, exclude=pairs, exclude_seen=exclude_seen
                )
        known = self.model.known(self.inputs)
        heard = [True] * len(users) if known.every_user else known.user[index].tolist()
        lists = [
            {"user": user, "known": is_known, "items": one}
            for user, is_known, one in zip(users, heard, self._lists(found, scores))
        ]
        return {"model": self.name, "generation": self.generation, "lists": lists}

    def _without(
        self,
        user: Tensor,
        k: int,
        among: Tensor | None,
        exclude: Tensor | None,
        exclude_seen: bool,
        without: tuple[RawId, Sequence[int]],
    ) -> tuple[Tensor, Tensor]:
        """Items ``[1, k]`` and scores ``[1, k]`` that a user would get without some units."""
        if user.numel() != 1:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"without stands beside {user.numel()} users, expected one: units are those of one user and item",
            )
        item, units = without
        explanation = self._explanation(user, self._index(ITEM, [item], "without.item"))
        told_of = explanation.told
        if told_of is None or explanation.measured is None:
            raise Refused(
                HTTPStatus.CONFLICT,
                f"this {self.name} has no parts that could be left out, expected no without",
            )
        number = len(told_of.places)
        if wrong := [unit for unit in units if not 0 <= unit < number]:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"without.units holds {shown(str(wrong[0]), 20)}, but this explanation has {number} units, "
                "expected numbers that /explain gave for this user and item",
            )
        score = explanation.scores_without(units).unsqueeze(0)
        gone = torch.zeros(self.inputs.num_items, dtype=torch.bool, device=self.inputs.device)
        if among is not None:
            gone[:] = True
            gone[among] = False
        if exclude is not None:
            gone[exclude[1]] = True
        if exclude_seen:
            gone[self.inputs.seen.of(user)] = True
        score = score.masked_fill(gone, -torch.inf)
        with predicting():
            top, found = self.model.encoding(self.inputs).best(score, k)
        return found.masked_fill(top == -torch.inf, -1), top

    def similar(self, items: Sequence[RawId], k: int = 10) -> dict[str, Any]:
        """The items most like some items.

        Raises:
            Refused: If an id is unknown, ``k`` is too large, or the model cannot tell.
        """
        if self.similar_reason:
            raise Refused(HTTPStatus.CONFLICT, self.similar_reason)
        index = self._index(ITEM, items, "items")
        self._check_k(k)
        found, scores = self.model.similar_items(self.inputs, index, k)
        lists = zip(items, self._lists(found, scores))
        return {"lists": [{"item": item, "items": one} for item, one in lists]}

    def session(self, items: Sequence[RawId], k: int = 10) -> dict[str, Any]:
        """The best next items of a session of somebody whom no store holds.

        Raises:
            Refused: If an id is unknown, ``k`` is too large, or the model cannot hear sessions.
        """
        if self.session_reason:
            raise Refused(HTTPStatus.CONFLICT, self.session_reason)
        index = self._index(ITEM, items, "items")
        self._check_k(k)
        found, scores = self._rank_session(index, k)
        return {"items": self._lists(found.unsqueeze(0), scores.unsqueeze(0))[0]}

    def _rank_session(self, item: Tensor, k: int) -> tuple[Tensor, Tensor]:
        with told():
            return self.model.recommend_session(item, k, data=self.inputs)

    # ------------------------------------------------------------------ why

    def explain(self, user: RawId, item: RawId, max_reasons: int = 5) -> dict[str, Any]:
        """Why a user gets an item: reasons that were tested by leaving them out, and a small graph of them.

        Raises:
            Refused: If an id is unknown, the model has no explanations, or it knows nothing of one of the two.
        """
        u, i = self._index(USER, [user], "user"), self._index(ITEM, [item], "item")
        explanation = self._explanation(u, i)
        reasons = explanation.reasons(max_reasons)
        graph: dict[str, Any] = {"nodes": [], "edges": []}
        if explanation.told is not None and explanation.measured is not None:
            graph = ReasonGraph(explanation.measured, explanation.told, reasons).to_dict()
        return {
            "user": user,
            "item": item,
            "item_name": self._node(ITEM, int(i))["name"],
            "generation": self.generation,
            "score": float(explanation.score),
            "rank": explanation.rank,
            "text": explanation.text(max_reasons),
            "reasons": [
                {
                    "units": list(reason.units),
                    "text": reason.text,
                    "effect": float(reason.contribution),
                    "rank_change": None if reason.rank_change is None else int(reason.rank_change),
                }
                for reason in reasons
            ],
            "graph": graph,
        }

    def _explanation(self, user: Tensor, item: Tensor) -> Explanation:
        """The explanation of a pair ``[1]`` each, kept for a while."""
        if self.explain_reason:
            raise Refused(HTTPStatus.CONFLICT, self.explain_reason)
        key = int(user), int(item)
        with self._lock:
            if key in self._explained:
                self._explained.move_to_end(key)
                return self._explained[key]
        try:
            found: Explanation = self.model.explain(self.inputs, user, item)
        except ValueError as error:  # the ids are known here, the model knows nothing of one of them
            raise Refused(HTTPStatus.CONFLICT, str(error)) from error
        with self._lock:
            self._explained[key] = found
            while len(self._explained) > _KEPT:
                self._explained.popitem(last=False)
        return found

    # ------------------------------------------------------------------ ids and names

    def _index(self, node_type: str, ids: Sequence[RawId], where: str) -> Tensor:
        """Indices of raw ids, or of positions where the store has no ids."""
        vocabulary, number = self._ids[node_type], self.inputs.num_nodes[node_type]
        if vocabulary is not None:
            known = vocabulary.positions
            index = [known.get(raw, -1) for raw in ids]
        else:
            index = [raw if isinstance(raw, int) and 0 <= raw < number else -1 for raw in ids]
        if -1 in index:
            raw = ids[index.index(-1)]
            expected = f"a position from 0 to {number - 1}"
            if vocabulary is not None:
                kind = type(vocabulary.ids[0]).__name__ if vocabulary.ids else ""
                words = {"str": ", which are strings", "int": ", which are whole numbers"}
                expected = "an id of the store" + ("" if type(raw).__name__ == kind else words.get(kind, ""))
            more = index.count(-1) - 1
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"{where} holds the unknown {node_type} {_quoted(raw)}{f' and {more} more' if more else ''}, "
                f"expected {expected}",
            )
        return torch.tensor(index, dtype=torch.long, device=self.inputs.device)

    def _check_k(self, k: int) -> None:
        if k > self.inputs.num_items:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"k is {k}, expected 1 to the {self.inputs.num_items} items of the catalogue",
            )

    def _raw(self, node_type: str, index: int) -> RawId:
        vocabulary = self._ids[node_type]
        return index if vocabulary is None else vocabulary.ids[index]

    def _node(self, node_type: str, index: int) -> dict[str, Any]:
        names = self._names[node_type]
        return {"id": self._raw(node_type, index), "name": None if names is None else str(names[index])}

    def _lists(self, items: Tensor, scores: Tensor) -> list[list[dict[str, Any]]]:
        """Ids, names and scores of items ``[B, k]``, without the padding."""
        return [
            [{**self._node(ITEM, item), "score": score} for item, score in zip(row, values) if item >= 0]
            for row, values in zip(items.tolist(), scores.tolist())
        ]

    def _texts(self, node_type: str) -> list[str]:
        number = self.inputs.num_nodes[node_type]
        nodes = (self._node(node_type, i) for i in range(number))
        return [f"{node['id']}\n{node['name'] or ''}".casefold() for node in nodes]


def _quoted(raw: RawId) -> str:
    if isinstance(raw, int) and abs(raw) >= 10**30:
        return f"with a number of {raw.bit_length()} bits"
    return shown(repr(raw), 60)
