"""Models as modules for PyG's explainers: the same scores, masks that act, explainers that run."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.explain import AttentionExplainer, CaptumExplainer, Explainer, GNNExplainer
from torch_geometric.explain.metric import fidelity, unfaithfulness
from torch_geometric.utils import softmax

from pyg_kgrec import EASE, KGRec, LightGCN, evaluate_explanations
from pyg_kgrec.data import drop_repeats
from pyg_kgrec.data.store import INTERACTS, RELATES
from pyg_kgrec.explain.units import HISTORY, KINDS, TRIPLE, Removals, Units
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.module import ScoreModule
from pyg_kgrec.testing import ordered_sums

pytestmark = pytest.mark.usefixtures("one_thread")
Splits = tuple[HeteroData, HeteroData, HeteroData]

MODELS: list[tuple[type[Recommender], dict[str, Any]]] = [
    (KGRec, {"num_layers": 1, "num_heads": 1}),
    (KGRec, {}),
    (KGRec, {"num_layers": 3}),
    (KGRec, {"inverse": True}),
    (KGRec, {"use_kg": False}),
    (KGRec, {"item_gate": True}),
    (KGRec, {"item_gate": True, "num_layers": 3}),
    (LightGCN, {}),
    (LightGCN, {"num_layers": 3}),
]
NAMES = [
    f"{model.__name__}-{'-'.join(f'{k}={v}' for k, v in settings.items())}" for model, settings in MODELS
]
REGRESSION = {"mode": "regression", "task_level": "edge", "return_type": "raw"}
CLASSES = {"mode": "multiclass_classification", "task_level": "edge", "return_type": "raw"}


@pytest.fixture
def test(make_splits: Callable[..., Splits]) -> HeteroData:
    return drop_repeats(make_splits(features=True)[2])


def build(model: type[Recommender], data: HeteroData, **settings: Any) -> Recommender:
    seed_everything(1)
    built = model(data, hidden_channels=8, **settings)
    if getattr(getattr(built, "encoder", None), "gate", None) is not None:
        with torch.no_grad():
            built.encoder.gate.copy_(torch.tensor([-0.3, 0.4]))
    return built


def scores(module: ScoreModule, pairs: Tensor, edges: Tensor | None = None) -> Tensor:
    """Scores of pairs on the module's graph, or on some of its edges."""
    data = module.data
    edges = torch.ones_like(data.edge_type, dtype=torch.bool) if edges is None else edges
    out: Tensor = module(data.x, data.edge_index[:, edges], data.edge_type[edges], pairs)
    return out


def all_pairs(data: HeteroData) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(data[t].num_nodes) for t in ("user", "item"))).t()


@pytest.mark.parametrize(("model", "settings"), MODELS, ids=NAMES)
class TestScores:
    def test_are_those_of_the_model(
        self, test: HeteroData, model: type[Recommender], settings: dict[str, Any]
    ) -> None:
        built, pairs = build(model, test, **settings), all_pairs(test)
        wanted = built.score(test, *pairs)
        torch.testing.assert_close(scores(built.as_module(test), pairs), wanted, atol=1e-5, rtol=1e-5)
        every = scores(built.as_module(test, catalogue=True), pairs[:, ::14])
        torch.testing.assert_close(every, built.score_all(test, pairs[0, ::14]), atol=1e-5, rtol=1e-5)

    def test_without_edges_are_those_on_a_store_without_them(
        self, test: HeteroData, model: type[Recommender], settings: dict[str, Any]
    ) -> None:
        built, pairs = build(model, test, **settings), all_pairs(test)
        module, less = built.as_module(test), copy.copy(test)
        del less[INTERACTS].time
        first = module.first_user
        user, item = test[INTERACTS].edge_index[:, 3]
        less[INTERACTS].edge_index = torch.cat(
            [test[INTERACTS].edge_index[:, :3], test[INTERACTS].edge_index[:, 4:]], dim=1
        )
        a, b = module.data.edge_index
        gone = ((a == first + user) & (b == item)) | ((b == first + user) & (a == item))
        if model is KGRec and settings.get("use_kg", True):
            less[RELATES].edge_index = test[RELATES].edge_index[:, 1:]
            less[RELATES].edge_type = test[RELATES].edge_type[1:]
            gone |= module.triple == 0
            assert (module.triple == 0).any()
        assert gone.any()
        after = built.score(less, *pairs)
        assert not torch.allclose(after, built.score(test, *pairs), atol=1e-5)
        torch.testing.assert_close(scores(module, pairs, ~gone), after, atol=1e-5, rtol=1e-5)

    def test_depend_on_the_receptive_field_alone(
        self, test: HeteroData, model: type[Recommender], settings: dict[str, Any]
    ) -> None:
        module = build(model, test, **settings).as_module(test)
        for user, item in ((0, 0), (3, 7), (9, 13)):
            pair = torch.tensor([[user], [item]])
            near = module.receptive_field(user, item)
            torch.testing.assert_close(scores(module, pair, near), scores(module, pair))

    def test_masks_act_on_every_hop(
        self, test: HeteroData, model: type[Recommender], settings: dict[str, Any]
    ) -> None:
        module = build(model, test, **settings).as_module(test)
        explainer = Explainer(
            module, GNNExplainer(), explanation_type="model", edge_mask_type="object", model_config=REGRESSION
        )
        data, pair = module.data, torch.tensor([[2, 5], [3, 4]])
        arguments = {"edge_type": data.edge_type, "edge_label_index": pair}

        def masked(mask: Tensor) -> Tensor:
            out: Tensor = explainer.get_masked_prediction(data.x, data.edge_index, None, mask, **arguments)
            return out

        torch.testing.assert_close(masked(torch.ones(data.num_edges)), scores(module, pair))
        start = (data.x[module.first_user + pair[0]] * data.x[pair[1]]).sum(-1)
        layers = len(module.convs) + 1 if model is LightGCN else 1
        torch.testing.assert_close(masked(torch.zeros(data.num_edges)), start / layers**2)


class TestModule:
    def test_keeps_its_weights_and_not_the_model(self, test: HeteroData) -> None:
        model = build(KGRec, test)
        module, pairs = model.as_module(test), all_pairs(test)
        before = scores(module, pairs)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1.0)
        assert torch.equal(scores(module, pairs), before)
        assert not list(module.parameters())
        gone = weakref.ref(model)
        del model
        gc.collect()
        assert gone() is None

    def test_a_model_in_training_mode_is_evaluated_and_stays_in_it(self, test: HeteroData) -> None:
        model = build(KGRec, test, dropout=0.5).train()
        pairs = all_pairs(test)
        torch.testing.assert_close(scores(model.as_module(test), pairs), model.score(test, *pairs))
        assert model.training

    def test_a_model_without_a_graph_says_so(self, test: HeteroData) -> None:
        model = EASE(test)
        model.solved.fill_(True)
        with pytest.raises(
            TypeError, match="EASE does not propagate over a graph, expected KGRec or LightGCN"
        ):
            model.as_module(test)

    def test_a_damaged_store_is_found(self, test: HeteroData) -> None:
        model = build(KGRec, test)
        broken = copy.copy(test)
        broken[INTERACTS].edge_index = test[INTERACTS].edge_index + 1000
        with pytest.raises(ValueError, match="edge_index"):
            model.as_module(broken)


@pytest.mark.parametrize("model", [KGRec, LightGCN])
class TestExplainers:
    def explained(self, module: ScoreModule, algorithm: Any, config: dict[str, Any]) -> tuple[Explainer, Any]:
        explainer = Explainer(
            module, algorithm, explanation_type="model", edge_mask_type="object", model_config=config
        )
        data = module.data
        explanation = explainer(
            data.x,
            data.edge_index,
            edge_type=data.edge_type,
            edge_label_index=torch.tensor([[2], [3]]),
        )
        return explainer, explanation

    def test_gnn_explainer_marks_edges_of_the_receptive_field(
        self, test: HeteroData, model: type[Recommender]
    ) -> None:
        seed_everything(0)
        module = build(model, test).as_module(test)
        with ordered_sums():
            _, explanation = self.explained(module, GNNExplainer(epochs=5), REGRESSION)
        mask = explanation.edge_mask
        assert mask.shape == (module.data.num_edges,)
        assert (mask > 0).any()
        assert not mask[~module.receptive_field(2, 3)].any()
        assert explanation.get_explanation_subgraph().num_edges == int((mask > 0).sum())

    def test_metrics_of_pyg_are_defined_for_the_catalogue(
        self, test: HeteroData, model: type[Recommender]
    ) -> None:
        seed_everything(0)
        module = build(model, test).as_module(test, catalogue=True)
        explainer, explanation = self.explained(module, GNNExplainer(epochs=5), CLASSES)
        top = scores(module, torch.tensor([[2], [3]])).argmax(1)
        assert torch.equal(explanation.target, top)
        positive, negative = fidelity(explainer, explanation)
        assert {positive, negative} <= {0.0, 1.0}
        assert 0 <= unfaithfulness(explainer, explanation) < 1
        explanation.edge_mask = torch.ones_like(explanation.edge_mask)  # the whole graph explains all
        assert fidelity(explainer, explanation)[1] == 0
        assert unfaithfulness(explainer, explanation) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("method", ["Saliency", "IntegratedGradients"])
    def test_captum_attributes_to_edges(
        self, test: HeteroData, model: type[Recommender], method: str
    ) -> None:
        pytest.importorskip("captum", reason="captum is not installed: pip install 'pyg-kgrec[captum]'")
        module = build(model, test).as_module(test)
        _, explanation = self.explained(module, CaptumExplainer(method), REGRESSION)
        near = module.receptive_field(2, 3)
        assert (explanation.edge_mask[near] != 0).any()
        assert not explanation.edge_mask[~near].any()
        if method == "IntegratedGradients" and model is LightGCN:
            # Attributions add up to what the edges give to the score. KGRec's do not: its hops are normalised, so
            # that scaling all messages alike changes nothing until they are gone.
            data = module.data
            start = (data.x[module.first_user + 2] * data.x[3]).sum() / (len(module.convs) + 1) ** 2
            whole = scores(module, torch.tensor([[2], [3]])) - start
            torch.testing.assert_close(explanation.edge_mask.sum(), whole[0], rtol=0.01, atol=1e-4)

    def test_values_of_units_are_sums_over_their_edges(
        self, test: HeteroData, model: type[Recommender]
    ) -> None:
        module = build(model, test).as_module(test)
        mask = torch.arange(module.data.num_edges, dtype=torch.float32)
        history = test[INTERACTS].edge_index[1][test[INTERACTS].edge_index[0] == 2]
        kinds = torch.tensor([KINDS.index(HISTORY)] * 2 + [KINDS.index(TRIPLE), KINDS.index("memory")])
        node = torch.tensor([history[0], history[1], 4, 0])
        units = Units(torch.zeros_like(node), kinds, node, torch.full((4,), torch.nan))
        value = module.unit_values(mask, torch.tensor(2), units)
        a, b = module.data.edge_index
        me = module.first_user + 2
        for place in (0, 1):
            mine = ((a == me) & (b == node[place])) | ((b == me) & (a == node[place]))
            assert value[place] == mask[mine].sum()
        triple = mask[module.triple == 4].double()
        assert value[2] == triple.sum() if triple.numel() else value[2].isnan()
        assert value[3].isnan()


def test_a_unit_has_the_masks_of_copies_and_of_the_stored_inverse(test: HeteroData) -> None:
    (head, tail), relation, names = test[RELATES].edge_index, test[RELATES].edge_type, test.relation_name
    number = relation.numel()
    # Each triple the other way round first, then as it is, then the first five again.
    edges = torch.stack([torch.cat([tail, head, head[:5]]), torch.cat([head, tail, tail[:5]])])
    test[RELATES].edge_index = edges
    test[RELATES].edge_type = torch.cat([relation + len(names), relation, relation[:5]])
    test.relation_name = [*names, *(f"~{name}" for name in names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the copies
        module = build(KGRec, test).as_module(test)
    mask = torch.arange(1, module.data.num_edges + 1, dtype=torch.float32)
    node = torch.tensor([2, 7])
    units = Units(torch.zeros_like(node), torch.full_like(node, KINDS.index(TRIPLE)), node, node.float())
    value = module.unit_values(mask, torch.tensor(2), units)
    for place, same in enumerate(([2, number + 2, 2 * number + 2], [7, number + 7])):
        edges = torch.isin(module.triple, torch.tensor(same))
        assert edges.sum() >= len(same)
        assert value[place] == mask[edges].sum()
    # Whichever of them a unit names.
    other = Units(units.pair, units.kind, node + number, units.weight)
    assert torch.equal(module.unit_values(mask, torch.tensor(2), other), value)


def test_attention_explainer_gives_the_attention(test: HeteroData) -> None:
    model = build(KGRec, test, num_layers=1)
    module = model.as_module(test)
    data = module.data
    explainer = Explainer(
        module,
        AttentionExplainer(),
        explanation_type="model",
        edge_mask_type="object",
        model_config=REGRESSION,
    )
    pair = torch.tensor([[2], [3]])
    mask = explainer(data.x, data.edge_index, edge_type=data.edge_type, edge_label_index=pair).edge_mask
    conv, graph = model.encoder.conv, model.inputs(test).graph
    triples = data.edge_type < module.num_relations
    edges, edge_type = data.edge_index[:, triples], data.edge_type[triples]
    with torch.no_grad():
        logits = conv.attention_logits(data.x[: graph.num_nodes], edges, edge_type)
        wanted = softmax(logits, edges[0], num_nodes=graph.num_nodes).max(1).values
    torch.testing.assert_close(mask[triples], wanted)
    degree = torch.bincount(test[INTERACTS].edge_index[0])
    torch.testing.assert_close(mask[~triples], 1.0 / degree[data.edge_index[0, ~triples] - graph.num_nodes])


class Cut(KGRec):
    """KGRec whose units are left out by cutting the edges of its module, one removal after another."""

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        module = self.as_module(inputs)
        parts = []
        for pair, (u, i) in enumerate(zip(user.tolist(), item.tolist())):
            near = module.receptive_field(u, i)
            triple = module.triple[near & (module.triple >= 0)].unique()
            history = inputs.edge_index[1][inputs.edge_index[0] == u].unique()
            kind = [KINDS.index(TRIPLE)] * triple.numel() + [KINDS.index(HISTORY)] * history.numel()
            parts.append((torch.full((len(kind),), pair), torch.tensor(kind), torch.cat([triple, history])))
        pairs, kinds, nodes = (torch.cat(part) for part in zip(*parts))
        return Units(pairs, kinds, nodes, torch.full(nodes.shape, torch.nan))

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        module, pair, removal = (
            self.as_module(inputs, catalogue=every),
            removals.pair(units),
            removals.removal(),
        )
        a, b = module.data.edge_index
        out = []
        for r in range(len(removals)):
            unit = removals.unit[removal == r]
            kind, node = units.kind[unit], units.node[unit]
            history = node[kind == KINDS.index(HISTORY)]
            gone = (a == module.first_user + user[pair[r]]) & torch.isin(b, history)
            gone |= torch.isin(module.triple, node[kind == KINDS.index(TRIPLE)])
            out.append(scores(module, torch.stack([user[pair[r]], item[pair[r]]]).view(2, 1), ~gone))
        return torch.cat(out)


def test_explainers_propose_units_to_be_measured(test: HeteroData) -> None:
    model = build(Cut, test, num_layers=1)
    explainers = {
        "GNNExplainer": GNNExplainer(epochs=3),
        "AttentionExplainer": AttentionExplainer(),
        "edge": lambda model, inputs, user, item, units: units.node.float(),
    }
    first, second = (
        evaluate_explanations(model, test, k=1, num_users=2, steps=1, most=1, explainers=explainers)
        for _ in range(2)
    )
    table = first.summary()
    assert first.rankings == ["effect", "popularity", "random", *explainers]
    assert set(table.index.get_level_values("kind")) == {"triple", "history", "all"}
    assert table["DEL@1"].notna().all()
    assert (table["ms"] > 0).all()
    assert first.to_frame().equals(second.to_frame())


def test_an_explainer_needs_a_graph(make_splits: Callable[..., Splits]) -> None:
    from pyg_kgrec.faithfulness.proposals import by_explainer

    test = make_splits()[2]
    model = EASE(test)
    model.solved.fill_(True)
    with pytest.raises(TypeError, match="EASE does not propagate over a graph"):
        by_explainer(GNNExplainer())(model, model.inputs(test), *([torch.tensor([0])] * 2), None)
