"""KSR against numbers that the public reference code computed."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, ops
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.models.base import predicting
from pyg_kgrec.ops import catalogue_cross_entropy

Arrays = dict[str, Tensor]
WEIGHTS = {
    "encoders.item.weight": "item_emb",
    "gru.weight_ih_l0": "gru_w_ih",
    "gru.weight_hh_l0": "gru_w_hh",
    "query.weight": "query_weight",
    "query.bias": "query_bias",
    "session_layer.weight": "user_weight",
    "session_layer.bias": "user_bias",
    "item_layer.weight": "item_weight",
    "item_layer.bias": "item_bias",
}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def arrays(reference_root: Path) -> Arrays:
    with np.load(reference_root / "ksr.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


@pytest.fixture(scope="module")
def data(arrays: Arrays) -> HeteroData:
    """Each sequence is a user's history; item i is entity i (0, their padding, stands in no sequence here)."""
    data, length = HeteroData(), arrays["length"]
    num_items, num_relations = arrays["item_emb"].size(0), arrays["relation_emb"].size(0)
    data[USER].num_nodes, data[ITEM].num_nodes, data[ENTITY].num_nodes = length.numel(), num_items, num_items
    mask = torch.arange(arrays["sequence"].size(1)) < length.unsqueeze(1)
    data[INTERACTS].edge_index = torch.stack([mask.nonzero()[:, 0], arrays["sequence"][mask]])
    data[INTERACTS].time = torch.arange(int(length.sum()))
    same = torch.arange(num_items)
    data[IS].edge_index = torch.stack([same, same])
    data[RELATES].edge_index = torch.stack([same[:-1], same[1:]])
    data[RELATES].edge_type = same[:-1] % num_relations
    data.relation_name = [f"r{i}" for i in range(num_relations)]
    return data


@pytest.fixture(scope="module")
def model(data: HeteroData, arrays: Arrays) -> KSR:
    width, state = arrays["gru_w_ih"].size(1), arrays["gru_w_hh"].size(1)
    model = KSR(
        data,
        width,
        state,
        dropout=0.0,
        gamma=float(arrays["gamma"]),
        freeze_kg=False,
        max_length=arrays["sequence"].size(1),
        kg_embedding=(arrays["item_entity_emb"], arrays["relation_emb"]),
    )
    weights = {name: arrays[source] for name, source in WEIGHTS.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) == {"entity", "entity_start", "relation_key", "pretrained", "popularity"}
    assert not unexpected
    return model


@pytest.fixture(params=["torch", "scan", "auto"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_array_of_a_session(data: HeteroData, arrays: Arrays, model: KSR, backend: str) -> None:
    users = torch.arange(data[USER].num_nodes)
    with ops.backend(backend), predicting():
        encoded = model.encode(model.prepare(data))
        session = encoded.sequences.last(users, model.max_length)
        read = encoded.read(session, users)
        embeddings = encoded.users(users)
    last = users, arrays["length"] - 1
    close(read.h[last], arrays["gru_last"])
    close(read.memory, arrays["memory"])
    close(read.attention[last], arrays["attention"])
    close(read.out[last], arrays["user_repr"])
    close(embeddings, arrays["user_repr"])


def test_scores(data: HeteroData, arrays: Arrays, model: KSR, backend: str) -> None:
    users = torch.arange(data[USER].num_nodes)
    with ops.backend(backend):
        close(model.score_all(data, users), arrays["scores_all"])
        close(model.score(data, users, arrays["target"]), arrays["scores_all"][users, arrays["target"]])


def test_loss_and_gradients(data: HeteroData, arrays: Arrays, model: KSR, backend: str) -> None:
    users = torch.arange(data[USER].num_nodes)
    model.zero_grad()
    with ops.backend(backend):
        encoded = model.encode(model.prepare(data))
        loss = catalogue_cross_entropy(encoded.users(users), encoded.items.scored, arrays["target"])
        loss.backward()
    close(loss.detach(), arrays["ce_loss"])
    item = model.encoders[ITEM].weight
    assert isinstance(item, Tensor)
    assert item.grad is not None
    assert model.entity is not None
    assert model.entity.grad is not None
    close(item.grad, arrays["grad_item_emb"])
    close(model.entity.grad, arrays["grad_item_entity_emb"])


def test_the_last_targets_add_that_loss_to_a_training_step(
    data: HeteroData, arrays: Arrays, model: KSR
) -> None:
    """A step is the mean over all targets of its windows: those of the sequences, and one more for each user."""
    exact = copy.deepcopy(model).double()
    inputs, users, length = exact.prepare(data), torch.arange(data[USER].num_nodes), arrays["length"]
    place = torch.arange(arrays["sequence"].size(1))
    shorter = torch.where(place < length.unsqueeze(1), arrays["sequence"], -1)
    longer = torch.cat([shorter, shorter.new_full((users.numel(), 1), -1)], dim=1)
    longer[users, length] = arrays["target"]
    total = []
    for window in (longer, shorter):
        mean = exact.training_losses(inputs, (window, users), torch.Generator())["ranking"].detach()
        total.append(mean * (window[:, 1:] >= 0).sum())
    close(((total[0] - total[1]) / users.numel()).float(), arrays["ce_loss"])
