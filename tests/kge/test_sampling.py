from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_kgrec.kge.sampling import TripleSampler

N, R = 6, 2
DRAWS = 20_000
Row = tuple[int, int, int]
ROWS = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1)), min_size=1, max_size=60
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_tensor(rows: list[Row]) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).view(-1, 3).t()


def draw(sampler: TripleSampler, triple: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    head, relation, tail = triple
    return sampler.sample(head, relation, tail, generator(seed))


def false_ones(rows: list[Row], triple: Row, end: str) -> list[int]:
    """What may stand at an end of a triple without making a true one."""
    h, r, t = triple
    true = set(rows)
    return [e for e in range(N) if ((e, r, t) if end == "head" else (h, r, e)) not in true]


def chi_square(drawn: Tensor, allowed: list[int]) -> float:
    count = torch.bincount(drawn, minlength=N).double()
    assert int(count.sum()) == int(count[allowed].sum())
    expected = drawn.numel() / len(allowed)
    return float((count[allowed] - expected).square().sum() / expected)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, asked=ROWS, seed=st.integers(0, 999))
def test_a_draw_is_never_true_and_changes_one_end(rows: list[Row], asked: list[Row], seed: int) -> None:
    """Also of triples that are not true themselves, or whose head, relation or tail stand in no true one."""
    sampler = TripleSampler(as_tensor(rows), N)
    asked = [row for row in asked if any(false_ones(rows, row, end) for end in ("head", "tail"))]
    if not asked:
        return
    triple = as_tensor(asked * 10)
    head, tail = draw(sampler, triple, seed)
    assert head.shape == tail.shape == (10 * len(asked),)
    assert head.dtype == tail.dtype == torch.long
    assert not set(zip(head.tolist(), triple[1].tolist(), tail.tolist())) & set(rows)
    kept = (head == triple[0]) | (tail == triple[2])
    assert bool(kept.all())
    of_true = torch.tensor([row in set(rows) for row in asked * 10])
    assert bool(((head != triple[0]) ^ (tail != triple[2]))[of_true].all())


ROWS_OF_ONE = [(0, 0, 1), (0, 0, 2), (0, 1, 3), (3, 0, 1), (4, 0, 1), (5, 1, 1), (0, 0, 1)]


def test_either_end_is_drawn_alike_among_the_false_ones() -> None:
    sampler = TripleSampler(as_tensor(ROWS_OF_ONE), N)
    for seed, triple in enumerate(ROWS_OF_ONE[:6]):
        many = torch.tensor(triple).view(3, 1).expand(3, DRAWS)
        head, tail = draw(sampler, many, seed)
        other_head = tail == triple[2]  # a true triple never keeps both
        # Half of the draws change the head; four deviations of 71 draws each way.
        assert abs(int(other_head.sum()) - DRAWS / 2) < 283
        # 20.5 is the 0.999 quantile of chi-square with 5 degrees of freedom.
        assert chi_square(head[other_head], false_ones(ROWS_OF_ONE, triple, "head")) < 20.5
        assert chi_square(tail[~other_head], false_ones(ROWS_OF_ONE, triple, "tail")) < 20.5


def test_where_one_end_is_full_the_other_one_is_changed() -> None:
    full_tail = [(0, 0, t) for t in range(N)] + [(1, 1, 2)]
    sampler = TripleSampler(as_tensor(full_tail), N)
    head, tail = draw(sampler, as_tensor([(0, 0, 3)] * 500))
    assert bool((tail == 3).all())
    assert chi_square(head, [1, 2, 3, 4, 5]) < 18.5  # the 0.999 quantile with 4 degrees of freedom
    full_head = [(t, r, h) for h, r, t in full_tail]
    head, tail = draw(TripleSampler(as_tensor(full_head), N), as_tensor([(3, 0, 0)] * 500))
    assert bool((head == 3).all())
    assert chi_square(tail, [1, 2, 3, 4, 5]) < 18.5
    # Others of the same batch are drawn as ever.
    head, tail = draw(sampler, as_tensor([(1, 1, 2), (0, 0, 3)] * 500))
    assert 150 < int((head[::2] == 1).sum()) < 350


def test_a_triple_that_is_true_whatever_its_ends_are_is_named() -> None:
    cross = [(0, 1, e) for e in range(N)] + [(e, 1, 2) for e in range(N)]
    sampler = TripleSampler(as_tensor(cross), N)
    with pytest.raises(ValueError, match=r"triple \(0, 1, 2\) is true whatever its head or tail is"):
        draw(sampler, as_tensor([(0, 0, 2), (0, 1, 2)]))
    head, tail = draw(sampler, as_tensor([(0, 0, 2), (0, 1, 3), (4, 1, 2)]))
    assert head[1:].tolist() != [0, 4] or tail[1:].tolist() != [3, 2]


def test_the_same_generator_gives_the_same_draws() -> None:
    sampler, triple = TripleSampler(as_tensor(ROWS_OF_ONE), N), as_tensor(ROWS_OF_ONE * 5)
    state = torch.get_rng_state()
    first, again, other = (torch.stack(draw(sampler, triple, seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_many_entities_and_relations_do_not_overflow() -> None:
    size = 10**6
    true = torch.tensor([[0, size - 1, 5], [0, 999, 999], [size - 1, 0, size - 1]])
    head, tail = draw(TripleSampler(true, size), true.repeat(1, 2000))
    assert 0 <= int(torch.minimum(head, tail).min()) <= int(torch.maximum(head, tail).max()) < size
    changed = torch.cat([head[head != true[0].repeat(2000)], tail[tail != true[2].repeat(2000)]])
    assert changed.numel() == 6000
    assert changed.double().mean().item() == pytest.approx(size / 2, rel=0.05)


def test_no_triple_to_corrupt_gives_no_draw() -> None:
    sampler = TripleSampler(as_tensor(ROWS_OF_ONE), N)
    head, tail = draw(sampler, as_tensor([]))
    assert head.shape == tail.shape == (0,)


def test_where_nothing_is_true_everything_is_false() -> None:
    sampler = TripleSampler(as_tensor([]), N)
    head, tail = draw(sampler, as_tensor([(0, 0, 1)] * 200))
    assert bool(((head == 0) | (tail == 1)).all())
    assert head.unique().numel() == tail.unique().numel() == N


def test_triples_can_be_asked_about_before_anything_is_drawn() -> None:
    cross = [(e, 0, 2) for e in range(N)] + [(3, 0, e) for e in range(N)]
    sampler = TripleSampler(as_tensor(cross), N)
    state = torch.get_rng_state()
    sampler.check(as_tensor([row for row in cross if row != (3, 0, 2)]))
    with pytest.raises(ValueError, match=r"triple \(3, 0, 2\) is true whatever its head or tail is"):
        sampler.check(as_tensor(cross))
    TripleSampler(as_tensor(ROWS_OF_ONE), N).check(as_tensor(ROWS_OF_ONE))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_drawn_does_not_depend_on_the_default_dtype(double_by_default: Callable[[], None]) -> None:
    triple = as_tensor([(0, 0, 1), (1, 1, 2), (3, 0, 4)] * 20)
    sampler = TripleSampler(triple, N)
    before = draw(sampler, triple)
    double_by_default()
    assert all(map(torch.equal, draw(sampler, triple), before))
