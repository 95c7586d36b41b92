"""The store: which node and edge types a :class:`~torch_geometric.data.HeteroData` holds, and its check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from pyg_kgrec._files import kind_of
from pyg_kgrec.data.labels import PairStorage
from pyg_kgrec.data.text import warn_caller

_NO_LABELS: Final = ("label", "labels", "y", "target", "click")
"""Names of what may tell positives from others, and is read nowhere."""

_FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

EdgeType = tuple[str, str, str]

USER: Final = "user"
ITEM: Final = "item"
ENTITY: Final = "entity"
NODE_TYPES: Final = (USER, ITEM, ENTITY)

INTERACTS: Final[EdgeType] = (USER, "interacts", ITEM)
IS: Final[EdgeType] = (ITEM, "is", ENTITY)
RELATES: Final[EdgeType] = (ENTITY, "relates", ENTITY)

# What CollaborativeKG makes of these.
NODE: Final = "node"
NODE_RELATES: Final[EdgeType] = (NODE, "relates", NODE)
USER_NODE: Final[EdgeType] = (USER, "interacts", NODE)


def has_knowledge(data: HeteroData) -> bool:
    """Whether the store holds a knowledge graph (triples between entities)."""
    return RELATES in data.edge_types


def num_relations(data: HeteroData) -> int:
    """The number of relations R that the store names; 0 for a store without knowledge graph."""
    return len(data.relation_name) if has_knowledge(data) else 0


def has_collaborative_graph(data: HeteroData) -> bool:
    """Whether the store holds what :class:`~pyg_kgrec.transforms.CollaborativeKG` adds to it."""
    return NODE_RELATES in data.edge_types and USER_NODE in data.edge_types and "entity_node" in data[NODE]


def validate(data: HeteroData) -> None:
    """Checks that ``data`` is a store that every part of this package can work with.

    A store has the node types ``user`` and ``item`` and at least one interaction. The knowledge graph (node
    type ``entity``, the edge types ``('item', 'is', 'entity')`` and ``('entity', 'relates', 'entity')``, and
    ``relation_name``) is there as a whole or not at all; its edge types may be empty. Splits may add
    ``edge_label_index``, ``edge_label`` and ``seen_edge_index`` to the interactions, and ``edge_label_index`` with
    ``edge_label_type`` and ``seen_edge_index`` with ``seen_edge_type`` to the triples. Further node types, edge
    types and attributes are left alone.

    Args:
        data: The store to check. It is not changed.

    Raises:
        TypeError: If ``data`` is no :class:`~torch_geometric.data.HeteroData`, or if what a key holds has the
            wrong type or dtype. The message names the key, what is wrong, and what was expected.
        ValueError: If a key is missing, or if what it holds has the wrong shape, length, range or values.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(f"data is {kind_of(data)}, expected a torch_geometric.data.HeteroData.")
    _check_parts(data)
    _check_devices(data)
    for kind in (USER, ITEM, ENTITY):
        if kind in data.node_types:
            _check_nodes(data, kind)
    _check_interactions(data)
    if has_knowledge(data):
        _check_pairs(data, IS, "edge_index", "l")
        _check_triples(data)


def _check_parts(data: HeteroData) -> None:
    """Checks that node and edge types stand together as the contract asks."""
    for kind in (USER, ITEM):
        if kind not in data.node_types:
            raise ValueError(f"data[{kind!r}] is missing, expected node types 'user' and 'item'.")
    _require_edge_index(data, INTERACTS, "[2, n]")
    names = getattr(data, "relation_name", None)
    parts = {
        f"data[{ENTITY!r}]": ENTITY in data.node_types,
        f"{_key(IS)}.edge_index": IS in data.edge_types,
        f"{_key(RELATES)}.edge_index": RELATES in data.edge_types,
        "data.relation_name": names is not None,
    }
    if any(parts.values()) and not all(parts.values()):
        present = next(part for part, there in parts.items() if there)
        missing = next(part for part, there in parts.items() if not there)
        raise ValueError(
            f"{missing} is missing while {present} is present, expected a knowledge graph as a whole "
            "(the node type 'entity', both edge types, which may be empty, and relation_name) or none at all."
        )
    if has_knowledge(data):
        _require_edge_index(data, IS, "[2, l]")
        _require_edge_index(data, RELATES, "[2, T]")
        _check_labels("data.relation_name", names)
        _check_once("data.relation_name", names, "each relation")


def _require_edge_index(data: HeteroData, edge_type: EdgeType, shape: str) -> None:
    if edge_type not in data.edge_types or "edge_index" not in data[edge_type]:
        raise ValueError(f"{_key(edge_type)}.edge_index is missing, expected an int64 tensor {shape}.")


def _check_nodes(data: HeteroData, kind: str) -> None:
    """Checks ``num_nodes``, ``x``, ``id`` and ``name`` of one node type."""
    store, key = data[kind], f"data[{kind!r}]"
    x = store.get("x")
    if x is not None:
        _check_features(f"{key}.x", x)
    if "num_nodes" not in store and x is None:
        raise ValueError(f"{key}.num_nodes is missing, expected the number of {kind} nodes.")
    num_nodes = store.num_nodes
    if type(num_nodes) is not int:
        raise TypeError(f"{key}.num_nodes is {kind_of(num_nodes)}, expected an int.")
    if num_nodes >= 2**63:
        raise ValueError(f"{key}.num_nodes is a number of more than 63 bits, expected the number of nodes.")
    if num_nodes < 0:
        raise ValueError(f"{key}.num_nodes is {num_nodes}, expected 0 or more.")
    if x is not None and x.size(0) != num_nodes:
        raise ValueError(f"{key}.x has {x.size(0)} rows, expected num_nodes = {num_nodes}.")
    if store.get("n_id") is not None:
        _check_places(f"{key}.n_id", store["n_id"], num_nodes)
    if store.get("id") is not None:
        _check_ids(f"{key}.id", store["id"], num_nodes)
    if store.get("name") is not None:
        _check_labels(f"{key}.name", store["name"])
        if len(store["name"]) != num_nodes:
            raise ValueError(f"{key}.name has {len(store['name'])} labels, expected num_nodes = {num_nodes}.")


def _check_places(key: str, place: Any, num_nodes: int) -> None:
    """Checks which nodes of another store these are, as PyG's loaders note it."""
    expected = "an int64 tensor [num_nodes] of the nodes' places in the store that was sampled"
    if not isinstance(place, Tensor):
        raise TypeError(f"{key} is {kind_of(place)}, expected {expected}.")
    _check_plain(key, place, expected)
    if place.dtype != torch.long:
        raise TypeError(f"{key} has the dtype {_dtype(place)}, expected {expected}.")
    if list(place.shape) != [num_nodes]:
        raise ValueError(f"{key} has the shape {list(place.shape)}, expected [{num_nodes}], one per node.")
    if num_nodes and int(place.min()) < 0:
        raise ValueError(f"{key} holds {int(place.min())}, expected places from 0 up.")


def _check_features(key: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{key} is {kind_of(x)}, expected a float tensor [num_nodes, channels].")
    _check_plain(key, x, "a dense float tensor")
    if x.dtype not in _FLOATS:
        raise TypeError(
            f"{key} is a {_dtype(x)} tensor, expected a dense float tensor (float16, bfloat16, float32 or float64)."
        )
    if x.dim() != 2:
        raise ValueError(f"{key} has the shape {list(x.shape)}, expected [num_nodes, channels].")
    if not bool(torch.isfinite(x).all()):
        row = int((~torch.isfinite(x)).any(dim=1).nonzero()[0])
        raise ValueError(f"{key} holds NaN or infinity (first in row {row}), expected finite features.")


def _check_ids(key: str, ids: Any, num_nodes: int) -> None:
    if not isinstance(ids, list):
        raise TypeError(f"{key} is {kind_of(ids)}, expected a list of raw ids, all str or all int.")
    if len(ids) != num_nodes:
        raise ValueError(f"{key} has {len(ids)} ids, expected num_nodes = {num_nodes}.")
    kinds = set(map(type, ids))
    if not (kinds <= {str} or kinds <= {int}):
        found = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"{key} holds {found}, expected raw ids that are all str or all int.")
    _check_once(key, ids, "each raw id")


def _check_once(key: str, labels: Any, what: str) -> None:
    if len(set(labels)) != len(labels):
        seen: set[Any] = set()
        twice = next(i for i in labels if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(f"{key} holds {twice!r} more than once, expected {what} once.")


def _check_labels(key: str, labels: Any) -> None:
    if not isinstance(labels, list):
        raise TypeError(f"{key} is {kind_of(labels)}, expected a list of str.")
    strange = set(map(type, labels)) - {str}
    if strange:
        found = " and ".join(sorted(kind.__name__ for kind in strange))
        raise TypeError(f"{key} holds {found}, expected a list of str.")


def _check_interactions(data: HeteroData) -> None:
    """Checks the interactions, their time and rating, and what a split has added to them."""
    store, key = data[INTERACTS], _key(INTERACTS)
    _check_followed(data, INTERACTS)
    n = _check_pairs(data, INTERACTS, "edge_index", "n")
    if n == 0:
        raise ValueError(f"{key}.edge_index is empty, expected at least one interaction.")
    columns = [("edge_index", "", n)]
    for name, prefix, symbol in (("edge_label_index", "edge_label_", "m"), ("seen_edge_index", "seen_", "s")):
        if store.get(name) is not None:
            columns.append((name, prefix, _check_pairs(data, INTERACTS, name, symbol)))
    for name, prefix, length in columns:
        for column in ("time", "rating"):
            if store.get(prefix + column) is not None:
                _check_column(f"{key}.{prefix}{column}", store[prefix + column], length, name)
    if store.get("edge_label") is not None:
        if store.get("edge_label_index") is None:
            raise ValueError(
                f"{key}.edge_label is present without edge_label_index, expected the pairs that it labels."
            )
        label = store["edge_label"]
        _check_column(f"{key}.edge_label", label, store["edge_label_index"].size(1), "edge_label_index")
        if not bool(((label == 0) | (label == 1)).all()):
            raise ValueError(
                f"{key}.edge_label holds values other than 0 and 1, expected labels in {{0, 1}}."
            )

    else:
        _check_unlabelled(store, key, n)


def _check_unlabelled(store: EdgeStorage, key: str, n: int) -> None:
    """Checks that no column with a name of labels holds values of two kinds, which nothing would read."""
    for name in _NO_LABELS:
        column = store.get(name)
        if not isinstance(column, Tensor) or column.layout != torch.strided or column.is_meta:
            continue
        if column.dtype in (torch.long, torch.int32, torch.bool, *_FLOATS) and list(column.shape) == [n]:
            kinds = column.detach().unique()
            if kinds.numel() == 2 and bool((kinds[0] <= 0) & (kinds[1] == 1)):
                raise ValueError(
                    f"{key}.{name} holds {float(kinds[0]):g} and 1 and would not be read, so that all of "
                    "edge_index are positives; expected the positives alone in edge_index, and all pairs with "
                    "their labels in edge_label_index and edge_label (from_pandas reads label_col= so), or "
                    "another name."
                )


def _check_triples(data: HeteroData) -> None:
    """Checks the triples, and those that a split has held out."""
    _check_followed(data, RELATES)
    store = data[RELATES]
    for index, relation, symbol in (
        ("edge_index", "edge_type", "T"),
        ("edge_label_index", "edge_label_type", "n"),
        ("seen_edge_index", "seen_edge_type", "s"),
    ):
        if index == "edge_index" or store.get(index) is not None:
            _check_relations(data, relation, symbol, _check_pairs(data, RELATES, index, symbol))
        elif store.get(relation) is not None:
            raise ValueError(
                f"{_key(RELATES)}.{relation} is present without {index}, expected the triples that it belongs to."
            )


def _check_relations(data: HeteroData, name: str, symbol: str, num_triples: int) -> None:
    """Checks the relations of triples."""
    relation, key = data[RELATES].get(name), f"{_key(RELATES)}.{name}"
    if relation is None:
        raise ValueError(
            f"{key} is missing, expected an int64 tensor [{symbol}] with the relation of each triple."
        )
    if not isinstance(relation, Tensor):
        raise TypeError(f"{key} is {kind_of(relation)}, expected an int64 tensor [{symbol}].")
    _check_plain(key, relation, f"an int64 tensor [{symbol}]")
    if relation.dtype != torch.long:
        raise TypeError(f"{key} has the dtype {_dtype(relation)}, expected int64.")
    if list(relation.shape) != [num_triples]:
        raise ValueError(
            f"{key} has the shape {list(relation.shape)}, expected [{num_triples}], one per triple."
        )
    if name == "edge_type":
        _check_directions(data)
    _check_range(key, relation, num_relations(data), "relation_name has {} labels")


def _check_directions(data: HeteroData) -> None:
    """Looks for what PyG's ``ToUndirected`` makes of triples: both directions, under a sum of relations."""
    head, tail = data[RELATES].edge_index
    relation = data[RELATES].edge_type
    if head.numel() < 2 or not bool((head != tail).any()):
        return
    size = data[ENTITY].num_nodes
    pair = head * size + tail
    if not bool((pair.diff() > 0).all()) or not torch.equal(head.bincount(), tail.bincount()):
        return
    back, order = (tail * size + head).sort()
    if not torch.equal(back, pair) or not torch.equal(relation[order], relation):
        return
    mark = next((e for e in data.edge_types if e[1] in ("rev_interacts", "rev_is")), None)
    what = f"{_key(RELATES)} holds every triple in both directions under one relation, as ToUndirected leaves them"
    if mark is not None:
        raise ValueError(
            f"{what} (and {_key(mark)} is there): it adds up the relations of the two directions; expected the "
            "triples as they were, and AddInverseTriples of pyg_kgrec.transforms for inverse ones."
        )
    warn_caller(
        f"{what}: if it was applied, relations are sums and half of the triples are invented "
        "(AddInverseTriples of pyg_kgrec.transforms adds inverse triples under relations of their own)."
    )


def _check_followed(data: HeteroData, edge_type: EdgeType) -> None:
    """Checks that pairs which a split holds out belong to the nodes that are there."""
    store = data[edge_type]
    stale = store.stale() if isinstance(store, PairStorage) else None
    if stale is not None:
        raise ValueError(
            f"{_key(edge_type)}.{stale} was made for other nodes: some were removed, and nothing tells which, "
            "expected raw ids or names of users, items and entities before nodes are selected, or an index that is "
            "assigned anew."
        )


def _check_pairs(data: HeteroData, edge_type: EdgeType, name: str, symbol: str) -> int:
    """Checks an index [2, n] between the end points of ``edge_type`` and returns n."""
    key, index = f"{_key(edge_type)}.{name}", data[edge_type][name]
    if not isinstance(index, Tensor):
        raise TypeError(f"{key} is {kind_of(index)}, expected an int64 tensor [2, {symbol}].")
    _check_plain(key, index, f"an int64 tensor [2, {symbol}]")
    if index.dtype != torch.long:
        raise TypeError(f"{key} has the dtype {_dtype(index)}, expected int64.")
    if index.dim() != 2 or index.size(0) != 2:
        raise ValueError(f"{key} has the shape {list(index.shape)}, expected [2, {symbol}].")
    for row, kind in enumerate((edge_type[0], edge_type[2])):
        template = f"data[{kind!r}].num_nodes is {{}}"
        _check_range(f"{key}[{row}]", index[row], data[kind].num_nodes, template)
    return index.size(1)


def _check_range(key: str, index: Tensor, size: int, because: str) -> None:
    if index.numel() == 0:
        return
    low, high = (int(bound) for bound in index.aminmax())
    if low < 0 or high >= size:
        expected = f"expected indices in 0..{size - 1}" if size else "expected no index at all"
        raise ValueError(f"{key} holds {low if low < 0 else high}, {expected} ({because.format(size)}).")


def _check_column(key: str, column: Any, length: int, of: str) -> None:
    """Checks one number per pair."""
    if not isinstance(column, Tensor):
        raise TypeError(f"{key} is {kind_of(column)}, expected a tensor [{length}].")
    _check_plain(key, column, f"a tensor [{length}]")
    if column.is_complex() or (column.is_floating_point() and column.dtype not in _FLOATS):
        raise TypeError(f"{key} has the dtype {_dtype(column)}, expected real numbers.")
    if list(column.shape) != [length]:
        raise ValueError(
            f"{key} has the shape {list(column.shape)}, expected [{length}], one per pair of {of}."
        )
    if column.is_floating_point() and not bool(torch.isfinite(column).all()):
        row = int((~torch.isfinite(column)).nonzero()[0])
        raise ValueError(f"{key} holds NaN or infinity (first at position {row}), expected finite numbers.")


def _check_plain(key: str, tensor: Tensor, expected: str) -> None:
    """Checks that a tensor holds its values one by one, and has any at all."""
    if tensor.is_meta:
        raise TypeError(f"{key} is on the device meta, where tensors have no values, expected {expected}.")
    if tensor.is_nested:
        raise TypeError(f"{key} is a nested tensor, expected {expected}.")
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"{key} is a {_dtype(tensor)} tensor of layout {layout}, expected {expected}.")
    if tensor.is_quantized:
        raise TypeError(f"{key} is a quantized tensor, expected {expected}.")


def _check_devices(data: HeteroData) -> None:
    first: tuple[str, torch.device] | None = None
    for key, tensor in _edge_tensors(data):
        if first is None:
            first = key, tensor.device
        elif tensor.device != first[1]:
            raise ValueError(
                f"{key} is on {tensor.device} while {first[0]} is on {first[1]}, "
                "expected all edges of the store on one device."
            )


def _edge_tensors(data: HeteroData) -> Iterator[tuple[str, Tensor]]:
    for edge_type in (INTERACTS, IS, RELATES):
        if edge_type in data.edge_types:
            for name, value in data[edge_type].items():
                if isinstance(value, Tensor):
                    yield f"{_key(edge_type)}.{name}", value


def _key(edge_type: EdgeType) -> str:
    return "data[" + ", ".join(map(repr, edge_type)) + "]"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
