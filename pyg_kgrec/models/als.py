"""Matrix factorisation by alternating least squares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_at_least, check_channels
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linear import Columns, SolvedRecommender
from pyg_kgrec.models.search import Grid, Search, alone, as_setting, by_coordinates, middle, read_grid
from pyg_kgrec.models.signature import StoreSignature

L2: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
UNOBSERVED: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
_BLOCK: Final = 2**23  # numbers gathered at a time


@dataclass(frozen=True)
class Factors(DotProduct):
    """Embeddings of users, solved from their histories, and of items.

    Attributes:
        normal: The Gram matrix of the items of training, times the weight of what was not observed, ``[d, d]``.
        table: The items of training, ``[n, d]``.
        history: The items of each user, as rows of that table.
        l2: Of each user, ``[num_users]``.
        columns: The store's items as rows of the table.
    """

    normal: Tensor
    table: Tensor
    history: PairIndex
    l2: Tensor
    columns: Columns

    by_pair: float
    """What one more item of a history adds to l2."""

    def _systems(self, user: Tensor) -> Tensor:
        """What users' embeddings solve, ``[B, d, d]`` float64."""
        table = self.table.double()
        parts = [table[self.history.of(one)] for one in user.split(1)]
        system = torch.stack([y.t() @ y for y in parts]) if parts else table.new_empty(0, *self.normal.shape)
        system = system + self.normal.double()
        system.diagonal(dim1=1, dim2=2).add_(self.l2[user].double().unsqueeze(1))
        return system

    def shares(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items of the users' histories, and what each adds to the sum that a score is."""
        pair, row = self.history.select(user)
        some, place = user.unique(return_inverse=True)
        factor = torch.linalg.cholesky(self._systems(some))[place]
        weight = torch.cholesky_solve(self.item[item].double().unsqueeze(2), factor).squeeze(2)
        return pair, self.columns.place(row), (self.table[row].double() * weight[pair]).sum(1).float()

    def without(self, user: Tensor, item: Tensor, start: Tensor, row: Tensor, every: bool) -> Tensor:
        """Scores of users solved anew without some items of their histories; one without any left scores 0.

        Args:
            user: User of each removal, ``[R]`` int64.
            item: Its item, ``[R]`` int64.
            start: Removal r leaves out ``row[start[r]:start[r + 1]]``, ``[R + 1]`` int64.
            row: Items of the history as rows of training, ``[m]`` int64.
            every: Score all items.

        Returns:
            ``[R]`` float, or ``[R, num_items]``.
        """
        table, channels = self.table.double(), self.table.size(1)
        some, place = user.unique(return_inverse=True)
        whole = self._systems(some)
        pair, mine = self.history.select(some)
        total = table.new_zeros(some.numel(), channels).index_add_(0, pair, table[mine])
        left = (self.history.start.diff()[user] - start.diff()).clamp(min=0)
        out = []
        for block in torch.arange(user.numel(), device=user.device).split(max(1, _BLOCK // channels**2 // 2)):
            first, last = int(start[block[0]]), int(start[block[-1] + 1])
            y = table[row[first:last]]
            number = (torch.arange(block.numel(), device=user.device)).repeat_interleave(start.diff()[block])
            rest = total[place[block]].index_add(0, number, y, alpha=-1)
            system = whole[place[block]]
            for part in torch.arange(y.size(0), device=user.device).split(block.numel()):
                outer = y[part].unsqueeze(2) * y[part].unsqueeze(1)
                system = system.index_add(0, number[part], outer, alpha=-1)
            fewer = self.by_pair * start.diff()[block].double()
            system.diagonal(dim1=1, dim2=2).sub_(fewer.unsqueeze(1))
            # Without a history there is nothing to be solved.
            alone = left[block] == 0
            system[alone] = torch.eye(channels, dtype=system.dtype, device=system.device)
            solved = torch.cholesky_solve(rest.unsqueeze(2), torch.linalg.cholesky(system)).squeeze(2)
            solved = solved.masked_fill(alone.unsqueeze(1), 0).to(self.item.dtype)
            out.append(solved @ self.item.t() if every else (solved * self.item[item[block]]).sum(1))
        return torch.cat(out)


class ALS(SolvedRecommender):
    r"""Matrix factorisation by alternating least squares, :math:`\hat{y}_{ui} = \mathbf{e}_u \cdot \mathbf{e}_i`.

    .. math::
        \min_{\mathbf{e}} \sum_{(u,i) \in \mathcal{S}} (1 - \hat{y}_{ui})^2 + \alpha_0 \sum_{u,i} \hat{y}_{ui}^2
        + \lambda \Big( \sum_u (|\mathcal{H}_u| + \alpha_0 |\mathcal{I}|) \|\mathbf{e}_u\|^2
        + \sum_i (|\mathcal{U}_i| + \alpha_0 |\mathcal{U}|) \|\mathbf{e}_i\|^2 \Big)

    Hu et al., "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, with the weight of what was not
    observed and the regularisation by frequency of Rendle et al., "Revisiting the Performance of iALS on Item
    Recommendation Benchmarks", RecSys 2022.

    :func:`pyg_kgrec.fit` solves users and items in turn, exactly and many at a time (batched Cholesky), from the
    item embeddings that the model began with, which the global seed draws. Only those of items are kept: a user's
    is the solution for the history in the store's ``edge_index``, so that a stranger with a history is heard. An
    explanation is exact for the same reason: :math:`\mathbf{e}_u` is a sum over the history.

    Args:
        data: The training store.
        hidden_channels: Size of the embeddings.
        l2: λ, above 0; a list to choose from; None: from 0.001 to 0.3 (0.03 without a validation store).
        unobserved_weight: α₀, above 0; a list to choose from; None: from 0.01 to 1 (0.1 without a validation
            store).
        num_sweeps: How often users and items are solved in turn.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range or a list is empty.
    """

    names = ("l2", "unobserved_weight")
    shown = ("hidden_channels",)
    item: Tensor

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        l2: Grid | None = None,
        unobserved_weight: Grid | None = None,
        *,
        num_sweeps: int = 16,
    ) -> None:
        super().__init__(data)
        check_channels(hidden_channels=hidden_channels)
        check_at_least(1, num_sweeps=num_sweeps)
        self._l2 = list(L2) if l2 is None else read_grid("l2", l2)
        self._alpha = (
            list(UNOBSERVED)
            if unobserved_weight is None
            else read_grid("unobserved_weight", unobserved_weight)
        )
        if l2 is not None:
            self._understood(l2=as_setting(self._l2))
        if unobserved_weight is not None:
            self._understood(unobserved_weight=as_setting(self._alpha))
        self.hidden_channels, self.num_sweeps = hidden_channels, num_sweeps
        self.register_buffer("item", torch.empty(self.signature.num_nodes[ITEM], hidden_channels))
        self._start: tuple[Tensor, PairIndex, PairIndex] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the item embeddings anew, with a deviation by which scores begin near 0."""
        super().reset_parameters()
        torch.nn.init.normal_(self.item, std=0.1 / self.hidden_channels**0.5)

    def check_state(self) -> None:
        """Raises ValueError if a number that was chosen is not above 0."""
        if bool(self.solved) and not bool((self.chosen > 0).all()):
            raise ValueError(
                f"its {' and '.join(self.names)} hold {float(self.chosen.min()):g}, expected above 0"
            )

    def begin(self, inputs: Inputs, users: PairIndex, items: PairIndex) -> None:
        """Keeps who had what, and where every choice begins."""
        self._start = self.item.clone(), users, items

    def end(self) -> None:
        """Frees what :meth:`begin` kept; a search that was interrupted can begin there again."""
        if self._start is not None and not bool(self.solved):
            self.item.copy_(self._start[0])
        self._start = None

    def search(self, search: Search, validated: bool) -> None:
        """One number after the other, twice."""
        if validated:
            by_coordinates(
                search, [self._l2, self._alpha], [middle(self._l2, 0.03), middle(self._alpha, 0.1)]
            )
            return
        free = (
            0.03 if self.built_with["l2"] is None else None,
            0.1 if self.built_with["unobserved_weight"] is None else None,
        )
        search(alone("l2", self._l2, free[0]), alone("unobserved_weight", self._alpha, free[1]))

    def take(self, choice: tuple[Any, ...]) -> None:
        """Item embeddings after so many turns."""
        assert self._start is not None
        start, users, items = self._start
        l2, alpha = choice
        item = start
        for _ in range(self.num_sweeps):
            user = solve_rows(item, users, alpha, _l2(users, l2, alpha, item.size(0)))
            item = solve_rows(user, items, alpha, _l2(items, l2, alpha, user.size(0)))
        self.item.copy_(item)

    def encode_histories(self, encoding: Factors, history: PairIndex) -> Factors:
        """Embeddings of users with other histories."""
        l2, alpha = self.chosen.tolist()
        by_user = _l2(history, l2, alpha, self.item.size(0)).to(self.item.dtype)
        user = solve_rows(self.item, history, alpha, by_user)
        return replace(encoding, user=user, history=history, l2=by_user)

    def encode(self, inputs: Inputs) -> Factors:
        """Embeddings of the store's users by their histories, and of its items."""
        l2, alpha = self.chosen.tolist()
        history = self.histories(inputs)
        by_user = _l2(history, l2, alpha, self.item.size(0)).to(self.item.dtype)
        user = solve_rows(self.item, history, alpha, by_user)
        row = inputs.row[ITEM]
        item = self.item if row is None else self.item[row.clamp(min=0)]
        normal = alpha * self.item.t() @ self.item
        return Factors(user, item, normal, self.item, history, by_user, Columns(inputs), l2)


def _l2(index: PairIndex, l2: float, alpha: float, others: int) -> Tensor:
    """The regularisation of each row, by its number of pairs."""
    return l2 * (index.start.diff() + alpha * others).float()


def solve_rows(table: Tensor, index: PairIndex, alpha: float, l2: Tensor) -> Tensor:
    r"""The rows whose products with some rows of a table are nearest to 1, and with all others to 0.

    .. math::
        \mathbf{e}_r = \Big(\sum_{j \in \mathcal{S}_r} \mathbf{y}_j \mathbf{y}_j^\top + \alpha_0 \mathbf{Y}^\top
        \mathbf{Y} + \lambda_r \mathbf{I}\Big)^{-1} \sum_{j \in \mathcal{S}_r} \mathbf{y}_j

    Args:
        table: Y, ``[m, d]``.
        index: Which rows of the table are to be 1 for each row that is solved.
        alpha: α₀.
        l2: λ of each row, ``[n]``.

    Returns:
        ``[n, d]``; a row without any is 0.

    Raises:
        TypeError: If the table is in half precision, in which nothing is solved.
        ValueError: If a system cannot be solved at the precision of the table.
    """
    if table.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"the embeddings of ALS are {str(table.dtype).removeprefix('torch.')}, expected float32 or float64, in "
            "which least squares are solved: call model.float()"
        )
    number, channels = l2.numel(), table.size(1)
    out = table.new_zeros(number, channels)
    normal = alpha * table.t() @ table
    padded = torch.cat([table, table.new_zeros(1, channels)])
    size = index.start.diff()
    # Rows of about the same length stand together, so that little is padded.
    order = size.argsort(stable=True)
    order = order[size[order] > 0]
    first = 0
    while first < order.numel():
        # The longest of as many rows as a block may have bounds what is gathered.
        most = int(size[order[min(first + 255, order.numel() - 1)]])
        rows = max(1, min(256, _BLOCK // max(most * channels, channels * channels)))
        some = order[first : first + rows]
        first += rows
        width = int(size[some[-1]])
        place = torch.arange(width, device=table.device)
        there = place < size[some].unsqueeze(1)
        at = (index.start[some].unsqueeze(1) + place).clamp(max=index.item.numel() - 1)
        y = padded[torch.where(there, index.item[at], table.size(0))]
        system = y.transpose(1, 2) @ y + normal
        system.diagonal(dim1=1, dim2=2).add_(l2[some].to(table.dtype).unsqueeze(1))
        factor, info = torch.linalg.cholesky_ex(system)
        if bool(info.any()):
            raise ValueError(
                "the least squares of ALS have no solution in float32 with so small an l2, expected a larger one"
            )
        out[some] = torch.cholesky_solve(y.sum(1).unsqueeze(2), factor).squeeze(2)
    return out
