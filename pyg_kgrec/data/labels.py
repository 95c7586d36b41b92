"""Raw ids, names and held-out pairs in a form that PyG's own functions can select from and renumber."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Final, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage, NodeStorage
from torch_geometric.data.view import ItemsView, ValuesView
from torch_geometric.typing import TensorFrame
from torch_geometric.utils import scatter, select

from pyg_kgrec._files import kind_of

_INDEX: Final = "_index"
_EDGE_INDEX: Final = "edge_index"
_EDGE_ATTR: Final = "edge_attr"
_EDGE_TYPE: Final = "edge_type"
_HALF: Final = object()
"""Of a node type some of whose labels are those of selected nodes, and some those of all."""


def is_pair_index(key: str, value: Any) -> bool:
    """Whether an attribute of edges holds pairs of nodes: ``edge_index``, or another ``…_index`` ``[2, m]``."""
    if key == _EDGE_INDEX:
        return True
    return key.endswith(_INDEX) and isinstance(value, Tensor) and value.dim() == 2 and value.size(0) == 2


def row_columns(store: EdgeStorage, number: int) -> dict[str, Tensor]:
    """The tensors with one entry for each of ``number`` edges, whatever their names; pairs of nodes are none."""
    return {
        key: value
        for key, value in store.items()
        if isinstance(value, Tensor)
        and value.dim()
        and value.size(0) == number
        and not is_pair_index(key, value)
    }


class Labels(list[Any]):
    """One label per node (raw ids, or readable names): a list that can be indexed with tensors and arrays, too.

    An integer gives one label and a slice a plain list, as in any list. A tensor or array ``[m]`` of integers, or a
    mask ``[n]`` of bools, gives the :class:`Labels` of these nodes, in their order; they know which nodes of which
    labels they are, by which a store renumbers the pairs that it holds out (see :func:`indexable`).
    """

    def __init__(self, labels: Iterable[Any] = ()) -> None:
        super().__init__(labels)
        self._key: object = object()
        # Which rows of which labels these are, and which of which those were.
        self._origin: tuple[object, Tensor, Any] | None = None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Tensor | np.ndarray) and (index.ndim or index.dtype in (bool, torch.bool)):
            row = self._rows(index)
            out = Labels([list.__getitem__(self, i) for i in row.tolist()])
            out._origin = (self._key, row, self._origin)
            return out
        return super().__getitem__(index)

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        super().__setitem__(index, value)

    def _rows(self, index: Any) -> Tensor:
        """Indices or a mask as indices ``[m]`` int64 on the CPU, none of them negative."""
        index = torch.as_tensor(index).detach().cpu()
        if index.dim() != 1:
            raise IndexError(f"the index of labels has the shape {list(index.shape)}, expected one dimension")
        if index.dtype == torch.bool:
            if index.numel() != len(self):
                raise IndexError(f"the mask has {index.numel()} entries, expected one per label: {len(self)}")
            return index.nonzero().flatten()
        if index.numel() and (index.is_floating_point() or index.is_complex()):
            dtype = str(index.dtype).removeprefix("torch.")
            raise IndexError(f"the index of labels is {dtype}, expected integers or bools")
        index = index.long()
        index = torch.where(index < 0, index + len(self), index)
        wrong = index[(index < 0) | (index >= len(self))]
        if wrong.numel():
            raise IndexError(f"index {int(wrong[0])} is out of range, expected indices of {len(self)} labels")
        return index

    def _like(self, other: Labels) -> None:
        """Takes over whose labels these are from equal ones."""
        self._key, self._origin = other._key, other._origin

    def __reduce__(self) -> tuple[Any, ...]:
        return Labels, (list(self),)

    __hash__ = None  # type: ignore[assignment]


class _Column(Labels, TensorFrame):  # type: ignore[misc]
    """Labels as PyG's loaders take them: what is no tensor and no array must pass for a frame of tensors."""

    device = torch.device("cpu")
    num_cols = 1

    @property
    def num_rows(self) -> int:
        """Number of labels."""
        return len(self)

    @property
    def col_names_dict(self) -> dict[str, list[object]]:
        """A column like no other: ``to_homogeneous`` joins columns of the same names, and leaves labels out."""
        return {"labels": [object()]}


# A dictionary of a store's content can be read with torch.load(weights_only=True), in which a list is no code.
torch.serialization.add_safe_globals([Labels])
_Column.__name__ = "Labels"  # the name that a store prints


class LabelStorage(NodeStorage):
    """Nodes of one type whose lists of labels PyG's functions can index.

    A list with one entry per node that is assigned becomes :class:`Labels`.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if type(value) in (list, _Column) and not _holds_tensors(value):
            value = self._labels(key, value)
        super().__setitem__(key, value)

    def _labels(self, key: str, value: list[Any]) -> Labels:
        labels, before = Labels(value), self._mapping.get(key)
        if isinstance(value, Labels):
            labels._like(value)
        elif isinstance(before, Labels) and before == labels:
            labels._like(before)  # the same nodes on another device, or a copy
        return labels

    # Batches of graphs ask for the value itself; what selects nodes goes over the items.
    def items(self, *args: str) -> ItemsView:
        """Keys and values; labels as a copy that loaders select from."""
        return ItemsView(self._columns(args))

    def values(self, *args: str) -> ValuesView:
        """The values of :meth:`items`."""
        return ValuesView(self._columns(args))

    def _columns(self, args: tuple[str, ...]) -> dict[str, Any]:
        keys = [key for key in args if key in self._mapping] if args else list(self._mapping)
        return {key: _column(self._mapping[key]) for key in keys}


class PairStorage(EdgeStorage):
    """Edges of one type whose further pairs of nodes follow when nodes are selected.

    ``edge_label_index``, ``seen_edge_index`` and every other ``…_index`` ``[2, m]`` hold nodes, like
    ``edge_index``, but are no attribute of its edges. Where PyG's functions have selected nodes, such an index is
    renumbered: pairs with an end that is gone are left out, and so are their entries in the columns beside it
    (``edge_label``, ``edge_label_time``, ``seen_time``, …).
    """

    def is_edge_attr(self, key: str) -> bool:
        """Whether a key holds one entry per edge of ``edge_index``."""
        if key == "relation_name" or self.index_of(key) is not None:
            return False
        return bool(super().is_edge_attr(key))

    def coalesce(self, reduce: str = "sum") -> PairStorage:
        """Sorts the edges and keeps each once, with its time, rating, relation and whatever else stands beside it.

        PyG's own method moves ``edge_index`` and ``edge_attr`` and leaves the rest where it was. Triples of equal
        ends are the same edge under one relation only; of these the first row is kept, of others the last, as
        :func:`~pyg_kgrec.data.drop_repeats` has it.

        Args:
            reduce: What becomes of the ``edge_attr`` of equal edges: ``'sum'``, ``'mean'``, ``'min'``, ``'max'``,
                ….
        """
        beside = [key for key in self.edge_attrs() if key not in (_EDGE_INDEX, _EDGE_ATTR)]
        if not beside:
            super().coalesce(reduce)
            return self
        pairs = self[_EDGE_INDEX]
        rows = [*pairs]
        if _EDGE_TYPE in beside:
            rows.append(self[_EDGE_TYPE].to(rows[0].dtype))
        edge, group = torch.stack(rows).unique(dim=1, return_inverse=True)
        place = torch.arange(group.numel(), device=group.device)
        row = place.new_zeros(edge.size(1)).scatter_reduce_(
            0, group, place, "amin" if _EDGE_TYPE in beside else "amax", include_self=False
        )
        weight = self.get(_EDGE_ATTR)
        for key in beside:
            self[key] = select(self[key], row, dim=0)
        self[_EDGE_INDEX] = pairs[:, row]
        if isinstance(weight, Tensor):
            self[_EDGE_ATTR] = scatter(weight, group, dim=0, dim_size=edge.size(1), reduce=reduce)
        return self

    def snapshot(self, start_time: float, end_time: float, attr: str = "time") -> PairStorage:
        """Leaves the edges of a period, and of every further index the pairs whose own time falls into it.

        Args:
            start_time: The first moment that counts.
            end_time: The last moment that counts.
            attr: The column with the times; beside ``edge_label_index`` and ``seen_edge_index`` it is
                ``edge_label_time`` and ``seen_time``. An index without such a column stays as it is.
        """
        if attr in self:
            for index in self._further():
                time = self._mapping.get(f"{_stem(index).rstrip('_')}_{attr}")
                if isinstance(time, Tensor) and list(time.shape) == [self._mapping[index].size(1)]:
                    self._keep(index, (time >= start_time) & (time <= end_time))
            super().snapshot(start_time, end_time, attr)
        return self

    def up_to(self, time: float) -> PairStorage:
        """Leaves the edges up to a moment, and the pairs of every further index alike (:meth:`snapshot`)."""
        return self.snapshot(-math.inf, time)

    def _keep(self, index: str, kept: Tensor) -> None:
        """Leaves some pairs of an index ``[2, m]``, and their entries beside it, by a mask ``[m]``."""
        for column in (index, *self.columns_of(index)):
            value = self._mapping[column]
            self._mapping[column] = value[:, kept] if column == index else value[kept]
            self._pop_cache(column)

    def __getitem__(self, key: str) -> Any:
        if key != _EDGE_INDEX and not key.startswith("_"):  # private attributes are asked for here, too
            self.settle()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        held, former = self._mapping.get(key), self.__dict__.get("_former", {}).get(key)
        if value is not None and (value is held or value is former):
            return  # what selects nodes assigns what it does not select again, as it was
        if key != _EDGE_INDEX:
            self.settle()
            if is_pair_index(key, former):
                # A loader's own pairs take the place of those that were renumbered.
                for column in self.columns_of(key):
                    super().__delitem__(column)
        super().__setitem__(key, value)
        if key.endswith(_INDEX) and "_unfollowed" in self.__dict__:
            self._replaced(key)

    def get(self, key: str, value: Any | None = None) -> Any:
        """The value of a key, or a default."""
        self.settle()
        return super().get(key, value)

    def items(self, *args: str) -> ItemsView:
        """Keys and values, for the nodes that are there now."""
        self.settle()
        return super().items(*args)

    def values(self, *args: str) -> ValuesView:
        """Values, for the nodes that are there now."""
        self.settle()
        return super().values(*args)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of keys and values."""
        self.settle()
        return dict(super().to_dict())

    def __copy__(self) -> PairStorage:
        self.settle()
        out: PairStorage = super().__copy__()
        out.__dict__.pop("_former", None)
        return out

    def __deepcopy__(self, memo: dict[int, Any] | None) -> PairStorage:
        self.settle()
        out: PairStorage = super().__deepcopy__(memo)
        for name in ("_made_for", "_former"):
            out.__dict__.pop(name, None)
        return out

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        state = dict(super().__getstate__())
        return {name: value for name, value in state.items() if name not in ("_made_for", "_former")}

    def settle(self) -> None:
        """Renumbers the pairs if the nodes are a selection of those that they were made for."""
        nodes = self._nodes()
        if nodes is None:
            return
        now = tuple((_keys(store), _size(store)) for store in nodes)
        before = self.__dict__.get("_made_for")
        if before == now:
            return
        if before is not None:
            row = [_selected(store, then, here) for store, then, here in zip(nodes, before, now)]
            if any(r is _HALF for r in row):
                return  # the other labels are to come: until then the pairs are those of the nodes before
            if any(r is False for r in row):
                # Nodes of unknown origin: validate says so, unless the pairs are replaced, too.
                self.__dict__.setdefault("_unfollowed", frozenset(self._further()))
                return
            if any(r is not None for r in row):
                for key in self._further():
                    self._renumber(key, row)
        self.__dict__["_made_for"] = now
        self.__dict__.pop("_unfollowed", None)

    def stale(self) -> str | None:
        """Key of an index whose nodes were replaced by others of unknown origin, or None."""
        self.settle()
        return next((k for k in self._further() if k in self.__dict__.get("_unfollowed", ())), None)

    def _further(self) -> list[str]:
        return [
            key for key, value in self._mapping.items() if key != _EDGE_INDEX and is_pair_index(key, value)
        ]

    def _replaced(self, key: str) -> None:
        """Notes that an index was made for the nodes that are there now."""
        left = self.__dict__["_unfollowed"] - {key}
        if left:
            self.__dict__["_unfollowed"] = left
        else:
            del self.__dict__["_unfollowed"], self.__dict__["_made_for"]
            self.settle()

    def _nodes(self) -> tuple[NodeStorage, NodeStorage] | None:
        parent, key = self.__dict__.get("_parent"), self.__dict__.get("_key")
        data = None if parent is None else parent()
        if data is None or not isinstance(key, tuple):
            return None
        # Asked for at every look at an edge: data[type] takes five times as long.
        stores = dict(data.node_items())
        source, target = stores.get(key[0]), stores.get(key[-1])
        return None if source is None or target is None else (source, target)

    def index_of(self, key: str) -> str | None:
        """The index ``…_index`` that a key is or stands beside; None for edge attributes."""
        for index in self._further():
            if key == index or key in self.columns_of(index):
                return index
        return None

    def columns_of(self, index: str) -> list[str]:
        """Keys of the tensors with one entry per pair of an index."""
        pairs = self._mapping.get(index)
        stem = _stem(index)
        if not isinstance(pairs, Tensor) or not pairs.dim():
            return []
        return [
            key
            for key, value in self._mapping.items()
            if key != index
            and key.startswith(stem)
            and not is_pair_index(key, value)
            and isinstance(value, Tensor)
            and value.dim()
            and value.size(0) == pairs.size(-1)
        ]

    def _renumber(self, key: str, row: list[Any]) -> None:
        pairs = self._mapping[key]
        if (
            not isinstance(pairs, Tensor)
            or pairs.dim() != 2
            or pairs.size(0) != 2
            or pairs.dtype != torch.long
        ):
            return
        ends = [end if r is None else _look_up(r, end) for end, r in zip(pairs, row)]
        kept = (ends[0] >= 0) & (ends[1] >= 0)
        former = self.__dict__.setdefault("_former", {})
        for column in (key, *self.columns_of(key)):
            value = former[column] = self._mapping[column]
            self._mapping[column] = torch.stack(ends)[:, kept] if column == key else value[kept]
            self._pop_cache(column)


def indexable(data: HeteroData) -> HeteroData:
    """A shallow copy of a store that PyG's own functions can select nodes from.

    ``HeteroData.subgraph``, ``RemoveIsolatedNodes``, ``NeighborLoader``, ``LinkNeighborLoader`` and whatever else
    filters a :class:`~torch_geometric.data.HeteroData` then selects raw ids and names with their nodes, and
    renumbers ``edge_label_index`` and ``seen_edge_index``, which needs raw ids or names of the users and items.
    Readers, data sets, splits and transforms return such stores; this makes one of any other. Only lists are
    copied.

    Args:
        data: A store. It is not changed.

    Returns:
        A store with the same content; its ids and names are :class:`Labels`, which equal the lists they were.

    Raises:
        TypeError: If ``data`` is no :class:`~torch_geometric.data.HeteroData`.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(f"data is {kind_of(data)}, expected a torch_geometric.data.HeteroData.")
    out = copy.copy(data)
    for nodes in out.node_stores:
        if type(nodes) is NodeStorage:
            object.__setattr__(nodes, "__class__", LabelStorage)
            for key, value in list(nodes._mapping.items()):
                nodes[key] = value
    for edges in out.edge_stores:
        if type(edges) is EdgeStorage:
            object.__setattr__(edges, "__class__", PairStorage)
            edges.settle()
    return out


def _stem(index: str) -> str:
    """What the names of the columns beside an index begin with: ``edge_label``, ``seen_``."""
    return index.removesuffix(_EDGE_INDEX if index.endswith("_" + _EDGE_INDEX) else _INDEX)


def _holds_tensors(value: list[Any]) -> bool:
    return any(isinstance(v, Tensor) for v in value[:1])


def _column(value: Any) -> Any:
    if type(value) is not Labels:
        return value
    column = _Column(value)
    column._like(value)
    return column


def _keys(store: NodeStorage) -> tuple[object, ...]:
    """What the labels of a node type are known by."""
    return tuple(value._key for value in store._mapping.values() if isinstance(value, Labels))


def _size(store: NodeStorage) -> int | None:
    x = store._mapping.get("x")
    plain = isinstance(x, Tensor) and not x.is_nested and x.dim()
    size = store._mapping.get("num_nodes", x.size(0) if plain else None)
    return size if isinstance(size, int) else None  # validate says what else is wrong with it


def _selected(store: NodeStorage, then: tuple[Any, Any], now: tuple[Any, Any]) -> Any:
    """Number of each former node ``[n]`` or −1; None if they are the same nodes, False if nobody knows.

    Where nodes are selected by hand, one list of labels after the other, :data:`_HALF` before the last one.
    """
    (keys, number), (new_keys, new_number) = then, now
    gone = set(keys) - set(new_keys)
    if len(gone) < len(set(keys)):
        return _HALF if any(_descends(value, gone) for value in store._mapping.values()) else None
    for value in store._mapping.values():
        if not isinstance(value, Labels):
            continue
        rows, origin = None, value._origin
        while origin is not None:
            key, of_parent, origin = origin
            rows = of_parent if rows is None else of_parent[rows]
            if key in keys and rows.numel() == len(value):
                size = number if isinstance(number, int) else 0
                new = torch.full((size,), -1)
                new[rows] = torch.arange(rows.numel())
                return new
    # Nodes that were added leave the numbers of the others as they are.
    return False if number is not None and new_number is not None and new_number < number else None


def _descends(value: Any, keys: set[object]) -> bool:
    """Whether labels were selected from others that are known by one of some keys."""
    origin = value._origin if isinstance(value, Labels) and keys else None
    while origin is not None:
        key, _, origin = origin
        if key in keys:
            return True
    return False


def _look_up(row: Tensor, node: Tensor) -> Tensor:
    return row.to(node.device)[node]
