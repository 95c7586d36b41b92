"""The one command for a GPU: its rehearsal, and what a rehearsal on a CPU cannot reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import attentions  # noqa: E402
import floors  # noqa: E402
from attentions import Graph, Size, composed, traffic  # noqa: E402
from gpu.journal import NO_TIME, OUT_OF_MEMORY, Journal, is_fatal  # noqa: E402
from gpu.plan import ON_A_GPU, REHEARSAL, Clock, OutOfTime  # noqa: E402

from pyg_kgrec import ops  # noqa: E402
from pyg_kgrec.ops import dispatch  # noqa: E402

needs_triton = pytest.mark.skipif(not dispatch.installed("triton"), reason="triton is not installed")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "gpu", Clock(time.time() + 60))


def raising(error: Exception) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        raise error

    return run


def statuses(journal: Journal, part: str) -> list[str]:
    content = json.loads(journal.json.read_text())
    return [row["status"] for row in content["parts"][part]]


# ---------------------------------------------------------------------- the whole


@pytest.mark.slow
@needs_triton
def test_rehearsal(tmp_path: Path) -> None:
    environment = os.environ | {"OUT": str(tmp_path), "PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        [str(BENCHMARKS / "gpu.sh"), "--rehearse"],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-4000:]
    content = json.loads((tmp_path / "rehearsal.json").read_text())
    parts = content["parts"]
    assert set(parts) == {
        "correctness",
        "bits",
        "models",
        "attention",
        "step",
        "compiled",
        "tests",
        "large",
        "half",
    }
    assert {row["status"] for rows in parts.values() for row in rows} == {"ok"}
    assert len(content["goals"]) == len(REHEARSAL.sizes) + len(REHEARSAL.large)
    assert all(goal["composition"] > 0 and goal["bandwidth"] > 0 for goal in content["goals"])
    assert "A rehearsal at toy sizes" in (tmp_path / "rehearsal.md").read_text()
    assert " passed" in (tmp_path / "tests.txt").read_text()


def test_a_part_that_kills_the_process_costs_that_part_alone(tmp_path: Path) -> None:
    python, log = tmp_path / "python", tmp_path / "calls"
    python.write_text(
        f'#!/usr/bin/env bash\n[[ $1 == -c ]] && exit 1\necho "$@" >>{log}\n'
        f"(($(wc -l <{log}) < 3)) && kill -SEGV $$\nexit 1\n"
    )
    python.chmod(0o755)
    environment = os.environ | {"OUT": str(tmp_path), "PYTHON": str(python)}
    command = [str(BENCHMARKS / "gpu.sh")]
    result = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=60)
    assert result.returncode == 1
    calls = log.read_text().splitlines()
    assert ["--resume" in call for call in calls] == [False, True, True]
    assert all("--rehearse" in call for call in calls), "no GPU is seen"
    assert len({call.split("--end ")[1].split()[0] for call in calls}) == 1, "one clock for all of them"


def test_at_most_eight_minutes() -> None:
    script = (BENCHMARKS / "gpu.sh").read_text()
    seconds = int(script.split("SECONDS_AT_MOST:-")[1].split("}")[0])
    assert seconds + 10 < 8 * 60  # what is not over by then is ended, and if need be killed, within ten more


def test_sizes_are_those_that_were_asked_for() -> None:
    assert {(s.triples, s.channels, s.shape) for s in ON_A_GPU.sizes} == {
        (e, d, s) for e in (10**6, 10**7) for d in (64, 128) for s in ("uniform", "hubs")
    }
    assert {s.triples for s in ON_A_GPU.large} == {10**8}
    assert ON_A_GPU.store[:3] == (943, 1682, 34_628)
    assert ON_A_GPU.store.triples == 91_631


# ---------------------------------------------------------------------- rows and files


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("tried to allocate"), RuntimeError("Triton Error [CUDA]: out of memory")]
)
def test_want_of_memory_is_a_row(journal: Journal, error: Exception) -> None:
    assert not journal.attempt("attention", {"form": "pyg"}, raising(error))
    assert journal.attempt("attention", {"form": "triton"}, lambda: {"size": "a", "ms": 1.0})
    assert statuses(journal, "attention") == [OUT_OF_MEMORY, "ok"]
    assert journal.failed == []


def test_a_failure_is_a_row_and_remembered(journal: Journal) -> None:
    journal.attempt(
        "attention", {"form": "pyg"}, raising(RuntimeError("an illegal memory access was met\nat"))
    )
    journal.attempt("attention", {"form": "torch"}, lambda: {"status": "failed: beyond the bar"})
    assert statuses(journal, "attention")[0] == "failed: RuntimeError: an illegal memory access was met"
    journal.add("half", {}, "failed: ValueError: before there was a row")
    assert len(journal.failed) == 3
    assert [is_fatal(row) for row in journal.failed] == [True, False, False]
    assert "3 rows failed" in journal.markdown.read_text()


def test_what_there_is_no_time_for_is_not_begun(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gpu", Clock(time.time() + 5))
    assert not journal.attempt("large", {"form": "pyg"}, raising(AssertionError()), needs=20)
    assert statuses(journal, "large") == [NO_TIME]
    assert journal.failed == []


def test_the_clock_ends_what_runs() -> None:
    begun = time.time()
    with pytest.raises(OutOfTime), Clock(begun + 0.2).ending():
        time.sleep(30)
    assert time.time() - begun < 10
    with Clock(time.time() + 0.1).ending():
        pass
    time.sleep(0.2)  # it rings no more


def test_a_row_cut_off_leaves_those_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gpu", Clock(time.time() + 0.5))
    journal.add("attention", {"size": "a", "form": "torch", "ms": 8.0})
    with pytest.raises(OutOfTime), journal.clock.ending():
        journal.attempt("attention", {"size": "a", "form": "triton"}, lambda: {"ms": time.sleep(30)})
    assert statuses(journal, "attention") == ["ok"]
    again = Journal(tmp_path, "gpu", Clock(time.time() + 60), resume=True)
    again.add("attention", {"size": "a", "form": "triton", "ms": 2.0, "of_copy_unique": 0.4})
    assert statuses(again, "attention") == ["ok", "ok"]
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.json", "gpu.md"}, "no temporary file is left"


def test_goals_stand_beside_what_was_measured(journal: Journal) -> None:
    for form, milliseconds, status in (
        ("torch", 9.0, "ok"),
        ("pyg", 8.0, "ok"),
        ("scatter", 1.0, "failed: wrong"),
    ):
        journal.add("attention", {"size": "a", "form": form, "ms": milliseconds}, status)
    journal.add("attention", {"size": "b", "form": "pyg"}, OUT_OF_MEMORY)
    for size in "ab":
        journal.add("attention", {"size": size, "form": "triton", "ms": 2.0, "of_copy_unique": 0.45})
    journal.add("compiled", {"size": "a", "form": "pyg, compiled", "ms": 3.0})
    first, second = journal.goals()
    assert (first["composition"], first["compiled"], first["bandwidth"]) == (4.0, 1.5, 0.45)
    assert (first["composition met"], first["compiled met"], first["bandwidth met"]) == (True, False, False)
    assert second["composition"] is second["compiled met"] is None
    assert "| a | 4 | 1.5 | 0.45 | yes | no | no |" in journal.markdown.read_text()


# ---------------------------------------------------------------------- figures


def test_a_gpu_is_timed_by_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            happened.append("mark")

        def elapsed_time(self, end: Event) -> float:
            return 5.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("wait"))
    times = floors.call_times(lambda: happened.append("run"), "cuda", 2, lambda: happened.append("flush"))
    assert times == [5e-3, 5e-3]
    assert happened == ["run", "wait", *["flush", "mark", "run", "mark"] * 2, "wait"]


def test_traffic_counts_what_triples_use() -> None:
    size = Size(nodes=5, triples=3, channels=4, shape="uniform", relations=2)
    edge_index, edge_type = torch.tensor([[0, 0, 1], [2, 2, 0]]), torch.tensor([0, 1, 1])
    index = ops.TripleIndex.build(edge_index, edge_type, 5, 2)
    attentions._graphs.clear()
    attentions._graphs[size._replace(channels=0)] = Graph(edge_index, edge_type, index)
    row, logits, ends = 4 * 4, 4 * 2, 8
    read_once = 3 * row + 2 * row + 2 * row  # nodes 0 to 2 as query, 0 and 2 as value, both relations
    forward = read_once + 3 * 2 * ends + 5 * (row + logits) + 3 * logits
    backward = read_once + 2 * 2 * row + 3 * 7 * ends + (5 + 3) * logits + (5 + 5 + 2) * row
    assert traffic(size).unique == forward + backward
    assert traffic(size).gathered > 3 * 10 * row
    attentions._graphs.clear()


def test_compositions_are_the_attention() -> None:
    torch.manual_seed(0)
    edge_index, edge_type = torch.randint(6, (2, 20)), torch.randint(3, (20,))
    query, value, relation = (torch.randn(n, 4, dtype=torch.float64) for n in (6, 6, 3))
    index = ops.TripleIndex.build(edge_index, edge_type, 6, 3)
    with ops.backend("torch"):
        expected = ops.relational_attention(query, value, relation, index, attentions.HEADS)
    torch.testing.assert_close(composed(query, value, relation, edge_index, edge_type), expected)


@needs_triton
def test_a_wrong_kernel_does_not_pass() -> None:
    from gpu.correctness import Case, compare, errors

    def run(x: torch.Tensor, wrong: float) -> torch.Tensor:
        return x * (wrong if dispatch.requested() == "triton" else 1.0)

    tables = [torch.randn(4, 3, dtype=torch.float64)]
    for wrong, passes in ((1.0, True), (1.001, False), (float("nan"), False)):
        row = compare(Case("made", lambda x, w=wrong: run(x, w), tables), torch.float32, 1e-4)
        assert (row["status"] == "ok") == passes
    unwritten = Case(
        "unwritten", lambda x: x * 1 if dispatch.requested() == "torch" else x * torch.empty(4, 3), tables
    )
    assert compare(unwritten, torch.float32, 1e-4)["status"] != "ok"
    assert errors([torch.ones(2)], [torch.zeros(2, dtype=torch.float64)]) == [pytest.approx(2**0.5)]


@needs_triton
def test_every_kernel_is_known() -> None:
    from gpu.correctness import launchable

    script = (Path(__file__).parents[1] / "ops" / "compile_kernels.py").read_text()
    assert all(f".{name}, " in script for name in launchable())
    assert len(launchable()) == script.count(", wide),") + script.count(", table),")
