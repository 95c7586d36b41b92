"""Which backend an operation takes: asked for by name, or by device, size and what is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

VARIABLE = "PYG_KGREC_BACKEND"
BACKENDS = ("reference", "scatter", "scan", "fused", "triton")
_NEEDS = {
    "scatter": ("torch_scatter", "kernels"),
    "fused": ("numba", "fused"),
    "triton": ("triton", "triton"),
}
_SMALL = 1 << 14
"""Numbers (edges × channels) up to which ``auto`` leaves the work to plain PyTorch rather than load Numba."""

_OFFERS = {
    "relational_attention": ("reference", "scatter", "fused", "triton"),
    "relational_mean": ("reference", "scatter", "fused", "triton"),
    "rationale_scores": ("reference", "scatter", "fused", "triton"),
    "segment_softmax": ("reference", "scatter", "fused", "triton"),
    "weighted_aggregate": ("reference", "scatter", "fused", "triton"),
    "dropout_normalize": ("reference", "fused", "triton"),
    "sampled_scores": ("reference", "fused"),
    "search_rows": ("reference", "fused"),
    "stratified_keep": ("reference", "fused"),
    "topk_mask": ("reference", "fused"),
    "rank_topk": ("reference", "fused"),
    "hyperplane_scores": ("reference", "fused"),
    "relational_memory": ("reference", "scan", "fused", "triton"),
}

_chosen: ContextVar[str | None] = ContextVar("pyg_kgrec_backend", default=None)


@cache
def installed(backend: str) -> bool:
    """Whether the package that a backend needs is installed (it is not imported)."""
    return backend not in _NEEDS or find_spec(_NEEDS[backend][0]) is not None


def interpreting() -> bool:
    """Whether Triton runs its kernels in its interpreter, that is, also on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _validated(name: str, where: str) -> str:
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"{where}: there is no backend {name!r}, expected auto, {', '.join(BACKENDS)}")
    if not installed(name):
        package, extra = _NEEDS[name]
        raise ImportError(
            f"{where}: backend {name!r} needs {package}, which is not installed: "
            f'pip install "pyg-kgrec[{extra}]"'
        )
    return name


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use one backend for all operations in a ``with`` block (of this thread or task only).

    Args:
        name: ``'auto'``, ``'reference'``, ``'scatter'``, ``'scan'``, ``'fused'`` or ``'triton'``. An operation
            that a backend does not offer (sampling on ``'scatter'``, say) is done by ``'reference'``.

    Raises:
        ValueError: No such backend.
        ImportError: The backend's package is missing; the message says which extra brings it.
    """
    token = _chosen.set(_validated(name, "ops.backend"))
    try:
        yield
    finally:
        _chosen.reset(token)


@torch.compiler.assume_constant_result
def requested() -> str:
    """What is asked for: the innermost ``ops.backend``, else the environment variable, else ``'auto'``.

    ``torch.compile`` asks once, while it traces: a compiled function keeps the backend it was traced with.
    """
    chosen = _chosen.get()
    return chosen if chosen is not None else _validated(os.environ.get(VARIABLE, "auto") or "auto", VARIABLE)


class Choice(NamedTuple):
    """A backend and the reason for it."""

    backend: str
    reason: str


def choose(operation: str, device: torch.device, size: int) -> Choice:
    """The backend that an operation takes.

    Args:
        operation: Name of the operation.
        device: Where its tensors are.
        size: Numbers that it touches, edges × channels.

    Raises:
        ValueError: The backend that was asked for does not run on this device.
    """
    name, offers = requested(), _OFFERS[operation]
    if name == "auto":
        return _automatic(offers, device, size)
    if name not in offers:
        return Choice("reference", f"{name!r} was asked for but does not offer this operation")
    if name == "fused" and device.type != "cpu":
        raise ValueError(
            f"backend 'fused' runs on the CPU, but the tensors are on {device}: use 'triton' or 'auto'"
        )
    if name == "triton" and device.type != "cuda" and not interpreting():
        raise ValueError(
            f"backend 'triton' runs on a GPU (on the CPU only under TRITON_INTERPRET=1), but the tensors are "
            f"on {device}: use 'fused' or 'auto'"
        )
    return Choice(name, "asked for")


def _automatic(offers: tuple[str, ...], device: torch.device, size: int) -> Choice:
    own = {"cpu": ("fused", "scatter"), "cuda": ("triton", "scatter")}.get(device.type, ())
    wanted = (*own, "scan")
    if device.type == "cpu" and size < _SMALL:
        return Choice("reference", f"fewer than {_SMALL} numbers: not worth loading a kernel")
    missing: list[str] = []
    for name in wanted:
        if name not in offers:
            continue
        if installed(name):
            return Choice(
                name, "the fastest that is installed for this device" if not missing else missing[0]
            )
        missing.append(f'{name} is faster here: pip install "pyg-kgrec[{_NEEDS[name][1]}]"')
    return Choice("reference", missing[0] if missing else f"no kernel of this operation for {device.type}")


class Report(dict[str, Choice]):
    """Choice by operation; prints as a table."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {c.backend:<9}  {c.reason}" for name, c in self.items())


def report(device: torch.device | str = "cpu", size: int = 1 << 20) -> Report:
    """Which backend each operation would take, and why.

    Args:
        device: Where the tensors would be.
        size: Numbers that an operation touches, edges × channels.
    """
    return Report({name: choose(name, torch.device(device), size) for name in _OFFERS})


def check_floating(**tensors: Tensor) -> None:
    """Refuse tables of different or unsupported dtypes.

    Raises:
        TypeError: Not float32 or float64 (on a GPU also float16 and bfloat16), or not all the same.
    """
    first_name, first = next(iter(tensors.items()))
    allowed = [torch.float32, torch.float64]
    if first.device.type != "cpu" or interpreting() or torch.is_autocast_enabled(first.device.type):
        allowed += [torch.float16, torch.bfloat16]
    for name, tensor in tensors.items():
        if tensor.dtype not in allowed:
            expected = ", ".join(str(d) for d in allowed)
            raise TypeError(f"{name} is {tensor.dtype} on {tensor.device.type}, expected one of {expected}")
        if tensor.dtype != first.dtype and not torch.is_autocast_enabled(first.device.type):
            raise TypeError(f"{name} is {tensor.dtype} but {first_name} is {first.dtype}: expected the same")
