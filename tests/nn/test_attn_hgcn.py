from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from pyg_kgrec import ops
from pyg_kgrec.nn import AttnHGCN, AttnHGCNConv
from pyg_kgrec.ops import BipartiteIndex, TripleIndex

USERS, ITEMS, NODES, RELATIONS, CHANNELS = 4, 5, 9, 3, 4


class Graph:
    """A random graph with every oddity: isolated entities, loops, duplicates, a relation without triples."""

    def __init__(self, seed: int = 0, triples: int = 15, dtype: torch.dtype = torch.float64) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.user = torch.randn(USERS, CHANNELS, generator=rng, dtype=dtype)
        self.entity = torch.randn(NODES, CHANNELS, generator=rng, dtype=dtype)
        self.edge_index = torch.randint(NODES - 2, (2, triples), generator=rng)
        self.edge_type = torch.randint(RELATIONS - 1, (triples,), generator=rng)
        if triples > 3:
            self.edge_index[:, 1], self.edge_type[1] = self.edge_index[:, 0], self.edge_type[0]
            self.edge_index[1, 2] = self.edge_index[0, 2]
        self.pairs = torch.stack(
            [
                torch.randint(USERS - 1, (7,), generator=rng),
                torch.randint(ITEMS, (7,), generator=rng),
            ]
        )
        self.weight = torch.rand(7, generator=rng, dtype=dtype)

    def encode(self, encoder: AttnHGCN) -> tuple[Tensor, Tensor]:
        return encoder(self.user, self.entity, self.edge_index, self.edge_type, self.pairs, self.weight)


@pytest.fixture
def encoder() -> AttnHGCN:
    torch.manual_seed(0)
    return AttnHGCN(CHANNELS, RELATIONS, num_layers=2, num_heads=2, dropout=0.3).double().eval()


@pytest.mark.parametrize("as_index", [False, True])
def test_gradients_of_a_hop(as_index: bool) -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS, num_heads=2).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS)

    def hop(x: Tensor, weight: Tensor, relation: Tensor) -> Tensor:
        where = (index,) if as_index else (graph.edge_index, graph.edge_type)
        parameters = {"weight": weight, "relation_embedding": relation}
        return torch.func.functional_call(conv, parameters, (x, *where))

    inputs = [t.detach().requires_grad_() for t in (graph.entity, conv.weight, conv.relation_embedding)]
    assert torch.autograd.gradcheck(hop, inputs)


def test_gradients_of_the_stack(encoder: AttnHGCN) -> None:
    graph = Graph()
    names = [name for name, _ in encoder.named_parameters()]

    def stack(user: Tensor, entity: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        rest = (graph.edge_index, graph.edge_type, graph.pairs, graph.weight)
        return torch.func.functional_call(encoder, dict(zip(names, parameters)), (user, entity, *rest))

    inputs = [t.detach().requires_grad_() for t in (graph.user, graph.entity, *encoder.parameters())]
    assert torch.autograd.gradcheck(stack, inputs)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_index_gives_what_the_triples_give(seed: int) -> None:
    graph, conv = Graph(seed), AttnHGCNConv(CHANNELS, RELATIONS, num_heads=2).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=True)
    expected = conv(graph.entity, graph.edge_index, graph.edge_type)
    torch.testing.assert_close(conv(graph.entity, index), expected)
    score = conv.rationale_score(graph.entity, graph.edge_index, graph.edge_type)
    torch.testing.assert_close(index.to_original(conv.rationale_score(graph.entity, index)), score)


@contextmanager
def watched(conv: AttnHGCNConv) -> Iterator[list[torch.Size]]:
    """Shapes of the messages that went through the layer."""
    seen: list[torch.Size] = []
    handle = conv.register_message_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("hop", ["dense", "compact", "inner"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_watched_hop_gives_the_same(hop: str, masked: bool) -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS, num_heads=2).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=hop != "dense")
    index = index.inner if hop == "inner" else index
    x = torch.randn(index.num_inputs, CHANNELS, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(index.num_edges, generator=torch.Generator().manual_seed(3)) < 0.6 if masked else None
    leaves = [x, conv.weight, conv.relation_embedding]
    plain = conv.hop(index, x, keep=keep)
    with watched(conv) as seen:
        by_messages = conv.hop(index, x, keep=keep)
    assert seen == [(15, CHANNELS)]
    torch.testing.assert_close(by_messages, plain)
    gradients = (torch.autograd.grad(out.sin().sum(), leaves) for out in (by_messages, plain))
    torch.testing.assert_close(*gradients)
    conv.hop(index, x, keep=keep)
    assert len(seen) == 1, "without its hook the layer takes the fused operation again"


def test_all_hooks_and_steps_of_message_passing_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS)
    fused: list[bool] = []
    operation = ops.relational_attention

    def spy(*arguments: object) -> Tensor:
        fused.append(True)
        return operation(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(ops, "relational_attention", spy)
    expected = conv(graph.entity, index)
    assert fused == [True]
    for step in ("propagate", "message", "aggregate"):
        for hook in ("forward_pre_hook", "forward_hook"):
            called: list[bool] = []
            handle = getattr(conv, f"register_{step}_{hook}")(lambda *_: called.append(True))  # noqa: B023
            torch.testing.assert_close(conv(graph.entity, index), expected)
            handle.remove()
            assert called == [True], (step, hook)

    class Doubled(AttnHGCNConv):
        def message(self, x_j: Tensor, edge_type: Tensor, alpha: Tensor) -> Tensor:
            return 2 * super().message(x_j, edge_type, alpha)

    double = Doubled(CHANNELS, RELATIONS).double()
    double.load_state_dict(conv.state_dict())
    torch.testing.assert_close(double(graph.entity, index), 2 * expected)
    assert fused == [True], "none of these may take the fused operation"


def test_a_compiled_hop_is_one_graph() -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: conv(x, index), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(graph.entity), conv(graph.entity, index))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_hop_computes_anew() -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS)

    class Hop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, index)

    traced, other = torch.jit.trace(Hop(), graph.entity), graph.entity + 1
    torch.testing.assert_close(traced(other), conv(other, index))


@pytest.mark.parametrize("compact", [False, True])
def test_an_explainers_mask_reaches_the_triples_of_an_index(compact: bool) -> None:
    """In the order of the ``edge_index`` that the index was built from."""
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS, num_heads=2).double()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=compact)
    plain = conv(graph.entity, index)
    mask = torch.rand(15, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    set_masks(conv, mask, graph.edge_index, apply_sigmoid=False)
    masked = conv(graph.entity, index)
    expected = conv(graph.entity, graph.edge_index, graph.edge_type)
    torch.testing.assert_close(masked, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out.sin().sum(), mask)[0] for out in (masked, expected)))
    assert not torch.allclose(masked, plain)
    set_masks(conv, torch.ones_like(mask), graph.edge_index, apply_sigmoid=False)
    torch.testing.assert_close(conv(graph.entity, index), plain)
    clear_masks(conv)
    assert torch.equal(conv(graph.entity, index), plain)


def test_an_explainers_mask_reaches_every_hop(encoder: AttnHGCN) -> None:
    graph = Graph()
    plain = graph.encode(encoder)[1]
    set_masks(encoder, torch.ones(15, dtype=torch.float64), graph.edge_index, apply_sigmoid=False)
    with watched(encoder.conv) as seen:
        torch.testing.assert_close(graph.encode(encoder)[1], plain)
    assert len(seen) == encoder.num_layers
    set_masks(encoder, torch.linspace(-3, 3, 15, dtype=torch.float64), graph.edge_index)
    assert not torch.allclose(graph.encode(encoder)[1], plain)


def test_a_hop_by_hand() -> None:
    conv = AttnHGCNConv(4, 2, num_heads=2).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    edge_index, edge_type = torch.tensor([[0, 0, 2], [1, 2, 0]]), torch.tensor([0, 1, 1])
    query, relation = x @ conv.weight, conv.relation_embedding
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for head in (slice(0, 2), slice(2, 4)):
        logits = torch.stack(
            [
                (query[0, head] * query[1, head] * relation[0, head]).sum() / 2**0.5,
                (query[0, head] * query[2, head] * relation[1, head]).sum() / 2**0.5,
            ]
        )
        one, two = logits.softmax(0)
        expected[0, head] = one * x[1, head] * relation[0, head] + two * x[2, head] * relation[1, head]
        expected[2, head] = x[0, head] * relation[1, head]
    torch.testing.assert_close(conv(x, edge_index, edge_type), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_permutation_goes_through(seed: int) -> None:
    graph, rng = Graph(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder = AttnHGCN(CHANNELS, RELATIONS, num_layers=2, num_heads=2).double().eval()
    user, entity = graph.encode(encoder)

    users, nodes = torch.randperm(USERS, generator=rng), torch.randperm(NODES, generator=rng)
    relations = torch.randperm(RELATIONS, generator=rng)
    triples = torch.randperm(graph.edge_index.size(1), generator=rng)
    pairs = torch.randperm(graph.pairs.size(1), generator=rng)
    other = Graph(seed)
    other.user[users], other.entity[nodes] = graph.user, graph.entity
    other.edge_index = nodes[graph.edge_index][:, triples]
    other.edge_type = relations[graph.edge_type][triples]
    other.pairs = torch.stack([users[graph.pairs[0]], nodes[graph.pairs[1]]])[:, pairs]
    other.weight = graph.weight[pairs]
    with torch.no_grad():
        embedding = encoder.conv.relation_embedding.clone()
        encoder.conv.relation_embedding[relations] = embedding
    new_user, new_entity = other.encode(encoder)
    torch.testing.assert_close(new_user[users], user)
    torch.testing.assert_close(new_entity[nodes], entity)


def test_rationale_scores_of_a_head_have_the_mean_one() -> None:
    graph, conv = Graph(), AttnHGCNConv(CHANNELS, RELATIONS).double()
    score = conv.rationale_score(graph.entity, graph.edge_index, graph.edge_type)
    head, count = graph.edge_index[0].unique(return_counts=True)
    total = torch.zeros(NODES, dtype=torch.float64).index_add(0, graph.edge_index[0], score)
    torch.testing.assert_close(total[head], count.double())
    assert bool((score > 0).all())


def test_a_head_with_one_triple_hears_all_of_it() -> None:
    conv = AttnHGCNConv(CHANNELS, RELATIONS)
    x = torch.randn(3, CHANNELS)
    edge_index, edge_type = torch.tensor([[2], [0]]), torch.tensor([1])
    out = conv(x, edge_index, edge_type)
    torch.testing.assert_close(out[2], x[0] * conv.relation_embedding[1])
    assert not out[:2].any()
    assert conv.rationale_score(x, edge_index, edge_type).item() == pytest.approx(1.0)


@pytest.mark.parametrize("triples", [0, 1, 15])
@pytest.mark.parametrize("training", [False, True])
def test_odd_graphs_give_finite_numbers_and_gradients(triples: int, training: bool) -> None:
    encoder = AttnHGCN(CHANNELS, RELATIONS, dropout=0.5).train(training)
    graph = Graph(triples=triples, dtype=torch.float32)
    for tensor in (graph.user, graph.entity):
        tensor.requires_grad_()
    user, entity = graph.encode(encoder)
    (user.sum() + entity.sum()).backward()
    gradients = [graph.user.grad, graph.entity.grad, *(p.grad for p in encoder.parameters())]
    for tensor in (user, entity, *(g for g in gradients if g is not None)):
        assert bool(torch.isfinite(tensor).all())
    # The last user has no item, the last entities have no triple: they stay what they were.
    torch.testing.assert_close(user[-1], graph.user[-1])
    torch.testing.assert_close(entity[-2:], graph.entity[-2:])


def test_large_logits_do_not_overflow() -> None:
    conv, graph = AttnHGCNConv(CHANNELS, RELATIONS), Graph(dtype=torch.float32)
    out = conv(graph.entity * 1e4, graph.edge_index, graph.edge_type)
    assert bool(torch.isfinite(out).all())
    score = conv.rationale_score(graph.entity * 1e4, graph.edge_index, graph.edge_type)
    assert bool(torch.isfinite(score).all())


def test_dropout_draws_from_the_generator_and_in_training_only(encoder: AttnHGCN) -> None:
    graph = Graph()
    rest = (graph.user, graph.entity, graph.edge_index, graph.edge_type, graph.pairs, graph.weight)
    torch.testing.assert_close(encoder(*rest)[1], encoder(*rest)[1])
    encoder.train()
    first, again, other = (
        encoder(*rest, generator=torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_triples_that_are_not_kept_do_not_count(encoder: AttnHGCN) -> None:
    graph = Graph()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=True)
    pairs = BipartiteIndex.build(graph.pairs, USERS, NODES)
    weight = graph.weight[pairs.perm]
    keep = torch.rand(index.num_edges, generator=torch.Generator().manual_seed(3)) < 0.6
    user, entity = encoder.hops(graph.user, graph.entity, index, pairs, weight, keep=keep)

    kept = index.perm[keep]
    small = graph.edge_index[:, kept], graph.edge_type[kept]
    expected = encoder(graph.user, graph.entity, *small, graph.pairs, graph.weight)
    torch.testing.assert_close(graph.user + user, expected[0])
    torch.testing.assert_close(graph.entity + index.dense(entity), expected[1])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rows_that_are_read_are_the_same_when_the_last_hop_leaves_out_the_others(layers: int) -> None:
    encoder = AttnHGCN(CHANNELS, RELATIONS, layers).double().eval()
    graph = Graph()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=True)
    pairs = BipartiteIndex.build(graph.pairs, USERS, NODES)
    draw = torch.Generator().manual_seed(3)
    keep = torch.rand(index.num_edges, generator=draw) < 0.8
    read = torch.rand(index.num_rows, generator=draw) < 0.5
    last = keep & read[index.row]
    assert 0 < int(last.sum()) < int(keep.sum())

    def rows(keep_last: torch.Tensor | None) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        entity = graph.entity.clone().requires_grad_()
        user, hops = encoder.hops(
            graph.user, entity, index, pairs, graph.weight[pairs.perm], keep=keep, keep_last=keep_last
        )
        view = encoder.knowledge_view(entity, index, keep, keep_last)
        total = user.pow(3).sum() + hops[read].pow(3).sum() + view[read].pow(3).sum()
        return [user, hops, view], torch.autograd.grad(total, [entity, *encoder.conv.parameters()])

    (user, *found), gradients = rows(last)
    (expected_user, *expected), expected_gradients = rows(None)
    assert torch.equal(user, expected_user)
    for a, b in zip(found, expected):
        assert torch.equal(a[read], b[read])
        assert not torch.equal(a[~read], b[~read])
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_knowledge_view_is_a_mean() -> None:
    encoder = AttnHGCN(CHANNELS, RELATIONS, num_layers=1).double().eval()
    graph = Graph()
    index = TripleIndex.build(graph.edge_index, graph.edge_type, NODES, RELATIONS, compact=True)
    head, tail = graph.edge_index
    message = graph.entity[tail] * encoder.conv.relation_embedding[graph.edge_type]
    total = torch.zeros(NODES, CHANNELS, dtype=torch.float64).index_add(0, head, message)
    mean = total / torch.bincount(head, minlength=NODES).clamp(min=1).unsqueeze(1)
    expected = torch.nn.functional.normalize(mean, dim=-1)
    torch.testing.assert_close(index.dense(encoder.knowledge_view(graph.entity, index)), expected)


def test_parameters_are_drawn_anew_and_finite(encoder: AttnHGCN) -> None:
    before = [p.clone() for p in encoder.parameters()]
    encoder.reset_parameters()
    for old, new in zip(before, encoder.parameters()):
        assert bool(torch.isfinite(new).all())
        assert not torch.equal(old, new)
        assert float(new.detach().std()) > 0


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads is 3, expected a divisor of hidden_channels=4"):
        AttnHGCNConv(4, 2, num_heads=3)
    with pytest.raises(ValueError, match="num_heads is 0"):
        AttnHGCNConv(4, 2, num_heads=0)
    with pytest.raises(ValueError, match="num_layers is 0"):
        AttnHGCN(4, 2, num_layers=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        AttnHGCN(4, 2, dropout=1.0)


def test_repr_shows_the_sizes(encoder: AttnHGCN) -> None:
    inner = "AttnHGCNConv(4, num_relations=3, num_heads=2)"
    assert repr(encoder.conv) == inner
    assert repr(encoder) == f"AttnHGCN({inner}, num_layers=2, dropout=0.3)"
