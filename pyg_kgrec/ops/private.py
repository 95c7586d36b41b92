"""What is taken from PyTorch's inside, because it has no public form, and the way without it.

- Whether a dispatch mode or a functional transform looks at a call. Where that cannot be told, every call of an
  operator takes the way through PyTorch's dispatcher (:class:`pyg_kgrec.ops.operator.Operator`), which is right in
  any case and costs more than the kernel of a small graph.
- The OpenMP threads that PyTorch has started. After each of PyTorch's operations they spin for a while, waiting for
  the next one: other threads have to share the processors with them. Where they cannot be had, Python threads run
  the loops (:mod:`pyg_kgrec.ops.numba.threads`).

Results are the same either way, to the bit. Tensors' version counters aside, the operations depend on nothing else
that PyTorch keeps to itself, and :func:`avoided` does without it, to measure what it brings.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils import _python_dispatch

Team = Callable[[Callable[[], None], int], None]
"""``team(work, size)`` calls ``work`` on ``size`` threads, the calling one among them."""

_transforms_active: Callable[[], bool] | None = getattr(torch._C, "_are_functorch_transforms_active", None)
_dispatch_mode: Callable[[], Any] | None = getattr(_python_dispatch, "_get_current_dispatch_mode", None)
_avoided = False


@contextmanager
def avoided() -> Iterator[None]:
    """Do without PyTorch's inside in a ``with`` block, in all threads: for measurements and tests.

    Example:
        >>> with private.avoided():
        ...     step()
    """
    global _avoided
    before, _avoided = _avoided, True
    try:
        yield
    finally:
        _avoided = before


def is_plain(args: tuple[Any, ...]) -> bool:
    """Whether nothing but autograd looks at a call with these arguments.

    That is, its tensors are ordinary ones, in eager mode, outside autocast, tracing, dispatch modes and functional
    transforms. False where this version of PyTorch does not tell.
    """
    if torch.compiler.is_compiling() or _avoided or _transforms_active is None or _dispatch_mode is None:
        return False
    if _transforms_active() or _dispatch_mode() is not None or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    tensors = [a for a in args if isinstance(a, Tensor)]
    return all(type(t) in (Tensor, Parameter) for t in tensors) and not torch.is_autocast_enabled(
        tensors[0].device.type
    )


def team() -> Team | None:
    """PyTorch's own OpenMP threads; None where it has brought no GNU OpenMP library."""
    return None if _avoided else _find_team()


@cache
def _find_team() -> Team | None:
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            run = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):
            continue
        run.argtypes = [body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        run.restype = None

        def parallel(work: Callable[[], None], size: int, run: Any = run) -> None:
            run(body(lambda _: work()), None, size, 0)

        return parallel
    return None
