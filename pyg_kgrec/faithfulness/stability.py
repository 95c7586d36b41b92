"""How far models that were trained with different seeds agree on what explains a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec.explain.units import KINDS, Units
from pyg_kgrec.faithfulness.report import ALL


def agreement(
    scored: Sequence[tuple[Units, Mapping[str, Tensor]]],
    num_pairs: int,
    num_items: int,
    names: Sequence[str],
) -> dict[tuple[str, str], Tensor]:
    """Mean rank correlation of the values that models give to the units of each pair.

    Args:
        scored: Units of the same pairs by each model, and their values by name, ``[n]`` each.
        num_pairs: Number B of pairs.
        num_items: Number of items of the store.
        names: Names of the values.

    Returns:
        Per kind (and for all kinds together) and name, ``[B]`` float64: the mean over pairs of models of Spearman's
        correlation over the units that both have; NaN where that is fewer than two, or one model's values are all
        equal.
    """
    kinds = sorted({KINDS[number] for units, _ in scored for number in torch.unique(units.kind).tolist()})
    found: dict[tuple[str, str], Tensor] = {}
    width = max([num_items, *(int(units.node.max()) + 1 for units, _ in scored if len(units))])
    keys = [
        ((units.pair * len(KINDS) + units.kind) * width + units.node).cpu().numpy() for units, _ in scored
    ]
    for name in names:
        for kind in [*kinds, ALL] if len(kinds) > 1 else kinds:
            if kind == ALL and name != names[0]:
                continue
            parts = []
            for one, other in combinations(range(len(scored)), 2):
                _, left, right = np.intersect1d(keys[one], keys[other], return_indices=True)
                units = scored[one][0]
                pair = units.pair.cpu().numpy()[left]
                chosen = slice(None) if kind == ALL else units.kind.cpu().numpy()[left] == KINDS.index(kind)
                a, b = (
                    to_numpy(scored[model][1][name])[place][chosen]
                    for model, place in ((one, left), (other, right))
                )
                parts.append(_spearman(pair[chosen], a, b, num_pairs))
            table = np.stack(parts)
            count = (~np.isnan(table)).sum(0)
            mean = np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), np.nan)
            found[kind, name] = torch.from_numpy(mean).to(scored[0][0].pair.device)
    return found


def _spearman(
    pair: NDArray[np.int64], a: NDArray[np.float64], b: NDArray[np.float64], num_pairs: int
) -> NDArray[np.float64]:
    """Spearman's correlation within each pair, ``[num_pairs]``; NaN where it is not defined."""
    out = np.full(num_pairs, np.nan)
    good = ~(np.isnan(a) | np.isnan(b))
    pair, a, b = pair[good], a[good], b[good]
    order = np.argsort(pair, kind="stable")
    pair, a, b = pair[order], a[order], b[order]
    number, start = np.unique(pair, return_index=True)
    for which, first, last in zip(number.tolist(), start, [*start[1:], pair.size]):
        x, y = (rankdata(values[first:last]) for values in (a, b))
        x, y = x - x.mean(), y - y.mean()
        size = np.sqrt((x @ x) * (y @ y))
        if size > 0:
            out[which] = (x @ y) / size
    return out
