"""Explanations measured, against what a few loops say."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import trapezoid
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import Popularity, evaluate_explanations
from pyg_kgrec.data import drop_repeats
from pyg_kgrec.data.store import INTERACTS, RELATES
from pyg_kgrec.explain.units import KINDS, Removals, Units
from pyg_kgrec.faithfulness.truth import PlantedTruth
from pyg_kgrec.models.base import Recommender

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Recommender]


def by_loops(
    model: Recommender, data: HeteroData, user: int, item: int, order: list[int], units: Units, k: int
) -> dict[str, float]:
    """All figures of one pair by their definitions, removal by removal."""
    inputs = model.inputs(data)
    who, what = torch.tensor([user]), torch.tensor([item])
    seen = set(inputs.seen.of(who).tolist())
    before = model.score_all(inputs, who)[0]
    mean = before[[i for i in range(inputs.num_items) if i not in seen]].mean().item()
    n, steps, reasons, most = len(order), 4, 2, 3

    def without(gone: list[int]) -> tuple[float, float]:
        scores = before
        if gone:
            removal = Removals(torch.tensor(gone), torch.tensor([0, len(gone)]))
            scores = model.scores_without(inputs, who, what, units, removal, every=True)[0]
        others = [scores[i].item() for i in range(inputs.num_items) if i not in seen and i != item]
        own = scores[item].item()
        rank = 1 + sum(s > own for s in others) + 0.5 * sum(s == own for s in others)
        return (own - mean) / (before[item].item() - mean), rank

    def area(values: list[float]) -> float:
        return sum((a + b) / 2 for a, b in pairwise(values)) / steps

    parts = [math.ceil(n * s / steps) for s in range(steps + 1)]
    forward = [without(order[:m]) for m in parts]
    backward = [without(order[n - m :]) for m in parts]
    kept = [without(order[n * s // steps :]) for s in range(steps + 1)]
    gone = [m for m in range(1, min(most, n) + 1) if without(order[:m])[1] > k]
    return {
        "units": n,
        f"POS@{k}": area([float(rank <= k) for _, rank in forward]),
        f"NEG@{k}": area([float(rank <= k) for _, rank in backward]),
        f"DEL@{k}": area([score for score, _ in forward]),
        f"INS@{k}": area([score for score, _ in kept]),
        "fidelity+": float(without(order[:reasons])[1] > k),
        "fidelity-": float(without(order[reasons:])[1] > k),
        "chance": sum(1 - without([place])[0] for place in order) / n,
        "lowers": float(without(order[:1])[0] < 1),
        "effect": 1 - without(order[:1])[0],
        "rank change": without(order[:1])[1] - without([])[1],
        "found": float(bool(gone)),
        "size": gone[0] if gone else math.nan,
    }


def test_figures_are_what_loops_over_removals_say(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    report = evaluate_explanations(model, test, k=3, steps=4, reasons=2, most=3, num_users=4, batch_size=5)
    frame, inputs = report.to_frame(), model.inputs(test)
    assert frame["pair"].nunique() == 12
    assert report.kinds == ["triple", "history", "all"]
    checked = 0
    for _, row in frame[frame["ranking"] == "effect"].iterrows():
        user, item = (
            inputs.vocabulary("user").index([row["user"]]),
            inputs.vocabulary("item").index([row["item"]]),
        )
        user, item = torch.as_tensor(user), torch.as_tensor(item)
        units = model.score_units(inputs, user, item)
        effect = model.score(inputs, user, item) - model.scores_without(
            inputs, user, item, units, Removals.each(units)
        )
        chosen = [
            place
            for place in range(len(units))
            if row["kind"] == "all" or KINDS[int(units.kind[place])] == row["kind"]
        ]
        order = sorted(chosen, key=lambda place: -effect[place].item())
        wanted = by_loops(model, test, int(user), int(item), order, units, 3)
        np.testing.assert_allclose([row[name] for name in wanted], list(wanted.values()), atol=1e-9)
        checked += 1
    assert checked >= 28


def test_a_removal_that_changes_nothing_moves_no_item_among_equals(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    model.of_triple.zero_()
    model.of_item.zero_()
    model.of_item[:, 2:5] = 1  # each item of a history speaks for the same three, and for no others
    report = evaluate_explanations(model, test, k=6, reasons=1, most=1)
    frame = report.to_frame().query("kind == 'history' and units > 1")
    index = model.inputs(test).vocabulary("item").index(list(frame["item"]))
    listed = np.isin(index, [2, 3, 4])
    assert listed.any()
    assert not listed.all()
    assert (frame[["rank change", "fidelity+", "found"]] == 0).all(axis=None)
    others = frame[~listed]
    assert (others["lowers"] == 0).all()
    # Of the others each has a rank in the middle of all the equal ones, and so was never among the first six.
    assert (others[["POS@6", "fidelity-"]] == 0).all(axis=None)


def test_areas_of_the_curves_are_the_metrics(sums: Make, test: HeteroData) -> None:
    report = evaluate_explanations(sums(test), test, k=4, steps=7)
    summary, curves = report.summary(), report.curves()
    for (kind, ranking), part in curves.groupby(["kind", "ranking"]):
        assert len(part) == 8
        for name in ("POS", "NEG", "DEL", "INS"):
            area = trapezoid(part[name], part["share"])
            np.testing.assert_allclose(area, summary.loc[(kind, ranking), f"{name}@4"], atol=1e-9)


def test_units_in_the_order_of_their_effects_explain_best(sums: Make, test: HeteroData) -> None:
    table = evaluate_explanations(sums(test), test, k=5).summary().loc["history"]
    for other in ("popularity", "random"):
        assert table.loc["effect", "DEL@5"] < table.loc[other, "DEL@5"]
        assert table.loc["effect", "POS@5"] < table.loc[other, "POS@5"]
        assert table.loc["effect", "NEG@5"] > table.loc[other, "NEG@5"]
        assert table.loc["effect", "INS@5"] > table.loc[other, "INS@5"]
        assert table.loc["effect", "effect"] > 2 * table.loc[other, "effect"]
    # The weights of this model are its effects.
    same = [name for name in table.columns if name not in ("ms", "stability")]
    pd.testing.assert_series_equal(
        table.loc["effect", same], table.loc["weight", same], check_names=False, rtol=1e-9
    )


def test_the_same_seed_gives_the_same_bits_and_another_other_users(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    first, second, other = (evaluate_explanations(model, test, k=2, num_users=4, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame(), check_exact=True)
    pd.testing.assert_frame_equal(
        first.summary().drop(columns="ms"), second.summary().drop(columns="ms"), check_exact=True
    )
    assert set(first.to_frame()["user"]) != set(other.to_frame()["user"])


def test_batches_change_no_figure_but_those_of_chance(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    one, many = (
        evaluate_explanations(model, test, k=3, num_users=3, batch_size=size).to_frame() for size in (1, 1000)
    )
    key = ["pair", "kind", "ranking"]
    one, many = (
        frame[frame["ranking"] != "random"].sort_values(key, ignore_index=True) for frame in (one, many)
    )
    pd.testing.assert_frame_equal(one, many, rtol=1e-9)


def test_random_state_is_left_as_it_was(sums: Make, test: HeteroData) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    evaluate_explanations(sums(test), test, k=2, num_users=2)
    assert torch.equal(before, torch.random.get_rng_state())


class TestPlantedTruth:
    def test_a_model_that_reads_rationales_alone_is_right(self, sums: Make, test: HeteroData) -> None:
        test = drop_repeats(test)  # copies of a triple are one fact, which is a rationale or is none
        model = sums(test, history=0.0)
        truth = torch.arange(test[RELATES].num_edges) % 2 == 0
        test[RELATES].is_rationale = truth
        model.of_triple.copy_(torch.where(truth, 1.0, -0.1))
        table = evaluate_explanations(model, test, k=10).summary()
        assert table.loc[("triple", "effect"), ["AUC", "AP"]].tolist() == [1.0, 1.0]
        assert 0 < table.loc[("triple", "effect"), "triples"] <= truth.numel()
        assert table.loc[("triple", "random"), "AUC"] < 0.9
        assert table["AUC"].loc["history"].isna().all()

    def test_it_is_not_defined_without_a_truth(self, sums: Make, test: HeteroData) -> None:
        assert evaluate_explanations(sums(test), test, k=3).summary()["AUC"].isna().all()

    @pytest.mark.parametrize("kind", ["entity", "preference"])
    def test_a_unit_that_groups_triples_gives_each_its_value(self, test: HeteroData, kind: str) -> None:
        model = Popularity(test)
        (head, _), relation = test[RELATES].edge_index, test[RELATES].edge_type
        item, entity = test["item", "is", "entity"].edge_index
        test[RELATES].is_rationale = head == entity[0] if kind == "entity" else relation == 0
        truth = PlantedTruth(model.inputs(test))
        pairs = item[:1]
        node = entity[:1] if kind == "entity" else torch.tensor([0])
        units = Units(torch.tensor([0]), torch.tensor([KINDS.index(kind)]), node, torch.tensor([1.0]))
        truth.add(kind, "effect", pairs, units, torch.tensor([2.0], dtype=torch.float64))
        total, count = truth.sums[kind, "effect"]
        mine = (head[:, None] == entity[item == item[0]]).any(1)
        mine &= (head == entity[0]) if kind == "entity" else (relation == 0)
        assert mine.any()
        assert torch.equal(total > 0, mine)
        assert torch.equal(count > 0, mine)


def test_effects_are_held_against_the_mean_of_all_units(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    model.of_item.abs_().add_(0.1 * torch.eye(20)[0])
    report = evaluate_explanations(model, test, k=3)
    frame = report.to_frame().query("kind == 'history' and ranking == 'effect'")
    ratio = report.summary().loc[("history", "effect"), "effect / random"]
    assert ratio == pytest.approx(frame["effect"].mean() / frame["chance"].mean())
    model.of_item.neg_()
    table = evaluate_explanations(model, test, k=3).summary().loc["history"]
    assert (table["effect / random"].isin([math.inf]) | table["effect / random"].isna()).all()


class TestStability:
    def test_equal_models_agree_and_opposite_ones_do_not(self, sums: Make, test: HeteroData) -> None:
        model, same, opposite = sums(test), sums(test), sums(test)
        opposite.of_item.neg_()
        opposite.of_triple.neg_()
        agree = evaluate_explanations(model, test, k=2, models=[model, same]).summary()["stability"]
        assert agree.loc["history", "effect"] == pytest.approx(1)
        assert agree.loc["all", "effect"] == pytest.approx(1)
        assert agree.loc["history", "weight"] == pytest.approx(1)
        assert math.isnan(agree.loc["history", "random"])
        against = evaluate_explanations(model, test, k=2, models=[opposite]).summary()["stability"]
        assert against.loc["history", "effect"] == pytest.approx(-1)

    def test_it_is_the_mean_of_spearmans_correlation(self, sums: Make, test: HeteroData) -> None:
        stats = pytest.importorskip("scipy.stats")
        model, other = sums(test), sums(test, seed=5)
        frame = evaluate_explanations(model, test, k=1, num_users=3, models=[other]).to_frame()
        row = frame[(frame["kind"] == "history") & (frame["ranking"] == "effect")].iloc[0]
        inputs = model.inputs(test)
        user, item = (torch.as_tensor(inputs.vocabulary(t).index([row[t]])) for t in ("user", "item"))
        items = inputs.data[INTERACTS].edge_index[1][inputs.data[INTERACTS].edge_index[0] == user]
        wanted = stats.spearmanr(model.of_item[items, item], other.of_item[items, item]).statistic
        assert row["stability"] == pytest.approx(wanted)


class TestReport:
    def test_says_what_was_found(self, sums: Make, test: HeteroData) -> None:
        report = evaluate_explanations(sums(test), test, k=3)
        text = report.to_markdown()
        head, rule, *rows = text.splitlines()
        assert head.startswith("| model | units | order | pairs | per pair | POS@3 |")
        assert all(line.count("|") == head.count("|") for line in (rule, *rows[:-2]))
        assert rows[-1] == "The first 3 of 10 users, 30 pairs."
        assert repr(report) == text
        assert "<table" in report._repr_html_()
        assert "stability" not in head
        assert len(report.summary()) == len(rows) - 2

    def test_draws_a_line_for_each_order(self, sums: Make, test: HeteroData) -> None:
        pytest.importorskip("matplotlib").use("Agg")
        from matplotlib import pyplot as plt

        report = evaluate_explanations(
            sums(test), test, k=3, explainers={"$x$": lambda *a: a[-1].node.float()}
        )
        for curve in ("DEL", "INS", "POS", "NEG"):
            ax = report.plot("history", curve)
            drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
            assert list(drawn) == ["effect", "weight", "popularity", "random", "$x$"]
            part = report.curves().query("kind == 'history' and ranking == 'effect'")
            np.testing.assert_array_equal(drawn["effect"], part[curve])
            plt.close("all")
        with pytest.raises(ValueError, match="curve is 'AUC'"):
            report.plot(curve="AUC")
        with pytest.raises(ValueError, match="kind is 'slot'"):
            report.plot("slot")


def constant(model: Recommender, inputs: Any, user: Tensor, item: Tensor, units: Units) -> Tensor:
    return torch.ones(3)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"k": 0}, ValueError, "k is 0"),
        ({"k": 21}, ValueError, "20 items of the catalogue"),
        ({"k": 2.5}, TypeError, "k is 2.5"),
        ({"num_users": 0}, ValueError, "num_users is 0"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"reasons": "3"}, TypeError, "reasons is '3'"),
        ({"most": 0}, ValueError, "most is 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"users": ["nobody"]}, ValueError, "nobody"),
        ({"users": torch.empty(0, dtype=torch.long)}, ValueError, "no user has recommendations"),
        ({"explainers": {"mine": 3}}, TypeError, r"explainers\['mine'\] is 3"),
        ({"explainers": {"effect": constant}}, ValueError, "named 'effect'"),
        ({"explainers": [constant]}, TypeError, "expected a dictionary"),
        ({"explainers": {"mine": constant}}, ValueError, r"a tensor of shape \(3,\)"),
        ({"models": 3}, TypeError, "expected a list of models"),
        ({"models": [3]}, TypeError, "expected models of the type Sums"),
    ],
)
def test_says_what_is_wrong(
    sums: Make, test: HeteroData, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        evaluate_explanations(sums(test), test, **{"k": 3} | arguments)
    assert len(str(caught.value)) <= 400


def test_a_model_without_units_says_so(test: HeteroData) -> None:
    with pytest.raises(TypeError, match="Popularity has no explanations"):
        evaluate_explanations(Popularity(test), test, k=3)


def test_users_who_have_everything_say_so(sums: Make, test: HeteroData) -> None:
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(20)).t()
    test[INTERACTS].seen_edge_index = pairs
    del test[INTERACTS].seen_time
    with pytest.raises(ValueError, match="none of 10 users has a recommendation that could be explained"):
        evaluate_explanations(sums(test), test, k=3)


def test_recommendations_without_units_say_so(
    sums: Make, test: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, none = sums(test), torch.empty(0, dtype=torch.long)
    monkeypatch.setattr(model, "score_units", lambda *_: Units(none, none, none, none.double()))
    with pytest.raises(ValueError, match="none of 30 recommendations has a unit that could be left out"):
        evaluate_explanations(model, test, k=3)


def test_a_model_in_training_mode_is_evaluated_and_stays_in_it(sums: Make, test: HeteroData) -> None:
    model = sums(test)
    wanted = evaluate_explanations(model.eval(), test, k=2).to_frame()
    pd.testing.assert_frame_equal(evaluate_explanations(model.train(), test, k=2).to_frame(), wanted)
    assert model.training


def test_users_may_be_chosen(sums: Make, test: HeteroData) -> None:
    frame = evaluate_explanations(sums(test), test, k=2, users=["u3", "u1", "u3"]).to_frame()
    assert list(frame["user"].unique()) == ["u1", "u3"]


def test_a_name_of_two_lines_breaks_no_table(sums: Callable[..., Recommender], test: HeteroData) -> None:
    report = evaluate_explanations(
        sums(test), test, k=3, explainers={"of\ntwo | lines": lambda *given: given[-1].node.float()}
    )
    *table, _, told = report.to_markdown().splitlines()
    assert all(line.startswith("| ") for line in table[:1] + table[2:])
    assert any("of two \\| lines" in line for line in table)
    assert told.startswith("The first 3")
