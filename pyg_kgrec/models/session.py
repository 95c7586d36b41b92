"""What models share that read sessions: recommendations for people that training never saw."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from pyg_kgrec._checks import check_scores
from pyg_kgrec.data.store import ENTITY, ITEM
from pyg_kgrec.models.base import predicting
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linked import LinkedRecommender
from pyg_kgrec.models.newcomers import catalogue_inputs
from pyg_kgrec.nn.encoder import embed_rows
from pyg_kgrec.ops.ranking import best


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

    def rank_sessions(
        self, inputs: Inputs, sessions: list[Tensor], k: int, rows: int
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """The best next items; see the base class."""
        known = self.known(inputs)
        dtype = next(self.parameters()).dtype
        found = torch.empty(len(sessions), k, dtype=torch.long, device=self.device)
        top = torch.empty(len(sessions), k, dtype=dtype, device=self.device)
        heard = [bool(known.item[item].any()) for item in sessions]
        if not all(heard):
            count = self.session_popularity(inputs).to(dtype)
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
            top[some], found[some] = best(score, k)
        return found.masked_fill(top == -torch.inf, -1), top, heard

    def session_inputs(self) -> Inputs:
        """What is remembered of training's items, where no store is given."""
        projected = [t for t in (ITEM, ENTITY) if self.projects(t)]
        if projected:
            raise ValueError(
                f"the model was trained with features of {' and '.join(projected)} nodes, which it does not keep: "
                "expected data, a store that holds them"
            )
        return catalogue_inputs(self)

    def session_popularity(self, inputs: Inputs) -> Tensor:
        """Interactions of each item in training, ``[num_items]`` int64."""
        row = inputs.row[ITEM]
        return self.popularity if row is None else embed_rows(self.popularity.unsqueeze(1), row).squeeze(1)
