"""What depends on a store alone is computed once and kept beside it, never inside it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch_geometric.data import HeteroData

T = TypeVar("T")

_Entry = tuple[list[tuple[Any, int]], Any]
# A HeteroData has no hash; its address serves while it lives, and its entries go when it does.
_cache: dict[int, dict[Hashable, _Entry]] = {}


def cached(
    data: HeteroData,
    key: Hashable,
    inputs: Sequence[Any],
    build: Callable[[], T],
    owner: object | None = None,
) -> T:
    """Returns ``build()``, computed once for a store and again when what it was computed from has changed.

    An entry is valid while every object in ``inputs`` is the very same object and, for tensors, has not been
    written to in place (PyTorch's version counter); it is dropped with the store. The entry keeps its inputs
    alive, so that an address cannot be reused by another tensor.

    Args:
        data: The store that the value belongs to.
        key: What is computed, for example ``('collaborative', inverse)``.
        inputs: The tensors and lists of the store that the value is computed from.
        build: Computes the value.
        owner: Whom the value is for besides the store: values of different owners stand side by side, and go with
            their owner.
    """
    stamp = [(value, value._version if isinstance(value, torch.Tensor) else 0) for value in inputs]
    if id(data) not in _cache:
        _cache[id(data)] = {}
        weakref.finalize(data, _cache.pop, id(data), None)
    entries = _cache[id(data)]
    if owner is not None:
        key = (id(owner), key)
        if key not in entries:
            weakref.finalize(owner, _forget, id(data), key)
    found = entries.get(key)
    if found is not None and _same(found[0], stamp):
        value: T = found[1]
        return value
    value = build()
    entries[key] = (stamp, value)
    return value


def node_features(
    data: HeteroData, node_type: str, device: torch.device, node: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Features ``x`` of some nodes (all if None), moved to a device once for the store; None without any."""
    x: torch.Tensor | None = data[node_type].get("x") if node_type in data.node_types else None
    if x is None:
        return None
    if x.device != device:
        here = x
        x = cached(data, ("features", node_type, device), [here], lambda: here.to(device))
    return x if node is None else x[node]


def _forget(data_id: int, key: Hashable) -> None:
    # By address: holding the entries here would keep the store's graph alive as long as its owner.
    _cache.get(data_id, {}).pop(key, None)


def _same(old: list[tuple[Any, int]], new: list[tuple[Any, int]]) -> bool:
    return len(old) == len(new) and all(
        (a is b or (isinstance(a, int) and a == b)) and v == w for (a, v), (b, w) in zip(old, new)
    )
