"""Tensors as arrays of NumPy."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_numpy(values: Tensor) -> NDArray[Any]:
    """The values of a tensor on any device; bfloat16, which NumPy does not know, as float32."""
    values = values.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array
