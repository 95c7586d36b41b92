"""What NumPy has no type for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_kgrec._arrays import as_python, plain_numbers, to_numpy


def test_numbers_of_numpy_become_pythons() -> None:
    for number, plain in ((np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.uint8(7), 7)):
        assert type(as_python(number)) is type(plain)
        assert as_python(number) == plain
    for other in ("a", None, [np.int64(1)], np.array(3), np.datetime64("2020"), np.str_("b")):
        assert as_python(other) is other

    @plain_numbers
    def told(first: object, *more: object, key: object = None) -> list[type]:
        """What came."""
        return [type(value) for value in (first, *more, key)]

    assert told(np.int8(1), np.float64(2), "x", key=np.bool_(False)) == [int, float, str, bool]
    assert told.__doc__ == "What came."
    assert told.__kwdefaults__ == {"key": None}


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_are_those_of_the_tensor(dtype: torch.dtype) -> None:
    values = torch.tensor([0.5, 3, -7]).to(dtype)
    array = to_numpy(values)
    assert array.tolist() == values.tolist()
    assert array.dtype == (
        np.float32 if dtype == torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype
    )
    assert to_numpy(values.float().requires_grad_()).tolist() == values.tolist()
