"""Which backend is taken, and what is said to one that cannot be."""

from __future__ import annotations

import warnings

import pytest
from ops_graphs import tables, triples

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda name: name not in dispatch._NEEDS)


def test_context_manager_nests_and_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "torch")
    assert dispatch.requested() == "torch"
    with ops.backend("auto"):
        assert dispatch.requested() == "auto"
        with pytest.raises(KeyError), ops.backend("torch"):
            raise KeyError
        assert dispatch.requested() == "auto"
    assert dispatch.requested() == "torch"
    assert {choice.backend for choice in ops.report().values()} == {"torch"}


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(
            ValueError, match=r"no backend 'cuda', expected auto, torch, scatter, scan, numba, triton"
        ),
        ops.backend("cuda"),
    ):
        pass
    monkeypatch.setenv(dispatch.VARIABLE, "gpu")
    with pytest.raises(ValueError, match="PYG_KGREC_BACKEND: there is no backend 'gpu'"):
        ops.report()
    with pytest.raises(ValueError, match="there is no backend") as long, ops.backend("nonsense" * 100):
        pass
    assert len(str(long.value)) < 400


@pytest.mark.parametrize(
    ("name", "extra"), [("scatter", "kernels"), ("numba", "fused"), ("triton", "triton")]
)
def test_missing_package_names_its_extra(name: str, extra: str, nothing_installed: None) -> None:
    with pytest.raises(ImportError, match=rf'pip install "pyg-kgrec\[{extra}\]"'), ops.backend(name):
        pass


def test_without_extras_everything_runs(nothing_installed: None) -> None:
    index = ops.TripleIndex.build(*triples(500, 4000, 3), 500, 3)
    x, relation = tables(500, 3, channels=8)
    ops.relational_attention(x, x, relation, index, 2).sum().backward()
    choice = ops.report()["relational_attention"]
    assert choice.backend == "torch"
    assert "pyg-kgrec[fused]" in choice.reason


def test_report_depends_on_device_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda name: True)
    assert ops.report(size=100)["relational_mean"].backend == "torch"
    assert ops.report(size=10**6)["relational_mean"].backend == "numba"
    assert ops.report("cuda", size=100)["relational_mean"].backend == "triton"
    assert ops.report("cuda")["topk_mask"].backend == "torch"
    assert "relational_mean" in repr(ops.report())
    with ops.backend("numba"), pytest.raises(ValueError, match="'numba' runs on the CPU"):
        ops.report("cuda")
    monkeypatch.setattr(dispatch, "interpreting", lambda: False)
    with ops.backend("triton"), pytest.raises(ValueError, match="'triton' runs on a GPU"):
        ops.report("cpu")


def test_torch_scatter_is_taken_on_the_cpu_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda name: name not in dispatch.KERNELS)
    assert {choice.backend for choice in ops.report().values()} == {"torch", "scan"}
    assert ops.report("cuda")["relational_mean"].backend == "scatter"
    with ops.backend("scatter"):
        assert ops.report()["relational_mean"].backend == "scatter"


@pytest.mark.parametrize(("former", "name"), [("reference", "torch"), ("fused", "numba")])
def test_former_names_still_work_and_say_so(former: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda name: True)
    with pytest.warns(DeprecationWarning, match=f"backend '{former}' is '{name}' now, and gone in") as told:
        chosen = ops.backend(former)
    assert len(told) == 1
    assert told[0].filename == __file__
    with chosen:
        assert dispatch.requested() == name
    monkeypatch.setenv(dispatch.VARIABLE, former)
    dispatch._of_variable.cache_clear()
    with pytest.warns(DeprecationWarning, match=f"{dispatch.VARIABLE}: backend '{former}'") as told:
        assert [dispatch.requested() for _ in range(3)] == [name] * 3
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ops.backend(name):
            assert dispatch.requested() == name


def test_a_registered_operation_is_reported_and_its_forms_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_OPERATIONS", {})
    operation = dispatch.register("empty_memory", "pyg_kgrec.ops.memory", "scan")
    assert operation == ("empty_memory", "memory", ("torch", "scan"))
    assert ops.report("mps")["empty_memory"].backend == "scan"
    assert operation.form("scan").__module__ == "pyg_kgrec.ops.memory", "scan.py imports it from there"
    with pytest.raises(ModuleNotFoundError, match=r"pyg_kgrec\.ops\.numba\.no_such_file"):
        dispatch.form("numba", "no_such_file", "empty_memory")
