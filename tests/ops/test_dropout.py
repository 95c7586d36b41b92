"""Dropout and normalisation: every backend against plain PyTorch, and the share that is dropped."""

from __future__ import annotations

import pytest
import torch
from ops_graphs import assert_same, tables

from pyg_kgrec import ops

CHANNELS = 6


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_dropout_normalize_equals_plain_pytorch(backend: str, p: float) -> None:
    (x,) = tables(5, channels=CHANNELS)
    x.data[2] = 0
    x.data[3] *= 1e-14  # below the smallest norm, which is a constant there
    assert_same(lambda t: ops.dropout_normalize(t, p, (5 << 33) + 7), [x], backend)


def test_dropout_drops_the_asked_share() -> None:
    x = torch.ones(2000, 64)
    y = ops.dropout_normalize(x, 0.3, 9)
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.01
    torch.testing.assert_close(y.norm(dim=1), torch.ones(2000))
    assert torch.equal(y, ops.dropout_normalize(x, 0.3, torch.tensor(9)))
    assert not torch.equal(y == 0, ops.dropout_normalize(x, 0.3, 10) == 0)
    rows = (y == 0).float().mean(1)
    assert float(rows.std()) < 2 * (0.3 * 0.7 / 64) ** 0.5, "rows must not share one fate"


def test_make_seed_is_seeded() -> None:
    seeds = [int(ops.make_seed(torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
