"""The benchmarks' report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPORT = Path(__file__).resolve().parents[1] / "benchmarks" / "report.py"


def _entry(form: str, triples: int, seconds: float, **extra: Any) -> dict[str, Any]:
    return {
        "name": f"test_attention[{form}]",
        "group": f"relational_attention E={triples} uniform",
        "stats": {"median": seconds},
        "extra_info": {"form": form, "triples": triples, "device": "cpu", "threads": 2} | extra,
    }


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPORT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_tables_and_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    entries = [
        _entry("per-edge", 1000, 0.02, floor_ms=1.0, peak_mib=30.4),
        _entry("fused", 1000, 0.004, floor_ms=1.0, peak_mib=None),
        _entry("fused", 5000, 0.01, floor_ms=0.0),
    ]
    content = {
        "benchmarks": entries,
        "machine_info": {"cpu": {"brand_raw": "A CPU"}, "python_version": "3.11"},
    }
    (tmp_path / "bench.json").write_text(json.dumps(content))
    done = _run(tmp_path / "bench.json", "--picture", tmp_path / "growth.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Machine: A CPU, Python 3.11"
    # The fastest first, with its ratio to the floor; what was not measured is a dash.
    first = lines.index("### relational_attention E=1000 uniform")
    assert lines[first + 4 : first + 6] == [
        "| fused | 4.00 | 1.0 | 4.0 | – |",
        "| per-edge | 20.00 | 5.0 | 20.0 | 30 |",
    ]
    assert "| fused | 10.00 | 1.0 | – | – |" in lines
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_growth_of_the_memory_has_a_picture_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    entries = [
        _entry(form, 0, steps / 1e3, steps=steps, relations=relations, peak_mib=9.0, growth=True)
        | {"group": f"relational_memory L={steps} R={relations}"}
        for form in ("scan", "fused")
        for steps, relations in ((25, 25), (50, 25), (50, 100))
    ]
    content = {"benchmarks": entries, "machine_info": {"machine": "x86", "python_version": "3.11"}}
    (tmp_path / "bench.json").write_text(json.dumps(content))
    done = _run(tmp_path / "bench.json", "--picture", tmp_path / "growth.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "growth-memory.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "growth.png").exists()


def test_what_is_no_measurement(tmp_path: Path) -> None:
    done = _run(tmp_path / "none.json")
    assert done.returncode != 0
    assert "there is no file" in done.stderr
    (tmp_path / "other.json").write_text("{}")
    done = _run(tmp_path / "other.json")
    assert "is not what pytest --benchmark-json writes" in done.stderr
