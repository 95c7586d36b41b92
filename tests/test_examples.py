"""Examples that are short enough to be run with the tests."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pyg_kgrec import EASE, Recommender

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
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
