"""Which backend an operation takes: asked for by name, or by device, size and what is installed.

An operation says by :func:`register` which backends have a form of it besides plain PyTorch, which all have. A
form is a function of the operation's name in ``pyg_kgrec.ops.<backend>.<file>``, or in ``pyg_kgrec.ops.<backend>``
where the backend is one file; it is imported when it is first called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from pyg_kgrec._deprecation import FORMER, warn_renamed
from pyg_kgrec._files import shown

VARIABLE = "PYG_KGREC_BACKEND"
BACKENDS = ("torch", "scatter", "scan", "numba", "triton")
COMPILED = {"cpu": "numba", "cuda": "triton"}
"""The backend of each device whose forms are the kernels of PyTorch operators, with derivatives of their own."""
KERNELS = tuple(COMPILED.values())

_NEEDS = {
    "scatter": ("torch_scatter", "kernels"),
    "numba": ("numba", "fused"),
    "triton": ("triton", "triton"),
}
_FORMER = {"reference": "torch", "fused": "numba"}
_GONE = "0.4"
FORMER.update({f"backend {name!r}": _GONE for name in _FORMER})
# torch-scatter is no candidate on the CPU: in 12 of 15 measured cases it is slower there than plain PyTorch.
_CANDIDATES = {"cpu": ("numba", "scan"), "cuda": ("triton", "scatter", "scan")}
_SMALL = 1 << 14
"""Numbers (edges × channels) up to which ``auto`` leaves the work to plain PyTorch rather than load Numba."""

_chosen: ContextVar[str | None] = ContextVar("pyg_kgrec_backend", default=None)


@cache
def installed(backend: str) -> bool:
    """Whether the package that a backend needs is installed (it is not imported)."""
    return backend not in _NEEDS or find_spec(_NEEDS[backend][0]) is not None


def interpreting() -> bool:
    """Whether Triton runs its kernels in its interpreter, that is, also on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _checked(name: str, where: str) -> str:
    if name not in ("auto", *BACKENDS):
        raise ValueError(
            f"{where}: there is no backend {shown(repr(name), 60)}, expected auto, {', '.join(BACKENDS)}"
        )
    if not installed(name):
        package, extra = _NEEDS[name]
        raise ImportError(
            f"{where}: backend {name!r} needs {package}, which is not installed: "
            f'pip install "pyg-kgrec[{extra}]"'
        )
    return name


def _renamed(name: str, where: str, stacklevel: int) -> str:
    """Today's name of a backend."""
    if name not in _FORMER:
        return name
    warn_renamed(f"{where}: backend {name!r}", repr(_FORMER[name]), _GONE, stacklevel + 1)
    return _FORMER[name]


def backend(name: str) -> AbstractContextManager[None]:
    """Use one backend for all operations in a ``with`` block (of this thread or task only).

    Args:
        name: ``'auto'``, ``'torch'``, ``'scatter'``, ``'scan'``, ``'numba'`` or ``'triton'``. An operation that a
            backend does not offer (sampling on ``'scatter'``, say) is done by ``'torch'``. ``'reference'`` and
            ``'fused'``, the former names of ``'torch'`` and ``'numba'``, still work, with a ``DeprecationWarning``.

    Raises:
        ValueError: No such backend.
        ImportError: The backend's package is missing; the message says which extra brings it.
    """
    return _using(_checked(_renamed(name, "ops.backend", stacklevel=2), "ops.backend"))


@contextmanager
def _using(name: str) -> Iterator[None]:
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


@cache
def _of_variable(value: str) -> str:
    """Today's name of what the environment variable holds; warns once of a former one."""
    return _renamed(value, VARIABLE, stacklevel=2)


@torch.compiler.assume_constant_result
def requested() -> str:
    """What is asked for: the innermost ``ops.backend``, else the environment variable, else ``'auto'``.

    ``torch.compile`` asks once, while it traces: a compiled function keeps the backend it was traced with.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    return _checked(_of_variable(os.environ.get(VARIABLE, "auto") or "auto"), VARIABLE)


class Choice(NamedTuple):
    """A backend and the reason for it."""

    backend: str
    reason: str


class Operation(NamedTuple):
    """An operation and the backends that have a form of it. Made by :func:`register`."""

    name: str
    file: str
    backends: tuple[str, ...]

    def choose(self, device: torch.device, size: int) -> Choice:
        """The backend that the operation takes.

        Args:
            device: Where its tensors are.
            size: Numbers that it touches, edges × channels.

        Raises:
            ValueError: The backend that was asked for does not run on this device.
        """
        name = requested()
        if name == "auto":
            return _automatic(self.backends, device, size)
        if name not in self.backends:
            return Choice("torch", f"{name!r} was asked for but does not offer this operation")
        if name == "numba" and device.type != "cpu":
            raise ValueError(
                f"backend 'numba' runs on the CPU, but the tensors are on {device}: use 'triton' or 'auto'"
            )
        if name == "triton" and device.type != "cuda" and not interpreting():
            raise ValueError(
                f"backend 'triton' runs on a GPU (on the CPU only under TRITON_INTERPRET=1), but the tensors are "
                f"on {device}: use 'numba' or 'auto'"
            )
        return Choice(name, "asked for")

    def form(self, backend: str) -> Callable[..., Any]:
        """The operation's form of a backend other than ``torch``."""
        return form(backend, self.file, self.name)


_OPERATIONS: dict[str, Operation] = {}


def register(name: str, file: str, *backends: str) -> Operation:
    """Make an operation known, with the backends that have a form of it.

    Args:
        name: Of the operation and of its forms.
        file: ``__name__`` of the module it stands in; its forms stand in files of the same name.
        backends: Besides ``torch``.
    """
    operation = Operation(name, file.rpartition(".")[2], ("torch", *backends))
    _OPERATIONS[name] = operation
    return operation


def choose(operation: str, device: torch.device | str, size: int) -> Choice:
    """The backend that an operation takes, by its name; see :meth:`Operation.choose`."""
    return _OPERATIONS[operation].choose(torch.device(device), size)


def form(backend: str, file: str, name: str) -> Callable[..., Any]:
    """The function ``name`` of a backend, from its file ``file`` or, where the backend is one file, from that."""
    path = f"pyg_kgrec.ops.{backend}"
    return getattr(sys.modules[_loaded(f"{path}.{file}" if backend in KERNELS else path)], name)


@torch.compiler.assume_constant_result
def _loaded(path: str) -> str:
    """The name of a module, which is imported here, even while ``torch.compile`` traces."""
    import_module(path)
    return path


def compiled_for(device: str) -> str:
    """The backend whose kernels run on a device; Triton's on the CPU too where its interpreter was asked for."""
    if device == "cpu" and interpreting() and (requested() == "triton" or not installed("numba")):
        return "triton"
    return COMPILED[device]


def _automatic(offers: tuple[str, ...], device: torch.device, size: int) -> Choice:
    if device.type == "cpu" and size < _SMALL:
        return Choice("torch", f"fewer than {_SMALL} numbers: not worth loading a kernel")
    missing: list[str] = []
    for name in _CANDIDATES.get(device.type, ("scan",)):
        if name not in offers:
            continue
        if installed(name):
            return Choice(
                name, "the fastest that is installed for this device" if not missing else missing[0]
            )
        missing.append(f'{name} is faster here: pip install "pyg-kgrec[{_NEEDS[name][1]}]"')
    return Choice("torch", missing[0] if missing else f"no kernel of this operation for {device.type}")


class Report(dict[str, Choice]):
    """Choice by operation; prints as a table."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {c.backend:<7}  {c.reason}" for name, c in self.items())


def report(device: torch.device | str = "cpu", size: int = 1 << 20) -> Report:
    """Which backend each operation would take, and why.

    Args:
        device: Where the tensors would be.
        size: Numbers that an operation touches, edges × channels.
    """
    return Report({name: choose(name, device, size) for name in _OPERATIONS})
