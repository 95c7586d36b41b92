"""Fixtures that every test file shares."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

StoreBuilder = Callable[..., HeteroData]
SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: the garbage collector need not go through them every time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with local copies of the real data sets; tests that need one skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("PYG_KGREC_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no local data sets at {root}; point PYG_KGREC_DATA at a folder that holds ml-100k/")
    return root


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """Folder with numbers that the papers' own code computed; PYG_KGREC_REFERENCE names another such set."""
    return Path(os.environ.get("PYG_KGREC_REFERENCE", Path(__file__).resolve().parent / "reference"))


@pytest.fixture(scope="session")
def make_store() -> StoreBuilder:
    """Builder of a small store with every oddity that a store may have: ``pyg_kgrec.testing.build_store``."""
    from pyg_kgrec.testing import build_store  # here: what trains and measures is long to import

    return build_store


@pytest.fixture(scope="session")
def make_splits() -> SplitBuilder:
    """Builder of the three splits of that store: a validation and a test item per user."""
    from pyg_kgrec.testing import build_splits

    return build_splits


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors are faster on one thread, and the machine may be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def double_by_default() -> Iterator[Callable[[], None]]:
    """Makes float64 PyTorch's default dtype when it is called, for the rest of the test."""
    before = torch.get_default_dtype()
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)
