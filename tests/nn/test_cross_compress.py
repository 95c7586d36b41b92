from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_kgrec.nn import CrossCompressUnit
from pyg_kgrec.nn.cross_compress import CrossStitchUnit, CrossUnit, CrossUnits

UNITS = ["cross_compress", "dcn", "stitch"]


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(0, 5), d=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_the_unit_is_its_equation_with_the_matrix(batch: int, d: int, seed: int) -> None:
    torch.manual_seed(seed)
    unit = CrossCompressUnit(d).double()
    torch.nn.init.normal_(unit.bias)
    item, entity = torch.randn(2, batch, d, dtype=torch.double)
    cross = item.unsqueeze(2) * entity.unsqueeze(1)
    w_vv, w_ve, w_ev, w_ee = unit.weight.t()
    found = unit(item, entity)
    expected = (
        cross @ w_vv + cross.transpose(1, 2) @ w_ev + unit.bias[0],
        cross @ w_ve + cross.transpose(1, 2) @ w_ee + unit.bias[1],
    )
    torch.testing.assert_close(found, expected)


def test_the_other_units_are_their_equations() -> None:
    torch.manual_seed(0)
    v, e, v_0, e_0 = torch.randn(4, 3, 5)
    dcn = CrossUnit(5)
    torch.nn.init.normal_(dcn.bias)
    found = dcn(v, e, v_0, e_0)
    torch.testing.assert_close(found[0], e_0 * (v @ dcn.weight[0])[:, None] + v + dcn.bias[0])
    torch.testing.assert_close(found[1], v_0 * (e @ dcn.weight[1])[:, None] + e + dcn.bias[1])
    stitch = CrossStitchUnit()
    (vv, ev), (ve, ee) = stitch.weight.tolist()
    found = stitch(v, e)
    torch.testing.assert_close(found[0], vv * v + ev * e)
    torch.testing.assert_close(found[1], ve * v + ee * e)


@pytest.mark.parametrize("unit", UNITS)
def test_gradients(unit: str) -> None:
    torch.manual_seed(0)
    stack = CrossUnits(3, 2, unit).double()
    item, entity = torch.randn(2, 4, 3, dtype=torch.double, requires_grad=True)
    row = torch.tensor([0, 0, 2, 3])
    names, weights = zip(*stack.named_parameters())

    def run(item: Tensor, entity: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        with torch.nn.utils.stateless._reparametrize_module(stack, dict(zip(names, weights))):
            return stack.items(item, entity, row), stack.entities(entity, item, row)

    assert torch.autograd.gradcheck(run, (item, entity, *weights))


@pytest.mark.parametrize("unit", UNITS)
def test_outputs_are_averaged_and_the_lonely_skip(unit: str) -> None:
    torch.manual_seed(0)
    stack = CrossUnits(4, 2, unit)
    item, entity = torch.randn(4, 4), torch.randn(3, 4)
    row, of = torch.tensor([0, 2, 2]), torch.tensor([1, 0, 2])
    out = stack.items(item, entity[of], row)
    torch.testing.assert_close(out[0], stack(item[:1], entity[1:2])[0][0])
    torch.testing.assert_close(
        out[2], (stack(item[2:3], entity[:1])[0] + stack(item[2:3], entity[2:])[0])[0] / 2
    )
    assert torch.equal(out[[1, 3]], item[[1, 3]])
    # The mean of the outputs, not the output of the mean.
    if unit == "cross_compress":
        mean = entity[[0, 2]].mean(0, keepdim=True)
        assert not torch.allclose(out[2], stack(item[2:3], mean)[0][0])
    both = stack.entities(entity, item[[0, 2, 2]], torch.tensor([0, 0, 1]))
    torch.testing.assert_close(both[1], stack(item[2:3], entity[1:2])[1][0])
    assert torch.equal(both[2], entity[2])
    assert torch.equal(stack.items(item, entity[:0], row[:0]), item)


@pytest.mark.parametrize("size", [16, 64])
def test_a_stack_starts_as_the_item(size: int) -> None:
    torch.manual_seed(0)
    item, noise = 0.1 * torch.nn.functional.normalize(torch.randn(2, 500, size), dim=-1)
    out = CrossUnits(size, 3)(item, size**-0.5 + noise)[0].detach()
    assert float(torch.nn.functional.cosine_similarity(out, item).median()) > 0.8


def test_memory_grows_with_the_channels_not_with_their_square() -> None:
    unit = CrossCompressUnit(64)
    item, entity = torch.randn(2, 4096, 64, requires_grad=True)
    most = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal most
            out = function(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(one, Tensor):
                    most = max(most, one.numel())
            return out

    with Watch():
        torch.cat(unit(item, entity)).sum().backward()
    assert 0 < most <= 2 * 4096 * 64  # the concatenation; C would be 32 times as many


def test_an_unknown_unit_and_no_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="unit is 'cross', expected 'cross_compress', 'dcn' or 'stitch'"):
        CrossUnits(4, 1, "cross")
    with pytest.raises(ValueError, match="num_layers is 0, expected at least 1"):
        CrossUnits(4, 0)
