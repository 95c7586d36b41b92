"""Thousands of damaged inputs, each of which must end right or be refused in one sentence.

``python -m tests.fuzz --count 25000 --seed 0`` runs them in processes of their own, one per area, with a bound on
memory and a clock: a crash, a hang or another exception is named with its area, seed and number, and
``python -m tests.fuzz --only AREA:NUMBER --seed 0`` runs that one case again, with its traceback.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

Cases = Callable[[int, int], Iterator[Callable[[], object]]]

AREAS: Final = {
    "readers": ("tests.fuzz.readers", "cases", 0.32),
    "stores": ("tests.fuzz.stores", "cases", 0.25),
    "models": ("tests.fuzz.files", "models", 0.13),
    "embeddings": ("tests.fuzz.files", "embeddings", 0.1),
    "trainings": ("tests.fuzz.files", "trainings", 0.04),
    "operations": ("tests.fuzz.operations", "cases", 0.16),
}
"""Module and function of each area, and its share of all cases."""

MOST_SECONDS: Final = 20.0
MOST_MEMORY: Final = 2**31
MOST_LETTERS: Final = 400
REFUSALS: Final = (ValueError, TypeError, FileNotFoundError)


class Outcome(NamedTuple):
    """How a case ended: ``'right'``, ``'refused'``, or what is wrong with it."""

    kind: str
    what: str = ""


def judge(case: Callable[[], object]) -> Outcome:
    """Runs a case."""
    try:
        case()
    except REFUSALS as error:
        message = str(error)
        if not message or "\n" in message.strip() or len(message) > MOST_LETTERS:
            return Outcome(
                "no sentence", f"{type(error).__name__}: {len(message)} letters: {message[:200]!r}"
            )
        return Outcome("refused", message)
    except BaseException as error:
        return Outcome("exception", f"{type(error).__name__}: {str(error)[:200]!r}")
    return Outcome("right")


def load(area: str) -> Cases:
    """The function that makes an area's cases."""
    module, function, _ = AREAS[area]
    cases: Cases = getattr(import_module(module), function)
    return cases


def _bound_memory() -> None:
    """No case may take more than :data:`MOST_MEMORY` beyond what the libraries have taken when it begins."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_MEMORY, resource.RLIM_INFINITY))


def _work(area: str, seed: int, count: int, first: int, sender: Connection) -> None:
    """Runs the cases from ``first`` on; says which one begins, and how it ended."""
    sys.stdout = sys.stderr = open("/dev/null", "w")  # noqa: PTH123, SIM115
    cases = load(area)(seed, count)
    warm = next(iter(load(area)(seed, 1)), None)
    if warm is not None and first == 0:
        judge(warm)  # what is loaded and built once is not the first case's
    if sys.platform == "linux":
        _bound_memory()
    for number, case in enumerate(itertools.islice(cases, first, None), first):
        sender.send((number, None))
        sender.send((number, judge(case)))
    sender.send((count, None))


def run(area: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """Runs an area's cases; a process that crashes or hangs is replaced by one that goes on after the case.

    Returns:
        How many cases ended in which way, and a line for each that failed.
    """
    context = multiprocessing.get_context("spawn")
    counts: Counter[str] = Counter()
    failed: list[str] = []
    first = 0
    while first < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(area, seed, count, first, sender), daemon=True)
        process.start()
        sender.close()
        running, patience = first - 1, 300.0  # until the libraries are loaded
        # A loop that is compiled for a new dtype takes seconds of a processor that others may use.
        most = 3 * MOST_SECONDS if area == "operations" else MOST_SECONDS
        try:
            while True:
                if not receiver.poll(patience):
                    outcome = Outcome("hang", f"more than {most:.0f} seconds")
                    break
                number, ended = receiver.recv()
                running, patience = number, most
                if number == count:
                    return counts, failed
                if ended is not None:
                    counts[ended.kind] += 1
                    if ended.kind not in ("right", "refused"):
                        failed.append(f"{area}:{number} {ended.kind}: {ended.what}")
        except EOFError:
            process.join()
            outcome = Outcome("crash", f"exit code {process.exitcode}")
        finally:
            process.kill()
            process.join()
        if running < first:
            raise RuntimeError(f"the process of {area} did not reach its first case: {outcome.what}")
        counts[outcome.kind] += 1
        failed.append(f"{area}:{running} {outcome.kind}: {outcome.what}")
        first = running + 1
    return counts, failed


def main() -> int:
    """Prints a line per area and one per failed case; the exit code tells whether there are any."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--count", type=int, default=25_000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", nargs="+", choices=list(AREAS), default=list(AREAS))
    parser.add_argument("--only", metavar="AREA:NUMBER", help="one case, in this process, with its traceback")
    given = parser.parse_args()
    if given.only:
        area, number = given.only.split(":")
        case = next(itertools.islice(load(area)(given.seed, int(number) + 1), int(number), None))
        try:
            print("right:", repr(case())[:500])
        except Exception:
            traceback.print_exc()
        return 0
    total: Counter[str] = Counter()
    wrong: list[str] = []
    for area in given.areas:
        started = time.monotonic()
        counts, failed = run(area, given.seed, max(1, round(given.count * AREAS[area][2])))
        total += counts
        wrong += failed
        told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        print(
            f"{area:<11} {sum(counts.values()):>6} cases in {time.monotonic() - started:4.0f} s: {told}",
            flush=True,
        )
    print(*wrong, sep="\n")
    print(f"{sum(total.values())} cases, {len(wrong)} failed (seed {given.seed})")
    return 1 if wrong else 0
