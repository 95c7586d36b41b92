"""Run all parts, one after the other, until the time is used up: ``benchmarks/gpu.sh`` calls this.

The exit code is 0 where every row is as it should be or had no room or no time, 1 where a row failed, and 75 where
the process cannot use its GPU any more: called again with ``--resume`` it goes on with the next part.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
import torch_geometric
import triton

from gpu.correctness import check_kernels
from gpu.journal import NO_TIME, OK, Journal, Row, failure, is_fatal, release
from gpu.models import check_models
from gpu.plan import ON_A_GPU, REHEARSAL, Clock, OutOfTime, Plan
from gpu.timing import FORMS, bandwidth, compare_forms, compile_best
from gpu.training import compare_runs, time_step
from pyg_kgrec import ops

ROOT = Path(__file__).resolve().parents[2]
AGAIN = 75


def describe(plan: Plan, journal: Journal) -> None:
    """What the run runs on."""
    if plan.device == "cuda":
        found = torch.cuda.get_device_properties(0)
        device = (
            f"{found.name}, {found.total_memory / 2**30:.0f} GiB, {found.multi_processor_count} "
            f"multiprocessors, compute capability {found.major}.{found.minor}, CUDA {torch.version.cuda}"
        )
    else:
        device = "CPU, Triton's interpreter"
    journal.describe(
        rehearsal=plan.rehearsal,
        device=device,
        python=platform.python_version(),
        torch=torch.__version__,
        triton=triton.__version__,
        torch_geometric=torch_geometric.__version__,
        numpy=numpy.__version__,
        forms=", ".join(FORMS),
        backends=", ".join(f"{name} {choice.backend}" for name, choice in ops.report(plan.device).items()),
    )
    journal.describe(copy_gigabytes_per_second=round(bandwidth(plan) / 1e9, 1))
    release()


def run_tests(plan: Plan, journal: Journal, most: float = 120.0) -> None:
    """The operations' own tests, in a process of their own."""
    seconds = max(1.0, min(most, journal.clock.left() - 5))
    log = journal.json.parent / "tests.txt"

    def tests() -> Row:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plan.tests]
        with log.open("w") as out:
            begun = time.time()
            try:
                code = subprocess.run(
                    command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, timeout=seconds, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                return {"seconds": seconds, "status": NO_TIME}
        last = log.read_text().strip().splitlines()[-1:]
        status = OK if code == 0 else f"failed: pytest ends with {code}"
        return {"seconds": time.time() - begun, "last line": "".join(last), "status": status}

    journal.attempt("tests", {"tests": " ".join(plan.tests)}, tests, needs=0 if plan.rehearsal else 25)


def parts(plan: Plan, journal: Journal) -> dict[str, Callable[[], None]]:
    """The parts in the order in which they are worth their time."""
    half = plan.sizes[-4:]
    return {
        "correctness": lambda: check_kernels(plan, journal),
        "bits": lambda: compare_runs(plan, journal),
        "models": lambda: check_models(plan, journal),
        "attention": lambda: compare_forms("attention", plan.sizes, plan, journal),
        "step": lambda: time_step(plan, journal),
        "compiled": lambda: compile_best(plan, journal),
        "tests": lambda: run_tests(plan, journal),
        "large": lambda: compare_forms("large", plan.large, plan, journal, needs=20),
        "half": lambda: compare_forms("half", half, plan, journal, torch.bfloat16),
    }


def main() -> int:
    """Run what has not begun yet."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rehearse", action="store_true", help="toy sizes on the CPU, in Triton's interpreter"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu", help="folder of the results")
    parser.add_argument("--end", type=float, required=True, help="when to stop, in seconds since 1970")
    parser.add_argument("--resume", action="store_true", help="go on after the last part that was begun")
    args = parser.parse_args()
    plan = REHEARSAL if args.rehearse else ON_A_GPU
    if not plan.rehearsal and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --rehearse runs everything at toy size on the CPU")
    if plan.rehearsal and not (plan.device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        parser.error(
            "a rehearsal runs on the CPU with TRITON_INTERPRET=1: start it by benchmarks/gpu.sh --rehearse"
        )
    warnings.filterwarnings("ignore", ".*deterministic")
    clock = Clock(args.end)
    journal = Journal(args.out, "rehearsal" if plan.rehearsal else "gpu", clock, args.resume)
    try:
        with clock.ending():
            describe(plan, journal)
            for name, run in parts(plan, journal).items():
                if name in journal.begun:
                    continue
                journal.begin(name)
                try:
                    run()
                    release()
                except Exception as error:
                    journal.add(name, {}, failure(error))
                if any(is_fatal(row) for row in journal.parts.get(name, [])):
                    return AGAIN
    except OutOfTime:
        journal.describe(cut_off=f"during {journal.begun[-1] if journal.begun else 'the start'}")
    print(journal.report())
    return 1 if journal.failed else 0


if __name__ == "__main__":
    sys.exit(main())
