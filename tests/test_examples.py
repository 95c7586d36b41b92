"""Examples that are short enough to be run with the tests."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from pyg_kgrec import EASE, Recommender

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.usefixtures("one_thread")
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.stem not in ("options", "own_model"))


def run(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An example, as a command."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr("sys.argv", [f"{name}.py", *words])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_all_take_the_same_options(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(path.stem, ["--help"], monkeypatch)
    assert not ended.value.code
    said = capsys.readouterr().out
    assert all(option in said for option in ("--seed SEED", "--quiet", "--json"))
    assert ("--root" in said) == ("--source" in said)
    assert ("--set" in said) == ("--fit" in said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds is 0, expected how many"),
        (["--seeds", "1", "1"], "expected different ones"),
        (["--seed", "-1"], "--seed is -1"),
        (["--fit", "lr"], "'lr' is no setting, expected name=value"),
        (["--set", "{lr"], "--set"),
    ],
)
def test_bad_options_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("kgrec_movielens", words, monkeypatch)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_seeds_are_a_number_or_the_seeds_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    options = runpy.run_path(str(EXAMPLES / "options.py"))["Options"]
    found = {}
    for words in ("", "--seed 4", "--seeds 2", "--seeds 3 --seed 5", "--seeds 7 1"):
        monkeypatch.setattr("sys.argv", ["x.py", *words.split()])
        found[words] = options("A line.", seeds=1).read().seeds
    assert list(found.values()) == [[0], [4], [0, 1], [5, 6, 7], [7, 1]]
    monkeypatch.setattr("sys.argv", ["x.py", "--set", '{"lr": 1}', "--fit", "lr=1", "loss=bpr"])
    read = options("A line.", settings=True).read()
    assert (read.set, read.fit) == ({"lr": 1}, {"lr": 1, "loss": "bpr"})


def test_figures_alone_are_printed_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["synthetic", "--models", "Popularity", "--seeds", "1", "--seed", "3", "--json"]
    run("compare_movielens", words, monkeypatch)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["seed"]) == ("Popularity", 3)


def test_a_model_of_ones_own_trains_and_recommends(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_model.py"), run_name="__main__")
    figures, *frame = capsys.readouterr().out.splitlines()
    name, mine, other, popularity = figures.split()
    assert (name, other) == ("PopularFactors:", "Popularity:")
    assert float(mine) > 1.5 * float(popularity) > 0
    assert frame[0].split() == ["user", "rank", "item", "name", "score"]
    assert len(frame) == 6


def test_a_model_of_ones_own_is_put_through_the_battery(capsys: pytest.CaptureFixture[str]) -> None:
    """A few tests of it, collected as a reader's file is; the whole battery is tried on every model."""
    chosen = "same_scores_to_the_bit or gradient_reaches or what_was_seen"
    code = pytest.main([str(EXAMPLES / "own_model.py"), "-q", "-p", "no:cacheprovider", "-k", chosen])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "6 passed" in told


def test_a_model_of_ones_own_is_short() -> None:
    assert len((EXAMPLES / "own_model.py").read_text().splitlines()) < 60


def test_a_table_of_explanations_is_one_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if EASE.score_units is Recommender.score_units:
        pytest.skip("EASE does not tell its units")
    pytest.importorskip("matplotlib").use("Agg")
    picture = tmp_path / "curves"
    words = ["synthetic", "--scale", "0.1", "--models", "EASE", "--num-users", "3"]
    words += ["--k", "3", "--seeds", "2", "--out"]
    run("explanations", [*words, str(picture)], monkeypatch)
    head, _, *rows = capsys.readouterr().out.splitlines()
    columns = [cell.strip() for cell in head.split("|")]
    first = dict(zip(columns, (cell.strip() for cell in rows[0].split("|"))))
    assert (first["model"], first["units"], first["order"]) == ("EASE", "history", "effect")
    assert float(first["lowers"]) > 0.9
    assert float(first["stability"]) == 1  # EASE is solved: seeds change nothing
    assert picture.with_name("curves-EASE.svg").stat().st_size > 1000
