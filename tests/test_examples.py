"""Examples that are short enough to be run with the tests."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest

from pyg_kgrec import EASE, Recommender

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))
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
    words = ["synthetic", "--models", "Popularity", "planted taste", "--seeds", "1", "--seed", "3", "--json"]
    run("compare_movielens", words, monkeypatch)
    found = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert [found[name]["seed"] for name in ("Popularity", "planted taste")] == [3, 3]
    # Who knows what interactions were drawn with is far ahead, and yet does not know the draw.
    assert 10 * found["Popularity"]["ndcg@10"] < found["planted taste"]["ndcg@10"] < 0.7


def test_a_planted_taste_is_there_for_generated_data_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        run("compare_movielens", ["lastfm", "--root", "nowhere", "--models", "planted taste"], monkeypatch)
    assert "'planted taste' is known of generated data alone, which lastfm is not" in capsys.readouterr().err


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
    assert "7 passed" in told


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


# ---------------------------------------------------------------------- notebooks: `make notebooks` executes them


def cells(path: Path, kind: str) -> list[str]:
    notebook = json.loads(path.read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_output_and_no_path_of_a_machine(path: Path) -> None:
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not re.search(r"[\"' ](/work|/home|/Users|/tmp|[A-Z]:\\)", path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_sentence_stands_before_what_a_notebook_shows(path: Path) -> None:
    """The first cells, which set up and import, show nothing."""
    kinds = [cell["cell_type"] for cell in json.loads(path.read_text())["cells"]]
    assert kinds[:3] == ["markdown", "code", "code"]
    assert all({one, other} == {"markdown", "code"} for one, other in pairwise(kinds[2:])), kinds


def test_every_notebook_is_named_where_people_look() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    assert [path.name for path in NOTEBOOKS if f"notebooks/{path.name})" not in index] == []
    assert "examples/notebooks" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_link_of_a_notebook_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", "\n".join(cells(path, "markdown")))
    assert links
    assert [link for link in links if not (path.parent / link).is_file()] == []


def test_without_the_data_the_notebook_on_movielens_says_so_and_does_nothing_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("PYG_KGREC_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (path,) = [path for path in NOTEBOOKS if path.stem == "02_movielens"]
    shell, before, told = InteractiveShell(), os.environ.copy(), io.StringIO()
    ran = []
    with redirect_stdout(told):
        for cell in cells(path, "code"):
            lines = [line for line in cell.splitlines(keepends=True) if not line.startswith("%")]
            result = shell.run_cell("".join(lines))
            assert result.success, result.error_before_exec or result.error_in_exec
            ran.append(result.result)
    assert os.environ == before
    assert told.getvalue().startswith("Skipped: MovieLens 100K is not here")
    assert len(told.getvalue().splitlines()) == 2
    assert ran == [None] * len(ran)
    assert "table" not in shell.user_ns
