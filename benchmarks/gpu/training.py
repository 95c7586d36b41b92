"""KGRec's training step on a made store, and whether two runs of it, and of its attention, are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from attentions import HEADS, graph, leaves
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from gpu.journal import OK, Journal, Row
from gpu.plan import Plan, StoreSize
from gpu.timing import timed
from pyg_kgrec import KGRec, ops
from pyg_kgrec.data import validate


def made_store(size: StoreSize) -> HeteroData:
    """A store of exactly these numbers; both ends of its triples and its items follow a power law."""
    generator = torch.Generator().manual_seed(0)

    def drawn(most: int, count: int) -> Tensor:
        return (most * torch.rand(count, generator=generator, dtype=torch.float64) ** 2).long()

    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = size.users, size.items
    data["entity"].num_nodes = size.entities
    user = torch.arange(size.interactions) % size.users
    interactions = torch.stack([user, drawn(size.items, size.interactions)])
    data["user", "interacts", "item"].edge_index = interactions
    data["user", "interacts", "item"].edge_label_index = interactions
    data["item", "is", "entity"].edge_index = torch.arange(size.items).expand(2, -1).clone()
    relates = data["entity", "relates", "entity"]
    relates.edge_index = torch.stack([drawn(size.entities, size.triples) for _ in range(2)])
    relates.edge_type = torch.arange(size.triples) % size.relations
    data.relation_name = [f"relation {i}" for i in range(size.relations)]
    validate(data)
    return data


class Training:
    """Training steps of KGRec, seeded anew when it is made.

    Args:
        plan: Sizes.
        backend: Of the operations.
        loss: The model's.
    """

    def __init__(self, plan: Plan, backend: str, loss: Any = "bpr") -> None:
        self.plan, self.backend = plan, backend
        store = made_store(plan.store)
        seed_everything(0)
        negatives = 1 if loss == "bpr" else 64
        sizes = plan.hidden_channels, plan.num_layers
        model = KGRec(store, *sizes, loss=loss, num_negatives=negatives).to(plan.device)
        self.model, self.inputs = model, model.prepare(store)
        self.pairs = self.inputs.edge_index
        self.generator = torch.Generator(plan.device).manual_seed(0)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def forward(self) -> Tensor:
        """The loss of a batch."""
        with ops.backend(self.backend):
            chosen = torch.randint(
                self.pairs.size(1), (self.plan.batch,), device=self.plan.device, generator=self.generator
            )
            user, item = self.pairs[:, chosen]
            losses = self.model.training_losses(self.inputs, (user, item), self.generator)
            return torch.stack(list(losses.values())).sum()

    def backward(self) -> None:
        """The loss of a batch and its gradients."""
        loss = self.forward()
        self.optimizer.zero_grad()
        with ops.backend(self.backend):
            loss.backward()

    def step(self) -> None:
        """A whole step."""
        self.backward()
        self.optimizer.step()


def time_step(plan: Plan, journal: Journal) -> None:
    """A row per loss and backend, whole and in parts; each part holds the one before."""
    for loss in ("bpr",) if plan.rehearsal else ("bpr", "softmax"):
        for backend in ("triton", "torch"):
            built = cache(partial(Training, plan, backend, loss))
            for name in ("forward", "backward", "step"):
                key = {"loss": loss, "backend": backend, "up to": name}
                journal.attempt("step", key, partial(_measure_part, built, name, plan), needs=8)


def _measure_part(built: Callable[[], Training], name: str, plan: Plan) -> Row:
    return timed(getattr(built(), name), plan)


def _same(run: Callable[[], list[Tensor]]) -> Row:
    one, two = run(), run()
    different = sum(not torch.equal(a, b) for a, b in zip(one, two, strict=True))
    if not all(bool(t.isfinite().all()) for t in one):
        return {"status": "failed: something is not finite"}
    status = OK if different == 0 else f"failed: {different} of {len(one)} tensors differ"
    return {"tensors": len(one), "status": status}


@contextmanager
def _deterministic(asked: bool) -> Iterator[None]:
    """PyTorch's own operations by their deterministic algorithms, where it is asked for."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(asked, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def compare_runs(plan: Plan, journal: Journal) -> None:
    """Attention twice, two training steps twice from the same seed, plainly and by deterministic algorithms."""

    def attention() -> list[Tensor]:
        size = plan.sizes[-1] if plan.rehearsal else plan.sizes[1]  # hubs: pieces are merged
        rows = (size.nodes, size.channels)
        query, value, relation = leaves(rows, rows, (size.relations, size.channels))
        with ops.backend("triton"):
            out = ops.relational_attention(query, value, relation, graph(size).triples, HEADS)
            grads = torch.autograd.grad(out, [query, value, relation], torch.ones_like(out))
        return [out.detach(), *grads]

    def training() -> list[Tensor]:
        run = Training(plan, "triton")
        for _ in range(2):
            run.step()
        return [p.detach().clone() for p in run.model.parameters()]

    journal.attempt("bits", {"what": "attention, forward and backward"}, lambda: _same(attention), needs=10)
    for asked in (False, True):
        what = "two training steps of KGRec" + (", deterministic algorithms of PyTorch" if asked else "")

        def compared(asked: bool = asked) -> Row:
            with _deterministic(asked):
                return _same(training)

        journal.attempt("bits", {"what": what}, compared, needs=10)
