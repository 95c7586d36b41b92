"""A small world to serve: a model with ids in Unicode, its files, and clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec
from pyg_kgrec.data import from_pandas, save_store
from pyg_kgrec.transforms import RandomSplit

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")


class World(NamedTuple):
    """Two models of one store, and their files."""

    train: HeteroData
    store: HeteroData
    models: tuple[KGRec, KGRec]
    files: tuple[Path, Path]
    store_file: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("serving")
    rng = np.random.default_rng(0)
    users, films = [f"ünï/{u} ?" for u in range(12)], [f"映画 {i}" for i in range(16)]
    pairs = [(u, films[i]) for u in users for i in rng.permutation(16)[:7]]
    triples = pd.DataFrame({"head_id": films, "relation_id": "genre"})
    triples["tail_id"] = [f"g{i % 3}" for i in range(16)]
    data = from_pandas(
        pd.DataFrame(pairs, columns=["user_id", "item_id"]),
        triples,
        pd.DataFrame({"item_id": films, "entity_id": films}),
        pd.DataFrame({"item_id": films, "name": [f"Film №{i}" for i in range(16)]}),
        item_name="name",
    )
    train, _, test = RandomSplit(val=0.2, test=0.2, seed=0)(data)
    save_store(test, root / "all.store")
    models, files = [], []
    for seed in (0, 1):
        seed_everything(seed)
        models.append(KGRec(train, hidden_channels=4))
        with torch.no_grad():
            for weight in models[-1].parameters():
                weight.mul_(3)
        models[-1].eval()
        files.append(root / f"{seed}.pt")
        models[-1].save(files[-1])
    return World(train, test, (models[0], models[1]), (files[0], files[1]), root / "all.store")


def lists_of(model: Any, store: HeteroData, users: list[Any], **asked: Any) -> list[list[Any]]:
    """Ids of the library's own lists."""
    found = model.recommend(store, users, as_frame=True, **asked)
    return [found.loc[found["user"] == user, "item"].tolist() for user in users]
