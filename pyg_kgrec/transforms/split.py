"""Splits per user, each in the form of PyG's :class:`~torch_geometric.transforms.RandomLinkSplit`."""

from __future__ import annotations

from typing import Literal, get_args

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_choices, check_held_out, check_seed
from pyg_kgrec.data.splitting import (
    apply_split,
    check_unsplit,
    cut_split,
    leave_one_out_split,
    random_split,
    split_by_label,
    split_by_time,
    temporal_split,
    told_of_empty,
)
from pyg_kgrec.data.store import INTERACTS, validate

__all__ = ["LeaveOneOut", "RandomSplit", "TemporalSplit", "apply_split"]

Split = tuple[HeteroData, HeteroData, HeteroData]
Cut = Literal["user", "all"]


@functional_transform("random_split")
class RandomSplit(BaseTransform):
    r"""Holds out a random share of every user's interactions.

    A user with n interactions gives :math:`\lfloor n \cdot test + \tfrac12 \rfloor` of them to test and
    :math:`\lfloor n \cdot val + \tfrac12 \rfloor` to validation, less where that would leave nothing: every
    user keeps at least one interaction for training (test is served before validation). Where a share above 0
    comes to nothing for every user, a warning says so.

    The result is ``(train, val, test)``. All three hold the training interactions as ``edge_index``;
    ``edge_label_index`` holds the pairs to learn or to rank, and the test store's ``seen_edge_index`` the
    validation pairs. In a store with labels the pairs labelled 1 are split as if there were no others, and those
    labelled 0 by the same rule; ``edge_label`` goes with them, and ``seen_edge_index`` and ``edge_index`` hold
    pairs labelled 1 alone. Nodes and knowledge graph are shared, not copied, and the order of the rows is
    kept. The same seed gives the same split; PyTorch's global random state is neither read nor changed.

    Args:
        val: The share of each user's interactions for validation, in [0, 1).
        test: The share for test, in [0, 1); together with ``val`` below 1.
        seed: The seed of the split.

    Raises:
        TypeError: If a share is no number, or the seed no whole one.
        ValueError: If the shares or the seed are out of range. When called: if the store is not valid or split
            already.
    """

    def __init__(self, val: float = 0.1, test: float = 0.1, seed: int = 0) -> None:
        check_held_out("interactions", val, test)
        self.val, self.test, self.seed = val, test, check_seed(seed)

    def forward(self, data: HeteroData) -> Split:
        """Splits ``data`` into ``(train, val, test)``."""
        validate(data)
        check_unsplit(data)
        split = split_by_label(data, lambda user: random_split(user, self.val, self.test, self.seed))
        return told_of_empty(apply_split(data, split), self, self.val > 0, self.test > 0)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(val={self.val}, test={self.test}, seed={self.seed})"


@functional_transform("temporal_split")
class TemporalSplit(BaseTransform):
    """Holds out the latest interactions: the last for test, those before them for validation.

    With ``cut='user'`` these are the latest share of every user's interactions. Numbers are rounded as in
    :class:`RandomSplit`; interactions of one user at the same time stay in the order of the rows.

    With ``cut='all'`` one moment parts training from validation and another one validation from test, for all
    users, so that nothing is learned from what happened after what is to be found. Interactions at the same
    time stay together: each moment is the one nearest to the asked share of all interactions that leaves some
    for training. Users and items whose first interaction is later have none in training: their pairs stay in
    validation and test, where models that cannot score them rank by popularity (``model.strangers()`` says
    which), and :func:`~pyg_kgrec.data.check_split` counts them.

    The result has the form of :class:`RandomSplit`. In the test store the validation interactions, which come
    before the test's, are at hand as ``seen_edge_index`` with ``seen_time``. In a store with labels a pair
    labelled 0 goes where its time falls among the pairs labelled 1 (the user's, or all).

    Args:
        val: The share of each user's interactions, or of all, for validation, in [0, 1).
        test: The share for test, in [0, 1); together with ``val`` below 1.
        cut: ``'user'`` for a cut in time per user, ``'all'`` for one for all users.

    Raises:
        TypeError: If a share is no number.
        ValueError: If the shares are out of range or ``cut`` is neither. When called: if the store is not valid,
            split already, or has no ``time``, or if too few different times leave a part empty.
    """

    def __init__(self, val: float = 0.1, test: float = 0.1, cut: Cut = "user") -> None:
        check_held_out("interactions", val, test)
        check_choices(cut=(cut, get_args(Cut)))
        self.val, self.test, self.cut = val, test, cut

    def forward(self, data: HeteroData) -> Split:
        """Splits ``data`` into ``(train, val, test)``."""
        _check_time(data, self)
        rule = temporal_split if self.cut == "user" else cut_split
        split = split_by_time(
            data, lambda user, time: rule(user, time, self.val, self.test), per_user=self.cut == "user"
        )
        return told_of_empty(apply_split(data, split), self, self.val > 0, self.test > 0)

    def __repr__(self) -> str:
        cut = "" if self.cut == "user" else f", cut={self.cut!r}"
        return f"{self.__class__.__name__}(val={self.val}, test={self.test}{cut})"


@functional_transform("leave_one_out")
class LeaveOneOut(BaseTransform):
    """Holds out every user's last interaction for test and the last but one for validation.

    A user with fewer than three interactions keeps them all for training. The result has the form of
    :class:`RandomSplit`; interactions of one user at the same time stay in the order of the rows. In a store
    with labels the pairs labelled 1 are counted, and one labelled 0 goes where its time falls among them.

    Raises:
        ValueError: When called: if the store is not valid, split already, or has no ``time``.
    """

    def forward(self, data: HeteroData) -> Split:
        """Splits ``data`` into ``(train, val, test)``."""
        _check_time(data, self)
        return told_of_empty(apply_split(data, split_by_time(data, leave_one_out_split)), self, True, True)


def _check_time(data: HeteroData, transform: BaseTransform) -> None:
    validate(data)
    check_unsplit(data)
    if data[INTERACTS].get("time") is None:
        raise ValueError(
            "data['user', 'interacts', 'item'].time is missing, "
            f"expected the time of each interaction for {transform.__class__.__name__} to sort by "
            "(from_pandas(…, time_col=…) reads it)."
        )
