from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import ComplEx, DistMult, RotatE, TransE

from pyg_kgrec.data import ENTITY, RELATES
from pyg_kgrec.kge import KGTables, embedding, kg_embeddings, pretrained_embeddings, training
from pyg_kgrec.transforms import TripleSplit

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_ENTITIES, NUM_RELATIONS = 20, 3


@pytest.fixture
def data(make_store: Callable[..., HeteroData]) -> HeteroData:
    data = make_store()
    assert (data[ENTITY].num_nodes, len(data.relation_name)) == (NUM_ENTITIES, NUM_RELATIONS)
    return data


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each training that was asked for."""
    asked: list[dict[str, Any]] = []
    train = training.pretrain_transe
    monkeypatch.setattr(embedding, "_last", {})

    def record(data: HeteroData, channels: int, **arguments: Any) -> TransE:
        asked.append({"hidden_channels": channels, **arguments})
        return train(data, channels, **(arguments | {"max_epochs": 2}))

    monkeypatch.setattr(training, "pretrain_transe", record)
    return asked


def given_embeddings(data: HeteroData, given: Any) -> KGTables:
    found = kg_embeddings(data, given)
    assert found is not None
    return found


def pair(
    rows: int = NUM_ENTITIES, relations: int = NUM_RELATIONS, channels: int = 5
) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, channels), torch.randn(relations, channels)


def test_a_pair_is_copied_as_it_is(data: HeteroData) -> None:
    entity, relation = pair()
    tables = given_embeddings(data, (entity.double().requires_grad_(), relation))
    assert torch.equal(tables.entity, entity)
    assert tables.entity.dtype == torch.float32
    assert not tables.entity.requires_grad
    tables.relation.zero_()
    assert relation.any()


def test_the_entities_of_a_transe_are_where_its_distance_has_them(data: HeteroData) -> None:
    model = TransE(NUM_ENTITIES, NUM_RELATIONS, 6, p_norm=2.0)
    with torch.no_grad():
        model.node_emb.weight.mul_(7)
    tables = given_embeddings(data, model)
    torch.testing.assert_close(tables.entity.norm(dim=1), torch.ones(NUM_ENTITIES))
    assert torch.equal(tables.relation, model.rel_emb.weight)
    head, relation, tail = torch.tensor([0, 4]), torch.tensor([1, 2]), torch.tensor([3, 3])
    distance = (tables.entity[head] + tables.relation[relation] - tables.entity[tail]).norm(dim=1)
    torch.testing.assert_close(-distance, model(head, relation, tail).detach(), rtol=1e-4, atol=1e-4)


def test_another_models_tables_are_taken_as_they_are(data: HeteroData) -> None:
    model = DistMult(NUM_ENTITIES, NUM_RELATIONS, 6)
    tables = given_embeddings(data, model)
    assert torch.equal(tables.entity, model.node_emb.weight)
    assert torch.equal(tables.relation, model.rel_emb.weight)


def test_complex_vectors_are_taken_whole(data: HeteroData) -> None:
    found = given_embeddings(data, model := ComplEx(NUM_ENTITIES, NUM_RELATIONS, 6))
    assert torch.equal(found.entity, torch.cat([model.node_emb.weight, model.node_emb_im.weight], dim=1))
    assert torch.equal(found.relation, torch.cat([model.rel_emb.weight, model.rel_emb_im.weight], dim=1))
    turned = given_embeddings(data, model := RotatE(NUM_ENTITIES, NUM_RELATIONS, 6))
    assert torch.equal(turned.entity, torch.cat([model.node_emb.weight, model.node_emb_im.weight], dim=1))
    angle = torch.atan2(turned.relation[:, 6:], turned.relation[:, :6])
    torch.testing.assert_close(angle.remainder(6.283185307), model.rel_emb.weight.remainder(6.283185307))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (pair(rows=19), ValueError, r"entities of shape \[19, 5\], expected \[20, K\]"),
        (
            pair(relations=2),
            ValueError,
            r"relations of shape \[2, 5\], expected \[3, K\]: the store has 3 relations",
        ),
        (pair(relations=4), ValueError, r"relations of shape \[4, 5\], expected \[3, K\]"),
        ((torch.ones(20), torch.ones(3, 5)), ValueError, r"entities of shape \[20\]"),
        ((torch.ones(20, 0), torch.ones(3, 0)), ValueError, r"entities of shape \[20, 0\]"),
        (
            (torch.ones(20, 4), torch.ones(3, 5)),
            ValueError,
            "4 channels and relations of 5, expected as many",
        ),
        (
            (torch.ones(20, 5).long(), torch.ones(3, 5)),
            TypeError,
            "torch.int64 for entities, expected a float",
        ),
        (
            (torch.ones(20, 5), torch.ones(3, 5) * torch.nan),
            ValueError,
            r"among relations \(first in row 0\)",
        ),
        (
            (torch.ones(20, 5).index_fill(0, torch.tensor(7), torch.inf), torch.ones(3, 5)),
            ValueError,
            "row 7",
        ),
        (([[0.0]], torch.ones(3, 5)), TypeError, "a list for entities, expected a float tensor"),
        (torch.ones(20, 5), TypeError, "is a Tensor, expected a KGEModel"),
        (5, TypeError, "is an int, expected a KGEModel"),
        (TransE(19, 3, 4), ValueError, r"entities of shape \[19, 4\]"),
        (TransE(20, 2, 4), ValueError, r"relations of shape \[2, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    data: HeteroData, given: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kg_embeddings(data, given)


@pytest.mark.parametrize("given", [None, "transe.pt", pair(), TransE(20, 3, 4)])
def test_a_store_without_knowledge_graph_is_refused_and_left_alone(
    make_store: Callable[..., HeteroData], given: Any, tmp_path: Path
) -> None:
    data = make_store(knowledge=False)
    before = data.node_types, data.edge_types
    for ask in (
        lambda: kg_embeddings(data, given),
        lambda: pretrained_embeddings(data, 4, progress=False),
        lambda: pretrained_embeddings(data, 4, path=tmp_path / "new.pt", progress=False),
    ):
        with pytest.raises(ValueError, match="data has no knowledge graph, expected a store with triples"):
            ask()
        assert (data.node_types, data.edge_types) == before
    not_a_store: Any = 3
    with pytest.raises(TypeError, match="data is an int, expected a torch_geometric"):
        kg_embeddings(not_a_store, given)


@pytest.mark.parametrize(
    ("channels", "error"), [(0, ValueError), (1.5, TypeError), ("8", TypeError), (True, TypeError)]
)
def test_a_number_of_channels_that_is_none_is_refused(
    data: HeteroData, channels: Any, error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    for ask in (pretrained_embeddings, kg_embeddings):
        with pytest.raises(error, match=f"hidden_channels is {channels!r}, expected"):
            ask(data, hidden_channels=channels)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------- learned


def test_nothing_is_trained_where_nothing_is_given(
    data: HeteroData, trainings: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert kg_embeddings(data) is None
    assert kg_embeddings(data, tmp_path / "transe.pt") is None
    assert trainings == []


def test_a_transe_is_trained_once_for_a_graph(data: HeteroData, trainings: list[dict[str, Any]]) -> None:
    state = torch.get_rng_state()
    first = pretrained_embeddings(data, 4, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    for same in (data, copy.copy(data), data.clone()):
        again = pretrained_embeddings(same, 4, progress=False)
        assert torch.equal(again.entity, first.entity)
        assert torch.equal(again.relation, first.relation)
    assert first.entity.shape == (NUM_ENTITIES, 4)
    assert trainings == [{"hidden_channels": 4, "progress": False, "seed": 0}]
    assert pretrained_embeddings(data, 3, progress=False).entity.shape == (NUM_ENTITIES, 3)
    assert pretrained_embeddings(data, 4, progress=False, seed=1).entity.ne(first.entity).any()
    data[RELATES].edge_type[0] = 2
    again = pretrained_embeddings(data, 4, progress=False)
    assert not torch.equal(again.entity, first.entity)
    assert len(trainings) == 4


def test_whoever_changes_embeddings_spoils_nobody_else_s(
    data: HeteroData, trainings: list[dict[str, Any]]
) -> None:
    first = pretrained_embeddings(data, 4, progress=False)
    right = first.entity.clone()
    for _ in range(2):
        tables = pretrained_embeddings(data, 4, progress=False)
        assert torch.equal(tables.entity, right)
        tables.entity.zero_()
        first.entity.zero_()
    assert len(trainings) == 1


def test_embeddings_are_kept_by_the_content_of_the_validation_store_and_by_dtype(
    make_store: Callable[..., HeteroData], trainings: list[dict[str, Any]]
) -> None:
    train, val, _ = TripleSplit(0.1, 0.1)(make_store(10, 42))

    def ask(store: HeteroData) -> KGTables:
        return pretrained_embeddings(train, 4, val=store, progress=False, accelerator="cpu")

    ask(val)
    ask(val.clone())
    assert len(trainings) == 1
    other = val.clone()
    other[RELATES].edge_label_index = val[RELATES].edge_label_index.roll(1, dims=1)
    assert repr(other) == repr(val)
    ask(other)
    assert len(trainings) == 2
    torch.set_default_dtype(torch.float64)
    try:
        assert ask(other).entity.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(trainings) == 3


def test_it_says_what_it_trains_and_shows_how_far_it_is(
    data: HeteroData, trainings: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained_embeddings(data, 4, accelerator="cpu")
    printed = capsys.readouterr()
    assert f"Training a TransE of 4 channels on {data[RELATES].num_edges} triples" in printed.out
    assert "TransE, epoch 1/2: loss" in printed.out
    pretrained_embeddings(data, 4, accelerator="cpu")  # there already: nothing is said
    pretrained_embeddings(data, 5, accelerator="cpu", progress=False)
    assert capsys.readouterr() == ("", "")
    assert [one["progress"] for one in trainings] == [True, False]


def test_a_file_keeps_the_embeddings(
    data: HeteroData, trainings: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "transe.pt"
    first = pretrained_embeddings(data, 4, path=path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["transe.pt"]
    embedding._last.clear()
    other = data.clone()
    for found in (
        pretrained_embeddings(other, 4, path=str(path)),
        kg_embeddings(other, str(path), 4),
        kg_embeddings(data, path, 4),
    ):
        assert found is not None
        assert torch.equal(found.entity, first.entity)
        assert torch.equal(found.relation, first.relation)
    assert len(trainings) == 1


@pytest.mark.usefixtures("trainings")
def test_a_file_of_something_else_is_refused(data: HeteroData, tmp_path: Path) -> None:
    path = tmp_path / "transe.pt"
    pretrained_embeddings(data, 4, path=path, progress=False)
    whole = path.read_bytes()
    changed = data.clone()
    changed[RELATES].edge_type[0] = 2
    renamed = data.clone()
    renamed.relation_name = ["x", *data.relation_name[1:]]
    for store, channels in ((changed, 4), (renamed, 4), (data, 5)):
        with pytest.raises(ValueError, match="of another knowledge graph or another number of channels"):
            kg_embeddings(store, path, channels)
        with pytest.raises(ValueError, match="of another knowledge graph or another number of channels"):
            pretrained_embeddings(store, channels, path=path)
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"transe\.pt is damaged"):
            kg_embeddings(data, path, 4)
    torch.save({"entity": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"transe\.pt is damaged"):
        kg_embeddings(data, path, 4)


def test_a_missing_folder_is_named_before_any_training(
    data: HeteroData, trainings: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "transe.pt"
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        kg_embeddings(data, path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        pretrained_embeddings(data, path=path)
    assert trainings == []
