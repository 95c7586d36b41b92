"""The battery: what every recommender must do, for anybody's model.

A model of your own is put through it by a test class of three lines::

    from pyg_kgrec.testing import RecommenderTests

    class TestMyModel(RecommenderTests):
        model = MyModel
        settings = {"hidden_channels": 8}

pytest finds the tests of the base class. The stores that they use, :func:`build_store` and :func:`build_splits`,
are small and have every oddity that a store may have.
"""

from __future__ import annotations

import copy
import gc
import inspect
import json
import math
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec.data.splitting import apply_split
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, NODE_TYPES, RELATES, USER
from pyg_kgrec.evaluation import evaluate
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.popularity import Popularity
from pyg_kgrec.models.session import SessionRecommender
from pyg_kgrec.training import fit

Splits = tuple[HeteroData, HeteroData, HeteroData]

EVERYTHING = ("interactions", "links", "relations")
"""All edges that scores may depend on; see :attr:`ModelTests.hears`."""


def build_store(
    num_users: int = 10,
    num_items: int = 14,
    *,
    per_user: int = 6,
    features: bool = False,
    ids: bool = True,
    knowledge: bool = True,
    seed: int = 0,
) -> HeteroData:
    """A store in which users of even (odd) number like items of even (odd) number, and triples say which is which.

    Of its items one has no entity, one has two, and two share one; a triple occurs twice, one is a loop, one
    relation has no triple, one entity is isolated.

    Args:
        num_users: Number of users.
        num_items: Number of items, at least 5.
        per_user: Number of interactions per user.
        features: Give each node type an ``x``, of widths 3, 4 and 5.
        ids: Give nodes raw ids, and items names.
        knowledge: Add entities and triples.
        seed: Seed of all that is random.
    """
    rng = torch.Generator().manual_seed(seed)
    data = HeteroData()
    user = torch.arange(num_users).repeat_interleave(per_user)
    taste = torch.rand(num_users, num_items, generator=rng)
    taste += (torch.arange(num_users)[:, None] % 2 == torch.arange(num_items) % 2) * 0.9
    item = taste.topk(per_user, dim=1).indices.flatten()
    data[USER].num_nodes, data[ITEM].num_nodes = num_users, num_items
    data[INTERACTS].edge_index = torch.stack([user, item])
    data[INTERACTS].time = torch.arange(user.numel())
    if ids:
        data[USER].id = [f"u{i}" for i in range(num_users)]
        data[ITEM].id = [100 + i for i in range(num_items)]
        data[ITEM].name = [f"Item <{i}>" for i in range(num_items)]
    node_types = [USER, ITEM]
    if knowledge:
        node_types.append(ENTITY)
        _add_knowledge(data, num_items, ids, rng)
    if features:
        for width, node_type in enumerate(node_types, start=3):
            data[node_type].x = torch.randn(data[node_type].num_nodes, width, generator=rng)
    return data


def _add_knowledge(data: HeteroData, num_items: int, ids: bool, rng: torch.Generator) -> None:
    alone = num_items - 4
    first_attribute, num_attributes = alone + 3, 6
    num_entities = first_attribute + num_attributes + 1
    order = torch.randperm(num_entities, generator=rng)
    item = torch.cat([torch.arange(alone), torch.tensor([alone, alone, alone + 1, alone + 2])])
    entity = torch.cat([torch.arange(alone), torch.tensor([alone, alone + 1, alone + 2, alone + 2])])
    genre = first_attribute + item % 2
    maker = first_attribute + 2 + torch.randint(num_attributes - 2, item.shape, generator=rng)
    last = first_attribute + num_attributes - 1
    more = torch.tensor([[0, first_attribute, last], [first_attribute, last, last]])
    triples = torch.cat([torch.stack([entity, genre]), torch.stack([entity, maker]), more], dim=1)
    edge_type = torch.cat([torch.zeros_like(genre), torch.ones_like(maker), torch.tensor([0, 1, 1])])
    data[ENTITY].num_nodes = num_entities
    data[IS].edge_index = torch.stack([item, order[entity]])
    data[RELATES].edge_index = order[triples]
    data[RELATES].edge_type = edge_type
    data.relation_name = ["has genre", "made by", "never used"]
    if ids:
        data[ENTITY].id = [f"e{i}" for i in range(num_entities)]


def build_splits(**arguments: Any) -> Splits:
    """Train, validation and test of :func:`build_store`: the last two interactions of each user are held out."""
    data = build_store(**arguments)
    user = data[INTERACTS].edge_index[0]
    split = torch.zeros_like(user)
    last = torch.cat([(user.diff() != 0).nonzero().flatten(), torch.tensor([user.numel() - 1])])
    split[last], split[last - 1] = 2, 1
    return apply_split(data, split)


def permuted(data: HeteroData, seed: int = 0) -> HeteroData:
    """The same store with its nodes, relations and edges in another order; raw ids go along."""
    rng, out = torch.Generator().manual_seed(seed), copy.copy(data)
    new = {t: torch.randperm(data[t].num_nodes, generator=rng) for t in data.node_types}
    for node_type, index in new.items():
        old = index.argsort()
        for key in ("id", "name"):
            if key in data[node_type]:
                out[node_type][key] = [data[node_type][key][i] for i in old.tolist()]
        if "x" in data[node_type]:
            out[node_type].x = data[node_type].x[old]
    for edge_type in data.edge_types:
        source, _, target = edge_type
        for key, value in data[edge_type].items():
            if key.endswith("index"):
                out[edge_type][key] = torch.stack([new[source][value[0]], new[target][value[1]]])
    if ENTITY in data.node_types:
        relation = torch.randperm(len(data.relation_name), generator=rng)
        out[RELATES].edge_type = relation[data[RELATES].edge_type]
        out.relation_name = [data.relation_name[i] for i in relation.argsort().tolist()]
        order = torch.randperm(data[RELATES].edge_type.numel(), generator=rng)
        for key in ("edge_index", "edge_type"):
            out[RELATES][key] = out[RELATES][key][..., order]
    return out


def grown(data: HeteroData, features: bool) -> HeteroData:
    """The store with a new first user, a new first item and a new first entity, which the item is."""
    out = copy.copy(data)
    rng = torch.Generator().manual_seed(1)
    for node_type, raw in ((USER, "new"), (ITEM, 7), (ENTITY, "new")):
        out[node_type].num_nodes = data[node_type].num_nodes + 1
        out[node_type].id = [raw, *data[node_type].id]
        if "name" in data[node_type]:
            out[node_type].name = ["new", *data[node_type].name]
        if features:
            x = data[node_type].x
            out[node_type].x = torch.cat([torch.randn(1, x.size(1), generator=rng), x])
    for edge_type in data.edge_types:
        for key, value in data[edge_type].items():
            if key.endswith("index"):
                out[edge_type][key] = value + 1
    pairs = out[INTERACTS]
    pairs.edge_index = torch.cat([pairs.edge_index, torch.tensor([[0, 0, 3], [5, 6, 0]])], dim=1)
    pairs.time = torch.cat([pairs.time, pairs.time[-1] + torch.tensor([1, 2, 3])])
    out[IS].edge_index = torch.cat([torch.tensor([[0], [0]]), out[IS].edge_index], dim=1)
    tail = out[RELATES].edge_index[1, 0]
    out[RELATES].edge_index = torch.cat(
        [out[RELATES].edge_index, torch.stack([torch.zeros(2, dtype=torch.long), tail.repeat(2)])], dim=1
    )
    out[RELATES].edge_type = torch.cat([out[RELATES].edge_type, torch.tensor([0, 1])])
    return out


def with_newcomers(
    data: HeteroData,
    pairs: Sequence[tuple[int, int]] = (),
    links: Sequence[tuple[int, int]] = (),
    features: float | None = None,
) -> HeteroData:
    """The store with two more users and two more items at the end: ``'n0'``, ``'n1'``, 900 and 901.

    Args:
        data: A store of :func:`build_store` with raw ids, or a split of one.
        pairs: Further interactions, users and items.
        links: Further links, items and entities.
        features: Deviation of the newcomers' features; by default the store has none.
    """
    out, rng = copy.copy(data), torch.Generator().manual_seed(2)
    for node_type, raw in ((USER, ["n0", "n1"]), (ITEM, [900, 901])):
        out[node_type].num_nodes = data[node_type].num_nodes + 2
        out[node_type].id = [*data[node_type].id, *raw]
        if "name" in data[node_type]:
            out[node_type].name = [*data[node_type].name, "new", "newer"]
        if features is not None:
            x = data[node_type].x
            out[node_type].x = torch.cat([x, features * torch.randn(2, x.size(1), generator=rng)])
    for edge_type, more in ((INTERACTS, pairs), (IS, links)):
        added = torch.tensor(list(more), dtype=torch.long).view(-1, 2).t()
        out[edge_type].edge_index = torch.cat([data[edge_type].edge_index, added], dim=1)
    time = data[INTERACTS].time
    out[INTERACTS].time = torch.cat([time, time[-1] + 1 + torch.arange(len(pairs))])
    return out


@contextmanager
def warns_once(match: str | None) -> Iterator[None]:
    """Exactly one warning of the package in this block, which ``match`` is found in, or none at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert len(said) == (match is not None), said
    assert match is None or match in said[0], said
    assert all(len(message) <= 400 for message in said), said


@contextmanager
def ordered_sums() -> Iterator[None]:
    """A block in which a gradient that is added to a table in no fixed order is an error, at any size.

    The gradient of ``table[index]`` is: from 32,768 numbers on, PyTorch's threads add it as they come on a CPU. An
    index that names no row twice does no harm.
    """
    with _OrderedSums():
        yield


class _OrderedSums(TorchDispatchMode):
    """What :func:`ordered_sums` looks with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Looks at one call of an operator before it is made."""
        if func.overloadpacket.__name__ in ("index_put", "index_put_", "_index_put_impl_"):
            table, indices, _, *more = args
            adds = bool(more and more[0]) or bool((kwargs or {}).get("accumulate"))
            if (
                adds
                and table.is_floating_point()
                and all(i is None or i.dtype == torch.long for i in indices)
            ):
                row = torch.zeros((), dtype=torch.long, device=table.device)
                for size, index in zip(table.shape, indices):
                    row = row if index is None else row * size + index % size
                assert row.unique().numel() == row.numel(), (
                    "rows that are named twice: take them by torch.nn.functional.embedding or index_select, whose "
                    "gradients are added in a fixed order"
                )
        return func(*args, **(kwargs or {}))


def users_of(data: HeteroData) -> Tensor:
    """All users of a store, ``[num_users]`` int64."""
    return torch.arange(data[USER].num_nodes)


def train_step(model: Recommender, data: HeteroData, lr: float = 0.05, seed: int = 0) -> dict[str, Tensor]:
    """One step of gradient descent on all training examples; the losses."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    inputs = model.inputs(data)
    losses = model.training_losses(
        inputs, model.training_examples(inputs), torch.Generator().manual_seed(seed)
    )
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return {name: loss.detach() for name, loss in losses.items()}


class ModelTests:
    """What depends on a model and its settings; a subclass names the model and what is particular about it.

    For further settings of a model that passes :class:`RecommenderTests`.

    Attributes:
        model: The class under test.
        settings: Further arguments of its constructor.
        learns: Whether it has parameters.
        solved: Whether it has none and :func:`pyg_kgrec.fit` has to solve it before it answers.
        explains: Whether it has explanations.
        hears: Edges that its scores depend on: ``'interactions'``, ``'links'`` of items and entities,
            ``'relations'``.
        constant: Ends of the names of parameters that start at fixed values.
        idle: Starts of the names of parameters that no loss of this model reaches.
        needs_knowledge: What a store without triples is answered with (a regular expression); None if it is taken.
    """

    model: ClassVar[Any]
    settings: ClassVar[dict[str, Any]] = {}
    learns: ClassVar[bool] = True
    solved: ClassVar[bool] = False
    explains: ClassVar[bool] = False
    hears: ClassVar[tuple[str, ...]] = ()
    constant: ClassVar[tuple[str, ...]] = ()
    idle: ClassVar[tuple[str, ...]] = ()
    needs_knowledge: ClassVar[str | None] = None

    @classmethod
    def given(cls, data: HeteroData) -> dict[str, Any]:
        """Further arguments of the constructor, made from the store, which no file keeps."""
        return {}

    @classmethod
    def build(cls, data: HeteroData, seed: int = 0, **settings: Any) -> Any:
        """The model for a training store, one that has to be solved after that."""
        seed_everything(seed)
        model = cls.make(data, **(cls.given(data) | cls.settings | settings))
        if cls.solved:
            fit(model, data, progress=False)
        return model

    @classmethod
    def make(cls, data: HeteroData, **settings: Any) -> Any:
        """The model as its constructor makes it."""
        return cls.model(data, **settings)

    @classmethod
    def offers_features(cls) -> bool:
        """Whether the model has parameters, and an argument ``features``: ``'id'``, ``'x'`` or ``'both'``."""
        return cls.learns and "features" in inspect.signature(cls.model).parameters

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """Tiny tensors are faster on one thread, and the machine may be shared."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    @pytest.fixture
    def splits(self) -> Splits:
        """Train, validation and test of a small store."""
        return build_splits()

    def trained(self, train: HeteroData, val: HeteroData | None = None, seed: int = 0) -> Any:
        """The model after two epochs of :func:`pyg_kgrec.fit`, or as it is where there is nothing to fit."""
        model = self.build(train)
        if self.learns or self.solved:
            fit(model, train, val, max_epochs=2, seed=seed, monitor="ndcg@3", progress=False)
        return model

    def skip_unless(self, what: bool, reason: str) -> None:
        """Skips a test that asks for something that this model does not do."""
        if not what:
            pytest.skip(reason)

    # ------------------------------------------------------------------ scores

    def test_scores_of_a_batch_are_those_of_its_rows(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        users, items = torch.tensor([0, 3, 3, 9, 1, 3]), torch.tensor([5, 5, 0, 13, 2, 5])
        together = model.score(test, users, items)
        assert together.shape == (6,)
        torch.testing.assert_close(together[1], together[5], rtol=1e-6, atol=1e-7)
        apart = torch.cat([model.score(test, users[i : i + 1], items[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
        rows = torch.cat([model.score_all(test, users[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(model.score_all(test, users), rows, rtol=1e-5, atol=1e-6)

    def test_the_catalogue_is_scored_as_its_pairs_are(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        users, items = users_of(test), torch.arange(test[ITEM].num_nodes)
        whole = model.score_all(test, users)
        assert whole.shape == (users.numel(), items.numel())
        pairs = torch.cartesian_prod(users, items)
        torch.testing.assert_close(model.score(test, *pairs.t()), whole.flatten(), rtol=1e-5, atol=1e-6)
        assert bool(torch.isfinite(whole).all())

    def test_scores_are_without_gradient_and_in_evaluation_mode(self, splits: Splits) -> None:
        model = self.build(splits[0]).train()
        first = model.score_all(splits[2], users_of(splits[2]))
        assert not first.requires_grad
        assert torch.equal(model.score_all(splits[2], users_of(splits[2])), first)
        assert model.training
        assert torch.equal(model.eval().score_all(splits[2], users_of(splits[2])), first)
        assert not model.training

    # ------------------------------------------------------------------ lists

    @pytest.mark.parametrize("batch_size", [3, 1024])
    def test_what_was_seen_is_never_recommended(self, splits: Splits, batch_size: int) -> None:
        train, val, test = splits
        model, users = self.build(train), users_of(test)
        k = test[ITEM].num_nodes
        items, scores = model.recommend(test, users, k=k, batch_size=batch_size)
        assert items.shape == scores.shape == (users.numel(), k)
        assert items.dtype == torch.int64
        everything = model.score_all(test, users)
        for user in users.tolist():
            seen = {
                i
                for pairs in (train[INTERACTS].edge_index, val[INTERACTS].edge_label_index)
                for u, i in pairs.t().tolist()
                if u == user
            }
            left = k - len(seen)
            assert set(items[user, :left].tolist()) == set(range(k)) - seen
            assert items[user, left:].tolist() == [-1] * len(seen)
            assert scores[user, left:].tolist() == [-torch.inf] * len(seen)
            found = scores[user, :left]
            torch.testing.assert_close(
                found, everything[user, items[user, :left]].to(found.dtype), rtol=1e-5, atol=1e-6
            )
            assert bool((found.diff() <= 0).all())

    def test_no_user_gets_an_empty_list(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        nobody = torch.empty(0, dtype=torch.long)
        items, scores = model.recommend(test, nobody, k=3)
        assert items.shape == scores.shape == (0, 3)
        assert len(model.recommend(test, nobody, k=3, as_frame=True)) == 0

    def test_a_user_without_training_items_is_ranked_all_the_same(self, splits: Splits) -> None:
        train, _, test = splits
        for data in (train, test):
            pairs, time = data[INTERACTS].edge_index, data[INTERACTS].time
            data[INTERACTS].edge_index = pairs[:, pairs[0] != 6]
            data[INTERACTS].time = time[pairs[0] != 6]
        train[INTERACTS].edge_label_index = train[INTERACTS].edge_index
        train[INTERACTS].edge_label_time = train[INTERACTS].time
        model = self.build(train)
        items, scores = model.recommend(test, ["u6"], k=5)
        assert bool((items >= 0).all())
        assert bool(torch.isfinite(scores).all())

    def test_similar_items(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        if not (self.learns or self.solved):
            with pytest.raises(TypeError, match="no embeddings"):
                model.similar_items(test, [103])
            return
        similar, scores = model.similar_items(test, [103, 100, 103], k=14)
        assert similar.shape == scores.shape == (3, 14)
        assert torch.equal(similar[0], similar[2])
        for row, item in ((0, 3), (1, 0)):
            number = int((similar[row] >= 0).sum())
            assert 0 < number <= 13
            assert number == 13 or self.solved  # neighbours may be fewer
            assert set(similar[row, :number].tolist()) <= set(range(14)) - {item}
            assert len(set(similar[row, :number].tolist())) == number
            assert set(similar[row, number:].tolist()) == {-1}
            assert set(scores[row, number:].tolist()) == {-torch.inf}
            assert bool((scores[row, :number].abs() <= 1 + 1e-5).all())
            assert bool((scores[row, :number].diff() <= 0).all())

    # ------------------------------------------------------------------ parameters

    @pytest.mark.parametrize("features", [False, True])
    def test_parameters_are_finite_spread_and_drawn_by_the_seed(self, features: bool) -> None:
        train = build_splits(features=features)[0]
        model = self.build(train, seed=3)
        again, other = (dict(self.build(train, seed).named_parameters()) for seed in (3, 4))
        for name, parameter in model.named_parameters():
            assert bool(torch.isfinite(parameter).all()), name
            assert parameter.requires_grad, name
            if "bias" not in name and parameter.numel() > 1:
                assert float(parameter.detach().std()) > 0, name
            assert torch.equal(parameter, again[name]), name
            assert torch.equal(parameter, other[name]) == name.endswith(self.constant), name
        assert self.learns == (next(model.parameters(), None) is not None)

    @pytest.mark.parametrize("features", [False, True])
    def test_reset_gives_new_finite_weights(self, features: bool) -> None:
        model = self.build(build_splits(features=features)[0])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        model.reset_parameters()
        first = {name: p.detach().clone() for name, p in model.named_parameters()}
        for name, parameter in first.items():
            assert bool(torch.isfinite(parameter).all()), name
        model.reset_parameters()
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, first[name]) == name.endswith(self.constant), name

    @pytest.mark.parametrize("features", [False, True])
    def test_a_gradient_reaches_every_parameter(self, features: bool) -> None:
        self.skip_unless(self.learns, "has no parameters")
        train = build_splits(features=features)[0]
        model = self.build(train).train()
        inputs = model.prepare(train)
        losses = model.training_losses(
            inputs, model.training_examples(inputs), torch.Generator().manual_seed(0)
        )
        for name, loss in losses.items():
            assert bool(torch.isfinite(loss)), name
        if model.knowledge_interval is not None:
            every = torch.arange(train[RELATES].num_edges)
            losses |= model.knowledge_losses(inputs, every, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached or name.startswith(self.idle), name
            assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name

    def test_steps_of_one_seed_are_equal_and_lower_the_loss(self, splits: Splits) -> None:
        self.skip_unless(self.learns, "has no parameters")
        histories = []
        before = torch.get_rng_state()
        for _ in range(2):
            model = self.build(splits[0])
            before = torch.get_rng_state()
            losses = [train_step(model, splits[0], 1.0, seed) for seed in range(16)]
            assert torch.equal(torch.get_rng_state(), before), "a step drew from the global randomness"
            histories.append([float(loss["ranking"]) for loss in losses])
        assert histories[0] == histories[1]
        assert np.mean(histories[0][-5:]) < np.mean(histories[0][:5])

    def test_two_threads_give_the_same_gradients_to_the_bit(self) -> None:
        self.skip_unless(self.learns, "has no parameters")
        train = build_splits(features=True)[0]
        model = self.build(train).train()
        inputs = model.prepare(train)
        examples = model.training_examples(inputs)
        # As many as PyTorch hands out to several threads: table[index] then adds gradients in any order.
        many = tuple(column.repeat(8192 // len(column), *[1] * (column.dim() - 1)) for column in examples)
        torch.set_num_threads(2)
        found = []
        for _ in range(2):
            model.zero_grad()
            losses = model.training_losses(inputs, many, torch.Generator().manual_seed(0))
            with ordered_sums():
                torch.stack(list(losses.values())).sum().backward()
            found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        different = {
            name for other in found[1:] for name in other if not torch.equal(other[name], found[0][name])
        }
        assert not different, "take rows of a table by torch.nn.functional.embedding, whose order is fixed"

    # ------------------------------------------------------------------ files

    @pytest.mark.parametrize("features", [False, True])
    def test_a_file_gives_the_same_scores_to_the_bit(self, tmp_path: Path, features: bool) -> None:
        train, _, test = build_splits(features=features)
        model = self.build(train)
        if self.learns:
            train_step(model, train)
        path = tmp_path / "model.pt"
        model.save(path)
        assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
        loaded = self.model.load(str(path), test)
        users = users_of(test)
        assert torch.equal(loaded.score_all(test, users), model.score_all(test, users))
        assert loaded.settings == model.settings
        assert loaded.settings.items() >= self.settings.items()
        assert not {"data", "self"} & loaded.settings.keys()
        assert repr(loaded) == repr(model)
        assert repr(loaded).startswith(self.model.__name__ + "(")
        assert torch.equal(self.model.load(path).score_all(test, users), model.score_all(test, users))

    def test_a_pickle_gives_the_same_scores_to_the_bit(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        users = users_of(test)
        ready, score = model.prepare(test), model.score_all(test, users)
        copied = pickle.loads(pickle.dumps(model))
        assert torch.equal(copied.score_all(test, users), score)
        assert copied.settings == model.settings
        assert repr(copied) == repr(model)
        assert copied.inputs(test) is not model.inputs(test)
        with pytest.raises(ValueError, match="prepared by another"):
            copied.score_all(ready, users)
        assert torch.equal(model.score_all(ready, users), score)

    # ------------------------------------------------------------------ other stores

    @pytest.mark.parametrize("features", [False, True])
    def test_a_store_in_another_order_gives_the_same_scores(self, features: bool) -> None:
        train, _, test = build_splits(features=features)
        model = self.build(train)
        other = permuted(test)
        users, items = list(test[USER].id), list(test[ITEM].id)
        assert other[ITEM].id != items
        assert set(other[ITEM].id) == set(items)
        pairs = [users[i % 10] for i in range(14)]
        if self.learns or self.solved:
            torch.testing.assert_close(model.score(other, pairs, items), model.score(test, pairs, items))
        if self.solved:  # ties are broken by item order
            everything = [model.score_all(d, users) for d in (test, other)]
            same = torch.tensor([list(other[ITEM].id).index(i) for i in items])
            torch.testing.assert_close(everything[1][:, same], everything[0])
        elif self.learns:
            first, second = (model.recommend(d, users, k=4, as_frame=True) for d in (test, other))
            assert first["item"].tolist() == second["item"].tolist()
        else:  # ties are broken by item order, so only whole counts are the same
            whole = [model.score(d, pairs, items).ceil() for d in (other, test)]
            assert torch.equal(*whole)

    @pytest.mark.parametrize("features", ["id", "x", "both"])
    def test_new_nodes_are_scored_by_their_features_and_links(self, features: str) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        train, _, test = build_splits(features=True)
        model = self.build(train, features=features)
        other = grown(test, features=True)
        users, items = list(other[USER].id), list(other[ITEM].id)
        score = model.score_all(other, users)
        assert bool(torch.isfinite(score).all())
        assert "new" in model.recommend(other, ["new", "u3"], k=5, as_frame=True)["user"].tolist()
        if features != "id":
            assert bool(score[0].any())
            assert bool(score[:, 0].any())
            for node_type, index in ((USER, (0, slice(None))), (ITEM, (slice(None), 0))):
                changed = copy.copy(other)
                changed[node_type].x = other[node_type].x.clone()
                changed[node_type].x[0] += 1
                different = model.score_all(changed, users)
                assert not torch.isclose(different[index], score[index]).any()
        assert items[0] == 7

    def test_new_items_are_scored_by_their_triples(self) -> None:
        self.skip_unless("relations" in self.hears, "hears nothing of triples")
        train, _, test = build_splits()
        model = self.build(train)
        other = grown(test, features=False)
        users = list(test[USER].id)
        score = model.score(other, users, [7] * len(users))
        assert bool(torch.isfinite(score).all())
        assert bool(score.any())
        fewer = copy.copy(other)
        fewer[RELATES].edge_index = other[RELATES].edge_index[:, :-2]
        fewer[RELATES].edge_type = other[RELATES].edge_type[:-2]
        assert not torch.isclose(model.score(fewer, users, [7] * len(users)), score).any()

    def test_new_nodes_leave_the_old_ones_where_they_are(self) -> None:
        self.skip_unless(self.learns or self.solved, "counts the interactions of the store")
        train, _, test = build_splits(features=True)
        model = self.build(train)
        other = grown(test, features=True)
        for edge_type, extra in ((INTERACTS, 3), (RELATES, 2)):
            other[edge_type].edge_index = other[edge_type].edge_index[:, :-extra]
        other[INTERACTS].time = other[INTERACTS].time[:-3]
        other[RELATES].edge_type = other[RELATES].edge_type[:-2]
        users, items = list(test[USER].id), [test[ITEM].id[i % 14] for i in range(10)]
        torch.testing.assert_close(model.score(other, users, items), model.score(test, users, items))

    @pytest.mark.parametrize(
        ("features", "node_type"), [("x", USER), ("both", USER), ("x", ITEM), ("both", ENTITY)]
    )
    def test_scores_depend_on_the_features(self, features: str, node_type: str) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        self.skip_unless(node_type != ENTITY or "links" in self.hears, "hears nothing of entities")
        train, _, test = build_splits(features=True)
        model, users = self.build(train, features=features), users_of(test)
        changed = copy.copy(test)
        changed[node_type].x = test[node_type].x + torch.linspace(-1, 1, test[node_type].x.size(1))
        assert not torch.allclose(model.score_all(changed, users), model.score_all(test, users))

    def test_scores_do_not_depend_on_features_that_are_not_used(self) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        train, _, test = build_splits(features=True)
        model, users = self.build(train, features="id"), users_of(test)
        changed = copy.copy(test)
        for node_type in NODE_TYPES:
            changed[node_type].x = test[node_type].x + 1
        assert torch.equal(model.score_all(changed, users), model.score_all(test, users))

    @pytest.mark.parametrize(
        ("with_x", "features"),
        [({USER}, "x"), ({ITEM}, "both"), ({ENTITY}, "x"), ({USER, ENTITY}, "both"), ({ITEM, ENTITY}, "x")],
    )
    def test_features_of_some_node_types_only(self, with_x: set[str], features: str) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        train, _, test = build_splits(features=True)
        for data in (train, test):
            for node_type in set(NODE_TYPES) - with_x:
                del data[node_type].x
        model = self.build(train, features=features)
        train_step(model, train)
        score = model.score_all(test, users_of(test))
        assert bool(torch.isfinite(score).all())
        assert score.unique().numel() > 50

    def test_a_store_without_knowledge(self, tmp_path: Path) -> None:
        train, _, test = build_splits(knowledge=False, features=True)
        if self.needs_knowledge is not None:
            with pytest.raises(ValueError, match=self.needs_knowledge):
                self.build(train)
            return
        model = self.build(train)
        if self.learns:
            train_step(model, train)
        score = model.score_all(test, users_of(test))
        assert bool(torch.isfinite(score).all())
        model.save(tmp_path / "model.pt")
        assert torch.equal(
            self.model.load(tmp_path / "model.pt", test).score_all(test, users_of(test)), score
        )

    def test_a_copy_on_double_precision(self, splits: Splits) -> None:
        self.skip_unless(self.learns, "has no parameters")
        model = self.build(splits[0])
        single = model.score_all(splits[2], users_of(splits[2]))
        double = copy.deepcopy(model).double()
        train_step(double, splits[0])
        double.load_state_dict(model.state_dict())
        score = double.score_all(splits[2], users_of(splits[2]))
        assert score.dtype == torch.float64
        torch.testing.assert_close(score.float(), single, rtol=1e-4, atol=1e-5)


class RecommenderTests(ModelTests):
    """What every recommender must do, for one setting of each model; see :class:`ModelTests` for its attributes.

    Besides :class:`ModelTests`: prepared stores, weights and stores that change, threads, inference mode, training.
    """

    # ------------------------------------------------------------------ strangers, cell by cell

    def test_new_user_without_history(self, splits: Splits) -> None:
        train, val, test = splits
        model = self.trained(train, val)
        assert model.strangers()["user without history"] == "popularity"
        data = with_newcomers(test)
        warned = None if "anyone" in model.hears[USER] else "popularity"
        with warns_once(warned):
            items, scores = model.recommend(data, ["n0", "u3", "n1"], k=16)
        expected = Popularity(train).recommend(data, ["n0"], k=16)[0][0]
        assert torch.equal(items[0], expected)
        assert torch.equal(items[2], expected)
        assert torch.equal(items[1], model.recommend(data, ["u3"], k=16)[0][0])
        with warns_once(warned):
            everything = model.score_all(data, ["n1", "u3"])
        assert bool(torch.isfinite(everything).all())
        assert everything[0].argsort(descending=True).tolist() == expected.tolist()
        torch.testing.assert_close(scores[0], everything[0][expected].to(scores.dtype))
        assert torch.equal(model.score(data, ["n1"] * 16, torch.arange(16)), everything[0])
        with warns_once(warned):
            frame = model.recommend(model.prepare(data), ["n0", "n1"], k=2, as_frame=True)
        assert frame["user"].tolist() == ["n0", "n0", "n1", "n1"]
        data[INTERACTS].edge_label_index = torch.tensor([[10, 11, 3], [2, 4, 0]])
        del data[INTERACTS].edge_label_time
        with warns_once(warned):
            evaluate(model, data, k=3)
        if self.explains:
            with pytest.raises(ValueError, match=r"stranger.*expected a user of whom"):
                model.explain(data, "n0", 101)

    def test_a_user_of_the_training_store_without_interactions_is_a_stranger(self, splits: Splits) -> None:
        train, _, test = splits
        for data in (train, test):
            pairs, time = data[INTERACTS].edge_index, data[INTERACTS].time
            data[INTERACTS].edge_index = pairs[:, pairs[0] != 6]
            data[INTERACTS].time = time[pairs[0] != 6]
        train[INTERACTS].edge_label_index = train[INTERACTS].edge_index
        train[INTERACTS].edge_label_time = train[INTERACTS].time
        del test[INTERACTS].seen_edge_index
        model = self.trained(train)
        with warns_once(None if "anyone" in model.hears[USER] else "1 user is a stranger"):
            items, _ = model.recommend(test, ["u6", "u2"], k=5)
        assert torch.equal(items[0], Popularity(train).recommend(test, ["u6"], k=5)[0][0])

    def test_new_user_with_history(self, splits: Splits, tmp_path: Path) -> None:
        train, val, test = splits
        model = self.trained(train, val)
        answer = model.strangers()["user with history"]
        pairs = [(10, 0), (10, 2), (10, 4), (11, 1), (11, 3), (11, 5)]
        data, users = with_newcomers(test, pairs), ["n0", "n1"]
        stranger = answer != "heard" and "anyone" not in model.hears[USER]
        with warns_once("popularity" if stranger else None):
            scores = model.score_all(data, users)
        assert torch.equal(*scores) == (answer != "heard")
        if answer == "popularity":
            with pytest.raises(TypeError, match="cannot learn users from a history"):
                model.fold_in(data, users)
            return
        before = {name: value.clone() for name, value in model.state_dict().items()}
        others = model.score_all(data, torch.arange(10))
        with ordered_sums():
            folded = model.fold_in(data, users)
        again = model.fold_in(model.prepare(data), users[::-1])
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(model.score_all(data, torch.arange(10)), others)
        with warns_once(None):
            items, _ = folded.recommend(data, users, k=5)
            scores = folded.score_all(data, users)
        assert not torch.equal(*scores)
        assert not {0, 2, 4} & set(items[0].tolist())
        torch.testing.assert_close(again.score_all(data, users), scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(folded.score_all(data, torch.arange(10)), others, rtol=0.2, atol=0.2)
        if self.explains:
            assert str(folded.explain(data, "n0", 101))
        folded.save(tmp_path / "folded.pt")
        loaded = self.model.load(tmp_path / "folded.pt", data)
        assert torch.equal(loaded.score_all(data, users), scores)

    def test_new_user_with_features(self) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        train, _, test = build_splits(features=True)
        for features, answer in (("both", "features"), ("x", "features"), ("id", "popularity")):
            model = self.build(train, features=features)
            assert model.strangers()["user with features"] == answer
            with warns_once("popularity" if answer == "popularity" else None):
                score = model.score_all(with_newcomers(test, features=1.0), ["n0", "n1"])
            assert torch.equal(*score) == (answer == "popularity")
            blank = with_newcomers(test, features=0.0)
            with warns_once("2 users are strangers"):
                items = model.recommend(blank, ["n0", "n1"], k=16)[0]
            assert torch.equal(items, Popularity(train).recommend(blank, ["n0", "n1"], k=16)[0])

    def test_new_item_with_link(self, splits: Splits) -> None:
        train, val, test = splits
        model = self.trained(train, val)
        answer = model.strangers()["item with link"]
        assert (answer == "link") == ("links" in self.hears)
        data = with_newcomers(
            test, links=[(14, int(test[IS].edge_index[1, 0])), (15, int(test[IS].edge_index[1, 1]))]
        )
        score = model.score_all(data, torch.arange(10))
        below = score[:, :14].amin(dim=1)
        if answer == "last":
            assert bool((score[:, 14:].amax(dim=1) < below).all())
        else:
            assert not torch.isclose(score[:, 14], score[:, 15], rtol=1e-6, atol=1e-9).any()
            assert not torch.isclose(score[:, 14], below - (1 + below.abs())).any()
            if self.explains:
                assert float(model.explain(data, "u3", 900).score) == pytest.approx(
                    float(score[3, 14]), rel=1e-4
                )

    def test_new_item_with_features(self) -> None:
        self.skip_unless(self.offers_features(), "has no features")
        train, _, test = build_splits(features=True)
        for features, answer in (("both", "features"), ("x", "features"), ("id", "last")):
            model = self.build(train, features=features)
            assert model.strangers()["item with features"] == answer
            data, blank = (with_newcomers(test, features=f) for f in (1.0, 0.0))
            score, last = (model.score_all(d, torch.arange(10)) for d in (data, blank))
            bare = last[:, :14].amin(dim=1) - (1 + last[:, :14].amin(dim=1).abs())
            torch.testing.assert_close(last[:, 14:], bare.unsqueeze(1).expand(-1, 2))
            assert torch.isclose(score[:, 14], score[:, 15]).any() == (answer == "last")

    def test_new_item_bare(self, splits: Splits) -> None:
        train, val, test = splits
        model = self.trained(train, val)
        assert model.strangers()["item bare"] == "last"
        data = with_newcomers(test)
        users = torch.arange(10)
        with warns_once(None):
            items, scores = model.recommend(data, users, k=16)
            everything = model.score_all(data, users)
        plain = model.recommend(test, users, k=14)
        for user in range(10):
            left = int((items[user] >= 0).sum())
            assert set(items[user, left - 2 : left].tolist()) == {14, 15}
            assert items[user, : left - 2].tolist() == plain[0][user, : left - 2].tolist()
            assert bool(torch.isfinite(scores[user, :left]).all())
        assert bool(torch.isfinite(everything).all())
        torch.testing.assert_close(
            model.score(data, users.repeat_interleave(16), torch.arange(16).repeat(10)), everything.flatten()
        )
        if self.learns or self.solved:
            with warns_once("nothing is similar"):
                similar, cosine = model.similar_items(data, [900, 103], k=16)
            assert similar[0].tolist() == [-1] * 16
            assert bool((cosine[0] == -torch.inf).all())
            assert not {14, 15} & set(similar[1].tolist())
        if self.explains:
            with pytest.raises(ValueError, match="knows nothing of the item 900"):
                model.explain(data, "u3", 900)
        if model.strangers()["user with history"] != "popularity":
            assert set(model.recommend_session([100, 101], k=14, data=data)[0][-2:].tolist()) == {14, 15}
            with pytest.warns(UserWarning, match="no known item"):
                model.recommend_session([900], k=3, data=data)

    def test_a_session_gets_the_list_of_a_new_user_of_the_store(self, splits: Splits) -> None:
        train, val, test = splits
        model, sessions = self.trained(train, val), [[104, 101, 109], [113], [101, 102]]
        source = model.strangers()["user with history"]
        if source == "popularity":
            with pytest.raises(TypeError, match=f"{type(model).__name__} cannot hear the session"):
                model.recommend_session([101], data=test)
            return
        if not isinstance(model, SessionRecommender):
            sessions.append([101, 102, 101])  # an item is had once
        found, scores = model.recommend_session(sessions, k=9, data=test)
        for session, items, score in zip(sessions, found, scores):
            one, alone = model.recommend_session(session, k=9, data=test)
            assert torch.equal(one, items)
            torch.testing.assert_close(alone, score)
            grown = test.clone()
            store, number = grown[INTERACTS], test[USER].num_nodes
            pairs = torch.tensor([[number, node - 100] for node in dict.fromkeys(session[::-1])]).flip(0).t()
            store.edge_index = torch.cat([test[INTERACTS].edge_index, pairs], dim=1)
            for key in ("time", "rating"):
                if (column := test[INTERACTS].get(key)) is not None:
                    more = int(column.max()) + 10**6 + torch.arange(pairs.size(1))
                    store[key] = torch.cat([column, more.to(column.dtype)])
            grown[USER].num_nodes, grown[USER].id = number + 1, [*test[USER].id, "new"]
            if (x := test[USER].get("x")) is not None:
                grown[USER].x = torch.cat([x, torch.zeros(1, x.size(1))])
            knows = model.fold_in(grown, ["new"]) if source == "fold_in" else model
            items_then, score_then = knows.recommend(grown, ["new"], k=9)
            assert torch.equal(items, items_then[0])
            torch.testing.assert_close(score, score_then[0])

    # ------------------------------------------------------------------ who, among what, without what

    def test_everyone_is_ranked_where_nobody_is_named(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        for one, other in zip(model.recommend(test, k=4), model.recommend(test, users_of(test), k=4)):
            assert torch.equal(one, other)
        frame = model.recommend(test, k=2, as_frame=True)
        assert frame["user"].drop_duplicates().tolist() == list(test[USER].id)

    @pytest.mark.parametrize("users", [["u4"], ["u1", "u4", "u1"]])
    def test_candidates_are_ranked_as_they_stand_in_the_whole_list(
        self, splits: Splits, users: list[str]
    ) -> None:
        model, test = self.build(splits[0]), splits[2]
        chosen, k = [0, 3, 4, 7, 11, 13], test[ITEM].num_nodes
        whole, score = model.recommend(test, users, k=k)
        items, scores = model.recommend(test, users, k=6, items=[100 + i for i in (3, 3, 0, 13, 7, 11, 4)])
        for row in range(len(users)):
            among = [i for i in whole[row].tolist() if i in chosen]
            assert items[row].tolist() == among + [-1] * (6 - len(among))
            wanted = score[row, [whole[row].tolist().index(i) for i in among]]
            torch.testing.assert_close(scores[row, : len(among)], wanted, rtol=1e-5, atol=1e-6)
            assert scores[row, len(among) :].tolist() == [-torch.inf] * (6 - len(among))
        again = model.recommend(test, users, k=6, items=torch.tensor(chosen), as_frame=True, batch_size=1)
        assert again["item"].tolist() == [100 + i for i in items.flatten().tolist() if i >= 0]

    @pytest.mark.parametrize("users", [["u4"], ["u1", "u4"]])
    def test_pairs_are_left_out_and_seen_ones_let_in(self, splits: Splits, users: list[str]) -> None:
        model, test = self.build(splits[0]), splits[2]
        k = test[ITEM].num_nodes
        first = model.recommend(test, users, k=2, as_frame=True)
        whole, _ = model.recommend(test, users, k=k)
        without, _ = model.recommend(test, users, k=k, exclude=first)
        assert without[:, :-2].tolist() == whole[:, 2:].tolist()
        pairs = list(first[["user", "item"]].itertuples(index=False, name=None))
        index = torch.tensor([[int(u[1:]), i - 100] for u, i in [*pairs, ("u9", 100)]]).t()
        for given in (
            pairs,
            index,
            index.numpy(),
            first.rename(columns={"user": "user_id", "item": "item_id"}),
        ):
            assert torch.equal(model.recommend(test, users, k=k, exclude=given)[0], without)
        everything, scores = model.recommend(test, users, k=k, exclude_seen=False)
        assert everything.sort(dim=1).values.tolist() == [list(range(k))] * len(users)
        found = model.score_all(test, users).gather(1, everything)
        torch.testing.assert_close(scores, found.to(scores.dtype), rtol=1e-5, atol=1e-6)
        only, _ = model.recommend(test, users, k=k, exclude=index, exclude_seen=False)
        assert [-1 in row for row in only.tolist()] == [True] * len(users)
        assert {
            (u, 100 + i) for u, row in zip(users, only.tolist()) for i in range(k) if i not in row
        } == set(pairs)

    def test_similar_users(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        if not (self.learns or self.solved):
            with pytest.raises(TypeError, match="no embeddings"):
                model.similar_users(test, ["u3"])
            return
        similar, scores = model.similar_users(test, ["u3", "u0", "u3"], k=10)
        assert similar.shape == scores.shape == (3, 10)
        assert torch.equal(similar[0], similar[2])
        for row, user in ((0, 3), (1, 0)):
            assert sorted(similar[row, :9].tolist()) == [i for i in range(10) if i != user]
            assert similar[row, 9] == -1
            assert scores[row, 9] == -torch.inf
            assert bool((scores[row].diff() <= 0).all())
            assert bool((scores[row, :9].abs() < 1 + 1e-5).all())
        apart, cosine = model.similar_users(test, ["u3", "u0", "u3"], k=10, batch_size=1)
        torch.testing.assert_close(cosine, scores, rtol=1e-4, atol=1e-5)
        assert apart.shape == similar.shape
        frame = model.similar_users(test, ["u3"], k=10, as_frame=True)
        assert list(frame) == ["user", "rank", "similar", "score"]
        assert frame["similar"].tolist() == [f"u{i}" for i in similar[0, :9].tolist()]
        strange = with_newcomers(test)
        if bool(model.known(model.prepare(strange)).every_user):
            return
        with warns_once("nobody is similar"):
            found, _ = model.similar_users(strange, ["u3", "n0"], k=10)
        assert set(found[1].tolist()) == {-1}
        assert set(found[0].tolist()) == {-1, *range(10)} - {3}

    def test_chosen_metrics_are_those_of_all(self, splits: Splits) -> None:
        model, test = self.build(splits[0]), splits[2]
        whole = evaluate(model, test, k=(2, 4))
        some = evaluate(model, test, k=(2, 4), metrics=["coverage", "ndcg"])
        assert list(some) == ["coverage@2", "ndcg@2", "coverage@4", "ndcg@4"]
        assert some == {name: whole[name] for name in some}
        frame = evaluate(model, test, k=4, metrics=["recall"], per_user=True)
        assert list(frame) == ["to_find", "interactions", "recall@4"]

    # ------------------------------------------------------------------ prepared stores

    def test_a_prepared_store_gives_what_the_store_gives(self, splits: Splits) -> None:
        train, val, test = splits
        model = self.trained(train, val)
        ready, users = model.prepare(test), users_of(test)
        assert model.prepare(ready) is ready
        assert torch.equal(model.score_all(ready, users), model.score_all(test, users))
        assert torch.equal(model.score(ready, ["u3"], [104]), model.score(test, ["u3"], [104]))
        for one, other in zip(model.recommend(ready, users, k=4), model.recommend(test, users, k=4)):
            assert torch.equal(one, other)
        assert torch.equal(model.rank(ready, ["u1"], 4)[0], model.recommend(test, ["u1"], k=4)[0])
        frames = [model.recommend(data, ["u1", "u4"], k=3, as_frame=True) for data in (ready, test)]
        assert frames[0].equals(frames[1])
        assert evaluate(model, ready, k=3) == evaluate(model, test, k=3)
        if self.learns or self.solved:
            assert torch.equal(model.similar_items(ready, [101])[0], model.similar_items(test, [101])[0])
        if self.explains:
            assert str(model.explain(ready, "u1", 101)) == str(model.explain(test, "u1", 101))

    def test_what_is_said_lowers_the_score(self, splits: Splits) -> None:
        self.skip_unless(self.explains, "no explanations")
        model, test = self.trained(splits[0]), splits[2]
        many = model.explain(test, ["u1", "u4"], k=2)
        assert len(many) == 4
        assert [why.rank for why in many] in ([1, 2, 1, 2], [None] * 4)
        for why in many:
            assert json.loads(json.dumps(why.to_dict()))["item"] == why.item
            if why.rank is None:  # it explains by weights
                continue
            lowers = why.units[why.units["supported"] & (why.units["contribution"] > 0)]
            # What the user has already is no reason for itself.
            lowers = lowers[[not why.graph.is_itself(*unit) for unit in zip(lowers["kind"], lowers["id"])]]
            assert ("no single fact explains this" in why.text()) == lowers.empty
            assert all(reason.contribution > 0 for reason in why.reasons(99))
        assert len(many.to_frame()) == sum(len(why.units) for why in many)

    def test_a_prepared_store_is_refused_by_another_model(self, splits: Splits) -> None:
        ready = self.build(splits[0]).prepare(splits[2])
        for other in (self.build(splits[0]), copy.deepcopy(self.build(splits[0]))):
            with pytest.raises(ValueError, match="prepared by another"):
                other.recommend(ready, ["u1"], k=2)

    @pytest.mark.parametrize("prepared", [False, True])
    def test_no_answer_comes_from_weights_that_are_gone(
        self, splits: Splits, tmp_path: Path, prepared: bool
    ) -> None:
        self.skip_unless(self.learns, "has no parameters")
        train, _, test = splits
        users, model = users_of(test), self.build(train, seed=1)
        data = model.prepare(test) if prepared else test
        # Adam in one kernel writes past PyTorch's version counters, and so do .data and NumPy.
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            inputs = model.inputs(train)
            losses = model.train().training_losses(
                inputs, model.training_examples(inputs), torch.Generator().manual_seed(0)
            )
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            model.eval()

        def multiply(how: Callable[[Tensor], Any]) -> Callable[[], None]:
            def change() -> None:
                with torch.no_grad():
                    for parameter in model.parameters():
                        how(parameter)

            return change

        def numpy(parameter: Tensor) -> None:
            array = parameter.detach().numpy()
            array *= np.float32(0.9)

        other = self.build(train, seed=2).state_dict()
        scores: list[Tensor] = []
        changes: list[Callable[[], Any]] = [
            lambda: None,
            step,
            lambda: model.load_state_dict(other),
            model.reset_parameters,
            multiply(lambda p: p.mul_(1.5)),
            multiply(lambda p: p.data.mul_(0.8)),
            multiply(numpy),
            multiply(lambda p: p.data.copy_(p.data.flip(0))),
            lambda: model.load_state_dict(self.build(train, seed=5).state_dict(), assign=True),
            model.double,
        ]
        for change in changes:
            change()
            score = model.score_all(data, users)
            model.save(tmp_path / "model.pt")
            fresh = self.model.load(tmp_path / "model.pt").to(score.dtype)
            fresh.load_state_dict(model.state_dict())
            assert torch.equal(fresh.score_all(copy.deepcopy(test), users), score), change
            if change == model.double:  # the same weights, and another dtype
                assert score.dtype == torch.float64
            else:
                assert not any(torch.allclose(score, earlier) for earlier in scores), change
            scores.append(score)

    def test_inference_mode_spoils_nothing(self, splits: Splits, tmp_path: Path) -> None:
        self.skip_unless(self.learns, "is not trained")
        train, val, test = splits
        model, plain = self.build(train), self.build(train)
        model.save(tmp_path / "model.pt")
        with torch.inference_mode():
            ready = model.prepare(test)
            born = build_splits()  # the tensors of a store may be made there, too
            loaded = self.model.load(tmp_path / "model.pt")
            for data in (train, val, test, ready, born[2]):
                model.recommend(data, ["u1"], k=2)
            evaluate(model, val, k=3)
        few: dict[str, Any] = {"max_epochs": 1, "progress": False, "monitor": "ndcg@3"}
        for one, stores in ((model, splits), (plain, splits), (loaded, born)):
            fit(one, *stores[:2], **few)
        scores = [one.score_all(test, users_of(test)) for one in (model, plain, loaded)]
        assert torch.equal(model.score_all(ready, users_of(test)), scores[1])
        assert torch.equal(scores[0], scores[1])
        assert torch.equal(scores[2], scores[1])

    def test_threads_give_the_answers_of_one(self, splits: Splits, tmp_path: Path) -> None:
        train, val, test = splits
        self.trained(train, val).save(tmp_path / "model.pt")
        model = self.model.load(tmp_path / "model.pt")
        model.train()  # the mode of a model is nobody's business but its trainer's
        ready = model.prepare(test)

        def ask(i: int) -> list[Any]:
            torch.set_num_threads(1)
            data, user, item = (ready, test)[i % 2], f"u{i % 10}", 100 + i % 14
            answers: list[Any] = [*model.recommend(data, [user], k=4), model.score_all(data, [user])]
            if self.explains and i % 2:  # naming things takes longer than all the rest
                answers.append(str(model.explain(data, user, item)))
            if isinstance(model, SessionRecommender):
                answers += model.recommend_session([item, 100 + (i + 1) % 14], k=3)
            elif "interactions" in model.hears[USER] and i % 5 == 0:
                answers += model.recommend_session([item, 100 + (i + 1) % 14], k=3, data=data)
            return answers

        alone = [ask(i) for i in range(10)]
        start = threading.Barrier(6)

        def asks(first: int) -> list[tuple[int, list[Any]]]:
            start.wait()
            return [(i % 10, ask(i % 10)) for i in range(first, first + 4)]

        with ThreadPoolExecutor(6) as pool:
            for results in pool.map(asks, range(6)):
                for i, answers in results:
                    for one, other in zip(answers, alone[i], strict=True):
                        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other

    # ------------------------------------------------------------------ stores that change

    def test_ids_that_change_in_place_are_seen(self, splits: Splits) -> None:
        train, _, test = splits
        model, fresh = self.build(train), self.build(train)
        ready, test_ids = model.prepare(test), list(test[USER].id)
        lists = {u: model.recommend(test, [u], k=4)[0] for u in test_ids}
        test[USER].id.reverse()
        expected = fresh.recommend(copy.deepcopy(test), ["u1"], k=4)
        assert torch.equal(model.recommend(test, ["u1"], k=4)[0], expected[0])
        assert torch.equal(model.recommend(ready, ["u1"], k=4)[0], lists["u1"]), (
            "a prepared store is as it was"
        )
        test[USER].id[3] = "stranger"
        assert model.recommend(test, ["stranger"], k=2, as_frame=True)["user"].tolist() == ["stranger"] * 2
        with pytest.raises(ValueError, match="unknown"):
            model.recommend(test, [test_ids[6]], k=2)
        test[ITEM].id[0] = 999
        test[ITEM].name[0] = "Renamed"
        frame = model.recommend(test, users_of(test), k=14, as_frame=True)
        assert set(frame["item"]) <= {999, *range(101, 114)}
        assert "Item <0>" not in set(frame["name"])

    def test_relations_that_change_in_place_are_seen(self, splits: Splits) -> None:
        train, _, test = splits
        model, users = self.build(train), users_of(test)
        before = model.score_all(test, users)
        test.relation_name.reverse()
        changed = model.score_all(test, users)
        assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
        assert torch.equal(changed, before) == ("relations" not in self.hears)
        test.relation_name[0] = "something else"
        with pytest.raises(ValueError, match="differs from the relations of training"):
            model.score_all(test, users)

    def test_nodes_that_are_added_are_seen(self) -> None:
        train, val, test = build_splits(ids=False)
        model = self.build(train)
        model.recommend(test, torch.tensor([0]), k=14)
        if self.learns:
            fit(model, train, val, max_epochs=1, progress=False, monitor="ndcg@3")
        for data in (train, val, test):
            data[USER].num_nodes, data[ITEM].num_nodes = 12, 17
        items, scores = model.recommend(test, torch.tensor([0, 11]), k=17)
        assert {14, 15, 16} <= set(items[0].tolist())
        assert bool(torch.isfinite(scores[items >= 0]).all())
        if self.learns:
            train_step(model, train)
            drawn = model.inputs(train).negatives().sample(torch.arange(12).repeat(40), 1)
            assert {14, 15, 16} <= set(drawn.flatten().tolist())

    @pytest.mark.parametrize("how", ["in place", "numpy", "data"])
    def test_edges_that_change_are_seen(self, splits: Splits, how: str) -> None:
        train, _, test = splits
        model, users = self.build(train), users_of(test)
        before, ready = model.score_all(test, users), model.prepare(test)
        seen = model.recommend(test, users, k=14)[0]
        item = test[INTERACTS].edge_index[1]
        change = {"in place": item, "data": item.data, "numpy": item.numpy()}[how]
        change[:20] = (change[:20] + 1) % 14
        changed = model.score_all(test, users)
        assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
        assert torch.equal(changed, before) != ("interactions" in self.hears)
        assert not torch.equal(model.recommend(test, users, k=14)[0], seen)
        if how == "in place":
            with pytest.raises(
                ValueError, match=r"edge_index was written to after the store had been prepared"
            ):
                model.score_all(ready, users)

    def test_links_that_change_are_seen(self, splits: Splits) -> None:
        self.skip_unless("links" in self.hears, "hears nothing of links")
        train, _, test = splits
        model, users = self.build(train), users_of(test)
        before = model.score_all(test, users)
        test[IS].edge_index[0, 0] = 13
        changed = model.score_all(test, users)
        assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
        assert not torch.allclose(changed, before)

    @pytest.mark.parametrize("part", ["triples", "types"])
    def test_knowledge_that_changes_is_seen(self, splits: Splits, part: str) -> None:
        self.skip_unless("relations" in self.hears, "hears nothing of triples")
        train, _, test = splits
        model, users = self.build(train), users_of(test)
        before = model.score_all(test, users)
        if part == "triples":
            test[RELATES].edge_index[1, 0] = test[RELATES].edge_index[1, 1]
        else:
            test[RELATES].edge_type[:5] = 2
        changed = model.score_all(test, users)
        assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
        assert not torch.allclose(changed, before)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_nothing_kept_outlives_the_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            torch.backends.cudnn, "allow_tf32", False
        )  # which recurrent layers use by default
        train, _, test = build_splits(features=True)
        model, users = self.build(train), users_of(test)
        ready = model.prepare(test)
        score = model.score_all(test, users)
        model.to("cuda")
        for data in (test, ready):
            assert model.score_all(data, users).device.type == "cuda"
            torch.testing.assert_close(model.score_all(data, users).cpu(), score, rtol=1e-4, atol=3e-5)
            items, _ = model.recommend(data, ["u1", "u2"], k=3)
            assert len(model.recommend(data, ["u1", "u2"], k=3, as_frame=True)) == items.numel()
        if self.learns:
            inputs = model.prepare(train)
            batch = tuple(column.cuda() for column in model.training_examples(inputs))
            losses = model.train().training_losses(inputs, batch, torch.Generator("cuda").manual_seed(0))
            torch.stack(list(losses.values())).sum().backward()
            assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        model.save(tmp_path / "model.pt")
        assert torch.equal(model.cpu().score_all(test, users), score)
        assert torch.equal(self.model.load(tmp_path / "model.pt").score_all(test, users), score)

    def test_the_graph_is_not_kept(self) -> None:
        gc.freeze()  # what was there before is not looked through
        try:
            train, test = build_splits(features=True)[::2]
            model = self.build(train)
            if self.learns:
                train_step(model, train)
            model.recommend(test, ["u1"], k=2)
            watched = [
                weakref.ref(o) for o in (train, test, test[INTERACTS].edge_index, test[RELATES].edge_index)
            ]
            del train, test
            gc.collect()
        finally:
            gc.unfreeze()
        assert [ref() for ref in watched] == [None] * 4

    def test_the_store_is_left_alone(self) -> None:
        train, _, test = build_splits(features=True)
        before = copy.deepcopy((train, test))
        model = self.build(train)
        if self.learns:
            train_step(model, train)
        model.recommend(test, ["u1"], k=2, as_frame=True)
        for data, old in zip((train, test), before):
            assert list(data.to_dict()) == list(old.to_dict())
            for kind in (*data.node_types, *data.edge_types):
                assert list(data[kind].keys()) == list(old[kind].keys())
                for key, value in data[kind].items():
                    same = (
                        torch.equal(value, old[kind][key])
                        if isinstance(value, Tensor)
                        else value == old[kind][key]
                    )
                    assert same, (kind, key)

    # ------------------------------------------------------------------ training

    def test_training_is_repeatable_and_leaves_evaluation_mode(self, splits: Splits) -> None:
        self.skip_unless(self.learns or self.solved, "is not trained")
        train, val, test = splits
        models = [self.trained(train, val, seed=3) for _ in range(2)]
        scores = [model.score_all(test, users_of(test)) for model in models]
        assert torch.equal(*scores)
        assert not any(module.training for module in models[0].modules())
        assert all(math.isfinite(value) for value in evaluate(models[0], test, k=3).values())
