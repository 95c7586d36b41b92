from __future__ import annotations

import pytest
import torch

from pyg_kgrec.nn import NodeEncoder
from pyg_kgrec.nn.encoder import embed_rows


def test_an_id_a_projection_or_their_sum() -> None:
    x = torch.randn(4, 3)
    both = NodeEncoder(4, 2, 3, "both")
    torch.testing.assert_close(both(x=x), both.weight + x @ both.projection)
    only_id = NodeEncoder(4, 2, 3, "id")
    assert only_id.projection is None
    assert torch.equal(only_id(x=x), only_id.weight)
    only_x = NodeEncoder(4, 2, 3, "x")
    assert only_x.weight is None
    torch.testing.assert_close(only_x(x=x), x @ only_x.projection)


def test_a_type_without_features_keeps_its_ids() -> None:
    encoder = NodeEncoder(4, 2, 0, "x")
    assert torch.equal(encoder(), encoder.weight)


def test_a_node_without_a_row_is_its_features() -> None:
    x, encoder = torch.randn(3, 5), NodeEncoder(4, 2, 5, "both")
    out = encoder(torch.tensor([2, -1, 0]), x)
    expected = x @ encoder.projection
    expected[0] += encoder.weight[2]
    expected[2] += encoder.weight[0]
    torch.testing.assert_close(out, expected)


def test_gradients_reach_the_rows_that_were_taken_only() -> None:
    weight = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    row = torch.tensor([1, -1, 1])
    assert torch.autograd.gradcheck(lambda w: embed_rows(w, row), [weight])
    embed_rows(weight, row).sum().backward()
    assert weight.grad.tolist() == [[0, 0], [2, 2], [0, 0]]


def test_rows_of_an_empty_table_are_zero() -> None:
    assert not embed_rows(torch.empty(0, 2), torch.tensor([-1, -1])).any()


def test_parameters_are_drawn_anew_and_finite() -> None:
    encoder = NodeEncoder(40, 8, 5)
    before = [p.detach().clone() for p in encoder.parameters()]
    encoder.reset_parameters()
    for old, new in zip(before, encoder.parameters()):
        assert bool(torch.isfinite(new).all())
        assert not torch.equal(old, new)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="features is 'ids', expected 'id', 'x' or 'both'"):
        NodeEncoder(4, 2, features="ids")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no features given to an encoder that was built for 3 of them"):
        NodeEncoder(4, 2, 3)()
    with pytest.raises(ValueError, match="without rows and without features"):
        NodeEncoder(0, 2)()


def test_repr_shows_the_sizes() -> None:
    assert repr(NodeEncoder(4, 2, 3, "x")) == "NodeEncoder(0, 2, in_channels=3)"
