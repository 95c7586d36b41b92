"""What models share that read sessions: recommendations for people that training never saw."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Literal, cast, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_kgrec._checks import check_k, check_scores
from pyg_kgrec.data.store import ENTITY, ITEM
from pyg_kgrec.data.vocabulary import as_index, is_collection
from pyg_kgrec.models.base import Nodes, Store, item_columns, predicting
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

    @overload
    def recommend_session(
        self, session: Nodes, k: int = ..., *, data: Store | None = ..., as_frame: Literal[False] = ...
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def recommend_session(
        self, session: Nodes, k: int = ..., *, data: Store | None = ..., as_frame: Literal[True]
    ) -> pd.DataFrame: ...

    def recommend_session(
        self, session: Nodes, k: int = 10, *, data: Store | None = None, as_frame: bool = False
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The best next items of a session that no store holds.

        Items that are unknown are left out, and a warning says which; a session of which nothing is left (or only
        items that nothing is known of) gets the most popular items of training, and a warning says so. Items of the
        session are not recommended.

        Args:
            session: Items, oldest first: raw ids or names (list, Series; a name that several items have is the
                most popular of them), or indices (tensor, array).
            k: Number of items.
            data: A store, or a prepared one, where there are other items than in training, or features. The state
                of the GRU begins at 0, as nobody's features are known.
            as_frame: Return a DataFrame: ``rank`` (from 1), ``item`` (raw id), ``name`` where items have names,
                ``score``.

        Returns:
            Items ``[k]`` int64 and scores ``[k]``, padded with −1 and −inf; or a DataFrame.

        Raises:
            TypeError: If the session is a single item, or holds something else than items.
            ValueError: If ``k`` is out of range, an index is, or the model needs features and ``data`` is None.
        """
        self.check_ready()
        inputs = self._catalogue() if data is None else self.inputs(data)
        check_k(k, inputs.num_items)
        item = self._session(inputs, session).to(self.device)
        known = self.known(inputs)
        if not bool(known.item[item].any()):
            warnings.warn(
                "the session holds no known item: the most popular items are recommended", stacklevel=2
            )
            count = self._popularity(inputs)
            found = count.argsort(descending=True, stable=True)[:k]
            top = count[found].to(next(self.parameters()).dtype)
        else:
            with predicting():
                score = check_scores(self.evaluating().session_scores(inputs, item))
            if not known.every_item:  # below all others, as in every list
                lowest = score[known.item].min()
                score[~known.item] = lowest - (1 + lowest.abs())
            score[item] = -torch.inf
            top, found = score.topk(k)
        found = found.masked_fill(top == -torch.inf, -1)
        if not as_frame:
            return found, top
        mask = (found >= 0).cpu()
        found, top = found.cpu()[mask], top.cpu()[mask]
        columns: dict[str, Any] = {"rank": np.arange(1, found.numel() + 1)}
        return pd.DataFrame(columns | item_columns(inputs, found.tolist(), ITEM) | {"score": top.numpy()})

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

    def _session(self, inputs: Inputs, session: Nodes) -> Tensor:
        """Indices of the items of a session, those that are known."""
        if isinstance(session, Tensor) or (
            isinstance(session, np.ndarray) and session.dtype.kind not in "OUT"
        ):
            if 0 in session.shape:  # whatever its dtype
                return torch.empty(0, dtype=torch.long)
            return as_index(session, inputs.vocabulary(ITEM), inputs.num_items, ITEM)
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
        unknown = list(dict.fromkeys(repr(x) for x, i in zip(given, index) if i < 0))
        if unknown:
            named = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            kind = f" (raw ids are {type(next(iter(ids))).__name__})" if ids else ""
            warnings.warn(
                f"{sum(i < 0 for i in index)} of {len(given)} items of the session are unknown ({named}) and left "
                f"out{kind}",
                stacklevel=3,
            )
        return torch.tensor([i for i in index if i >= 0], dtype=torch.long)

    def _words(self, inputs: Inputs) -> tuple[dict[str | int, int], dict[str, int]]:
        """Items by raw id; by name without regard to case, of several the most popular."""
        ids, names = inputs.data[ITEM].get("id"), inputs.data[ITEM].get("name")

        def build() -> tuple[dict[str | int, int], dict[str, int]]:
            popular_last = self._popularity(inputs).argsort(descending=True, stable=True).flip(0).tolist()
            by_name = {names[i].strip().casefold(): i for i in popular_last} if names is not None else {}
            return {raw: i for i, raw in enumerate(ids or [])}, by_name

        return inputs.part("session words", build)
