"""Knowledge graphs that say less: the controls that tell what a knowledge graph is worth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_seed
from pyg_kgrec.data.collaborative import made_anew
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import (
    ENTITY,
    NODE,
    RELATES,
    has_collaborative_graph,
    has_knowledge,
    validate,
)


@functional_transform("without_knowledge")
class WithoutKnowledge(BaseTransform):
    """Leaves entities, links, triples and relations out of a store.

    Links go with the triples: without these a link would only give an item a second embedding, or two items of
    one entity a common one. A store without knowledge graph is returned as it is. Users, items, their features and
    all interactions stay, and nothing is copied. The graph of :class:`CollaborativeKG` goes, too.

    Raises:
        ValueError: When called: if the store is not valid.
    """

    def forward(self, data: HeteroData) -> HeteroData:
        """Returns the store without its knowledge graph."""
        validate(data)
        if not has_knowledge(data):
            return data
        out = indexable(data)
        kinds = [ENTITY, NODE] if has_collaborative_graph(out) else [ENTITY]
        for edge_type in [e for e in out.edge_types if e[0] in kinds or e[-1] in kinds]:
            del out[edge_type]
        for kind in kinds:
            del out[kind]
        del out.relation_name
        return out


class _Rewired(BaseTransform):
    """A transform that draws the training triples of a store anew, from a seed.

    Args:
        seed: Seed of what is drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = check_seed(seed, least=0)

    def forward(self, data: HeteroData) -> HeteroData:
        """Returns the store with other triples."""
        validate(data)
        if not has_knowledge(data):
            raise ValueError(f"data has no knowledge graph, expected triples for {type(self).__name__}.")
        out = indexable(data)
        store = out[RELATES]
        head, tail = store.edge_index.cpu()
        relation = store.edge_type.cpu()
        rng = torch.Generator().manual_seed(self.seed)
        head, relation, tail = self.rewire(
            head, relation, tail, (out[ENTITY].num_nodes, len(out.relation_name)), rng
        )
        # What else is known of a triple (a weight, a mark) was known of the one that stood there before.
        number = relation.numel()
        for key in [
            key
            for key, value in store.items()
            if isinstance(value, Tensor)
            and key not in ("edge_index", "edge_type")
            and not key.startswith(("edge_label", "seen_"))
            and value.dim()
            and value.size(0) == number
        ]:
            del store[key]
        device = store.edge_index.device
        store.edge_index, store.edge_type = torch.stack([head, tail]).to(device), relation.to(device)
        return made_anew(out)

    def rewire(
        self, head: Tensor, relation: Tensor, tail: Tensor, sizes: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Other heads, relations and tails, ``[T]`` int64 each, of a graph of so many entities and relations."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed={self.seed})"


@functional_transform("shuffle_tails")
class ShuffleTails(_Rewired):
    """Permutes the tails of the triples among the triples of the same relation.

    Every entity keeps how often it is a head and how often it is a tail of each relation, so the shape of the graph
    stays while it no longer says anything of the head. A triple may come out as it was, as a loop, or as another
    one's repeat. Links stay: they join an item to the graph, and which facts stand there is the question.

    The same seed gives the same triples from the same triples, so the three stores of a split stay alike, and
    PyTorch's global random state is neither read nor changed. Further tensors with one entry per triple are left
    out, because the triples that they spoke of are gone; held-out triples of a :class:`TripleSplit` stay.

    Args:
        seed: Seed of the permutation.

    Raises:
        TypeError: If ``seed`` is no whole number.
        ValueError: If ``seed`` is negative or does not fit into 64 bits. When called: if the store is not
            valid or has no knowledge graph.
    """

    def rewire(
        self, head: Tensor, relation: Tensor, tail: Tensor, sizes: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        order = torch.randperm(relation.numel(), generator=rng)
        shuffled, place = torch.empty_like(tail), relation.argsort(stable=True)
        shuffled[place] = tail[order[relation[order].argsort(stable=True)]]
        return head, relation, shuffled


@functional_transform("permute_relations")
class PermuteRelations(_Rewired):
    """Permutes the relations among the triples.

    Who is joined to whom stays, and how many triples each relation has; what joins them is left to chance. Links,
    seed and further tensors are as in :class:`ShuffleTails`.

    Args:
        seed: Seed of the permutation.

    Raises:
        TypeError: If ``seed`` is no whole number.
        ValueError: If ``seed`` is negative or does not fit into 64 bits. When called: if the store is not
            valid or has no knowledge graph.
    """

    def rewire(
        self, head: Tensor, relation: Tensor, tail: Tensor, sizes: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        return head, relation[torch.randperm(relation.numel(), generator=rng)], tail


@functional_transform("random_knowledge")
class RandomKnowledge(_Rewired):
    """As many triples whose heads, relations and tails are drawn uniformly, each by itself.

    Nothing of the graph stays but its size. Links, seed and further tensors are as in :class:`ShuffleTails`.

    Args:
        seed: Seed of the triples.

    Raises:
        TypeError: If ``seed`` is no whole number.
        ValueError: If ``seed`` is negative or does not fit into 64 bits. When called: if the store is not
            valid or has no knowledge graph.
    """

    def rewire(
        self, head: Tensor, relation: Tensor, tail: Tensor, sizes: tuple[int, int], rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        number, (num_entities, num_relations) = relation.numel(), sizes

        def draw(most: int) -> Tensor:
            return torch.randint(max(most, 1), (number,), generator=rng)

        return draw(num_entities), draw(num_relations), draw(num_entities)
