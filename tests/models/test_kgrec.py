from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec
from pyg_kgrec.data import INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.data.sampling import NegativeSampler
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.models import kgrec as kgrec_module
from pyg_kgrec.models.teacher import Teacher
from pyg_kgrec.nn import AttnHGCN

pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


def losses_of(model: KGRec, train: HeteroData, seed: int = 0) -> dict[str, Tensor]:
    inputs = model.prepare(train)
    batch = model.training_examples(inputs)
    return model.train().training_losses(inputs, batch, torch.Generator().manual_seed(seed))


def test_scores_are_the_encoders_of_the_collaborative_graph(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8).eval()
    links = test[IS].edge_index
    one = (links[0].bincount(minlength=14)[links[0]] == 1) & (links[1].bincount(minlength=20)[links[1]] == 1)
    node = torch.full((20,), -1)
    node[links[1, one]] = links[0, one]
    node[node < 0] = 14 + torch.arange(int((node < 0).sum()))
    others = torch.stack([links[0, ~one], node[links[1, ~one]]])
    edge_index = torch.cat([node[test[RELATES].edge_index], others], dim=1)
    edge_type = torch.cat([test[RELATES].edge_type, torch.full((others.size(1),), 3)])
    pairs = test[INTERACTS].edge_index
    weight = 1 / pairs[0].bincount().float()[pairs[0]]
    user, entity = model.encoder(
        model.user_encoder.weight, model.node_encoder.weight, edge_index, edge_type, pairs, weight
    )
    torch.testing.assert_close(model.score_all(test, torch.arange(10)), user @ entity[:14].t())


def test_rationale_scores_stand_in_the_order_of_the_store(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = KGRec(train, hidden_channels=8)
    score = model.rationale_score(test)
    assert score.shape == test[RELATES].edge_type.shape
    assert not score.requires_grad
    order = torch.randperm(score.numel())
    other = copy.copy(test)
    other[RELATES].edge_index = test[RELATES].edge_index[:, order]
    other[RELATES].edge_type = test[RELATES].edge_type[order]
    torch.testing.assert_close(model.rationale_score(other), score[order])
    # The mean over the triples of a head is 1, unless a link that is no triple has a share in it.
    head = test[RELATES].edge_index[0]
    total = torch.zeros(20).index_add(0, head, score)
    torch.testing.assert_close(total[head], head.bincount()[head].float())


def test_rationale_scores_with_inverse_relations_are_those_of_the_heads(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    model = KGRec(train, hidden_channels=8, inverse=True)
    score = model.rationale_score(train)
    assert bool((score > 0).all())
    inputs = model.prepare(train)
    graph, (_, node) = inputs.graph, model.embed(inputs)
    full = model.encoder.conv.rationale_score(node, graph.triples)
    plain = graph.triples.edge_type < model.num_relations // 2
    for place in range(score.numel()):
        mine = plain & (graph.triple == place)
        torch.testing.assert_close(full[mine], score[place : place + 1])


def test_without_knowledge_triples_say_nothing(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8, use_kg=False)
    before = model.score_all(test, torch.arange(10))
    test[RELATES].edge_index = test[RELATES].edge_index.flip(1)
    assert torch.equal(model.score_all(test, torch.arange(10)), before)
    assert not model.rationale_score(test).any()
    assert set(losses_of(model, train)) == {"ranking", "distillation", "decay"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"reconstruction", "contrast"}),
        ({"masking": "none"}, {"contrast"}),
        ({"masking": "random"}, {"reconstruction", "contrast"}),
        ({"contrast": "none"}, {"reconstruction"}),
        ({"contrast": "random"}, {"reconstruction", "contrast"}),
        ({"masking": "none", "contrast": "none"}, set()),
        ({"mae_coef": 0.0}, {"contrast"}),
        ({"cl_coef": 0.0}, {"reconstruction"}),
        ({"mae_msize": 0}, {"contrast"}),
        ({"node_dropout_rate": 0.0, "cl_drop": 0.0}, {"reconstruction", "contrast"}),
        ({"node_dropout_rate": 0.9, "cl_drop": 0.9}, {"contrast"}),
        ({"inverse": True, "num_layers": 1, "num_heads": 4}, {"reconstruction", "contrast"}),
        ({"num_layers": 3, "loss": "bpr", "negatives": "popularity"}, {"reconstruction", "contrast"}),
    ],
)
def test_parts_of_the_loss(make_splits: SplitBuilder, settings: dict[str, Any], names: set[str]) -> None:
    train = make_splits()[0]
    losses = losses_of(KGRec(train, hidden_channels=8, **settings), train)
    assert set(losses) == {"ranking", "distillation", "decay"} | names
    total = torch.stack(list(losses.values())).sum()
    assert bool(torch.isfinite(total))
    total.backward()


def test_weights_of_the_losses(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    torch.manual_seed(0)
    light = KGRec(train, hidden_channels=8, mae_coef=0.1, cl_coef=0.01, decay=1e-5, distill=0.2)
    heavy = KGRec(train, hidden_channels=8, mae_coef=0.2, cl_coef=0.04, decay=3e-5, distill=0.6)
    heavy.load_state_dict(light.state_dict())
    first, second = losses_of(light, train), losses_of(heavy, train)
    ratio = {name: (second[name] / first[name]).item() for name in first}
    expected = {"ranking": 0.5, "distillation": 3, "decay": 3, "reconstruction": 2, "contrast": 4}
    assert ratio == pytest.approx(expected, rel=1e-4)


AS_IN_THE_PAPER: dict[str, Any] = {"item_gate": False, "hide_targets": False, "distill": 0.0}


def test_the_reconstruction_by_hand(make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    train = make_splits()[0]
    model = KGRec(
        train,
        hidden_channels=8,
        dropout=0.0,
        node_dropout_rate=0.0,
        mae_coef=1.0,
        mae_msize=2,
        contrast="none",
        **AS_IN_THE_PAPER,
    )
    inputs, hidden = model.prepare(train), torch.tensor([3, 5, 0, 9])
    graph = inputs.graph
    monkeypatch.setattr(kgrec_module, "mask_rationale", lambda *args: hidden)
    losses = losses_of(model, train)

    left = torch.ones(graph.triples.num_edges, dtype=torch.bool)
    left[hidden] = False
    user, node = model.embed(inputs)
    store = train[INTERACTS]
    weight = 1 / store.edge_index[0].bincount().float()[store.edge_index[0]]
    edge_type = graph.triples.edge_type
    _, out = model.encoder(user, node, graph.edge_index[:, left], edge_type[left], store.edge_index, weight)
    head, tail = graph.edge_index[:, hidden]
    relation = model.encoder.conv.relation_embedding[edge_type[hidden]]
    expected = -logsigmoid((out[head] * (out[tail] * relation)).sum(-1)).mean()
    torch.testing.assert_close(losses["reconstruction"], expected)


def test_the_relation_of_a_link_starts_as_ones(make_splits: SplitBuilder) -> None:
    for inverse in (False, True):
        relation = KGRec(make_splits()[0], hidden_channels=8, inverse=inverse).encoder.conv.relation_embedding
        assert bool((relation[3::4] == 1).all())
        assert relation.size(0) == 4 * (1 + inverse)
        assert not (relation[:3] == 1).any()


def test_an_item_linked_to_several_entities_aggregates_them(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8)
    before = model.score_all(test, torch.arange(10))[:, 10]
    entity = test[IS].edge_index[1, test[IS].edge_index[0] == 10][0]
    other = copy.copy(test)
    keep = test[RELATES].edge_index[0] != entity
    other[RELATES].edge_index = test[RELATES].edge_index[:, keep]
    other[RELATES].edge_type = test[RELATES].edge_type[keep]
    assert not torch.isclose(model.score_all(other, torch.arange(10))[:, 10], before).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "some"}, "masking is 'some', expected 'rationale', 'random' or 'none'"),
        ({"contrast": True}, "contrast is True"),
        ({"node_dropout_rate": 1.0}, r"node_dropout_rate is 1\.0, expected a share in \[0, 1\)"),
        ({"cl_drop": -0.1}, r"cl_drop is -0\.1"),
        ({"dropout": 1.5}, r"dropout is 1\.5"),
        ({"cl_tau": 0}, "tau is 0"),
        ({"num_heads": 3}, "num_heads is 3, expected a divisor"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"loss": "mse"}, "loss is 'mse'"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"features": "all"}, "features is 'all'"),
        ({"negatives": "hard"}, "'hard', expected 'uniform' or 'popularity'"),
        ({"mae_msize": -1}, "mae_msize is -1"),
    ],
)
def test_bad_settings_are_refused(make_splits: SplitBuilder, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KGRec(make_splits()[0], hidden_channels=64, **settings)


def test_a_damaged_store_is_refused(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    train[RELATES].edge_index[0, 0] = 99
    with pytest.raises(ValueError, match="holds 99"):
        KGRec(train)


def test_a_user_who_has_everything_has_no_negative(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    everything = torch.stack([torch.zeros(14, dtype=torch.long), torch.arange(14)])
    data[INTERACTS].edge_index = torch.cat([data[INTERACTS].edge_index[:, 6:], everything], dim=1)
    del data[INTERACTS].time
    model = KGRec(data, hidden_channels=8)
    with pytest.raises(ValueError, match="user 0 has interacted with every item"):
        model.training_losses(model.prepare(data), (torch.tensor([0]), torch.tensor([1])), torch.Generator())


@pytest.mark.parametrize("inverse", [False, True])
def test_odd_graphs_train(make_store: Callable[..., HeteroData], inverse: bool) -> None:
    for triples in (0, 1, 2):
        data = make_store()
        data[RELATES].edge_index = data[RELATES].edge_index[:, :triples]
        data[RELATES].edge_type = data[RELATES].edge_type[:triples]
        data[IS].edge_index = data[IS].edge_index[:, : 2 * triples]
        data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 6:]
        del data[INTERACTS].time
        model = KGRec(data, hidden_channels=8, inverse=inverse)
        inputs = model.prepare(data)
        losses = model.training_losses(
            inputs, model.training_examples(inputs), torch.Generator().manual_seed(0)
        )
        torch.stack(list(losses.values())).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
        score = model.score_all(data, torch.arange(data[USER].num_nodes))
        assert bool(torch.isfinite(score).all())
        assert score.size(1) == data[ITEM].num_nodes


def test_a_step_by_hand(make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is drawn is laid down; what is left of a step is worked out with dense matrices."""
    train = make_splits()[0]
    model = KGRec(
        train,
        hidden_channels=8,
        dropout=0.0,
        decay=0.5,
        cl_coef=2.0,
        cl_drop=0.25,
        mae_coef=3.0,
        mae_msize=2,
        **(AS_IN_THE_PAPER | {"distill": 0.25}),
    ).double()
    inputs, rng = model.prepare(train), torch.Generator().manual_seed(0)
    graph = inputs.graph
    num_triples, num_pairs = graph.triples.num_edges, graph.pairs.num_edges
    keep = torch.rand(num_triples, generator=rng) < 0.7
    keep_inter = torch.rand(num_pairs, generator=rng) < 0.7
    hidden = keep.nonzero().flatten()[:4]
    strong = keep & (torch.rand(num_triples, generator=rng) < 0.7)
    chosen = keep_inter & (torch.rand(num_pairs, generator=rng) < 0.7)
    user, item = train[INTERACTS].edge_label_index[:, :6]
    negative = torch.randint(14, (6, 256), generator=rng)
    views: list[Tensor] = []

    def contrast(view1: Tensor, view2: Tensor, generator: torch.Generator) -> Tensor:
        views.extend([view1, view2])
        return view1.sum() * 0 + 1

    for name, value in (
        ("sparsify_triples", keep),
        ("sparsify_interactions", keep_inter),
        ("mask_rationale", hidden),
        ("drop_knowledge", strong),
        ("sample_interactions", chosen),
    ):
        monkeypatch.setattr(kgrec_module, name, lambda *args, value=value: value)
    advised = torch.tensor([3, 0, 7, 7, 13, 2])
    monkeypatch.setattr(NegativeSampler, "sample", lambda *args: negative)
    monkeypatch.setattr(Teacher, "sample", lambda *args: advised)
    monkeypatch.setattr(model.contrast, "forward", contrast)
    losses = model.training_losses(inputs, (user, item), torch.Generator())

    user_0, node_0 = model.embed(inputs)
    relation, normalize = model.encoder.conv.relation_embedding, torch.nn.functional.normalize
    head, tail = graph.edge_index
    edge_type, count = graph.triples.edge_type, torch.tensor([4] * 10)
    weight = torch.zeros(10, 14, dtype=torch.float64)
    pairs = graph.pairs.user[keep_inter], graph.pairs.item[keep_inter]
    weight[pairs] = 1 / count[pairs[0]].double() / 0.5  # half of the interactions are kept

    seen = keep.clone()
    seen[hidden] = False
    e_u, e_v = user_0, node_0
    all_users, all_nodes = user_0, node_0
    for _ in range(2):
        new_user = normalize(weight @ e_v[:14])
        new_node = model.encoder.conv(e_v, graph.edge_index[:, seen], edge_type[seen])
        e_u, e_v = new_user, normalize(new_node)
        all_users, all_nodes = all_users + e_u, all_nodes + e_v
    positive_score = (all_users[user] * all_nodes[item]).sum(-1)
    negative_score = (all_users[user].unsqueeze(1) * all_nodes[negative]).sum(-1)
    scores = torch.cat([positive_score.unsqueeze(1), negative_score], dim=1)
    norms = (
        all_users[user].pow(2).sum() + all_nodes[item].pow(2).sum() + all_nodes[negative].pow(2).sum() / 256
    )
    triple = all_nodes[head[hidden]] * all_nodes[tail[hidden]] * relation[edge_type[hidden]]
    torch.testing.assert_close(losses["ranking"], -0.75 * scores.log_softmax(1)[:, 0].mean())
    advised_score = (all_users[user] * all_nodes[advised]).sum(-1)
    scores = torch.cat([advised_score.unsqueeze(1), negative_score], dim=1)
    torch.testing.assert_close(losses["distillation"], -0.25 * scores.log_softmax(1)[:, 0].mean())
    torch.testing.assert_close(losses["decay"], 0.5 * norms / (2 * 6))
    torch.testing.assert_close(losses["reconstruction"], -3 * logsigmoid(triple.sum(-1)).mean())
    assert losses["contrast"].item() == 2

    rare = torch.zeros_like(weight)
    pairs = graph.pairs.user[chosen], graph.pairs.item[chosen]
    rare[pairs] = weight[pairs] / 0.75
    e_u, e_i, interactions = user_0, node_0[:14], node_0[:14]
    for _ in range(2):
        e_u, e_i = normalize(rare @ e_i), normalize(rare.t() @ e_u)
        interactions = interactions + e_i
    e_v, knowledge = node_0, node_0
    for _ in range(2):
        message = (e_v[tail] * relation[edge_type])[strong]
        total = torch.zeros_like(e_v).index_add(0, head[strong], message)
        e_v = normalize(total / head[strong].bincount(minlength=len(e_v)).clamp(min=1).unsqueeze(1))
        knowledge = knowledge + e_v
    torch.testing.assert_close(views[0], interactions)
    torch.testing.assert_close(views[1], knowledge[:14])


def test_how_much_a_step_draws(make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    train = make_splits(num_users=20, num_items=30, per_user=9)[0]
    model = KGRec(
        train, hidden_channels=8, node_dropout_rate=0.5, cl_drop=0.4, mae_msize=3, hide_targets=False
    )
    triples, pairs = model.prepare(train).graph.triples.num_edges, train[INTERACTS].edge_index.size(1)
    asked: dict[str, tuple[Any, ...]] = {}
    for name in ("sparsify_triples", "mask_rationale", "drop_knowledge", "sample_interactions"):
        function = getattr(kgrec_module, name)

        def watch(*args: Any, name: str = name, function: Callable[..., Tensor] = function) -> Tensor:
            asked[name] = (args, function(*args))
            return asked[name][1]

        monkeypatch.setattr(kgrec_module, name, watch)
    losses_of(model, train)
    keep, hidden = asked["sparsify_triples"][1], asked["mask_rationale"][1]
    assert int(keep.sum()) == pytest.approx(triples / 2, abs=2)
    assert hidden.numel() == 6
    assert bool(keep[hidden].all())
    strong = asked["drop_knowledge"][1]
    assert not (strong & ~keep).any()
    assert int(strong.sum()) == pytest.approx(0.6 * triples / 2, abs=3)
    assert int(asked["sample_interactions"][1].sum()) == pytest.approx(0.6 * pairs / 2, abs=2)
    # What the encoder must not see may stand in the view: it is drawn from all triples that were kept.
    assert torch.equal(asked["drop_knowledge"][0][1], keep)


def test_a_new_item_of_a_known_entity_has_its_embedding(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8)
    isolated = next(
        e for e in range(20) if e not in test[IS].edge_index[1] and e not in test[RELATES].edge_index
    )
    data = copy.copy(test)
    data[ITEM].num_nodes = 15
    data[ITEM].id, data[ITEM].name = [*test[ITEM].id, 999], [*test[ITEM].name, "new"]
    data[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[14], [isolated]])], dim=1)
    trained = model.signature.entity_node[isolated]
    _, node = model.embed(model.prepare(data))
    assert torch.equal(node[14], model.node_encoder.weight[trained])
    users = torch.arange(10)
    old, new = model.score_all(test, users), model.score_all(data, users)
    torch.testing.assert_close(new[:, :14], old)
    assert bool(new[:, 14].any())


def test_an_item_that_loses_its_entity_keeps_its_embedding(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = KGRec(train, hidden_channels=8)
    data = copy.copy(test)
    data[IS].edge_index = test[IS].edge_index[:, 1:]
    item, entity = test[IS].edge_index[:, 0].tolist()
    inputs = model.prepare(data)
    graph, (_, node) = inputs.graph, model.embed(inputs)
    assert torch.equal(node[item], model.node_encoder.weight[item])
    alone = int((graph.entity == entity).nonzero())
    assert alone >= 14
    assert torch.equal(node[alone], model.node_encoder.weight[item])


def test_a_sampled_part_of_the_graph_is_encoded_by_the_same_weights() -> None:
    """Users with their items, matched by ``n_id`` as PyG's loaders number them, score as in the whole graph."""
    data = SyntheticKG(num_users=30, num_items=40, num_entities=90, num_relations=4, seed=3)[0]
    seed_everything(0)
    model = KGRec(data, hidden_channels=8)
    users = torch.tensor([7, 3, 20])
    history, links = data["user", "interacts", "item"].edge_index, data["item", "is", "entity"].edge_index
    mine = torch.isin(history[0], users)
    items = history[1, mine].unique().flip(0)
    new_user, new_item = torch.full((30,), -1), torch.full((40,), -1)
    new_user[users], new_item[items] = torch.arange(3), torch.arange(len(items))

    part = HeteroData()
    part["user"].num_nodes, part["user"].n_id = 3, users
    part["item"].num_nodes, part["item"].n_id = len(items), items
    part["entity"].num_nodes, part["entity"].n_id = 90, torch.arange(90)
    part["user", "interacts", "item"].edge_index = torch.stack(
        [new_user[history[0, mine]], new_item[history[1, mine]]]
    )
    kept = links[:, new_item[links[0]] >= 0]
    part["item", "is", "entity"].edge_index = torch.stack([new_item[kept[0]], kept[1]])
    part["entity", "relates", "entity"].edge_index = data["entity", "relates", "entity"].edge_index
    part["entity", "relates", "entity"].edge_type = data["entity", "relates", "entity"].edge_type
    part.relation_name = data.relation_name

    whole = model.score_all(data, users)[:, items]
    torch.testing.assert_close(model.score_all(part, torch.arange(3)), whole, rtol=1e-5, atol=1e-6)


def test_targets_are_hidden_from_their_users(
    make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = make_splits(num_users=20, num_items=30, per_user=9)[0]
    pairs = train[INTERACTS].edge_index
    weights: list[Tensor] = []
    hops = AttnHGCN.hops

    def watch(self: AttnHGCN, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        weights.append(args[4])
        return hops(self, *args, **kwargs)

    monkeypatch.setattr(AttnHGCN, "hops", watch)
    for hide, batch in ((True, pairs[:, 3:17]), (False, pairs[:, 3:17]), (True, pairs)):
        model = KGRec(train, hidden_channels=8, node_dropout_rate=0.0, hide_targets=hide)
        inputs = model.prepare(train)
        model.training_losses(inputs, (batch[0], batch[1]), torch.Generator().manual_seed(0))
        index = inputs.graph.pairs
        seen = set(zip(index.user[weights[-1] > 0].tolist(), index.item[weights[-1] > 0].tolist()))
        hidden = set(map(tuple, batch.t().tolist())) - seen
        quarter = pairs.size(1) // 4
        assert len(hidden) == (min(batch.size(1), quarter) if hide else 0)
        assert len(seen) == pairs.size(1) - len(hidden)


def test_pairs_that_are_no_interactions_hide_nothing(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    graph = KGRec(train, hidden_channels=8).prepare(train).graph
    user, item = train[INTERACTS].edge_index
    free = torch.ones(10, 14, dtype=torch.bool)
    free[user, item] = False
    assert not graph.interactions_of(*free.nonzero().t()).any()
    assert graph.interactions_of(user, item).all()


def test_items_aggregate_their_users_through_the_gate(make_splits: SplitBuilder) -> None:
    """The encoder with the gate, worked out with dense matrices."""
    train = make_splits()[0]
    model = KGRec(train, hidden_channels=8, num_layers=2, item_gate=True).double().eval()
    inputs, normalize = model.prepare(train), torch.nn.functional.normalize
    graph = inputs.graph
    assert model.encoder.gate is not None
    with torch.no_grad():
        model.encoder.gate.copy_(torch.tensor([-0.3, 0.7]))
    user_0, node_0 = model.embed(inputs)
    weight = torch.zeros(10, 14, dtype=torch.float64)
    weight[tuple(train[INTERACTS].edge_index)] = 1
    degree = weight.sum(0)
    weight = weight / weight.sum(1, keepdim=True)
    openness = (torch.sigmoid(-0.3 + 0.7 * (1 + degree).log()) * (degree > 0)).unsqueeze(1)
    user, node, users, nodes = user_0, node_0, user_0, node_0
    for _ in range(2):
        new_user = normalize(weight @ node[:14])
        new_node = normalize(model.encoder.conv(node, graph.edge_index, graph.triples.edge_type))
        heard = (1 - openness) * new_node[:14] + openness * normalize(weight.t() @ user)
        user, node = new_user, torch.cat([heard, new_node[14:]])
        users, nodes = users + user, nodes + node
    encoded = model.encode(inputs)
    torch.testing.assert_close(encoded.user, users)
    torch.testing.assert_close(encoded.item, nodes[:14])
    store = train[INTERACTS]
    inter_weight = weight[tuple(store.edge_index)]
    dense = model.encoder(
        user_0, node_0, graph.edge_index, graph.triples.edge_type, store.edge_index, inter_weight
    )
    torch.testing.assert_close(dense[0], users)
    torch.testing.assert_close(dense[1], nodes)
