"""Writes wild numbers into every tensor of every index, behind PyTorch's back, and calls every operation.

Run as a process of its own by ``test_index.py``: what follows a wild index crashes, and a crash is a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from ops_graphs import tables, triples
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import index as indexes
from pyg_kgrec.ops.index import BipartiteIndex, Segments, TripleIndex

WRONG = (10**9, -(10**9), 2**31 - 1, 2**62, -1, -2, 1000)
ZERO = ("tail", "item", "user", "input_row")
"""Fields that negative numbers are right in: they stand for the zero vector, or for no row."""

NODES, EDGES, KINDS, ITEMS = 40, 500, 3, 30
Run = Callable[[], list[Tensor]]


def gradients(call: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = call(*leaves)
    out.square().sum().backward()
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def of_triples(index: TripleIndex) -> dict[str, Run]:
    x, relation = tables(index.num_inputs, KINDS, channels=4)
    score = tables(index.num_edges, channels=2)[0]
    keep = torch.rand(index.num_edges, generator=torch.Generator().manual_seed(3)) < 0.7
    calls: dict[str, Run] = {}
    for name, mask in (("all", None), ("kept", keep)):
        calls |= {
            f"attention of {name}": lambda m=mask: gradients(
                lambda q, r: ops.relational_attention(q, q, r, index, 2, m), x, relation
            ),
            f"mean of {name}": lambda m=mask: gradients(
                lambda v, r: ops.relational_mean(v, r, index, m), x, relation
            ),
            f"scores of {name}": lambda m=mask: [
                ops.rationale_scores(x.detach(), relation.detach(), index, 2, m)
            ],
        }
    for part in ("rows", "cols", "rels"):
        segments: Segments = getattr(index, part)
        some = score.detach()[: segments.edge.numel()]
        calls[f"softmax by {part}"] = lambda s=segments, y=some: gradients(
            lambda z: ops.segment_softmax(z, s), y
        )
    calls["stratified"] = lambda: [ops.stratified_keep(index, 0.5, 3).double()]
    return calls


def of_pairs(index: BipartiteIndex) -> dict[str, Run]:
    user, item = tables(index.num_users, index.num_items, channels=4)
    weight = torch.rand(index.num_edges, generator=torch.Generator().manual_seed(4))
    calls: dict[str, Run] = {}
    for name, given in (("plain", None), ("weighted", weight)):
        calls |= {
            f"{name} to users": lambda w=given: gradients(
                lambda x: ops.weighted_aggregate(x, index, w), item
            ),
            f"{name} to items": lambda w=given: gradients(
                lambda x: ops.weighted_aggregate(x, index, w, True), user
            ),
        }
    return calls


def parts(index: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    for field, value in vars(index).items():
        if isinstance(value, Tensor):
            yield f"{name}{field}", value
        elif isinstance(value, Segments):
            yield from parts(value, f"{name}{field}.")


def built(kind: str, dtype: torch.dtype) -> tuple[TripleIndex | BipartiteIndex, dict[str, Run]]:
    if kind == "pairs":
        generator = torch.Generator().manual_seed(2)
        pairs = torch.stack([torch.randint(n, (EDGES,), generator=generator) for n in (NODES, ITEMS)]).to(
            dtype
        )
        index = BipartiteIndex.build(pairs, NODES, ITEMS)
        return index, of_pairs(index)
    triple = TripleIndex.build(*triples(NODES, EDGES, KINDS, dtype), NODES, KINDS, compact=kind == "compact")
    triple = triple.inner if kind == "compact" else triple
    return triple, of_triples(triple)


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True))


def main(backend: str, seed: int, numbers: int = len(WRONG)) -> int:
    """Prints what neither gave the right numbers nor was refused; returns how many calls were made.

    Args:
        backend: ``'numba'`` or ``'torch'``.
        seed: Of the places that are written to, and of the numbers.
        numbers: How many wrong numbers are tried per tensor; with 1, every other tensor is one that was met before.
    """
    indexes.PIECE = 4  # long segments, of several pieces, without a large graph
    generator, count, refused = torch.Generator().manual_seed(seed), 0, 0
    with ops.backend(backend):
        # Loops over int32 are compiled anew: they are left to the long run.
        short = torch.int64 if numbers == 1 else torch.int32
        for kind, dtype in (("dense", torch.int64), ("compact", short), ("pairs", torch.int64)):
            for seen in (False, True):  # the kernels have met the index before, or not
                index, calls = built(kind, dtype)
                expected = {name: run() for name, run in built(kind, dtype)[1].items()}
                names = [name for name, tensor in parts(index) if tensor.numel()]
                for number, field in enumerate(names):
                    if numbers == 1 and number % 2 == seen:
                        continue
                    index, calls = built(kind, dtype)
                    array = dict(parts(index))[field].numpy()
                    if seen:
                        for run in calls.values():
                            run()
                    place = int(torch.randint(array.size, (1,), generator=generator))
                    right = array[place]
                    fitting = [w for w in WRONG if w != right and abs(w) <= torch.iinfo(dtype).max]
                    order = torch.randperm(len(fitting), generator=generator).tolist()[:numbers]
                    for wrong in (fitting[i] for i in order):
                        array[place] = wrong
                        for name, run in calls.items():
                            count += 1
                            try:
                                found = run()
                            except ValueError as error:
                                refused += 1
                                if len(str(error)) > 400:
                                    print("long:", kind, field, wrong, name, error)
                            except Exception as error:
                                print("other:", kind, field, wrong, name, type(error), error)
                            else:
                                zero = field in ZERO and wrong < 0
                                if not zero and not close(found, expected[name]):
                                    print("wrong:", kind, field, wrong, name, "seen" if seen else "new")
                        array[place] = right
    print(f"{count} calls, {refused} refused")
    return count


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
