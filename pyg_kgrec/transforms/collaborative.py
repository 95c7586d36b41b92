"""The collaborative knowledge graph: items and entities as nodes of one graph."""

from __future__ import annotations

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_flag
from pyg_kgrec.data.collaborative import with_collaborative_graph
from pyg_kgrec.data.store import validate


@functional_transform("collaborative_kg")
class CollaborativeKG(BaseTransform):
    r"""Adds the node type that graph models propagate over: items and entities in one numbering.

    An item and an entity that are linked one to one are the same node. Nodes are numbered items first (node
    :math:`i` *is* item :math:`i`), then the entities that are no item, in their order. A link that is not one to
    one becomes an edge item → entity of an additional relation ``'is'``, which exists wherever there are
    entities, so that the set of relations does not depend on the links.

    The result is a shallow copy of the store with

    * ``data['node']``: ``num_nodes``; ``entity`` ``[N]`` int64, the entity of a node or −1;
      ``entity_node`` ``[num_entities]`` int64, the node of an entity;
    * ``data['node', 'relates', 'node']``: ``edge_index`` ``[2, T']`` head → tail, ``edge_type`` ``[T']``, and
      ``triple`` ``[T']``, the position of the triple in the store (−1 for a link); ``relation_name``;
    * ``data['user', 'interacts', 'node']``: the training pairs, ``edge_index`` ``[2, n]``.

    Splits and the other transforms of this package, applied afterwards, keep it up to date: what is held out of
    interactions or triples is held out here, too.

    Args:
        inverse: Add for each triple (h, r, t) the triple (t, r + R', h), where R' counts the relations with
            ``'is'``; their names carry a leading ``~``.

    Raises:
        TypeError: If ``inverse`` is neither True nor False.
        ValueError: When called: if the store is not valid.
    """

    def __init__(self, inverse: bool = False) -> None:
        check_flag(inverse=inverse)
        self.inverse = bool(inverse)

    def forward(self, data: HeteroData) -> HeteroData:
        """Returns the store with the additional node and edge types."""
        validate(data)
        return with_collaborative_graph(data, self.inverse)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(inverse={self.inverse})"
