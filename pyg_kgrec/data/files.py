"""One store in one file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._files import kind_of, pack, read_packed, replace_file, shown
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import validate

_KIND: Final = "store"
_PLAIN: Final = (str, int, float, bool, type(None))
_DEPTH: Final = 20  # of lists and dictionaries in each other


def save_store(data: HeteroData, path: str | PathLike[str]) -> None:
    """Keeps a store, whole or a part of a split, in one file.

    The file is written whole or not at all, and :func:`load_store` reads it without running anything that stands in
    it, after it has checked every byte, which ``torch.save`` and ``torch.load`` of a
    :class:`~torch_geometric.data.HeteroData` do not offer: those make and read pickles. Every attribute of the
    store is kept that is a dense tensor, number, string, or a list, tuple or dictionary of such. Tensors are kept
    without their gradients and as on the CPU.

    Args:
        data: A store, which is validated first.
        path: The file; one that is there is replaced.

    Raises:
        TypeError: If ``data`` is no store, ``path`` no path, or an attribute is something that a file cannot hold.
        ValueError: If the store is not valid, or ``path`` is a folder.
        FileNotFoundError: If the folder is missing.
        OSError: If the file cannot be written.
    """
    validate(data)
    file = _as_path(path)
    replace_file(file, pack(store_state(data), _KIND))


def load_store(path: str | PathLike[str]) -> HeteroData:
    """Reads what :func:`save_store` kept. Nothing in the file is run.

    Args:
        path: The file.

    Returns:
        The store, on the CPU; its ids and names are :class:`~pyg_kgrec.data.Labels`.

    Raises:
        TypeError: If ``path`` is no path.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, cut, of another kind, or holds no valid store.
    """
    file = _as_path(path)
    return store_from_state(read_packed(file, _KIND), shown(file))


def store_state(data: HeteroData) -> dict[str, Any]:
    """All attributes of a valid store as dictionaries, lists, tensors, numbers and strings.

    Raises:
        TypeError: If an attribute is something else.
    """

    def kept(values: Any, where: str) -> dict[str, Any]:
        return {key: _plain(values[key], f"{where}.{shown(key, 40)}", _DEPTH) for key in values.keys()}  # noqa: SIM118

    return {
        "graph": kept(data._global_store, "data"),
        "nodes": {kind: kept(data[kind], f"data[{shown(kind, 40)!r}]") for kind in data.node_types},
        "edges": [
            [list(kind), kept(data[kind], f"data[{', '.join(shown(part, 30) for part in kind)}]")]
            for kind in data.edge_types
        ],
    }


def store_from_state(state: Any, where: str) -> HeteroData:
    """The inverse of :func:`store_state`, validated.

    Args:
        state: What that function returned, or what somebody else put into a file.
        where: Where it comes from, for messages.

    Raises:
        ValueError: If it is not the state of a valid store.
    """
    data = HeteroData()
    try:
        if not isinstance(state, dict) or set(state) != {"graph", "nodes", "edges"}:
            raise ValueError("expected the parts 'graph', 'nodes' and 'edges'")
        for key, value in _attributes(state["graph"]):
            data._global_store[key] = value
        for kind, values in _attributes(state["nodes"]):
            for key, value in _attributes(values):
                data[kind][key] = value
        for kind, values in state["edges"]:
            if not isinstance(kind, list) or len(kind) != 3 or not all(type(part) is str for part in kind):
                raise ValueError("expected an edge type of three strings")
            for key, value in _attributes(values):
                data[kind[0], kind[1], kind[2]][key] = value
        data = indexable(data)
        validate(data)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"{where} holds no valid store: {shown(str(error), 250)}") from error
    return data


def _attributes(values: Any) -> list[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise ValueError("expected dictionaries of attributes")
    for key, value in values.items():
        # Names with an underscore are the storage's own, and not part of what it stores.
        if type(key) is not str or not key or key.startswith("_"):
            raise ValueError("expected attributes with names")
        if not isinstance(value, dict):
            _plain(value, shown(key, 40), _DEPTH)
    return list(values.items())


def _plain(value: Any, where: str, depth: int) -> Any:
    """A value as a file can hold it."""
    if (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_quantized or value.is_meta or value.is_nested)
        # A tensor that repeats a few numbers without memory of its own would be larger than the computer.
        and value.numel() * value.element_size() <= max(value.untyped_storage().nbytes(), 2**30)
    ):
        dense = value.detach().cpu().as_subclass(Tensor).contiguous()
        # A view would take what it is a view of with it.
        return dense.clone() if dense.untyped_storage().nbytes() > dense.nbytes else dense
    if type(value) in _PLAIN:
        return value
    if depth and isinstance(value, list | tuple):
        parts = [_plain(part, where, depth - 1) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if depth and isinstance(value, dict) and all(type(key) in _PLAIN for key in value):
        return {key: _plain(part, where, depth - 1) for key, part in value.items()}
    raise TypeError(
        f"{where} holds {kind_of(value)}, which a file cannot keep: expected dense tensors, numbers, "
        f"strings, "
        f"and lists, tuples or dictionaries of them, at most {_DEPTH} in each other."
    )


def _as_path(path: Any) -> Path:
    if not isinstance(path, str | PathLike):
        raise TypeError(f"path is {kind_of(path)}, expected the path of a file.")
    return Path(path)
