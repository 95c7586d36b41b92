"""Random numbers as a hash of a seed and a position: no mask is stored, and every backend draws the same ones."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def make_seed(generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Draw a seed, [] int64 on ``device``, for :func:`dropout_normalize` and :func:`stratified_keep`.

    Stays on the device: nothing waits for it. ``generator`` must belong to the device.
    """
    return torch.randint(1 << 62, (), generator=generator, device=device)


def as_seed(seed: Tensor | int, device: torch.device) -> Tensor:
    """A seed as a tensor on a device.

    Raises:
        TypeError: A tensor that is not one int64 number.
        ValueError: A number out of range.
    """
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise TypeError(f"seed is {seed.dtype} of shape {tuple(seed.shape)}, expected one int64 number")
        return seed.to(device)
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed is {seed}, expected 0 … 2**63 - 1")
    return torch.tensor(seed, device=device)


def _mix(x: Tensor) -> Tensor:
    """A 32-bit finaliser (shifts and odd multipliers) in 64-bit arithmetic: low 32 bits as in uint32."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & _MASK
    return x ^ (x >> 16)


def hash_rows(seed: Tensor, count: int) -> Tensor:
    """One 32-bit number per row, [count] int64, from ``seed`` [] int64."""
    row = torch.arange(count, device=seed.device)
    low = _mix(((row & _MASK) + (seed & _MASK)) & _MASK)
    return _mix(((low ^ (row >> 32)) + ((seed >> 32) & _MASK)) & _MASK)


def hash_grid(seed: Tensor, rows: int, columns: int) -> Tensor:
    """One 32-bit number per cell, [rows, columns] int64, from ``seed`` [] int64."""
    column = torch.arange(columns, device=seed.device) * 0x9E3779B9
    return _mix((hash_rows(seed, rows).view(-1, 1) + column) & _MASK)
