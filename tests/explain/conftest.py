"""Fixtures of the tests of explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch_geometric.data import HeteroData

from pyg_kgrec.data import ENTITY

Splits = tuple[HeteroData, HeteroData, HeteroData]


@pytest.fixture
def splits(make_splits: Callable[..., Splits]) -> Splits:
    """Splits whose entities have names of their own, so that a name tells which entity it is."""
    stores = make_splits()
    for data in stores:
        data[ENTITY].name = [f"E{i}" for i in range(data[ENTITY].num_nodes)]
    return stores


@pytest.fixture
def axes() -> Iterator[Any]:
    """pyplot without a screen; its figures are closed afterwards."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")
