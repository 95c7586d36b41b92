"""Raw ids on one side, indices on the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

RawId = str | int
RawIds = Sequence[RawId] | pd.Series | pd.Index


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
            raise ValueError(f"The {what} ids hold {twice!r} more than once, expected each id once.")

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
        named = ", ".join(map(repr, unknown[:3])) + (", …" if len(unknown) > 3 else "")
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


def as_index(nodes: Any, vocabulary: Vocabulary | None, num_nodes: int, what: str) -> Tensor:
    """Turns what a caller passed for some nodes into indices.

    A tensor or NumPy array is indices; a list, tuple or :class:`pandas.Series` is raw ids, and so is a single
    ``str`` or ``int``.

    Args:
        nodes: The indices (0-D or 1-D, any integer dtype) or raw ids.
        vocabulary: The raw ids of the store, or :obj:`None` if the store has none.
        num_nodes: The number of nodes of this type.
        what: What the nodes are (``'user'``, ``'item'``, ...), as error messages should call them.

    Returns:
        An int64 tensor [n], on the device of ``nodes`` if that is a tensor.

    Raises:
        TypeError: If ``nodes`` is of another type, or holds floats, bools or missing values.
        ValueError: If an index is out of range, a raw id is unknown, or the store has no raw ids.
    """
    if isinstance(nodes, np.ndarray):
        if nodes.dtype.kind not in "iu":
            raise TypeError(
                f"The {what}s are an array of dtype {nodes.dtype}, expected integer indices "
                "(raw ids go in as a list: call .tolist())."
            )
        nodes = torch.from_numpy(nodes.astype(np.int64))
    if isinstance(nodes, Tensor):
        return _checked_index(nodes, num_nodes, what)
    if isinstance(nodes, str | int):
        nodes = [nodes]
    if not isinstance(nodes, list | tuple | range | pd.Series | pd.Index):
        raise TypeError(
            f"The {what}s are a {type(nodes).__name__}, expected a tensor of indices or a list of raw ids."
        )
    if vocabulary is None:
        raise ValueError(
            f"A list holds raw {what} ids but this store has none: "
            f"pass a tensor of indices, or build the store with data[{what!r}].id."
        )
    return vocabulary.index(nodes)


def _checked_index(index: Tensor, num_nodes: int, what: str) -> Tensor:
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        dtype = str(index.dtype).removeprefix("torch.")
        raise TypeError(f"The {what}s are a {dtype} tensor, expected integer indices.")
    if index.dim() > 1:
        raise ValueError(f"The {what}s have the shape {list(index.shape)}, expected one dimension.")
    index = index.reshape(-1).long()
    wrong = index[(index < 0) | (index >= num_nodes)]
    if wrong.numel():
        raise ValueError(f"{what} index {int(wrong[0])} is out of range, expected 0..{num_nodes - 1}.")
    return index


def _as_list(ids: Any, what: str) -> list[RawId]:
    """Raw ids as a list of ``str`` or of ``int``."""
    if isinstance(ids, str | bytes):
        raise TypeError(f"The {what} ids are a single {type(ids).__name__}, expected a list of raw ids.")
    raw: list[Any] = ids.tolist() if isinstance(ids, pd.Series | pd.Index | np.ndarray) else list(ids)
    kinds = set(map(type, raw))
    if kinds <= {str} or kinds <= {int}:
        return raw
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        return [int(i) for i in raw]
    if all(issubclass(kind, str) for kind in kinds):
        return [str(i) for i in raw]
    found = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"The {what} ids hold {found}, expected raw ids that are all str or all int.")
