from __future__ import annotations

import copy
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import MKR, evaluate, fit
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, from_pandas
from pyg_kgrec.explain.units import KINDS, OF_ENTITY, Removals
from pyg_kgrec.models import mkr as module
from pyg_kgrec.testing import build_splits, users_of, with_newcomers
from pyg_kgrec.transforms import ClickThroughSplit

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]
SplitBuilder = Callable[..., Splits]
StoreBuilder = Callable[..., HeteroData]


def build(data: HeteroData, seed: int = 0, **settings: object) -> MKR:
    seed_everything(seed)
    return MKR(data, **({"hidden_channels": 8, "num_negatives": 3} | settings))


@pytest.fixture
def splits(make_splits: SplitBuilder) -> Splits:
    return make_splits(features=True)


@pytest.fixture
def labelled(make_store: StoreBuilder) -> Splits:
    return ClickThroughSplit(seed=0)(make_store(num_users=40, num_items=30, per_user=10))


# ---------------------------------------------------------------------- towers


def mean_over(model: MKR, own: Tensor, others: Tensor, side: int) -> Tensor:
    """An embedding after the units with each of others, averaged; itself without others."""
    assert model.units is not None
    if not len(others):
        return own
    ends = [(own[None], other[None])[:: -1 if side else 1] for other in others]
    return torch.stack([model.units(*pair)[side][0] for pair in ends]).mean(0)


def test_nodes_are_means_over_their_partners_and_themselves_without(splits: Splits) -> None:
    train = splits[0]
    model = build(train, features="id")
    item, entity = (model.encoders[t].weight.detach() for t in (ITEM, ENTITY))
    of_item, of_entity = train[IS].edge_index
    inputs = model.prepare(train)
    found = model.encode(inputs).item.detach()
    for i in range(train[ITEM].num_nodes):
        torch.testing.assert_close(found[i], mean_over(model, item[i], entity[of_entity[of_item == i]], 0))
    found = model.entity_latent(inputs, torch.arange(train[ENTITY].num_nodes)).detach()
    for e in range(train[ENTITY].num_nodes):
        torch.testing.assert_close(found[e], mean_over(model, entity[e], item[of_item[of_entity == e]], 1))
    assert {int((of_item == i).sum()) for i in range(14)} == {0, 1, 2}


def test_sampled_partners_are_partners_each_alike(splits: Splits) -> None:
    train = splits[0]
    index = build(train).prepare(train).graph.entities_of
    node = torch.tensor([13, 10, 0]).repeat(500)
    row, partner = index.partners(node, torch.Generator().manual_seed(0))
    links = set(map(tuple, train[IS].edge_index.t().tolist()))
    assert set(zip(node[row].tolist(), partner.tolist())) <= links
    lonely = [i for i in range(14) if i not in {i for i, _ in links}]
    assert not set(node[row].tolist()) & set(lonely)
    twice = next(i for i in range(14) if sum(j == i for j, _ in links) == 2)
    counts = partner[node[row] == twice].unique(return_counts=True)[1]
    assert counts.numel() == 2
    assert counts.min() > 180


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("block", [50, 2**22])
def test_the_mlp_head_is_an_mlp_on_both_embeddings(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, layers: int, block: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    test = splits[2]
    model = build(splits[0], head="mlp", num_head_layers=layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 3)
    dot = copy.deepcopy(model)
    dot.head = "dot"
    latent = dot.encode(dot.prepare(test))
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(14))
    hidden = torch.cat([latent.user[pairs[:, 0]], latent.item[pairs[:, 1]]], dim=1)
    weight = torch.cat([model.head_user.weight, model.head_item.weight], dim=1)
    hidden = hidden @ weight.t() + model.head_user.bias
    for layer in model.head_mlp.lins if model.head_mlp is not None else []:
        hidden = torch.tanh(hidden) @ layer.weight.t() + layer.bias
    torch.testing.assert_close(
        model.score_all(test, torch.arange(10)).flatten(), hidden.flatten().detach(), rtol=1e-5, atol=1e-5
    )


def test_a_new_item_is_scored_from_its_features_and_its_entity(splits: Splits) -> None:
    train, _, test = splits
    model = build(train)
    fit(model, train, max_epochs=3, progress=False)
    known = model.score_all(test, torch.arange(10))
    new = copy.copy(test)
    new[ITEM].num_nodes = 15
    new[ITEM].id, new[ITEM].name = [*test[ITEM].id, 999], [*test[ITEM].name, "new"]
    new[ITEM].x = torch.cat([test[ITEM].x, torch.randn(1, test[ITEM].x.size(1))])
    new[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[14], [3]])], dim=1)
    score = model.score_all(new, torch.arange(10))
    torch.testing.assert_close(score[:, :14], known)
    assert score[:, 14].unique().numel() > 5
    for part in ("x", "link"):
        other = copy.copy(new)
        if part == "x":
            other[ITEM].x = torch.cat([new[ITEM].x[:14], new[ITEM].x[14:] + 1])
        else:
            other[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[14], [5]])], dim=1)
        changed = model.score_all(other, torch.arange(10))
        assert not torch.allclose(changed[:, 14], score[:, 14])
        torch.testing.assert_close(changed[:, :14], known)


# ---------------------------------------------------------------------- training


def test_pairs_and_triples_take_turns(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    train = splits[0]
    model, calls = build(train, knowledge_interval=3), []
    for name in ("training_losses", "knowledge_losses"):
        original = getattr(model, name)

        def watch(*args: object, name: str = name, original: Callable[..., object] = original) -> object:
            calls.append((name[0], args))
            return original(*args)

        monkeypatch.setattr(model, name, watch)
    history = fit(model, train, max_epochs=2, batch_size=8, progress=False)
    steps = -(-train[INTERACTS].edge_label_index.size(1) // 8)
    epoch = "".join("t" + ("k" if i % 3 == 2 else "") for i in range(steps))
    assert "".join(kind for kind, _ in calls) == epoch * 2
    drawn = torch.cat([args[1] for kind, args in calls if kind == "k"])
    size = train[RELATES].num_edges
    assert drawn[:size].unique().numel() == min(size, drawn.numel())
    assert {"ranking", "decay", "knowledge", "knowledge_decay", "kge_rmse", "loss"} <= set(history.columns)
    assert bool(history["kge_rmse"].notna().all())


def test_two_rates_are_two_optimisers(splits: Splits) -> None:
    train = splits[0]
    slow, fast = (build(train, knowledge_lr=ratio) for ratio in (1e-9, 1.0))
    start = slow.relation_embedding.detach().clone()
    for model in (slow, fast):
        fit(model, train, max_epochs=3, batch_size=8, lr=0.01, progress=False)
    assert float((slow.relation_embedding.detach() - start).abs().max()) < 1e-6
    assert float((fast.relation_embedding.detach() - start).abs().max()) > 1e-3
    assert float((slow.encoders[USER].weight - fast.encoders[USER].weight).detach().abs().max()) > 0


def test_layers_learn_at_a_rate_of_their_own(splits: Splits) -> None:
    train = splits[0]
    model = build(train, layer_lr=1e-9, knowledge_lr=1.0, head="mlp")
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(model, train, max_epochs=3, batch_size=8, lr=0.01, progress=False)
    for name, parameter in model.named_parameters():
        moved = float((parameter.detach() - start[name]).abs().max())
        assert moved > 1e-3 if name.startswith(("encoders", "relation")) else moved < 1e-6, name


def test_the_start_changes_nothing_much(splits: Splits) -> None:
    for layers in (1, 2, 3):
        model = build(splits[0], hidden_channels=64, num_layers=layers, features="id")
        encoded = model.encode(model.prepare(splits[0]))
        for found, table in ((encoded.user, USER), (encoded.item, ITEM)):
            own = model.encoders[table].weight
            similarity = torch.nn.functional.cosine_similarity(found, own).detach()
            assert float(similarity.median()) > 0.8, (layers, table)


@pytest.mark.parametrize("settings", [{"use_kg": False}, {"knowledge_interval": None}])
def test_without_the_knowledge_task(splits: Splits, settings: dict[str, object]) -> None:
    train, val, test = splits
    model = build(train, **settings)
    history = fit(model, train, val, max_epochs=2, monitor="ndcg@5", progress=False)
    assert not {"knowledge", "kge_rmse"} & set(history.columns)
    with pytest.raises(ValueError, match="this model has no knowledge task"):
        model.kge_rmse(train)
    assert bool(torch.isfinite(model.score_all(test, torch.arange(10))).all())


def test_the_papers_loss_lowers_false_triples(splits: Splits) -> None:
    train = splits[0]
    every = torch.arange(train[RELATES].num_edges)
    authors, paper = (build(train, knowledge_loss=kind) for kind in ("authors", "paper"))
    losses = [
        m.knowledge_losses(m.prepare(train), every, torch.Generator().manual_seed(0))
        for m in (authors, paper)
    ]
    false = losses[1]["knowledge"] - losses[0]["knowledge"]
    assert 0 < float(false.detach()) < 1
    torch.testing.assert_close(losses[0]["knowledge"], -authors.triple_scores(train).mean())


def test_labels_are_learned(labelled: Splits) -> None:
    train, val, _ = labelled
    model = build(train, layer_lr=1.0)
    assert model.objective.loss == "bce"
    user, item, label = model.training_examples(model.prepare(train))
    assert torch.equal(torch.stack([user, item]), train[INTERACTS].edge_label_index)
    assert torch.equal(label, train[INTERACTS].edge_label)
    history = fit(
        model, train, val, max_epochs=40, lr=0.02, batch_size=64, patience=None, monitor="auc", progress=False
    )
    assert history["auc"].max() > 0.6
    assert evaluate(model, train, task="ctr")["auc"] > 0.8
    positives = build(train, loss="softmax")
    assert positives.training_examples(positives.prepare(train))[0].numel() == int(label.sum())
    loaded = MKR(model.signature, **model.settings)
    assert loaded.objective.loss == "bce"


def test_no_start_is_dead(labelled: Splits) -> None:
    """With random biases one start in eight has every neuron of a user layer off, for all users."""
    train = labelled[0]
    dead = 0
    for seed in range(40):
        model = build(train, seed, hidden_channels=4, num_layers=2, activation="relu")
        inputs = model.prepare(train)
        batch = model.training_examples(inputs)
        model.training_losses(inputs, batch, torch.Generator())["ranking"].backward()
        assert bool(model.encode(inputs).user.any()), seed
        assert bool(model.encoders[USER].weight.grad.any()), seed
        seed_everything(seed)
        for layer in model.user_mlp.lins:
            layer.reset_parameters()  # PyTorch's usual start
        dead += not bool(model.encode(inputs).user.any())
    assert dead >= 2


def test_a_user_without_negatives_left(splits: Splits) -> None:
    train = splits[0]
    train[INTERACTS].edge_index = torch.stack([torch.zeros(14, dtype=torch.long), torch.arange(14)])
    train[INTERACTS].edge_label_index = train[INTERACTS].edge_index
    for column in ("time", "edge_label_time"):
        train[INTERACTS].pop(column, None)
    with (
        pytest.warns(UserWarning, match="user 'u0' has interacted with every item"),
        pytest.raises(ValueError, match="holds no pair, expected at least one to learn from"),
    ):
        fit(build(train), train, max_epochs=1, progress=False)


# ---------------------------------------------------------------------- explanation


@pytest.mark.parametrize("settings", [{}, {"head": "mlp", "num_layers": 2}, {"unit": "dcn"}])
def test_what_is_left_out_is_really_left_out(splits: Splits, settings: dict[str, object]) -> None:
    train, _, test = splits
    model = build(train, **settings)
    fit(model, train, max_epochs=3, progress=False)
    twice = next(i for i in range(14) if int((test[IS].edge_index[0] == i).sum()) == 2)
    for item in (twice, 0, 13):
        why = model.explain(test, torch.tensor([3]), torch.tensor([item]))
        assert why.score == pytest.approx(
            float(model.score(test, torch.tensor([3]), torch.tensor([item]))), abs=1e-6
        )
        mine = (test[IS].edge_index[0] == item).nonzero().flatten()
        units = why.units.set_index(["kind", "id"])["contribution"]
        assert (why.units["kind"] == "entity").sum() == mine.numel()
        removals = [(("entity", test[ENTITY].id[int(test[IS].edge_index[1, m])]), [int(m)]) for m in mine]
        assert ("all" in set(why.units["kind"])) == (mine.numel() > 1)
        if mine.numel() > 1:
            removals.append((("all", ""), mine.tolist()))
        for unit, gone in removals:
            other = copy.copy(test)
            kept = [c for c in range(test[IS].edge_index.size(1)) if c not in gone]
            other[IS].edge_index = test[IS].edge_index[:, kept]
            without = float(model.score(other, torch.tensor([3]), torch.tensor([item])))
            assert units[unit] == pytest.approx(why.score - without, abs=1e-5)
        for kind in (USER, ITEM):
            other = copy.copy(test)
            other[kind].x = torch.zeros_like(test[kind].x)
            without = float(model.score(other, torch.tensor([3]), torch.tensor([item])))
            assert units[f"{kind} features", ""] == pytest.approx(why.score - without, abs=1e-5)
        assert bool(why.triples["context"].all())
        assert why.triples["weight"].between(0, 1).all()
        assert list(why.triples["weight"]) == sorted(why.triples["weight"], reverse=True)


@pytest.mark.parametrize("features", [1.0, 0.0])
@pytest.mark.parametrize(
    "settings", [{}, {"features": "x"}, {"features": "id"}, {"head": "mlp"}, {"use_kg": False}]
)
def test_a_new_item_is_left_what_a_smaller_store_has(
    splits: Splits, settings: dict[str, object], features: float
) -> None:
    train, _, test = splits
    model = build(train, **settings)
    with torch.no_grad():  # users and items of sizes that tell
        for encoder in model.encoders.values():
            for weight in encoder.parameters():
                weight.normal_()
    links = [(14, 3), (14, 5), (15, 5)]
    store = with_newcomers(test, links=links, features=features)
    store[ITEM].x[15] = 0  # known by its entity alone: a mean over the others, of which item 14 may be one
    user, item = torch.tensor([3, 3]), torch.tensor([14, 15])
    inputs = model.inputs(store)
    units = model.score_units(inputs, user, item)
    groups = [torch.tensor([place]) for place in range(len(units))]
    groups += [(units.pair == pair).nonzero().flatten() for pair in range(2)]
    of_items = (units.kind == KINDS.index(OF_ENTITY)) | (units.node == 1)
    groups += [((units.pair == pair) & of_items).nonzero().flatten() for pair in range(2)]
    removals = Removals.together([group for group in groups if group.numel()])
    pair = removals.pair(units)
    with torch.no_grad():
        every = model.scores_without(inputs, user, item, units, removals, every=True)
        own = model.scores_without(inputs, user, item, units, removals)
    for number, what in enumerate(item[pair].tolist()):
        smaller = copy.copy(store)
        members = removals.unit[removals.start[number] : removals.start[number + 1]]
        entities = store[IS].edge_index[1][store[IS].edge_index[0] == what]
        for kind, node in zip(units.kind[members].tolist(), units.node[members].tolist()):
            if KINDS[kind] == OF_ENTITY:
                link = smaller[IS].edge_index
                smaller[IS].edge_index = link[:, ~((link[0] == what) & (link[1] == node))]
            else:
                place = (torch.tensor([3]), torch.tensor([what]), entities)[node]
                smaller[(USER, ITEM, ENTITY)[node]].x = store[(USER, ITEM, ENTITY)[node]].x.index_fill(
                    0, place, 0
                )
        if not bool(model.known(model.inputs(smaller)).user[3]):
            continue  # a stranger is answered by popularity, which is no word of the model's
        wanted = model.score_all(smaller, torch.tensor([3]))[0]
        known = model.known(inputs).item  # of one that never was, scores say nothing
        torch.testing.assert_close(every[number][known], wanted[known], atol=1e-4, rtol=1e-4)
        if known[what]:
            assert own[number] == pytest.approx(float(wanted[what]), abs=1e-4, rel=1e-4)


def test_an_explanation_reads_and_draws_itself(splits: Splits) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    train, _, test = splits
    why = build(train).explain(test, "u3", 104)
    assert "without entity" in str(why)
    assert "Left out, the score loses" in why._repr_html_()
    ax = why.plot()
    assert len(ax.patches) == len(why.units)
    assert {t.get_text().split(":")[0] for t in ax.get_yticklabels()} == set(why.units["kind"])
    bare = build(train, use_kg=False, features="id").explain(test, "u3", 104)
    assert len(bare.units) == len(bare.triples) == 0
    assert "no single fact explains this" in str(bare)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"unit": "cross"}, "unit is 'cross', expected 'cross_compress', 'dcn' or 'stitch'"),
        ({"unit": "cross", "use_kg": False}, "unit is 'cross'"),
        ({"head": "cosine"}, "head is 'cosine', expected 'dot' or 'mlp'"),
        ({"num_layers": 0}, "num_layers is 0, expected at least 1"),
        ({"num_layers": 0, "use_kg": False}, "num_layers is 0, expected at least 1"),
        ({"num_kge_layers": 0}, "num_kge_layers is 0"),
        ({"num_head_layers": 0}, "num_head_layers is 0"),
        ({"partners": "all"}, "partners is 'all', expected 'sample' or 'mean'"),
        ({"loss": "hinge"}, "loss is 'hinge', expected 'bce', 'softmax' or 'bpr'"),
        ({"knowledge_loss": "mine"}, "knowledge_loss is 'mine'"),
        ({"knowledge_form": "mine"}, "knowledge_form is 'mine'"),
        ({"knowledge_interval": 0}, "knowledge_interval is 0, expected at least 1"),
        ({"knowledge_lr": 0.0}, r"knowledge_lr is 0\.0, expected above 0"),
        ({"layer_lr": -1.0}, r"layer_lr is -1\.0, expected above 0"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"negatives": "hard"}, "negatives is 'hard'"),
        ({"activation": "reluu"}, "activation is 'reluu'"),
    ],
)
def test_bad_arguments_are_refused(splits: Splits, settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(splits[0], **settings)


def test_bad_stores_are_refused(splits: Splits, labelled: Splits) -> None:
    train, _, test = splits
    model = build(train)
    wider = copy.copy(test)
    wider[ITEM].x = torch.randn(14, 9)
    with pytest.raises(
        ValueError, match=r"data\['item'\]\.x has 9 features a node, expected 4 as in training"
    ):
        model.score_all(wider, torch.tensor([0]))
    broken = copy.copy(train)
    broken[IS].edge_index = torch.tensor([[0], [99]])
    with pytest.raises(ValueError, match="99, expected indices in"):
        build(broken)
    marked = copy.copy(labelled[0])
    marked[INTERACTS].edge_label = labelled[0][INTERACTS].edge_label * 2
    with pytest.raises(ValueError, match="edge_label holds values other than 0 and 1"):
        build(marked)


def test_nothing_labelled_is_refused(labelled: Splits) -> None:
    train = copy.copy(labelled[0])
    train[INTERACTS].edge_label_index = labelled[0][INTERACTS].edge_label_index[:, :0]
    train[INTERACTS].edge_label = labelled[0][INTERACTS].edge_label[:0]
    with pytest.raises(ValueError, match="holds no pair, expected at least one to learn from"):
        fit(build(train), train, max_epochs=1, progress=False)


def test_repr_shows_the_sizes(splits: Splits) -> None:
    text = repr(build(splits[0], head="mlp"))
    assert text == ("MKR(10, 14, 20, hidden_channels=8, num_layers=1, unit='cross_compress', head='mlp')")


def scores(model: MKR, data: HeteroData) -> Tensor:
    return model.score_all(data, torch.arange(data[USER].num_nodes))


def test_the_same_seed_trains_the_same_bits(splits: Splits) -> None:
    train, val, test = splits
    found = []
    for _ in range(2):
        model = build(train, partners="sample", knowledge_loss="paper")
        fit(model, train, val, max_epochs=2, monitor="ndcg@5", progress=False, seed=3)
        found.append(scores(model, test))
    assert torch.equal(*found)


@pytest.mark.parametrize(("loss", "labels"), [(None, [1, 0, 1, 0]), ("softmax", [1, 1])])
def test_labels_of_a_reader_are_learned(loss: str | None, labels: list[int]) -> None:
    clicks = pd.DataFrame({"user": [0, 0, 1, 1], "item": [0, 1, 2, 0], "label": [1, 0, 1, 0]})
    train = from_pandas(clicks, label_col="label")
    model = build(train, use_kg=False, loss=loss)
    user, item, *label = model.training_examples(model.inputs(train))
    assert len(user) == len(labels)
    assert {(0, 0), (1, 2)} <= set(zip(user.tolist(), item.tolist()))
    assert [one.tolist() for one in label] == ([] if loss else [labels])


def test_an_unrelated_new_item_changes_no_score_where_items_have_no_rows() -> None:
    train, _, test = build_splits(features=True)
    train[ITEM].x[3] = test[ITEM].x[3] = 0
    torch.manual_seed(0)
    model = MKR(train, hidden_channels=4, features="x")
    before = model.score_all(test, users_of(test))
    grown = with_newcomers(test, features=0.0)
    assert torch.equal(model.score_all(grown, users_of(grown))[:10, :14], before)
