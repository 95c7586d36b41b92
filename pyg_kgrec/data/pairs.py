"""User–item pairs as rows that can be looked up for a batch of users."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.cache import cached
from pyg_kgrec.data.schema import INTERACTS, USER


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
        degree = torch.bincount(key // stride, minlength=num_users)
        return cls(torch.cat([degree.new_zeros(1), degree.cumsum(0)]), key % stride)

    def rows(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of some users ``[B]`` as compressed rows: pointer ``[B + 1]`` and items ``[m]``, int64."""
        degree = self.start[user + 1] - self.start[user]
        return torch.cat([degree.new_zeros(1), degree.cumsum(0)]), self.select(user)[1]

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


def seen_pairs(data: HeteroData, device: torch.device) -> PairIndex:
    """What must never be recommended: the pairs in ``edge_index`` and ``seen_edge_index``, built once."""
    store = data[INTERACTS]
    parts = [store.edge_index] + ([store.seen_edge_index] if "seen_edge_index" in store else [])

    def build() -> PairIndex:
        return PairIndex.from_pairs(torch.cat([p.to(device) for p in parts], dim=1), data[USER].num_nodes)

    return cached(data, ("seen", device), parts, build)


def label_pairs(data: HeteroData, device: torch.device) -> PairIndex:
    """The pairs to be found: the positives of ``edge_label_index``, built once for the store.

    Raises:
        ValueError: If the store holds no pairs to rank.
    """
    store = data[INTERACTS]
    if "edge_label_index" not in store:
        raise ValueError(
            f"data[{INTERACTS}] has no edge_label_index to be ranked, expected a split of RandomSplit, "
            "TemporalSplit, LeaveOneOut or a reader"
        )
    parts = [store.edge_label_index] + ([store.edge_label] if "edge_label" in store else [])

    def build() -> PairIndex:
        pairs = parts[0] if len(parts) == 1 else parts[0][:, parts[1] > 0]
        return PairIndex.from_pairs(pairs.to(device), data[USER].num_nodes)

    return cached(data, ("labels", device), parts, build)
