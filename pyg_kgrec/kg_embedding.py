"""Pre-trained vectors of a store's entities and relations: given, read from a file, or learned here."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import KGEModel, RotatE, TransE

from pyg_kgrec._files import save_whole
from pyg_kgrec.data.store import ENTITY, RELATES, num_relations
from pyg_kgrec.pretraining import pretrain_transe

KGEmbedding: TypeAlias = KGEModel | tuple[Tensor, Tensor] | str | os.PathLike[str]
"""A trained model, its two tables, or a file that keeps them."""

FORMAT = 1


class KGTables(NamedTuple):
    """Vectors of entities ``[num_entities, K]`` and of relations ``[num_relations, K]``."""

    entity: Tensor
    relation: Tensor


def kg_tables(data: HeteroData, given: KGEmbedding | None = None, hidden_channels: int = 64) -> KGTables:
    """Vectors of the entities and relations of a store.

    Entities of a :class:`~torch_geometric.nn.kge.TransE` are brought to norm 1, as that model has them in its
    distance; other models' tables (``node_emb``, ``rel_emb``) are taken as they are, real and imaginary parts
    side by side (of a :class:`~torch_geometric.nn.kge.RotatE`'s relations those of the rotations).

    Args:
        data: A store with triples.
        given: A trained model, a pair of float tensors ``[num_entities, K]`` and ``[num_relations, K]``, or a
            file: read where it is there, and written where it is not. By default a TransE is trained
            (:func:`pyg_kgrec.pretrain_transe`), once for a store and as long as that lives.
        hidden_channels: K of the TransE that is trained here.

    Returns:
        The tables, on the CPU, in PyTorch's default dtype, without gradients.

    Raises:
        TypeError: If what is given is of another kind or dtype.
        ValueError: If its shapes are not those of the store, it holds NaN or infinity, or the file is damaged
            or of another knowledge graph.
    """
    if isinstance(given, str | os.PathLike):
        return _from_file(Path(given), data, hidden_channels)
    if isinstance(given, KGEModel):
        tables = _of_model(given)
    elif isinstance(given, tuple) and len(given) == 2:
        tables = KGTables(*given)
    else:
        raise TypeError(
            f"kg_embedding is a {type(given).__name__}, expected a KGEModel of torch_geometric.nn.kge, a pair of "
            "tensors (entities, relations) or the name of a file"
        )
    return _checked(tables, data)


def train_kg_tables(data, hidden_channels, file=None, *, progress=True):
    tables = _checked(_of_model(pretrain_transe(data, hidden_channels, progress=progress)), data)
    if file is not None:
        save_whole(
            {"kg_embedding": FORMAT, "graph": _fingerprint(data, hidden_channels), **tables._asdict()}, file
        )
    return tables


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
            raise TypeError(f"kg_embedding has a {type(table).__name__} for {name}, expected a float tensor")
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
                f"kg_embedding has NaN or infinity among {name} (first in row {row}), expected finite vectors"
            )
        found.append(table.detach().to("cpu", torch.get_default_dtype(), copy=True))
    if found[0].size(1) != found[1].size(1):
        raise ValueError(
            f"kg_embedding has entities of {found[0].size(1)} channels and relations of {found[1].size(1)}, "
            "expected as many: one is added to the other"
        )
    return KGTables(*found)


# ---------------------------------------------------------------------- files


def _from_file(path: Path, data: HeteroData, hidden_channels: int) -> KGTables:
    """The tables that a file keeps; learned and written where there is none yet."""
    graph = _fingerprint(data, hidden_channels)
    if path.exists():
        return _read(path, data, graph)
    if not path.parent.is_dir():  # before minutes of training
        raise FileNotFoundError(f"{path.parent} is not a folder to keep {path.name} in")
    return None


def _read(path: Path, data: HeteroData, graph: str) -> KGTables:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content["kg_embedding"], content["graph"]
        tables = KGTables(content["entity"], content["relation"])
    except (
        RuntimeError,
        EOFError,
        OSError,
        pickle.UnpicklingError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        raise ValueError(
            f"{path} is damaged or no file of vectors of a knowledge graph: it cannot be read"
        ) from error
    if found != (FORMAT, graph):
        raise ValueError(
            f"{path} holds vectors of another knowledge graph or another number of channels, expected those of "
            "this store: remove it to learn anew"
        )
    return _checked(tables, data)


def _fingerprint(data: HeteroData, hidden_channels: int) -> str:
    """What the vectors depend on: triples in their order, entities and relations by number, and channels."""
    store, digest = data[RELATES], hashlib.sha256()
    sizes = data[ENTITY].num_nodes, list(data.relation_name), hidden_channels
    digest.update(repr(sizes).encode())
    for tensor in (store.edge_index, store.edge_type):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
