"""What BPR-MF and LightGCN share: embeddings of users and items, a ranking loss, no knowledge graph."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

from pyg_kgrec import ops
from pyg_kgrec._checks import check_channels, check_weight
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.explain import HistoryExplanation
from pyg_kgrec.explain.units import HISTORY, Removals, Units, left_out
from pyg_kgrec.models.base import Batch, Recommender
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.folding import BLOCK, most_probable, prior
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features, NodeEncoder
from pyg_kgrec.nn.loss import Loss, l2_penalty


class CollaborativeRecommender(Recommender):
    """Users and items as embeddings, ranked by inner products, trained against sampled negatives."""

    search_space: ClassVar[dict[str, Any]] = {"lr": (3e-4, 1e-2), "decay": (1e-7, 1e-3)}
    node_types = (USER, ITEM)
    shown = ("hidden_channels",)

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int,
        features: Features,
        loss: Loss,
        num_negatives: int | None,
        negatives: Distribution,
        decay: float,
    ) -> None:
        check_channels(hidden_channels=hidden_channels)
        check_weight(decay=decay)
        super().__init__(data)
        self.objective = Objective(loss, num_negatives, negatives)
        self.hidden_channels, self.decay = hidden_channels, decay
        sizes, widths = self.signature.num_nodes, self.signature.in_channels
        self.user_encoder = NodeEncoder(sizes[USER], hidden_channels, widths[USER], features)
        self.item_encoder = NodeEncoder(sizes[ITEM], hidden_channels, widths[ITEM], features)

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform)."""
        self.user_encoder.reset_parameters()
        self.item_encoder.reset_parameters()

    def user_rows(self) -> NodeEncoder:
        """The encoder of users."""
        return self.user_encoder

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Layer-0 embeddings of users ``[num_users, channels]`` and items ``[num_items, channels]``."""
        return self.user_encoder(*inputs.nodes(USER)), self.item_encoder(*inputs.nodes(ITEM))

    # ------------------------------------------------------------------ explanation

    def heard(self, inputs: Inputs, user: Tensor, history: PairIndex) -> Tensor:
        """What a user's embedding has of a history beside the user's row; by default nothing.

        Args:
            inputs: The store.
            user: Users, ``[n]`` int64.
            history: A history for each of them.

        Returns:
            ``[n, hidden_channels]``.
        """
        return torch.zeros(user.numel(), self.hidden_channels, device=user.device)

    row_share: float = 1.0
    """What a user's row weighs in the user's embedding."""

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The known items of each user's history, where a history can teach a row of the user or is heard.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        pair, node = self._histories(inputs).select(user)
        if self.user_encoder.weight is None and "interactions" not in self.hears[USER]:
            pair, node = pair[:0], node[:0]
        return Units.of(HISTORY, pair, node)

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        r"""Scores of users who would have learned their rows without some items of their histories.

        All of the items' side stays fixed. Of a user with history :math:`\mathcal{H}` the row that training taught
        is moved by what folding in (:meth:`~pyg_kgrec.models.base.Recommender.fold_in`) learns less,

        .. math::
            \mathbf{r}_u' = \mathbf{r}_u + \mathrm{fold}(\mathcal{H} \setminus \mathcal{D}) -
            \mathrm{fold}(\mathcal{H}),

        and what the user's embedding hears of the history in the graph is heard of the shorter one. Where nothing
        is left, folding gives the mean row of training.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
            units: Units of the pairs.
            removals: What is left out together.
            every: Score all items for the user of each removal.

        Returns:
            ``[R]`` float, or ``[R, num_items]`` with ``every``.
        """
        encoding = self.own_encoding(inputs)
        assert isinstance(encoding, DotProduct)
        pair, histories = removals.pair(units), self._histories(inputs)
        removal, node = removals.of_kind(units, HISTORY)
        users, place = user[pair].unique(return_inverse=True)
        whole = self._folded(inputs, encoding, users, PairIndex(*histories.rows(users)))
        out = []
        size = max(1, BLOCK // max(inputs.num_items, 1))
        for some in torch.arange(len(removals), device=inputs.device).split(size):
            who = user[pair[some]]
            row, what = histories.select(who)
            gone = left_out(removal, node, max(inputs.num_items, 1), some[row], what)
            start = cumsum(torch.bincount(row[~gone], minlength=some.numel()))
            short = self._folded(inputs, encoding, who, PairIndex(start, what[~gone]))
            moved = encoding.user[who] + short - whole[place[some]]
            scored = encoding.item
            out.append(moved @ scored.t() if every else (moved * scored[item[pair[some]]]).sum(1))
        if out:
            return torch.cat(out)
        return torch.empty((0, inputs.num_items) if every else (0,), device=inputs.device)

    def _histories(self, inputs: Inputs) -> PairIndex:
        """The known items that each user of a store has had."""

        def build() -> PairIndex:
            pairs = inputs.edge_index
            return PairIndex.from_pairs(pairs[:, self.known(inputs).item[pairs[1]]], inputs.num_users)

        return inputs.part("known histories", build)

    def _folded(self, inputs: Inputs, encoding: DotProduct, user: Tensor, history: PairIndex) -> Tensor:
        """What users' embeddings have of histories, by rows folded in and by the graph: ``[n, channels]``."""
        fixed = self.heard(inputs, user, history)
        if self.user_encoder.weight is None:
            return fixed
        features: Tensor | None = None
        if self.has_features(USER):
            features = self.user_encoder(torch.full_like(user, -1), inputs.nodes(USER, user)[1])
        known, items = self.known(inputs).item, encoding.item.detach()
        mean, spread = prior(self)
        parts = []
        number = torch.arange(user.numel(), device=user.device)
        for some in number.split(max(1, BLOCK // max(inputs.num_items, 1))):
            base = fixed[some] + (0 if features is None else self.row_share * features[some])

            def scores(row: Tensor, base: Tensor = base) -> Tensor:
                return (base + self.row_share * row) @ items.t()

            pairs = history.select(some)
            parts.append(most_probable(self, scores, pairs, known, some.numel(), mean, spread))
        rows = torch.cat(parts) if parts else fixed[:0]
        return fixed + self.row_share * rows

    def _explain(self, inputs: Inputs, user: int, item: int) -> HistoryExplanation:
        who, what = (torch.tensor([node], device=inputs.device) for node in (user, item))
        score = float(self.own_encoding(inputs).score(who, what))
        none = torch.empty(0)
        return HistoryExplanation.from_history(inputs.data, user, item, none.long(), none, score)

    @abstractmethod
    def encode(self, inputs: Inputs) -> DotProduct:
        """Embeddings of all users and items of the store."""

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Ranking loss against sampled negatives and L2 norm of the layer-0 embeddings of the batch."""
        user, item = batch
        encoded = self.encode(inputs)
        candidate = self.objective.candidates(inputs, user, item, generator)
        scores = ops.sampled_scores(embedding(user, encoded.user), encoded.item, candidate)
        user_0, item_0 = self.embed(inputs)
        penalty = l2_penalty(embedding(user, user_0), item_0, item, candidate[:, 1:])
        return {"ranking": self.objective(scores), "decay": self.decay * penalty}
