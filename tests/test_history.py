"""What training returns: a frame that draws itself."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyg_kgrec._history import History

ROWS = [
    {"epoch": float(e), "ranking": 2.0 / (e + 1), "decay": 1e-4, "loss": 2.0 / (e + 1), "seconds": 0.1}
    | ({"ndcg@10": figure, "coverage@10": 0.5} if figure is not None else {})
    for e, figure in enumerate([0.1, None, 0.3, None, 0.3])
]


@pytest.fixture(autouse=True)
def axes() -> Iterator[Any]:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_it_is_a_frame_in_all_but_its_picture() -> None:
    history = History.of(ROWS, "ndcg@10")
    expected = pd.DataFrame(ROWS).astype({"epoch": int})
    pd.testing.assert_frame_equal(pd.DataFrame(history), expected)
    pd.testing.assert_frame_equal(history, expected)
    assert history.equals(expected)
    assert isinstance(history["loss"], pd.Series)
    assert history.iloc[-1]["loss"] == 0.4
    assert history[["epoch"]].mode()["epoch"].tolist() == [0, 1, 2, 3, 4]  # no name of pandas is taken
    for same in (
        history.copy(),
        copy.deepcopy(history),
        pickle.loads(pickle.dumps(history)),
        history.iloc[:5],
    ):
        assert same.monitor == "ndcg@10"
        assert same.plot().size == 2
    assert history.drop(columns="seconds").plot().size == 2
    assert history[["loss"]].plot().size == 1


def test_losses_and_metrics_stand_on_their_own_axes_and_the_best_epoch_is_marked() -> None:
    first, second = History.of(ROWS, "ndcg@10").plot()
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["ranking", "decay", "loss"]
    assert [t.get_text() for t in second.get_legend().get_texts()] == ["ndcg@10", "coverage@10"]
    assert first.get_yscale() == "log"  # the parts differ by more than twenty times
    assert second.get_yscale() == "linear"
    for ax in (first, second):
        mark = ax.get_lines()[-1 if ax is first else -2]
        assert list(mark.get_xdata()) == [3, 3]  # the first of equals, counted from 1
    np.testing.assert_array_equal(
        second.get_lines()[0].get_xdata(), [1, 3, 5]
    )  # joined over what was not evaluated
    assert "ndcg@10 best at 3: 0.3" in second.get_title()
    assert first.figure is second.figure
    assert first.figure.patch.get_alpha() == 0


def test_the_lowest_may_be_best() -> None:
    history = History.of(
        [{"epoch": e, "mean_rank": x} for e, x in enumerate([3.0, 1.0, 2.0])], "mean_rank", "min"
    )
    assert history.best() == 1
    assert History.of(ROWS).best() is None
    assert History.of(ROWS, "recall@10").best() is None


def test_a_history_without_figures_says_so(axes: Any) -> None:
    for empty in (History.of([]), History({"epoch": []}), History.of([{"epoch": 0.0}])):
        (ax,) = empty.plot()
        assert "nothing was trained" in ax.texts[0].get_text()


def test_one_epoch_can_be_seen() -> None:
    first, _ = History.of(ROWS[:1], "ndcg@10").plot()
    assert {line.get_marker() for line in first.get_lines()[:3]} == {"."}
    assert first.get_title() == "loss"


def test_with_arguments_pandas_draws(axes: Any) -> None:
    history = History.of(ROWS, "ndcg@10")
    ax = axes.subplots()[1]
    assert history.plot(x="epoch", y="loss", ax=ax, label="KGRec") is ax
    assert history.plot.line(y="loss").get_lines()
    assert ax.get_legend().get_texts()[0].get_text() == "KGRec"
