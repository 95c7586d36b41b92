"""Raw ids on one side, indices on the other."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence, ValuesView
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_kgrec._files import kind_of
from pyg_kgrec.data.text import warn_caller

RawId = str | int
RawIds = Sequence[RawId] | pd.Series | pd.Index | pd.api.extensions.ExtensionArray


class Vocabulary:
    """Translates between the raw ids of one node type and their indices.

    The index of a raw id is its position in ``ids``.

    Args:
        ids: The raw ids, all ``str`` or all ``int``, each once.
        what: What the ids stand for, as error messages should call it.

    Raises:
        TypeError: If ``ids`` mixes types, or holds anything but ``str`` or ``int``.
        ValueError: If an id stands in ``ids`` twice.
    """

    def __init__(self, ids: RawIds, what: str = "user") -> None:
        self.ids: list[RawId] = _as_list(ids, what)
        self.what = what
        self._position = {raw: index for index, raw in enumerate(self.ids)}
        if len(self._position) != len(self.ids):
            twice = next(raw for index, raw in enumerate(self.ids) if self._position[raw] != index)
            raise ValueError(f"The {what} ids hold {_shown(twice)} more than once, expected each id once.")

    @property
    def positions(self) -> Mapping[RawId, int]:
        """The index of every raw id, for lookups one by one."""
        return MappingProxyType(self._position)

    def lookup(self, ids: RawIds) -> Tensor:
        """The indices of raw ids, -1 where an id is unknown.

        Args:
            ids: n raw ids. They may repeat.

        Returns:
            An int64 tensor [n].

        Raises:
            TypeError: If an id is neither ``str`` nor ``int``, or if the ids mix the two.
        """
        return self._lookup(_as_list(ids, self.what))

    def index(self, ids: RawIds) -> Tensor:
        """The indices of raw ids that must all be known.

        Args:
            ids: n raw ids. They may repeat.

        Returns:
            An int64 tensor [n].

        Raises:
            TypeError: If an id is neither ``str`` nor ``int``, or if the ids mix the two.
            ValueError: If ids are unknown; the message names up to three of them and how many there are.
        """
        raw = _as_list(ids, self.what)
        index = self._lookup(raw)
        if (index < 0).any():
            unknown = list(dict.fromkeys(raw[i] for i in (index < 0).nonzero().flatten().tolist()))
            raise ValueError(self._complaint(unknown))
        return index

    def to_raw(self, index: Tensor) -> list[RawId]:
        """The raw ids of an integer tensor of indices, flattened."""
        return [self.ids[i] for i in index.flatten().tolist()]

    def _lookup(self, raw: list[RawId]) -> Tensor:
        return torch.tensor([self._position.get(i, -1) for i in raw], dtype=torch.long)

    def _complaint(self, unknown: list[RawId]) -> str:
        named = ", ".join(_shown(raw) for raw in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        noun = "id is" if len(unknown) == 1 else "ids are"
        hint = ""
        if self.ids and type(self.ids[0]) is not type(unknown[0]):
            hint = f"; the known ids are {type(self.ids[0]).__name__}, these are {type(unknown[0]).__name__}"
        return f"{len(unknown)} {self.what} {noun} unknown ({named}), expected ids of the store{hint}."

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, raw: object) -> bool:
        return isinstance(raw, str | int) and raw in self._position

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({len(self)} {self.what} ids)"


def as_ids(nodes: Any) -> list[RawId]:
    """Marks what is passed for users, items or entities as raw ids.

    ``model.recommend(data, as_ids(df.user_id.unique()))`` is for the users of these ids. Wherever nodes are asked
    for, a NumPy array or tensor of integers is positions in the store, and everything else is raw ids. An array of
    integer ids, as pandas' ``unique()`` and ``.values`` give it, is therefore to be marked.

    Args:
        nodes: Raw ids: a list, tuple, range, set, dictionary view, Series, Index, pandas array, NumPy array or
            tensor of one dimension, or a single id. The ids of a set come in ascending order.

    Returns:
        The ids as a list, all ``str`` or all ``int``.

    Raises:
        TypeError: If the ids are floats, bools, missing, of mixed types, or no collection.
        ValueError: If an array has more than one dimension.
    """
    if isinstance(nodes, Tensor):
        nodes = nodes.detach().cpu().numpy()
    if isinstance(nodes, np.ndarray):
        if nodes.ndim > 1:
            raise ValueError(f"The ids have the shape {list(nodes.shape)}, expected one dimension.")
        return _as_list(nodes.reshape(-1), "node")
    raw = _collection(nodes)
    if raw is None:
        raise TypeError(f"The ids are {kind_of(nodes)}, expected a list, Series or array of raw ids.")
    return _as_list(raw, "node")


@overload
def as_index(nodes: Any, *, what: str = ...) -> Tensor: ...
@overload
def as_index(nodes: Any, vocabulary: Vocabulary | None, num_nodes: int, what: str) -> Tensor: ...
def as_index(
    nodes: Any, vocabulary: Vocabulary | None = None, num_nodes: int | None = None, what: str = "node"
) -> Tensor:
    """Turns what a caller passed for some nodes into indices; alone, says that numbers are indices.

    A tensor or NumPy array of integers is indices (positions in the store). Everything else is raw ids: a list,
    tuple, range, :class:`pandas.Series`, :class:`pandas.Index`, pandas array, NumPy array of strings, the views of
    a dictionary, and a single ``str`` or ``int`` (also NumPy's). A set is raw ids in ascending order, because it
    has no order of its own. :func:`as_ids` turns an array of integer ids into raw ids, and ``as_index(numbers)``,
    with nothing besides, a list or Series of positions into indices.

    Where a NumPy array could as well be raw ids (every entry is one, and it would mean other nodes), a warning
    says how it was read; tensors, which come from this package or from ``as_index``, are taken at their word.

    Args:
        nodes: The indices (0-D or 1-D, any integer dtype) or raw ids.
        vocabulary: The raw ids of the store, or :obj:`None` if the store has none.
        num_nodes: The number of nodes of this type; without it, ``nodes`` are indices whatever they stand in.
        what: What the nodes are (``'user'``, ``'item'``, ...), as error messages should call them.

    Returns:
        An int64 tensor [n], on the device of ``nodes`` if that is a tensor.

    Raises:
        TypeError: If ``nodes`` is of another type, or holds floats, bools or missing values.
        ValueError: If an index is out of range, a raw id is unknown, or the store has no raw ids.
    """
    if num_nodes is None:
        return _positions(nodes, what)
    if isinstance(nodes, np.ndarray) and nodes.dtype.kind in "iu":
        index = _checked_index(torch.from_numpy(nodes.astype(np.int64)), vocabulary, num_nodes, what)
        _warn_of_ids(index, vocabulary, what)
        return index
    if isinstance(nodes, Tensor):
        return _checked_index(nodes, vocabulary, num_nodes, what)
    raw = _collection(nodes)
    if raw is None:
        raise TypeError(
            f"The {what}s are {kind_of(nodes)}, expected a tensor of indices or a list of raw ids."
        )
    if isinstance(nodes, np.ndarray) and nodes.dtype.kind not in "OUT":
        raise TypeError(
            f"The {what}s are an array of dtype {nodes.dtype}, expected integer indices "
            "(raw ids go in as a list: call .tolist())."
        )
    if vocabulary is None:
        raise ValueError(
            f"A list holds raw {what} ids but this store has none: "
            f"pass a tensor of indices, or build the store with data[{what!r}].id."
        )
    return vocabulary.index(raw)


def is_collection(nodes: Any) -> bool:
    """Whether this is something that raw ids come in: no tensor, no single id."""
    return not isinstance(nodes, Tensor | str | int | np.generic) and _collection(nodes) is not None


def _collection(nodes: Any) -> Any:
    """What raw ids stand in, in an order; None for anything else."""
    if isinstance(nodes, str | int | np.integer):  # np.str_ is a str
        return [nodes]
    if isinstance(nodes, set | frozenset):
        try:
            return sorted(nodes)
        except TypeError:  # of mixed types, which is said where they are looked at
            return list(nodes)
    if isinstance(nodes, KeysView | ValuesView):
        return list(nodes)
    if isinstance(nodes, np.ndarray):
        return nodes.reshape(-1) if nodes.ndim < 2 else None
    kinds = list | tuple | range | pd.Series | pd.Index | pd.api.extensions.ExtensionArray
    return nodes if isinstance(nodes, kinds) else None


def _positions(nodes: Any, what: str) -> Tensor:
    if isinstance(nodes, Tensor):
        index = nodes
    else:
        raw = _collection(nodes)
        if raw is None:
            raise TypeError(f"The indices are {kind_of(nodes)}, expected integers in a list or an array.")
        numbers = _as_list(raw, what)
        if numbers and isinstance(numbers[0], str):
            raise TypeError("The indices are str, expected integers.")
        index = torch.tensor(numbers, dtype=torch.long)
    return _checked_index(index, None, None, what)


def _warn_of_ids(index: Tensor, vocabulary: Vocabulary | None, what: str) -> None:
    numbers = index.tolist()
    if vocabulary is None or not numbers or type(next(iter(vocabulary.ids), "")) is not int:
        return
    if all(i in vocabulary for i in numbers) and any(vocabulary.ids[i] != i for i in numbers):
        warn_caller(
            f"The {what}s are an array of integers and read as positions, though each is a known raw {what} id as "
            f"well: the first, {numbers[0]}, is read as {what} {vocabulary.ids[numbers[0]]!r}. Pass as_ids(…) of "
            "pyg_kgrec.data for raw ids, as_index(…) for positions."
        )


def _checked_index(index: Tensor, vocabulary: Vocabulary | None, num_nodes: int | None, what: str) -> Tensor:
    if index.is_meta or index.is_nested or index.layout != torch.strided:
        raise TypeError(f"The {what}s are no dense tensor with values, expected integer indices.")
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        dtype = str(index.dtype).removeprefix("torch.")
        raise TypeError(f"The {what}s are a {dtype} tensor, expected integer indices.")
    if index.dim() > 1:
        raise ValueError(f"The {what}s have the shape {list(index.shape)}, expected one dimension.")
    index = index.reshape(-1).long()
    wrong = index[index < 0] if num_nodes is None else index[(index < 0) | (index >= num_nodes)]
    if wrong.numel():
        first = int(wrong[0])
        if num_nodes is None:
            raise ValueError(f"{what} index {first} is out of range, expected 0 or more.")
        hint = (
            f"; {first} is a raw {what} id: pass raw ids as a list, or as_ids(…) of pyg_kgrec.data"
            if vocabulary is not None and first in vocabulary
            else ""
        )
        raise ValueError(f"{what} index {first} is out of range, expected 0..{num_nodes - 1}{hint}.")
    return index


def _shown(raw: RawId) -> str:
    """An id as a message quotes it."""
    text = repr(raw) if isinstance(raw, str) or abs(raw) < 10**30 else f"a number of {raw.bit_length()} bits"
    return text if len(text) <= 50 else f"{text[:48]}…{text[-1]}"


def _as_list(ids: Any, what: str) -> list[RawId]:
    """Raw ids as a list of ``str`` or of ``int``."""
    if isinstance(ids, str | bytes):
        raise TypeError(f"The {what} ids are a single {type(ids).__name__}, expected a list of raw ids.")
    if isinstance(ids, pd.Series | pd.Index | np.ndarray):
        raw: list[Any] = ids.tolist()
    else:
        raw = list(ids)
    kinds = set(map(type, raw))
    if kinds <= {str} or kinds <= {int}:
        return raw
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        return [int(i) for i in raw]
    if all(issubclass(kind, str) for kind in kinds):
        return [str.__str__(i) for i in raw]  # what it holds: str() of a member of an enumeration is its name
    found = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"The {what} ids hold {found}, expected raw ids that are all str or all int.")
