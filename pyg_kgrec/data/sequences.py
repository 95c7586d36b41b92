"""Each user's items in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.cache import cached
from pyg_kgrec.data.store import INTERACTS, USER


@dataclass(frozen=True)
class Sequences:
    """Items by user, oldest first: those of user u are ``item[start[u]:start[u + 1]]``.

    Attributes:
        start: ``[num_users + 1]`` int64.
        item: ``[n]`` int64.
    """

    start: Tensor
    item: Tensor

    @classmethod
    def from_store(cls, data: HeteroData, device: torch.device, seen: bool = True) -> Sequences:
        """What every user has had so far: ``edge_index`` and, with ``seen``, ``seen_edge_index``; built once.

        Interactions of one user at the same time stay in the order of the rows, those of ``seen_edge_index``
        (in a test store the validation interactions) after those of ``edge_index``.

        Raises:
            ValueError: If the interactions have no time.
        """
        store = data[INTERACTS]
        parts = [(store.edge_index, _time(data, "time"))]
        if seen and "seen_edge_index" in store:
            parts.append((store.seen_edge_index, _time(data, "seen_time")))

        def build() -> Sequences:
            user, item = torch.cat([pairs.to(device) for pairs, _ in parts], dim=1)
            when = torch.cat([time.to(device) for _, time in parts])
            order = torch.argsort(when, stable=True)
            order = order[torch.argsort(user[order], stable=True)]
            count = torch.bincount(user, minlength=data[USER].num_nodes)
            return cls(torch.cat([count.new_zeros(1), count.cumsum(0)]), item[order])

        inputs = [tensor for part in parts for tensor in part]
        return cached(data, ("sequences", device, seen), [*inputs, data[USER].num_nodes], build)

    def last(self, user: Tensor, max_length: int) -> Tensor:
        """The latest items of some users.

        Args:
            user: ``[B]`` int64.
            max_length: Most items of a user.

        Returns:
            ``[B, L]`` int64, oldest first, padded with −1 on the right; L is the longest row's length, at least 1.
        """
        return self._rows(self.start[user], self.start[user + 1], max_length)

    def windows(self, max_length: int) -> tuple[Tensor, Tensor]:
        """Pieces in which every item but a user's first is to be told from those before it exactly once.

        They end at a user's last item and go back in steps of ``max_length``; each begins with the item
        before its first target.

        Args:
            max_length: Most items that a piece tells from, and most that it has to be told.

        Returns:
            ``[m, L]`` int64 with L at most ``max_length + 1``, padded with −1 on the right, and whose they are,
            ``[m]`` int64. A user with one item has none.
        """
        count = (self.start.diff() - 1).clamp(min=0)
        pieces = (count + max_length - 1) // max_length
        user = torch.arange(count.numel(), device=count.device).repeat_interleave(pieces)
        nth = torch.arange(user.numel(), device=user.device) - (pieces.cumsum(0) - pieces)[user]
        end = self.start[user + 1] - nth * max_length
        return self._rows(self.start[user], end, max_length + 1), user

    def before(self, user: Tensor, item: Tensor, max_length: int) -> Tensor:
        """What users had before they had an item: all of theirs where they never had it.

        Args:
            user: ``[B]`` int64.
            item: ``[B]`` int64.
            max_length: Most items of a user.

        Returns:
            ``[B, L]`` int64 as :meth:`last` gives it; a row may be all padding.
        """
        degree = self.start[user + 1] - self.start[user]
        row = torch.arange(user.numel(), device=user.device).repeat_interleave(degree)
        place = torch.arange(row.numel(), device=user.device) - (degree.cumsum(0) - degree)[row]
        same = self.item[self.start[user][row] + place] == item[row]
        place = torch.where(same, place, degree[row])
        found = degree.scatter_reduce(0, row, place, "amin", include_self=True)
        return self._rows(self.start[user], self.start[user] + found, max_length)

    def _rows(self, start: Tensor, end: Tensor, most: int) -> Tensor:
        """Items ``max(start, end - most) … end``, ``[B, L]``."""
        start = torch.maximum(start, end - most)
        length = max(int((end - start).max()), 1) if end.numel() else 1
        place = start.unsqueeze(1) + torch.arange(length, device=start.device)
        inside = place < end.unsqueeze(1)
        if self.item.numel() == 0:
            return torch.full_like(place, -1)
        return torch.where(inside, self.item[place.clamp(max=self.item.numel() - 1)], -1)


def _time(data: HeteroData, name: str) -> Tensor:
    time: Tensor | None = data[INTERACTS].get(name)
    if time is None:
        raise ValueError(
            f"data[{', '.join(map(repr, INTERACTS))}].{name} is missing, expected the time of each interaction: "
            "this model reads every user's items in their order"
        )
    return time
