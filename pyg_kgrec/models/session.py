"""What models share that read sessions: recommendations for people that training never saw."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, cast, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_kgrec._checks import check_k, check_optional, check_scores
from pyg_kgrec._files import shown
from pyg_kgrec.data.store import ENTITY, ITEM
from pyg_kgrec.data.vocabulary import as_index, is_collection
from pyg_kgrec.models.base import Nodes, Store, node_columns, predicting
from pyg_kgrec.models.encoding import rows_at_once
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linked import LinkedRecommender
from pyg_kgrec.nn.encoder import embed_rows


class SessionRecommender(LinkedRecommender):
    """A model that scores items by the session that they would continue.

    A model fills in :meth:`session_scores` and registers the buffer ``popularity``, the number of interactions of
    each item in training, ``[num_items]`` int64.
    """

    popularity: Tensor

    @abstractmethod
    def session_scores(self, inputs: Inputs, item: Tensor) -> Tensor:
        """Scores of all items, ``[num_items]``, after a session of items ``[n]``, oldest first, at least one."""

    def scores_of_sessions(self, inputs: Inputs, sessions: list[Tensor]) -> Tensor:
        """Scores of all items after each of some sessions, ``[B, num_items]``; by default one after the other."""
        return torch.stack([self.session_scores(inputs, item) for item in sessions])

    @overload
    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = ...,
        *,
        data: Store | None = ...,
        as_frame: Literal[False] = ...,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = ...,
        *,
        data: Store | None = ...,
        as_frame: Literal[True],
        batch_size: int | None = ...,
    ) -> pd.DataFrame: ...

    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = 10,
        *,
        data: Store | None = None,
        as_frame: bool = False,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The best next items of a session that no store holds, or of several.

        Items that are unknown are left out, and a warning says which; a session of which nothing is left (or only
        items that nothing is known of) gets the most popular items of training, and a warning says so. Items of the
        session are not recommended.

        Args:
            session: Items, oldest first: raw ids or names (list, Series; a name that several items have is the
                most popular of them), or indices (tensor, array). Or several sessions, of any lengths: a list or a
                Series of such, as ``clicks.groupby('session')['item'].agg(list)`` is one.
            k: Number of items.
            data: A store, or a prepared one, where there are other items than in training, or features. The state
                of the GRU begins at 0, as nobody's features are known.
            as_frame: Return a DataFrame: ``rank`` (from 1), ``item`` (raw id), ``name`` where items have names,
                ``score``; of several sessions with ``session`` before them, the label of a Series or else the
                position in the list.
            batch_size: Sessions read at a time; by default up to 1024, and as many as have 64 MiB of scores.

        Returns:
            Items ``[k]`` int64 and scores ``[k]``, padded with −1 and −inf, ``[B, k]`` of several sessions; or a
            DataFrame.

        Raises:
            TypeError: If the session is a single item, or holds something else than items, or items beside
                sessions.
            ValueError: If ``k`` is out of range, an index is, or the model needs features and ``data`` is None.
        """
        self.check_ready()
        inputs = self._catalogue() if data is None else self.inputs(data)
        check_k(k, inputs.num_items)
        check_optional(1, batch_size=batch_size)
        several = _are_sessions(session)
        given: list[Any] = list(cast(Any, session)) if several else [session]
        read = [self._session(inputs, one) for one in given]
        number = sum(item.numel() + len(unknown) for item, unknown in read)
        self._warn_of_unknown(inputs, [unknown for _, unknown in read], number)
        items = [item.to(self.device) for item, _ in read]
        found, top = self._rank_sessions(
            inputs, items, k, rows_at_once(inputs.num_items, batch_size), several
        )
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
        return pd.DataFrame(columns | {"score": top.cpu()[mask].numpy()})

    def _rank_sessions(
        self, inputs: Inputs, sessions: list[Tensor], k: int, rows: int, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Items ``[B, k]`` and scores ``[B, k]`` of sessions of items that are known."""
        known = self.known(inputs)
        dtype = next(self.parameters()).dtype
        found = torch.empty(len(sessions), k, dtype=torch.long, device=self.device)
        top = torch.empty(len(sessions), k, dtype=dtype, device=self.device)
        heard = [bool(known.item[item].any()) for item in sessions]
        if not all(heard):
            number = heard.count(False)
            who = f"{number} of {len(heard)} sessions hold" if several else "the session holds"
            whom = " for them" if several else ""
            warnings.warn(f"{who} no known item: the most popular items are recommended{whom}", stacklevel=3)
            count = self._popularity(inputs).to(dtype)
        for row, item in enumerate(sessions):
            if not heard[row]:
                score = count.index_fill(0, item, -torch.inf)
                found[row] = score.argsort(descending=True, stable=True)[:k]
                top[row] = score[found[row]]
        model, todo = self.evaluating(), [row for row, is_heard in enumerate(heard) if is_heard]
        for first in range(0, len(todo), rows):
            some = todo[first : first + rows]
            with predicting():
                score = check_scores(model.scores_of_sessions(inputs, [sessions[row] for row in some]))
            if not known.every_item:  # below all others, as in every list
                lowest = score[:, known.item].amin(dim=1, keepdim=True)
                score = torch.where(known.item, score, lowest - (1 + lowest.abs()))
            for place, row in enumerate(some):
                score[place, sessions[row]] = -torch.inf
            top[some], found[some] = score.topk(k, dim=1)
        return found.masked_fill(top == -torch.inf, -1), top

    def _catalogue(self) -> Inputs:
        """What is remembered of training's items, where no store is given."""
        projected = [t for t in (ITEM, ENTITY) if self.projects(t)]
        if projected:
            raise ValueError(
                f"the model was trained with features of {' and '.join(projected)} nodes, which it does not keep: "
                "expected data, a store that holds them"
            )
        catalogue = self.signature.catalogue
        known: Inputs | None = self._prepared.get(catalogue)
        if known is None or known.device != self.device:
            with predicting():
                known = self._prepared[catalogue] = Inputs.read(self, catalogue)
        return known

    def _popularity(self, inputs: Inputs) -> Tensor:
        """Interactions of each item in training, ``[num_items]`` int64."""
        row = inputs.row[ITEM]
        return self.popularity if row is None else embed_rows(self.popularity.unsqueeze(1), row).squeeze(1)

    def _session(self, inputs: Inputs, session: Nodes) -> tuple[Tensor, list[str]]:
        """Indices of the items of a session, those that are known, and the others as a message quotes them."""
        if isinstance(session, Tensor) or (
            isinstance(session, np.ndarray) and session.dtype.kind not in "OUT"
        ):
            if 0 in session.shape:  # whatever its dtype
                return torch.empty(0, dtype=torch.long), []
            return as_index(session, inputs.vocabulary(ITEM), inputs.num_items, ITEM), []
        if not is_collection(session) or isinstance(session, set | frozenset):
            raise TypeError(
                f"the session is a {type(session).__name__}, expected a list of raw ids or names, or a tensor of "
                "indices"
            )
        given: list[Any] = list(cast(Any, session))
        strange = [x for x in given if isinstance(x, bool) or not isinstance(x, str | int | np.integer)]
        if strange:
            raise TypeError(
                f"the session holds a {type(strange[0]).__name__}, expected raw ids or names of items"
            )
        ids, names = self._words(inputs)
        if given and not ids and not names:
            raise ValueError(
                "a list holds raw ids or names of items but there are none here, expected a tensor of indices"
            )
        index = [ids.get(x, names.get(x.strip().casefold(), -1) if isinstance(x, str) else -1) for x in given]
        unknown = [repr(x) for x, i in zip(given, index) if i < 0]
        return torch.tensor([i for i in index if i >= 0], dtype=torch.long), unknown

    def _warn_of_unknown(self, inputs: Inputs, unknown: list[list[str]], number: int) -> None:
        """One warning of all items that sessions hold and nothing else knows, of so many in all."""
        every = [text for of_session in unknown for text in of_session]
        if not every:
            return
        ids, _ = self._words(inputs)
        different = list(dict.fromkeys(every))
        named = ", ".join(shown(text, 60) for text in different[:3]) + (", …" if len(different) > 3 else "")
        kind = f" (raw ids are {type(next(iter(ids))).__name__})" if ids else ""
        which = "the session" if len(unknown) == 1 else f"{len(unknown)} sessions"
        warnings.warn(
            f"{len(every)} of {number} items of {which} are unknown ({named}) and left out{kind}",
            stacklevel=3,
        )

    def _words(self, inputs: Inputs) -> tuple[dict[str | int, int], dict[str, int]]:
        """Items by raw id; by name without regard to case, of several the most popular."""
        ids, names = inputs.data[ITEM].get("id"), inputs.data[ITEM].get("name")

        def build() -> tuple[dict[str | int, int], dict[str, int]]:
            popular_last = self._popularity(inputs).argsort(descending=True, stable=True).flip(0).tolist()
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
