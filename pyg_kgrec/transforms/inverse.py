"""Inverse triples, under relations of their own."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec.data.collaborative import made_anew
from pyg_kgrec.data.labels import indexable, row_columns
from pyg_kgrec.data.store import RELATES, has_knowledge, validate

_MARK = "~"


@functional_transform("add_inverse_triples")
class AddInverseTriples(BaseTransform):
    r"""Adds for each triple (h, r, t) of the store the triple (t, r + R, h), where R counts the relations.

    ``relation_name`` gets R further labels: those that were there, with a leading ``~``. Triples follow in the
    order of those that they invert, and so do further tensors with one entry per triple. Of a split of triples
    ``edge_label_index`` stays as it is (what is to be found is a triple, not its inverse), while
    ``seen_edge_index`` (with ``seen_…`` beside it) is inverted like the triples to learn from.

    This takes the place of PyG's :class:`~torch_geometric.transforms.ToUndirected`, which adds up the relations of
    the two directions. :class:`CollaborativeKG` adds inverse triples by itself (``inverse=True``), and KGRec has
    them by its own argument: a store needs them once.

    Raises:
        ValueError: When called: if the store is not valid, has no knowledge graph, or has inverse triples already.
    """

    def forward(self, data: HeteroData) -> HeteroData:
        """Returns the store with inverse triples."""
        validate(data)
        if not has_knowledge(data):
            raise ValueError("data has no knowledge graph, expected triples to be inverted.")
        names = list(data.relation_name)
        known = set(names)
        twice = next((name for name in names if _MARK + name in known), None)
        if twice is not None:
            raise ValueError(
                f"data.relation_name holds {(_MARK + twice)[:50]!r}: the store has inverse triples already, "
                f"expected one "
                "without."
            )
        out = indexable(data)
        store, number = out[RELATES], data[RELATES].edge_type.numel()
        columns = {
            key: value for key, value in row_columns(store, number).items() if store.index_of(key) is None
        }
        columns |= {key: store[key] for key in store.columns_of("seen_edge_index")}
        for index, relation in (("edge_index", "edge_type"), ("seen_edge_index", "seen_edge_type")):
            if store.get(index) is not None:
                pairs, kind = store[index], store[relation]
                store[index] = torch.cat([pairs, pairs.flip(0)], dim=1)
                store[relation] = torch.cat([kind, kind + len(names)])
        for key, column in columns.items():
            if key not in ("edge_type", "seen_edge_type"):
                store[key] = torch.cat([column, column])
        out.relation_name = names + [_MARK + name for name in names]
        return made_anew(out)
