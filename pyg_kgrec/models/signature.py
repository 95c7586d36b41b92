"""What a trained model remembers of the store it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._files import shown
from pyg_kgrec.data.collaborative import number_entities
from pyg_kgrec.data.repeats import repeats_told
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, NODE_TYPES, RELATES, USER, validate
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.data.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class StoreSignature:
    """Sizes, feature widths, raw ids and relations of the store that a model was built for.

    A store given later is matched to it by raw id (by position where neither has ids).

    Attributes:
        num_nodes: Number of users, items and entities.
        in_channels: Width of ``x`` per node type, 0 where it has none.
        ids: Raw ids per node type, or None.
        relation_name: Relations in the order of their numbers.
        item_name: Readable labels of the items, or None.
        link: Items and entities that belong together, ``[2, l]`` int64; None without knowledge graph.
        trained: Users that ``fit`` had interactions (or labelled pairs) of, ``[num_users]`` bool; None before any
            ``fit``: whoever set the weights then is taken to have set all of them.
        popularity: Number of training interactions of each item, ``[num_items]`` int64, or None.
        row_prior: Mean and deviation of users' rows as training taught them, ``[2, d]``, of a model that users were
            folded into since; else None.
    """

    num_nodes: dict[str, int]
    in_channels: dict[str, int]
    ids: dict[str, list[Any] | None]
    relation_name: list[str]
    item_name: list[str] | None = None
    link: Tensor | None = None
    trained: Tensor | None = None
    popularity: Tensor | None = None
    row_prior: Tensor | None = None

    @classmethod
    def from_store(cls, data: HeteroData) -> StoreSignature:
        """Reads the signature of a store, which is validated first; warns of repeated interactions and triples."""
        validate(data)
        told = repeats_told(data)
        if told is not None:
            warn_caller(told)
        present = [t for t in NODE_TYPES if t in data.node_types]
        return cls(
            num_nodes={t: data[t].num_nodes if t in present else 0 for t in NODE_TYPES},
            in_channels={t: data[t].x.size(1) if t in present and "x" in data[t] else 0 for t in NODE_TYPES},
            ids={t: list(data[t].id) if t in present and "id" in data[t] else None for t in NODE_TYPES},
            relation_name=list(data.relation_name) if RELATES in data.edge_types else [],
            item_name=list(data[ITEM].name) if "name" in data[ITEM] else None,
            link=data[IS].edge_index.detach().cpu().clone() if IS in data.edge_types else None,
            popularity=_interactions(data),
        )

    def trained_on(self, data: HeteroData) -> StoreSignature:
        """The signature after training on a store that fits it: this object where that adds nothing."""
        user, item = (self.match(data, t) for t in (USER, ITEM))
        having, count = _having_pairs(data), _interactions(data)
        if user is not None:
            old = user >= 0
            having = torch.zeros(self.num_nodes[USER], dtype=torch.bool).index_fill_(
                0, user[old & having], True
            )
        if item is not None:
            old = item >= 0
            count = torch.zeros(self.num_nodes[ITEM], dtype=torch.long).index_add_(0, item[old], count[old])
        trained = having if self.trained is None else self.trained | having
        same = self.trained is not None and torch.equal(trained, self.trained) and self.row_prior is None
        if same and self.popularity is not None and torch.equal(count, self.popularity):
            return self
        return replace(self, trained=trained, popularity=count, row_prior=None)

    def state(self) -> dict[str, Any]:
        """Plain dictionaries, lists and tensors, for a checkpoint."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.row_prior is None:  # files of models that nobody was folded into stay as they were
            del state["row_prior"]
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StoreSignature:
        """The inverse of :meth:`state`."""
        return cls(**state)

    def check(self, data: HeteroData) -> None:
        """Raises ValueError unless a model of this signature can be run on the store."""
        validate(data)
        names = list(data.relation_name) if RELATES in data.edge_types else []
        if set(names) != set(self.relation_name):
            missing, new = set(self.relation_name) - set(names), set(names) - set(self.relation_name)
            raise ValueError(
                f"data.relation_name differs from the relations of training: {_some(missing)} missing, "
                f"{_some(new)} unknown; expected the same {len(self.relation_name)} relations"
            )
        for node_type, width in self.in_channels.items():
            store = data[node_type] if node_type in data.node_types else {}
            found = store["x"].size(1) if "x" in store else 0
            if node_type in data.node_types and found != width:
                raise ValueError(
                    f"data[{node_type!r}].x has {found} features a node, expected {width} as in training"
                )
            if "n_id" in store and "id" not in store:
                place, number = store["n_id"], self.num_nodes[node_type]
                if place.numel() and int(place.max()) >= number:
                    raise ValueError(
                        f"data[{node_type!r}].n_id holds {int(place.max())}, expected places among the {number} "
                        f"nodes "
                        f"of training (a store with data[{node_type!r}].id is matched by raw id, new nodes, too)"
                    )
                continue
            if node_type in data.node_types and ("id" in store) != (self.ids[node_type] is not None):
                kind = "raw ids" if self.ids[node_type] is not None else "no raw ids"
                raise ValueError(
                    f"data[{node_type!r}] was trained with {kind} and has {'some' if 'id' in store else 'none'} "
                    "now: its nodes cannot be matched"
                )

    def knows_as(self, other: StoreSignature) -> bool:
        """Whether a later signature of the same model takes the same users for taught, and items for popular."""
        if self is other:
            return True
        taught = [s.trained is None or bool(s.trained.all()) for s in (self, other)]
        mine, theirs = self.popularity, other.popularity
        return all(taught) and mine is not None and theirs is not None and torch.equal(mine, theirs)

    def rows(self, data: HeteroData, node_type: str, device: torch.device) -> Tensor | None:
        """Row of each node of a store among the nodes of training, −1 for a new node; None if they are the same.

        A user whom training had no interaction of is a new one: the row was never learned. Raw ids tell which nodes
        these are. Nodes of a store that has none, as of a mini-batch that PyG's loaders sampled of the training
        store, are matched by their ``n_id``, their place in training.
        """
        row = self.match(data, node_type, device)
        if node_type != USER or self.trained is None or bool(self.trained.all()):
            return row
        trained = self.trained.to(device)
        if row is None:
            row = torch.arange(trained.numel(), device=device)
        return torch.where((row >= 0) & trained[row.clamp(min=0)], row, -1)

    def match(self, data: HeteroData, node_type: str, device: torch.device | str = "cpu") -> Tensor | None:
        """As :meth:`rows`, whether training taught the rows or not."""
        store = data[node_type]
        ids, number = self.ids[node_type], store.num_nodes
        if "n_id" in store and "id" not in store:
            return store.n_id.to(device)  # type: ignore[no-any-return]
        if ids is None:
            if number == self.num_nodes[node_type]:
                return None
            row = torch.arange(number, device=device)
            return torch.where(row < self.num_nodes[node_type], row, -1)
        if ids == list(store.id):
            return None
        return Vocabulary(ids, node_type).lookup(store.id).to(device)

    @cached_property
    def entity_node(self) -> Tensor:
        """Number of each entity of training in the collaborative knowledge graph, ``[num_entities]`` int64."""
        empty = torch.empty(2, 0, dtype=torch.long)
        link = empty if self.link is None else self.link
        return number_entities(link, self.num_nodes[ITEM], self.num_nodes[ENTITY])[0]

    @cached_property
    def catalogue(self) -> HeteroData:
        """The items and entities of training, their names and links, as a store without interactions."""
        data = HeteroData()
        for node_type in NODE_TYPES:
            ids, kept = self.ids[node_type], node_type != USER
            data[node_type].num_nodes = self.num_nodes[node_type] if kept else 0
            if ids is not None:
                data[node_type].id = ids if kept else []
        if self.item_name is not None:
            data[ITEM].name = self.item_name
        empty = torch.empty(2, 0, dtype=torch.long)
        data[IS].edge_index = empty if self.link is None else self.link
        return data

    def relations(self, data: HeteroData) -> Tensor | None:
        """Number in training of each relation of a store, ``[R]``; None if they are the same."""
        names = list(data.relation_name) if RELATES in data.edge_types else []
        if names == self.relation_name:
            return None
        number = {name: i for i, name in enumerate(self.relation_name)}
        return torch.tensor([number[name] for name in names])


def _having_pairs(data: HeteroData) -> Tensor:
    """Users that have an interaction or a labelled pair, ``[num_users]`` bool."""
    having = torch.zeros(data[USER].num_nodes, dtype=torch.bool)
    store = data[INTERACTS] if INTERACTS in data.edge_types else {}
    for key in ("edge_index", "edge_label_index"):
        if key in store:
            having[store[key][0].cpu()] = True
    return having


def _interactions(data: HeteroData) -> Tensor:
    """Number of interactions of each item, ``[num_items]`` int64."""
    if INTERACTS not in data.edge_types:
        return torch.zeros(data[ITEM].num_nodes, dtype=torch.long)
    return torch.bincount(data[INTERACTS].edge_index[1].cpu(), minlength=data[ITEM].num_nodes)


def _some(names: set[str]) -> str:
    some = ", ".join(repr(shown(n, 40)) for n in sorted(names)[:3])
    return f"{len(names)} ({some}{', …' if len(names) > 3 else ''})" if names else "none"
