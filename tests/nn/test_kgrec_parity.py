"""Every array of ``kgrec.npz``, which the authors' code computed, to 1e-5 in float32."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyg_kgrec import ops
from pyg_kgrec.nn import AttnHGCN, AttnHGCNConv, Contrast, bpr_loss
from pyg_kgrec.nn.loss import l2_penalty
from pyg_kgrec.nn.rationale import ItemTriples, drop_knowledge, item_rationale
from pyg_kgrec.ops import BipartiteIndex, TripleIndex
from pyg_kgrec.ops.dispatch import installed

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in ("torch", "scatter", "numba")
]

NUMBERS = ("one", "two", "three", "four")


class Reference:
    """The arrays, and the layers with their weights."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {name: torch.from_numpy(file[name]) for name in file.files}

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    @cached_property
    def num_items(self) -> int:
        return int(self["num_items"])

    @cached_property
    def edge_index(self) -> Tensor:
        return torch.stack([self["head"], self["tail"]])

    @cached_property
    def interactions(self) -> Tensor:
        return torch.stack([self["inter_user"], self["inter_item"]])

    def index(self, compact: bool = False) -> TripleIndex:
        num_nodes, num_relations = self["entity_emb"].size(0), self["relation_emb"].size(0)
        return TripleIndex.build(self.edge_index, self["edge_type"], num_nodes, num_relations, compact)

    def pairs(self, num_items: int) -> BipartiteIndex:
        return BipartiteIndex.build(self.interactions, self["user_emb"].size(0), num_items)

    @cached_property
    def hops(self) -> str:
        """Start of the names of the encoder's results: ``'two_hop'`` of two layers."""
        (name,) = (n for n in self.arrays if n.endswith("_hop_entity"))
        return name.removesuffix("_entity")

    def encoder(self) -> AttnHGCN:
        num_layers = NUMBERS.index(self.hops.removesuffix("_hop")) + 1
        num_relations, channels = self["relation_emb"].shape
        encoder = AttnHGCN(channels, num_relations, num_layers, int(self["num_heads"]), dropout=0.0)
        with torch.no_grad():
            encoder.conv.weight.copy_(self["W_Q"])
            encoder.conv.relation_embedding.copy_(self["relation_emb"])
        return encoder.eval()

    def conv(self) -> AttnHGCNConv:
        return self.encoder().conv

    def all_hops(self, encoder: AttnHGCN, user: Tensor, entity: Tensor) -> tuple[Tensor, Tensor]:
        return encoder(
            user, entity, self.edge_index, self["edge_type"], self.interactions, self["inter_weight"]
        )


@pytest.fixture(scope="module")
def reference(reference_root: Path) -> Reference:
    return Reference(reference_root / "kgrec.npz")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with ops.backend(request.param):
        yield request.param


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_one_layer_entity_from_an_edge_index(reference: Reference) -> None:
    out = reference.conv()(reference["entity_emb"], reference.edge_index, reference["edge_type"])
    close(out, reference["one_layer_entity"])


@pytest.mark.parametrize("compact", [False, True])
def test_one_layer_entity_from_an_index(reference: Reference, backend: str, compact: bool) -> None:
    close(
        reference.conv()(reference["entity_emb"], reference.index(compact)),
        reference["one_layer_entity"],
    )


def test_one_layer_user(reference: Reference, backend: str) -> None:
    pairs = reference.pairs(reference["entity_emb"].size(0))
    weight = reference["inter_weight"][pairs.perm]
    close(
        ops.weighted_aggregate(reference["entity_emb"], pairs, weight),
        reference["one_layer_user"],
    )


def test_the_weight_of_an_interaction_is_one_over_the_number_of_the_users(reference: Reference) -> None:
    pairs = reference.pairs(reference.num_items)
    close(pairs.mean_weight(), reference["inter_weight"][pairs.perm])


@pytest.mark.parametrize("part", ["user", "entity"])
def test_all_hops(reference: Reference, backend: str, part: str) -> None:
    user, entity = reference.all_hops(reference.encoder(), reference["user_emb"], reference["entity_emb"])
    close(user if part == "user" else entity, reference[f"{reference.hops}_{part}"])


@pytest.mark.parametrize("of", ["entity_emb", "user_emb", "W_Q", "relation_emb"])
def test_gradient(reference: Reference, backend: str, of: str) -> None:
    encoder = reference.encoder()
    inputs = {
        "user_emb": reference["user_emb"].clone().requires_grad_(),
        "entity_emb": reference["entity_emb"].clone().requires_grad_(),
        "W_Q": encoder.conv.weight,
        "relation_emb": encoder.conv.relation_embedding,
    }
    user, entity = reference.all_hops(encoder, inputs["user_emb"], inputs["entity_emb"])
    objective = (entity * reference["obj_entity_weight"]).sum() + (user * reference["obj_user_weight"]).sum()
    (gradient,) = torch.autograd.grad(objective, inputs[of])
    close(gradient, reference[f"grad_{of}"])


def test_rationale_score_from_an_edge_index(reference: Reference) -> None:
    conv = reference.conv()
    score = conv.rationale_score(reference["entity_emb"], reference.edge_index, reference["edge_type"])
    close(score, reference["rationale_score"])
    assert not score.requires_grad


def test_rationale_score_from_an_index(reference: Reference, backend: str) -> None:
    index = reference.index()
    score = reference.conv().rationale_score(reference["entity_emb"], index)
    close(index.to_original(score), reference["rationale_score"])


def test_rationale_logit(reference: Reference) -> None:
    logits = reference.conv().attention_logits(
        reference["entity_emb"], reference.edge_index, reference["edge_type"]
    )
    close(logits.mean(dim=-1), reference["rationale_logit"])


def test_item_rationale(reference: Reference) -> None:
    rationale = item_rationale(
        reference["rationale_score"], ItemTriples.build(reference.edge_index, reference.num_items)
    )
    close(rationale, item_rationale_by_hand(reference))
    close(rationale, reference["item_rationale_mean"])


def item_rationale_by_hand(reference: Reference) -> Tensor:
    out = []
    for item in range(reference.num_items):
        sides = [reference["rationale_score"][end == item] for end in reference.edge_index]
        means = []
        for side in sides:
            mean = float(side.mean()) if side.numel() else 0.0
            means.append(mean if mean != 0 else 1.0)
        out.append(sum(means) / 2)
    return torch.tensor(out)


def test_the_lowest_half_is_dropped(reference: Reference, backend: str) -> None:
    score = reference["rationale_score"]
    stays = drop_knowledge(score, torch.ones_like(score, dtype=torch.bool), score.numel() // 2)
    assert torch.equal(stays, reference["kg_keep_half"])


def test_interaction_view(reference: Reference, backend: str) -> None:
    pairs = reference.pairs(reference.num_items)
    view = reference.encoder().interaction_view(
        reference["user_emb"],
        reference["entity_emb"][: reference.num_items],
        pairs,
        reference["inter_weight"][pairs.perm],
    )
    close(view, reference["ui_view_item"])


@pytest.mark.parametrize("compact", [False, True])
def test_knowledge_view(reference: Reference, backend: str, compact: bool) -> None:
    index, entity = reference.index(compact), reference["entity_emb"]
    hops = reference.encoder().knowledge_view(entity, index)
    close(entity + index.dense(hops), reference["kg_view_entity"])


def test_contrast(reference: Reference) -> None:
    contrast = Contrast(reference["ui_view_item"].size(1), tau=float(reference["contrast_tau"]))
    with torch.no_grad():
        for name, mlp in (("mlp1", contrast.mlp1), ("mlp2", contrast.mlp2)):
            for layer, place in zip(mlp.lins, (0, 2)):
                layer.weight.copy_(reference[f"contrast_{name}_{place}_weight"])
                layer.bias.copy_(reference[f"contrast_{name}_{place}_bias"])
    views = reference["ui_view_item"], reference["kg_view_entity"][: reference.num_items]
    close(contrast(*views, perm=reference["contrast_perm"]), reference["contrast_loss"])


def test_reconstruction(reference: Reference) -> None:
    entity, hidden = reference[f"{reference.hops}_entity"], reference["mae_edges"]
    head, tail = reference.edge_index[:, hidden]
    relation = reference["relation_emb"][reference["edge_type"][hidden]]
    close(-logsigmoid((entity[head] * entity[tail] * relation).sum(-1)).mean(), reference["mae_loss"])


def test_bpr(reference: Reference) -> None:
    user = reference[f"{reference.hops}_user"][reference["bpr_user"]]
    sample = torch.stack([reference["bpr_pos"], reference["bpr_neg"]], dim=1)
    scores = ops.sampled_scores(user, reference[f"{reference.hops}_entity"], sample)
    close(bpr_loss(scores), reference["bpr_mf"])


def test_decay(reference: Reference) -> None:
    user = reference[f"{reference.hops}_user"][reference["bpr_user"]]
    negative = reference["bpr_neg"].unsqueeze(1)
    penalty = l2_penalty(user, reference[f"{reference.hops}_entity"], reference["bpr_pos"], negative)
    close(reference["bpr_decay"].float() * penalty, reference["bpr_reg"])
