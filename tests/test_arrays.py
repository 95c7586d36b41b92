"""What NumPy has no type for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kgrec._arrays import to_numpy


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_are_those_of_the_tensor(dtype: torch.dtype) -> None:
    values = torch.tensor([0.5, 3, -7]).to(dtype)
    array = to_numpy(values)
    assert array.tolist() == values.tolist()
    assert array.dtype == (
        np.float32 if dtype == torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype
    )
    assert to_numpy(values.float().requires_grad_()).tolist() == values.tolist()
