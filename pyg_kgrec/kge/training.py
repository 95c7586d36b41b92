"""Embeddings of entities and relations learned from the triples alone, by the models of PyG."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Embedding
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import KGEModel, TransE

from pyg_kgrec._arrays import plain_numbers
from pyg_kgrec._checks import check_at_least, check_finite, check_optional, check_positive, check_seed
from pyg_kgrec._files import kind_of
from pyg_kgrec._trainer import Epochs, check_rate, least_epochs, power_of_two, run
from pyg_kgrec.data.store import ENTITY, RELATES, has_knowledge, num_relations, validate
from pyg_kgrec.data.triples import check_same_terms, first_shared, triple_name, triples
from pyg_kgrec.kge.evaluation import check_completion, evaluate_completion
from pyg_kgrec.kge.transh import TransH

Model = TypeVar("Model", bound=KGEModel)

_MONITOR = re.compile(r"(?:head_|tail_)?(?:mrr|mean_rank|hits@([1-9]\d*))")
_HITS = (1, 3, 10)


@runtime_checkable
class UsesTrainingTriples(Protocol):
    """A model that needs the training triples as long as it is trained, to sample false ones for instance."""

    def start_training(self, triple: Tensor) -> None:
        """Called before the first step.

        Args:
            triple: Heads, relations and tails, ``[3, T]`` int64, on the model's device.
        """

    def end_training(self) -> None:
        """Called when training has ended, also by an error."""


@runtime_checkable
class Constrained(Protocol):
    """A model whose weights have to be put back where they may be after every step."""

    def constrain(self) -> None:
        """Called after every step of the optimiser."""


@plain_numbers
def fit_kge(
    model: KGEModel,
    train: HeteroData,
    val: HeteroData | None = None,
    *,
    max_epochs: int = 100,
    lr: float = 1e-3,
    batch_size: int = 1024,
    seed: int = 0,
    monitor: str = "mrr",
    patience: int | None = 5,
    min_epochs: int | None = None,
    eval_every: int = 5,
    progress: bool = True,
    num_threads: int | None = None,
    accelerator: str = "auto",
) -> pd.DataFrame:
    """Trains a model of :mod:`torch_geometric.nn.kge` on the triples of a store, with Lightning.

    Batches and losses are the model's own (``loader``, ``loss``), the optimiser is Adam (SparseAdam for embeddings
    with sparse gradients). A model of one's own may have methods that are called here: ``constrain`` after every
    step (:class:`~pyg_kgrec.kge.Constrained`), and ``start_training`` and ``end_training``
    (:class:`~pyg_kgrec.kge.UsesTrainingTriples`), by which a :class:`~pyg_kgrec.kge.TransH` without a ``sampler``
    has one for as long as it is trained, so that no triple of training is taken for a false one. PyG's own models
    corrupt triples at random, true ones included.

    After every ``eval_every`` epochs the triples of ``val`` are ranked (:func:`~pyg_kgrec.evaluate_completion`,
    filtered); training stops when ``monitor`` has not improved for ``patience`` evaluations, and the best weights
    are restored. Ctrl-C ends training after the step at hand, with the best weights so far. Without ``val`` the
    weights of the last epoch stay.

    The weights are trained on as they are: nothing is initialised. All randomness comes from ``seed``: the same
    seed, model and machine give the same weights to the last bit, and PyTorch's global random state is left as
    it was, although the models of PyG draw from it.

    Args:
        model: The model; changed in place.
        train: A store; its triples (``edge_index`` and ``edge_type``) are what is learned.
        val: The validation store of a :class:`~pyg_kgrec.transforms.TripleSplit`.
        max_epochs: Most epochs.
        lr: Learning rate.
        batch_size: Triples per step.
        seed: Seed of the order of triples and of the corrupted ones.
        monitor: What to watch: ``'mrr'``, ``'mean_rank'`` or ``'hits@10'`` (any number), of one side with
            ``'head_'`` or ``'tail_'`` before it.
        patience: Evaluations without improvement before training stops; None never stops early.
        min_epochs: Epochs before which ``patience`` ends nothing; by default as many as three times ``patience``
            evaluations need.
        eval_every: Epochs between evaluations.
        progress: Say what is done, as :func:`~pyg_kgrec.fit` does.
        num_threads: PyTorch's threads while it trains on a CPU, as :func:`~pyg_kgrec.fit` has them.
        accelerator: Lightning's: ``'auto'``, ``'cpu'``, ``'gpu'``, ….

    Returns:
        History with a row per epoch: ``epoch``, ``loss`` (mean of the steps), ``seconds`` (without evaluation) and,
        where it was evaluated, the figures of :func:`~pyg_kgrec.evaluate_completion`.

    Raises:
        TypeError: If ``model`` is no model of PyG's, a store is none, or an argument has another type.
        ValueError: If a store is damaged, has no triples or does not fit the model, the stores number entities or
            relations differently, a triple of ``val`` is learned, an argument is out of range, a triple has no
            false one to be told from (of a model whose sampler never takes a true one), or a weight is NaN or
            infinite after an epoch.
    """
    _check(model, train, val, monitor)
    check_at_least(1, max_epochs=max_epochs, batch_size=batch_size, eval_every=eval_every)
    check_optional(1, patience=patience, min_epochs=min_epochs, num_threads=num_threads)
    check_rate(lr)
    seed = check_seed(seed)
    triple = triples(train)
    mode: Literal["min", "max"] = "min" if monitor.endswith("mean_rank") else "max"
    module = _Module(model, triple, val, monitor, lr, eval_every, mode)
    with _seeded(seed), _ending(model):
        batches = model.loader(*triple, batch_size=batch_size, shuffle=True)
        return run(
            module,
            cast(Any, batches),
            max_epochs=max_epochs,
            patience=patience,
            min_epochs=least_epochs(min_epochs, patience, eval_every),
            num_threads=num_threads,
            accelerator=accelerator,
            progress=progress,
        )


@plain_numbers
def pretrain_transe(
    data: HeteroData,
    hidden_channels: int = 64,
    *,
    val: HeteroData | None = None,
    margin: float = 0.5,
    p_norm: float = 2.0,
    max_epochs: int = 100,
    lr: float = 0.03,
    batch_size: int | None = None,
    seed: int = 0,
    **fit_arguments: Any,
) -> TransE:
    """A :class:`~torch_geometric.nn.kge.TransE` of the store's entities and relations, trained on its triples.

    Its gradients are sparse: a step costs what its triples cost, not what all entities would. The defaults are
    those of the best validation MRR that a few runs on MovieLens 100K's knowledge graph had.

    Args:
        data: A store with triples.
        hidden_channels: Size of the embeddings.
        val: The validation store of a :class:`~pyg_kgrec.transforms.TripleSplit`, to stop by.
        margin: Margin of the ranking loss.
        p_norm: Order of the distance.
        max_epochs: Most epochs; all of them without ``val``.
        lr: Learning rate.
        batch_size: Triples per step; by default the power of two that makes about twenty steps per epoch, from
            256 to 4096.
        seed: Seed of the first weights and of training; the global random state is left as it was.
        fit_arguments: Further arguments of :func:`fit_kge`.

    Returns:
        The model: ``node_emb.weight`` ``[num_entities, hidden_channels]``, ``rel_emb.weight``
        ``[num_relations, hidden_channels]``.

    Raises:
        TypeError: As :func:`fit_kge` does, and if a setting of the model has another type.
        ValueError: As :func:`fit_kge` does, and if a setting of the model is out of range.
    """
    _check_triples(data)
    check_at_least(1, hidden_channels=hidden_channels)
    check_finite(margin=margin)
    check_positive(p_norm=p_norm)
    if batch_size is None:
        batch_size = power_of_two(data[RELATES].num_edges / 20, 256, 4096)
    return _pretrained(
        lambda nodes, relations: TransE(nodes, relations, hidden_channels, margin, p_norm, sparse=True),
        data,
        val,
        {"max_epochs": max_epochs, "lr": lr, "batch_size": batch_size, "seed": seed, **fit_arguments},
    )


@plain_numbers
def pretrain_transh(
    data: HeteroData,
    hidden_channels: int = 64,
    *,
    val: HeteroData | None = None,
    margin: float = 1.5,
    p_norm: float = 2.0,
    orthogonality: float = 1.0,
    max_epochs: int = 100,
    lr: float = 3e-3,
    seed: int = 0,
    **fit_arguments: Any,
) -> TransH:
    """A :class:`~pyg_kgrec.kge.TransH` of the store's entities and relations, trained on its triples.

    The defaults are those of the best validation MRR that a few runs on MovieLens 100K's knowledge graph had.

    Args:
        data: A store with triples.
        hidden_channels: Size of the embeddings.
        val: The validation store of a :class:`~pyg_kgrec.transforms.TripleSplit`, to stop by.
        margin: Margin of the ranking loss.
        p_norm: 1 or 2.
        orthogonality: Weight of the loss that keeps translations within their hyperplanes.
        max_epochs: Most epochs; all of them without ``val``.
        lr: Learning rate.
        seed: Seed of the first weights and of training; the global random state is left as it was.
        fit_arguments: Further arguments of :func:`fit_kge`.

    Returns:
        The model: ``node_emb.weight`` ``[num_entities, hidden_channels]``, ``rel_emb.weight`` and
        ``normal_emb.weight`` ``[num_relations, hidden_channels]``.

    Raises:
        TypeError: As :func:`fit_kge` does, and if a setting of the model has another type.
        ValueError: As :func:`fit_kge` does, and if a setting of the model is out of range.
    """
    return _pretrained(
        lambda nodes, relations: TransH(nodes, relations, hidden_channels, margin, p_norm, orthogonality),
        data,
        val,
        {"max_epochs": max_epochs, "lr": lr, "seed": seed, **fit_arguments},
    )


def _pretrained(
    build: Callable[[int, int], Model],
    data: HeteroData,
    val: HeteroData | None,
    fit_arguments: dict[str, Any],
) -> Model:
    _check_triples(data)
    with _seeded(check_seed(fit_arguments["seed"])):
        model = build(data[ENTITY].num_nodes, num_relations(data))
    fit_kge(model, data, val, **fit_arguments)
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's global random state set to a seed, and what it was before afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _ending(model: KGEModel) -> Iterator[None]:
    """Tells a model that asks for it that training has ended, also by an error."""
    try:
        yield
    finally:
        if isinstance(model, UsesTrainingTriples):
            model.end_training()


class _Module(Epochs):
    """A model of PyG, its losses and its evaluation by ranks."""

    def __init__(
        self,
        model: KGEModel,
        triple: Tensor,
        val: HeteroData | None,
        monitor: str,
        lr: float,
        eval_every: int,
        mode: Literal["min", "max"],
    ) -> None:
        super().__init__(model, None if val is None else monitor, eval_every, mode, lr)
        self.triple, self.val_store = triple, val
        # The method: the model itself would be registered a second time.
        self._constrain = model.constrain if isinstance(model, Constrained) else _nothing
        # By hand, as a model may need an optimiser each for sparse and dense gradients.
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        tables = [m.weight for m in self.model.modules() if isinstance(m, Embedding) and m.sparse]
        others = [p for p in self.model.parameters() if not any(p is table for table in tables)]
        tables, others = ([p for p in group if p.requires_grad] for group in (tables, others))
        fused = self.device.type in ("cpu", "cuda")
        dense = [torch.optim.Adam(others, self.lr, fused=fused)] if others else []
        return [*dense, *([torch.optim.SparseAdam(tables, self.lr)] if tables else [])]

    def on_fit_start(self) -> None:
        if isinstance(self.model, UsesTrainingTriples):
            self.model.start_training(self.triple.to(self.device))

    def step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        loss = self.count({"loss": self.model.loss(*batch)})
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self._constrain()

    def validation_metrics(self) -> dict[str, float]:
        assert self.val_store is not None
        assert self.monitor is not None
        asked = _MONITOR.fullmatch(self.monitor)
        assert asked is not None
        ks = {k for k in _HITS if k <= self.model.num_nodes} | ({int(asked[1])} if asked[1] else set())
        return evaluate_completion(self.model, self.val_store, sorted(ks))


def _nothing() -> None:
    """What a model without constraints does after a step."""


def _check(model: Any, train: Any, val: Any, monitor: str) -> None:
    if not isinstance(model, KGEModel):
        raise TypeError(
            f"model is {kind_of(model)}, expected a KGEModel of torch_geometric.nn.kge (a recommender is "
            "trained by fit)"
        )
    _check_triples(train)
    entities, relations = train[ENTITY].num_nodes, num_relations(train)
    if entities != model.num_nodes or relations > model.num_relations:
        raise ValueError(
            f"train has {entities} entities and {relations} relations, expected {model.num_nodes} and at most "
            f"{model.num_relations} as the model has"
        )
    asked = _MONITOR.fullmatch(monitor) if isinstance(monitor, str) else None
    if asked is None or (asked[1] and int(asked[1]) > model.num_nodes):
        raise ValueError(
            f"monitor is {monitor!r}, expected 'mrr', 'mean_rank' or 'hits@10' (up to hits@{model.num_nodes}), "
            "or one of a side, as 'tail_mrr'"
        )
    if val is None:
        return
    check_completion(model, "val", val)
    check_same_terms("train", train, "val", val)
    find = triples(val, "edge_label")
    at = first_shared(triples(train).to(find.device), find, model.num_nodes)
    if at is not None:
        raise ValueError(
            f"triple {triple_name(val, find[:, at])} stands in edge_index of train and in edge_label_index of val, "
            "expected two stores of one split"
        )


def _check_triples(train: Any) -> None:
    validate(train)
    if not has_knowledge(train) or train[RELATES].num_edges == 0:
        raise ValueError("train holds no triple, expected a store with a knowledge graph to learn from")
