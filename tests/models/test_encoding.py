"""Encodings: scores of pairs, of the catalogue, and lists without what was seen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.models.encoding import DotProduct, Encoding, Products

pytestmark = pytest.mark.usefixtures("one_thread")

USERS, ITEMS = 5, 9
SEEN = {(0, 3), (0, 4), (1, 0), (3, 8), *((4, i) for i in range(ITEMS - 1))}


@dataclass(frozen=True)
class Written(Encoding):
    """Scores that stand in a table, by the base class's ranking."""

    table: Tensor

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        return self.table[user, item]

    def score_all(self, user: Tensor) -> Tensor:
        return self.table[user]

    @property
    def item_embeddings(self) -> Tensor:
        return self.table.t()


class Doubled(Products):
    """User embeddings that are computed when they are asked for."""

    def __init__(self, user: Tensor, item: Tensor) -> None:
        self.user, self.item = user, item

    def users(self, user: Tensor) -> Tensor:
        return 2 * self.user[user]

    @property
    def item_embeddings(self) -> Tensor:
        return self.item


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def seen() -> PairIndex:
    return PairIndex.from_pairs(torch.tensor(sorted(SEEN)).t(), USERS)


def encodings() -> dict[str, Encoding]:
    user, item = random(USERS, 4), random(ITEMS, 4, seed=1)
    return {"table": Written(user @ item.t()), "dot": DotProduct(user, item), "products": Doubled(user, item)}


@pytest.fixture(params=encodings())
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return encodings()[request.param]


def test_scores_of_pairs_are_those_of_the_catalogue(encoding: Encoding) -> None:
    users = torch.tensor([3, 0, 3])
    whole = encoding.score_all(users)
    assert whole.shape == (3, ITEMS)
    assert torch.equal(whole[0], whole[2])
    for item in range(ITEMS):
        found = encoding.score(users, torch.full((3,), item))
        torch.testing.assert_close(found, whole[:, item])


def test_products_are_inner_products_of_what_users_gives() -> None:
    found = encodings()
    table, dot, doubled = (
        found[name].score_all(torch.arange(USERS)) for name in ("table", "dot", "products")
    )
    torch.testing.assert_close(dot, table)
    torch.testing.assert_close(doubled, 2 * table)


@pytest.mark.parametrize("batch_size", [1, 2, 1024])
@pytest.mark.parametrize("k", [1, 4, ITEMS])
def test_the_best_unseen_items_by_sorting(
    encoding: Encoding, seen: PairIndex, k: int, batch_size: int
) -> None:
    users = torch.tensor([4, 0, 2, 0, 1])
    items, scores = encoding.rank(users, k, seen, batch_size)
    assert items.shape == scores.shape == (5, k)
    assert items.dtype == torch.int64
    whole = encoding.score_all(users)
    for row, user in enumerate(users.tolist()):
        left = [i for i in range(ITEMS) if (user, i) not in SEEN]
        best = sorted(left, key=lambda i: -float(whole[row, i]))[:k]
        padding = k - len(best)
        assert items[row].tolist() == best + [-1] * padding
        torch.testing.assert_close(scores[row, : len(best)], whole[row, best])
        assert scores[row, len(best) :].tolist() == [-torch.inf] * padding


def test_nobody_gets_empty_lists(encoding: Encoding, seen: PairIndex) -> None:
    items, scores = encoding.rank(torch.empty(0, dtype=torch.long), 3, seen)
    assert items.shape == scores.shape == (0, 3)
    assert items.dtype == torch.int64
    assert scores.dtype == torch.float32


def test_ranking_leaves_the_encoding_as_it_was(encoding: Encoding, seen: PairIndex) -> None:
    before = encoding.score_all(torch.arange(USERS)).clone()
    encoding.rank(torch.arange(USERS), 3, seen)
    assert torch.equal(encoding.score_all(torch.arange(USERS)), before)


def test_unit_items_have_norm_one_and_are_made_once(encoding: Encoding) -> None:
    unit = encoding.unit_items
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(ITEMS))
    torch.testing.assert_close(
        unit * encoding.item_embeddings.norm(dim=1, keepdim=True), encoding.item_embeddings
    )
    assert encoding.unit_items is unit


def test_an_item_of_norm_zero_has_no_direction() -> None:
    item = random(ITEMS, 4)
    item[2] = 0
    assert not DotProduct(random(USERS, 4), item).unit_items[2].any()
