"""What all models share: a store is prepared once; prediction, ranking, similarity, explanation, files."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeAlias, cast, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import as_python, plain_numbers, to_numpy
from pyg_kgrec._checks import (
    check_encoded,
    check_flag,
    check_k,
    check_optional,
    check_scores,
    check_weights,
    meant,
)
from pyg_kgrec._deprecation import renamed_arguments
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._tables import frame_of, table_of
from pyg_kgrec.data.interactions import PairIndex, positive_pairs
from pyg_kgrec.data.store import ENTITY, ITEM, NODE_TYPES, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.data.vocabulary import as_index
from pyg_kgrec.explain import Explanation, Explanations
from pyg_kgrec.explain.measured import measure
from pyg_kgrec.explain.units import Removals, Units
from pyg_kgrec.models import checkpoint, newcomers, pretrained
from pyg_kgrec.models.encoding import Encoding, rows_at_once
from pyg_kgrec.models.folding import encode_with_rows, fold_in
from pyg_kgrec.models.inputs import Inputs, StoreStamp, WeightStamp, node_columns
from pyg_kgrec.models.module import ScoreModule
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.strangers import (
    Known,
    Sources,
    WithStrangers,
    answers,
    is_told,
    known_nodes,
    popularity,
    sentence,
)
from pyg_kgrec.nn.encoder import NodeEncoder
from pyg_kgrec.ops.ranking import best

Store: TypeAlias = HeteroData | Inputs
"""A store, or what :meth:`Recommender.prepare` made of one."""

Nodes: TypeAlias = Tensor | np.ndarray | Sequence[str] | Sequence[int] | pd.Series | pd.Index | str | int
"""Indices (a tensor or an array of integers), or raw ids (a list, a Series, or a single one)."""

Pairs: TypeAlias = Tensor | np.ndarray | pd.DataFrame | Sequence[tuple[str | int, str | int]]
"""Users and items: indices ``[2, n]``, or raw ids (positions where the store has none), as a DataFrame with the
columns ``user`` and ``item`` (or ``user_id`` and ``item_id``) or as a list of pairs."""

Batch: TypeAlias = tuple[Tensor, ...]

_RAW = str | int | np.integer


@dataclass(frozen=True)
class Validation:
    """A validation store as :meth:`Recommender.solve` sees it: called, it measures the model as it is.

    Attributes:
        monitor: The metric to choose by, which is better the larger it is.
        measure: All metrics of the model as it is.
    """

    monitor: str
    measure: Callable[[], dict[str, float]]

    def __call__(self) -> dict[str, float]:
        """All metrics of the model as it is."""
        return self.measure()


class _PreparedStores(WeakIdKeyDictionary):
    """Stores that a model has read; a copy of the model reads its own, however it is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _PreparedStores:
        return _PreparedStores()

    def __reduce__(self) -> tuple[type[_PreparedStores], tuple[()]]:
        return _PreparedStores, ()


def _arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, defaults and what ``**`` takes included; without model and store."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    out: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[2:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            out |= value
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            out[name] = value
    return {name: as_python(value) for name, value in out.items()}


def _noted(init: Callable[..., None]) -> Callable[..., None]:
    """Keeps what a constructor is called with, by its own class or by one that is derived from it."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        given: dict[str, Any] = {}
        with contextlib.suppress(TypeError):  # which the constructor raises itself
            given = _arguments(signature, (self, *args), kwargs)
        self.built_with |= given
        init(self, *args, **kwargs)
        for name in given:
            if not _is_plain(self.built_with.get(name)):  # embeddings, say, which are copied to the weights
                del self.built_with[name]

    return call


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | None)


class Recommender(torch.nn.Module, ABC):
    """A model that scores items for users of a store.

    A model keeps sizes, raw ids and weights, never the graph: every method takes the store to work on, or the
    :class:`~pyg_kgrec.models.inputs.Inputs` that :meth:`prepare` made of it. Users and items are given as indices
    (tensor, array) or raw ids (list, Series). Prediction runs in evaluation mode and without gradients, whatever
    mode the model is in, changes nothing in it, and may be called from several threads at once.

    A model fills in :meth:`reset_parameters`, :meth:`encode` and, if it learns by gradients,
    :meth:`training_losses`. All three work on inputs, never on a store. The constructor's arguments are kept as
    :attr:`settings` without a line of the model's own.

    Args:
        data: The store to be trained on, or the signature of one.
    """

    fit_defaults: ClassVar[dict[str, Any]] = {}
    """Arguments of :func:`pyg_kgrec.fit` that suit this model where the caller gives none."""

    search_space: ClassVar[dict[str, Any]] = {}
    """What ``fit(…, tune=True)`` and ``compare(…, tune={name: True})`` search: arguments of ``fit`` and settings
    that leave the shapes of the weights as they are, each a list of values or a pair of lowest and highest."""

    fold_prior: ClassVar[float] = 0.1
    """Weight κ of the prior by which :meth:`fold_in` holds a new user's row near those of training."""

    node_types: ClassVar[tuple[str, ...]] = NODE_TYPES
    """Node types that the model knows."""

    hears: ClassVar[Sources] = MappingProxyType({USER: ("row", "features"), ITEM: ("row", "features")})
    """What makes a user or an item known to the model (:data:`~pyg_kgrec.models.strangers.Source`). A user who is
    not known is ranked by popularity, an item that is not comes last; see :meth:`strangers`."""

    of_graph: ClassVar[tuple[str, ...]] = ()
    """Arguments of the constructor that were learned from a knowledge graph, so that they fit no other; None each
    where the model learns from the graph of its store."""

    of_graph_given: tuple[str, ...] = ()
    """Those of :attr:`of_graph` that the model was made with."""

    def _kept_settings(self) -> dict[str, Any]:
        """Settings for a constructor that is given a signature, with what was given and stands in the weights."""
        given = {name: "given" for name in self.of_graph_given if self.settings.get(name) is None}
        return self.settings | given

    def _of_graph(self, data: HeteroData) -> dict[str, Any]:
        """Arguments of :attr:`of_graph` that were given and are no settings, for a model of another store."""
        return {}

    shown: ClassVar[tuple[str, ...]] = ()
    """Settings that the model's ``repr`` shows after the sizes of its store."""

    settings: dict[str, Any]
    built_with: dict[str, Any]
    """Arguments of all its constructors by name, of a base class's those that it was called with."""

    """The constructor's further arguments, defaults included, as a checkpoint keeps them."""

    threshold: float = 0.0
    """Scores above it stand for label 1 in ``evaluate(…, task='ctr')``; kept by :meth:`save`. 0 is right for
    logits; :func:`pyg_kgrec.choose_threshold` and ``fit(…, monitor='auc')`` choose it on labelled pairs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lets the constructor see plain numbers: files and PyTorch's modules take none of NumPy's."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _noted(plain_numbers(cls.__init__))  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the arguments that the constructor is called with."""
        model = super().__new__(cls)
        if args or kwargs:  # copying and unpickling make objects without arguments
            signature = inspect.signature(cls.__init__)
            takes_any = any(x.kind is x.VAR_KEYWORD for x in signature.parameters.values())
            for name in () if takes_any else kwargs:
                if name not in signature.parameters:
                    known = list(signature.parameters)[2:]
                    hint = meant(name, known) or f", expected one of {shown(', '.join(known), 200)}"
                    raise TypeError(f"{cls.__name__} has no argument {shown(repr(name), 60)}{hint}")
            settings = _arguments(signature, (model, *args), kwargs)
            object.__setattr__(model, "settings", settings)
            object.__setattr__(model, "built_with", {})
            given = tuple(name for name in settings if name in cls.of_graph and settings[name] is not None)
            object.__setattr__(model, "of_graph_given", given)
        return model

    def _understood(self, **values: Any) -> None:
        """Notes what arguments of a constructor were read as: as the class's settings where they are its own.

        A class that is derived from it may have other arguments, or hand on others than it was given.
        """
        for name, value in values.items():
            given = self.built_with.get(name)
            if name in self.settings and (
                self.settings[name] is given
                or (isinstance(given, int | float) and self.settings[name] == given)
            ):
                self.settings[name] = value
            self.built_with[name] = value

    def __init__(self, data: HeteroData | StoreSignature) -> None:
        super().__init__()
        self.signature = data if isinstance(data, StoreSignature) else StoreSignature.from_store(data)
        # Tells the device of a model without weights, and moves with it.
        self.register_buffer("_placed", torch.empty(0), persistent=False)
        self.identity = object()  # a copy has another one, and prepares stores of its own
        self._prepared: WeakIdKeyDictionary = _PreparedStores()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_prepared": _PreparedStores()}

    # ------------------------------------------------------------------ to be filled in by a model

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all parameters anew."""

    @abstractmethod
    def encode(self, inputs: Inputs) -> Encoding:
        """Everything that scores need, computed once for many users; see :mod:`pyg_kgrec.models.encoding`."""

    def build_graph(self, inputs: Inputs) -> Any:
        """What the model propagates over, built once and kept as ``inputs.graph``; by default None."""
        return None

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The parts of the loss of a batch; their sum is minimised.

        Args:
            inputs: The training store.
            batch: Rows of :meth:`training_examples`: by default users and items of positive pairs, ``[B]`` each.
            generator: Source of all randomness of the step.
        """
        raise TypeError(f"{type(self).__name__} has nothing to be trained by gradients")

    # ------------------------------------------------------------------ what fit asks for, where pairs are not all

    knowledge_interval: int | None = None
    """Batches of the recommendation task between two batches of triples; None for a model without such a task."""

    knowledge_lr: float = 1.0
    """Learning rate of the triples' task, as a multiple of the other one."""

    def pretrain(self, inputs: Inputs, *, progress: bool = True) -> None:
        """What has to be learned before training, by :func:`pyg_kgrec.fit`; by default nothing."""

    def training_examples(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What an epoch goes through, tensors of one length ``[n, …]``; by default users and items of positives.

        Users who have interacted with every item are left out, with a warning: there is nothing to rank below.
        """
        user, item = positive_pairs(inputs.data)
        keep = inputs.has_negatives(user)
        return user[keep], item[keep]

    def knowledge_losses(
        self, inputs: Inputs, triple: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss of a batch of triples, ``[B]`` positions in the store."""
        raise TypeError(f"{type(self).__name__} learns nothing from triples by themselves")

    @property
    def scores_are_logits(self) -> bool:
        """Whether a score above 0 says by itself that label 1 is likelier; by default after ``loss='bce'``."""
        return self.built_with.get("loss") == "bce"

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """What the optimiser learns, in groups with a learning rate each, where ``lr`` is the one asked for."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]

    def constrain(self) -> None:
        """Puts the weights back where they may be; called after every step of training."""

    def epoch_metrics(self, inputs: Inputs) -> dict[str, float]:
        """Further columns of the history, computed on the training store at the end of an epoch."""
        return {}

    def check_ready(self) -> None:
        """Raises ValueError if the model cannot answer yet."""

    def check_state(self) -> None:
        """Raises ValueError if the weights contradict each other; called where a file of the model is read.

        NaN, infinity, shapes and types are looked at before; by default there is nothing else.
        """

    def _explain(self, inputs: Inputs, user: int, item: int) -> Explanation:
        raise TypeError(f"{type(self).__name__} has no explanations")

    def unit_labels(self) -> list[tuple[str, str]]:
        """Names of the model's preferences or slots, each with the relation that it is (empty for none)."""
        return []

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """All that the scores of pairs read, part by part.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.

        Raises:
            TypeError: If the model has no parts that could be left out.
        """
        raise TypeError(f"{type(self).__name__} has no explanations")

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        """Scores of pairs with some of their units really left out.

        That is what the same weights say of a store in which these units have never been.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
            units: Units of the pairs, as :meth:`score_units` gave them, or some of them.
            removals: What is left out together, ``R`` removals.
            every: Score all items for the user of each removal, for ranks.

        Returns:
            ``[R]`` float, or ``[R, num_items]`` with ``every``.
        """
        raise TypeError(f"{type(self).__name__} has no explanations")

    def known_without(
        self, inputs: Inputs, user: Tensor, item: Tensor, units: Units, removals: Removals
    ) -> Tensor | None:
        """Which items the model still knows anything of after removals; arguments as of :meth:`scores_without`.

        Returns:
            ``[R, num_items]`` bool, or None where no removal takes an item's last link or features from it, as by
            default.
        """
        return None

    def as_module(self, data: Store, *, catalogue: bool = False) -> ScoreModule:
        """The model as a module on one homogeneous graph, on which PyG's explainers run.

        Args:
            data: The store whose graph it is, or a prepared one.
            catalogue: Score the catalogue of a pair's user, ``[B, num_items]``, instead of pairs, ``[B]``.

        Returns:
            A module that is called with ``x``, ``edge_index`` and ``edge_type`` of its ``data`` and with an
            ``edge_label_index``; a copy of the weights as they are.

        Raises:
            TypeError: If the model does not propagate over a graph.
            ValueError: If the store does not fit the model.

        Example:
            >>> module = model.as_module(test)
            >>> explainer = Explainer(
            ...     module,
            ...     GNNExplainer(epochs=100),
            ...     explanation_type="model",
            ...     edge_mask_type="object",
            ...     model_config={"mode": "regression", "task_level": "edge", "return_type": "raw"},
            ... )
            >>> graph, pair = module.data, torch.tensor([[0], [3]])
            >>> explainer(graph.x, graph.edge_index, edge_type=graph.edge_type, edge_label_index=pair)
        """
        self.check_ready()
        check_weights(self)
        inputs = self.inputs(data)
        with predicting():
            return self.evaluating()._as_module(inputs, catalogue)

    def _as_module(self, inputs: Inputs, catalogue: bool) -> ScoreModule:
        raise TypeError(
            f"{type(self).__name__} does not propagate over a graph, expected KGRec or LightGCN for "
            "PyG's explainers"
        )

    # ------------------------------------------------------------------ strangers

    def has_features(self, node_type: str) -> bool:
        """Whether features of a node type are a part of its embeddings; by default what ``features`` says."""
        used = self.built_with.get("features") in ("x", "both")
        return used and self.signature.in_channels[node_type] > 0

    def has_rows(self, node_type: str) -> bool:
        """Whether nodes of a type have rows of their own; by default unless features stand for them."""
        return not (self.built_with.get("features") == "x" and self.signature.in_channels[node_type] > 0)

    hears_links: bool = True
    """Whether links count, for a model whose :attr:`hears` has them."""

    reach: int = 1
    """Hops of interactions by which nodes become known, for a model whose :attr:`hears` has interactions."""

    def linked_items(self, inputs: Inputs) -> Tensor:
        """Items that their links make known, ``[num_items]`` bool; by default none."""
        return torch.zeros(inputs.num_items, dtype=torch.bool, device=inputs.device)

    def history(self, inputs: Inputs) -> Tensor:
        """The interactions that the model hears, ``[2, n]`` int64: by default those to propagate over."""
        return inputs.edge_index

    def user_rows(self) -> NodeEncoder | None:
        """The encoder with a row per user, which :meth:`fold_in` adds rows to; by default None, there is none."""
        return None

    def admissible_rows(self, row: Tensor) -> Tensor:
        """Rows of users ``[n, d]`` brought where :meth:`constrain` would bring them; by default as they are."""
        return row

    def with_rows(self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor) -> Encoding:
        """An encoding of some users with other rows, for :meth:`fold_in`.

        By default everything is encoded again, which is right for every model; a model may know a shorter way.

        Args:
            inputs: The store.
            encoding: What :meth:`encode` returned, where the rows of these users are 0.
            user: Users, ``[n]`` int64.
            row: Their rows, ``[n, d]``.

        Returns:
            An encoding whose users 0 … n − 1 are these, differentiable in ``row``.
        """
        return encode_with_rows(self, inputs, user, row)

    def known(self, inputs: Inputs) -> Known:
        """Which users and items of a store the model knows anything of."""
        return inputs.part("known", lambda: known_nodes(self, inputs))

    def strangers(self) -> dict[str, str]:
        """What the model does with users and items that training never saw.

        Returns:
            For a ``'user with history'`` (interactions in the store, not in training): ``'heard'`` (the store's
            interactions are enough), ``'fold_in'`` (ranked by popularity until :meth:`fold_in` has learned the
            user) or ``'popularity'``; for a ``'user without history'`` and a ``'user with features'``:
            ``'features'`` or ``'popularity'``; for an ``'item with link'`` to a known entity, an ``'item with
            features'`` and an ``'item bare'``: ``'link'``, ``'features'`` or ``'last'``.
        """
        return answers(self)

    def fold_in(self, data: Store, users: Nodes) -> Self:
        r"""A copy of the model that serves users whom training did not see, by their history in a store.

        With everything else frozen, the user's row of a model that has one becomes the most probable one given
        the history,

        .. math::
            \mathbf{r}_u = \arg\min_{\mathbf{r}} \sum_{i \in \mathcal{H}_u} \log\Big(1 + \frac{K}{|\bar{
            \mathcal{H}}_u|} \sum_{j \in \bar{\mathcal{H}}_u} e^{s_j - s_i}\Big) + \frac{\kappa}{2} \sum_d
            \frac{(r_d - \mu_d)^2}{\sigma_d^2},

        where s are the scores under the row, :math:`\bar{\mathcal{H}}_u` the items without the history, K the
        number of negatives of training, and μ and σ mean and deviation of the rows of training. It is found by a
        fixed number of gradient steps without randomness. The copy knows the users by raw id (by position where
        there are none), so it can be saved, loaded, explained and trained on; this model is left as it was. What
        was prepared by this model has to be prepared by the copy again.

        A user whom training saw is learned anew from the history. A model without rows of users that hears
        interactions (KSR) needs no folding: the copy answers as the model does.

        Args:
            data: A store that holds the users and their interactions (``edge_index``), or a prepared one.
            users: Users, ``[n]``: indices (tensor, array) or raw ids (list, Series).

        Raises:
            TypeError: If the model has neither rows of users nor an ear for interactions.
            ValueError: If none of the users has an interaction with an item that the model knows, an id is unknown,
                or the store does not fit the model.
        """
        with torch.inference_mode(False):  # the copy may be trained
            inputs = self.inputs(data)
            self.check_ready()
            check_weights(self)
            return fold_in(self, inputs, self._index(inputs, USER, users))

    # ------------------------------------------------------------------ what is learned without gradients

    def fit_parts(self, fit_part: Callable[[str, Recommender, dict[str, Any]], pd.DataFrame]) -> None:
        """Fits the models that this one is made of, before anything else; by default there are none.

        Args:
            fit_part: Fits a part of this name on the same stores, with arguments of :func:`pyg_kgrec.fit` for it
                alone, and returns its history.
        """

    def solve(self, inputs: Inputs, validate: Validation | None) -> list[dict[str, float]]:
        """What :func:`pyg_kgrec.fit` asks of a model without anything to be learned by gradients.

        The model finds its weights in closed form and chooses its few numbers by ``validate``.

        Args:
            inputs: The training store.
            validate: Returns the metrics of the model as it is on the validation store, and names the one to
                choose by; None where ``fit`` has no validation store.

        Returns:
            One row of the history for everything that was tried; by default none, there is nothing to be solved.
        """
        return []

    @property
    def parts(self) -> dict[str, Recommender]:
        """The models that this one is made of, by name; a file of the model holds them too. By default none."""
        return {}

    @classmethod
    def from_parts(cls, parts: dict[str, Recommender], settings: dict[str, Any]) -> Self:
        """A model of these parts, as a file holds it."""
        raise TypeError(f"{cls.__name__} is not made of other models")

    def learns(self) -> bool:
        """Whether there are weights that gradients teach."""
        return any(p.requires_grad for group in self.parameter_groups(1.0) for p in group["params"])

    def remember(self, inputs: Inputs) -> None:
        """Takes note of the users and interactions of a store that the model is trained on; ``fit`` calls it."""
        self.signature = self.signature.trained_on(inputs.data)

    def warn_of_strangers(self, inputs: Inputs, user: Tensor) -> None:
        """One warning if nothing is known of some of the users ``[B]``."""
        if is_told():
            return
        known = self.known(inputs)
        if not known.every_user and not bool((mask := known.user[user]).all()):
            message = sentence(self, inputs, user[~mask].unique(), int(user.unique().numel()))
            warn_caller(message)

    # ------------------------------------------------------------------ the store, read once

    def prepare(self, data: Store) -> Inputs:
        """Reads a store once: validates it, matches its nodes to those of training, builds the indexes.

        The result stands wherever a store does. It keeps the encoding of the model's weights, so that a
        recommendation for one user takes a ranking and no more; when the weights have changed it encodes again.

        Args:
            data: The store, or what this method returned, which is then returned again.

        Raises:
            TypeError: If ``data`` is no store.
            ValueError: If the store is damaged or does not fit the model.
        """
        if isinstance(data, Inputs):
            return data.checked(self)
        with torch.inference_mode(False), torch.no_grad():
            self.signature.check(data)
            return Inputs.read(self, data)

    def inputs(self, data: Store) -> Inputs:
        """As :meth:`prepare`; a store that was given before and still holds the same is not read again."""
        if isinstance(data, HeteroData):
            known: Inputs | None = self._prepared.get(data)
            if known is not None and known.fits(self) and known.stamp == StoreStamp.of(data):
                return known
            known = self.prepare(data)
            self._prepared[data] = known
            return known
        return self.prepare(data)

    def encoding(self, inputs: Inputs) -> Encoding:
        """What scores are made of: :meth:`own_encoding`, with answers for strangers where the store has some."""
        own, known = self.own_encoding(inputs), self.known(inputs)
        if known.every_user and known.every_item:
            return own
        return WithStrangers(own, known, inputs.part("popularity", lambda: popularity(inputs)))

    def own_encoding(self, inputs: Inputs) -> Encoding:
        """What :meth:`encode` returns in evaluation mode, kept until a weight changes."""
        self.check_ready()

        def build() -> tuple[WeightStamp, Encoding]:
            stamp = WeightStamp(self)
            check_weights(self)
            encoding = self.evaluating().encode(inputs)
            check_encoded(encoding)
            return stamp, encoding

        kept: tuple[WeightStamp, Encoding] = inputs.replace(
            "encoding", lambda kept: kept[0].holds(self), build
        )
        return kept[1]

    def evaluating(self) -> Self:
        """The model in evaluation mode: itself, or in training a copy that shares its weights."""
        if not any(module.training for module in self.modules()):
            return self
        shared = (*self.parameters(), *self.buffers(), self.signature, self.identity)
        return copy.deepcopy(self, {id(kept): kept for kept in shared}).eval()

    # ------------------------------------------------------------------ prediction

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters(), self.get_buffer("_placed")).device

    def score(self, data: Store, users: Nodes, items: Nodes) -> Tensor:
        """Scores of user–item pairs.

        A user of whom the model knows nothing scores items by their popularity, with one warning; an item of which
        it knows nothing scores ``m − (1 + |m|)``, where m is the user's lowest score of a known item.

        Args:
            data: The store to predict on, or a prepared one.
            users: Users, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            items: Items, ``[B]``, likewise.

        Returns:
            One score per pair, ``[B]``.

        Raises:
            ValueError: If the numbers of users and items differ, an id is unknown or an index out of range, or the
                store does not fit the model.
        """
        inputs = self.inputs(data)
        user, item = self._users(inputs, users), self._index(inputs, ITEM, items)
        if user.numel() != item.numel():
            raise ValueError(
                f"users has {user.numel()} entries and items {item.numel()}, expected one item per user"
            )
        with predicting():
            return check_scores(self.encoding(inputs).score(user, item))

    def score_all(self, data: Store, users: Nodes) -> Tensor:
        """Scores of every item for some users, ``[B, num_items]``; arguments and errors as in :meth:`score`."""
        inputs = self.inputs(data)
        user = self._users(inputs, users)
        with predicting():
            return check_scores(self.encoding(inputs).score_all(user))

    @overload
    def recommend(
        self,
        data: Store,
        users: Nodes | None = ...,
        k: int = ...,
        *,
        items: Nodes | None = ...,
        exclude: Pairs | None = ...,
        exclude_seen: bool = ...,
        as_frame: Literal[False] = ...,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def recommend(
        self,
        data: Store,
        users: Nodes | None = ...,
        k: int = ...,
        *,
        items: Nodes | None = ...,
        exclude: Pairs | None = ...,
        exclude_seen: bool = ...,
        as_frame: Literal[True],
        batch_size: int | None = ...,
    ) -> pd.DataFrame: ...

    @overload
    def recommend(
        self,
        data: Store,
        users: Nodes | None = ...,
        k: int = ...,
        *,
        items: Nodes | None = ...,
        exclude: Pairs | None = ...,
        exclude_seen: bool = ...,
        as_frame: bool,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame: ...

    def recommend(
        self,
        data: Store,
        users: Nodes | None = None,
        k: int = 10,
        *,
        items: Nodes | None = None,
        exclude: Pairs | None = None,
        exclude_seen: bool = True,
        as_frame: bool = False,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The best items for some users, or for everyone, without what they have had.

        Pairs in the store's ``edge_index`` and ``seen_edge_index`` are not recommended. A user of whom
        the model knows nothing gets the most popular items, and one warning says so; an item of which it knows
        nothing comes last (:meth:`strangers`).

        Args:
            data: The store to predict on, or a prepared one.
            users: Users, ``[B]``: indices (tensor, array) or raw ids (list, Series); by default all of the store.
            k: Number of items per user.
            items: Candidates, likewise: nothing else is recommended. By default the whole catalogue.
            exclude: Further pairs that are not recommended: a tensor ``[2, n]`` of indices, a DataFrame with the
                columns ``user`` and ``item`` (or ``user_id`` and ``item_id``) of raw ids, as this method returns
                one, or a list of pairs of raw ids; of positions where the store has no ids. Pairs of users who
                are not asked for do no harm.
            exclude_seen: Leave out what a user has had; if False, only ``exclude`` is left out.
            as_frame: Return a DataFrame with one row per recommendation: ``user``, ``rank`` (from 1), ``item``,
                ``score``, as raw ids, and ``name`` where items have names.
            batch_size: Users ranked at a time; by default up to 1024, and as many as have 64 MiB of scores.

        Returns:
            Items ``[B, k]`` int64 and scores ``[B, k]``, padded with −1 and −inf where a user has fewer than ``k``
            items left; or a DataFrame.

        Raises:
            TypeError: If an argument is of another type.
            ValueError: If ``k`` is not between 1 and the number of items (or of different candidates), there is no
                candidate, an id is unknown or an index out of range, or the store does not fit the model.
        """
        inputs, user, found, scores = self._rank(data, users, k, batch_size, items, exclude, exclude_seen)
        return self._frame(inputs, USER, user, ITEM, found, scores) if as_frame else (found, scores)

    def rank(
        self, data: Store, users: Nodes, k: int = 10, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Items ``[B, k]`` and scores ``[B, k]`` of some users, as :meth:`recommend` returns them."""
        return self._rank(data, users, k, batch_size)[2:]

    def _rank(
        self,
        data: Store,
        users: Nodes | None,
        k: int,
        batch_size: int | None,
        items: Nodes | None = None,
        exclude: Pairs | None = None,
        exclude_seen: bool = True,
    ) -> tuple[Inputs, Tensor, Tensor, Tensor]:
        inputs = self.inputs(data)
        check_optional(1, batch_size=batch_size)
        check_flag(exclude_seen=exclude_seen)
        rows, further = rows_at_once(inputs.num_items, batch_size), {}
        if items is None:
            check_k(k, inputs.num_items)
        else:
            among = further["among"] = self._candidates(inputs, items)
            check_k(k, int(among.sum()), "candidates")
        if users is None:
            user = torch.arange(inputs.num_users, device=inputs.device)
        else:
            user = self._index(inputs, USER, users)
        plain = exclude is None and exclude_seen
        seen = inputs.seen if plain else self._not_these(inputs, user, exclude, exclude_seen)
        self.warn_of_strangers(inputs, user)
        with predicting():
            found, scores = self.encoding(inputs).rank(user, k, seen, rows, **further)
            return inputs, user, found, check_scores(scores)

    @overload
    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = ...,
        *,
        data: Store | None = ...,
        as_frame: Literal[False] = ...,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = ...,
        *,
        data: Store | None = ...,
        as_frame: Literal[True],
        batch_size: int | None = ...,
    ) -> pd.DataFrame: ...

    def recommend_session(
        self,
        session: Nodes | Sequence[Nodes],
        k: int = 10,
        *,
        data: Store | None = None,
        as_frame: bool = False,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The best items for somebody whom no store holds, by a session of items, or for several such.

        That is for models that a history is enough for (:meth:`strangers` says ``'heard'`` or ``'fold_in'``). The
        list is the one that :meth:`recommend` gives a new user of the store whose interactions are the session (and
        whose features are 0); where users are known by rows, after :meth:`fold_in` has learned one; of
        :class:`~pyg_kgrec.KSR` the best next items after it. A model that propagates over a graph does so anew for
        every session, one that learns rows learns those of all sessions at once, and the others take about as long
        as for a user of the store.

        Items that are unknown are left out, and a warning says which; a session of which nothing is left (or only
        items that nothing is known of) gets the most popular items, and a warning says so. Items of the
        session are not recommended.

        Args:
            session: Items, oldest first: raw ids or names (list, Series; a name that several items have is the
                most popular of them), or indices (tensor, array). Or several sessions, of any lengths: a list or a
                Series of such, as ``clicks.groupby('session')['item'].agg(list)`` is one.
            k: Number of items.
            data: The store, or a prepared one. A model that reads nothing of it but the catalogue (KSR, EASE,
                ItemKNN, RP3beta, ALS) needs it only where there are other items than in training, or features.
            as_frame: Return a DataFrame: ``rank`` (from 1), ``item`` (raw id), ``name`` where items have names,
                ``score``; of several sessions with ``session`` before them, the label of a Series or else the
                position in the list.
            batch_size: Sessions read at a time; by default up to 1024, and as many as have 64 MiB of scores.

        Returns:
            Items ``[k]`` int64 and scores ``[k]``, padded with −1 and −inf, ``[B, k]`` of several sessions; or a
            DataFrame.

        Raises:
            TypeError: If the session is a single item, or holds something else than items, or items beside
                sessions; or if a history is not enough for the model.
            ValueError: If ``k`` is out of range, an index is, or the model needs a store and ``data`` is None.
        """
        return newcomers.recommend_session(self, session, k, data, as_frame, batch_size)

    def rank_sessions(
        self, inputs: Inputs, sessions: list[Tensor], k: int, rows: int
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """What :meth:`recommend_session` answers; by default with a store of one user more for each session.

        A model that hears no interactions learns the rows of all sessions at once if it has a :meth:`with_rows` of
        its own.

        Args:
            inputs: The store.
            sessions: Items of each session, ``[n]`` int64, oldest first.
            k: Number of items.
            rows: Sessions ranked at a time.

        Returns:
            Items ``[B, k]`` int64, scores ``[B, k]``, and which sessions hold something that the model knows.
        """
        hears = "interactions" in self.hears[USER] + self.hears[ITEM]
        if hears or type(self).with_rows is Recommender.with_rows:
            return newcomers.rank_one_by_one(self, inputs, sessions, k, rows)
        return newcomers.rank_folded(self, inputs, sessions, k, rows)

    def session_inputs(self) -> Inputs:
        """What :meth:`recommend_session` works on without a store; raises ValueError if it needs one."""
        hears = "interactions" in self.hears[USER]
        how = "hears a session among the interactions of the others" if hears else "reads items off a store"
        raise ValueError(
            f"{type(self).__name__} {how}, which it does not keep, expected data, a store that holds them"
        )

    def session_popularity(self, inputs: Inputs) -> Tensor:
        """Which of the items of one name a session means: the one with most, ``[num_items]``."""
        return inputs.part("popularity", lambda: popularity(inputs))

    @overload
    def similar_items(
        self,
        data: Store,
        items: Nodes,
        k: int = ...,
        *,
        as_frame: Literal[False] = ...,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def similar_items(
        self,
        data: Store,
        items: Nodes,
        k: int = ...,
        *,
        as_frame: Literal[True],
        batch_size: int | None = ...,
    ) -> pd.DataFrame: ...

    @overload
    def similar_items(
        self, data: Store, items: Nodes, k: int = ..., *, as_frame: bool, batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor] | pd.DataFrame: ...

    def similar_items(
        self,
        data: Store,
        items: Nodes,
        k: int = 10,
        *,
        as_frame: bool = False,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The items most alike in the model's eyes, by the cosine of their embeddings, without the item itself.

        Items of which the model knows nothing are like no other: they are in no list, and their own is empty, which
        one warning says.

        Args:
            data: The store to predict on, or a prepared one.
            items: Items, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            k: Number of similar items per item.
            as_frame: Return a DataFrame as :meth:`recommend` does, with ``similar`` for the item found.
            batch_size: Items looked at at a time; by default up to 1024, and as many as have 64 MiB of cosines.

        Returns:
            Items ``[B, k]`` int64 and cosines ``[B, k]``, padded as in :meth:`recommend`; or a DataFrame.

        Raises:
            TypeError: If the model cannot tell which items are similar, or an argument is of another type.
            ValueError: As in :meth:`recommend`.
        """
        return self._similar(data, ITEM, items, k, as_frame, batch_size)

    @overload
    def similar_users(
        self,
        data: Store,
        users: Nodes,
        k: int = ...,
        *,
        as_frame: Literal[False] = ...,
        batch_size: int | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def similar_users(
        self,
        data: Store,
        users: Nodes,
        k: int = ...,
        *,
        as_frame: Literal[True],
        batch_size: int | None = ...,
    ) -> pd.DataFrame: ...

    @overload
    def similar_users(
        self, data: Store, users: Nodes, k: int = ..., *, as_frame: bool, batch_size: int | None = ...
    ) -> tuple[Tensor, Tensor] | pd.DataFrame: ...

    def similar_users(
        self,
        data: Store,
        users: Nodes,
        k: int = 10,
        *,
        as_frame: bool = False,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        """The users most alike in the model's eyes, without the user asked for.

        That is by the cosine of their embeddings; of their histories where a model knows users by these alone
        (:class:`~pyg_kgrec.EASE`, :class:`~pyg_kgrec.ItemKNN`, :class:`~pyg_kgrec.RP3beta`). Users of whom the
        model knows nothing are like nobody: they are in no list, and their own is empty, which one warning says.

        Args:
            data: The store to predict on, or a prepared one.
            users: Users, ``[B]``: indices (tensor, array) or raw ids (list, Series).
            k: Number of similar users per user.
            as_frame: Return a DataFrame: ``user``, ``rank`` (from 1), ``similar`` (the user found), ``name`` where
                users have names, ``score``.
            batch_size: Users looked at at a time; by default up to 1024, and as many as have 64 MiB of cosines.

        Returns:
            Users ``[B, k]`` int64 and cosines ``[B, k]``, padded with −1 and −inf; or a DataFrame.

        Raises:
            TypeError: If the model cannot tell which users are similar, or an argument is of another type.
            ValueError: If ``k`` is not between 1 and the number of users, an id is unknown or an index out of
                range, or the store does not fit the model.
        """
        return self._similar(data, USER, users, k, as_frame, batch_size)

    def _similar(
        self, data: Store, node_type: str, nodes: Nodes, k: int, as_frame: bool, batch_size: int | None
    ) -> tuple[Tensor, Tensor] | pd.DataFrame:
        inputs = self.inputs(data)
        number = inputs.num_nodes[node_type]
        check_k(k, number, "items of the catalogue" if node_type == ITEM else "users of the store")
        check_optional(1, batch_size=batch_size)
        index = self._index(inputs, node_type, nodes)
        with predicting():
            known, encoding = self.known(inputs), self.encoding(inputs)
            mask, every = (
                (known.item, known.every_item) if node_type == ITEM else (known.user, known.every_user)
            )
            alike = encoding.similarity if node_type == ITEM else encoding.user_similarity
            lists = []
            for some in index.split(rows_at_once(number, batch_size)):
                cosine = alike(some)
                cosine[torch.arange(some.numel(), device=some.device), some] = -torch.inf
                if not every:
                    cosine.masked_fill_(~mask | ~mask[some].unsqueeze(1), -torch.inf)
                score, place = best(cosine, k)
                lists.append((place.masked_fill_(score == -torch.inf, -1), score))
            found, scores = torch.cat([place for place, _ in lists]), torch.cat([score for _, score in lists])
            self._warn_of_bare(inputs, node_type, index[~mask[index]])
        return (
            self._frame(inputs, node_type, index, node_type, found, scores) if as_frame else (found, scores)
        )

    @overload
    def explain(self, data: Store, users: str | int, items: str | int, *, k: int = ...) -> Explanation: ...

    @overload
    def explain(self, data: Store, users: Nodes, items: None = ..., *, k: int = ...) -> Explanations: ...

    @overload
    def explain(self, data: Store, users: Nodes, items: Nodes, *, k: int = ...) -> Any: ...

    @renamed_arguments("0.4", user="users", item="items")
    def explain(
        self, data: Store, users: Nodes, items: Nodes | None = None, *, k: int = 10
    ) -> Explanation | Explanations:
        """Why users get items: what the scores are made of, each part tested by leaving it out.

        Args:
            data: The store to predict on, or a prepared one.
            users: Users: an index (int tensor), a raw id (str, int), or ``[B]`` of them.
            items: One item per user, likewise; None for the best ``k`` of each user.
            k: Number of recommendations explained of each user, where there are no ``items``.

        Returns:
            Of one user and one item an explanation with ``.text()``, ``.units``, ``.plot()`` and HTML for
            notebooks; of several pairs a sequence of them with ``.to_frame()``.

        Raises:
            TypeError: If the model has no explanations, or ``k`` is no whole number.
            ValueError: If the numbers of users and items differ, one is unknown, ``k`` is out of range, or the
                model knows nothing of one side of a pair: there is no reason to be given then but popularity.
        """
        inputs = self.inputs(data)
        user = self._index(inputs, USER, users)
        if items is None:
            check_k(k, inputs.num_items)
            self.check_ready()
            self._check_explainable(inputs, user, user[:0])
            with predicting():
                item, _ = self.encoding(inputs).rank(user, k, inputs.seen)
            there = item >= 0
            user, item = user.unsqueeze(1).expand_as(item)[there], item[there]
        else:
            item = self._index(inputs, ITEM, items)
        if user.numel() != item.numel():
            raise ValueError(
                f"users has {user.numel()} entries and items {item.numel()}, expected one item per user: an "
                "explanation is of one user and one item"
            )
        self.check_ready()
        self._check_explainable(inputs, user, item)
        stamp = WeightStamp(self)
        with predicting():
            try:
                measured = measure(self, inputs, user, item, stamp)
            except TypeError:
                if type(self).score_units is not Recommender.score_units:
                    raise
                measured = []  # it explains by weights alone, or not at all

        def build(place: int) -> Explanation:
            if not stamp.holds(self):
                raise ValueError(
                    f"the weights of this {type(self).__name__} have changed since explain was asked, expected the "
                    "model as it was: ask again"
                )
            inputs.checked(self)  # what was measured is of the store as it was
            with predicting():
                found = self.evaluating()._explain(inputs, int(user[place]), int(item[place]))
            return found.with_units(measured[place], inputs.data) if measured else found

        if items is not None and user.numel() == 1:
            return build(0)
        if type(self)._explain is Recommender._explain:
            raise TypeError(f"{type(self).__name__} has no explanations")
        raw = zip(inputs.raw_ids(USER, user.tolist()), inputs.raw_ids(ITEM, item.tolist()))
        return Explanations(user.numel(), build, list(raw))

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights, settings, threshold and the signature of the training store to a file.

        The file holds tensors, numbers and strings only, and is written whole: under a temporary name first. Its
        tensors keep their precision, but :meth:`load` makes a float32 model of them.

        Raises:
            FileNotFoundError: If the folder is missing.
            TypeError: If the threshold is no number.
            ValueError: If a weight or the threshold is NaN or infinite.
        """
        check_weights(self)
        checkpoint.save(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: HeteroData | None = None) -> Self:
        """Reads a model that :meth:`save` wrote; no code in the file is run.

        The model is a float32 one, whatever precision it was saved in; ``.double()`` makes another of it.

        Args:
            path: The file.
            data: A store the model is to be used on; checked against the model here, so that a misfit is known
                at once.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, holds another model or weights that are NaN or infinite, or does not
                fit ``data``.
        """
        with torch.inference_mode(False):  # it may be trained
            model = checkpoint.load(cls, Path(path), data, Recommender)  # type: ignore[type-abstract]
        check_weights(model, shown(path))
        return model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        repo_id: str | None = None,
        *,
        model_name: str | None = None,
        dataset_name: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Writes the model to a folder that hubs of models take, with the interface of PyG's ``PyGModelHubMixin``.

        ``model.safetensors`` holds all tensors, ``config.json`` the class, its settings and the sums of the other
        files, ``store.json`` raw ids and names of the training store, ``README.md`` a card for people: sizes of the
        data, settings, results. There is no pickle. Each file is written whole; a ``README.md`` of somebody else's
        stays as it is. Nothing is uploaded. Needs the extra ``hub``.

        Args:
            save_directory: The folder; made where it is missing.
            push_to_hub: Must be False: a folder is uploaded by the hub's own client.
            repo_id: Must be None, likewise.
            model_name: Title of the card; by default the name of the class.
            dataset_name: What it was trained on, for the card.
            metrics: What :func:`pyg_kgrec.evaluate` returned, for the card and ``config.json``.

        Raises:
            ImportError: If ``safetensors`` is missing.
            TypeError: If an argument or a setting of the model is of another type.
            ValueError: If an upload is asked for, a weight, the threshold or a metric is NaN or infinite, or the
                folder holds files of these names that are not of a model.
            OSError: If a file cannot be written.
        """
        if push_to_hub or repo_id is not None:
            raise ValueError(
                "save_pretrained writes local folders and uploads nothing, expected push_to_hub=False and "
                "repo_id=None: the client of the hub uploads a folder"
            )
        check_weights(self)
        pretrained.save(self, Path(save_directory), model_name, dataset_name, metrics)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        *,
        map_location: str | torch.device = "cpu",
        data: HeteroData | None = None,
    ) -> Self:
        """Reads a folder that :meth:`save_pretrained` wrote; no code in it is run, and nothing is downloaded.

        ``Recommender.from_pretrained(folder)`` reads a model of any class.

        Args:
            pretrained_model_name_or_path: The folder.
            force_download: Must be False: a folder is downloaded by the hub's own client.
            token: Must be None, likewise.
            cache_dir: Must be None, likewise.
            local_files_only: Without effect: no other files are looked for.
            map_location: Device of the weights.
            data: A store the model is to be used on; checked against the model here.

        Returns:
            The model, in evaluation mode.

        Raises:
            FileNotFoundError: If there is no such folder, or one of its files is missing.
            ImportError: If ``safetensors`` is missing.
            ValueError: If a download is asked for, a file is damaged, the folder holds another model or weights
                that are NaN or infinite, or does not fit ``data``.
        """
        if force_download or token or cache_dir is not None:
            raise ValueError(
                "from_pretrained reads local folders and downloads nothing, expected no force_download, token or "
                "cache_dir: the client of the hub downloads a folder"
            )
        folder = Path(pretrained_model_name_or_path)
        with torch.inference_mode(False):  # it may be trained
            model = pretrained.load(cls, folder, data, Recommender)  # type: ignore[type-abstract]
            check_weights(model, shown(folder))
            return cast(Self, model.to(map_location))

    # ------------------------------------------------------------------ ids and names

    def _users(self, inputs: Inputs, users: Nodes) -> Tensor:
        """Indices of users, and a warning where some of them are strangers."""
        user = self._index(inputs, USER, users)
        self.warn_of_strangers(inputs, user)
        return user

    def _warn_of_bare(self, inputs: Inputs, node_type: str, bare: Tensor) -> None:
        if bare.numel():
            named = ", ".join(repr(i)[:40] for i in inputs.raw_ids(node_type, bare[:3].tolist()))
            who = "nobody is" if node_type == USER else "nothing is"
            warn_caller(
                f"this {type(self).__name__} knows nothing of {bare.numel()} of the {node_type}s ({named}): {who} "
                "similar to them"
            )

    def _check_explainable(self, inputs: Inputs, user: Tensor, item: Tensor) -> None:
        known, kind = self.known(inputs), type(self).__name__
        if (strange := user[~known.user[user]]).numel():
            raise ValueError(
                f"{sentence(self, inputs, strange.unique(), user.numel())}, expected a user of whom the model "
                "knows something to explain"
            )
        if (bare := item[~known.item[item]]).numel():
            raw = repr(inputs.raw_ids(ITEM, bare[:1].tolist())[0])[:40]
            raise ValueError(
                f"this {kind} knows nothing of the item {raw}, which comes last in every list, expected an item "
                "with training, features or links to explain"
            )

    def _index(self, inputs: Inputs, node_type: str, nodes: Nodes) -> Tensor:
        index = as_index(nodes, inputs.vocabulary(node_type), inputs.num_nodes[node_type], node_type)
        return index.to(inputs.device)

    def _candidates(self, inputs: Inputs, items: Nodes) -> Tensor:
        """The items that may be recommended, ``[num_items]`` bool."""
        index = self._index(inputs, ITEM, items)
        if not index.numel():
            raise ValueError(
                "items is empty, expected at least one candidate, or None for the whole catalogue"
            )
        among = torch.zeros(inputs.num_items, dtype=torch.bool, device=inputs.device)
        among[index] = True
        return among

    def _not_these(
        self, inputs: Inputs, user: Tensor, exclude: Pairs | None, exclude_seen: bool
    ) -> PairIndex:
        """What must not be recommended to some users ``[B]``: pairs that are given, with or without those seen."""
        users = user.unique()
        pairs = [torch.empty(2, 0, dtype=torch.long, device=inputs.device)]
        if exclude_seen:
            place, item = inputs.seen.select(users)
            pairs.append(torch.stack([users[place], item]))
        if exclude is not None:
            index = []
            for node_type, nodes in zip((USER, ITEM), _columns(exclude)):
                if inputs.vocabulary(node_type) is None and not isinstance(nodes, Tensor | np.ndarray):
                    nodes = as_index(nodes, what=node_type)  # as recommend(as_frame=True) names them
                index.append(self._index(inputs, node_type, nodes))
            given = torch.stack(index)
            pairs.append(given[:, torch.isin(given[0], users)])
        return PairIndex.from_pairs(torch.cat(pairs, dim=1), inputs.num_users)

    def _frame(
        self, inputs: Inputs, node_type: str, source: Tensor, found_type: str, items: Tensor, scores: Tensor
    ) -> pd.DataFrame:
        index, k = items.flatten().tolist(), items.size(1)
        found = [place for place, item in enumerate(index) if item >= 0]
        who = source.tolist()
        columns: dict[str, Any] = {
            node_type: inputs.raw_ids(node_type, [who[place // k] for place in found]),
            "rank": np.array([place % k + 1 for place in found], dtype=np.int64),
        }
        column = found_type if node_type != found_type else "similar"
        columns |= node_columns(inputs, found_type, [index[place] for place in found], column)
        return frame_of(columns | {"score": to_numpy(scores.flatten())[found]})

    def __repr__(self) -> str:
        sizes = ", ".join(str(n) for n in self.signature.num_nodes.values() if n)
        return f"{type(self).__name__}({', '.join([sizes, *(f'{n}={x!r}' for n, x in self.described().items())])})"

    def described(self) -> dict[str, Any]:
        """What the one line that a model prints says beside its sizes, by name: the attributes ``shown``."""
        return {name: getattr(self, name) for name in self.shown}

    def _repr_html_(self) -> str:
        names = {USER: "users", ITEM: "items", ENTITY: "entities"}
        sizes = [(names[kind], f"{count:,}") for kind, count in self.signature.num_nodes.items() if count]
        if self.signature.relation_name:
            sizes.append(("relations", f"{len(self.signature.relation_name):,}"))
        weights = sum(value.numel() for value in self.state_dict().values() if value.is_floating_point())
        sizes.append(("weights", f"{weights:,}"))
        settings = [(name, shown(repr(value))) for name, value in self.settings.items()]
        parts = [(name, shown(repr(part))) for name, part in self.parts.items()]
        return table_of(type(self).__name__, [("sizes", sizes), ("settings", settings), ("parts", parts)])


def load(path: str | os.PathLike[str], data: HeteroData | None = None) -> Recommender:
    """Reads a model that :meth:`Recommender.save` wrote, of any class; no code in the file is run.

    The file names the class: one of this package, or one of your own that was defined or imported before. The model
    is a float32 one, whatever precision it was saved in.

    Args:
        path: The file.
        data: A store the model is to be used on; checked against the model here, so that a misfit is known at once.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, names a class that is not known here, holds weights that are NaN or
            infinite, or does not fit ``data``.
    """
    with torch.inference_mode(False):  # it may be trained
        model = checkpoint.load_any(Path(path), data, Recommender)  # type: ignore[type-abstract]
    check_weights(model, shown(path))
    return model


def check_recommender(model: Any) -> None:
    """Raises TypeError for anything but a model: its class, say, or a path."""
    if not isinstance(model, Recommender):
        raise TypeError(f"model is {shown(kind_of(model), 60)}, expected a recommender like KGRec(train)")


def _columns(pairs: Pairs) -> tuple[Nodes, Nodes]:
    """Users and items of pairs, as :meth:`Recommender.recommend` takes them."""
    kinds = (
        "expected a tensor [2, n] of indices, a DataFrame with the columns user and item, or a list of pairs"
    )
    if isinstance(pairs, pd.DataFrame):
        for names in ((USER, ITEM), ("user_id", "item_id")):
            if set(names) <= set(pairs.columns):
                return pairs[names[0]], pairs[names[1]]
        raise ValueError(f"exclude has the columns {shown(', '.join(map(str, pairs.columns)))}, {kinds}")
    if isinstance(pairs, Tensor | np.ndarray):
        if pairs.ndim != 2 or pairs.shape[0] != 2:
            raise ValueError(f"exclude has the shape {list(pairs.shape)}, {kinds}")
        return pairs[0], pairs[1]
    if isinstance(pairs, str) or not isinstance(pairs, Sequence):
        raise TypeError(f"exclude is {kind_of(pairs)}, {kinds}")
    if isinstance(pairs, tuple) and any(isinstance(part, list) for part in pairs):  # two columns, perhaps
        raise TypeError(f"exclude is a tuple of lists, {kinds}")
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(x, _RAW) for x in pair):
            raise TypeError(
                f"exclude holds {shown(repr(pair), 60)}, expected pairs of a user and an item, by raw id"
            )
    return cast(Nodes, [user for user, _ in pairs]), cast(Nodes, [item for _, item in pairs])


def leave_inference_mode(model: torch.nn.Module) -> None:
    """Puts ordinary weights of the same values in the place of those that were made in inference mode.

    Nothing could learn those, nor write to them.
    """
    made: dict[int, Tensor] = {}
    with torch.inference_mode(False):
        for module in model.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight.is_inference():
                    other = torch.nn.Parameter(weight.detach().clone(), weight.requires_grad)
                    setattr(module, name, made.setdefault(id(weight), other))
            for name, buffer in list(module.named_buffers(recurse=False)):
                if buffer.is_inference():
                    setattr(module, name, made.setdefault(id(buffer), buffer.clone()))


@contextmanager
def predicting() -> Iterator[None]:
    """No gradients, and no tensors of inference mode, which a later training step could not use."""
    with torch.inference_mode(False), torch.no_grad():
        yield
