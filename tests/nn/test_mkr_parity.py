"""MKR against numbers that the authors' code computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import HeteroData

from pyg_kgrec import MKR
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs

Arrays = dict[str, Tensor]


@pytest.fixture(scope="module")
def arrays(reference_root: Path) -> Arrays:
    with np.load(reference_root / "mkr.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


@pytest.fixture(scope="module")
def data(arrays: Arrays) -> HeteroData:
    data = HeteroData()
    for node_type in (USER, ITEM, ENTITY):
        data[node_type].num_nodes = arrays[f"{node_type}_emb"].size(0)
    data[INTERACTS].edge_index = torch.stack([arrays["user"], arrays["item"]])
    same = torch.arange(data[ITEM].num_nodes)
    data[IS].edge_index = torch.stack([same, same])
    data[RELATES].edge_index = torch.stack([arrays["head"], arrays["tail"]])
    data[RELATES].edge_type = arrays["relation"]
    data.relation_name = [f"r{i}" for i in range(arrays["relation_emb"].size(0))]
    return data


@pytest.fixture(scope="module")
def model(arrays: Arrays, data: HeteroData) -> MKR:
    channels, num_layers = arrays["user_emb"].size(1), int(arrays["num_layers"])
    model = MKR(data, channels, num_layers, loss="bce", activation="relu")
    with torch.no_grad():
        for node_type in (USER, ITEM, ENTITY):
            model.encoders[node_type].weight.copy_(arrays[f"{node_type}_emb"])
        model.relation_embedding.copy_(arrays["relation_emb"])
        for i, unit in enumerate(model.units.layers):
            weights = [arrays[f"cc{i}_w_{name}"] for name in ("vv", "ve", "ev", "ee")]
            unit.weight.copy_(torch.stack(weights, dim=1))
            unit.bias.copy_(torch.stack([arrays[f"cc{i}_b_v"], arrays[f"cc{i}_b_e"]]))
        for mlp, name in ((model.user_mlp, "user_mlp"), (model.knowledge_mlp, "tail_mlp")):
            for i, layer in enumerate(mlp.lins):
                layer.weight.copy_(arrays[f"{name}{i}_weight"])
                layer.bias.copy_(arrays[f"{name}{i}_bias"])
        model.tail_mlp.lins[0].weight.copy_(arrays["kge_pred_weight"])
        model.tail_mlp.lins[0].bias.copy_(arrays["kge_pred_bias"])
    return model


@pytest.fixture(scope="module")
def inputs(model: MKR, data: HeteroData) -> Inputs:
    return model.prepare(data)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_latent_embeddings(model: MKR, inputs: Inputs, arrays: Arrays) -> None:
    encoded = model.encode(inputs)
    assert isinstance(encoded, DotProduct)
    close(encoded.user[arrays["user"]], arrays["user_latent"])
    close(encoded.item[arrays["item"]], arrays["item_latent"])
    close(model.entity_latent(inputs, arrays["item"]), arrays["entity_latent"])


def ranking(model: MKR, inputs: Inputs, arrays: Arrays) -> Tensor:
    batch = arrays["user"], arrays["item"], arrays["label"]
    return model.training_losses(inputs, batch, torch.Generator())["ranking"]


def test_scores_and_loss(model: MKR, data: HeteroData, inputs: Inputs, arrays: Arrays) -> None:
    score = model.score(data, arrays["user"], arrays["item"])
    close(score, arrays["score"])
    close(binary_cross_entropy_with_logits(score, arrays["label"]), arrays["bce"])
    close(ranking(model, inputs, arrays).detach(), arrays["bce"])


def test_gradients(model: MKR, inputs: Inputs, arrays: Arrays) -> None:
    model.zero_grad()
    ranking(model, inputs, arrays).backward()
    close(model.encoders[ITEM].weight.grad, arrays["grad_item_emb"])
    close(model.encoders[ENTITY].weight.grad, arrays["grad_entity_emb"])


def test_knowledge_side(model: MKR, data: HeteroData, inputs: Inputs, arrays: Arrays) -> None:
    close(model.tail_latent(inputs, arrays["tail"]), arrays["tail_latent"])
    close(model.predict_tail(inputs, arrays["head"], arrays["relation"]), arrays["tail_pred"])
    close(model.triple_scores(data), arrays["kge_score"])
    assert model.kge_rmse(data) == pytest.approx(float(arrays["kge_rmse"]), abs=1e-5)
    every = torch.arange(arrays["head"].numel())
    loss = model.knowledge_losses(inputs, every, torch.Generator())["knowledge"]
    close(loss.detach(), -arrays["kge_score"].mean())
