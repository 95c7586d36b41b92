"""Who runs the loops.

Loops release the GIL and are called on ranges of equal work, handed out in turn, by as many threads as
``torch.get_num_threads()``: PyTorch's own OpenMP threads where they can be had
(:func:`pyg_kgrec.ops.private.team`), else Python threads (:class:`_Pool`). This needs none of Numba's threading
layers (one of which is not thread-safe, one of which brings a second OpenMP runtime that spins against PyTorch's),
works from several callers at once and after a fork, and leaves compilation twice as fast. Results do not depend on
the number of threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops import private
from pyg_kgrec.ops.index import WildIndexError

TASKS = 16
"""Most ranges; fixed, so that sums over groups of rows do not depend on the number of threads."""

_TASK = 8192  # least work items of a range: below, handing it out costs more than it brings
ELEMENTS = 16
"""Numbers of a table that are as much work as one item: a loop over edges takes a row for each of them."""


class _Pool:
    """Threads that live as long as the process and are started anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Drop the executor without waiting for its threads, which a forked child does not have."""
        self.__init__()  # type: ignore[misc]

    def run(self, work: Callable[[], None], size: int) -> None:
        """Call ``work`` on ``size`` threads, the calling one among them."""
        with self._lock:
            if self._executor is None or self._size < size - 1:
                self._executor = ThreadPoolExecutor(size - 1, thread_name_prefix="pyg_kgrec")
                self._size = size - 1
            executor = self._executor
        helpers = [executor.submit(work) for _ in range(size - 1)]
        work()
        for helper in helpers:
            helper.result()


_pool = _Pool()
_forked = False


def _after_fork() -> None:
    """A forked child has neither the pool's threads nor OpenMP's, and must not wait for them."""
    global _forked
    _pool.forget()
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def parallel(call: Callable[[int], int], tasks: int) -> None:
    """Call ``call(0) … call(tasks - 1)`` on several threads, the calling one among them.

    Raises:
        WildIndexError: A loop met indices out of range (its results are to be thrown away).
    """
    ticket, bad, failed = itertools.count(), [0], []

    def work() -> None:
        try:
            while (task := next(ticket)) < tasks:
                bad.append(call(task))
        except BaseException as error:
            failed.append(error)

    size = min(torch.get_num_threads(), tasks)
    if size > 1:
        team = None if _forked else private.team()
        (team or _pool.run)(work, size)
    else:
        work()
    if failed:
        raise failed[0]
    if any(bad):
        raise WildIndexError(
            f"{sum(bad)} indices point outside the tables given to this operation; "
            "the index was changed after it was built, or belongs to another graph"
        )


def tasks_of(work: int) -> int:
    """Into how many ranges some work is cut."""
    return min(max(work // _TASK, 1), TASKS)


def ranges_of(count: int, work: int) -> list[tuple[int, int]]:
    """Cut ``0 .. count`` into equal ranges."""
    tasks = tasks_of(work)
    return [(count * i // tasks, count * (i + 1) // tasks) for i in range(tasks)]


def run(loop: Any, ranges: Sequence[tuple[int, int]], *args: Any) -> None:
    """Call ``loop(lo, hi, *args)`` for all ranges, which follow one another.

    A call costs some 20 µs, so ranges are joined: to one for one thread, else to two for each of them, so that a
    thread whose processor is busy leaves work to the others.
    """
    threads, count = torch.get_num_threads(), len(ranges)
    calls = min(count, 1 if threads == 1 else 2 * threads)
    joined = [(ranges[count * i // calls][0], ranges[count * (i + 1) // calls - 1][1]) for i in range(calls)]
    parallel(lambda i: loop(*joined[i], *args), calls)


def as_array(x: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's memory as a contiguous NumPy array."""
    if x.requires_grad:
        x = x.detach()
    return x.contiguous().numpy()
