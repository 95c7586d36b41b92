"""What all models share: prediction, ranking, similarity, files."""

from __future__ import annotations

import os
import pickle
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec._files import save_whole
from pyg_kgrec.data.cache import cached
from pyg_kgrec.data.interactions import positive_pairs, seen_pairs
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.data.vocabulary import Vocabulary, as_index
from pyg_kgrec.models.signature import StoreSignature

if TYPE_CHECKING:
    from pyg_kgrec.explain import Explanation

FORMAT = 1
Encoded = TypeVar("Encoded")
Nodes = Any
"""A LongTensor or integer array of indices, or a list or Series of raw ids."""


class Recommender(torch.nn.Module, ABC):
    """A model that scores items for users of a store.

    A model keeps sizes, raw ids and weights, never the graph: every method takes the store to work on, encodes it
    with the weights of the moment and forgets it. Users and items are given as indices (tensor, array) or raw ids
    (list, Series).

    A model fills in :meth:`encode`, :meth:`score_encoded`, :meth:`score_all_encoded`, :meth:`item_vectors` and,
    if it learns by gradients, :meth:`training_losses`.

    Args:
        data: The store to be trained on, or the signature of one.
        settings: The constructor's further arguments, as a checkpoint keeps them.
    """

    fit_defaults: ClassVar[dict[str, Any]] = {}
    """Arguments of :func:`pyg_kgrec.fit` that suit this model where the caller gives none."""

    def __init__(self, data: HeteroData | StoreSignature, settings: dict[str, Any]) -> None:
        super().__init__()
        self.signature = data if isinstance(data, StoreSignature) else StoreSignature.from_store(data)
        self.settings = settings

    # ------------------------------------------------------------------ to be filled in by a model

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all parameters anew."""

    @abstractmethod
    def encode(self, data: HeteroData) -> Any:
        """Everything that scores need from the store, computed once for many users."""

    @abstractmethod
    def score_encoded(self, encoded: Any, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs, ``[B]``."""

    @abstractmethod
    def score_all_encoded(self, encoded: Any, user: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``[B, num_items]``."""

    @abstractmethod
    def item_vectors(self, encoded: Any) -> Tensor:
        """Vectors whose cosine tells how alike two items are, ``[num_items, d]``."""

    def training_losses(
        self, data: HeteroData, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss of a batch of positive pairs; their sum is minimised."""
        raise TypeError(f"{type(self).__name__} has nothing to be trained by gradients")

    # ------------------------------------------------------------------ what fit asks for, where pairs are not all

    knowledge_interval: int | None = None
    """Batches of the recommendation task between two batches of triples; None for a model without such a task."""

    knowledge_lr: float = 1.0
    """Learning rate of the triples' task, as a multiple of the other one."""

    def training_examples(self, data: HeteroData) -> tuple[Tensor, ...]:
        """What an epoch goes through, tensors of one length ``[n, …]``; by default users and items of positives."""
        user, item = positive_pairs(data)
        return user, item

    def batch_losses(
        self, data: HeteroData, batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss of a batch of :meth:`training_examples`."""
        return self.training_losses(data, batch[0], batch[1], generator)

    def knowledge_losses(
        self, data: HeteroData, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss of a batch of triples, ``[B]`` positions in the store."""
        raise TypeError(f"{type(self).__name__} learns nothing from triples by themselves")

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """What the optimiser learns, in groups with a learning rate each, where ``lr`` is the one asked for."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]

    def constrain(self) -> None:
        """Puts the weights back where they may be; called after every step of training."""

    def epoch_metrics(self, data: HeteroData) -> dict[str, float]:
        """Further columns of the history, computed on the training store at the end of an epoch."""
        return {}

    def _explain(self, data: HeteroData, user: int, item: int) -> Explanation:
        raise TypeError(f"{type(self).__name__} has no explanations")

    # ------------------------------------------------------------------ prediction

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        tensor: Tensor | None = next(self.parameters(), None)
        tensor = next(self.buffers(), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Evaluation mode without gradients; the mode of before is restored."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def score(self, data: HeteroData, users: Nodes, items: Nodes) -> Tensor:
        """Scores of user–item pairs.

        Args:
            data: The store to predict on.
            users: Users, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            items: Items, ``[B]``, likewise.

        Returns:
            One score a pair, ``[B]``.

        Raises:
            ValueError: If the numbers of users and items differ, an id is unknown or an index out of range, or the
                store does not fit the model.
        """
        self.signature.check(data)
        user, item = self._index(data, USER, users), self._index(data, ITEM, items)
        if user.numel() != item.numel():
            raise ValueError(
                f"users has {user.numel()} entries and items {item.numel()}, expected one item a user"
            )
        with self.predicting():
            return self.score_encoded(self.encode(data), user, item)

    def score_all(self, data: HeteroData, users: Nodes) -> Tensor:
        """Scores of every item for some users, ``[B, num_items]``; arguments and errors as in :meth:`score`."""
        self.signature.check(data)
        user = self._index(data, USER, users)
        with self.predicting():
            return self.score_all_encoded(self.encode(data), user)

    def recommend(
        self, data: HeteroData, users: Nodes, k: int = 10, *, as_frame: bool = False, batch_size: int = 1024
    ) -> Any:
        """The best items for some users, without what they have had.

        Pairs in the store's ``edge_index`` and ``seen_edge_index`` are never recommended. A user without training
        items is ranked by what the model has (its ID embedding, features, or nothing).

        Args:
            data: The store to predict on.
            users: Users, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            k: Number of items a user.
            as_frame: Return a DataFrame with a row a recommendation: ``user``, ``rank`` (from 1), ``item``,
                ``score``, as raw ids, and ``name`` where items have names.
            batch_size: Users ranked at a time.

        Returns:
            Items ``[B, k]`` int64 and scores ``[B, k]``, padded with −1 and −inf where a user has fewer than ``k``
            items left; or a DataFrame.

        Raises:
            ValueError: If ``k`` is not between 1 and the number of items, an id is unknown or an index out of
                range, or the store does not fit the model.
        """
        self.signature.check(data)
        check_k(k, data[ITEM].num_nodes)
        check_batch_size(batch_size)
        user = self._index(data, USER, users)
        with self.predicting():
            items, scores = self.rank(data, self.encode(data), user, k, batch_size)
        if not as_frame:
            return items, scores
        return self._frame(data, USER, user, items, scores)

    def rank(
        self, data: HeteroData, encoded: Any, user: Tensor, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Top ``k`` unseen items of users from what :meth:`encode` returned; see :meth:`recommend`."""
        seen = seen_pairs(data, user.device)
        found: list[tuple[Tensor, Tensor]] = []
        for batch in user.split(batch_size):
            score = self.score_all_encoded(encoded, batch)
            score[seen.select(batch)] = -torch.inf
            top, item = score.topk(k, dim=1)
            found.append((item.masked_fill_(top == -torch.inf, -1), top))
        if not found:
            empty = torch.empty(0, k, device=user.device)
            return empty.long(), empty
        return torch.cat([item for item, _ in found]), torch.cat([score for _, score in found])

    def similar_items(self, data: HeteroData, items: Nodes, k: int = 10, *, as_frame: bool = False) -> Any:
        """The items most alike in the model's eyes, by the cosine of their vectors, without the item itself.

        Args:
            data: The store to predict on.
            items: Items, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            k: Number of similar items an item.
            as_frame: Return a DataFrame as :meth:`recommend` does, with ``similar`` for the item found.

        Returns:
            Items ``[B, k]`` int64 and cosines ``[B, k]``, padded as in :meth:`recommend`; or a DataFrame.
        """
        self.signature.check(data)
        check_k(k, data[ITEM].num_nodes)
        item = self._index(data, ITEM, items)
        with self.predicting():
            vector = torch.nn.functional.normalize(self.item_vectors(self.encode(data)), dim=-1)
            cosine = vector[item] @ vector.t()
            cosine[torch.arange(item.numel(), device=item.device), item] = -torch.inf
            scores, similar = cosine.topk(k, dim=1)
            similar.masked_fill_(scores == -torch.inf, -1)
        return self._frame(data, ITEM, item, similar, scores) if as_frame else (similar, scores)

    def explain(self, data: HeteroData, user: Nodes, item: Nodes) -> Explanation:
        """Why a user gets an item: what the score is made of.

        Args:
            data: The store to predict on.
            user: One user: an index (int tensor) or a raw id (str, int, or a list of one).
            item: One item, likewise.

        Returns:
            An explanation with ``.to_frame()``, ``.plot()`` and HTML for notebooks.

        Raises:
            ValueError: If not exactly one user and one item are given, or they are unknown.
        """
        self.signature.check(data)
        user_index, item_index = self._index(data, USER, user), self._index(data, ITEM, item)
        if user_index.numel() != 1 or item_index.numel() != 1:
            raise ValueError(
                f"an explanation is of one user and one item, got {user_index.numel()} and {item_index.numel()}"
            )
        with self.predicting():
            return self._explain(data, int(user_index), int(item_index))

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights, settings and the signature of the training store to a file.

        The file holds tensors, numbers and strings only, and is written whole: under a temporary name first.

        Raises:
            FileNotFoundError: If the folder is missing.
        """
        content = {
            "pyg_kgrec": FORMAT,
            "model": type(self).__name__,
            "settings": self.settings,
            "schema": self.signature.state(),
            "state_dict": self.state_dict(),
        }
        save_whole(content, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: HeteroData | None = None) -> Self:
        """Reads a model that :meth:`save` wrote; no code in the file is run.

        Args:
            path: The file.
            data: A store the model is to be used on; checked against the model here, so that a misfit is known
                at once.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, holds another model, or does not fit ``data``.
        """
        content = _read(Path(path))
        if content["model"] != cls.__name__:
            raise ValueError(f"{path} holds a {content['model']}, expected a {cls.__name__}")
        schema = StoreSignature.from_state(content["schema"])
        if data is not None:
            schema.check(data)
        model = cls(schema, **content["settings"])  # type: ignore[call-arg]
        model.load_state_dict(content["state_dict"])
        return model.eval()

    # ------------------------------------------------------------------ ids and names

    def _index(self, data: HeteroData, node_type: str, nodes: Nodes) -> Tensor:
        return as_index(nodes, vocabulary(data, node_type), data[node_type].num_nodes, node_type).to(
            self.device
        )

    def _frame(
        self, data: HeteroData, node_type: str, source: Tensor, items: Tensor, scores: Tensor
    ) -> pd.DataFrame:
        k = items.size(1)
        found = (items >= 0).flatten().cpu()
        item = items.flatten().cpu()[found]
        columns: dict[str, Any] = {
            node_type: raw_ids(data, node_type, source.repeat_interleave(k).cpu()[found]),
            "rank": torch.arange(1, k + 1).repeat(source.numel())[found].numpy(),
            ITEM if node_type == USER else "similar": raw_ids(data, ITEM, item),
        }
        if "name" in data[ITEM]:
            columns["name"] = [data[ITEM].name[i] for i in item.tolist()]
        columns["score"] = scores.flatten().cpu()[found].numpy()
        return pd.DataFrame(columns)


def vocabulary(data: HeteroData, node_type: str) -> Vocabulary | None:
    """Raw ids of a node type, None where the store has none; built once for the store."""
    store = data[node_type]
    if "id" not in store:
        return None
    return cached(data, ("vocabulary", node_type), [store.id], lambda: Vocabulary(store.id, node_type))


def raw_ids(data: HeteroData, node_type: str, index: Tensor) -> list[Any]:
    """Raw ids of nodes, or their indices where the store has none."""
    words = vocabulary(data, node_type)
    return index.tolist() if words is None else list(words.to_raw(index))


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless at least one user is ranked at a time."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")


def check_k(k: int, num_items: int) -> None:
    """Raises ValueError unless ``k`` items can be taken from the catalogue."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= num_items:
        raise ValueError(
            f"k is {k!r}, expected a whole number from 1 to the {num_items} items of the catalogue"
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(broken)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of this package: it cannot be read") from error
    parts = {"model", "settings", "schema", "state_dict"}
    if not isinstance(content, dict) or content.get("pyg_kgrec") != FORMAT or not parts <= content.keys():
        raise ValueError(f"{path} is no checkpoint of this package, or of another version of its format")
    return content


@dataclass(frozen=True)
class EncodedPairs:
    """Vectors whose inner product is the score: ``user`` ``[num_users, d]`` and ``item`` ``[num_items, d]``."""

    user: Tensor
    item: Tensor


class DotProductRecommender(Recommender):
    """A model whose score is an inner product of a user's and an item's vector."""

    @abstractmethod
    def encode(self, data: HeteroData) -> EncodedPairs:
        """Vectors of all users and items of the store."""

    def score_encoded(self, encoded: EncodedPairs, user: Tensor, item: Tensor) -> Tensor:
        """Inner products of pairs, ``[B]``."""
        return (encoded.user[user] * encoded.item[item]).sum(-1)

    def score_all_encoded(self, encoded: EncodedPairs, user: Tensor) -> Tensor:
        """Inner products with every item, ``[B, num_items]``."""
        return encoded.user[user] @ encoded.item.t()

    def rank(
        self, data: HeteroData, encoded: EncodedPairs, user: Tensor, k: int, batch_size: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Top ``k`` unseen items of users by :func:`pyg_kgrec.ops.rank_topk`."""
        seen = seen_pairs(data, user.device).rows(user)
        return ops.rank_topk(encoded.user[user], encoded.item, k, seen, batch_size)

    def item_vectors(self, encoded: EncodedPairs) -> Tensor:
        """The items' vectors."""
        return encoded.item
