from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import ComplEx, DistMult, KGEModel, RotatE, TransE

from pyg_kgrec import BPRMF, evaluate_completion, ops
from pyg_kgrec.data import ENTITY, IS, RELATES
from pyg_kgrec.kge import TransH, TripleScorer, scorers
from pyg_kgrec.transforms import TripleSplit

pytestmark = pytest.mark.usefixtures("one_thread")

N, R = 11, 2
Row = tuple[int, int, int]
ROW = st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1))


class Table(KGEModel):
    """A model whose scores are looked up: ``score[h, r, t]``."""

    def __init__(self, score: Tensor) -> None:
        super().__init__(score.size(0), score.size(1), 4)
        self.score = score

    def forward(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
        return self.score[head_index, rel_type, tail_index]


def as_tensor(rows: list[Row]) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).view(-1, 3).t().contiguous()


def by_hand(
    score: list[list[list[float]]], find: list[Row], true: set[Row], sides: list[str], ks: list[int]
) -> dict[str, float]:
    """The same figures, triple by triple and entity by entity."""
    ranks: dict[str, list[float]] = {side: [] for side in sides}
    for h, r, t in find:
        for side in sides:
            better = level = 0
            for entity in range(len(score)):
                row = (h, r, entity) if side == "tail" else (entity, r, t)
                if row == (h, r, t) or row in true:
                    continue
                mine, other = score[h][r][t], score[row[0]][r][row[2]]
                better += other > mine
                level += other == mine
            best, worst = 1 + better, 1 + better + level
            ranks[side].append((best + worst) / 2)
    out = {}
    groups = {"": [rank for of_side in ranks.values() for rank in of_side]} | {
        f"{side}_": rank for side, rank in ranks.items()
    }
    for prefix, rank in groups.items():
        out[f"{prefix}mrr"] = sum(1 / x for x in rank) / len(rank)
        out[f"{prefix}mean_rank"] = sum(rank) / len(rank)
        for k in ks:
            out[f"{prefix}hits@{k}"] = sum(x <= k for x in rank) / len(rank)
    return out


# ---------------------------------------------------------------------- figures


@settings(max_examples=150, deadline=None)
@given(
    find=st.lists(ROW, min_size=1, max_size=12),
    known=st.lists(ROW, max_size=20),
    levels=st.integers(1, 6),
    seed=st.integers(0, 99),
    filtered=st.booleans(),
    sides=st.sampled_from([["head"], ["tail"], ["head", "tail"]]),
    batch_size=st.sampled_from([None, 1, 3]),
)
def test_figures_are_those_by_hand(
    find: list[Row],
    known: list[Row],
    levels: int,
    seed: int,
    filtered: bool,
    sides: list[Any],
    batch_size: int | None,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(levels, (N, R, N), generator=generator).float()
    result = evaluate_completion(
        Table(score),
        as_tensor(find),
        (1, 2, N),
        filtered,
        known=as_tensor(known) if filtered else None,
        sides=sides,
        batch_size=batch_size,
    )
    expected = by_hand(score.tolist(), find, {*find, *known} if filtered else set(), sides, [1, 2, N])
    assert result == pytest.approx(expected)
    assert list(result) == list(expected)
    assert result[f"hits@{N}"] == 1


def small_store(known: list[Row], seen: list[Row], find: list[Row], num_entities: int = N) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 1
    data[ENTITY].num_nodes = num_entities
    data["user", "interacts", "item"].edge_index = torch.zeros(2, 1).long()
    data[IS].edge_index = torch.empty(2, 0).long()
    parts = (
        ("edge_index", "edge_type"),
        ("seen_edge_index", "seen_edge_type"),
        ("edge_label_index", "edge_label_type"),
    )
    for (index, relation), rows in zip(parts, (known, seen, find)):
        triple = as_tensor(rows)
        data[RELATES][index], data[RELATES][relation] = triple[[0, 2]], triple[1]
    data.relation_name = ["likes", "knows"]
    return data


LINE = [(e, r, (e + 1) % N) for e in range(N) for r in range(R)]


@settings(max_examples=60, deadline=None)
@given(seen=st.lists(ROW, max_size=9), find=st.lists(ROW, min_size=1, max_size=9), seed=st.integers(0, 99))
def test_of_a_store_training_and_seen_triples_are_left_out(
    seen: list[Row], find: list[Row], seed: int
) -> None:
    find = [row for row in find if row not in {*seen, *LINE}]
    if not find:
        return
    score = torch.randint(5, (N, R, N), generator=torch.Generator().manual_seed(seed)).float()
    model, store = Table(score), small_store(LINE, seen, find)
    for filtered, true in ((True, {*LINE, *seen, *find}), (False, set())):
        result = evaluate_completion(model, store, 2, filtered)
        assert result == pytest.approx(by_hand(score.tolist(), find, true, ["head", "tail"], [2]))


def test_further_known_triples_of_every_form_are_left_out() -> None:
    score = torch.zeros(N, R, N)
    score[0, 0, 2:] = 1.0  # all but entity 0 stand above the tail of (0, 0, 1)
    model, find, more = Table(score), as_tensor([(0, 0, 1)]), as_tensor([(0, 0, 3), (0, 0, 4)])
    of_store = small_store([(0, 0, 3)], [], [(0, 0, 4)])
    for known, rank in ((None, 10.5), (more, 8.5), (tuple(more), 8.5), (of_store, 8.5)):
        result = evaluate_completion(model, find, 1, known=known, sides="tail")  # type: ignore[arg-type]
        assert result == {
            **{"mrr": 1 / rank, "mean_rank": rank, "hits@1": 0.0},
            **{"tail_mrr": 1 / rank, "tail_mean_rank": rank, "tail_hits@1": 0.0},
        }


def test_what_is_known_of_a_store_is_followed() -> None:
    score = torch.zeros(N, R, N)
    score[0, 0, 2:] = 1.0
    store = small_store(LINE, [], [(0, 0, 0)])
    model = Table(score)

    def rank(**arguments: Any) -> float:
        return evaluate_completion(model, store, 1, sides="tail", **arguments)["mean_rank"]

    assert rank() == 10  # nine above; of the others one is known
    assert rank(known=as_tensor([(0, 0, 5)])) == 9
    assert rank() == 10
    triple = as_tensor([(0, 0, 2), (0, 0, 3)])
    store[RELATES].seen_edge_index, store[RELATES].seen_edge_type = triple[[0, 2]], triple[1]
    assert rank() == 8
    store[RELATES].seen_edge_index[1, 0] = 6  # in place
    assert rank() == 8
    store[RELATES].seen_edge_index[1, 0] = 3
    assert rank() == 9


def test_both_sides_weigh_the_same(make_store: Callable[..., HeteroData]) -> None:
    test = TripleSplit()(make_store(20, 40))[2]
    seed_everything(0)
    result = evaluate_completion(DistMult(test[ENTITY].num_nodes, 3, 8), test)
    for name in ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10"):
        assert result[name] == pytest.approx((result[f"head_{name}"] + result[f"tail_{name}"]) / 2)


# ---------------------------------------------------------------------- closed forms


class Half(DistMult):
    """A model with a score of its own that inherits one in closed form."""

    def forward(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
        return super().forward(head_index, rel_type, tail_index) * (head_index % 2 - tail_index % 3)


MODELS: list[Callable[[int, int], KGEModel]] = [
    lambda n, r: DistMult(n, r, 6),
    lambda n, r: ComplEx(n, r, 6),
    lambda n, r: RotatE(n, r, 6, margin=2.0),
    lambda n, r: TransE(n, r, 6),
    lambda n, r: TransE(n, r, 6, p_norm=2.0),
    lambda n, r: TransE(n, r, 6, p_norm=3.0),
    lambda n, r: TransH(n, r, 6),
    lambda n, r: TransH(n, r, 6, p_norm=1),
    lambda n, r: Half(n, r, 6),
]
NAMES = ["DistMult", "ComplEx", "RotatE", "TransE1", "TransE2", "TransE3", "TransH2", "TransH1", "own"]


def scorer_of(model: KGEModel) -> TripleScorer:
    return scorers.scorer_of(model, None)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("size", [20, 700])
@pytest.mark.parametrize("build", MODELS, ids=NAMES)
def test_scores_of_all_entities_are_those_of_forward(
    build: Callable[[int, int], KGEModel], size: int, backend: str
) -> None:
    seed_everything(1)
    model = build(size, 4)
    if not isinstance(model, TransH):
        model.node_emb.weight.data.mul_(3.0)  # TransE's entities count by their direction only
    head, relation, tail = torch.randint(size, (30,)), torch.randint(4, (30,)), torch.randint(size, (30,))
    entity = torch.arange(size).repeat(30)
    with torch.no_grad(), ops.backend(backend):
        scorer = scorer_of(model)
        assert scorer.num_entities == size
        tails, heads = scorer.tails(head, relation), scorer.heads(relation, tail)
        each = [column.repeat_interleave(size) for column in (head, relation, tail)]
        torch.testing.assert_close(tails.flatten(), model(each[0], each[1], entity), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(heads.flatten(), model(entity, each[1], each[2]), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("build", MODELS, ids=NAMES)
def test_figures_are_the_same_by_the_model_s_own_forward(
    build: Callable[[int, int], KGEModel], make_store: Callable[..., HeteroData]
) -> None:
    test = TripleSplit(0.1, 0.2)(make_store(20, 40))[2]
    seed_everything(1)
    model = build(test[ENTITY].num_nodes, 3).double()
    entity = torch.arange(model.num_nodes)
    triple = torch.cartesian_prod(entity, torch.arange(3), entity).t()
    with torch.no_grad():
        table = model(*triple).view(model.num_nodes, 3, model.num_nodes)
    expected = evaluate_completion(Table(table), test)
    assert evaluate_completion(model, test) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("build", [MODELS[0], MODELS[6]], ids=["DistMult", "TransH"])
def test_the_tail_side_unfiltered_is_what_pyg_finds(build: Callable[[int, int], KGEModel]) -> None:
    seed_everything(2)
    model = build(400, 5).double()
    find = torch.stack([torch.randint(400, (80,)), torch.randint(5, (80,)), torch.randint(400, (80,))])
    mean_rank, mrr, hits = model.test(*find, batch_size=150, k=10, log=False)
    for triples in (find, tuple(find)):
        result = evaluate_completion(model, triples, 10, filtered=False, sides=["tail"])  # type: ignore[arg-type]
        assert result["mean_rank"] - 1 == pytest.approx(mean_rank, rel=1e-6)  # theirs counts from 0
        assert result["mrr"] == pytest.approx(mrr, rel=1e-6)
        assert result["hits@10"] == hits > 0


def test_the_batch_changes_nothing_but_memory(make_store: Callable[..., HeteroData]) -> None:
    test = TripleSplit()(make_store(20, 40))[2]
    seed_everything(0)
    model = TransE(test[ENTITY].num_nodes, 3, 8)
    expected = evaluate_completion(model, test)
    for batch_size in (1, 2, 7, 10_000):
        assert evaluate_completion(model, test, batch_size=batch_size) == pytest.approx(expected)


@pytest.mark.parametrize("build", MODELS[:-1], ids=NAMES[:-1])
def test_equal_entities_are_level_in_every_batch(build: Callable[[int, int], KGEModel]) -> None:
    seed_everything(0)
    index = torch.randint(75, (3, 20)) % torch.tensor([[75], [3], [75]])
    for size in (75, 201):
        model, half = build(2 * size, 3), size
        with torch.no_grad():
            for name in ("node_emb", "node_emb_im"):
                if hasattr(model, name):
                    table = getattr(model, name).weight
                    table[half:] = table[:half]
            scorer = scorer_of(model)
            for head, relation, tail in index.t().unsqueeze(-1):
                for scores in (scorer.tails(head, relation), scorer.heads(relation, tail)):
                    assert scores.shape == (1, 2 * size)
                    assert torch.equal(scores[:, :half], scores[:, half:])


def test_a_model_s_own_forward_is_called_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(Table):
        def forward(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
            sizes.append(head_index.numel())
            return super().forward(head_index, rel_type, tail_index)

    monkeypatch.setattr(scorers, "_GATHERED", 40)  # four channels: ten triples at a time
    seed_everything(0)
    score, find = torch.rand(N, R, N), [(0, 0, 1), (3, 1, 3), (6, 1, 0)]
    result = evaluate_completion(Watched(score), as_tensor(find), 1)
    assert result == pytest.approx(by_hand(score.tolist(), find, set(find), ["head", "tail"], [1]))
    assert max(sizes) == 10
    assert sum(sizes) == 2 * 3 * N


# ---------------------------------------------------------------------- models


class Knowing(torch.nn.Module):
    """As a recommender does: relations are matched by name."""

    names = ("knows", "likes")

    def __init__(self, score: Tensor) -> None:
        super().__init__()
        self.score, self.modes = score, list[tuple[bool, bool]]()

    def triple_scorer(self, data: HeteroData) -> TripleScorer:
        self.modes.append((self.training, torch.is_grad_enabled()))
        number = torch.tensor([self.names.index(name) for name in data.relation_name])
        return scorer_of(Table(self.score[:, number]))


def test_a_recommender_that_knows_triples_is_given_the_store() -> None:
    seed_everything(0)
    score = torch.rand(N, R, N)
    find = [(0, 0, 3), (2, 1, 6), (5, 1, 1)]
    store, model = small_store(LINE, [], find), Knowing(score)
    result = evaluate_completion(model, store, 3)
    turned = score.flip(1).tolist()
    assert result == pytest.approx(by_hand(turned, find, {*LINE, *find}, ["head", "tail"], [3]))
    assert model.modes == [(False, False)]
    assert model.training


def test_the_model_is_left_as_it_was(make_store: Callable[..., HeteroData]) -> None:
    test = TripleSplit()(make_store(20, 40))[2]
    state = torch.get_rng_state()
    for mode in (True, False):
        model = ComplEx(test[ENTITY].num_nodes, 3, 4).train(mode)
        state, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
        evaluate_completion(model, test)
        assert model.training is mode
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)


def test_scores_of_low_precision_are_ranked() -> None:
    seed_everything(0)
    score = torch.randint(3, (N, R, N)).float()
    find = as_tensor([(0, 0, 1), (3, 1, 3)])
    result = evaluate_completion(Table(score.bfloat16()), find)
    assert result == evaluate_completion(Table(score), find)


# ---------------------------------------------------------------------- errors


def distmult(num_entities: int = N, num_relations: int = R) -> DistMult:
    return DistMult(num_entities, num_relations, 4)


FIND = as_tensor([(0, 0, 3), (2, 1, 6)])


@pytest.mark.parametrize(
    ("test", "error", "match"),
    [
        ([[0], [0], [1]], TypeError, "test is a list, expected a store, an int64 tensor"),
        ((FIND[0], FIND[1]), TypeError, "test is a tuple, expected a store"),
        ((FIND[0], FIND[1], [3, 6]), TypeError, "test is a tuple, expected a store"),
        (FIND.int(), TypeError, "test has the dtype int32, expected a store, an int64 tensor"),
        ((FIND[0], FIND[1].float(), FIND[2]), TypeError, "test has the dtype float32"),
        (FIND[:2], ValueError, r"test has the shape \[2, 2\], expected \[3, n\]: heads, relations and tails"),
        (FIND.flatten(), ValueError, r"test has the shape \[6\], expected \[3, n\]"),
        (
            (FIND[0], FIND[1, :1], FIND[2]),
            ValueError,
            r"shapes \[\[2\], \[1\], \[2\]\], expected three of one",
        ),
        ((FIND, FIND, FIND), ValueError, "expected three of one length"),
        (FIND[:, :0], ValueError, "test holds no triple to be found"),
        (FIND + 4, ValueError, r"test holds the relation 5, expected 0\.\.1 as the model has"),
        (FIND * torch.tensor([[9], [1], [1]]), ValueError, r"test holds the head 18, expected 0\.\.10"),
        (FIND - torch.tensor([[0], [0], [4]]), ValueError, "test holds the tail -1"),
    ],
)
def test_bad_triples_are_named(test: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        evaluate_completion(distmult(), test)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"k": 0}, ValueError, "k is 0, expected a whole number from 1 to the 11 entities"),
        ({"k": (1, 12)}, ValueError, "k is 12, expected a whole number"),
        ({"k": 2.0}, ValueError, r"k is 2\.0, expected a whole number"),
        ({"k": True}, ValueError, "k is True"),
        ({"k": "10"}, ValueError, "k is '10'"),
        ({"k": ()}, ValueError, "k is empty"),
        ({"sides": ()}, ValueError, r"sides is \(\), expected 'head', 'tail' or both"),
        ({"sides": "both"}, ValueError, "sides is 'both'"),
        ({"sides": ("tail", "tail")}, ValueError, "sides is"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
        ({"known": FIND, "filtered": False}, ValueError, "known is given with filtered=False"),
        ({"known": FIND.float()}, TypeError, "known has the dtype float32"),
        ({"known": FIND + 1}, ValueError, "known holds the relation 2"),
        (
            {"known": small_store(LINE[:6], [], [], 9)},
            ValueError,
            "known has 9 entities, expected 11 as the model has",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        evaluate_completion(distmult(), FIND, **arguments)


@pytest.mark.parametrize(
    ("store", "match"),
    [
        (small_store(LINE, [], []), "edge_label_index of test holds no triple to be found"),
        (
            small_store(LINE, [], [(0, 0, 3), (3, 1, 4)]),
            r"triple \(3, 'knows', 4\) stands in edge_index and in",
        ),
        (
            small_store(LINE, [(0, 0, 3)], [(0, 0, 3)]),
            r"triple \(0, 'likes', 3\) stands in seen_edge_index and",
        ),
        (
            small_store(LINE[:6], [], [(0, 0, 6)]),
            "entity 6 stands in edge_label_index of test and in no training",
        ),
        (small_store(LINE[:6], [(6, 0, 6)], [(6, 1, 0)]), "entity 6 stands in edge_label_index"),
        (
            small_store(LINE[::2], [], [(0, 1, 2)]),
            "relation 'knows' stands in edge_label_index of test and in no",
        ),
        (small_store(LINE, [], [(0, 0, 2)], 12), "test has 12 entities, expected 11 as the model has"),
    ],
)
def test_stores_that_do_not_test_are_named(store: HeteroData, match: str) -> None:
    for _ in range(2):  # an error is no answer to be kept
        with pytest.raises(ValueError, match=match):
            evaluate_completion(distmult(), store)


def test_raw_ids_are_named(make_store: Callable[..., HeteroData]) -> None:
    train, _, test = TripleSplit()(make_store(20, 40))
    model = distmult(test[ENTITY].num_nodes, 3)
    with pytest.raises(
        ValueError, match=r"triple \('e\d+', '(has genre|made by)', 'e\d+'\) stands in edge_index"
    ):
        evaluate_completion(model, train)
    alone = int(test[RELATES].edge_label_index[0, 0])
    keep = (test[RELATES].edge_index != alone).all(0)
    test[RELATES].edge_index, test[RELATES].edge_type = (
        test[RELATES].edge_index[:, keep],
        test[RELATES].edge_type[keep],
    )
    with pytest.raises(ValueError, match=f"entity 'e{alone}' stands in edge_label_index"):
        evaluate_completion(model, test)


def test_stores_without_triples_to_find_are_refused(make_store: Callable[..., HeteroData]) -> None:
    with pytest.raises(ValueError, match="test has no knowledge graph"):
        evaluate_completion(distmult(), make_store(knowledge=False))
    with pytest.raises(
        ValueError, match="test has no edge_label_index of triples, expected a store of TripleSplit"
    ):
        evaluate_completion(distmult(), make_store())
    store = small_store(LINE, [], [(0, 0, 3)])
    store[RELATES].edge_type[0] = 7
    with pytest.raises(ValueError, match="edge_type holds 7"):
        evaluate_completion(distmult(), store)


def test_relations_must_be_the_model_s() -> None:
    store = small_store(LINE, [], [(0, 0, 3)])
    with pytest.raises(ValueError, match="test has 2 relations, expected at most 1 as the model has"):
        evaluate_completion(distmult(num_relations=1), store)
    assert (
        evaluate_completion(distmult(num_relations=4), store)["mean_rank"] >= 1
    )  # with inverse relations, say
    other = small_store(LINE, [], [])
    other.relation_name = ["knows", "likes"]
    with pytest.raises(ValueError, match="relation_name of known differs from that of test"):
        evaluate_completion(distmult(), store, known=other)


def test_entities_of_known_must_be_numbered_as_those_of_test() -> None:
    test, known = small_store(LINE, [], [(0, 0, 3)]), small_store(LINE, [], [])
    test[ENTITY].id, known[ENTITY].id = list("abcdefghijk"), list("abcdefghikj")
    model = distmult()
    with pytest.raises(
        ValueError, match="entity 9 is 'k' in known and 'j' in test, expected two stores that number"
    ):
        evaluate_completion(model, test, known=known)
    known[ENTITY].id = list(test[ENTITY].id)
    assert evaluate_completion(model, test, known=known) == evaluate_completion(model, test)
    del known[ENTITY].id  # numbers are all that can be compared
    assert evaluate_completion(model, test, known=known) == evaluate_completion(model, test)


def test_models_that_know_no_triples_are_refused(make_store: Callable[..., HeteroData]) -> None:
    train, _, test = TripleSplit()(make_store(20, 40))
    for model in (BPRMF(train, hidden_channels=4), torch.nn.Linear(2, 2)):
        with pytest.raises(
            TypeError, match=f"model is a {type(model).__name__}, which knows no triples, expected a KGE"
        ):
            evaluate_completion(model, test)
    with pytest.raises(
        TypeError, match="test is a Tensor, expected a store of TripleSplit for a Knowing, which"
    ):
        evaluate_completion(Knowing(torch.rand(N, R, N)), FIND)


@pytest.mark.parametrize("build", MODELS, ids=NAMES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused(build: Callable[[int, int], KGEModel], value: float) -> None:
    seed_everything(0)
    model = build(N, R)
    model.node_emb.weight.data[5] = value
    with pytest.raises(ValueError, match="scores of triples are NaN or infinite"):
        evaluate_completion(model, as_tensor([(0, 0, 3), (5, 1, 1)]))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"filtered": "no"}, TypeError, "filtered is 'no', expected True or False"),
        ({"filtered": None}, TypeError, "filtered is None, expected True or False"),
        *(
            ({"batch_size": size}, TypeError, f"batch_size is {size!r}, expected a whole number")
            for size in (1.5, "a", True)
        ),
        ({"sides": 5}, ValueError, "sides is 5, expected 'head', 'tail' or both"),
        ({"sides": None}, ValueError, "sides is None, expected 'head', 'tail' or both"),
    ],
)
def test_arguments_of_other_types_are_named(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        evaluate_completion(distmult(), FIND, **arguments)
