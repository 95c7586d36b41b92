"""What every operation checks of its arguments, and the dtype that it computes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, cast

import torch
from torch import Tensor

from pyg_kgrec._files import kind_of
from pyg_kgrec.ops.dispatch import interpreting
from pyg_kgrec.ops.index import BipartiteIndex, Segments, TripleIndex, WildIndexError

Tables = TypeVarTuple("Tables")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
HALF = (torch.float16, torch.bfloat16)


_KINDS: dict[str, tuple[type, ...]] = {
    "Tensor": (Tensor,),
    "TripleIndex": (TripleIndex,),
    "BipartiteIndex": (BipartiteIndex,),
    "Segments": (Segments,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}


def _check_kinds(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises TypeError if an argument is of another kind than its annotation says, or no plain tensor."""
    given = signature(function).bind(*args, **kwargs).arguments
    for name, value in given.items():
        kinds = [kind.strip() for kind in str(function.__annotations__.get(name, "")).split("|")]
        if all(kind in _KINDS for kind in kinds):
            expected = tuple(kind for each in kinds for kind in _KINDS[each])
            if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
                raise TypeError(f"{name} is {kind_of(value)}, expected {' or '.join(kinds)}")
        if isinstance(value, Tensor) and (
            value.layout != torch.strided or value.is_meta or value.is_nested or value.is_quantized
        ):
            raise TypeError(f"{name} is a sparse, nested, quantised or meta tensor, expected a plain one")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} is a number of more than 64 bits")


def guarded(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """An operation that says in one sentence that an argument is of the wrong kind or an index cannot be followed.

    In every backend, and without a look at the arguments of calls that succeed.
    """

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (WildIndexError, ImportError):
            raise
        except Exception as error:
            if (
                isinstance(error, ValueError | TypeError)
                and "\n" not in str(error)
                and len(str(error)) <= 400
            ):
                raise
            try:
                _check_kinds(function, args, kwargs)
            except (TypeError, ValueError) as wrong:
                raise wrong from error
            for given in (*args, *kwargs.values()):
                if isinstance(given, TripleIndex | BipartiteIndex | Segments):
                    try:
                        given.check_sound()
                    except WildIndexError as wild:
                        raise wild from error
            if isinstance(error, IndexError):
                raise WildIndexError(
                    "an index points outside the tables given to this operation, expected one row for each"
                ) from error
            raise

    return call


def check_floating(**tensors: Tensor) -> None:
    """Refuse tables of different or unsupported dtypes.

    Raises:
        TypeError: Not float32 or float64 (on a GPU also float16 and bfloat16), or not all the same.
    """
    first_name, first = next(iter(tensors.items()))
    allowed = [torch.float32, torch.float64]
    if first.device.type != "cpu" or interpreting() or torch.is_autocast_enabled(first.device.type):
        allowed += HALF
    for name, tensor in tensors.items():
        if tensor.dtype not in allowed:
            expected = ", ".join(str(d) for d in allowed)
            raise TypeError(f"{name} is {tensor.dtype} on {tensor.device.type}, expected one of {expected}")
        if tensor.dtype != first.dtype and not torch.is_autocast_enabled(first.device.type):
            raise TypeError(f"{name} is {tensor.dtype} but {first_name} is {first.dtype}: expected the same")


def check_same_device(tensors: Sequence[tuple[str, Tensor | None]]) -> torch.device:
    """The one device that all tensors are on.

    Raises:
        ValueError: They are on different devices.
    """
    present = [(name, t) for name, t in tensors if t is not None]
    name, first = present[0]
    for other, t in present[1:]:
        if t.device != first.device:
            raise ValueError(f"{other} is on {t.device} but {name} on {first.device}: expected one device")
    return first.device


def check_table(name: str, table: Tensor, rows: int, row: str) -> None:
    """Refuse a table that is not [rows, channels], one row per ``row``.

    Raises:
        ValueError: It has another shape.
    """
    if table.dim() != 2 or table.size(0) != rows:
        raise ValueError(
            f"{name} has shape {tuple(table.shape)}, expected ({rows}, channels): one row per {row}"
        )


def check_triples(index: TripleIndex, keep: Tensor | None, num_heads: int, **tables: Tensor) -> None:
    """Refuse tables, a mask or a number of heads that do not fit the triples, and an index that was changed.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or channels that cannot be split into the heads.
        RuntimeError: The index was changed in place after it was built.
    """
    check_same_device([*tables.items(), ("index", index.tail), ("keep", keep)])
    check_floating(**tables)
    width = next(iter(tables.values())).size(-1)
    for name, table in tables.items():
        if name == "relation":
            check_table(name, table, index.num_relations, "relation")
        else:
            check_table(name, table, index.num_inputs, "input row of the index")
        if table.size(1) != width:
            raise ValueError(f"{name} has {table.size(1)} channels, expected {width} as the first table has")
    if keep is not None:
        if keep.dtype != torch.bool:
            raise TypeError(f"keep is {keep.dtype}, expected torch.bool")
        if keep.shape != (index.num_edges,):
            raise ValueError(
                f"keep has shape {tuple(keep.shape)}, expected ({index.num_edges},): one entry per triple"
            )
    if num_heads < 1 or width % num_heads or not width:
        raise ValueError(f"{width} channels cannot be split into {num_heads} heads")
    index.check_unchanged()


def full_precision(*tables: *Tables) -> tuple[*Tables]:
    """Under autocast, forms composed of PyTorch's operations compute in float32, as the kernels do."""
    given = cast("tuple[Tensor, ...]", tables)
    if not torch.is_autocast_enabled(given[0].device.type):
        return tables
    return cast("tuple[*Tables]", tuple(map(accumulated, given)))


def accumulated(x: Tensor) -> Tensor:
    """A table in the dtype in which its rows are added up: float32 for half precision."""
    return x.float() if x.dtype in HALF else x


def accumulated_dtype(x: Tensor) -> torch.dtype:
    """The dtype of :func:`accumulated`."""
    return torch.float32 if x.dtype in HALF else x.dtype
