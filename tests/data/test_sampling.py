from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, ITEM
from pyg_kgrec.data.sampling import NegativeSampler

DRAWS = 40_000
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1, max_size=30)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_tensor(rows: list[tuple[int, int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).view(-1, 2).t()


@settings(max_examples=150, deadline=None)
@given(rows=pairs, distribution=st.sampled_from(["uniform", "popularity"]), seed=st.integers(0, 999))
def test_a_draw_is_never_a_positive_and_always_an_item(
    rows: list[tuple[int, int]], distribution: str, seed: int
) -> None:
    sampler = NegativeSampler(as_tensor(rows), 5, 8, distribution)
    taken = {user: {i for u, i in rows if u == user} for user in range(5)}
    free = [user for user in range(5) if len(taken[user]) < 8]
    assert sampler.has_negatives(torch.arange(5)).tolist() == [user in free for user in range(5)]
    drawn = sampler.sample(torch.tensor(free, dtype=torch.long), 20, generator(seed))
    assert drawn.shape == (len(free), 20)
    for user, items in zip(free, drawn.tolist()):
        assert set(items) <= set(range(8)) - taken[user]


def chi_square(drawn: Tensor, probability: Tensor) -> float:
    expected = probability * drawn.numel()
    count = torch.bincount(drawn.flatten(), minlength=probability.numel()).double()
    assert not count[expected == 0].any()
    used = expected > 0
    return float(((count - expected)[used].pow(2) / expected[used]).sum())


ROWS = [
    (0, 2),
    (0, 3),
    (0, 2),
    (0, 7),
    (1, 0),
    (1, 1),
    (1, 4),
    (1, 5),
    (1, 6),
    (1, 7),
    (3, 0),
    (3, 1),
    (3, 7),
]


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_draws_have_the_distribution_among_the_free_items(distribution: str) -> None:
    edge_index = as_tensor(ROWS)
    sampler = NegativeSampler(edge_index, 4, 8, distribution)
    weight = torch.ones(8, dtype=torch.float64)
    if distribution == "popularity":
        weight = (torch.bincount(edge_index[1], minlength=8).double() + 1).pow(0.75)
    for user in range(4):
        mine = weight.clone()
        mine[edge_index[1, edge_index[0] == user]] = 0
        drawn = sampler.sample(torch.full((DRAWS // 8,), user), 8, generator(user))
        # 24.3 is the 0.999 quantile of chi-square with 7 degrees of freedom.
        assert chi_square(drawn, mine / mine.sum()) < 24.3


def test_draws_of_one_row_are_independent() -> None:
    drawn = NegativeSampler(as_tensor(ROWS), 4, 8).sample(torch.full((DRAWS,), 2), 2, generator())
    both = drawn[:, 0] * 8 + drawn[:, 1]
    # 103.4 is the 0.999 quantile of chi-square with 63 degrees of freedom.
    assert chi_square(both, torch.full((64,), 1 / 64, dtype=torch.float64)) < 103.4


def test_the_power_of_the_popularity() -> None:
    edge_index = as_tensor([(0, 0)] * 7 + [(1, 1)])
    sampler = NegativeSampler(edge_index, 3, 2, "popularity", exponent=1.0)
    drawn = sampler.sample(torch.full((DRAWS,), 2), 1, generator())
    assert (drawn == 0).double().mean().item() == pytest.approx(8 / 10, abs=0.01)


def test_the_same_generator_gives_the_same_draws() -> None:
    sampler, user = NegativeSampler(as_tensor(ROWS), 4, 8), torch.arange(4)
    state = torch.get_rng_state()
    first, again, other = (sampler.sample(user, 9, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_many_users_and_items_do_not_overflow(distribution: str) -> None:
    num_users, num_items = 10**6, 10**6
    edge_index = torch.tensor([[num_users - 1] * 3, [0, 5, num_items - 1]])
    sampler = NegativeSampler(edge_index, num_users, num_items, distribution)
    drawn = sampler.sample(torch.tensor([0, num_users - 1]), 10_000, generator())
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < num_items
    assert not torch.isin(drawn[1], edge_index[1]).any()
    assert drawn.double().mean().item() == pytest.approx(num_items / 2, rel=0.05)


def test_a_user_who_has_everything_has_no_negative() -> None:
    sampler = NegativeSampler(as_tensor([(1, 0), (1, 1), (0, 1)]), 2, 2)
    assert sampler.sample(torch.tensor([0]), 3, generator()).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="user 1 has interacted with every item"):
        sampler.sample(torch.tensor([0, 1]), 1, generator())


def test_no_user_gives_no_draw() -> None:
    sampler = NegativeSampler(as_tensor(ROWS), 4, 8)
    assert sampler.sample(torch.empty(0, dtype=torch.long), 3).shape == (0, 3)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="is 'zipf', expected 'uniform' or 'popularity'"):
        NegativeSampler(as_tensor(ROWS), 4, 8, "zipf")  # type: ignore[arg-type]


def test_what_is_held_out_may_be_drawn(make_splits: Callable[..., tuple[HeteroData, ...]]) -> None:
    """A training step must not know it."""
    train, val, _ = make_splits()
    user, item = train[INTERACTS].edge_index
    drawn = NegativeSampler(train[INTERACTS].edge_index, 10, 14).sample(user, 50, generator())
    taken = torch.zeros(10, train[ITEM].num_nodes, dtype=torch.bool)
    taken[user, item] = True
    assert not taken[user.unsqueeze(1), drawn].any()
    held_out = val[INTERACTS].edge_label_index
    assert bool((drawn == held_out[1][user].unsqueeze(1)).any())
