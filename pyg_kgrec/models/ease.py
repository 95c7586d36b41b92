"""EASE: items weighted by items in closed form, and with knowledge in their Gram matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM
from pyg_kgrec.models.gram import gram, ridge_weights, shared_facts
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linear import Columns, HistoryEncoding, SolvedRecommender, sum_rows
from pyg_kgrec.models.memory import check_memory
from pyg_kgrec.models.search import Grid, Search, alone, as_setting, middle, read_grid, refined
from pyg_kgrec.models.signature import StoreSignature

L2 = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
KNOWLEDGE = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
POWERS = (0.0, 0.5, 1.0)
DEFAULT_L2, DEFAULT_KNOWLEDGE, DEFAULT_POWER = 100.0, 1.0, 0.0
_INSTEAD = "take ItemKNN or RP3beta, whose matrices are sparse, or give max_memory= where there is more"


class DenseWeights(HistoryEncoding):
    """Scores that are sums of rows of a matrix of items × items.

    Args:
        weight: What each item of a history adds to each item's score, ``[n, n]``, in the order of training.
        history: The items of each user, in the same order.
        columns: The store's items in that order.
    """

    def __init__(self, weight: Tensor, history: PairIndex, columns: Columns) -> None:
        self.weight, self.history, self.columns = weight, history, columns

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Sums of the pairs' weights, ``[B]``."""
        place, row = self.history.select(user)
        value = self.weight[row, self.columns.rows(item)[place]]
        return value.new_zeros(user.numel()).index_add_(0, place, value)

    def score_all(self, user: Tensor) -> Tensor:
        """Sums of rows, ``[B, num_items]``."""
        return sum_rows(self.weight, self.history, user, self.columns)

    def similarity(self, item: Tensor) -> Tensor:
        r"""Partial correlations, :math:`\operatorname{sign}(B_{ij}) \sqrt{B_{ij} B_{ji}}`, ``[B, num_items]``."""
        row = self.columns.rows(item)
        there, back = self.weight[row], self.weight[:, row].t()
        return self.columns.spread(there.sign() * (there * back).clamp(min=0).sqrt())

    def shares(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items of the users' histories, and their weights for the items."""
        pair, row = self.history.select(user)
        return pair, self.columns.place(row), self.weight[row, self.columns.rows(item)[pair]]


class EASE(SolvedRecommender):
    r"""Items weighted by items in closed form, with the knowledge graph in the Gram matrix where it is asked for.

    .. math::
        \hat{y}_{ui} = \sum_{j \in \mathcal{H}_u} B_{ji}, \qquad
        \mathbf{G} = \mathbf{X}^\top \mathbf{X} + \alpha \mathbf{F} \mathbf{F}^\top + \lambda \mathbf{I}, \qquad
        \mathbf{P} = \mathbf{G}^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj}, \quad B_{jj} = 0

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. B is the ridge regression of every
    item's column of the training interactions X on all others. With knowledge it explains the facts of the items
    as well, as in Jeunen et al., "Closed-Form Models for Collaborative Filtering with Side-Information", RecSys
    2020: F has a column for every fact that at least two items share, which is an entity that they are linked to,
    or relation, direction and other entity of a triple; its entries are :math:`n^{-p}` where n items have the
    fact.

    :func:`pyg_kgrec.fit` solves it. Where numbers are to be chosen, first λ is, then α and p, then values between
    the best λ and α and their neighbours; the history has one row for each choice that was tried. Users are what
    is in their history in the store's ``edge_index``, so that a stranger with a history is heard.

    The matrices are dense: 28 bytes for each pair of items while it is solved (and 8 more for each p with
    knowledge), 4 bytes of weights afterwards. What is needed is said before anything is allocated.

    Args:
        data: The training store.
        l2: λ, above 0; a list to choose from; None: from 1 to 3000 (100 without a validation store).
        knowledge: α, at least 0; a list to choose from; True: from 0.1 to 30 (1 without a validation store); None:
            the triples are not read.
        power: p, at least 0; a list to choose from; None: 0, ½ and 1 (0 without a validation store).
        max_memory: GiB that it may take; None for all that is free.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range, a list is empty, the store has no links and triples to be known, or
            the matrices do not fit into memory.
    """

    names = ("l2", "knowledge", "power")
    shown = ("l2", "knowledge")
    weight: Tensor

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        l2: Grid | None = None,
        *,
        knowledge: Grid | bool | None = None,
        power: Grid | None = None,
        max_memory: float | None = None,
    ) -> None:
        super().__init__(data)
        self._l2 = list(L2) if l2 is None else read_grid("l2", l2)
        if isinstance(knowledge, bool) or knowledge is None:
            self._alpha = list(KNOWLEDGE) if knowledge else [0.0]
        else:
            self._alpha = read_grid("knowledge", knowledge, above=False)
        self._power = list(POWERS) if power is None else read_grid("power", power, above=False)
        for name, given, values in (
            ("l2", l2, self._l2),
            ("knowledge", knowledge, self._alpha),
            ("power", power, self._power),
        ):
            if given is not None and not isinstance(given, bool):
                self._understood(**{name: as_setting(values)})
        self.l2, self.knowledge = self.built_with["l2"], self.built_with["knowledge"]
        signature = self.signature
        if any(self._alpha) and (signature.link is None or not signature.link.numel()):
            raise ValueError(
                "the store has no links of items and entities, expected a knowledge graph for EASE(knowledge=…)"
            )
        number = signature.num_nodes[ITEM]
        size = 4 if isinstance(data, StoreSignature) else 28 + 8 * any(self._alpha) * len(self._power)
        check_memory("EASE", number, size * number**2, torch.device("cpu"), max_memory, _INSTEAD)
        self.register_buffer("weight", torch.zeros(number, number))
        self._gram: Tensor | None = None
        self._facts: PairIndex | None = None
        self._knowledge: dict[float, Tensor] = {}

    # ------------------------------------------------------------------ solving

    def begin(self, inputs: Inputs, users: PairIndex, items: PairIndex) -> None:
        """The Gram matrices, which serve every λ and α."""
        number = self.signature.num_nodes[ITEM]
        need = (28 + 8 * any(self._alpha) * len(self._power)) * number**2
        check_memory("EASE", number, need, inputs.device, self.built_with["max_memory"], _INSTEAD)
        self._gram = gram(users, number)
        if not any(self._alpha):
            return
        facts = shared_facts(inputs)
        if (row := inputs.row[ITEM]) is not None:
            place, item = facts.select(torch.arange(facts.start.numel() - 1, device=row.device))
            known = row[item] >= 0
            facts = PairIndex.from_pairs(
                torch.stack([place[known], row[item[known]]]), facts.start.numel() - 1
            )
        self._facts = facts

    def end(self) -> None:
        """Frees the Gram matrices."""
        self._gram, self._facts, self._knowledge = None, None, {}

    def search(self, search: Search, validated: bool) -> None:
        """First λ, then α and p, then λ again and values in between."""
        if not validated:
            power = alone("power", self._power, DEFAULT_POWER if self.built_with["power"] is None else None)
            search(
                alone("l2", self._l2, DEFAULT_L2 if self.l2 is None else None),
                alone("knowledge", self._alpha, DEFAULT_KNOWLEDGE if self.knowledge is True else None),
                power if any(self._alpha) else 0.0,
            )
            return
        powers = self._power if any(self._alpha) else [0.0]
        alpha, power = middle(self._alpha, DEFAULT_KNOWLEDGE), powers[0]
        for l2 in self._l2:
            search(l2, alpha, power)
        if any(self._alpha):
            l2 = self._best(search)[0]
            for power in powers:
                for alpha in self._alpha:
                    search(l2, alpha, power)
            _, alpha, power = self._best(search)
            for l2 in self._l2:
                search(l2, alpha, power)
        if len(self._l2) > 1:
            l2, alpha, power = self._best(search)
            for between in refined(l2, self._l2):
                search(between, alpha, power)
        if len(self._alpha) > 1:
            l2, alpha, power = self._best(search)
            for between in refined(alpha, self._alpha):
                search(l2, between, power)

    @staticmethod
    def _best(search: Search) -> tuple[float, float, float]:
        assert search.best is not None
        l2, alpha, power = search.best
        return l2, alpha, power

    def take(self, choice: tuple[Any, ...]) -> None:
        """B of one λ, α and p."""
        l2, alpha, power = choice
        assert self._gram is not None
        matrix = self._gram.clone()
        if alpha:
            matrix.add_(self._known(power), alpha=alpha)
        matrix.diagonal().add_(l2)
        # The eigenvectors of the Gram matrix would serve every λ, but P of a λ is a product of matrices then, which
        # takes as long as factorising and inverting anew does; and α changes the eigenvectors.
        self.weight.copy_(ridge_weights(matrix))

    def _known(self, power: float) -> Tensor:
        """FFᵀ with columns scaled by their number of items to the power −p, kept for the next α."""
        if power not in self._knowledge:
            assert self._facts is not None
            scale = self._facts.start.diff().double().pow(-2 * power)
            self._knowledge[power] = gram(self._facts, self.weight.size(0), scale)
        return self._knowledge[power]

    # ------------------------------------------------------------------ prediction

    def described(self) -> dict[str, Any]:
        """λ, and α and p where facts count."""
        out = super().described()
        return out if out["knowledge"] else {"l2": out["l2"], "knowledge": None}

    def reset_parameters(self) -> None:
        """Forgets what was solved."""
        super().reset_parameters()
        self.weight.zero_()

    def encode(self, inputs: Inputs) -> DenseWeights:
        """The weights, and the history of every user of the store."""
        return DenseWeights(self.weight, self.histories(inputs), Columns(inputs))
