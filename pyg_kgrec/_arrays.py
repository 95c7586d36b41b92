"""Tensors as arrays of NumPy, NumPy's numbers as Python's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")


def as_python(value: Any) -> Any:
    """A number of NumPy as Python's number of the same value; anything else as it is.

    A row of a table and ``np.arange`` hold NumPy's, which PyTorch's modules and loaders and safe files refuse.
    """
    return value.item() if isinstance(value, np.bool_ | np.integer | np.floating) else value


def plain_numbers(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Lets a function see numbers of NumPy as Python's (:func:`as_python`)."""

    # Who looks at, or changes, the defaults of what is wrapped finds them here, too.
    @functools.wraps(function, (*functools.WRAPPER_ASSIGNMENTS, "__kwdefaults__"))
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(*map(as_python, args), **{name: as_python(x) for name, x in kwargs.items()})

    return call


def to_numpy(values: Tensor) -> NDArray[Any]:
    """The values of a tensor on any device; bfloat16, which NumPy does not know, as float32."""
    values = values.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """PyTorch's default dtype set to float64 where ``dtype`` is that, else to float32; as it was afterwards.

    It is the whole process's, so nothing is set where it stands already.
    """
    before, wide = torch.get_default_dtype(), dtype if dtype == torch.float64 else torch.float32
    if before == wide:
        yield
        return
    torch.set_default_dtype(wide)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
