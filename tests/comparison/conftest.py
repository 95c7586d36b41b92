from __future__ import annotations

import pytest
from torch_geometric.data import HeteroData

from pyg_kgrec.datasets import SyntheticKG


@pytest.fixture(scope="session")
def small() -> HeteroData:
    return SyntheticKG(num_users=40, num_items=40, num_entities=80, seed=0)[0]
