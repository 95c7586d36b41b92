"""The command, from files to a table, and what it says of bad input."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pyg_kgrec
from pyg_kgrec.cli import commands, main
from pyg_kgrec.cli.building import Row
from pyg_kgrec.data import load_store, read_kgat
from pyg_kgrec.testing import build_store

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CSV files, the stores made of them, and a model."""
    root = tmp_path_factory.mktemp("command")
    rng = np.random.default_rng(0)
    pairs = [(f"p{u}", f"f{i}") for u in range(12) for i in rng.permutation(16)[:8]]
    pd.DataFrame(pairs, columns=["user_id", "item_id"]).to_csv(root / "clicks.csv", index=False)
    triples = pd.DataFrame({"head": [f"f{i}" for i in range(16)], "relation": "genre"})
    triples["tail"] = [f"g{i % 3}" for i in range(16)]
    triples.to_csv(root / "facts.csv", index=False)
    links = pd.DataFrame({"item": [f"f{i}" for i in range(16)], "entity": [f"f{i}" for i in range(16)]})
    links.to_csv(root / "links.csv", index=False)
    files = (
        "--interactions",
        root / "clicks.csv",
        "--triples",
        root / "facts.csv",
        "--links",
        root / "links.csv",
    )
    assert run("data", *files, "--set", "val=0.2", "test=0.2", "--seed", 3, "--out", root / "s") == 0
    train = ("--set", "hidden_channels=4", "max_epochs=2", "monitor=ndcg@3")
    assert run("fit", root / "s", "KGRec", *train, "--refit", root / "served.pt") == 0
    return root


def run(*words: Any) -> int:
    return main([str(word) for word in words])


def test_the_way_from_files_to_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = folder / "s"
    assert sorted(path.name for path in stores.iterdir()) == [
        "all.store", "model.history.csv", "model.pt", "test.store", "train.store", "val.store",
    ]  # fmt: skip
    test = load_store(stores / "test.store")
    model = pyg_kgrec.load(stores / "model.pt", test)
    assert run("evaluate", stores, "--json", "--set", "k=3", "metrics=['ndcg', 'recall']") == 0
    assert json.loads(capsys.readouterr().out) == pyg_kgrec.evaluate(
        model, test, k=3, metrics=["ndcg", "recall"]
    )
    assert run("recommend", stores, "--users", "p3", "p1", "--set", "k=2", "--json") == 0
    expected = model.recommend(test, ["p3", "p1"], k=2, as_frame=True)
    found = pd.DataFrame(json.loads(capsys.readouterr().out))
    assert found[["user", "rank", "item"]].to_dict() == expected[["user", "rank", "item"]].to_dict()
    expected.to_csv(folder / "gone.csv", index=False)
    out = folder / "lists.csv"
    words = (
        "--items",
        "f1",
        "f2",
        "f3",
        "f4",
        "--exclude",
        folder / "gone.csv",
        "--set",
        "k=4",
        "--out",
        out,
    )
    assert run("recommend", stores, *words) == 0
    items = ["f1", "f2", "f3", "f4"]
    everyone = model.recommend(test, k=4, items=items, exclude=expected, as_frame=True)
    assert pd.read_csv(out)["item"].tolist() == everyone["item"].tolist()
    capsys.readouterr()
    item = expected["item"][0]
    assert run("explain", stores, "--user", "p3", "--item", item) == 0
    assert capsys.readouterr().out.strip() == str(model.explain(test, ["p3"], [item])).strip()
    assert run("explain", stores, "--user", "p3", "--item", item, "--out", folder / "why.json") == 0
    assert json.loads((folder / "why.json").read_text())
    served = ("--part", "all", "--model", folder / "served.pt", "--users", "p3", "--json")
    capsys.readouterr()
    assert run("recommend", stores, *served) == 0
    assert json.loads(capsys.readouterr().out)
    assert "edge_label_index" not in load_store(stores / "all.store")["user", "interacts", "item"]


def test_the_same_seed_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        assert (
            run("fit", folder / "s", "BPRMF", "--seed", 5, "--set", "max_epochs=1", "--out", tmp_path / name)
            == 0
        )
    one, other = (pyg_kgrec.load(tmp_path / name).state_dict() for name in ("a.pt", "b.pt"))
    assert all(bool((one[name] == other[name]).all()) for name in one)


def test_settings_come_from_a_file_and_words_come_after_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[fit]\nhidden_channels = 6\nmax_epochs = 3\n[recommend]\nk = 1\n")
    words = ("--config", tmp_path / "s.toml", "--set", "max_epochs=1", "--out", tmp_path / "m.pt")
    assert run("fit", folder / "s", "LightGCN", *words) == 0
    assert pyg_kgrec.load(tmp_path / "m.pt").settings["hidden_channels"] == 6
    assert len(pd.read_csv(tmp_path / "m.history.csv")) == 1


def test_what_fit_says_on_the_way_is_not_its_answer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_progress", lambda arguments: True)  # as in a terminal
    settings = ("--set", "hidden_channels=4", "max_epochs=1", "monitor=ndcg@3")
    assert run("fit", folder / "s", "BPRMF", *settings, "--out", tmp_path / "m.pt", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["rows of history"] == 1
    assert "BPRMF: 1 epoch in" in said.err


def test_a_blend_and_a_comparison(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "blend.pt"
    assert run("fit", folder / "s", "EASE+Popularity", "--set", "monitor=ndcg@3", "--out", out) == 0
    assert isinstance(pyg_kgrec.load(out), pyg_kgrec.Blend)
    words = ("--models", "EASE", "Popularity", "--set", "seeds=1", "k=3", "--out", tmp_path / "runs.csv")
    assert run("compare", folder / "s", *words) == 0
    assert set(pd.read_csv(tmp_path / "runs.csv")["model"]) == {"EASE", "Popularity"}


def test_parts_of_a_blend_have_settings_of_their_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        "[fit]\nmonitor = 'ndcg@3'\n[fit.BPRMF]\nhidden_channels = 6\nmax_epochs = 3\n"
    )
    out = tmp_path / "blend.pt"
    words = ("--config", tmp_path / "s.toml", "--set", "EASE.l2=7", "BPRMF.max_epochs=1", "--out", out)
    assert run("fit", folder / "s", "EASE+BPRMF", *words) == 0
    blend = pyg_kgrec.load(out)
    assert isinstance(blend, pyg_kgrec.Blend)
    assert blend.parts["EASE"].settings["l2"] == 7
    assert blend.parts["BPRMF"].settings["hidden_channels"] == 6
    make, _ = Row("EASE+BPRMF", commands.MODELS, ["max_epochs"]).make({"BPRMF.max_epochs": 1, "EASE.l2": 7})
    assert make(load_store(folder / "s" / "train.store")).fit_arguments == {"BPRMF": {"max_epochs": 1}}
    words = ("--set", "weights=[0.25, 0.75]", "monitor=ndcg@3", "--out", out)
    assert run("fit", folder / "s", "EASE+Popularity", *words) == 0
    assert list(pyg_kgrec.load(out).weights.values()) == [0.25, 0.75]


def test_models_that_are_compared_have_settings_of_their_own(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    settings = ("seeds=1", "k=3", "max_epochs=2", "BPRMF.max_epochs=1", "BPRMF.hidden_channels=6")
    words = ("--models", "BPRMF", "LightGCN", "BPRMF+EASE", "--set", *settings, "--out", out)
    assert run("compare", folder / "s", *words) == 0
    rows = {row["model"]: row for row in json.loads(out.read_text())}
    assert set(rows) == {"BPRMF", "LightGCN", "BPRMF+EASE"}
    assert (rows["BPRMF"]["epochs"], rows["LightGCN"]["epochs"]) == (1, 2)


def test_many_are_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = folder / "s"
    test = load_store(stores / "test.store")
    model = pyg_kgrec.load(stores / "model.pt", test)
    capsys.readouterr()
    assert run("explain", stores, "--users", "p3", "p1", "-k", 2) == 0
    assert (
        capsys.readouterr().out.strip()
        == "\n\n".join(map(str, model.explain(test, ["p3", "p1"], k=2))).strip()
    )
    assert run("explain", stores, "--users", "p3", "p1", "--items", "f1", "f2", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["user"], row["item"]) for row in rows} == {
        (u, i) for u in ("p3", "p1") for i in ("f1", "f2")
    }
    assert run("explain", stores, "--user", "p1", "--item", "f2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        row for row in rows if (row["user"], row["item"]) == ("p1", "f2")
    ]
    best = model.recommend(test, ["p3"], k=1, as_frame=True)["item"][0]
    assert run("explain", stores, "--user", "p3", "--counterfactual", "-k", 3) == 0
    what = model.explain(test, ["p3"], [best]).counterfactual(3)
    assert str(what) in capsys.readouterr().out


def test_a_list_without_a_reason(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = folder / "s"
    test = load_store(stores / "test.store")
    model = pyg_kgrec.load(stores / "model.pt", test)
    best = model.recommend(test, ["p3"], k=4, as_frame=True)
    why = model.explain(test, "p3", best["item"][0])
    units = [0, len(why.units) - 1]
    asked = ("explain", stores, "--user", "p3")
    capsys.readouterr()
    assert run(*asked, "--without", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["unit"], row["name"]) for row in rows] == list(enumerate(why.units["name"]))
    assert run(*asked, "--without", units[0], "-k", 4, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["units"] == [why.units["name"][0]]
    assert [row["item"] for row in found["list"]] == best["item"].tolist()
    assert (found["score"], found["rank"]) == (pytest.approx(why.score), why.rank)
    assert found["score"] - found["score_without"] == pytest.approx(why.units["contribution"][0], abs=1e-6)
    assert found["rank_without"] == why.rank + why.units["rank_change"][0]
    assert (
        run(*asked, "--item", best["item"][0], "--without", *units, "-k", 4, "--out", tmp_path / "l.csv") == 0
    )
    table = pd.read_csv(tmp_path / "l.csv")
    score = why.scores_without(units)
    gone = set(test["item"].id) - set(model.recommend(test, ["p3"], k=16, as_frame=True)["item"])
    left = [item for item in test["item"].id if item not in gone]
    left.sort(key=lambda item: -score[test["item"].id.index(item)])
    assert table.query("list == 'without'")["item"].tolist() == left[:4]
    capsys.readouterr()
    assert run(*asked, "--without", *units, "-k", 2) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"item {best['item'][0]} for user p3, without {why.units['name'][0]}, ")
    assert len(said.splitlines()) == 4


def test_a_model_is_exported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores, served = folder / "s", folder / "served.pt"
    capsys.readouterr()
    words = (
        "--model",
        served,
        "--out",
        tmp_path / "files",
        "--set",
        "tables=npy",
        "index=none",
        "scorer=False",
    )
    assert run("export", stores, *words) == 0
    assert re.search(r"num_items +16", capsys.readouterr().out)
    whole = load_store(stores / "all.store")
    files = pyg_kgrec.exporting.ItemIndex.load(tmp_path / "files")
    expected = pyg_kgrec.load(served, whole).recommend(whole, ["p3"], k=3, as_frame=True)
    found = files.recommend(["p3"], k=3)
    assert list(found["item"]) == list(expected["item"])


def test_a_folder_for_a_hub_has_the_results_on_its_card(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    assert run("evaluate", folder / "s", "--set", "k=3", "--out", tmp_path / "m.json") == 0
    words = (
        "--hub",
        "--metrics",
        tmp_path / "m.json",
        "--set",
        "dataset_name=films",
        "--out",
        tmp_path / "hub",
    )
    assert run("export", folder / "s", *words) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "films" in card
    assert "ndcg@3" in card


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 0.0, 0.0))
    assert run("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["torch"]
    report = pyg_kgrec.ops.report("cpu")
    assert found["operations"]["cpu"] == {
        name: {"backend": choice.backend, "reason": choice.reason} for name, choice in report.items()
    }
    assert any("other processes share" in text for text in found["warnings"])
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.0, 0.0))
    assert run("doctor") == 0
    said = capsys.readouterr().out
    assert "relational_attention" in said
    assert "other processes" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "{s}", "KGRek"), "there is no model 'KGRek', expected .*did you mean KGRec"),
        (
            ("fit", "{s}", "KGRec", "--set", "hiden_channels=4"),
            "'hiden_channels' .did you mean hidden_channels",
        ),
        (("fit", "{s}", "KGRec", "--set", "max_epoch=4"), "'max_epoch' .did you mean max_epochs"),
        (("fit", "{s}", "KGRec", "--set", "lr"), "'lr' is no setting, expected name=value"),
        (("fit", "{s}", "KGRec", "--set", "lr=fast"), "lr is 'fast', expected a number"),
        (("fit", "{s}", "KGRec", "--seed", "-1"), "seed is -1"),
        (("fit", "{s}", "KGRec", "--config", "{t}/none.toml"), "there is no file"),
        (("fit", "{t}/none", "KGRec"), "there is no folder"),
        (("fit", "{s}", "KGRec", "--out", "{t}/none/m.pt"), "is not a folder"),
        (("evaluate", "{t}"), "holds no test.store"),
        (("evaluate", "{s}", "--part", "tset"), "there is no part 'tset', .*did you mean test"),
        (("evaluate", "{s}", "--model", "{t}/none.pt"), "there is no file"),
        (("evaluate", "{s}", "--model", "{s}/test.store"), "expected one of a model"),
        (("evaluate", "{s}", "--set", "k=99"), "k is 99, expected a whole number from 1 to the 16"),
        (("recommend", "{s}", "--users", "nobody"), "nobody"),
        (
            ("recommend", "{s}", "--items", "f1"),
            "k is 10, expected a whole number from 1 to the 1 candidates",
        ),
        (("recommend", "{s}", "--out", "lists.xls"), "expected a file that ends in .csv, .json, .parquet"),
        (("recommend", "{s}", "--out", "{t}/none/lists.csv"), "is not a folder"),
        (("explain", "{s}", "--user", "p1", "--item", "f99"), "f99"),
        (("data", "--out", "{t}/d"), "expected one of --dataset, --atomic, --kgat and --interactions"),
        (("data", "--dataset", "Movies", "--out", "{t}/d"), "there is no data set 'Movies'"),
        (
            ("data", "--dataset", "SyntheticKG", "--split", "tmporal", "--out", "{t}/d"),
            "did you mean temporal",
        ),
        (("data", "--dataset", "MovieLens100K", "--out", "{t}/d"), "needs root=FOLDER"),
        (("data", "--dataset", "SyntheticKG", "--out", "{t}/file"), "is a file, expected a folder"),
        (("data", "--interactions", "{t}/none.csv", "--out", "{t}/d"), "there is no file"),
        (
            ("data", "--interactions", "{t}/file", "--set", "min_ratng=3", "--out", "{t}/d"),
            "did you mean min_rating",
        ),
        (("data", "--atomic", "{t}/none", "--out", "{t}/d"), "none"),
        (("data", "--kgat", "{t}/none", "--out", "{t}/d"), "none"),
        (
            ("data", "--dataset", "SyntheticKG", "--triples", "{t}/none.csv", "--out", "{t}/d"),
            "--triples stands beside --dataset, which brings triples of its own, expected it beside --interactions",
        ),
        (("data", "--kgat", "{t}", "--items", "{t}/i.csv", "--out", "{t}/d"), "--items stands beside --kgat"),
        (
            ("data", "--kgat", "{t}", "--split", "temporal", "--out", "{t}/d"),
            "--split temporal is given, but these files come split, expected no other split",
        ),
        (("data", "--kgat", "{t}", "--set", "val=0.2", "test=0.2", "--out", "{t}/d"), "test= is given, but"),
        (
            ("data", "--atomic", "{t}/x", "--seed", "3", "--set", "splits=['a', 'b', 'c']", "--out", "{t}/d"),
            "--seed 3 is given, but these files come split",
        ),
        (("compare", "{s}", "--models", "EASE", "Eas"), "there is no model 'Eas'"),
        (
            ("compare", "{s}", "--models", "EASE", "ALS", "EASE"),
            "names 'EASE' twice, expected each model once",
        ),
        (
            ("compare", "{s}", "--models", "EASE", "--set", "EASE.knowledg=1"),
            "'EASE.knowledg' .did you mean EASE.knowledge",
        ),
        (("compare", "{s}", "--models", "EASE", "--set", "MKR.lr=1"), "has no setting 'MKR.lr'"),
        (
            ("fit", "{s}", "EASE+ALS", "--set", "ALS.num_sweep=1"),
            "'ALS.num_sweep' .did you mean ALS.num_sweeps",
        ),
        (("fit", "{s}", "EASE+ALS", "--set", "weights=[1, 1]"), "weights"),
        (("explain", "{s}", "--user", "p1", "-k", "0"), "k is 0"),
        (("explain", "{s}", "--users", "p1", "p99"), "p99"),
        (("explain", "{s}", "--user", "p1", "--without", "9999"), "unit 9999 is none of this user and item"),
        (("explain", "{s}", "--user", "p1", "--without", "-1"), "unit -1 is none of this user and item"),
        (("explain", "{s}", "--user", "p1", "--without", "0", "-k", "99"), "k is 99"),
        (("explain", "{s}", "--users", "p1", "p2", "--without", "0"), "beside 2 users, expected one"),
        (("explain", "{s}", "--user", "p1", "--items", "f1", "f2", "--without"), "beside 2 items"),
        (("explain", "{s}", "--user", "p1", "--counterfactual", "--without", "0"), "expected one of the two"),
        (("export", "{s}", "--out", "{t}/file"), "is a file, expected a folder"),
        (("export", "{s}", "--out", "{t}/f", "--metrics", "{t}/file"), "expected --hub beside it"),
        (("export", "{s}", "--out", "{t}/f", "--hub", "--metrics", "{t}/file"), "holds no metrics"),
        (("export", "{s}", "--out", "{t}/f", "--hub", "--metrics", "{t}/none"), "there is no file"),
        (("export", "{s}", "--out", "{t}/f", "--set", "indx=none"), "'indx' .did you mean index"),
        (("export", "{s}", "--out", "{t}/f", "--set", "tables=csv"), "tables is 'csv'"),
        (("export", "{s}", "--out", "{t}/f", "--model", "{t}/none.pt"), "there is no file"),
        (("fti",), "invalid choice: 'fti'"),
        ((), "required"),
        (("fit", "{s}", "KGRec", "--seed", "one"), "invalid int value"),
    ],
)
def test_bad_input_is_one_sentence(
    words: tuple[str, ...], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("user_id,item_id\n1,2\n")
    before = sorted(tmp_path.iterdir())
    assert run(*(word.format(s=folder / "s", t=tmp_path) for word in words)) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("pyg-kgrec")
    assert len(lines[0]) <= 450
    assert re.search(message, lines[0])
    assert said.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_is_written_where_it_can_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("recommend", folder / "s", "--users", "p1", "--set", "k=2", "--out", tmp_path / "x.parquet")
    monkeypatch.setattr("pyg_kgrec.cli.output.find_spec", lambda name: None)
    assert run(*words) == 2
    assert "pyarrow is not installed" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("pyarrow")
    assert run(*words) == 0
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fti]\nlr = 1\n", "has the key 'fti', expected the tables .*did you mean fit"),
        ("lr = 1\n", "has the key 'lr', expected the tables"),
        ("[fit\n", "is no TOML"),
        ("[fit]\nlearning_rat = 1\n", "has no setting 'learning_rat'"),
    ],
)
def test_a_bad_file_of_settings(
    text: str, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.toml").write_text(text)
    assert run("fit", folder / "s", "BPRMF", "--config", tmp_path / "s.toml", "--out", tmp_path / "m.pt") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "m.pt").exists()


def test_python_runs_it_as_a_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pyg_kgrec", "evaluate", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("pyg_kgrec", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("pyg-kgrec evaluate: there is no folder")


def test_ctrl_c_ends_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pyg_kgrec, "evaluate", stop)
    monkeypatch.setattr("pyg_kgrec.cli.commands.names_of", lambda *_: [])
    assert run("evaluate", folder / "s") == 130
    assert capsys.readouterr().err == "pyg-kgrec: stopped\n"


def test_pairs_are_left_out_by_ids_of_the_stores_kind(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids that are strings of digits, as atomic files have them, and numbers."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(8) for i in rng.permutation(9)[:6]]
    head = "user_id:token\titem_id:token\n"
    (tmp_path / "a.inter").write_text(head + "".join(f"{u}\t{i}\n" for u, i in pairs))
    pd.DataFrame(pairs, columns=["user_id", "item_id"]).to_csv(tmp_path / "a.csv", index=False)
    for source in (("--atomic", tmp_path / "a"), ("--interactions", tmp_path / "a.csv")):
        assert run("data", *source, "--out", tmp_path / "s") == 0
        assert run("fit", tmp_path / "s", "EASE", "--quiet", "--set", "monitor=ndcg@3") == 0
        capsys.readouterr()
        asked = ("recommend", tmp_path / "s", "--users", 3, "--json", "--set", "k=2")
        assert run(*asked) == 0
        first = json.loads(capsys.readouterr().out)[0]["item"]
        pd.DataFrame({"item": [first], "user": [3]}).to_csv(tmp_path / "x.csv", index=False)
        assert run(*asked, "--exclude", tmp_path / "x.csv") == 0
        assert first not in [row["item"] for row in json.loads(capsys.readouterr().out)]
    for word in ("03", "0_3", "+3", "３"):  # the last store has numbers
        assert run("recommend", tmp_path / "s", "--users", word) == 2
        assert "is no whole number" in capsys.readouterr().err


def test_what_the_second_training_cannot_do_is_said_before_the_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--out",
        tmp_path / "m.pt",
        "--refit",
        tmp_path / "r.pt",
        "--set",
        "scheduler=plateau",
        "max_epochs=1",
    )
    assert run("fit", folder / "s", "BPRMF", *words) == 2
    assert (
        "scheduler is 'plateau', which watches validation, and --refit trains without"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_the_length_of_lists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    written = []
    for words in (("-k", 2), ("--set", "k=2")):
        assert run("recommend", folder / "s", "--users", "p1", "--json", *words) == 0
        written.append(json.loads(capsys.readouterr().out))
    assert written[0] == written[1]
    assert len(written[0]) == 2
    assert run("recommend", folder / "s", "-k", 2, "--set", "k=3") == 2
    assert "-k and --set k= are both given, expected one of them" in capsys.readouterr().err


def test_files_without_a_line_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As MovieLens 1M has them, names in another encoding too."""
    ratings, movies, out = tmp_path / "ratings.dat", tmp_path / "movies.dat", tmp_path / "s"
    ratings.write_text(
        "".join(f"{u}::{i}::{5 - i % 5}::{10 * u + i}\n" for u in (1, 2) for i in range(10, 20))
    )
    movies.write_text("".join(f"{i}::Amélie {i}::Comedy|Drama\n" for i in range(10, 20)), encoding="latin-1")
    files = ("--interactions", ratings, "--items", movies, "--out", out)
    texts = ("separator=::", "encoding=latin-1")
    columns = 'interactions_columns=["user_id", "item_id", "rating", "timestamp"]'
    named = ("items_columns=item_id,title,genres", "item_name=title")
    assert run("data", *files, "--set", *texts, columns, *named, "min_rating=3") == 0
    store = load_store(out / "all.store")
    assert store["user", "interacts", "item"].edge_index.size(1) == 12
    assert store["item"].name[:2] == ["Amélie 10", "Amélie 11"]
    assert [int(i) for i in store["item"].id] == list(range(10, 20))
    for words, told in (
        ([], "ratings.dat has no column 'user_id' or 'user' among its 1, 10, 5, 20: expected "
             "user_col=NAME, or, for a file without a line of names, --set interactions_columns=user_id,item_id,…"),
        (["interactions_columns=user_id,item_id,user_id,time"], "interactions_columns names 'user_id' twice"),
        (["interactions_columns=7"], "interactions_columns is 7, expected names like user_id,item_id,time"),
        (["links_columns=item,entity"], "links_columns is given and --links is not"),
        (["interactions_columns=user_id,item_id"], "has 4 cells in its first row and columns names 2"),
        (["interactions_columns=a,b,c,d"], "there is no column 'user_id' or 'user', the columns are 'a', 'b'"),
    ):  # fmt: skip
        assert run("data", "--interactions", ratings, "--out", tmp_path / "no", "--set", *texts, *words) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_ids_are_of_one_type_in_all_files(tmp_path: Path) -> None:
    """One id that is no whole number makes all ids of its kind text, and of no other kind."""
    files = {
        "interactions": "who,item_id,rating\n"
        + "".join(f"{u},{i},{u}.5\n" for u in range(4) for i in range(5)),
        "items": "item_id,title\n1.10,Ten\n007,\n" + "".join(f"{i},{1900 + i}\n" for i in range(5)),
        "users": "who,name\n2,1984\n0,\n",
        "triples": "head,relation,tail\n1,1.10,20\n2,1.1,1.50\n",
        "links": "item,entity\n1,1\n007,2\n",
    }
    words: list[Any] = []
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
        words += [f"--{name}", tmp_path / f"{name}.csv"]
    columns = ("--set", "user_col=who", "rating_col=rating", "min_rating=0")
    assert run("data", *words, *columns, "--out", tmp_path / "s") == 0
    store = load_store(tmp_path / "s" / "all.store")
    assert list(store["user"].id) == [2, 0, 1, 3]
    assert store["user"].name == ["1984", "0", "1", "3"]
    assert list(store["item"].id) == ["1.10", "007", "0", "1", "2", "3", "4"]
    assert store["item"].name == ["Ten", "007", "1900", "1901", "1902", "1903", "1904"]
    assert list(store["entity"].id) == ["1", "20", "2", "1.50"]
    assert store.relation_name == ["1.10", "1.1"]


@pytest.mark.parametrize("names", [("user", "item"), ("user_id", "item_id")])
def test_pairs_to_leave_out_may_have_empty_cells_beside_them(names: tuple[str, str], tmp_path: Path) -> None:
    store, file = build_store(), tmp_path / "x.csv"
    file.write_text(f"{names[0]},{names[1]},note\nu1,101,\nu2,102,late\n")
    found = commands._pairs(store, str(file))
    assert isinstance(found, pd.DataFrame)
    assert found.to_dict("list") == {"user": ["u1", "u2"], "item": [101, 102]}
    for row in ("u1,,late", ",101,late"):
        file.write_text(f"{names[0]},{names[1]},note\nu2,102,\n{row}\n")
        with pytest.raises(
            ValueError, match=r"x\.csv has an empty cell in row 1, expected a user and an item"
        ):
            commands._pairs(store, str(file))
    file.write_text(f"{names[0]},{names[1]}\nu1,3\n")
    del store["item"].id  # positions of items beside ids of users
    assert commands._pairs(store, str(file)).to_dict("list") == {"user": ["u1"], "item": [3]}


def test_a_folder_holds_the_stores_of_one_split(tmp_path: Path) -> None:
    made = ("data", "--dataset", "SyntheticKG", "--set", "num_users=20", "num_items=15")
    assert run(*made, "--out", tmp_path / "s") == 0
    assert (tmp_path / "s" / "all.store").is_file()
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "train.txt").write_text("".join(f"{u} 0 1 2\n" for u in range(4)))
    (tmp_path / "k" / "test.txt").write_text("0 3\n1 3\n")
    (tmp_path / "k" / "kg_final.txt").write_text("0 0 9\n")
    assert run("data", "--kgat", tmp_path / "k", "--out", tmp_path / "s") == 0
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["test.store", "train.store", "val.store"]
    drawn = ("data", "--kgat", tmp_path / "k", "--set", "val=0.4", "--out", tmp_path / "s", "--seed")
    pairs = []
    for seed in (1, 2):
        assert run(*drawn, seed) == 0
        pairs.append(load_store(tmp_path / "s" / "val.store")["user", "interacts", "item"].edge_label_index)
        val = read_kgat(tmp_path / "k", val=0.4, seed=seed)[1]
        assert pairs[-1].equal(val["user", "interacts", "item"].edge_label_index)
    assert not pairs[0].equal(pairs[1])


def test_a_model_of_another_split_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = tmp_path / "s"
    made = ("data", "--dataset", "SyntheticKG", "--set", "num_users=20", "num_items=15", "--out", stores)
    assert run(*made) == 0
    (stores / "model.pt").write_bytes(b"a model")
    assert run(*made) == 0
    assert capsys.readouterr().err == ""
    assert run(*made, "--seed", 1) == 0
    assert "model.pt is older than the stores that are written here, and they are others" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (stores / "model.pt").read_bytes() == b"a model"


def test_what_the_machine_has_not_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting in ("hidden_channels=10000000000000", "accelerator=tpu"):
        assert run("fit", folder / "s", "BPRMF", "--out", folder / "b.pt", "--set", setting) == 2
        assert len(capsys.readouterr().err.splitlines()[-1]) <= 430


def test_a_training_that_was_ended_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", folder / "s", "BPRMF", "--quiet", "--out")
    same = ("--set", "hidden_channels=4", "monitor=ndcg@3")
    assert run(*fit, tmp_path / "a.pt", *same, "max_epochs=3") == 0
    assert run(*fit, tmp_path / "b.pt", *same, "max_epochs=1", f"checkpoint_dir={tmp_path}") == 0
    assert run(*fit, tmp_path / "b.pt", *same, "max_epochs=3", f"resume={tmp_path / 'last.ckpt'}") == 0
    first, second = (pyg_kgrec.load(tmp_path / name).state_dict() for name in ("a.pt", "b.pt"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
