from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, validate
from pyg_kgrec.datasets import LastFM


@pytest.fixture(scope="module")
def source(data_root: Path) -> Path:
    folder = data_root / "last-fm-mkr"
    if not folder.is_dir():
        pytest.skip(f"no local copy of Last.FM at {folder}")
    return folder


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> LastFM:
    return LastFM(tmp_path_factory.mktemp("lastfm"), source=source)


def test_the_counts_are_the_papers(dataset: LastFM) -> None:
    data = dataset[0]
    validate(data)
    sizes = {kind: data[kind].num_nodes for kind in (USER, ITEM, ENTITY)}
    assert sizes == {USER: 1872, ITEM: 3846, ENTITY: 9366}
    assert data[RELATES].num_edges == 15518
    assert len(data.relation_name) == 60
    assert data[IS].edge_index.size(1) == 3846
    assert data[INTERACTS].rating.min() >= 1
    parts = dataset.split(seed=0)
    labels = torch.cat([part[INTERACTS].edge_label for part in parts])
    assert labels.numel() == 42346
    assert int(labels.sum()) == 21173
    assert [part[INTERACTS].edge_label.numel() for part in parts] == [25408, 8469, 8469]


def test_a_seed_draws_its_own_pairs(dataset: LastFM) -> None:
    one, same, other = (dataset.split(seed)[0][INTERACTS].edge_label_index for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_changed_file_is_noticed(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "files")
    (tmp_path / "files" / "kg.txt").chmod(0o644)
    with (tmp_path / "files" / "kg.txt").open("a") as file:
        file.write("1\tx\t2\n")
    with pytest.raises(ValueError, match=r"^kg\.txt from .* has the SHA-256 sum"):
        LastFM(tmp_path / "root", source=tmp_path / "files")
