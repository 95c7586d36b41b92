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
    words += ["--k", "3", "--seeds", "2", "--plot"]
    monkeypatch.setattr("sys.argv", ["explanations.py", *words, str(picture)])
    runpy.run_path(str(EXAMPLES / "explanations.py"), run_name="__main__")
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
