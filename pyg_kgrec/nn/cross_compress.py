"""MKR's cross&compress unit, and the two units that the paper compares it with."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import embedding
from torch_geometric.utils import cumsum

from pyg_kgrec._checks import MOST_LAYERS, check_channels, check_within

Unit = Literal["cross_compress", "dcn", "stitch"]


class CrossCompressUnit(torch.nn.Module):
    r"""Exchanges what an item and its entity know, channel by channel.

    With the cross feature matrix :math:`\mathbf{C} = \mathbf{v} \mathbf{e}^\top`,

    .. math::
        \mathbf{v}' = \mathbf{C} \mathbf{w}_{vv} + \mathbf{C}^\top \mathbf{w}_{ev} + \mathbf{b}_v, \qquad
        \mathbf{e}' = \mathbf{C} \mathbf{w}_{ve} + \mathbf{C}^\top \mathbf{w}_{ee} + \mathbf{b}_e.

    :math:`\mathbf{C}` itself is never formed: :math:`\mathbf{C} \mathbf{w} = \mathbf{v} (\mathbf{e} \cdot
    \mathbf{w})` and :math:`\mathbf{C}^\top \mathbf{w} = \mathbf{e} (\mathbf{v} \cdot \mathbf{w})`, which takes
    time and memory in proportion to the channels instead of their square. Wang et al., "Multi-Task Feature Learning
    for Knowledge Graph Enhanced Recommendation", WWW 2019, eq. 1–3.

    Args:
        hidden_channels: Size d of both embeddings.
    """

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        check_channels(hidden_channels=hidden_channels)
        self.hidden_channels = hidden_channels
        # Columns: w_vv and w_ve, which meet the entity, w_ev and w_ee, which meet the item.
        self.weight = Parameter(torch.empty(hidden_channels, 4))
        self.bias = Parameter(torch.empty(2, hidden_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws the weights anew, close to v' = v for entities whose entries are about 1/√d.

        :math:`\mathbf{w}_{vv}` starts at 1/√d, so that :math:`\mathbf{e} \cdot \mathbf{w}_{vv} \approx 1` for
        such an entity, and :math:`\mathbf{b}_e` at 1/√d, so that the next unit meets such an entity too; all
        weights get normal noise of deviation 0.1 besides. A start around zero would multiply small numbers
        with small numbers.
        """
        level = self.hidden_channels**-0.5
        torch.nn.init.normal_(self.weight, std=0.1)
        with torch.no_grad():
            self.weight[:, 0] += level
            self.bias[0], self.bias[1] = 0.0, level

    def forward(
        self, item: Tensor, entity: Tensor, item_0: Tensor | None = None, entity_0: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """V' and e', ``[B, hidden_channels]`` each, from v and e of that shape; the first inputs are not needed."""
        e_vv, e_ve = (entity @ self.weight[:, :2]).unsqueeze(-1).unbind(1)
        v_ev, v_ee = (item @ self.weight[:, 2:]).unsqueeze(-1).unbind(1)
        return item * e_vv + entity * v_ev + self.bias[0], item * e_ve + entity * v_ee + self.bias[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hidden_channels})"


class CrossUnit(torch.nn.Module):
    r"""The unit of MKR-DCN: each side crosses its partner's first embedding with itself.

    .. math::
        \mathbf{v}' = \mathbf{e}_0 (\mathbf{v} \cdot \mathbf{w}_v) + \mathbf{v} + \mathbf{b}_v, \qquad
        \mathbf{e}' = \mathbf{v}_0 (\mathbf{e} \cdot \mathbf{w}_e) + \mathbf{e} + \mathbf{b}_e

    (MKR, section on deep&cross networks.)

    Args:
        hidden_channels: Size d of both embeddings.
    """

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        check_channels(hidden_channels=hidden_channels)
        self.hidden_channels = hidden_channels
        self.weight = Parameter(torch.empty(2, hidden_channels))
        self.bias = Parameter(torch.empty(2, hidden_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew, uniform within ±1/√d; the biases start at zero."""
        bound = 1 / math.sqrt(self.hidden_channels)
        torch.nn.init.uniform_(self.weight, -bound, bound)
        torch.nn.init.zeros_(self.bias)

    def forward(
        self, item: Tensor, entity: Tensor, item_0: Tensor, entity_0: Tensor
    ) -> tuple[Tensor, Tensor]:
        """V' and e', ``[B, hidden_channels]`` each, from v, e and the first layer's inputs."""
        crossed_item = entity_0 * (item @ self.weight[0]).unsqueeze(-1)
        crossed_entity = item_0 * (entity @ self.weight[1]).unsqueeze(-1)
        return crossed_item + item + self.bias[0], crossed_entity + entity + self.bias[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hidden_channels})"


class CrossStitchUnit(torch.nn.Module):
    r"""The unit of MKR-stitch: both sides mix by four trainable scalars.

    .. math::
        \mathbf{v}' = \alpha_{vv} \mathbf{v} + \alpha_{ev} \mathbf{e}, \qquad
        \mathbf{e}' = \alpha_{ve} \mathbf{v} + \alpha_{ee} \mathbf{e}

    (MKR, section on cross-stitch networks.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(2, 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts near "mostly oneself": 0.9 of the own side and 0.1 of the other, each ± 0.05."""
        torch.nn.init.uniform_(self.weight, 0.05, 0.15)
        with torch.no_grad():
            self.weight.add_(0.8 * torch.eye(2))

    def forward(
        self, item: Tensor, entity: Tensor, item_0: Tensor | None = None, entity_0: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """V' and e', ``[B, hidden_channels]`` each, from v and e of that shape; the first inputs are not needed."""
        (vv, ev), (ve, ee) = self.weight
        return vv * item + ev * entity, ve * item + ee * entity

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CrossUnits(torch.nn.Module):
    r"""A stack of units between items and their entities, and the mean over an item's entities (or the reverse).

    .. math::
        \mathbf{v}_L = \frac{1}{|S(v)|} \sum_{e \in S(v)} \mathcal{C}^L(\mathbf{v}, \mathbf{e})[\mathbf{v}]

    The mean is of the units' outputs, not of the entities. A node without a partner skips the units.

    Args:
        hidden_channels: Size d of all embeddings.
        num_layers: Number of units L.
        unit: ``'cross_compress'``, ``'dcn'`` or ``'stitch'``.
    """

    def __init__(self, hidden_channels: int, num_layers: int, unit: Unit = "cross_compress") -> None:
        super().__init__()
        check_unit(unit)
        check_channels(hidden_channels=hidden_channels)
        check_within(1, MOST_LAYERS, num_layers=num_layers)
        self.hidden_channels, self.unit = hidden_channels, unit
        self.layers = torch.nn.ModuleList(self._layer() for _ in range(num_layers))

    def _layer(self) -> torch.nn.Module:
        if self.unit == "stitch":
            return CrossStitchUnit()
        return (CrossUnit if self.unit == "dcn" else CrossCompressUnit)(self.hidden_channels)

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]

    def forward(self, item: Tensor, entity: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of items and entities through all units, ``[B, hidden_channels]`` each."""
        item_0, entity_0 = item, entity
        for layer in self.layers:
            item, entity = layer(item, entity, item_0, entity_0)
        return item, entity

    def items(self, item: Tensor, entity: Tensor, row: Tensor) -> Tensor:
        """Items after the units, averaged over their entities.

        Args:
            item: Items, ``[n, hidden_channels]``.
            entity: The entity of each pair, ``[m, hidden_channels]``.
            row: The item of each pair, ``[m]`` int64, ascending.

        Returns:
            ``[n, hidden_channels]``.
        """
        return _mean_or_self(item, self(embedding(row, item), entity)[0], row)

    def entities(self, entity: Tensor, item: Tensor, row: Tensor) -> Tensor:
        """Entities after the units, averaged over their items; arguments as in :meth:`items`, sides exchanged."""
        return _mean_or_self(entity, self(item, embedding(row, entity))[1], row)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hidden_channels}, num_layers={len(self.layers)}, unit={self.unit!r})"


def _mean_or_self(own: Tensor, out: Tensor, row: Tensor) -> Tensor:
    """Mean of the pairs' outputs for each row; a row without a pair stays as it was."""
    count = torch.bincount(row, minlength=own.size(0)).unsqueeze(-1)
    # Rows ascend: sorted segments, no atomics.
    ptr = cumsum(count.flatten())
    total = torch.segment_reduce(out, "sum", offsets=ptr, axis=0, initial=0)
    return torch.where(count > 0, total / count.clamp(min=1).to(out.dtype), own)


def check_unit(unit: str) -> None:
    """Raises ValueError unless there is a unit of that name."""
    if unit not in get_args(Unit):
        raise ValueError(f"unit is {unit!r}, expected 'cross_compress', 'dcn' or 'stitch'")
