"""The interactions of a store: what was seen, what is to be found, what is to be learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

from pyg_kgrec.data.store import INTERACTS, USER


@dataclass(frozen=True)
class PairIndex:
    """Pairs sorted by user (CSR): the items of user u are ``item[start[u]:start[u + 1]]``.

    Attributes:
        start: ``[num_users + 1]`` int64.
        item: ``[n]`` int64, in order of user, then item; a pair occurs once.
    """

    start: Tensor
    item: Tensor

    @classmethod
    def from_pairs(cls, edge_index: Tensor, num_users: int) -> PairIndex:
        """Builds the index from pairs ``[2, n]`` int64; duplicates count once."""
        stride = int(edge_index[1].max()) + 1 if edge_index.numel() else 1
        key = torch.unique(edge_index[0] * stride + edge_index[1])
        return cls(cumsum(torch.bincount(key // stride, minlength=num_users)), key % stride)

    def of(self, user: Tensor) -> Tensor:
        """The items of one user ``[1]``, ``[m]`` int64."""
        first = int(user)
        start, end = self.start[first : first + 2].tolist()
        return self.item[start:end]

    def rows(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of some users ``[B]`` as compressed rows: pointer ``[B + 1]`` and items ``[m]``, int64."""
        return cumsum(self.start[user + 1] - self.start[user]), self.select(user)[1]

    def within(self, chosen: Tensor) -> PairIndex:
        """The pairs with some items ``[num_items]`` bool, which are numbered among these."""
        keep, place = chosen[self.item], chosen.cumsum(0) - 1
        return PairIndex(cumsum(keep.long())[self.start], place[self.item[keep]])

    def select(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """All pairs of some users.

        Args:
            user: ``[B]`` int64.

        Returns:
            Position in ``user`` and item of each pair, both ``[m]`` int64.
        """
        start = self.start[user]
        degree = self.start[user + 1] - start
        row = torch.repeat_interleave(torch.arange(user.numel(), device=user.device), degree)
        offset = torch.arange(row.numel(), device=user.device) - (degree.cumsum(0) - degree)[row]
        return row, self.item[start[row] + offset]

    def partners(
        self, user: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """All pairs of some users (all if None) as :meth:`select` gives them, or one random pair of each.

        Args:
            user: ``[B]`` int64.
            generator: Source of randomness of a random pair; all pairs if None.
        """
        if user is None:
            user = torch.arange(self.start.numel() - 1, device=self.start.device)
        if generator is None:
            return self.select(user)
        start = self.start[user]
        degree = self.start[user + 1] - start
        row = (degree > 0).nonzero().flatten()
        noise = torch.rand(row.shape, dtype=torch.float64, device=row.device, generator=generator)
        return row, self.item[start[row] + (noise * degree[row]).long()]


def seen_pairs(data: HeteroData, device: torch.device) -> PairIndex:
    """What must never be recommended: the pairs in ``edge_index`` and ``seen_edge_index``."""
    store = data[INTERACTS]
    parts = [store.edge_index] + ([store.seen_edge_index] if "seen_edge_index" in store else [])
    return PairIndex.from_pairs(torch.cat([p.to(device) for p in parts], dim=1), data[USER].num_nodes)


def label_pairs(data: HeteroData, device: torch.device) -> PairIndex:
    """The pairs to be found: the positives of ``edge_label_index``.

    Raises:
        ValueError: If the store holds no pairs to rank.
    """
    store = data[INTERACTS]
    if "edge_label_index" not in store:
        raise ValueError(
            f"data[{INTERACTS}] has no edge_label_index to be ranked, expected a split of RandomSplit, "
            "TemporalSplit, LeaveOneOut or a reader"
        )
    pairs = store.edge_label_index
    if "edge_label" in store:
        pairs = pairs[:, store.edge_label > 0]
    return PairIndex.from_pairs(pairs.to(device), data[USER].num_nodes)


def positive_pairs(data: HeteroData) -> Tensor:
    """The pairs to learn, ``[2, n]``: the positives of ``edge_label_index``, or all of ``edge_index`` without it.

    Raises:
        ValueError: If there are none.
    """
    store = data[INTERACTS]
    pairs: Tensor = store.edge_label_index if "edge_label_index" in store else store.edge_index
    if "edge_label_index" in store and "edge_label" in store:
        pairs = pairs[:, store.edge_label > 0]
    if pairs.size(1) == 0:
        raise ValueError(
            "edge_label_index of train holds no positive pair, expected at least one to learn from"
        )
    return pairs


def labelled_pairs(data: HeteroData, name: str = "data") -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and labels (0 or 1) of ``edge_label_index``, ``[n]`` int64 each.

    Args:
        data: The store.
        name: Of the argument, for messages.

    Raises:
        ValueError: If there are no labels, or not both kinds of them.
    """
    store = data[INTERACTS]
    if "edge_label" not in store:
        raise ValueError(
            f"{name}[{INTERACTS}] has no edge_label, expected pairs labelled 0 and 1 (see ClickThroughSplit)"
        )
    label = store.edge_label
    for kind in (0, 1):
        if not bool((label == kind).any()):
            raise ValueError(
                f"{name}[{INTERACTS}].edge_label holds one kind of label, expected both 0 and 1: no pair is "
                f"labelled {kind}"
            )
    return store.edge_label_index[0], store.edge_label_index[1], label.long()
