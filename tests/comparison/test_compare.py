from __future__ import annotations

import copy
import functools
import json
import random
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    Blend,
    Comparison,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    compare,
    evaluate,
    fit,
)
from pyg_kgrec._files import pack
from pyg_kgrec._look import INK
from pyg_kgrec.comparison import runner, runs
from pyg_kgrec.comparison.entries import Entry, files_of, written
from pyg_kgrec.comparison.statistics import holm, paired_t, wilcoxon
from pyg_kgrec.data import INTERACTS, SplitReport, check_split
from pyg_kgrec.data.store import num_relations
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.kge import KGTables
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import (
    ClickThroughSplit,
    LeaveOneOut,
    RandomSplit,
    ShuffleTails,
    TemporalSplit,
    TripleSplit,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*stand there again"),
]

MF = functools.partial(BPRMF, hidden_channels=4)
SETTINGS: dict[str, Any] = {
    "split": RandomSplit(0.1, 0.2),
    "seeds": 2,
    "k": (5, 10),
    "fit": {"max_epochs": 2},
    "progress": False,
}


class Stumbles(BPRMF):
    """Fails with seed 1, after it was built."""

    def training_losses(self, inputs: Inputs, *args: Any) -> dict[str, torch.Tensor]:
        if torch.initial_seed() == 1:
            raise RuntimeError("out of luck")
        return super().training_losses(inputs, *args)


@pytest.fixture(scope="module")
def table(small: HeteroData) -> Comparison:
    models = {
        "MF": MF,
        "Popularity": Popularity,
        "LightGCN": (lambda train: LightGCN(train, hidden_channels=4), {"max_epochs": 1}),
        "KSR": KSR,
    }
    data = copy.copy(small)
    del data[INTERACTS].time
    return compare(models, data, **SETTINGS)


class Pairs(BaseTransform):
    """Makes two stores of one."""

    def forward(self, data: HeteroData) -> Any:
        return data, data


def metrics(table: Comparison) -> pd.DataFrame:
    return table.to_frame().set_index(["model", "seed"]).filter(like="@")


def test_a_row_is_what_fit_and_evaluate_give(table: Comparison, small: HeteroData) -> None:
    train, val, test = RandomSplit(0.1, 0.2, seed=1)(small)
    seed_everything(1)
    model = BPRMF(train, hidden_channels=4, loss="softmax")
    history = fit(model, train, val, seed=1, max_epochs=2, monitor="ndcg@5", progress=False)
    assert (
        table.to_frame().set_index(["model", "seed"]).loc[("MF", 1), "validation"] == history["ndcg@5"].max()
    )
    assert metrics(table).loc[("MF", 1)].to_dict() == evaluate(model, test, k=(5, 10))
    users = table.per_user().set_index(["model", "seed"]).loc[("MF", 1)]
    expected = evaluate(model, test, k=(5, 10), per_user=True)
    assert users["user"].tolist() == expected.index.tolist()
    assert users.drop(columns="user").to_numpy() == pytest.approx(expected.to_numpy())


def test_rows_state_what_they_were_made_with(table: Comparison) -> None:
    row = table.to_frame().set_index("model")
    assert json.loads(row.loc["MF", "settings"].iloc[0])["hidden_channels"] == 4
    assert row.loc["MF", "loss"].tolist() == ["softmax, 256 negatives"] * 2
    assert row.loc["LightGCN", "loss"].tolist() == ["bpr, 1 negative"] * 2  # the callable's own choice
    assert json.loads(row.loc["LightGCN", "fit"].iloc[0]) == {"max_epochs": 1}
    assert row.loc["LightGCN", "epochs"].tolist() == [1, 1]
    assert any("The losses differ (MF: softmax, 256 negatives; LightGCN: bpr" in note for note in table.notes)


def test_a_model_that_does_not_fit_the_store_is_left_out_with_the_reason(table: Comparison) -> None:
    assert list(table.left_out) == ["KSR"]
    assert "time" in table.left_out["KSR"]
    assert "KSR" not in table.summary().index
    assert "KSR is left out" in table.to_markdown()
    assert "KSR is left out" in table._repr_html_()


def test_the_summary_is_made_of_the_rows(table: Comparison) -> None:
    summary, rows = table.summary(reference="MF", test="permutation"), metrics(table)
    for name in table.models:
        value = rows.loc[name, "ndcg@5"]
        assert summary.loc[name, "ndcg@5"] == pytest.approx(value.mean())
        assert summary.loc[name, "ndcg@5 ±"] == pytest.approx(value.std())
    others = [name for name in table.models if name != "MF"]
    gaps = [(rows.loc[name, "ndcg@5"] - rows.loc["MF", "ndcg@5"]).to_numpy() for name in others]
    assert summary.loc[others, "difference"].tolist() == pytest.approx([gap.mean() for gap in gaps])
    assert summary.loc[others, "p over seeds"].tolist() == pytest.approx(
        holm([paired_t(gap) for gap in gaps])
    )
    users = table.per_user().groupby(["model", "user"])["ndcg@5"].mean()
    p_users = holm([wilcoxon((users[name] - users["MF"]).to_numpy()) for name in others])
    by_signed_ranks = table.summary(reference="MF").loc[others, "p over users"]
    assert by_signed_ranks.tolist() == pytest.approx(p_users.tolist())
    assert ((summary["low"] <= summary["high"]) | summary["low"].isna()).all()
    best = table.summary()
    assert best.index[0] == rows["ndcg@5"].groupby(level=0).mean().idxmax()
    assert best["difference"].iloc[0] == 0


def test_bands_of_frequency_add_up_to_the_ndcg(table: Comparison) -> None:
    for num_bands in (1, 3):
        bands = table.by_frequency(num_bands)
        for name in table.models:
            assert bands.loc[name, "ndcg@10"].sum() == pytest.approx(
                metrics(table).loc[name, "ndcg@10"].mean()
            )
    activity, users = table.by_activity(1), table.per_user()
    for name in table.models:
        expected = users[users["model"] == name].groupby("seed")["recall@5"].mean().mean()
        assert activity.loc[name, "recall@5"].iloc[0] == pytest.approx(expected)
    assert table.by_activity(3).loc["MF", "users"].sum() == users["user"].nunique()


def test_a_seed_that_fails_leaves_its_row_with_the_reason(small: HeteroData) -> None:
    table = compare({"MF": MF, "Stumbles": Stumbles}, small, **SETTINGS)
    rows = table.to_frame().set_index(["model", "seed"])
    assert rows["status"].tolist() == ["ok", "ok", "ok", "failed"]
    assert rows.loc[("Stumbles", 1), "reason"] == "RuntimeError: out of luck"
    assert table.summary().loc["Stumbles", "seeds"] == 1
    assert "Stumbles failed with seed 1: RuntimeError: out of luck" in table.notes


class FailsWhereItIsMade(Popularity):
    """Cannot be made with seed 0."""

    def __init__(self, data: HeteroData) -> None:
        if torch.initial_seed() == 0:
            raise ValueError("out of luck")
        super().__init__(data)


@pytest.mark.parametrize("make", [FailsWhereItIsMade, lambda train: FailsWhereItIsMade(train)])
def test_a_first_seed_that_fails_leaves_the_others_their_rows(small: HeteroData, make: Any) -> None:
    table = compare({"EASE": SOLVED, "P": make}, small, **QUICK | {"seeds": 3})
    rows = table.to_frame().set_index(["model", "seed"]).loc["P"]
    assert rows["status"].tolist() == ["failed", "ok", "ok"]
    assert rows.loc[0, "reason"] == "ValueError: out of luck"
    assert not table.left_out
    assert table.summary().loc["P", "seeds"] == 2
    alone = compare({"EASE": SOLVED, "P": FailsWhereItIsMade}, small, **QUICK | {"seeds": [0]})
    assert alone.left_out == {"P": "ValueError: out of luck"}


def test_models_that_are_left_out_are_named_before_anything_is_trained(small: HeteroData) -> None:
    data, told = copy.copy(small), list[str]()
    del data[INTERACTS].time

    def trains(train: HeteroData) -> Popularity:
        told.extend(str(warning.message) for warning in caught)
        return Popularity(train)

    models = {
        "P": trains,
        "negative": functools.partial(EASE, l2=-1),
        "misspelt": functools.partial(EASE, l22=3),
        "KSR": KSR,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = compare(models, data, **QUICK | {"seeds": 1})
    (message,) = [text for text in told if "left out" in text]
    assert message.startswith(
        "3 of 4 models cannot be made or trained on data, and will be left out of the tab"
    )
    for said in ("negative (ValueError: l2 is -1", "misspelt (TypeError: ", "KSR (ValueError: "):
        assert said in message
    assert [w.filename for w in caught if "left out" in str(w.message)] == [__file__]
    assert list(table.left_out) == ["negative", "misspelt", "KSR"]


def test_a_run_that_fails_is_a_warning_at_once(small: HeteroData) -> None:
    def never(train: HeteroData) -> Recommender:
        raise OSError("no such file")

    def last(train: HeteroData) -> Popularity:
        told.extend(str(warning.message) for warning in caught)
        return Popularity(train)

    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compare({"never": never, "last": last}, small, **QUICK)
    assert set(told) == {"'never' failed with seed 0 (other runs go on): OSError: no such file"}
    assert [w.filename for w in caught if "never" in str(w.message)] == [__file__]


class Tires(Callback):
    """Ends a training after its second epoch, and does not forget."""

    def __init__(self, lock: Any = None) -> None:
        self.epochs, self.lock = 0, lock

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.epochs += 1
        trainer.should_stop |= self.epochs >= 2


def test_what_a_run_leaves_in_callbacks_is_nothing_to_the_next(small: HeteroData, tmp_path: Path) -> None:
    tires = Tires()
    given = SETTINGS | {"seeds": 1, "fit": {"max_epochs": 3, "callbacks": [tires]}, "path": tmp_path / "rows"}
    table = compare({"MF": MF, "other": MF}, small, **given)
    assert table.to_frame()["epochs"].tolist() == [2, 2]
    assert tires.epochs == 0
    assert compare({"MF": MF, "other": MF}, small, **given).to_frame().equals(table.to_frame())  # none anew
    own = {"MF": (MF, {"callbacks": [Tires(threading.Lock())]})}
    with pytest.raises(ValueError, match=r"models\['MF'\] has callbacks that cannot be copied"):
        compare(own, small, **SETTINGS)


def test_rows_that_another_call_writes_meanwhile_are_kept(
    small: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, made, others = SETTINGS | {"path": tmp_path / "rows", "seeds": 1}, [], [EASE]
    trained = runner.run

    def run(plan: runs.Plan, name: str, seed: int) -> Any:
        made.append(name)
        while others:
            compare({"EASE": others.pop()}, small, **given)
        return trained(plan, name, seed)

    monkeypatch.setattr(runner, "run", run)
    first = compare({"Popularity": Popularity}, small, **given)
    again = compare({"EASE": EASE, "Popularity": Popularity}, small, **given)
    assert sorted(made) == ["EASE", "Popularity"]
    assert again.models == ["EASE", "Popularity"]
    assert metrics(again).loc["Popularity"].equals(metrics(first).loc["Popularity"])


def test_a_file_goes_on_in_another_process() -> None:
    """What a file says of its data is the same in every process."""
    data = HeteroData()
    data["user"].id, data["item"].id = ["a", "b"], [1, 2, 3]
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 0, 1], [0, 2, 1]])
    data["user", "interacts", "item"].time = torch.tensor([3.0, 1.0, 2.0])
    plan = runs.Plan([], data, RandomSplit(val=0.1, test=0.1), [10], "ndcg@10", 1, {}, 0)
    assert (
        json.loads(plan.key())["data"] == "2a2d7d0ac0e525e22fdeff52ff05328a993dde6446b089df084bf973ca0df23f"
    )


def test_an_interrupted_comparison_goes_on_bit_by_bit(
    small: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, path, made = {"MF": MF, "Popularity": Popularity}, tmp_path / "rows", []
    whole = compare(models, small, **SETTINGS)
    trained, fitting = runs.run, runs.fit

    def stops(model: Any, *args: Any, **kwargs: Any) -> pd.DataFrame:
        made.append(type(model).__name__)
        if len(made) == 3:
            raise KeyboardInterrupt
        return fitting(model, *args, **kwargs)

    monkeypatch.setattr(runs, "fit", stops)
    with pytest.raises(KeyboardInterrupt):
        compare(models, small, path=path, **SETTINGS)
    parts = compare(models, small, path=path, **SETTINGS)
    assert made == ["BPRMF", "Popularity", "BPRMF", "BPRMF", "Popularity"]
    pd.testing.assert_frame_equal(metrics(parts), metrics(whole), check_exact=True)
    pd.testing.assert_frame_equal(parts.per_user(), whole.per_user(), check_exact=True)
    again = compare(models, small, path=path, **SETTINGS)
    assert len(made) == 5
    pd.testing.assert_frame_equal(again.to_frame(), parts.to_frame(), check_exact=True)
    # Other settings of one model: its rows alone are made anew. More seeds: those that are missing.
    compare(models | {"MF": BPRMF}, small, path=path, **SETTINGS)
    assert made[5:] == ["BPRMF"] * 2
    compare(models, small, path=path, **SETTINGS | {"seeds": 3})
    assert made[7:] == ["BPRMF", "Popularity"]
    assert trained is runs.run


def test_ctrl_c_in_a_training_makes_no_row(small: HeteroData, tmp_path: Path) -> None:
    def interrupts(train: HeteroData) -> BPRMF:
        model = MF(train)
        losses, steps = model.training_losses, []

        def step(*args: Any) -> dict[str, torch.Tensor]:
            steps.append(1)
            if len(steps) == 1:
                import signal

                signal.raise_signal(signal.SIGINT)
            return losses(*args)

        model.training_losses = step  # type: ignore[method-assign]
        return model

    path = tmp_path / "rows"
    with pytest.raises(KeyboardInterrupt):
        compare({"Popularity": Popularity, "MF": interrupts}, small, path=path, **SETTINGS)
    kept = compare({"Popularity": Popularity}, small, path=path, **SETTINGS | {"seeds": 1})
    assert kept.to_frame()["model"].tolist() == ["Popularity"]


def test_files_of_other_comparisons_and_damaged_ones_are_refused(small: HeteroData, tmp_path: Path) -> None:
    path, models = tmp_path / "rows", {"Popularity": Popularity}
    compare(models, small, path=path, **SETTINGS)
    with pytest.raises(ValueError, match="holds a comparison of other data, another split"):
        compare(models, small, path=path, **SETTINGS | {"k": 7})
    with pytest.raises(ValueError, match="holds a comparison of other data, another split"):
        compare(models, small, path=path, **SETTINGS | {"split": RandomSplit(0.2, 0.2)})
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is damaged"):
        compare(models, small, path=path, **SETTINGS)
    with pytest.raises(FileNotFoundError, match="is not a folder to keep"):
        compare(models, small, path=tmp_path / "none" / "rows", **SETTINGS)


def test_lengths_in_another_order_are_the_same_comparison(
    small: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, models, made = tmp_path / "rows", {"EASE": SOLVED}, []
    fitting = runs.fit
    monkeypatch.setattr(runs, "fit", lambda *args, **kwargs: made.append(1) or fitting(*args, **kwargs))
    one = compare(models, small, path=path, **QUICK | {"k": (3, 7)})
    other = compare(models, small, path=path, **QUICK | {"k": (7, 3, 7)})
    assert made == [1, 1]
    fresh = compare(models, small, **QUICK | {"k": (7, 3)})
    pd.testing.assert_frame_equal(metrics(other), metrics(fresh), check_exact=True)
    pd.testing.assert_frame_equal(metrics(other)[metrics(one).columns], metrics(one), check_exact=True)
    assert list(metrics(other).columns[[0, 6, 12]]) == ["recall@7", "recall@3", "coverage@7"]
    assert list(one.to_frame().columns) == list(
        compare(models, small, **QUICK | {"k": (3, 7)}).to_frame().columns
    )


def test_embeddings_count_by_what_their_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, file, made = build_store(), tmp_path / "embeddings", []
    parts = LeaveOneOut()(data)

    def run(**given: Any) -> pd.DataFrame:
        small = {"kg_channels": 4, "embedding_channels": 4, "hidden_channels": 4}
        models = {"KSR": functools.partial(KSR, **small, **given)}
        settings = QUICK | {"split": None, "fit": {"max_epochs": 1}, "seeds": 1, "path": tmp_path / "rows"}
        return compare(models, parts, **settings).to_frame()

    def learned(data: HeteroData, *args: Any, path: Path, **kwargs: Any) -> KGTables:
        tables = KGTables(torch.rand(data["entity"].num_nodes, 4), torch.rand(num_relations(data), 4))
        graph = embedding._fingerprint(data, 4)
        file.write_bytes(pack({"graph": graph, **tables._asdict()}, embedding._KIND))
        return tables

    embedding, fitting = import_module("pyg_kgrec.kge.embedding"), runs.fit
    monkeypatch.setattr(import_module("pyg_kgrec.models.ksr"), "pretrained_embeddings", learned)
    monkeypatch.setattr(runs, "fit", lambda *args, **kwargs: made.append(1) or fitting(*args, **kwargs))
    one = run(kg_embedding=str(file))  # which writes the file
    assert json.loads(one["settings"][0])["kg_embedding"] == "embeddings"
    assert "files" not in one
    pd.testing.assert_frame_equal(run(kg_embedding=str(file)), one)
    assert made == [1]
    learned(parts[0], path=file)
    run(kg_embedding=str(file))
    assert made == [1, 1], "another file under the same name"
    tables = torch.rand(data["entity"].num_nodes, 4), torch.rand(num_relations(data), 4)
    assert json.loads(run(kg_embedding=tables)["settings"][0])["kg_embedding"] == "given"


def test_files_are_told_from_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bpr", "a.csv"):
        Path(name).write_text("1")
    settings = {
        "loss": "bpr",
        "table": "a.csv",
        "other": Path("bpr"),
        "none": "b.csv",
        "long": "./" + "x" * 999,
    }
    entry = Entry("a", functools.partial(MF, 3, also=str(tmp_path / "bpr")), settings)
    assert set(files_of(entry)) == {"a.csv", "bpr", str(tmp_path / "bpr")}
    before = files_of(entry)["a.csv"]
    Path("a.csv").write_text("2")
    assert files_of(entry)["a.csv"] != before


def test_the_random_state_of_the_caller_is_left_alone(small: HeteroData) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    compare({"MF": MF}, small, **SETTINGS | {"seeds": [3]})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_without_a_split_a_tenth_each_is_drawn_by_the_seed(small: HeteroData, tmp_path: Path) -> None:
    settings = {name: value for name, value in QUICK.items() if name != "split"} | {"path": tmp_path / "rows"}
    table = compare({"EASE": SOLVED}, small, **settings)
    given = compare({"EASE": SOLVED}, small, RandomSplit(val=0.1, test=0.1), **settings)  # the same file
    pd.testing.assert_frame_equal(given.to_frame(), table.to_frame(), check_exact=True)
    assert metrics(table)["ndcg@5"].nunique() == 2
    assert table.to_frame()["split"].tolist() == ["RandomSplit(val=0.1, test=0.1, seed=0)"] * 2
    fixed = compare({"EASE": SOLVED}, RandomSplit(0.1, 0.1)(small), seeds=1, k=5, progress=False)
    assert fixed.to_frame()["split"].tolist() == [""]


def test_a_fixed_split_is_the_same_for_all_seeds(small: HeteroData) -> None:
    settings = SETTINGS | {"split": None, "seeds": [4, 2]}
    table = compare({"MF": MF, "Popularity": Popularity}, RandomSplit(0.1, 0.2)(small), **settings)
    assert table.to_frame()["seed"].tolist() == [4, 4, 2, 2]
    assert metrics(table).loc["Popularity", "ndcg@5"].nunique() == 1
    assert metrics(table).loc["MF", "ndcg@5"].nunique() == 2
    assert "no such" not in repr(table)


def test_what_leaves_nothing_to_chance_has_no_deviation(small: HeteroData) -> None:
    settings = SETTINGS | {"split": None}
    table = compare({"MF": MF, "Popularity": Popularity}, RandomSplit(0.1, 0.2)(small), **settings)
    summary = table.summary()
    assert np.isnan(summary.loc["Popularity", ["ndcg@5 ±", "recall@10 ±"]].astype(float)).all()
    assert summary.loc["MF", "ndcg@5 ±"] == pytest.approx(metrics(table).loc["MF", "ndcg@5"].std())
    lines = {line.split(" | ")[0]: line for line in table.to_markdown().splitlines()}
    assert f"| {summary.loc['Popularity', 'ndcg@5']:.4f} ± – |" in lines["| Popularity"]
    assert "± –" not in lines["| MF"]
    for bands in (table.by_frequency(2), table.by_activity(2)):
        assert bands.loc["Popularity", "recall@5 ±"].isna().all()
        assert bands.loc["MF", "recall@5 ±"].notna().any()
    alone = compare({"P": Popularity}, small, **SETTINGS)  # of splits by the seed
    assert alone.summary().loc["P", "ndcg@5 ±"] > 0


def blend(train: HeteroData) -> Blend:
    return Blend({"graph": KGRec(train, hidden_channels=4), "linear": EASE(train)})


def blend_of_others(train: HeteroData) -> Blend:
    parts: dict[str, Recommender] = {"graph": Popularity(train), "linear": EASE(train, l2=[1.0, 30.0])}
    return Blend(parts, fit={"graph": {"num_threads": 1}})


@pytest.fixture(scope="module")
def rivals(small: HeteroData) -> Comparison:
    models = {
        "KGRec": functools.partial(KGRec, hidden_channels=4),
        "EASE": EASE,
        "EASE with knowledge": functools.partial(EASE, knowledge=1.0),
        "ItemKNN": functools.partial(ItemKNN, shrinkage=[1.0, 10.0]),
        "ALS": functools.partial(ALS, hidden_channels=4, l2=[0.01, 0.1], unobserved_weight=0.1, num_sweeps=2),
        "Blend": blend,
    }
    return compare(models, small, **SETTINGS | {"fit": {"max_epochs": 1}, "seeds": [1]})


def test_models_that_are_solved_and_blends_stand_beside_those_that_are_trained(
    rivals: Comparison, small: HeteroData
) -> None:
    frame = rivals.to_frame().set_index("model")
    assert frame["status"].eq("ok").all()
    assert set(rivals.summary().index) == set(frame.index)
    train, val, test = RandomSplit(0.1, 0.2, seed=1)(small)
    seed_everything(1)
    model = blend(train)
    fit(model, train, val, seed=1, max_epochs=1, monitor="ndcg@5", num_threads=1, progress=False)
    expected = evaluate(model, test, k=(5, 10))
    assert frame.loc["Blend"].filter(like="@").to_dict() == pytest.approx(expected, abs=1e-6)
    chosen = json.loads(frame.loc["Blend", "chosen"])
    assert chosen == {"weights": model.weights, "linear": model.parts["linear"].choice}
    assert json.loads(frame.loc["ItemKNN", "chosen"])["shrinkage"] in (1, 10)
    assert json.loads(frame.loc["KGRec", "chosen"]) == {}


def test_a_blend_states_what_its_parts_are_made_with(rivals: Comparison) -> None:
    row = rivals.to_frame().set_index("model").loc["Blend"]
    parts = json.loads(row["settings"])["models"]
    assert {name: part["class"] for name, part in parts.items()} == {"graph": "KGRec", "linear": "EASE"}
    assert parts["graph"]["settings"]["hidden_channels"] == 4
    assert row["loss"] == rivals.to_frame().set_index("model").loc["KGRec", "loss"]


def test_a_blend_of_other_parts_is_made_anew(small: HeteroData, tmp_path: Path) -> None:
    settings = SETTINGS | {"fit": {"max_epochs": 1}, "seeds": 1, "path": tmp_path / "rows"}
    compare({"Blend": lambda train: Blend([Popularity(train), EASE(train, l2=30.0)])}, small, **settings)
    frame = compare({"Blend": blend_of_others}, small, **settings).to_frame()
    parts = json.loads(frame["settings"].iloc[0])["models"]
    assert list(parts) == ["graph", "linear"]
    assert parts["graph"]["fit"] == {"num_threads": 1}
    assert parts["linear"]["settings"]["l2"] == [1.0, 30.0]


def test_a_split_that_leaks_is_named_before_anything_is_trained(small: HeteroData) -> None:
    train, val, test = RandomSplit(0.1, 0.2)(small)
    heard: list[str] = []

    def trains_late(train: HeteroData) -> Popularity:
        heard.extend(str(warning.message) for warning in caught)
        return Popularity(train)

    settings = SETTINGS | {"split": None, "seeds": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = compare({"Popularity": trains_late}, (train, val, test), **settings)
    assert not [text for text in heard if "leak" in text]
    assert not [note for note in table.notes if "leak" in note]

    learned = train[INTERACTS].edge_label_index.clone()
    learned[:, 0] = test[INTERACTS].edge_label_index[:, 0]
    train[INTERACTS].edge_label_index = learned
    for parts in ((train, val, test), (train, None, test)):
        heard.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = compare({"Popularity": trains_late}, parts, **settings)
        (told,) = {text for text in heard if "leak" in text}
        assert "1 of " in told
        assert "pairs to find that an earlier part holds (train and test), such as user " in told
        assert len(told) <= 400
        assert [w.filename for w in caught if "leak" in str(w.message)] == [__file__]
        assert [note for note in table.notes if "The split leaks: 1 of " in note]


@pytest.mark.parametrize(
    ("split", "claim"),
    [
        (RandomSplit(0.1, 0.2), None),
        (LeaveOneOut(), "user"),
        (TemporalSplit(0.1, 0.2), "user"),
        (TemporalSplit(0.1, 0.2, cut="all"), "all"),
    ],
)
def test_a_split_by_time_is_looked_at_as_one(
    small: HeteroData, monkeypatch: pytest.MonkeyPatch, split: BaseTransform, claim: str | None
) -> None:
    asked = []

    def looks(*splits: HeteroData, time: Any) -> SplitReport:
        asked.append(time)
        return check_split(*splits, time=time)

    monkeypatch.setattr(import_module("pyg_kgrec.comparison.compare"), "check_split", looks)
    table = compare({"Popularity": Popularity}, small, **SETTINGS | {"split": split, "seeds": 1})
    assert asked == [claim]
    assert not [note for note in table.notes if "leak" in note]


@pytest.mark.slow
def test_processes_give_the_same_numbers(small: HeteroData) -> None:
    models = {"KGRec": functools.partial(KGRec, hidden_channels=4), "MF": MF}
    one, two = (compare(models, small, processes=n, **SETTINGS) for n in (1, 2))
    pd.testing.assert_frame_equal(metrics(one), metrics(two), check_exact=True)
    pd.testing.assert_frame_equal(one.per_user(), two.per_user(), check_exact=True)


def test_the_picture_has_a_bar_per_model(table: Comparison) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    ax = table.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == list(table.summary().index[::-1])
    drawn = ax.collections[0]
    assert import_module("matplotlib.colors").to_hex(drawn.get_color()[0]) == INK, (
        "lines that read on light and on dark"
    )
    assert len(drawn.get_segments()) == len(table.summary())


def test_one_seed_has_no_deviation_to_draw(table: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    summary = table.summary().assign(**{f"{table.metric} ±": np.nan})
    monkeypatch.setattr(table, "summary", lambda *_: summary)
    ends = np.concatenate([line.get_xdata() for line in table.plot().lines])
    assert np.isnan(ends.astype(float)).all()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"models": {}}, ValueError, "models is empty"),
        ({"models": [BPRMF]}, TypeError, "models is a list, expected a dictionary"),
        ({"models": {"a": 3}}, TypeError, r"models\['a'\] is an int, expected a model's class"),
        (
            {"models": {"a": HeteroData}},
            TypeError,
            r"models\['a'\] is the class HeteroData, expected a model",
        ),
        ({"models": {3: BPRMF}}, TypeError, "models has the key 3, expected the name"),
        ({"models": {"a": (BPRMF, 3)}}, TypeError, r"models\['a'\] is a tuple of 2, expected"),
        ({"models": {"a": (BPRMF, {"seed": 3})}}, ValueError, "sets seed, expected other arguments"),
        (
            {"models": {"a": lambda train: 3}},
            ValueError,
            r"every run failed; a, seed 0: .* models\['a'\] made an int",
        ),
        ({"data": RandomSplit()(build_store())[0], "split": None}, ValueError, "the store is split already"),
        ({"split": 0.1}, TypeError, "split is a float, expected a transform"),
        (
            {"split": RandomSplit},
            TypeError,
            r"split is the class RandomSplit, expected a transform like RandomSplit\(",
        ),
        (
            {"split": ShuffleTails(0)},
            TypeError,
            "split is a ShuffleTails, expected a transform that makes three",
        ),
        (
            {"split": Pairs()},
            TypeError,
            "split is a Pairs, expected a transform that makes three stores, such as",
        ),
        ({"data": (None, None, None), "split": None}, TypeError, "data is a NoneType, expected a torch_geo"),
        (
            {"loss": "sofmax"},
            ValueError,
            r"loss is 'sofmax', which none of the models offers, .*'bpr', 'softmax'.* mean softmax",
        ),
        ({"seeds": 0}, ValueError, "seeds is 0, expected at least 1"),
        ({"seeds": [1, 1]}, ValueError, "each once"),
        ({"seeds": 1.5}, TypeError, "seeds is 1.5, expected a whole number"),
        ({"seeds": [2**32]}, ValueError, "seeds is 4294967296, expected 0 to 4294967295"),
        ({"k": 0}, ValueError, "k is 0, expected at least 1"),
        ({"k": []}, ValueError, "k is empty"),
        ({"k": 10**6}, ValueError, "k is 1000000, expected a whole number from 1 to the 40 items"),
        ({"processes": 0}, ValueError, "processes is 0, expected at least 1"),
        ({"fit": 3}, TypeError, "fit is an int, expected a dictionary"),
        ({"tune": {"b": {"lr": [0.1]}}}, ValueError, r"tune\['b'\] is of no model, expected one of 'a'"),
        (
            {"tune": {"a": {"lr": []}}},
            ValueError,
            "tries .* for 'lr', expected a list with at least one value",
        ),
        (
            {"tune": {"a": {"lr": (2.0, 1.0)}}},
            ValueError,
            "expected a list with at least one value, or a pair",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    small: HeteroData, change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as error:
        compare(**{"models": {"a": MF}, "data": small} | SETTINGS | change)
    assert len(str(error.value)) <= 400


def test_what_a_table_is_asked_for_is_checked(table: Comparison) -> None:
    with pytest.raises(ValueError, match="metric is 'ndcg@7', expected 'recall@5'"):
        table.summary("ndcg@7")
    with pytest.raises(ValueError, match="reference is 'x', expected one of the models: 'MF'"):
        table.summary(reference="x")
    with pytest.raises(ValueError, match="level is 2, expected a number between 0 and 1"):
        table.summary(level=2)
    with pytest.raises(ValueError, match="num_bands is 0, expected at least 1"):
        table.by_frequency(0)


def test_tuning_chooses_on_validation_within_its_budget(small: HeteroData) -> None:
    pytest.importorskip("optuna")
    tune: dict[str, Any] = {"MF": {"hidden_channels": [2, 4], "lr": [1e-3, 1e-2]}}
    table = compare({"MF": BPRMF, "Popularity": Popularity}, small, tune=tune, n_trials=4, **SETTINGS)
    row = table.to_frame().set_index(["model", "seed"]).loc[("MF", 0)]
    assert row["trials"] == 4
    chosen, scores = json.loads(row["tuned"]), {}
    train, val, _ = RandomSplit(0.1, 0.2)(small)
    for channels in (2, 4):
        for lr in (1e-3, 1e-2):
            seed_everything(0)
            model = BPRMF(train, hidden_channels=channels, loss="softmax")
            fit(model, train, val, lr=lr, max_epochs=2, monitor="ndcg@5", progress=False)
            scores[channels, lr] = evaluate(model, val, k=5)["ndcg@5"]
    assert scores[chosen["hidden_channels"], chosen["lr"]] == max(scores.values())


def test_a_note_says_how_many_trials_were_made(small: HeteroData) -> None:
    pytest.importorskip("optuna")
    tune: dict[str, Any] = {"few": {"l2": [1.0, 3.0]}, "one": {"l2": [1.0]}, "some": {"l2": (1.0, 3.0)}}
    models = dict.fromkeys(tune, functools.partial(EASE, l2=10.0))
    table = compare(models, small, tune=tune, n_trials=3, **QUICK | {"seeds": 1})
    said = [note for note in table.notes if note.startswith("Searched")]
    assert said == [
        "Searched on validation, 2 trials per run: few.",
        "Searched on validation, 1 trial per run: one.",
        "Searched on validation, 3 trials per run: some.",
    ]
    assert table.to_frame()["tune"][0].startswith('2 trials of {"l2": [')


def test_a_trial_that_does_not_stay_finite_costs_no_row(small: HeteroData) -> None:
    pytest.importorskip("optuna")
    models: dict[str, Any] = {"MF": BPRMF, "wild": BPRMF, "Popularity": Popularity}
    tune: dict[str, Any] = {"MF": {"lr": [1e38, 1e-2]}, "wild": {"lr": [1e38]}}
    table = compare(models, small, tune=tune, n_trials=2, **SETTINGS | {"seeds": 1})
    row = table.to_frame().set_index("model").loc["MF"]
    assert json.loads(row["tuned"]) == {"lr": 1e-2}
    assert row["trials"] == 2
    assert "none of 1 trials came to an evaluation" in table.left_out["wild"]


def test_three_stores_may_stand_in_a_list(small: HeteroData) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "split"} | {"seeds": 1}
    train, val, test = RandomSplit(0.1, 0.2)(small)
    listed = compare({"Popularity": Popularity}, [train, val, test], **settings)  # type: ignore[arg-type]
    assert metrics(listed).equals(
        metrics(compare({"Popularity": Popularity}, (train, val, test), **settings))
    )


QUICK: dict[str, Any] = {"split": RandomSplit(0.1, 0.2), "seeds": 2, "k": 5, "progress": False}
SOLVED = functools.partial(EASE, l2=10.0)


class OfTheCallersOwnError(Exception):
    """No kind of error that this package raises."""


def test_an_error_of_any_kind_fails_its_run_alone(small: HeteroData) -> None:
    made: list[Recommender] = []

    def stumbles(train: HeteroData) -> Recommender:
        if len(made) == 1:  # with seed 0
            raise OfTheCallersOwnError("no more")
        made.append(Popularity(train))
        return made[-1]

    def never(train: HeteroData) -> Recommender:
        return train.nothing_of_that_name

    table = compare({"EASE": SOLVED, "stumbles": stumbles, "never": never}, small, **QUICK)
    rows = table.to_frame().set_index(["model", "seed"])
    assert rows.loc[("stumbles", 1), "reason"] == "OfTheCallersOwnError: no more"
    assert rows.loc["EASE", "status"].tolist() == ["ok", "ok"]
    assert "AttributeError" in table.left_out["never"]


class Calls:
    """How often a function made a model."""

    number = 0


def counted(train: HeteroData) -> Recommender:
    Calls.number += 1
    return Popularity(train)


def test_a_callable_is_called_once_for_each_run_that_is_made(small: HeteroData, tmp_path: Path) -> None:
    rows, Calls.number = tmp_path / "rows", 0
    first = compare({"counted": counted}, small, path=rows, **QUICK)
    assert Calls.number == 2
    again = compare({"counted": counted}, small, path=rows, **QUICK)
    assert Calls.number == 2
    pd.testing.assert_frame_equal(again.to_frame(), first.to_frame(), check_exact=True)
    compare({"counted": counted}, small, path=rows, **QUICK | {"seeds": 3})
    assert Calls.number == 3
    compare({"counted": (counted, {"num_threads": 1})}, small, path=rows, **QUICK)
    assert Calls.number == 5


def test_a_search_of_what_a_callables_model_makes_nothing_of_fails_its_runs(small: HeteroData) -> None:
    pytest.importorskip("optuna")
    models: dict[str, Any] = {"counted": counted, "EASE": SOLVED}
    tune = {"counted": {"lr": [0.1, 0.2]}}
    table = compare(models, small, tune=tune, **QUICK | {"seeds": 1})
    assert "tune['counted'] has 'lr'" in table.left_out["counted"]
    assert table.models == ["EASE"]


def test_seconds_count_what_a_callable_trains(small: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(runs.time, "perf_counter", lambda: clock[0])

    def pretrained(train: HeteroData) -> Recommender:
        clock[0] += 100
        return Popularity(train)

    table = compare({"pretrained": pretrained}, small, **QUICK | {"seeds": 1})
    assert table.to_frame()["seconds"].tolist() == [100]


def test_seconds_to_tune_count_trials_that_fail(small: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    clock = [0.0]
    monkeypatch.setattr(runs.time, "perf_counter", lambda: clock[0])

    def diverges(train: HeteroData, l2: float) -> Recommender:
        clock[0] += 10
        if l2 == 1 and clock[0] > 10:
            raise runs.NonFiniteError("it does")
        return EASE(train, l2=l2)

    models = {"EASE": functools.partial(diverges, l2=1.0)}
    table = compare(models, small, tune={"EASE": {"l2": [1.0, 3.0]}}, n_trials=2, **QUICK | {"seeds": 1})
    assert table.to_frame()["seconds to tune"].tolist() == [20]


def test_users_are_named_by_the_store_that_is_ranked(small: HeteroData) -> None:
    train, val, test = RandomSplit(0.1, 0.2)(small)
    other = copy.copy(test)
    place = torch.arange(test["user"].num_nodes).flip(0)
    other["user"].id = [test["user"].id[i] for i in place.tolist()]
    for key in ("edge_index", "edge_label_index", "seen_edge_index"):
        user, item = test[INTERACTS][key]
        other[INTERACTS][key] = torch.stack([place[user], item])
    settings = {name: value for name, value in QUICK.items() if name != "split"} | {"seeds": 1}
    same, turned = (
        compare({"EASE": SOLVED}, (train, val, store), **settings).per_user().set_index("user")
        for store in (test, other)
    )
    pd.testing.assert_frame_equal(turned.loc[same.index], same)


def test_bands_that_a_split_has_no_pair_of_add_nothing(small: HeteroData) -> None:
    seeds, frequency = [0, 1, 2, 3], 12
    table = compare({"EASE": SOLVED}, small, **QUICK | {"seeds": seeds})
    bands = table.by_frequency(frequency)
    held = [pairs["item_interactions"] for pairs in table._pairs.values()]
    assert bands["pairs"].sum() == pytest.approx(np.mean([one.size for one in held]))
    assert len({len(np.unique(one)) for one in held}) > 1
    assert bands["ndcg@5"].sum() == pytest.approx(metrics(table)["ndcg@5"].mean())


def test_names_are_no_marks_in_markdown(small: HeteroData) -> None:
    name = "a|b\\|c\nd <b> *x* is_it"
    lines = compare({name: Popularity}, small, **QUICK | {"seeds": 1}).to_markdown().splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| a\\|b\\\\\\|c d &lt;b> \\*x\\* is_it | 1 |")
    data = copy.copy(small)
    del data[INTERACTS].time
    two = {"$a$ [b](c)": Popularity, "*c* <d>": KSR}
    lines = compare(two, data, **QUICK | {"seeds": 1}).to_markdown().splitlines()
    assert lines[2].startswith("| \\$a\\$ \\[b\\](c) | 1 |")
    assert lines[4].startswith("- \\*c\\* &lt;d> is left out: ")


def test_a_share_of_0_is_no_validation(small: HeteroData) -> None:
    settings = QUICK | {"split": RandomSplit(0, 0.2), "seeds": 1}
    table = compare({"EASE": EASE}, small, **settings)
    assert json.loads(table.to_frame()["chosen"][0])["l2"] == 100
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match="tune is given without validation pairs, expected some"):
        compare({"EASE": EASE}, small, tune={"EASE": {"l2": [1.0]}}, **settings)


def test_arguments_are_written_without_addresses() -> None:
    assert written({"fit": lambda: 0}) == written({"fit": lambda: 0})
    assert "0x" not in written({"fit": object()})


def test_memory_of_a_run_is_not_what_an_earlier_one_left_free() -> None:
    peaks = []
    for _ in range(3):
        with runs._memory() as peak:
            parts = [torch.ones(2**14) for _ in range(2400)]  # 64 KiB each, which the allocator keeps
            del parts
            peaks.append(peak)
    if np.isnan(peaks[0][0]):
        pytest.skip("nobody counts the memory here")
    # Of 150 MiB some lie between other things of a long run's, and cannot be given back.
    assert min(peak[0] for peak in peaks) > 100


def test_a_peak_that_the_kernel_keeps_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available() or not Path("/proc/self/status").exists():
        pytest.skip("read elsewhere")

    def refuse(*args: Any) -> int:
        raise PermissionError

    del_me = torch.ones(2**23)
    del del_me
    monkeypatch.setattr(Path, "write_text", refuse)
    with runs._memory() as peak:
        pass
    assert np.isnan(peak[0])


def test_users_of_bands_add_up_where_a_band_is_empty_in_some_split() -> None:
    data = SyntheticKG(num_users=12, num_items=40, num_entities=60, seed=0)[0]
    table = compare({"P": Popularity}, data, split=ClickThroughSplit(0.2, 0.3), seeds=4, k=5, progress=False)
    users = table.per_user().groupby("seed")["user"].nunique().mean()
    for num_bands in (1, 4):
        assert table.by_activity(num_bands)["users"].sum() == users


@pytest.mark.parametrize(("part", "monitor"), [("val", "ndcg@5"), ("test", "auc"), ("val", "auc")])
def test_a_part_without_a_pair_labelled_1_is_named(small: HeteroData, part: str, monitor: str) -> None:
    parts = ClickThroughSplit(0.2, 0.2)(small)
    parts[("train", "val", "test").index(part)][INTERACTS].edge_label *= 0
    with pytest.raises(
        ValueError, match=rf"of {part} holds .* is labelled 1|^{part}.* no pair is labelled 1"
    ):
        compare({"MF": MF}, parts, monitor=monitor, **SETTINGS | {"split": None})


def test_a_model_that_knows_no_triples_is_left_out_of_a_comparison_by_triples(small: HeteroData) -> None:
    parts = [TripleSplit(seed=0)(part)[place] for place, part in enumerate(RandomSplit(0.2, 0.2)(small))]
    with pytest.raises(
        ValueError, match=r"none of the 1 models .* TypeError: model is a BPRMF, which knows no"
    ):
        compare({"MF": MF}, parts, monitor="mrr", **SETTINGS | {"split": None})


def takes_any(train: HeteroData, **settings: Any) -> Recommender:
    return BPRMF(train, **settings)


@pytest.mark.parametrize(
    ("model", "search", "message"),
    [
        (
            KGRec,
            {"hiden_channels": [8]},
            r"\(did you mean hidden_channels\?\), expected a setting of KGRec \(hidd",
        ),
        (
            KGRec,
            {"lr": [0.1], "seed": [1]},
            "has 'seed', which no trial may change, expected a setting of KGRec",
        ),
        (takes_any, {"seed": [1]}, "has 'seed', which no trial may change, expected an argument of fit"),
        (
            lambda train: EASE(train),
            {"l2": [1.0]},
            r"expected an argument of fit \(max_epochs, lr, batch_size",
        ),
        (EASE, True, "is True, but EASE says no search_space, expected a dictionary of what is tried"),
        (takes_any, True, "is True, but a callable says no search_space, expected a dictionary"),
        (EASE, {"lr": [0.1]}, r"expected a setting of EASE \(l2, knowledge, power, max_memory\)$"),
        (Popularity, {"lr": [0.1]}, "expected no search: nothing of it can be set$"),
    ],
)
def test_a_search_over_what_makes_no_difference_is_refused_at_the_entrance(
    small: HeteroData, tmp_path: Path, model: Any, search: Any, message: str
) -> None:
    pytest.importorskip("optuna")
    path = tmp_path / "rows"
    with pytest.raises(ValueError, match=rf"^tune\['a row'\] .*{message}") as error:
        compare({"a row": model, "MF": MF}, small, tune={"a row": search}, path=path, **SETTINGS)
    assert len(str(error.value)) <= 400
    assert not path.exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"hidden_channels": [4, "x"]},
            r"tries 'x' for hidden_channels, which no trial can be made with: hidden_ch",
        ),
        (
            {"lr": [0.1], "num_layers": (0, 2)},
            "tries 0 for num_layers, .* num_layers is 0, expected at least 1",
        ),
        ({"hidden_channels": (4.0, 8.0)}, r"tries 6\.0 for hidden_channels, .* expected a whole number"),
        (
            {"hidden_channels": [4, 6], "num_heads": [4, 5]},
            "tries 5 for num_heads, .* expected a divisor",
        ),
        ({"lr": [0.1, -1]}, "tries -1 for lr, which no trial can be trained with: lr is -1, expected a pos"),
        ({"patience": (0, 5)}, "tries 0 for patience, .*: patience is 0, expected at least 1"),
    ],
)
def test_a_search_of_what_a_model_refuses_is_refused_at_the_entrance(
    small: HeteroData, tmp_path: Path, search: Any, message: str
) -> None:
    pytest.importorskip("optuna")
    path = tmp_path / "rows"
    with pytest.raises(ValueError, match=rf"^tune\['a row'\] {message}"):
        compare({"a row": KGRec, "MF": MF}, small, tune={"a row": search}, path=path, **SETTINGS)
    assert not path.exists()


def test_what_goes_with_another_value_may_be_searched(small: HeteroData) -> None:
    """Three heads divide none of the default's channels, but twelve; nothing is known of a pair's ends."""
    pytest.importorskip("optuna")
    search = {"num_heads": [3], "hidden_channels": [12], "dropout": (0.0, 1.0)}
    settings = SETTINGS | {"fit": {"max_epochs": 1}}
    table = compare({"a row": KGRec}, small, tune={"a row": search}, n_trials=1, **settings)
    assert table.to_frame()["status"].tolist() == ["ok", "ok"]  # of two seeds


def test_what_a_callable_takes_by_any_name_may_be_searched(small: HeteroData) -> None:
    pytest.importorskip("optuna")
    tune = {"MF": {"hidden_channels": [2, 4]}}
    table = compare({"MF": takes_any}, small, tune=tune, n_trials=2, **SETTINGS | {"seeds": 1})
    assert json.loads(table.to_frame()["tuned"][0])["hidden_channels"] in (2, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"monitor": "ndcg10"}, ValueError, "monitor is 'ndcg10', expected a metric and a length"),
        ({"monitor": 3}, TypeError, "monitor is 3, expected the name of a metric"),
        ({"fit": {"max_epoch": 1}}, TypeError, "max_epoch is no argument of fit"),
        ({"fit": {"lr": -1}}, ValueError, r"models\['P'\] cannot be fitted: lr is -1, expected a positive"),
        ({"fit": {"batch_size": "x"}}, TypeError, "batch_size is 'x', expected a whole number"),
        ({"fit": {"patience": 0}}, ValueError, "patience is 0, expected at least 1"),
        ({"fit": {"precision": "double"}}, ValueError, "precision is 'double', expected one of '32-true'"),
        ({"fit": {"devices": "many"}}, TypeError, "Lightning's Trainer refuses devices many: `devices` "),
        ({"fit": {"scheduler": "cosin"}}, ValueError, "scheduler is 'cosin', expected 'cosine'"),
        (
            {"models": {"P": Popularity, "M": (MF, {"eval_every": 0})}},
            ValueError,
            r"^models\['M'\] cannot be fitted: eval_every is 0, expected at least 1",
        ),
        (
            {"models": {"M": (MF, {"scheduler": "plateau"})}, "split": RandomSplit(0.0, 0.2)},
            ValueError,
            r"^models\['M'\] cannot be fitted: scheduler is 'plateau' without val",
        ),
        ({"k": 15}, ValueError, "^k is 15, expected a whole number from 1 to the 14 items"),
        (
            {"monitor": "ndcg@15"},
            ValueError,
            "^monitor is 'ndcg@15', expected at most ndcg@14, the number of items",
        ),
        ({"monitor": "auc"}, ValueError, r"^val\[.*\] has no edge_label, expected pairs labelled 0 and 1"),
        (
            {"monitor": "mrr"},
            ValueError,
            "^val has no edge_label_index of triples, expected a store of TripleSplit",
        ),
    ],
)
def test_what_no_run_can_be_made_with_leaves_no_file(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    data, path = build_store(), tmp_path / "rows.pyg_kgrec"
    with pytest.raises(error, match=message):
        compare(
            **{"models": {"P": Popularity, "E": EASE}, "data": data, "split": RandomSplit(), "k": 10}
            | {"path": path, "progress": False}
            | arguments
        )
    assert not path.exists()


def test_a_search_may_be_watched_by_triples() -> None:
    data = SyntheticKG(num_users=20, num_items=30, num_entities=60, seed=0)[0]
    parts = [TripleSplit(seed=0)(part)[place] for place, part in enumerate(RandomSplit(0.2, 0.2)(data))]
    table = compare(
        {"K": (functools.partial(KTUP, hidden_channels=4), {"max_epochs": 1})},
        parts,
        seeds=1,
        k=5,
        monitor="mrr",
        tune={"K": {"lr": [0.01, 0.001]}},
        n_trials=2,
        progress=False,
    )
    assert table.to_frame()["status"].tolist() == ["ok"]
    assert table.to_frame()["trials"].tolist() == [2]


def test_what_is_loaded_once_is_no_part_of_the_first_run(
    small: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    warming = import_module("pyg_kgrec.comparison.warming")
    made: list[str] = []
    fitting, rows = runs.fit, {"BPRMF": MF, "a subclass": Stumbles, "many": lambda train: EASE(train)}
    monkeypatch.setattr(warming, "_warm", set())
    monkeypatch.setattr(warming, "fit", lambda model, *args, **kwargs: made.append(type(model).__name__))
    monkeypatch.setattr(runs, "fit", lambda *args, **kwargs: made.append("run") or fitting(*args, **kwargs))
    compare(rows, small, **SETTINGS | {"seeds": [0], "fit": {"max_epochs": 1}})
    assert made == ["BPRMF", "run", "run", "EASE", "run"]
