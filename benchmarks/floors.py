"""What this machine can do at best: copy bandwidth, GEMM rate, and the peak memory of a call.

    python -m benchmarks.floors            # prints both rates

A floor says how long an operation must take if it did nothing but move its bytes and do its matrix products.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch


def call_times(
    run: Callable[[], object],
    device: str = "cpu",
    rounds: int = 7,
    before: Callable[[], object] | None = None,
) -> list[float]:
    """Seconds of each of some calls, after one to warm up.

    Args:
        run: What is timed.
        device: ``'cuda'`` times with events of the device: how long it works, not how long the host does.
        rounds: How often.
        before: Called before each timed call, untimed. On a GPU it may queue work that empties the cache and lets
            the host run ahead.
    """
    run()
    if device == "cuda":
        torch.cuda.synchronize()
        marks = []
        for _ in range(rounds):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if before is not None:
                before()
            start.record()
            run()
            end.record()
            marks.append((start, end))
        torch.cuda.synchronize()
        return [start.elapsed_time(end) / 1e3 for start, end in marks]
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return times


@cache
def copy_bandwidth(device: str = "cpu", mebibytes: int = 256) -> float:
    """Bytes a second that a large copy moves, reading and writing counted."""
    source = torch.ones(mebibytes << 18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median(call_times(lambda: target.copy_(source), device))


@cache
def gemm_rate(dtype: torch.dtype = torch.float32, device: str = "cpu", size: int = 1024) -> float:
    """Floating-point operations a second of a square matrix product."""
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / median(call_times(lambda: a @ a, device))


def floor_seconds(num_bytes: float, flops: float, dtype: torch.dtype, device: str = "cpu") -> float:
    """Time for moving the bytes and then doing the matrix products."""
    return num_bytes / copy_bandwidth(device) + (flops / gemm_rate(dtype, device) if flops else 0.0)


def peak_mebibytes(run: Callable[[], object], device: str = "cpu") -> float | None:
    """Memory that a call needs at its peak beyond what was held before; None where it cannot be told."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not sys.platform.startswith("linux"):
        return None
    try:
        ctypes.CDLL(None).malloc_trim(
            0
        )  # give back what earlier calls left, so that this one asks for it anew
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the resident set
    except (OSError, AttributeError):
        return None
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def measure(
    benchmark: Any, step: Callable[[], object], form: str, floor: float, rounds: int, device: str = "cpu"
) -> None:
    """Time a step with pytest-benchmark, and note its floor (seconds) and peak memory."""

    def synced() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info |= {
        "form": form,
        "device": device,
        "threads": torch.get_num_threads(),
        "floor_ms": round(floor * 1e3, 3),
        "peak_mib": peak_mebibytes(synced, device),
    }
    benchmark.pedantic(synced, rounds=rounds, warmup_rounds=1)


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status does not tell {key}")


if __name__ == "__main__":
    for where in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        copy, gemm = copy_bandwidth(where) / 1e9, gemm_rate(device=where) / 1e9
        print(f"{where}: copy {copy:.1f} GB/s, GEMM {gemm:.0f} GFLOP/s")
