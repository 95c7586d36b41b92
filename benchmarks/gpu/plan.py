"""Sizes of a run, on a GPU and of its rehearsal, and the clock that the run keeps."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from attentions import DEVICE, Size


class StoreSize(NamedTuple):
    """Numbers of a made store."""

    users: int
    items: int
    entities: int
    relations: int
    triples: int
    interactions: int


class Plan(NamedTuple):
    """What is run.

    Attributes:
        rehearsal: Toy sizes on the CPU, every line of the code all the same.
        checked: The graph on which kernels are compared with PyTorch, a power law.
        piece: Longest run of edges of one piece of work; small where the graph is small.
        channels: Channels and heads with which they are compared; three per head is no power of two.
        dtypes: Of the tables, with the greatest relative error that passes.
        sizes: Of the attention that is timed.
        large: The same where time is left.
        store: On which a training step is timed.
        batch: Of that step.
        hidden_channels: Of that model.
        num_layers: Of that model.
        seconds: That the timed calls of one figure should take together.
        rounds: Least and most calls of one figure.
        flush_mebibytes: What is written before a timed call, more than the caches hold.
        copy_mebibytes: What is copied to measure the bandwidth.
        compiler: Backend of ``torch.compile``.
        tests: What pytest is asked to run, besides the limits.
    """

    rehearsal: bool
    checked: Size
    piece: int
    channels: tuple[tuple[int, int], ...]
    dtypes: dict[torch.dtype, float]
    sizes: tuple[Size, ...]
    large: tuple[Size, ...]
    store: StoreSize
    batch: int
    hidden_channels: int
    num_layers: int
    seconds: float
    rounds: tuple[int, int]
    flush_mebibytes: int
    copy_mebibytes: int
    compiler: str
    tests: tuple[str, ...]

    @property
    def device(self) -> str:
        """Where everything runs."""
        return DEVICE


_DTYPES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
_SHAPES = ("uniform", "hubs")

ON_A_GPU = Plan(
    rehearsal=False,
    checked=Size(3000, 60_000, 0, "hubs"),
    piece=1024,
    channels=((64, 2), (6, 2)),
    dtypes=_DTYPES,
    sizes=tuple(Size(e // 10, e, d, s) for e in (10**6, 10**7) for d in (64, 128) for s in _SHAPES),
    large=tuple(Size(10**7, 10**8, d, s) for d in (64, 128) for s in _SHAPES),
    store=StoreSize(943, 1682, 34_628, 25, 91_631, 80_000),
    batch=2048,
    hidden_channels=64,
    num_layers=2,
    seconds=1.0,
    rounds=(5, 50),
    flush_mebibytes=4096,
    copy_mebibytes=4096,
    compiler="inductor",
    tests=("tests/ops", "--maxfail=10", "-k", "triton or half", "-m", "not slow"),
)

REHEARSAL = Plan(
    rehearsal=True,
    checked=Size(4, 9, 0, "uniform", 2),
    piece=2,
    channels=((6, 2),),
    dtypes=_DTYPES,
    sizes=tuple(Size(3, 4, 4, s, 2) for s in _SHAPES),
    large=(Size(3, 5, 4, "hubs", 2),),
    store=StoreSize(3, 4, 4, 2, 5, 6),
    batch=4,
    hidden_channels=4,
    num_layers=1,
    seconds=0.0,
    rounds=(1, 1),
    flush_mebibytes=1,
    copy_mebibytes=1,
    compiler="aot_eager",
    tests=("tests/ops/test_dropout.py", "-k", "triton"),
)


class OutOfTime(BaseException):
    """The time of the run is used up; nothing but the run itself is to catch it."""


class Clock:
    """Counts down to the end of a run, and ends it.

    Args:
        end: When the run has to end, as :func:`time.time` counts.
    """

    def __init__(self, end: float) -> None:
        self.end = end

    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.time()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Raise :class:`OutOfTime` in a ``with`` block when no time is left."""

        def ring(*_: Any) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
