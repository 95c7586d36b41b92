"""Operators of PyTorch (``torch.ops.pyg_kgrec.*``) whose kernels are the compiled forms of an operation.

An operator has shapes for tracing, derivatives and an autocast rule (float32), so that ``torch.compile``, autocast
and ``torch.library.opcheck`` work. Its kernel on the CPU is Numba's form, on a GPU Triton's, as far as the
operation offers them. An index comes as the flat list of its tensors. Users call the functions of
:mod:`pyg_kgrec.ops`, which check their input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_kgrec.ops import private
from pyg_kgrec.ops.dispatch import COMPILED, Operation, compiled_for, form


class Operator:
    """An operator, and its kernels themselves for calls that nothing but autograd looks at.

    The wrapping that tracing, autocast and dispatch modes need costs more than a small graph's kernel.

    Args:
        operation: Whose compiled forms the kernels are.
        name: Of the operator and of the functions that are its kernels.
        shapes: Gives what the operator returns, uninitialised; its signature is the operator's.

    Attributes:
        custom: The operator as :func:`torch.library.custom_op` makes it.
    """

    def __init__(self, operation: Operation, name: str, shapes: Callable[..., Any]) -> None:
        self.name, self.file = name, operation.file
        self._forms: dict[str, Callable[..., Any]] = {}
        self._gradient: Callable[..., tuple[Any, ...]] | None = None
        self._setup: Callable[..., None] | None = None
        self._direct: Any = type(name, (_Direct,), {})  # of that name, for profilers
        devices = [device for device, backend in COMPILED.items() if backend in operation.backends]
        self._kernels = {device: self._kernel_on(device) for device in devices}
        self.custom = torch.library.custom_op(
            f"pyg_kgrec::{name}",
            self._kernels[devices[0]],
            mutates_args=(),
            device_types=devices[0],
            schema=torch.library.infer_schema(shapes, mutates_args=()),
        )
        self.custom.register_fake(shapes)
        for device in devices[1:]:
            self.custom.register_kernel(device)(self._kernels[device])
        for device in devices:
            self.custom.register_autocast(device, torch.float32)

    def _kernel_on(self, device: str) -> Callable[..., Any]:
        """What runs on a device; tables reach it contiguous."""

        def kernel(*args: Any) -> Any:
            backend = compiled_for(device)
            if backend not in self._forms:
                self._forms[backend] = form(backend, self.file, self.name)
            return self._forms[backend](*(a.contiguous() if isinstance(a, Tensor) else a for a in args))

        return kernel

    def kernel(self, *args: Any) -> Any:
        """Call the kernel for the device of the first argument."""
        return self._kernels[args[0].device.type](*args)

    def register_autograd(self, gradient: Callable[..., tuple[Any, ...]], setup: Callable[..., None]) -> None:
        """Set the derivative of the operator and of its direct calls, as :mod:`torch.library` does."""
        self._setup, self._gradient = setup, gradient
        self.custom.register_autograd(gradient, setup_context=setup)

    def differentiated(self, ctx: Any, *args: Any) -> Any:
        """Call the kernel and keep in ``ctx`` what the derivative needs."""
        assert self._setup is not None
        output = self.kernel(*args)
        self._setup(ctx, args, output)
        return output

    def gradient(self, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients of a direct call's arguments."""
        assert self._gradient is not None
        return self._gradient(ctx, *grads)

    def __call__(self, *args: Any) -> Any:
        """Call the operator, past PyTorch's dispatcher where nothing but autograd looks at the call."""
        if not private.is_plain(args):
            return self.custom(*args)
        if self._gradient is None or not torch.is_grad_enabled():
            return self.kernel(*args)
        return self._direct.apply(self, *args)


class _Direct(torch.autograd.Function):
    """Derivative of an operator's direct call, the one that is registered for it."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, *args: Any) -> Any:
        ctx.operator = operator
        ctx.set_materialize_grads(False)
        return operator.differentiated(ctx, *args)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        if all(g is None for g in grads):
            return (None,) * len(ctx.needs_input_grad)
        found = ctx.operator.gradient(ctx, *grads)
        return (None, *(None if isinstance(g, list) else g for g in found))


def operator(operation: Operation, name: str | None = None) -> Callable[[Callable[..., Any]], Operator]:
    """Make an operator of the function that gives its shapes.

    Args:
        operation: Whose compiled forms the kernels are.
        name: Of the operator and of its kernels; by default the operation's.
    """
    return lambda shapes: Operator(operation, name or operation.name, shapes)
