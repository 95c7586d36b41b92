"""A store in a file: what comes back is what was kept, and nothing else is taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._files import pack
from pyg_kgrec.data import ITEM, USER, Labels, load_store, save_store, validate
from pyg_kgrec.data.files import store_state
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.testing import build_splits, build_store
from pyg_kgrec.transforms import (
    AddInverseTriples,
    ClickThroughSplit,
    CollaborativeKG,
    RandomSplit,
    TripleSplit,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other) and (type(one) is type(other) or {type(one), type(other)} == {list, Labels})


def content(data: HeteroData) -> dict[tuple[Any, str], Any]:
    return {(kind, key): value for kind, values in data.to_dict().items() for key, value in values.items()}


def odd_store() -> HeteroData:
    data = build_store(features=True)
    data.remark, data.sizes, data.tree = "made by hand", (1, 2.5, None), {"a": [True, {"b": "c"}]}
    data[ITEM].price = torch.arange(14, dtype=torch.bfloat16)
    data[ITEM].words = [["x"], []] * 7
    data[USER].new = torch.arange(10) % 3 == 0
    data["tag"].num_nodes = 3
    data[ITEM, "has", "tag"].edge_index = torch.tensor([[0, 1], [2, 0]])
    return data


STORES: dict[str, Callable[[], HeteroData]] = {
    "by hand": odd_store,
    "without ids": lambda: build_store(ids=False, knowledge=False),
    "test": lambda: build_splits(features=True)[2],
    "random split": lambda: RandomSplit(0.2, 0.2)(build_store())[2],
    "clicks": lambda: ClickThroughSplit()(build_store())[1],
    "triples": lambda: TripleSplit(0.1, 0.1)(build_store())[2],
    "graph": lambda: CollaborativeKG(inverse=True)(build_store()),
    "inverse": lambda: AddInverseTriples()(build_store()),
    "synthetic": lambda: SyntheticKG(num_users=20, num_items=30, num_entities=60, num_relations=3)[0],
}


@pytest.mark.parametrize("name", list(STORES))
def test_every_attribute_comes_back(tmp_path: Path, name: str) -> None:
    data = STORES[name]()
    save_store(data, tmp_path / "store.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["store.pt"]
    found = load_store(str(tmp_path / "store.pt"))
    validate(found)
    before, after = content(data), content(found)
    assert set(before) == set(after)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert found.node_types == data.node_types
    assert found.edge_types == data.edge_types
    if USER in found.node_types and "id" in found[USER]:
        assert found.subgraph({USER: torch.tensor([3, 1])})[USER].id == [data[USER].id[3], data[USER].id[1]]


def test_a_view_leaves_the_rest_of_its_tensor_out(tmp_path: Path) -> None:
    data = build_store()
    data[ITEM].x = torch.randn(10**6, 1)[:14]
    save_store(data, tmp_path / "store.pt")
    assert (tmp_path / "store.pt").stat().st_size < 10**5


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.pt"
    save_store(build_store(), path)
    whole = path.read_bytes()
    places = [*range(0, len(whole), len(whole) // 40), len(whole) - 1]
    for damaged in itertools.chain(
        (whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in places),
        (whole[:-1], b"", b"junk" + whole, whole + b"x"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as error:
            load_store(path)
        assert len(str(error.value)) <= 400


def changed(**parts: Any) -> dict[str, Any]:
    return store_state(build_store()) | parts


@pytest.mark.parametrize(
    "state",
    [
        {"weights": torch.zeros(3)},
        changed(nodes=[]),
        changed(edges=[["user", {}]]),
        changed(edges=[[["user", "item"], {}]]),
        changed(edges=3),
        changed(graph={"_node_store_dict": {}}),
        changed(nodes={"user": {"num_nodes": "many"}}),
        changed(nodes={"user": {3: 4}}),
        changed(nodes={"user": {"id": ["x" * 10**5] * 3, "num_nodes": 3}}),
    ],
)
def test_other_content_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    path = tmp_path / "store.pt"
    path.write_bytes(pack(state, "store"))
    with pytest.raises(ValueError, match="holds no valid store") as error:
        load_store(path)
    assert len(str(error.value)) <= 400


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with pytest.raises(FileNotFoundError):
        load_store(path)
    path.write_bytes(pack(store_state(build_store()), "model"))
    with pytest.raises(ValueError, match="file of a model, expected one of a store"):
        load_store(path)
    torch.save(build_store(), path)
    with pytest.raises(ValueError, match=r"torch\.save"):
        load_store(path)


@pytest.mark.parametrize(
    "value", [object(), torch.eye(14).to_sparse(), {1, 2}, torch.empty(3, device="meta"), print]
)
def test_what_a_file_cannot_hold_is_named_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    data = build_store()
    data[USER].strange = value
    path = tmp_path / "store.pt"
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match=r"strange holds an? \w+, which a file cannot keep") as error:
        save_store(data, path)
    assert len(str(error.value)) <= 400
    assert path.read_bytes() == b"before"


def test_what_is_no_store_or_no_path(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="data is a dict"):
        save_store({}, tmp_path / "store.pt")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path is an int"):
        save_store(build_store(), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path is an int"):
        load_store(3)  # type: ignore[arg-type]
    data = build_store()
    del data[USER].num_nodes
    with pytest.raises(ValueError, match="num_nodes is missing"):
        save_store(data, tmp_path / "store.pt")
    assert list(tmp_path.iterdir()) == []
