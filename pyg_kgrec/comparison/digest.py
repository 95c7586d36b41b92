"""A sum of all that a value holds: what tells a row made with these settings from one made with others."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Set
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.data.data import BaseData

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
_DEEPEST = 100  # parts of parts: what is further within are objects of no setting


def digest(value: Any) -> str:
    """SHA-256 of a value's whole content, the same in every process.

    Tensors, arrays and tables count by their elements, modules by their weights and numbers, functions by their
    code and by what it uses of their defaults, closures and file, partials, containers and dataclasses by their
    parts, classes by their names, and everything else by its ``repr``.
    """
    return _Sums().of(value)


def without_addresses(value: Any) -> str:
    """The ``repr`` of a value without the addresses of objects, which are others in the next process."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


class _Sums:
    """Sums of values and of what they hold, each once: of one that holds itself the place where it stands."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.known: dict[int, tuple[Any, str]] = {}  # with the value, so that its id stays its own

    def of(self, value: Any) -> str:
        if id(value) in self.known:
            return self.known[id(value)][1]
        if id(value) in self.within:
            return f"part {self.within.index(id(value))}"
        if len(self.within) > _DEEPEST:
            return f"a {type(value).__qualname__}"
        self.within.append(id(value))
        out = hashlib.sha256()
        for part in _parts(value):
            content = part if isinstance(part, bytes) else self._part(part).encode(errors="surrogatepass")
            out.update(b"%d:" % len(content) + content)
        self.within.pop()
        self.known[id(value)] = value, out.hexdigest()
        return out.hexdigest()

    def _part(self, part: Any) -> str:
        if isinstance(part, _PLAIN):
            return f"{type(part).__name__} {part!r}"
        return " ".join(sorted(map(self.of, part.of))) if isinstance(part, _Unordered) else self.of(part)


@dataclasses.dataclass(frozen=True)
class _Unordered:
    """Values whose order says nothing."""

    of: list[Any]


def _parts(value: Any) -> Iterator[Any]:
    """What a value is: bytes, plain values, and values that have parts themselves."""
    if isinstance(value, _PLAIN):
        yield from (b"plain", value)
    elif isinstance(value, Tensor):
        yield from _of_tensor(value)
    elif isinstance(value, np.ndarray):
        yield from (b"array", str(value.dtype), str(value.shape))
        yield value.tolist() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Module):
        yield from _of_module(value)
    elif isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, CodeType):
        yield from (b"code", value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, MethodType):
        yield from (b"method", value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        yield from (b"partial", value.func, value.args, value.keywords)
    elif isinstance(value, type | BuiltinFunctionType):
        yield from (b"name", str(value.__module__), value.__qualname__)
    elif isinstance(value, Mapping):
        yield from (b"mapping", _Unordered(list(value.items())))
    elif isinstance(value, list | tuple):
        yield b"sequence"
        yield from value
    elif isinstance(value, Set):
        yield from (b"set", _Unordered(list(value)))
    elif isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        yield from _of_table(value)
    elif isinstance(value, BaseData):
        yield from (b"store", type(value), value.to_dict())
    elif dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        yield from (b"dataclass", type(value), {f.name: getattr(value, f.name) for f in fields})
    elif inspect.getattr_static(type(value), "__repr__") is object.__repr__ and hasattr(value, "__dict__"):
        yield from (b"object", type(value), vars(value))  # its repr says no more than an address
    else:
        yield from (b"other", type(value), without_addresses(value))


def _of_tensor(value: Tensor) -> Iterator[Any]:
    yield from (b"tensor", str(value.dtype), str(tuple(value.shape)), str(value.layout))
    if value.is_meta or value.is_quantized:
        return
    value = value.detach().cpu().resolve_conj().resolve_neg()
    if value.layout != torch.strided:
        value = value.to_sparse_coo().coalesce()
        yield from (value.indices(), value.values())
    else:
        yield value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _of_module(module: Module) -> Iterator[Any]:
    yield b"module"
    for name, one in module.named_modules():
        # Numbers such as the norm of a TransE stand in no repr; whether it trains says nothing of what it is.
        numbers = {n: x for n, x in vars(one).items() if isinstance(x, _PLAIN) and n != "training"}
        yield from (name, type(one), one.extra_repr(), numbers)
    yield from (dict(module.named_parameters()), dict(module.named_buffers()))


def _of_function(function: FunctionType) -> Iterator[Any]:
    yield from (b"function", function.__code__, function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that nothing was assigned to yet
            yield b"empty"
    used = {
        name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__
    }
    yield {
        name: x
        for name, x in used.items()
        if isinstance(x, (*_PLAIN, Tensor, np.ndarray, Module, functools.partial, list, tuple, Mapping, Set))
        or (isinstance(x, FunctionType) and x.__module__ == function.__module__)
    }


def _names(code: CodeType) -> set[str]:
    """Names that a function's code asks its file for, functions within it included."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _of_table(table: pd.DataFrame | pd.Series[Any] | pd.Index[Any]) -> Iterator[Any]:
    yield from (b"table", type(table))
    if isinstance(table, pd.Index):
        yield from (str(table.dtype), table.tolist())
    elif isinstance(table, pd.Series):
        yield from (str(table.dtype), table.index, table.tolist())
    else:
        yield from (table.index, table.columns, [table.iloc[:, i] for i in range(table.shape[1])])
