"""Labelled pairs for click-through prediction."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_held_out, check_seed
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.splitting import (
    TEST,
    TRAIN,
    VAL,
    check_unsplit,
    is_labelled,
    told_of_empty,
    train_collaborative,
)
from pyg_kgrec.data.store import INTERACTS, ITEM, USER, validate

_BLOCK = 2**24  # numbers drawn at a time


@functional_transform("click_through_split")
class ClickThroughSplit(BaseTransform):
    r"""Draws as many unwatched items for every user as the user has positives, and splits all labelled pairs.

    The negatives of a user are different items, drawn alike among those without an interaction. Positives
    (label 1) and negatives (label 0) together go at random to train, validation and test, ``val`` and
    ``test`` of all pairs, rounded. This is the preprocessing of the MKR paper (Wang et al., WWW 2019, with
    6 : 2 : 2). In a store that has labels of its own (``label_col=`` of the readers) none is drawn: its
    labelled pairs are split.

    The result is ``(train, val, test)``. All three hold train's *positives* as ``edge_index``;
    ``edge_label_index`` holds the labelled pairs of the part and ``edge_label`` their labels (float32); the
    test store's ``seen_edge_index`` holds the positives of validation. Nodes and knowledge graph are shared.
    The same seed gives the same split; PyTorch's global random state is neither read nor changed.

    Args:
        val: The share of the labelled pairs for validation, in [0, 1).
        test: The share for test, in [0, 1); together with ``val`` below 1.
        seed: The seed of negatives and split.

    Raises:
        TypeError: If a share is no number, or the seed no whole one.
        ValueError: If the shares or the seed are out of range. When called: if the store is not valid or split
            already, or a user has had more than half of the items, so that not enough are left.
    """

    def __init__(self, val: float = 0.2, test: float = 0.2, seed: int = 0) -> None:
        check_held_out("pairs", val, test)
        self.val, self.test, self.seed = val, test, check_seed(seed)

    def forward(self, data: HeteroData) -> tuple[HeteroData, HeteroData, HeteroData]:
        """Splits ``data`` into ``(train, val, test)``."""
        validate(data)
        check_unsplit(data)
        generator = torch.Generator().manual_seed(self.seed)
        if is_labelled(data):
            pairs, label = data[INTERACTS].edge_label_index.cpu(), data[INTERACTS].edge_label.cpu().float()
        else:
            pairs, label = _with_negatives(data, generator)

        num_val, num_test = (round(share * label.numel()) for share in (self.val, self.test))
        split = torch.full((label.numel(),), TRAIN)
        order = torch.randperm(label.numel(), generator=generator)
        split[order[:num_test]] = TEST
        split[order[num_test : num_test + num_val]] = VAL
        device = data[INTERACTS].edge_index.device
        liked = [pairs[:, (split == part) & (label == 1)].to(device) for part in (TRAIN, VAL)]
        if liked[0].size(1) == 0:
            raise ValueError(
                f"the {label.numel()} labelled pairs leave no positive for training, expected at least one."
            )
        parts, data = [], indexable(data)
        for part in (TRAIN, VAL, TEST):
            out = copy.copy(data)
            for key in [k for k in out[INTERACTS] if k != "edge_index"]:
                del out[INTERACTS][key]  # a column of all interactions fits none of the parts
            out[INTERACTS].update(
                {
                    "edge_index": liked[0],
                    "edge_label_index": pairs[:, split == part].to(device),
                    "edge_label": label[split == part].to(device),
                }
            )
            train_collaborative(out)
            parts.append(out)
        parts[TEST][INTERACTS].seen_edge_index = liked[1]
        return told_of_empty((parts[0], parts[1], parts[2]), self, self.val > 0, self.test > 0)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(val={self.val}, test={self.test}, seed={self.seed})"


def _with_negatives(data: HeteroData, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All interactions and as many unwatched items per user, ``[2, 2n]``, and their labels."""
    positive = PairIndex.from_pairs(data[INTERACTS].edge_index.cpu(), data[USER].num_nodes)
    user = torch.arange(data[USER].num_nodes).repeat_interleave(positive.start.diff())
    negative = draw_unwatched(positive, data[ITEM].num_nodes, generator)
    pairs = torch.cat([torch.stack([user, positive.item]), torch.stack([user, negative])], dim=1)
    label = torch.ones(pairs.size(1))
    label[user.numel() :] = 0
    return pairs, label


def draw_unwatched(positive: PairIndex, num_items: int, generator: torch.Generator) -> Tensor:
    """As many different items outside a user's positives as there are positives: ``[n]`` in the order of users.

    Raises:
        ValueError: If a user has too few items left.
    """
    degree = positive.start.diff()
    short = (2 * degree > num_items).nonzero().flatten()
    if short.numel():
        user = int(short[0])
        raise ValueError(
            f"user {user} has {int(degree[user])} of {num_items} items, expected at least as many items left to be "
            "drawn as negatives."
        )
    drawn = []
    for users in torch.arange(degree.numel()).split(max(1, _BLOCK // num_items)):
        key = torch.rand(users.numel(), num_items, dtype=torch.float32, generator=generator)
        key[positive.select(users)] = 2.0
        order = key.argsort(dim=1)[:, : int(degree[users].max())]
        drawn.append(order[torch.arange(order.size(1)) < degree[users].unsqueeze(1)])
    return torch.cat(drawn)
