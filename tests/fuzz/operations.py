"""Operations with wrong arguments, and with indexes that somebody wrote into through NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final

import torch
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch
from pyg_kgrec.ops.index import Segments
from tests.fuzz import damage

_NODES, _EDGES, _KINDS, _ITEMS = 12, 60, 3, 9
_WRONG: Final = (10**9, -(10**9), 2**62, -1, -2, 13, 100)
_BACKENDS: Final = tuple(name for name in ("torch", "numba", "scan") if dispatch.installed(name))


def cases(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """``count`` calls of operations, one wrong thing in each."""
    for number in range(count):
        yield partial(_run, f"operations/{seed}/{number}")


def _run(seed: str) -> object:
    random = Random(seed)
    generator = torch.Generator().manual_seed(random.randrange(2**40))
    with ops.backend(random.choice(_BACKENDS)):
        name, arguments = _call(random, generator)
        if random.random() < 0.5:
            key = random.choice(list(arguments))
            found = arguments[key]
            plain = isinstance(found, Tensor) and random.random() < 0.7
            arguments[key] = damage.element(found, random) if plain else damage.value(random)
        else:
            for index in arguments.values():
                _write_into(index, random)
        out = getattr(ops, name)(**arguments)
        if isinstance(out, Tensor) and out.requires_grad:
            out.sum().backward()
        return out


def _write_into(index: Any, random: Random) -> None:
    """A wrong number in one tensor of an index; no version number tells."""
    tensors = [x for x in _tensors(index) if x.numel()]
    if tensors:
        array = random.choice(tensors).numpy()
        array[random.randrange(array.size)] = random.choice(_WRONG)


def _tensors(index: Any) -> list[Tensor]:
    return index.tensors() if isinstance(index, ops.TripleIndex | ops.BipartiteIndex | Segments) else []


def _call(random: Random, generator: torch.Generator) -> tuple[str, dict[str, Any]]:
    def table(rows: int, channels: int = 4) -> Tensor:
        return torch.randn(rows, channels, generator=generator).requires_grad_()

    def some(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    edges, kinds = some(_NODES, 2, _EDGES), some(_KINDS, _EDGES)
    triples = ops.TripleIndex.build(edges, kinds, _NODES, _KINDS)
    pairs = ops.BipartiteIndex.build(
        torch.stack([some(_NODES, _EDGES), some(_ITEMS, _EDGES)]), _NODES, _ITEMS
    )
    keep = torch.rand(_EDGES, generator=generator) < 0.7
    calls: dict[str, dict[str, Any]] = {
        "relational_attention": {
            "query": table(_NODES), "value": table(_NODES), "relation": table(_KINDS), "index": triples,
            "num_heads": 2, "keep": keep,
        },
        "rationale_scores": {"query": table(_NODES), "relation": table(_KINDS), "index": triples, "keep": keep},
        "relational_mean": {"value": table(_NODES), "relation": table(_KINDS), "index": triples, "keep": keep},
        "segment_softmax": {"src": table(_EDGES, 2), "segments": triples.rows},
        "weighted_aggregate": {"x": table(_ITEMS), "index": pairs, "weight": torch.rand(_EDGES)},
        "sampled_scores": {"user": table(5), "item": table(_ITEMS), "sample": some(_ITEMS, 5, 3)},
        "rank_topk": {"user": table(5), "item": table(_ITEMS), "k": 3},
        "stratified_keep": {"index": triples, "share": 0.5, "seed": 3},
        "topk_mask": {"score": table(7, 1).detach().view(-1), "k": 3},
        "search_rows": {
            "key": torch.arange(10), "ptr": torch.tensor([0, 4, 10]), "row": torch.tensor([0, 1]),
            "query": some(9, 2, 3),
        },
        "dropout_normalize": {"x": table(5), "p": 0.3, "seed": 2},
        "relational_memory": {
            "entity": torch.randn(2, 3, 4, generator=generator), "relation": table(_KINDS),
            "attention": torch.rand(2, 3, _KINDS, generator=generator), "mask": torch.ones(2, 3, dtype=torch.bool),
        },
    }  # fmt: skip
    name = random.choice(list(calls))
    return name, calls[name]
