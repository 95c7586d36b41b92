"""Each user's items in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

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
        """What every user has had so far: ``edge_index`` and, with ``seen``, ``seen_edge_index``.

        Interactions of one user at the same time stay in the order of the rows, those of ``seen_edge_index``
        (in a test store the validation interactions) after those of ``edge_index``.

        Raises:
            ValueError: If the interactions have no time.
        """
        parts = check_times(data, seen)
        user, item = torch.cat([pairs.to(device) for pairs, _ in parts], dim=1)
        when = torch.cat([time.to(device) for _, time in parts])
        order = torch.argsort(when, stable=True)
        order = order[torch.argsort(user[order], stable=True)]
        return cls(cumsum(torch.bincount(user, minlength=data[USER].num_nodes)), item[order])

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
        """Windows in which each item except a user's first is a target exactly once.

        They end at the user's last item and go back in steps of ``max_length``; each begins with the item
        before its first target.

        Args:
            max_length: Largest number of inputs, and of targets, per window.

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

    def _rows(self, start: Tensor, end: Tensor, most: int) -> Tensor:
        """Items ``max(start, end - most) … end``, ``[B, L]``."""
        start = torch.maximum(start, end - most)
        length = max(int((end - start).max()), 1) if end.numel() else 1
        index = start.unsqueeze(1) + torch.arange(length, device=start.device)
        inside = index < end.unsqueeze(1)
        if self.item.numel() == 0:
            return torch.full_like(index, -1)
        return torch.where(inside, self.item[index.clamp(max=self.item.numel() - 1)], -1)


def check_times(data: HeteroData, seen: bool = True) -> list[tuple[Tensor, Tensor]]:
    """The interactions and their times: of ``edge_index`` and, with ``seen``, of ``seen_edge_index``.

    Raises:
        ValueError: If the interactions have no time.
    """
    store, parts = data[INTERACTS], []
    for pairs, time in (("edge_index", "time"), ("seen_edge_index", "seen_time")):
        if pairs not in store or (pairs != "edge_index" and not seen):
            continue
        if store.get(time) is None:
            raise ValueError(
                f"data[{', '.join(map(repr, INTERACTS))}].{time} is missing, expected the time of each "
                "interaction: this model reads every user's items in their order"
            )
        parts.append((store[pairs], store[time]))
    return parts
