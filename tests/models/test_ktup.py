"""KTUP: what sets it apart from other models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import matplotlib
import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KTUP, fit
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.kge import TransH
from pyg_kgrec.models import ktup as ktup_module
from pyg_kgrec.models.ktup import Translations

matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]
FORMS = [(induction, norm) for induction in ("soft", "hard") for norm in ("l1", "l2")]


@pytest.fixture
def splits(make_splits: SplitBuilder) -> tuple[HeteroData, HeteroData, HeteroData]:
    return make_splits()


def build(data: HeteroData, seed: int = 0, **settings: Any) -> KTUP:
    seed_everything(seed)
    return KTUP(data, **({"hidden_channels": 8, "num_negatives": 3} | settings))


def tables_of(model: KTUP) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def step(model: KTUP, data: HeteroData, seed: int = 0) -> dict[str, Tensor]:
    inputs = model.prepare(data)
    return model.training_losses(inputs, model.training_examples(inputs), torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------- items and their entities


def test_an_item_is_itself_and_the_mean_of_its_entities(splits: Any) -> None:
    model, data = build(splits[0]), splits[2]
    with torch.no_grad():
        encoded = model.encode(model.prepare(data))
    item, entity = data[IS].edge_index
    for i in range(data[ITEM].num_nodes):
        mine = entity[item == i]
        expected = model.encoders[ITEM].weight[i].detach()
        if mine.numel():
            expected = expected + model.encoders[ENTITY].weight[mine].detach().mean(0)
        torch.testing.assert_close(encoded.item[i], expected)
    assert set(torch.bincount(item, minlength=data[ITEM].num_nodes).tolist()) == {0, 1, 2}


def test_without_the_graph_it_is_tup(splits: Any) -> None:
    model = build(splits[0], use_kg=False, num_preferences=7)
    assert sorted(tables_of(model)) == [
        "encoders.item.weight",
        "encoders.user.weight",
        "preference",
        "preference_normal",
    ]
    assert model.preference.shape == (7, 8)
    assert torch.equal(model.preferences()[0], model.preference)
    assert set(step(model, splits[0])) == {"ranking", "orthogonality"}
    assert build(splits[0], use_kg=False).num_preferences == 3
    for call in (
        lambda: model.triple_scores(splits[0]),
        lambda: model.triple_scorer(splits[0]),
        lambda: model.knowledge_losses(model.prepare(splits[0]), torch.tensor([0]), torch.Generator()),
    ):
        with pytest.raises(ValueError, match=r"no knowledge task \(use_kg=False\)"):
            call()


def test_tup_has_twenty_preferences_where_there_are_no_relations(make_splits: SplitBuilder) -> None:
    assert build(make_splits(knowledge=False)[0], use_kg=False).num_preferences == 20


# ---------------------------------------------------------------------- prediction


@pytest.mark.parametrize(("induction", "norm"), FORMS)
def test_prediction_draws_nothing(splits: Any, induction: str, norm: str) -> None:
    model, test = build(splits[0], induction=induction, norm=norm).train(), splits[2]
    users = torch.arange(test[USER].num_nodes)
    first = model.score_all(test, users)
    torch.manual_seed(99)
    assert torch.equal(model.score_all(test, users), first)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_training_with_hard_induction_draws_and_temperature_counts(splits: Any, norm: str) -> None:
    cold, warm = (build(splits[0], induction="hard", norm=norm, temperature=t) for t in (0.2, 5.0))
    first, again, other = (step(cold, splits[0], seed)["ranking"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(step(warm, splits[0])["ranking"], first)  # forward, noise alone decides
    gradients = []
    for model in (cold, warm):
        step(model, splits[0])["ranking"].backward()
        assert model.preference.grad is not None
        gradients.append(model.preference.grad)
    assert not torch.allclose(*gradients)


def test_ranking_takes_few_users_of_a_large_catalogue_at_a_time(
    splits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, test = build(splits[0]), splits[2]
    expected = model.recommend(test, torch.arange(10), k=3)
    asked: list[int] = []
    whole = Translations.score_all
    monkeypatch.setattr("pyg_kgrec.models.encoding._BLOCK", 3 * test[ITEM].num_nodes)
    monkeypatch.setattr(Translations, "score_all", lambda e, u: asked.append(u.numel()) or whole(e, u))
    found = model.recommend(test, torch.arange(10), k=3)
    assert asked == [3, 3, 3, 1]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize(("induction", "norm"), FORMS)
@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_gradients_of_a_step(splits: Any, induction: str, norm: str, loss: str) -> None:
    """Of all losses together, by finite differences; the choice of a relation stays what it is nearby."""
    data = splits[0]
    model = build(
        data, induction=induction, norm=norm, loss=loss, hidden_channels=3, num_negatives=2, item_norm=0.15
    ).double()
    model.requires_grad_(True)
    names, tensors = zip(*model.named_parameters())
    inputs = model.prepare(data)
    user, item = data[INTERACTS].edge_label_index[:, :4]

    def losses(*values: Tensor) -> Tensor:
        def call(module: KTUP) -> Tensor:
            parts = module.training_losses(inputs, (user, item), torch.Generator().manual_seed(0))
            return torch.stack([parts[n] for n in parts]).sum()

        return torch.func.functional_call(
            _Losses(model, call), {f"model.{n}": v for n, v in zip(names, values)}, ()
        )

    if induction == "soft":
        assert torch.autograd.gradcheck(losses, tensors)
        return
    # Straight-through: the gradient is of another function than the value; both must at least be finite.
    found = torch.autograd.grad(losses(*tensors), tensors)
    assert all(bool(torch.isfinite(g).all()) and bool(g.any()) for g in found)


class _Losses(torch.nn.Module):
    def __init__(self, model: KTUP, call: Callable[[KTUP], Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self) -> Tensor:
        return self.call(self.model)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_margin_ranking_against_false_triples(splits: Any, norm: str) -> None:
    model, data = build(splits[0], norm=norm, margin=0.7), splits[0]
    inputs, every = model.prepare(data), torch.arange(data[RELATES].num_edges)
    found = model.knowledge_losses(inputs, every, torch.Generator().manual_seed(3))["knowledge"]
    triple = inputs.triple
    ends, relation = model._false_and_true(inputs, 0, torch.Generator().manual_seed(3), every)
    assert torch.equal(ends[0, 0], triple[0])
    assert torch.equal(ends[1, 0], triple[2])
    assert torch.equal(relation, triple[1])
    true = {tuple(t) for t in triple.t().tolist()}
    false = list(zip(ends[0, 1].tolist(), relation.tolist(), ends[1, 1].tolist()))
    assert not true & set(false)
    assert all((h == a) != (t == b) for (h, _, t), (a, _, b) in zip(false, triple.t().tolist()))

    def score(h: int, r: int, t: int) -> Tensor:
        x, y = (model.encoders[ENTITY].weight[i] for i in (h, t))
        w = model.relation_normal[r]
        gap = x - (x @ w) * w + model.relation[r] - (y - (y @ w) * w)
        return -(gap.abs().sum() if norm == "l1" else gap @ gap)

    rows = zip(triple.t().tolist(), false)
    expected = torch.stack([(0.7 - score(*good) + score(*bad)).clamp(min=0) for good, bad in rows]).mean()
    torch.testing.assert_close(found, expected)


def test_true_triples_are_indexed_once_for_a_store(splits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, built = splits[0], []
    sampler = ktup_module.TripleSampler
    monkeypatch.setattr(ktup_module, "TripleSampler", lambda *args: built.append(args) or sampler(*args))
    model = build(data)
    for _ in range(2):
        step(model, data)  # a store prepared anew
    assert len(built) == 2
    inputs = model.prepare(data)
    for seed in range(3):
        model.knowledge_losses(inputs, torch.arange(4), torch.Generator().manual_seed(seed))
    assert len(built) == 3
    assert torch.equal(built[2][0], inputs.triple)


def test_the_two_tasks_are_weighed(splits: Any) -> None:
    losses = {ratio: step(build(splits[0], joint_ratio=ratio), splits[0]) for ratio in (0.0, 0.25, 1.0)}
    names = {"ranking", "orthogonality", "alignment"}
    assert set(losses[1.0]) == names
    assert set(losses[0.25]) == names | {"knowledge", "knowledge_orthogonality"}
    assert all(not losses[0.0][name].any() for name in names)
    torch.testing.assert_close(losses[0.25]["knowledge"], 0.75 * losses[0.0]["knowledge"])
    torch.testing.assert_close(losses[0.25]["alignment"], 0.25 * losses[1.0]["alignment"])


def test_alternating_tasks_have_an_optimiser_each(splits: Any) -> None:
    model = build(splits[0], joint="alternate", joint_ratio=0.8)
    assert model.knowledge_interval == 1
    assert model.knowledge_lr == pytest.approx(0.25)
    assert set(step(model, splits[0])) == {"ranking", "orthogonality", "alignment"}
    history = fit(model, splits[0], splits[1], max_epochs=2, batch_size=16, progress=False)
    assert {"ranking", "knowledge", "knowledge_orthogonality"} <= set(history)
    assert build(splits[0], joint="alternate", joint_ratio=1.0).knowledge_interval is None
    assert build(splits[0]).knowledge_interval is None


def test_the_scale_of_scores_counts_in_the_loss_only(splits: Any) -> None:
    one, four = (build(splits[0], score_scale=scale) for scale in (1.0, 4.0))
    assert torch.equal(
        one.score_all(splits[2], torch.arange(10)), four.score_all(splits[2], torch.arange(10))
    )
    assert not torch.allclose(step(one, splits[0])["ranking"], step(four, splits[0])["ranking"])


# ---------------------------------------------------------------------- norms


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize(("induction", "norm"), FORMS)
@pytest.mark.parametrize("joint", ["sum", "alternate"])
def test_every_table_stays_within_the_unit_ball(
    make_splits: SplitBuilder, features: bool, induction: str, norm: str, joint: str
) -> None:
    train = make_splits(features=features)[0]
    model = build(train, induction=induction, norm=norm, joint=joint)
    fit(model, train, max_epochs=2, lr=0.5, batch_size=16, progress=False)
    lengths = {name: float(t.norm(dim=-1).max()) for name, t in tables_of(model).items()}
    assert all(length <= 1 + 1e-6 for length in lengths.values()), lengths
    assert max(lengths.values()) > 0.999  # and the learning rate would have gone beyond
    assert len(lengths) == (10 if features else 7)


@pytest.mark.parametrize(("induction", "norm"), FORMS)
@pytest.mark.parametrize("joint", ["sum", "alternate"])
def test_aligned_items_stay_within_their_bound(splits: Any, induction: str, norm: str, joint: str) -> None:
    train, longest = splits[0], {}
    for bound in (0.7, 1.0, torch.inf):
        model = build(train, induction=induction, norm=norm, joint=joint, item_norm=bound)
        fit(model, train, max_epochs=2, lr=0.5, batch_size=16, progress=False)
        with torch.no_grad():
            longest[bound] = float(model.encode(model.prepare(train)).item.norm(dim=1).max())
    assert 0.699 < longest[0.7] <= 0.7 + 1e-6
    assert 0.999 < longest[1.0] <= 1 + 1e-6 < longest[torch.inf]  # the sum would have gone beyond
    assert build(train).item_norm == 1.0


def test_the_bound_shortens_long_sums_alone_and_training_sees_it(splits: Any) -> None:
    train = splits[0]
    free, bound = (build(train, item_norm=most) for most in (torch.inf, 0.15))  # rows start at norm 0.1
    with torch.no_grad():
        long, short = (model.encode(model.prepare(train)).item for model in (free, bound))
    norm = long.norm(dim=1, keepdim=True)
    assert bool((norm > 0.16).any())
    assert bool((norm < 0.14).any())
    torch.testing.assert_close(short, long * (0.15 / norm).clamp(max=1))
    ours, theirs = step(bound, train), step(free, train)
    assert not torch.allclose(ours["ranking"], theirs["ranking"])
    for name in ("alignment", "knowledge", "knowledge_orthogonality", "orthogonality"):
        assert torch.equal(ours[name], theirs[name])


def test_items_of_tup_have_no_further_bound(splits: Any) -> None:
    free, bound = (build(splits[0], use_kg=False, item_norm=most) for most in (torch.inf, 0.01))
    users = torch.arange(10)
    assert torch.equal(bound.score_all(splits[2], users), free.score_all(splits[2], users))


def test_the_constraint_shortens_and_never_lengthens(splits: Any) -> None:
    model = build(splits[0])
    with torch.no_grad():
        table = model.encoders[USER].weight
        table[0], table[1] = 3.0, 0.01
    before = table[1].clone()
    model.constrain()
    torch.testing.assert_close(table[0].norm(), torch.tensor(1.0))
    assert torch.equal(table[1], before)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("encoders.entity.weight", "entity"),
        ("encoders.item.projection", "item features"),
        ("relation_normal", "relation_normal"),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_table_that_breaks_is_named(
    make_splits: SplitBuilder, name: str, readable: str, value: float
) -> None:
    train = make_splits(features=True)[0]
    model = build(train)
    with torch.no_grad():
        model.get_parameter(name)[1, 2] = value
    with pytest.raises(ValueError, match=f"the table '{readable}' holds NaN or infinity after a step"):
        model.constrain()


def test_training_that_breaks_says_so(splits: Any) -> None:
    model = build(splits[0])
    with torch.no_grad():
        model.preference[0, 0] = torch.nan
    with pytest.raises(ValueError, match="preference of the model holds NaN or infinity"):
        fit(model, splits[0], max_epochs=1, progress=False)


# ---------------------------------------------------------------------- TransH


def test_a_start_from_transh(splits: Any) -> None:
    train = splits[0]
    transh = TransH(train[ENTITY].num_nodes, 3, 8)
    model = build(train)
    user = model.encoders[USER].weight.detach().clone()
    model.start_from(transh)
    torch.testing.assert_close(model.encoders[ENTITY].weight, transh.node_emb.weight)
    torch.testing.assert_close(model.relation, transh.rel_emb.weight)
    torch.testing.assert_close(model.relation_normal, transh.normal_emb.weight)
    assert torch.equal(model.encoders[USER].weight, user)
    head, relation, tail = model.prepare(train).triple
    torch.testing.assert_close(model.triple_scores(train), transh(head, relation, tail))


@pytest.mark.parametrize(
    ("transh", "settings", "message"),
    [
        ((99, 3, 8), {}, "the TransH has entities 99, expected"),
        ((None, 4, 8), {}, "the TransH has relations 4, expected 3"),
        ((None, 3, 9), {}, "the TransH has channels 9, expected 8"),
        ((None, 3, 8), {"norm": "l1"}, "the TransH has norm l2, expected l1"),
        ((None, 3, 8), {"use_kg": False}, r"no relations \(use_kg=False\)"),
        ((None, 3, 8), {"features": "x"}, r"entities have no table of their own \(features='x'\)"),
    ],
)
def test_a_transh_that_does_not_fit(
    make_splits: SplitBuilder, transh: Any, settings: dict[str, Any], message: str
) -> None:
    train = make_splits(features=True)[0]
    model = build(train, **settings)
    before = {name: t.clone() for name, t in tables_of(model).items()}
    with pytest.raises(ValueError, match=message):
        model.start_from(TransH(transh[0] or train[ENTITY].num_nodes, *transh[1:]))
    assert all(torch.equal(t, before[name]) for name, t in tables_of(model).items())


def test_triples_of_a_store_with_relations_in_another_order(splits: Any) -> None:
    train, _, test = splits
    model = build(train)
    other = copy.copy(test)
    other.relation_name = train.relation_name[::-1]
    other[RELATES].edge_type = 2 - test[RELATES].edge_type
    torch.testing.assert_close(model.triple_scores(other), model.triple_scores(test))
    head, relation = torch.tensor([0, 3]), torch.tensor([0, 1])
    torch.testing.assert_close(
        model.triple_scorer(other).tails(head, 2 - relation), model.triple_scorer(test).tails(head, relation)
    )


# ---------------------------------------------------------------------- explanations


@pytest.mark.parametrize(("induction", "norm"), FORMS)
def test_an_explanation_really_leaves_relations_out(splits: Any, induction: str, norm: str) -> None:
    """What is said of the score without a relation is the score of a model without its rows."""
    train, _, test = splits
    model = build(train, induction=induction, norm=norm)
    explained = model.explain(test, "u3", 104)
    assert explained.score == pytest.approx(float(model.score(test, ["u3"], [104])), rel=1e-5)
    assert set(explained.units["kind"]) == {"preference"}
    assert sorted(explained.units["name"]) == sorted(train.relation_name)
    contribution = explained.units.set_index("name")["contribution"]
    for number, name in enumerate(train.relation_name):
        poorer = copy.deepcopy(model)
        rest = [r for r in range(3) if r != number]
        for table in ("preference", "preference_normal", "relation", "relation_normal"):
            setattr(poorer, table, torch.nn.Parameter(getattr(model, table)[rest]))
        without = float(poorer.score(test, ["u3"], [104]))
        assert contribution[name] == pytest.approx(explained.score - without, rel=1e-4, abs=1e-5)
    assert float(contribution.abs().max()) > 1e-4


def test_what_an_explanation_tells(splits: Any) -> None:
    train, _, test = splits
    model = build(train)
    explained = model.explain(test, torch.tensor(3), torch.tensor(4))
    preferences = explained.preferences
    assert preferences["probability"].sum() == pytest.approx(1, abs=1e-5)
    assert preferences["profile"].sum() == pytest.approx(1, abs=1e-5)
    assert preferences["probability"].is_monotonic_decreasing
    with torch.no_grad():
        encoded = model.encode(model.prepare(test))
        pair = ((encoded.user[3] + encoded.item[4]) @ encoded.translation.t()).softmax(-1)
        alone = (encoded.user[3] @ encoded.translation.t()).softmax(-1)
    by_name = preferences.set_index("name").loc[train.relation_name]
    torch.testing.assert_close(torch.tensor(by_name["probability"].to_numpy()), pair)
    torch.testing.assert_close(torch.tensor(by_name["profile"].to_numpy()), alone)
    assert bool(explained.triples["context"].all())
    assert set(explained.triples["relation"]) <= set(train.relation_name)
    weights = dict(zip(explained.triples["relation"], explained.triples["weight"]))
    assert all(weights[name] == pytest.approx(by_name["probability"][name]) for name in weights)
    text = str(explained)
    units = explained.units[explained.units["supported"] & (explained.units["contribution"] > 0)]
    assert [reason.name for reason in explained.reasons(9)] == units["name"].tolist()
    assert all(f"you lean on {name}" in text for name in units["name"][:3])
    assert "without preference" in text
    html = explained._repr_html_()
    assert ("because you lean on" in html) == (len(units) > 0)
    assert "Left out, the score loses" in html
    ax = explained.plot()
    assert len(ax.patches) == (explained.units["contribution"] != 0).sum()
    assert any("in the profile" in label.get_text() for label in ax.get_yticklabels())


def test_an_explanation_of_tup_has_numbered_preferences(splits: Any) -> None:
    explained = build(splits[0], use_kg=False, num_preferences=4).explain(splits[2], "u1", 102)
    assert sorted(explained.preferences["name"]) == [f"preference {i}" for i in range(4)]
    assert explained.triples.empty
    assert "no single fact explains this" in str(explained)  # no preference has a triple under it


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l3"}, "norm is 'l3', expected 'l1' or 'l2'"),
        ({"induction": "firm"}, "induction is 'firm', expected 'soft' or 'hard'"),
        ({"joint": "never"}, "joint is 'never', expected 'sum' or 'alternate'"),
        ({"joint_ratio": 1.5}, r"joint_ratio is 1.5, expected a share in \[0, 1\]"),
        (
            {"joint_ratio": 0.0, "joint": "alternate"},
            r"joint_ratio is 0.0, expected .*\(above 0 for 'alternate'\)",
        ),
        ({"temperature": 0.0}, "temperature is 0.0, expected above 0"),
        ({"score_scale": float("nan")}, "score_scale is nan, expected above 0"),
        ({"item_norm": 0.0}, "item_norm is 0.0, expected above 0"),
        ({"item_norm": float("nan")}, "item_norm is nan, expected above 0"),
        ({"num_preferences": 5}, "num_preferences is 5, but the store has 3 relations"),
        ({"num_preferences": 0, "use_kg": False}, "num_preferences is 0, expected at least 1"),
        ({"loss": "bce"}, "loss is 'bce'"),
        ({"negatives": "hard"}, "distribution of negatives is 'hard'"),
        ({"features": "y"}, "features is 'y'"),
    ],
)
def test_bad_arguments(splits: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(splits[0], **settings)


def test_a_graph_without_relations_is_refused(splits: Any) -> None:
    data = splits[0]
    data.relation_name = []
    data[RELATES].edge_index = torch.empty(2, 0, dtype=torch.long)
    data[RELATES].edge_type = torch.empty(0, dtype=torch.long)
    with pytest.raises(ValueError, match="the store has no relations, expected a knowledge graph for KTUP"):
        build(data)


# ---------------------------------------------------------------------- what triples teach


def gradients_of(losses: list[Tensor], model: KTUP) -> set[str]:
    """Names of the tables that a loss reaches."""
    model.zero_grad(set_to_none=True)
    torch.stack(losses).sum().backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


TRIPLES = {"encoders.entity.weight", "relation", "relation_normal"}


@pytest.mark.parametrize(("induction", "norm"), FORMS)
def test_preferences_take_from_the_triples_and_give_nothing_back(
    splits: Any, induction: str, norm: str
) -> None:
    model = build(splits[0], induction=induction, norm=norm, transfer="preferences")
    losses = step(model, splits[0])
    assert set(losses) == {"ranking", "orthogonality", "knowledge", "knowledge_orthogonality"}
    own = gradients_of([losses["ranking"], losses["orthogonality"]], model)
    assert own
    assert not own & TRIPLES
    losses = step(model, splits[0])
    assert gradients_of([losses["knowledge"], losses["knowledge_orthogonality"]], model) == TRIPLES
    both = build(splits[0], induction=induction, norm=norm)
    assert gradients_of([step(both, splits[0])["ranking"]], both) >= TRIPLES
    # They do take: without the relations preferences would be others.
    score = model.score_all(splits[2], torch.arange(4))
    with torch.no_grad():
        model.relation.mul_(-1)
    assert not torch.allclose(model.score_all(splits[2], torch.arange(4)), score)


@pytest.mark.parametrize("joint", ["sum", "alternate"])
def test_recommendation_leaves_the_triples_tables_alone(splits: Any, joint: str) -> None:
    """Trained without the triples' loss, entities and relations stay bit by bit where they began."""
    model = build(splits[0], transfer="preferences", joint_ratio=1.0, joint=joint)
    before = {name: t.clone() for name, t in tables_of(model).items()}
    fit(model, splits[0], max_epochs=2, batch_size=16, progress=False)
    same = {name for name, t in tables_of(model).items() if torch.equal(t, before[name])}
    assert same == TRIPLES


@pytest.mark.parametrize("weight", [None, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("transfer", ["both", "preferences"])
def test_the_weight_of_entities(splits: Any, transfer: str, weight: float | None) -> None:
    model, data = build(splits[0], transfer=transfer, entity_weight=weight, item_norm=torch.inf), splits[2]
    expected = {"both": 1.0, "preferences": 0.1}[transfer] if weight is None else weight
    assert model.entity_weight == expected
    with torch.no_grad():
        encoded = model.encode(model.prepare(data))
        own, rows = (model.encoders[t].weight.detach() for t in (ITEM, ENTITY))
    item, entity = data[IS].edge_index
    mean = torch.zeros_like(own).index_add(0, item, rows[entity])
    mean = mean / torch.bincount(item, minlength=own.size(0)).clamp(min=1).unsqueeze(1)
    torch.testing.assert_close(encoded.item, own + expected * mean)


def test_items_that_do_not_hear_their_entities_are_not_known_by_them(splits: Any) -> None:
    for transfer in ("both", "preferences"):
        deaf, hears = (build(splits[0], transfer=transfer, entity_weight=w) for w in (0.0, 0.1))
        assert deaf.strangers()["item with link"] == "last"
        assert hears.strangers()["item with link"] == "link"
        assert not bool(deaf.linked_items(deaf.prepare(splits[2])).any())
        assert bool(hears.linked_items(hears.prepare(splits[2])).any())


def test_entities_start_long_where_items_are_not_aligned_to_them(splits: Any) -> None:
    for transfer, length in (("both", 0.1), ("preferences", 1.0)):
        tables = tables_of(build(splits[0], transfer=transfer))
        for name, expected in (("entity", length), ("item", 0.1), ("user", 0.1)):
            found = tables[f"encoders.{name}.weight"].norm(dim=1)
            torch.testing.assert_close(found, torch.full_like(found, expected))


def test_entities_and_relations_have_a_rate_of_their_own(splits: Any) -> None:
    model = build(splits[0], triple_lr=2.5)
    groups = {group["lr"]: {id(p) for p in group["params"]} for group in model.parameter_groups(0.1)}
    assert set(groups) == {0.1, 0.25}
    assert groups[0.25] == {id(model.get_parameter(name)) for name in TRIPLES}
    assert groups[0.1] | groups[0.25] == {id(p) for p in model.parameters()}
    assert [group["lr"] for group in build(splits[0]).parameter_groups(0.1)] == [0.1]
    still = build(splits[0], triple_lr=1e-12)
    before = still.relation.detach().clone()
    user = still.encoders[USER].weight.detach().clone()
    fit(still, splits[0], max_epochs=1, batch_size=16, progress=False)
    torch.testing.assert_close(still.relation, before, rtol=0, atol=1e-7)
    assert not torch.allclose(still.encoders[USER].weight, user)
    frozen = build(splits[0], triple_lr=2.0)
    frozen.relation.requires_grad_(False)
    assert all(p is not frozen.relation for group in frozen.parameter_groups(1.0) for p in group["params"])


# ---------------------------------------------------------------------- triples first


def test_triples_are_learned_first_once_and_alone(splits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    train = splits[0]
    model = build(train, knowledge_epochs=12)
    before = {name: t.clone() for name, t in tables_of(model).items()}
    inputs, every = model.prepare(train), torch.arange(train[RELATES].num_edges)

    def loss() -> float:
        return float(model.knowledge_losses(inputs, every, torch.Generator().manual_seed(5))["knowledge"])

    first, state = loss(), torch.get_rng_state()
    model.pretrain(inputs, progress=False)
    assert capsys.readouterr().out == ""
    assert torch.equal(torch.get_rng_state(), state)
    assert loss() < first
    after = {name: t.clone() for name, t in tables_of(model).items()}
    assert {name for name, t in after.items() if not torch.equal(t, before[name])} == TRIPLES
    model.pretrain(inputs, progress=True)  # once
    assert capsys.readouterr().out == ""
    assert all(torch.equal(t, after[name]) for name, t in tables_of(model).items())
    again = build(train, knowledge_epochs=12)
    again.pretrain(again.prepare(train), progress=False)
    assert all(torch.equal(t, after[name]) for name, t in tables_of(again).items())
    model.reset_parameters()
    assert not bool(model.learned_triples)


def test_fit_learns_the_triples_first(splits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(splits[0], knowledge_epochs=2, transfer="preferences", joint_ratio=1.0)
    alone = copy.deepcopy(model)
    alone.pretrain(alone.prepare(splits[0]), progress=False)
    fit(model, splits[0], max_epochs=1, batch_size=16, progress=False)
    for name in TRIPLES:
        assert torch.equal(model.get_parameter(name), alone.get_parameter(name))
    assert bool(model.learned_triples)


def test_no_stage_of_triples_where_there_is_nothing_to_learn(splits: Any) -> None:
    train = splits[0]
    started = build(train, knowledge_epochs=3)
    started.start_from(TransH(train[ENTITY].num_nodes, 3, 8))
    for model in (started, build(train), build(train, use_kg=False, knowledge_epochs=3)):
        before = {name: t.clone() for name, t in tables_of(model).items()}
        model.pretrain(model.prepare(train), progress=False)
        assert all(torch.equal(t, before[name]) for name, t in tables_of(model).items())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"transfer": "none"}, ValueError, "transfer is 'none', expected 'both' or 'preferences'"),
        ({"transfer": None}, ValueError, "transfer is None, expected 'both' or 'preferences'"),
        ({"entity_weight": -0.5}, ValueError, "entity_weight is -0.5, expected 0 or more"),
        ({"entity_weight": float("nan")}, ValueError, "entity_weight is nan, expected a finite number"),
        ({"entity_weight": "1"}, TypeError, "entity_weight is '1', expected a number"),
        ({"knowledge_epochs": -1}, ValueError, "knowledge_epochs is -1, expected 0 or more"),
        ({"knowledge_epochs": 1.5}, TypeError, "knowledge_epochs is 1.5, expected a whole number"),
        ({"triple_lr": 0.0}, ValueError, "triple_lr is 0.0, expected above 0"),
        ({"triple_lr": float("inf")}, ValueError, "triple_lr is inf, expected a finite number"),
        ({"triple_lr": "fast"}, TypeError, "triple_lr is 'fast', expected a number"),
    ],
)
def test_bad_arguments_of_what_triples_teach(
    splits: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(splits[0], **settings)
