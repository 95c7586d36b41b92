"""KTUP against numbers that the public reference code computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import KTUP, ops
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.kge import TransH
from pyg_kgrec.nn.norms import orthogonality_loss

Arrays = dict[str, Tensor]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def arrays(reference_root: Path) -> Arrays:
    with np.load(reference_root / "ktup.npz") as file:
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


def build(data: HeteroData, arrays: Arrays, **settings: object) -> KTUP:
    settings = {
        "hidden_channels": arrays["user_emb"].size(1),
        "induction": "soft",
        "item_norm": torch.inf,
    } | settings
    model = KTUP(data, **settings)  # type: ignore[arg-type]
    tables = {
        "preference": "pref_emb",
        "preference_normal": "pref_norm_emb",
        "relation": "relation_emb",
        "relation_normal": "relation_norm_emb",
    }
    tables |= {f"encoders.{t}.weight": f"{t}_emb" for t in (USER, ITEM, ENTITY)}
    model.load_state_dict({name: arrays[source] for name, source in tables.items()})
    return model


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_soft_scores(data: HeteroData, arrays: Arrays, norm: str) -> None:
    model = build(data, arrays, norm=norm)
    score = model.score(data, arrays["user"], arrays["item"])
    close(score, arrays[f"score_{norm}"])
    every = model.score_all(data, torch.arange(data[USER].num_nodes))
    close(every, arrays[f"score_all_{norm}"])


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_hard_scores(data: HeteroData, arrays: Arrays, backend: str) -> None:
    model = build(data, arrays, induction="hard")
    with ops.backend(backend):
        score = model.score(data, arrays["user"], arrays["item"])
        close(score, arrays["score_hard_l2"])
        every = model.score_all(data, arrays["user"])
    found = every[torch.arange(arrays["item"].numel()), arrays["item"]]
    close(found, arrays["score_hard_l2"])


def test_the_induced_preference(data: HeteroData, arrays: Arrays) -> None:
    model = build(data, arrays)
    with torch.no_grad():
        encoded = model.encode(model.prepare(data))
        pi = (encoded.user[arrays["user"]] + encoded.item[arrays["item"]]) @ encoded.translation.t()
    close(pi, arrays["preference"])
    close(pi @ encoded.translation, arrays["preference_translation"])
    close(pi @ encoded.normal, arrays["preference_norm"])
    assert torch.equal(ops.choose_relation(pi).argmax(-1), arrays["hard_choice"])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_triples(data: HeteroData, arrays: Arrays, norm: str) -> None:
    model = build(data, arrays, norm=norm)
    close(model.triple_scores(data).detach(), arrays[f"kg_pos_{norm}"])
    head, relation, tail = (arrays[name] for name in ("head", "relation", "tail"))
    scorer, row = model.triple_scorer(data), torch.arange(head.numel())
    tails, heads = scorer.tails(head, relation), scorer.heads(relation, tail)
    close(tails[row, tail], arrays[f"kg_pos_{norm}"])
    close(heads[row, head], arrays[f"kg_pos_{norm}"])
    close(tails[row, arrays["neg_tail"]], arrays[f"kg_neg_{norm}"])

    layer = TransH(data[ENTITY].num_nodes, *arrays["relation_emb"].shape, p_norm=int(norm[1]))
    sources = {"node_emb": "entity_emb", "rel_emb": "relation_emb", "normal_emb": "relation_norm_emb"}
    layer.load_state_dict({f"{name}.weight": arrays[source] for name, source in sources.items()})
    with torch.no_grad():
        close(layer(head, relation, tail), arrays[f"kg_pos_{norm}"])
        false = layer(head, relation, arrays["neg_tail"])
    close(false, arrays[f"kg_neg_{norm}"])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_alignment_and_orthogonality(data: HeteroData, arrays: Arrays, norm: str) -> None:
    model = build(data, arrays, norm=norm, joint_ratio=1.0)
    batch = arrays["user"], arrays["item"]
    losses = model.training_losses(model.prepare(data), batch, torch.Generator().manual_seed(0))
    close(losses["orthogonality"].detach(), arrays["orthogonal_pref"])
    close(orthogonality_loss(arrays["pref_emb"], arrays["pref_norm_emb"]), arrays["orthogonal_pref"])
    close(losses["alignment"].detach(), arrays[f"align_{norm}"])
