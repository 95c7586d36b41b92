"""What models share that know items by their entities without propagating over the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_channels, check_flag
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ENTITY, ITEM, NODE_TYPES, USER
from pyg_kgrec.models.base import Recommender, Store, predicting
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.strangers import nodes_known, spread
from pyg_kgrec.nn.encoder import Features, NodeEncoder

_TRIPLES = 2**15  # scored at a time


@dataclass(frozen=True)
class Links:
    """Which items and entities are the same.

    Attributes:
        entities_of: The entities of each item, S(v).
        items_of: The items of each entity, S(h).
    """

    entities_of: PairIndex
    items_of: PairIndex


class LinkedRecommender(Recommender):
    """A model of users, items and, with ``use_kg``, the entities that items are linked to.

    Args:
        data: The training store, or the signature of one.
        hidden_channels: Size of embeddings.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``.
        use_kg: Whether there are embeddings of entities.
        channels: Size of the embeddings of a node type, where it is another one.
        tables: Node types with an ID embedding. The others have a projection of features, if they have any, and
            otherwise no encoder.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int,
        features: Features,
        use_kg: bool,
        channels: Mapping[str, int] = MappingProxyType({}),
        tables: Collection[str] = NODE_TYPES,
    ) -> None:
        check_channels(hidden_channels=hidden_channels)
        check_flag(use_kg=use_kg)
        super().__init__(data)
        width, sizes = self.signature.in_channels, self.signature.num_nodes
        self.hidden_channels, self.use_kg = hidden_channels, use_kg and sizes[ENTITY] > 0
        self.hears_links = self.use_kg
        self.encoders = torch.nn.ModuleDict(
            {
                t: NodeEncoder(
                    sizes[t] if t in tables else 0, channels.get(t, hidden_channels), width[t], features
                )
                for t in (NODE_TYPES if self.use_kg else (USER, ITEM))
                if t in tables or (width[t] > 0 and features != "id")
            }
        )

    def build_graph(self, inputs: Inputs) -> Links:
        """The links of items and entities; none without ``use_kg``."""
        links, row = inputs.link, inputs.row[ENTITY]
        if not self.use_kg:
            links = links[:, :0]
        elif row is not None and not self.projects(ENTITY):
            links = links[:, row[links[1]] >= 0]  # nothing is known of a new entity without features
        return Links(
            entities_of=PairIndex.from_pairs(links, inputs.num_items),
            items_of=PairIndex.from_pairs(links.flip(0), inputs.num_entities if self.use_kg else 0),
        )

    hears = MappingProxyType({USER: ("row", "features"), ITEM: ("row", "features", "links")})

    def linked_items(self, inputs: Inputs) -> Tensor:
        """Items that are linked to an entity with a row or features, ``[num_items]`` bool."""
        if not self.hears_links:
            return super().linked_items(inputs)
        entity = nodes_known(self, inputs, ENTITY, ("row", "features"))
        return spread(entity, inputs.link[1], inputs.link[0], inputs.num_items)

    def user_rows(self) -> NodeEncoder | None:
        """The encoder of users, where there is one."""
        return self.encoders[USER] if USER in self.encoders else None  # type: ignore[return-value] # noqa: SIM401

    def projects(self, node_type: str) -> bool:
        """Whether features of a node type are a part of its embeddings."""
        return node_type in self.encoders and self.encoders[node_type].projection is not None

    def embed(self, inputs: Inputs, node_type: str, node: Tensor | None = None) -> Tensor:
        """Embeddings of some nodes of a type (all if None) before any layer, ``[n, hidden_channels]``."""
        out: Tensor = self.encoders[node_type](*inputs.nodes(node_type, node))
        return out

    # ------------------------------------------------------------------ triples

    def score_triples(self, inputs: Inputs, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores of triples ``[B]``, higher for one that the model holds to be true."""
        raise TypeError(f"{type(self).__name__} has no scores of triples")

    def triple_scores(self, data: Store, triple: Tensor | None = None) -> Tensor:
        """Scores of some triples of the store (all if None), ``[B]``; see :meth:`score_triples`."""
        inputs, model = self.inputs(data), self.evaluating()
        self.check_knows("triples can be scored")
        return model.over_triples(inputs, triple, model.score_triples)

    def over_triples(
        self,
        inputs: Inputs,
        triple: Tensor | None,
        function: Callable[[Inputs, Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """A function of heads, relations and tails over some triples of the store (all if None), by blocks."""
        chosen = inputs.triple if triple is None else inputs.triple[:, triple]
        with predicting():
            blocks = [function(inputs, *block) for block in chosen.split(_TRIPLES, dim=1)]
        return torch.cat(blocks) if blocks else torch.empty(0, device=self.device)

    def check_knows(self, what: str) -> None:
        """Raises ValueError unless the model learns from triples."""
        if not self.knows:
            raise ValueError(f"this model has no knowledge task (use_kg=False), expected one before {what}")

    @property
    def knows(self) -> bool:
        """Whether the model learns from triples."""
        return self.use_kg
