"""A store read once: all that a model needs of it, as one object."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch_geometric.data import HeteroData

from pyg_kgrec._files import shown
from pyg_kgrec.data.interactions import PairIndex, label_pairs, seen_pairs
from pyg_kgrec.data.sampling import Distribution, NegativeSampler
from pyg_kgrec.data.sequences import Sequences
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, NODE_TYPES, RELATES, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.data.vocabulary import Vocabulary
from pyg_kgrec.models.signature import StoreSignature

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

T = TypeVar("T")
_COPIED = 2**13  # words of a tensor up to which a copy of it is kept: 64 KiB
_SMALL, _SAMPLE = 2**17, 1024  # words of a tensor that are looked at all, and of a larger one
_AT_ONCE = 32  # rows of such a table, of a thousand
_WIDTHS = 1019, 1021  # primes whose product is more than the words of a table that is summed
_HASHED = 2**15  # bytes of a tensor up to which hashing them is faster than sums


@dataclass(frozen=True, eq=False, repr=False)
class Inputs:
    """A store as a model needs it: validated, matched to the nodes of training, indexed, on the model's device.

    :meth:`Recommender.prepare` makes it, and every method of a model that takes a store takes it too; ``fit`` and
    ``evaluate`` prepare once. It holds the store as it was: lists are copied, and what is assigned to the store
    afterwards has no effect on it. Tensors are shared; a write into one of them in place is noticed through
    PyTorch's version counter and refused (one through ``.data`` or ``.numpy()`` has no counter: prepare again
    after it). The same object may be used by several threads at once.

    It also keeps the encoding of the weights that it was last used with, and whether they are still the same.

    Attributes:
        data: The store, a shallow copy.
        signature: What the model remembers of its training store.
        device: Device of all tensors but those of ``data``.
        num_nodes: Number of users, items and entities (0 without knowledge graph).
        row: Row of each node in the tables of training by node type, ``[n]`` int64, −1 for a new node; None where
            the rows are the nodes in their order.
        x: Features by node type, ``[n, width]``, or None.
        edge_index: Interactions user → item to propagate over, ``[2, n]`` int64.
        triple: Head, relation (as training numbers them) and tail of each triple, ``[3, T]`` int64.
        link: Items and the entities that they are, ``[2, l]`` int64.
        stamp: What the store held.
        watched: The store's tensors, with a name, and where and in which version each was.
    """

    data: HeteroData
    signature: StoreSignature
    device: torch.device
    num_nodes: Mapping[str, int]
    row: Mapping[str, Tensor | None]
    x: Mapping[str, Tensor | None]
    edge_index: Tensor
    triple: Tensor
    link: Tensor
    stamp: StoreStamp
    watched: list[tuple[str, Tensor, tuple[Any, ...]]]
    _owner: object
    _parts: dict[Any, Any] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[valid-type]

    @classmethod
    def read(cls, model: Recommender, data: HeteroData) -> Inputs:
        """Reads a store that was validated and fits the signature of a model."""
        signature, device = model.signature, model.device
        stamp, watched = StoreStamp.of(data), _watched(data)
        data = _snapshot(data)
        present = [t for t in NODE_TYPES if t in data.node_types]
        triple = torch.empty(3, 0, dtype=torch.long)
        if RELATES in data.edge_types:
            (head, tail), relation = data[RELATES].edge_index, data[RELATES].edge_type
            number = signature.relations(data)
            relation = relation if number is None else number.to(relation.device)[relation]
            triple = torch.stack([head, relation, tail])
        link = data[IS].edge_index if IS in data.edge_types else torch.empty(2, 0, dtype=torch.long)
        pairs = data[INTERACTS].edge_index if INTERACTS in data.edge_types else link[:, :0]
        features = {t: data[t].get("x") for t in present}
        inputs = cls(
            data=data,
            signature=signature,
            device=device,
            num_nodes={t: data[t].num_nodes if t in present else 0 for t in NODE_TYPES},
            row={t: signature.rows(data, t, device) if t in present else None for t in NODE_TYPES},
            x={t: None if features.get(t) is None else features[t].to(device) for t in NODE_TYPES},
            edge_index=pairs.to(device),
            triple=triple.to(device),
            link=link.to(device),
            stamp=stamp,
            watched=watched,
            _owner=model.identity,
        )
        inputs.part("graph", lambda: model.build_graph(inputs))
        return inputs

    def part(self, key: Any, build: Callable[[], T]) -> T:
        """What ``build`` computes from this object, computed once and kept; by one thread at a time."""
        with self._lock:
            if key not in self._parts:
                with torch.inference_mode(False), torch.no_grad():
                    self._parts[key] = build()
            value: T = self._parts[key]
            return value

    def replace(self, key: Any, is_valid: Callable[[T], bool], build: Callable[[], T]) -> T:
        """As :meth:`part`, and computed again where what is kept is no longer valid."""
        with self._lock:
            if key in self._parts and is_valid(self._parts[key]):
                value: T = self._parts[key]
                return value
            self._parts.pop(key, None)
            return self.part(key, build)

    @property
    def graph(self) -> Any:
        """What the model propagates over: what its ``build_graph`` made of this object."""
        return self._parts["graph"]

    @property
    def num_users(self) -> int:
        """Number of users."""
        return self.num_nodes[USER]

    @property
    def num_items(self) -> int:
        """Number of items."""
        return self.num_nodes[ITEM]

    @property
    def num_entities(self) -> int:
        """Number of entities."""
        return self.num_nodes[ENTITY]

    @property
    def seen(self) -> PairIndex:
        """What must never be recommended, by user."""
        return self.part("seen", lambda: seen_pairs(self.data, self.device))

    @property
    def labels(self) -> PairIndex:
        """The pairs to be found, by user; raises ValueError if the store holds none."""
        return self.part("labels", lambda: label_pairs(self.data, self.device))

    @property
    def hidden_labels(self) -> int:
        """Number of pairs to be found that stand among the seen ones, which no ranking shows."""

        def count() -> int:
            keys = [
                torch.arange(self.num_users, device=self.device).repeat_interleave(pairs.start.diff())
                * self.num_items
                + pairs.item
                for pairs in (self.labels, self.seen)
            ]
            return int(torch.isin(keys[0], keys[1]).sum())

        return self.part("hidden labels", count)

    def negatives(self, distribution: Distribution = "uniform") -> NegativeSampler:
        """Draws items that a user has no training interaction with."""
        return self.part(
            ("negatives", distribution),
            lambda: NegativeSampler(self.edge_index, self.num_users, self.num_items, distribution),
        )

    def has_negatives(self, user: Tensor) -> Tensor:
        """Which examples there are negatives for, ``[n]`` bool, of users ``[n]``; warns of the users without."""
        keep = self.negatives().has_negatives(user.to(self.device)).to(user.device)
        if not bool(keep.all()):
            full = user[~keep].unique().tolist()
            first = shown(repr(self.raw_ids(USER, full[:1])[0]))
            who = f"user {first} has" if len(full) == 1 else f"{len(full)} users, {first} among them, have"
            warn_caller(
                f"{who} interacted with every item: nothing is left to rank below, and their pairs are left out of "
                "the loss"
            )
        return keep

    def sequences(self, seen: bool = True) -> Sequences:
        """Each user's items, oldest first; raises ValueError if interactions have no time."""
        return self.part(("sequences", seen), lambda: Sequences.from_store(self.data, self.device, seen=seen))

    def nodes(self, node_type: str, node: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """What an encoder needs of some nodes of a type (all if None): rows in its table, and features."""
        row, x = self.row[node_type], self.x[node_type]
        if node is None:
            return row, x
        return (node if row is None else row[node]), (None if x is None else x[node])

    def of_strangers(self, number: int) -> Inputs:
        """The same items and entities, with so many users whom nobody knows, with features of 0 and no history.

        The graph is this one's: it is for models that read no users there.
        """
        x = self.x[USER]
        return dataclasses.replace(
            self,
            num_nodes={**self.num_nodes, USER: number},
            row={**self.row, USER: torch.full((number,), -1, dtype=torch.long, device=self.device)},
            x={**self.x, USER: None if x is None else x.new_zeros(number, x.size(1))},
            edge_index=self.edge_index[:, :0],
            _parts={"graph": self.graph},
            _lock=threading.RLock(),
        )

    def vocabulary(self, node_type: str) -> Vocabulary | None:
        """Raw ids of a node type, None where the store has none."""
        ids = self.data[node_type].get("id")
        return self.part(
            ("vocabulary", node_type), lambda: None if ids is None else Vocabulary(ids, node_type)
        )

    def raw_ids(self, node_type: str, index: list[int]) -> list[Any]:
        """Raw ids of nodes, or their indices where the store has none."""
        words = self.vocabulary(node_type)
        return index if words is None else [words.ids[i] for i in index]

    def checked(self, model: Recommender) -> Inputs:
        """This object, or the same store prepared again where the model has moved to another device.

        Raises:
            ValueError: If another model prepared it, or a tensor of the store was written to since.
        """
        if self._owner is not model.identity:
            raise ValueError(
                f"the store was prepared by another {type(model).__name__} or another model, expected an object "
                "that this model's prepare returned"
            )
        for name, tensor, place in self.watched:
            if _place(tensor) != place:
                raise ValueError(
                    f"{name} was written to after the store had been prepared, expected an unchanged store: call "
                    "prepare again"
                )
        if self.fits(model):
            return self
        key = "moved", model.device, id(model.signature)
        return self.part(key, lambda: model.prepare(self.data))

    def fits(self, model: Recommender) -> bool:
        """Whether the model is still on this device, and training has taught the same users."""
        return self.device == model.device and self.signature.knows_as(model.signature)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"num_{t}s={n}" for t, n in zip(("user", "item", "entitie"), self.num_nodes.values())
        )
        return f"{type(self).__name__}({sizes}, num_triples={self.triple.size(1)}, device={self.device})"


def node_columns(inputs: Inputs, node_type: str, index: list[int], column: str) -> dict[str, Any]:
    """Columns of a frame of nodes ``[n]``: raw ids, and names where nodes of this type have some."""
    columns: dict[str, Any] = {column: inputs.raw_ids(node_type, index)}
    names = inputs.data[node_type].get("name")
    return columns if names is None else columns | {"name": [names[i] for i in index]}


@dataclass(frozen=True)
class StoreStamp:
    """What a store held at one moment, to tell whether it still does.

    Attributes:
        tensors: Address, version, shape and dtype of each tensor by its key.
        content: Fingerprint of each tensor's bytes, by key: of writes that no version counter sees.
        others: The other values: lists as tuples, the rest as it is.
    """

    tensors: Mapping[tuple[str, str], tuple[Any, ...]]
    content: Mapping[tuple[str, str], int]
    others: Mapping[tuple[str, str], Any]

    @classmethod
    def of(cls, data: HeteroData) -> StoreStamp:
        """The stamp of a store, also of a damaged one."""
        tensors, content, others = {}, {}, {}
        for key, value in _held(data):
            if isinstance(value, Tensor):
                tensors[key] = _place(value)
                if _is_plain(value) and value.numel():
                    content[key] = fingerprint(value)
            else:
                others[key] = tuple(value) if isinstance(value, list) else value
        return cls(tensors, content, others)


def _snapshot(data: HeteroData) -> HeteroData:
    """A shallow copy whose lists are its own, and tensors made in inference mode, which training could not use."""
    out = copy.copy(data)
    for store in (out[kind] for kind in (*out.node_types, *out.edge_types)):
        for key in list(store.keys()):
            value = store[key]
            if isinstance(value, list):
                store[key] = list(value)
            elif isinstance(value, Tensor) and value.is_inference():
                store[key] = value.clone()
    if "relation_name" in out:
        out.relation_name = list(out.relation_name)
    return out


def _watched(data: HeteroData) -> list[tuple[str, Tensor, tuple[Any, ...]]]:
    """The tensors of a store, with a name, and where and in which version each is."""
    return [
        (f"data[{name}].{key}", value, _place(value))
        for (name, key), value in _held(data)
        if isinstance(value, Tensor)
    ]


def _held(data: HeteroData) -> Iterator[tuple[tuple[str, str], Any]]:
    """What a store holds for a model, with a name to be read."""
    for kind in (*NODE_TYPES, INTERACTS, IS, RELATES):
        if kind in (data.node_types if isinstance(kind, str) else data.edge_types):
            name = ", ".join(map(repr, [kind] if isinstance(kind, str) else kind))
            store = data[kind]
            for key in store:
                yield (name, key), store[key]
    yield ("'relation_name'", ""), getattr(data, "relation_name", None)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has bytes of its own to look at; a store may hold others beside what models read."""
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    version = -1 if tensor.is_inference() else tensor._version
    if tensor.is_nested:
        return id(tensor), version
    address = tensor.data_ptr() if tensor.layout == torch.strided else id(tensor)
    return address, version, tuple(tensor.shape), tensor.dtype


def fingerprint(tensor: Tensor) -> int:
    """One number from all bytes of a dense tensor, in their order; the same in every process.

    Of a large tensor sums of its words are looked at: of the columns of the words laid out in rows of one width,
    and of another. No word can change unnoticed, nor two change places unless they stand in one column both times.
    """
    # What is repeated without memory of its own is looked at once.
    dense = tensor.detach().resolve_conj().resolve_neg()
    if 0 in dense.stride():
        once = dense[tuple(slice(0, 1) if step == 0 else slice(None) for step in dense.stride())]
        dense = torch.empty(once.shape, dtype=once.dtype, device=once.device).copy_(once)
    flat = _aligned(dense.contiguous().view(-1)).view(torch.uint8)
    digest = hashlib.blake2b(digest_size=8)
    if flat.numel() > _HASHED:
        whole = flat.numel() // 8 * 8
        words = flat[:whole].view(torch.int64)
        sums = torch.cat([part for width in _WIDTHS for part in _column_sums(words, width)])
        digest.update(sums.cpu().numpy().data)
        flat = flat[whole:]
    digest.update(flat.cpu().numpy().data)
    return int.from_bytes(digest.digest(), "little", signed=True)


def _column_sums(words: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Sums of the columns of words ``[n]`` in rows of a width, ``[width]``, and the words that fill no row."""
    whole = words.numel() // width * width
    return words[:whole].view(-1, width).sum(0), words[whole:]


class WeightStamp:
    """Which values the weights of a model had, to tell whether they still have them.

    PyTorch's version counters see most writes, but not those of fused optimisers, ``.data`` and NumPy. Steps of
    optimisers are therefore counted, and after one all bytes are looked at. Otherwise all bytes of tables up to
    1 MiB are, and about a thousand words of a larger one, other words each time: reading every byte for every
    recommendation would cost more than the recommendation. So a write of a few rows of a large table through
    ``.data`` or NumPy may take some calls to be noticed.

    Modules that are exchanged, hooks on their forward calls and what they remember of a store are looked at as
    well; other attributes, such as a number that ``encode`` reads, are not.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._tensors = [*model.parameters(), *model.buffers()]
        # Weakly: what a model prepared must not keep it alive.
        self._modules = [weakref.ref(module) for module in model.modules()]
        self._told = _told(model)
        self._places = [_place(t) for t in self._tensors]
        self._steps, self._calls = _optimizer_steps[0], 0
        self._bytes = [_bytes_of(t) for t in self._tensors if t.numel()]

    def holds(self, model: torch.nn.Module) -> bool:
        """Whether a model has the same weights still."""
        tensors = [*model.parameters(), *model.buffers()]
        if len(tensors) != len(self._tensors) or any(a is not b for a, b in zip(tensors, self._tensors)):
            return False
        if [_place(t) for t in tensors] != self._places:
            return False
        if [kept() for kept in self._modules] != list(model.modules()) or _told(model) != self._told:
            return False
        steps = _optimizer_steps[0]
        if steps != self._steps:
            if not all(kept.same() for kept in self._bytes):
                return False
            self._steps = steps
            return True
        self._calls += 1
        return all(kept.seem_same(self._calls) for kept in self._bytes)


def _told(model: torch.nn.Module) -> list[tuple[Any, ...]]:
    """What each module of a model remembers of a store, and the numbers of the hooks on its forward call."""
    return [
        (getattr(module, "signature", None), *module._forward_pre_hooks, *module._forward_hooks)
        for module in model.modules()
    ]


_optimizer_steps = [0]


def _count_step(*_: Any) -> None:
    _optimizer_steps[0] += 1


register_optimizer_step_post_hook(_count_step)


class _Bytes(ABC):
    """What the bytes of a tensor were, as far as it is kept."""

    def __init__(self, tensor: Tensor) -> None:
        words = _words(tensor)
        # A view shows what is written later; a stamp looks first whether the tensor has the same memory still.
        self._view = words if words.data_ptr() == tensor.data_ptr() else None
        self._tensor = tensor

    def words(self) -> Tensor:
        """The bytes as they are, ``[n]`` int64."""
        return _words(self._tensor) if self._view is None else self._view

    @abstractmethod
    def same(self) -> bool:
        """Whether they are what they were."""

    @abstractmethod
    def seem_same(self, call: int) -> bool:
        """Whether those are that are looked at in this call."""


class _Copied(_Bytes):
    """All bytes of a small tensor."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._kept = self.words().clone()

    def same(self) -> bool:
        """Whether they are what they were."""
        return torch.equal(self.words(), self._kept)

    def seem_same(self, call: int) -> bool:
        """Whether they are what they were."""
        return self.same()


class _Summed(_Bytes):
    """Sums of the columns of the words of a tensor, laid out in rows of one width, and of another.

    That takes a third of the time of a comparison with a copy. Two words that change places stand in two columns
    of one width at least: where a call does not notice it, the next one does.
    """

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._kept = [(sums, rest.clone()) for sums, rest in map(self._sums, _WIDTHS)]

    def _sums(self, width: int) -> tuple[Tensor, Tensor]:
        return _column_sums(self.words(), width)

    def same(self) -> bool:
        """Whether they are what they were."""
        return all(self.seem_same(call) for call in range(len(_WIDTHS)))

    def seem_same(self, call: int) -> bool:
        """Whether they are what they were, as far as the sums of one width tell."""
        turn = call % len(_WIDTHS)
        return all(map(torch.equal, self._sums(_WIDTHS[turn]), self._kept[turn]))


class _Sampled(_Bytes):
    """Sums of every n-th word of a large tensor, each times a weight of its place, by the first word."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._stride = self.words().numel() // _SAMPLE
        self._kept = self._sums()
        self._each = self._kept.tolist()

    def _sums(self) -> Tensor:
        words, stride = self.words(), self._stride
        rows = words.numel() // stride
        weight = _weights(words.device)
        table, sums = words[: rows * stride].view(rows, stride), words.new_zeros(stride)
        for some in range(0, rows, _AT_ONCE):  # what is multiplied stays in the processor's cache
            part = slice(some, min(some + _AT_ONCE, rows))
            sums += (table[part] * weight[part, None]).sum(0)
        rest = words[rows * stride :]
        sums[: rest.numel()] += rest * weight[rows]
        return sums

    def same(self) -> bool:
        """Whether they are what they were."""
        return torch.equal(self._sums(), self._kept)

    def seem_same(self, call: int) -> bool:
        """Whether one of the sums is what it was."""
        first = call % self._stride
        some = self.words()[first :: self._stride]
        return int((some * _weights(some.device)[: some.numel()]).sum()) == self._each[first]


def _bytes_of(tensor: Tensor) -> _Bytes:
    words = -(-tensor.numel() * tensor.element_size() // 8)
    if words <= _COPIED:
        return _Copied(tensor)
    return _Summed(tensor) if words <= _SMALL else _Sampled(tensor)


def _words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor as int64, those that fill no word as a word each."""
    flat = _aligned(tensor.detach().contiguous().view(-1))
    if flat.numel() * flat.element_size() % 8 == 0:
        return flat.view(torch.int64)
    flat = flat.view(torch.uint8)
    whole = flat.numel() // 8 * 8
    return torch.cat([flat[:whole].view(torch.int64), flat[whole:].long()])


def _aligned(flat: Tensor) -> Tensor:
    """A tensor ``[n]``, or a copy where it begins within a word: a view of words must not."""
    return flat.clone() if flat.storage_offset() * flat.element_size() % 8 else flat


@cache
def _weights(device: torch.device) -> Tensor:
    # Drawn, not counted: the differences of counted ones have factors by which changes could cancel.
    rng = torch.Generator().manual_seed(0)
    # Odd, so that no bit of a word is lost that changes by itself, the sign of a float among them.
    return (torch.randint(-(2**63), 2**63 - 1, (2 * _SAMPLE,), generator=rng) | 1).to(device)
