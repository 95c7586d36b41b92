from __future__ import annotations

import copy
import functools
import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, EASE, KSR, KTUP, MKR, Blend, KGRec, Popularity, compare, does_knowledge_pay
from pyg_kgrec._look import INK
from pyg_kgrec.comparison import Comparison, KnowledgeReport
from pyg_kgrec.comparison.knowledge import AS_IT_IS, PERMUTED, RANDOM, SHUFFLED, WITHOUT
from pyg_kgrec.comparison.statistics import holm
from pyg_kgrec.data.store import num_relations
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import LeaveOneOut, PermuteRelations, RandomKnowledge, RandomSplit, ShuffleTails

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*stand there again"),
]
SETTINGS: dict[str, Any] = {"seeds": 2, "k": 5, "fit": {"max_epochs": 1}, "progress": False}
NOTHING = "Between M a and b there is no difference that these seeds can show (x 0.3000 against 0.2000, {})."
GRAPHS = [AS_IT_IS, WITHOUT, SHUFFLED, PERMUTED, RANDOM]


def made_with_knowledge_or_not(train: HeteroData) -> KGRec:
    return KGRec(train, hidden_channels=4)


@pytest.fixture(scope="module")
def report(small: HeteroData) -> KnowledgeReport:
    return does_knowledge_pay(
        functools.partial(KGRec, hidden_channels=4), small, RandomSplit(0.1, 0.2), **SETTINGS
    )


def test_each_graph_has_its_row(report: KnowledgeReport) -> None:
    frame = report.comparison.to_frame()
    assert frame["status"].eq("ok").all()
    assert list(frame["model"][:5]) == GRAPHS
    assert frame[frame["seed"] == 0]["ndcg@5"].nunique() > 1
    assert report.summary().loc[AS_IT_IS, "difference"] == 0


def test_shares_of_triples_that_are_still_true_are_counted(
    report: KnowledgeReport, small: HeteroData
) -> None:
    def rows(data: HeteroData) -> list[tuple[int, ...]]:
        store = data["entity", "relates", "entity"]
        return [tuple(x) for x in torch.stack([*store.edge_index, store.edge_type]).T.tolist()]

    true, frame = set(rows(small)), report.comparison.to_frame().set_index(["model", "seed"])
    for name, change in ((SHUFFLED, ShuffleTails), (PERMUTED, PermuteRelations), (RANDOM, RandomKnowledge)):
        shares = []
        for seed in (0, 1):
            drawn = rows(change(seed)(small))
            shares.append((sum(row in true for row in drawn) / len(drawn), 1 - len(set(drawn)) / len(drawn)))
            found = frame.loc[(name, seed), ["triples still true", "triples repeated"]]
            assert found.tolist() == pytest.approx(shares[-1])
        mean = report.summary().loc[name, ["triples still true", "triples repeated"]]
        assert mean.tolist() == pytest.approx([sum(one) / 2 for one in zip(*shares)])
    assert report.summary().loc[AS_IT_IS, "triples still true"] == 1
    assert np.isnan(report.summary().loc[WITHOUT, "triples still true"])
    assert "| 100.0 % | 0.0 % |" in report.to_markdown()


def test_the_sentences_are_true_of_the_numbers(report: KnowledgeReport) -> None:
    table = report.comparison
    p = holm([table.difference(AS_IT_IS, name)["p over seeds"] for name in GRAPHS[1:]])
    mean = table.to_frame().groupby("model")["ndcg@5"].mean()
    assert len(report.sentences) == 3
    for sentence, other, value in zip(report.sentences[:2], (WITHOUT, SHUFFLED), p):
        assert f"{mean[AS_IT_IS]:.4f} against {mean[other]:.4f}" in sentence
        assert ("no difference that these seeds can show" in sentence) == (not value < 0.05)
    assert "items with at most" in report.sentences[2]
    assert report.sentences[0] in report.to_markdown()
    named = copy.copy(report)
    named.model = "<b>"
    page = named._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<table" in page


@pytest.mark.parametrize(
    ("ours", "theirs", "p", "expected"),
    [
        (0.3, 0.2, 0.01, "With it M finds 50.0 % more (x 0.3000 against 0.2000, p = 0.01 over seeds)."),
        (0.1, 0.2, 0.01, "With it M finds 50.0 % less (x 0.1000 against 0.2000, p = 0.01 over seeds)."),
        (0.3, 0.2, 0.2, NOTHING.format("p = 0.2")),
        (0.3, 0.2, float("nan"), NOTHING.format("no test is possible")),
    ],
)  # fmt: skip
def test_a_sentence_says_which_way(
    report: KnowledgeReport, ours: float, theirs: float, p: float, expected: str
) -> None:
    model, report.model = report.model, "M"
    try:
        assert report._sentence("x", "With it M finds", "a and b", ours, theirs, p, "seeds") == expected
    finally:
        report.model = model


def test_what_users_show_and_seeds_do_not_is_said(report: KnowledgeReport) -> None:
    figures = "x", "With it M finds", "a and b", 0.3, 0.2
    for p, by, users, told in (
        (
            0.2,
            "seeds",
            0.001,
            "(x 0.3000 against 0.2000, p = 0.2; their users can, p = 0.001, and more seeds may).",
        ),
        (0.2, "seeds", 0.3, "(x 0.3000 against 0.2000, p = 0.2)."),
        (0.01, "seeds", 0.3, "(x 0.3000 against 0.2000, p = 0.01 over seeds)."),
        (0.2, "users", 0.2, "(x 0.3000 against 0.2000, p = 0.2)."),
    ):
        assert report._sentence(*figures, p, by, users).endswith(told)


def without_runs(report: KnowledgeReport, *failed: tuple[str, int]) -> KnowledgeReport:
    """The same report, had some runs failed."""
    table = report.comparison
    rows = [
        row | {"status": "failed", "reason": "no memory"} if (row["model"], row["seed"]) in failed else row
        for row in table._rows
    ]
    rest = table._pairs, table._labels, table._is_fixed, table.ks, table.metric, {}, []
    return KnowledgeReport(Comparison(rows, *rest))


def test_each_sentence_takes_the_test_that_its_seeds_allow(report: KnowledgeReport) -> None:
    one = without_runs(report, (WITHOUT, 1))
    users = one.comparison.difference(AS_IT_IS, WITHOUT)["p over users"]
    seeds = [one.comparison.difference(AS_IT_IS, name)["p over seeds"] for name in GRAPHS[2:]]
    for sentence, by in zip(one.sentences, ("users", "seeds", "users")):
        assert f"these {by} can show" in sentence or f"over {by})" in sentence
    assert f"p = {holm([users, *seeds])[0]:.2g}" in one.sentences[0]
    none = without_runs(report, (WITHOUT, 1), (AS_IT_IS, 0))
    nothing = "could not be compared: no seed was measured with both graphs."
    assert none.sentences[0] == f"KGRec with the graph 'without' {nothing}"
    assert "users" in none.sentences[1]
    assert none.sentences[2] == f"Items with few interactions {nothing}"
    assert nothing in repr(none)


@pytest.mark.parametrize(
    "model",
    [
        functools.partial(EASE, knowledge=1.0, power=0.0, l2=10.0),
        functools.partial(MKR, hidden_channels=4),
        functools.partial(KTUP, hidden_channels=4),
        pytest.param(
            functools.partial(KSR, embedding_channels=4, hidden_channels=4, kg_channels=4),
            marks=pytest.mark.slow,
        ),
        functools.partial(made_with_knowledge_or_not),
    ],
)
def test_every_model_takes_every_graph(model: Any) -> None:
    settings = SETTINGS | {"seeds": 1}
    report = does_knowledge_pay(model, build_store(), LeaveOneOut(), **settings)
    assert report.comparison.models == GRAPHS, report.comparison.left_out
    assert "users" in report.sentences[0]


def test_a_blend_is_made_again_with_its_parts() -> None:
    train, val, test = RandomSplit(0.1, 0.2)(build_store())
    parts = [EASE(train, l2=10.0, knowledge=1.0, power=0.0), BPRMF(train, hidden_channels=4)]
    model = Blend(parts, [0.75, 0.25], fit={"BPRMF": {"lr": 0.01}})
    report = does_knowledge_pay(model, [train, val, test], **SETTINGS | {"seeds": 1})  # type: ignore[arg-type]
    assert report.comparison.models == GRAPHS, report.comparison.left_out
    frame = report.comparison.to_frame().set_index("model")
    for name, alpha in ((AS_IT_IS, 1.0), (WITHOUT, None)):
        settings = json.loads(frame.loc[name, "settings"])
        assert settings["weights"] == [0.75, 0.25]
        assert settings["models"]["EASE"]["settings"]["knowledge"] == alpha
        assert settings["models"]["BPRMF"]["settings"]["hidden_channels"] == 4
        assert settings["models"]["BPRMF"]["fit"] == {"lr": 0.01}
    assert model.parts["EASE"].signature.trained is None


def test_of_a_model_that_reads_no_triples_it_says_so(small: HeteroData) -> None:
    once = SETTINGS | {"seeds": 1}
    report = does_knowledge_pay(EASE, small, **once)
    assert report.comparison.split == "RandomSplit(val=0.1, test=0.1, seed=0)"
    whole, content, _ = report.sentences
    assert "the same place with and without its knowledge graph" in whole
    assert "it reads no triples" in whole
    assert "the same place with its triples and with their tails shuffled" in content
    reads = does_knowledge_pay(
        functools.partial(EASE, l2=30.0, knowledge=10.0), small, RandomSplit(0.1, 0.2), **once
    )
    assert "reads no triples" not in " ".join(reads.sentences)


def test_a_store_without_triples_is_refused(small: HeteroData) -> None:
    with pytest.raises(ValueError, match="data has no triples, expected a knowledge graph"):
        does_knowledge_pay(KGRec, build_store(knowledge=False), LeaveOneOut())
    with pytest.raises(TypeError, match="expected a torch_geometric"):
        does_knowledge_pay(KGRec, 3)  # type: ignore[arg-type]


def test_the_picture_has_a_point_per_graph(report: KnowledgeReport) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    ax = report.plot()
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [WITHOUT, RANDOM, SHUFFLED, PERMUTED, AS_IT_IS]
    to_hex = import_module("matplotlib.colors").to_hex
    assert {to_hex(lines.get_color()[0]) for lines in ax.collections} == {INK}


class FailsOnAGraphLater(EASE):
    """Fails with seed 1 where there is a knowledge graph."""

    def solve(self, inputs: Any, validate: Any) -> Any:
        if torch.initial_seed() == 1 and self.signature.num_nodes.get("entity"):
            raise RuntimeError("out of luck")
        return super().solve(inputs, validate)


def test_figures_are_of_the_seeds_that_are_tested(small: HeteroData) -> None:
    def make(train: HeteroData) -> FailsOnAGraphLater:
        has_graph = "entity" in train.node_types
        return FailsOnAGraphLater(train, l2=10.0, knowledge=5.0 if has_graph else None, power=0.0)

    report = does_knowledge_pay(make, small, RandomSplit(0.1, 0.2), **SETTINGS | {"seeds": 3})
    rows = report.comparison.to_frame()
    assert rows[rows["model"] == WITHOUT]["status"].eq("ok").all()
    shared = rows[rows["seed"] != 1].groupby("model")["ndcg@5"].mean()
    assert f"{shared[AS_IT_IS]:.4f} against {shared[WITHOUT]:.4f}" in report.sentences[0]


def test_a_function_that_needs_triples_is_named_as_soon_as_its_run_fails(small: HeteroData) -> None:
    told: list[str] = []

    def make(train: HeteroData) -> Blend:
        told.extend(str(warning.message) for warning in caught)
        return Blend([EASE(train, l2=10.0, knowledge=1.0, power=0.0), Popularity(train)], [0.5, 0.5])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        does_knowledge_pay(make, small, RandomSplit(0.1, 0.2), **SETTINGS | {"seeds": 1})
    (message,) = {text for text in told if "failed" in text}
    assert message.startswith("'without' failed with seed 0 (other runs go on): ValueError: ")
    assert "needs triples, give one that works for a store without them, or the class or the model" in message


class OnlyWithoutAGraph(Popularity):
    """Cannot be made where there is a knowledge graph."""

    def __init__(self, data: HeteroData) -> None:
        if "entity" in data.node_types:
            raise ValueError("there is a graph")
        super().__init__(data)


def test_a_model_that_cannot_be_trained_with_its_graph_is_refused_before_others_are(
    small: HeteroData, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    with pytest.raises(
        ValueError, match=r"^the model cannot be trained with its graph: ValueError: there is a"
    ):
        does_knowledge_pay(OnlyWithoutAGraph, small, RandomSplit(0.1, 0.2), path=path, **SETTINGS)
    assert not path.exists()


def test_rows_of_a_comparison_are_no_rows_of_other_graphs(small: HeteroData, tmp_path: Path) -> None:
    model = functools.partial(EASE, l2=10.0, knowledge=5.0, power=0.0)
    once = SETTINGS | {"seeds": 1, "path": tmp_path / "rows"}
    compare({AS_IT_IS: model, SHUFFLED: model}, small, RandomSplit(0.1, 0.2), loss=None, **once)
    report = does_knowledge_pay(model, small, RandomSplit(0.1, 0.2), **once)
    assert "the same place" not in report.sentences[1]


def test_embeddings_of_the_true_graph_are_refused() -> None:
    store, words = (
        build_store(),
        "kg_embedding was learned from the graph as it is, expected None: each graph",
    )
    tables = torch.zeros(store["entity"].num_nodes, 4), torch.zeros(num_relations(store), 4)
    given = functools.partial(KSR, embedding_channels=4, hidden_channels=4, kg_embedding=tables)
    with pytest.raises(ValueError, match=f"^{words}"):
        does_knowledge_pay(given, store, LeaveOneOut(), **SETTINGS)
    with pytest.raises(ValueError, match=words):
        does_knowledge_pay(lambda train: Blend([given(train), EASE(train)]), store, LeaveOneOut(), **SETTINGS)
