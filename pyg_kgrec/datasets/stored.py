"""What a processed store is kept as, and what it depends on: nothing here makes or reads a pickle of an object."""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

import pyg_kgrec.data

_PLAIN = (str, int, float, bool, type(None))
_DEPTH = 20  # transforms stand in each other, rarely deeper than two


def to_plain(data: HeteroData) -> dict[Any, Any]:
    """A store as dictionaries, lists, tensors, numbers and strings; lists of labels of any class become lists.

    Raises:
        TypeError: If the store holds something else.
    """
    return {
        key: {name: _plain(value, f"{key!r} has {name}") for name, value in values.items()}
        for key, values in data.to_dict().items()
    }


def from_plain(content: Any) -> HeteroData:
    """The inverse of :func:`to_plain`.

    Raises:
        ValueError: If the content is not that of a store.
    """
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise ValueError("expected a dictionary of dictionaries")
    for key in content:
        if not (isinstance(key, str) or (isinstance(key, tuple) and list(map(type, key)) == [str] * 3)):
            raise ValueError("expected node types, edge types and _global_store")
    return HeteroData.from_dict(content)


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if isinstance(value, Tensor) and _has_memory(value):
        return value.detach().cpu().contiguous()
    if type(value) in _PLAIN:
        return value
    if depth < _DEPTH and isinstance(value, Mapping):
        return {name: _plain(part, where, depth + 1) for name, part in value.items()}
    if depth < _DEPTH and isinstance(value, tuple):
        return tuple(_plain(part, where, depth + 1) for part in value)
    if depth < _DEPTH and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part, where, depth + 1) for part in value]
    raise TypeError(f"{where} of type {type(value).__name__}, which a file cannot hold")


def _has_memory(value: Tensor) -> bool:
    """Whether a tensor is a plain one that is no larger in a file than it is here."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
        return False
    return value.numel() * value.element_size() <= max(value.untyped_storage().nbytes(), 2**20)


@cache
def code_digest() -> str:
    """A sum over the code that makes stores of files."""
    digest = hashlib.sha256()
    for folder in (Path(pyg_kgrec.data.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def described(value: Any) -> str:
    """A sum over what a transform is: its class, its arguments, the code of its functions and what that names.

    Of the module of a function those functions and constants (numbers, strings, tuples) take part that its code
    names, and what these name in turn. Other modules, lists and dictionaries of the module, classes that are made
    and methods besides ``forward`` and ``__call__`` do not: after a change of those ask for ``force_reload``.

    Addresses in memory take no part, so that the same transform has the same sum in the next process; objects that
    show neither arguments nor code are told apart by their class alone.
    """
    digest = hashlib.sha256()
    for part in _parts(value, set(), 0):
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _parts(value: Any, known: set[int], depth: int) -> list[str | bytes]:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if type(value) in _PLAIN or isinstance(value, bytes):
        return [name, repr(value)]
    if id(value) in known or depth > _DEPTH:
        return [name]
    known = known | {id(value)}

    def of(*parts: Any) -> list[str | bytes]:
        return [name, *(piece for part in parts for piece in _parts(part, known, depth + 1))]

    if isinstance(value, Tensor):
        return [
            *of(list(value.shape), str(value.dtype)),
            value.detach().cpu().contiguous().view(-1).numpy().tobytes(),
        ]
    if isinstance(value, np.ndarray):
        return [*of(list(value.shape), str(value.dtype)), value.tobytes()]
    if isinstance(value, Mapping):
        return of(*(part for item in value.items() for part in item))
    if isinstance(value, set | frozenset):
        return of(*sorted(map(repr, value)))
    if isinstance(value, list | tuple):
        return of(*value)
    if isinstance(value, partial):
        return of(value.func, value.args, value.keywords)
    if isinstance(value, types.MethodType):
        return of(value.__func__, value.__self__)
    if isinstance(value, types.CodeType):
        return [*of(value.co_names, value.co_consts), value.co_code]
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return of(
            value.__module__,
            value.__qualname__,
            value.__code__,
            value.__defaults__,
            value.__kwdefaults__,
            cells,
            *_named(value),
        )
    if isinstance(value, type):
        return of(value.__module__, value.__qualname__)
    calls = [vars(kind).get(name) for kind in type(value).__mro__ for name in ("forward", "__call__")]
    functions = [call for call in calls if isinstance(call, types.FunctionType)]
    code = [(call.__code__, *_named(call)) for call in functions]
    shown = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)) if depth == 0 else ""
    return of(shown, code, getattr(value, "__dict__", {}))


def _named(function: types.FunctionType) -> list[Any]:
    """Names and contents of the functions and constants of its module that a function names, at any depth.

    Each stands here once, and functions by their code and defaults, so that those that name each other end.
    """
    held, seen = function.__globals__, {function.__name__}
    found: list[Any] = []
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        for name in code.co_names:
            value = held.get(name)
            if name in seen or name not in held or name.startswith("__"):
                continue
            seen.add(name)
            if isinstance(value, types.FunctionType) and value.__globals__ is held:
                found += [name, value.__code__, value.__defaults__, value.__kwdefaults__]
                waiting.append(value.__code__)
            elif type(value) in _PLAIN or isinstance(value, bytes | tuple | frozenset):
                found += [name, value]
    return found


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None
