from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable

import pytest
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec import BPRMF, _deprecation
from pyg_kgrec._deprecation import FORMER, category, moved, numbers, renamed_arguments

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deprecation, "FORMER", dict(FORMER))


def test_no_former_name_outlives_its_time() -> None:
    """A release that should no longer know a name removes it, or says anew until when it does."""
    assert FORMER
    now = numbers(pyg_kgrec.__version__)
    assert {name: gone for name, gone in FORMER.items() if numbers(gone) <= now} == {}


def test_everybody_is_warned_of_a_name_that_the_next_minor_version_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pyg_kgrec, "__version__", "0.2.5")
    assert category("0.4") is DeprecationWarning
    assert category("1.0") is DeprecationWarning
    assert category("0.3") is FutureWarning
    monkeypatch.setattr(pyg_kgrec, "__version__", "0.3.0")
    assert category("0.4") is FutureWarning


def test_an_argument_is_taken_by_its_former_name() -> None:
    @renamed_arguments("9.0", width="hidden_channels", top="k")
    def build(data: int, hidden_channels: int = 1, *, k: int = 2) -> tuple[int, int, int]:
        """Says what it got."""
        return data, hidden_channels, k

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build(0, 3, k=4) == (0, 3, 4)
    with pytest.warns(
        DeprecationWarning, match=r"build\(width=\) is hidden_channels= now, and gone in 9\.0"
    ) as said:
        assert build(0, width=3) == (0, 3, 2)
    assert said[0].filename == __file__
    with pytest.raises(
        TypeError, match="build got hidden_channels and width, its former name, expected one of both"
    ):
        build(0, hidden_channels=3, width=3)
    assert build.__doc__ == "Says what it got."


def test_a_name_is_found_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("pyg_kgrec.old")
    monkeypatch.setitem(sys.modules, "pyg_kgrec.old", module)
    module.__getattr__ = moved("pyg_kgrec.old", "9.0", fit="pyg_kgrec.training")  # type: ignore[method-assign]
    with pytest.warns(
        DeprecationWarning, match=r"pyg_kgrec\.old\.fit is pyg_kgrec\.training\.fit now"
    ) as said:
        found = [module.fit for _ in range(2)]
    assert found == [pyg_kgrec.fit] * 2
    assert len(said) == 1
    assert said[0].filename == __file__
    with pytest.raises(AttributeError, match=r"module 'pyg_kgrec\.old' has no attribute 'fitt'"):
        _ = module.fitt


def test_explain_is_asked_as_before(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    model = BPRMF(data, hidden_channels=4)
    user, item = data["user"].id[0], data["item"].id[0]
    expected = model.explain(data, user, item).text()
    with pytest.warns(DeprecationWarning, match=r"explain\((user|item)=\) is (users|items)= now") as said:
        found = model.explain(data, user=user, item=item)
    assert found.text() == expected
    assert len(said) == 2
    assert {one.filename for one in said} == {__file__}
