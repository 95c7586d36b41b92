"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.data.splitting import apply_split

StoreBuilder = Callable[..., HeteroData]
SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


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
    """Folder with numbers that the papers' own code computed; tests that need one skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "reference"
    root = Path(os.environ.get("PYG_KGREC_REFERENCE", default))
    if not root.is_dir():
        pytest.skip(f"no reference numbers at {root}; point PYG_KGREC_REFERENCE at a folder with kgrec.npz")
    return root


@pytest.fixture(scope="session")
def make_store() -> StoreBuilder:
    """Builder of a small store with every oddity that a store may have; see :func:`build_store`."""
    return build_store


@pytest.fixture(scope="session")
def make_splits() -> SplitBuilder:
    """Builder of the three splits of :func:`build_store`: a validation and a test item a user."""
    return build_splits


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors are faster on one thread, and the machine may be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_store(
    num_users: int = 10,
    num_items: int = 14,
    *,
    per_user: int = 6,
    features: bool = False,
    ids: bool = True,
    knowledge: bool = True,
    seed: int = 0,
) -> HeteroData:
    """A store in which users of even (odd) number like items of even (odd) number, and triples say which is which.

    Of its items one has no entity, one has two, and two share one; a triple occurs twice, one is a loop, one
    relation has no triple, one entity is isolated.
    """
    rng = torch.Generator().manual_seed(seed)
    data = HeteroData()
    user = torch.arange(num_users).repeat_interleave(per_user)
    taste = torch.rand(num_users, num_items, generator=rng)
    taste += (torch.arange(num_users)[:, None] % 2 == torch.arange(num_items) % 2) * 0.9
    item = taste.topk(per_user, dim=1).indices.flatten()
    data[USER].num_nodes, data[ITEM].num_nodes = num_users, num_items
    data[INTERACTS].edge_index = torch.stack([user, item])
    data[INTERACTS].time = torch.arange(user.numel())
    if ids:
        data[USER].id = [f"u{i}" for i in range(num_users)]
        data[ITEM].id = [100 + i for i in range(num_items)]
        data[ITEM].name = [f"Item <{i}>" for i in range(num_items)]
    node_types = [USER, ITEM]
    if knowledge:
        node_types.append(ENTITY)
        _add_knowledge(data, num_items, ids, rng)
    if features:
        for width, node_type in enumerate(node_types, start=3):
            data[node_type].x = torch.randn(data[node_type].num_nodes, width, generator=rng)
    return data


def _add_knowledge(data: HeteroData, num_items: int, ids: bool, rng: torch.Generator) -> None:
    alone = num_items - 4
    first_attribute, num_attributes = alone + 3, 6
    num_entities = first_attribute + num_attributes + 1
    order = torch.randperm(num_entities, generator=rng)
    item = torch.cat([torch.arange(alone), torch.tensor([alone, alone, alone + 1, alone + 2])])
    entity = torch.cat([torch.arange(alone), torch.tensor([alone, alone + 1, alone + 2, alone + 2])])
    genre = first_attribute + item % 2
    maker = first_attribute + 2 + torch.randint(num_attributes - 2, item.shape, generator=rng)
    last = first_attribute + num_attributes - 1
    more = torch.tensor([[0, first_attribute, last], [first_attribute, last, last]])
    triples = torch.cat([torch.stack([entity, genre]), torch.stack([entity, maker]), more], dim=1)
    edge_type = torch.cat([torch.zeros_like(genre), torch.ones_like(maker), torch.tensor([0, 1, 1])])
    data[ENTITY].num_nodes = num_entities
    data[IS].edge_index = torch.stack([item, order[entity]])
    data[RELATES].edge_index = order[triples]
    data[RELATES].edge_type = edge_type
    data.relation_name = ["has genre", "made by", "never used"]
    if ids:
        data[ENTITY].id = [f"e{i}" for i in range(num_entities)]


def build_splits(**arguments: object) -> tuple[HeteroData, HeteroData, HeteroData]:
    """Train, validation and test of :func:`build_store`: the last two interactions of a user are held out."""
    data = build_store(**arguments)  # type: ignore[arg-type]
    user = data[INTERACTS].edge_index[0]
    fold = torch.zeros_like(user)
    last: Tensor = torch.cat([(user.diff() != 0).nonzero().flatten(), torch.tensor([user.numel() - 1])])
    fold[last], fold[last - 1] = 2, 1
    return apply_split(data, fold)
