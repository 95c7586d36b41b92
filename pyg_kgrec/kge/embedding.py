"""Pre-trained embeddings of a store's entities and relations: given, kept in a file, or learned here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import KGEModel, RotatE, TransE

from pyg_kgrec._checks import check_at_least
from pyg_kgrec._files import kind_of, pack, read_packed, replace_file, shown
from pyg_kgrec.data.store import ENTITY, RELATES, has_knowledge, num_relations, validate
from pyg_kgrec.data.triples import PARTS, triples

KGEmbedding: TypeAlias = KGEModel | tuple[Tensor, Tensor] | str | os.PathLike[str]
"""A trained model, its embeddings of entities and relations, or a file that keeps them."""

_KIND: Final = "knowledge graph embedding"


class KGTables(NamedTuple):
    """Embeddings of entities ``[num_entities, K]`` and of relations ``[num_relations, K]``."""

    entity: Tensor
    relation: Tensor


def kg_embeddings(
    data: HeteroData, given: KGEmbedding | None = None, hidden_channels: int = 64
) -> KGTables | None:
    """Embeddings of the entities and relations of a store, as far as there are any: nothing is trained here.

    Entities of a :class:`~torch_geometric.nn.kge.TransE` are brought to norm 1, as that model has them in its
    distance; other models' embeddings (``node_emb``, ``rel_emb``) are taken as they are, real and imaginary parts
    side by side (of a :class:`~torch_geometric.nn.kge.RotatE`'s relations those of the rotations).

    Args:
        data: A store with triples.
        given: A trained model, a pair of float tensors ``[num_entities, K]`` and ``[num_relations, K]``, or a
            file that :func:`pretrained_embeddings` wrote or is to write.
        hidden_channels: K of the TransE whose embeddings the file keeps.

    Returns:
        The embeddings, on the CPU, in PyTorch's default dtype, without gradients; None where nothing is given or
        the file is not there yet, so that :func:`pretrained_embeddings` is to learn them.

    Raises:
        TypeError: If what is given is of another kind or dtype, or ``data`` is no store.
        ValueError: If the store is damaged or has no knowledge graph, the shapes are not those of the store, there
            is NaN or infinity, or the file is damaged or of another knowledge graph.
        FileNotFoundError: If the file is not there yet, and its folder neither.
    """
    _check_graph(data, hidden_channels)
    if given is None:
        return None
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path.exists():
            return _read(path, data, _fingerprint(data, hidden_channels))
        _check_folder(path)
        return None
    if isinstance(given, KGEModel):
        tables = _of_model(given)
    elif isinstance(given, tuple) and len(given) == 2:
        tables = KGTables(*given)
    else:
        raise TypeError(
            f"kg_embedding is {kind_of(given)}, expected a KGEModel of torch_geometric.nn.kge, a pair of "
            "tensors (entities, relations) or the name of a file"
        )
    return _checked(tables, data)


def pretrained_embeddings(
    data: HeteroData,
    hidden_channels: int = 64,
    *,
    path: str | os.PathLike[str] | None = None,
    progress: bool = True,
    seed: int = 0,
    **arguments: Any,
) -> KGTables:
    """Embeddings of the entities and relations of a store by a TransE that is trained on its triples.

    The embeddings that were trained last are kept in memory: a further model on the same knowledge graph has them
    at once.

    Args:
        data: A store with triples.
        hidden_channels: K, size of the embeddings.
        path: A file: read where it is there, written where it is not.
        progress: Say what is done and for how many triples, and show a progress bar.
        seed: Seed of the first weights and of training; the global random state is left as it was.
        arguments: Further arguments of :func:`~pyg_kgrec.pretrain_transe`.

    Returns:
        The embeddings, on the CPU, in PyTorch's default dtype, without gradients.

    Raises:
        TypeError: If ``data`` is no store, or an argument has another type.
        ValueError: If the store is damaged or has no triples, an argument is out of range, or the file is damaged
            or of another knowledge graph.
        FileNotFoundError: If the folder of ``path`` is missing.
    """
    _check_graph(data, hidden_channels)
    if path is not None:
        kept = kg_embeddings(data, path, hidden_channels)
        if kept is not None:
            return kept
    tables = _trained(data, hidden_channels, progress, {"seed": seed, **arguments})
    if path is not None:
        graph = _fingerprint(data, hidden_channels)
        replace_file(Path(path), pack({"graph": graph, **tables._asdict()}, _KIND))
    return tables


_last: dict[Any, KGTables] = {}
"""The embeddings that were trained last, by what they depend on: at most one entry."""


def _trained(data: HeteroData, hidden_channels: int, progress: bool, arguments: dict[str, Any]) -> KGTables:
    # By content and not by address: the copies of a store that models hold have the same embeddings.
    given = {name: _content(value, data) for name, value in arguments.items()}
    key = _fingerprint(data, hidden_channels), torch.get_default_dtype(), repr(sorted(given.items()))
    tables = _last.get(key)
    if tables is None:
        if progress:
            print(
                f"Training a TransE of {hidden_channels} channels on {data[RELATES].num_edges:,} triples for the "
                "embeddings of entities and relations; kg_embedding='a file' would keep them."
            )
        from pyg_kgrec.kge.training import pretrain_transe  # Lightning with it: where something is trained

        model = pretrain_transe(data, hidden_channels, progress=progress, **arguments)
        tables = _checked(_of_model(model), data)
        _last.clear()
        _last[key] = tables
    # Whoever asks may change what they are given; the next one is to have what was trained.
    return KGTables(*(table.clone() for table in tables))


def _content(value: Any, data: HeteroData) -> Any:
    """An argument of training, or what a store says: all that evaluation depends on, not the shapes in its repr."""
    if not isinstance(value, HeteroData):
        return value
    validate(value)
    digest = hashlib.sha256()
    for store, parts in ((data, ()), (value, PARTS)):  # ids of both: they are compared
        size = store[ENTITY].num_nodes if has_knowledge(store) else None
        ids = store[ENTITY].get("id") if has_knowledge(store) else None
        labels = list(store.relation_name) if has_knowledge(store) else None
        digest.update(repr((size, None if ids is None else list(ids), labels)).encode())
        for part in parts:
            held = triples(store, part)
            digest.update(repr(held.shape).encode() + held.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_graph(data: HeteroData, hidden_channels: int) -> None:
    """Looks at the store before it is asked for parts: PyG adds a part that is asked for and missing."""
    validate(data)
    if not has_knowledge(data):
        raise ValueError("data has no knowledge graph, expected a store with triples")
    check_at_least(1, hidden_channels=hidden_channels)


def _of_model(model: KGEModel) -> KGTables:
    entity, relation = model.node_emb.weight, model.rel_emb.weight
    if isinstance(model, TransE):
        return KGTables(normalize(entity, p=model.p_norm, dim=-1), relation)
    if isinstance(model, RotatE):
        relation = torch.cat([relation.cos(), relation.sin()], dim=-1)
    elif hasattr(model, "rel_emb_im"):
        relation = torch.cat([relation, model.rel_emb_im.weight], dim=-1)
    if hasattr(model, "node_emb_im"):
        entity = torch.cat([entity, model.node_emb_im.weight], dim=-1)
    return KGTables(entity, relation)


def _checked(tables: KGTables, data: HeteroData) -> KGTables:
    sizes = {"entities": data[ENTITY].num_nodes, "relations": num_relations(data)}
    found = []
    for (name, size), table in zip(sizes.items(), tables):
        if not isinstance(table, Tensor):
            raise TypeError(f"kg_embedding has {kind_of(table)} for {name}, expected a float tensor")
        if not table.is_floating_point():
            raise TypeError(f"kg_embedding has {table.dtype} for {name}, expected a float tensor")
        if table.dim() != 2 or table.size(0) != size or table.size(1) == 0:
            raise ValueError(
                f"kg_embedding has {name} of shape {list(table.shape)}, expected [{size}, K]: the store has {size} "
                f"{name}"
            )
        if not bool(table.isfinite().all()):
            row = int((~table.isfinite()).any(dim=1).nonzero()[0])
            raise ValueError(
                f"kg_embedding has NaN or infinity among {name} (first in row {row}), expected finite embeddings"
            )
        found.append(table.detach().to("cpu", torch.get_default_dtype(), copy=True))
    if found[0].size(1) != found[1].size(1):
        raise ValueError(
            f"kg_embedding has entities of {found[0].size(1)} channels and relations of {found[1].size(1)}, "
            "expected as many: one is added to the other"
        )
    return KGTables(*found)


# ---------------------------------------------------------------------- files


def _check_folder(path: Path) -> None:
    """Raises FileNotFoundError before minutes of training rather than after them."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{shown(path.parent)} is not a folder to keep {shown(path.name)} in")


def _read(path: Path, data: HeteroData, graph: str) -> KGTables:
    content = read_packed(path, _KIND)
    if content.keys() != {"graph", *KGTables._fields}:
        raise ValueError(f"{shown(path)} is no file of embeddings of this package: other parts stand in it")
    if content["graph"] != graph:
        raise ValueError(
            f"{shown(path)} holds embeddings of another knowledge graph or another number of channels, expected "
            "those of this store: remove it to learn anew"
        )
    return _checked(KGTables(content["entity"], content["relation"]), data)


def _fingerprint(data: HeteroData, hidden_channels: int) -> str:
    """What the embeddings depend on: triples in their order, entities and relations by number, and channels."""
    store, digest = data[RELATES], hashlib.sha256()
    sizes = data[ENTITY].num_nodes, list(data.relation_name), int(hidden_channels)
    digest.update(repr(sizes).encode())
    for tensor in (store.edge_index, store.edge_type):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
