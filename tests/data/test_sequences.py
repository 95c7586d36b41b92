"""Users' items in the order of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, ITEM, USER
from pyg_kgrec.data.sequences import Sequences
from pyg_kgrec.transforms import LeaveOneOut, TemporalSplit

CPU = torch.device("cpu")
NUM_USERS, NUM_ITEMS = 4, 7
Rows = list[tuple[int, int, int]]

rows_of_pairs = st.lists(
    st.tuples(st.integers(0, NUM_USERS - 1), st.integers(0, NUM_ITEMS - 1), st.integers(0, 3)),
    min_size=1,
    max_size=25,
)


def store(rows: Rows, seen: Rows | None = None) -> HeteroData:
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = NUM_USERS, NUM_ITEMS
    for name, prefix, part in (("edge_index", "", rows), ("seen_edge_index", "seen_", seen)):
        if part is not None:
            table = torch.tensor(part, dtype=torch.long).view(-1, 3).t()
            data[INTERACTS][name], data[INTERACTS][f"{prefix}time"] = table[:2], table[2]
    return data


def by_hand(rows: Rows, user: int) -> list[int]:
    """Python's sort is stable."""
    return [item for _, item, _ in sorted((r for r in rows if r[0] == user), key=lambda row: row[2])]


def lists(padded: Tensor) -> list[list[int]]:
    """Rows without their padding, which must stand on the right alone."""
    out = []
    for row in padded.tolist():
        length = sum(i >= 0 for i in row)
        assert all(i >= 0 for i in row[:length])
        assert row[length:] == [-1] * (len(row) - length)
        out.append(row[:length])
    return out


@given(rows_of_pairs, rows_of_pairs, st.integers(1, 6))
def test_the_last_items_of_users(rows: Rows, seen: Rows, most: int) -> None:
    users = torch.tensor([2, 0, 3, 0, 1])
    for data, together, flag in (
        (store(rows), rows, True),
        (store(rows, seen), rows + seen, True),
        (store(rows, seen), rows, False),
    ):
        found = Sequences.from_store(data, CPU, flag).last(users, most)
        assert lists(found) == [by_hand(together, u)[-most:] for u in users.tolist()]
        assert found.size(1) == max(1, max(len(row) for row in lists(found)))


@given(rows_of_pairs, st.integers(1, 6))
def test_every_item_but_the_first_is_a_target_once(rows: Rows, most: int) -> None:
    window, user = Sequences.from_store(store(rows), CPU).windows(most)
    assert window.size(0) == user.numel()
    assert window.size(1) <= most + 1
    for u in range(NUM_USERS):
        mine = [row for row, owner in zip(lists(window), user.tolist()) if owner == u]
        whole = by_hand(rows, u)
        # The pieces come latest first, and each begins with the last target of the one before.
        targets = [row[1:] for row in mine[::-1]]
        assert [item for row in targets for item in row] == whole[1:]
        assert all(row for row in targets)
        starts = [*whole[:1], *(row[-1] for row in targets)][: len(mine)]
        assert [row[0] for row in mine[::-1]] == starts


def test_nobody_and_nothing() -> None:
    sequences = Sequences.from_store(store([(0, 1, 0)]), CPU)
    nobody = torch.empty(0, dtype=torch.long)
    assert sequences.last(nobody, 3).shape == (0, 1)
    assert sequences.windows(3)[0].shape == (0, 1)
    assert sequences.last(torch.tensor([3]), 3).tolist() == [[-1]]


def test_equal_times_keep_the_order_of_the_rows() -> None:
    rows = [(0, 3, 5), (1, 0, 5), (0, 1, 5), (0, 6, 4), (0, 2, 5)]
    assert Sequences.from_store(store(rows), CPU).last(torch.tensor([0]), 9).tolist() == [[6, 3, 1, 2]]


@pytest.mark.parametrize("split", [LeaveOneOut(), TemporalSplit(0.2, 0.2)])
def test_the_session_of_a_test_holds_the_validation_items(
    make_store: Callable[..., HeteroData], split: Any
) -> None:
    whole = make_store()
    train, val, test = split(whole)
    users = torch.arange(whole[USER].num_nodes)
    everything = lists(Sequences.from_store(whole, CPU).last(users, 99))
    held = {
        user: [item for u, item in test[INTERACTS].edge_label_index.t().tolist() if u == user]
        for user in users.tolist()
    }
    for user, row in enumerate(lists(Sequences.from_store(test, CPU).last(users, 99))):
        assert row + held[user] == everything[user]
    for user, row in enumerate(lists(Sequences.from_store(val, CPU).last(users, 99))):
        assert row == lists(Sequences.from_store(train, CPU).last(users, 99))[user]
        assert len(row) < len(everything[user]) - len(held[user])


def test_without_time_there_is_no_order(make_splits: Callable[..., Any]) -> None:
    _, _, test = make_splits()
    for column in ("time", "seen_time"):
        broken = test.clone()
        del broken[INTERACTS][column]
        with pytest.raises(
            ValueError, match=rf"\.{column} is missing, expected the time of each interaction"
        ):
            Sequences.from_store(broken, CPU)
    assert Sequences.from_store(broken, CPU, seen=False).item.numel() == test[INTERACTS].edge_index.size(1)
