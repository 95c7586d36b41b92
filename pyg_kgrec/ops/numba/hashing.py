# mypy: disable-error-code="no-untyped-def"
"""The hash of :mod:`pyg_kgrec.ops.hashing` in 32-bit arithmetic."""

from __future__ import annotations

import numpy as np

from pyg_kgrec.ops.numba.compiler import inline


@inline
def _mix(x):
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@inline
def hash_row(seed, row):
    """A 32-bit number for a row."""
    low = _mix(np.uint32((row & 0xFFFFFFFF) + (seed & 0xFFFFFFFF)))
    return _mix(np.uint32((low ^ np.uint32(row >> 32)) + np.uint32((seed >> 32) & 0xFFFFFFFF)))


@inline
def survives(key, column, threshold):
    """Whether the hash of a cell, from that of its row, is at least ``threshold``."""
    return _mix(np.uint32(key + np.uint32(column) * np.uint32(0x9E3779B9))) >= threshold
