"""Examples that are short enough to be run with the tests."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

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
