from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, IS, RELATES, from_pandas, validate
from pyg_kgrec.transforms import (
    ClickThroughSplit,
    LeaveOneOut,
    RandomKnowledge,
    RandomSplit,
    ShuffleTails,
    TemporalSplit,
    TripleSplit,
    apply_split,
)


def make_store(users: list[int], times: list[int] | None = None) -> HeteroData:
    """Interactions of ``users``, each with an item of its own, so that an item tells its row."""
    data = HeteroData()
    data["user"].num_nodes = max(users) + 2
    data["item"].num_nodes = len(users)
    data["item"].x = torch.ones(len(users), 2)
    data["item"].name = [f"item {i}" for i in range(len(users))]
    data["entity"].num_nodes = 2
    data[INTERACTS].edge_index = torch.stack([torch.tensor(users), torch.arange(len(users))])
    if times is not None:
        data[INTERACTS].time = torch.tensor(times)
    data[INTERACTS].rating = torch.arange(len(users)) * 0.5
    data[IS].edge_index = torch.tensor([[0], [1]])
    data[RELATES].edge_index = torch.tensor([[0], [1]])
    data[RELATES].edge_type = torch.tensor([0])
    data.relation_name = ["knows"]
    return data


def rows(index: Tensor) -> list[int]:
    return index[1].tolist()


@pytest.mark.parametrize(
    ("transform", "empty"),
    [
        (RandomSplit(0.1, 0.1), "val and test"),
        (RandomSplit(0.1, 0.2), "val"),
        (TemporalSplit(0.0, 0.1), "test"),
        (TemporalSplit(0.1, 0.3), "val"),
        (RandomSplit(0.0, 0.2), ""),
        (LeaveOneOut(), ""),
        (ClickThroughSplit(0.001, 0.2), "val"),
    ],
    ids=repr,
)
def test_a_part_that_comes_to_nothing_is_a_warning(transform: Any, empty: str) -> None:
    data = make_store([user for user in range(20) for _ in range(4)], list(range(80)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transform(data)
    told = [str(warning.message) for warning in caught]
    if not empty:
        assert told == []
        return
    (message,) = told
    assert message.startswith(
        f"{transform!r} holds out nothing for {empty}, expected more interactions or larger"
    )
    assert message.endswith("(a user has at most 4, all together have 80)")
    assert caught[0].filename == __file__


def test_users_with_too_few_interactions_to_leave_one_out_are_a_warning() -> None:
    with pytest.warns(
        UserWarning, match=r"LeaveOneOut\(\) holds out nothing for val and test, expected more"
    ):
        LeaveOneOut()(make_store([0, 0, 1, 1], [0, 1, 2, 3]))


TRANSFORMS = [RandomSplit(0.2, 0.3, seed=3), TemporalSplit(0.2, 0.3), LeaveOneOut()]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@given(rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=60))
def test_folds_partition_the_rows(
    transform: Callable[[HeteroData], tuple[HeteroData, HeteroData, HeteroData]], rows: list[tuple[int, int]]
) -> None:
    users, times = [user for user, _ in rows], [time for _, time in rows]
    data = make_store(users, times)
    train, val, test = transform(data)
    parts = [part[INTERACTS] for part in (train, val, test)]
    labels = [part.edge_label_index for part in parts]
    assert sorted(item for label in labels for item in label[1].tolist()) == list(range(len(users)))
    for part, label in zip(parts, labels):
        assert label[1].tolist() == sorted(label[1].tolist())
        assert [users[row] for row in label[1].tolist()] == label[0].tolist()
        assert part.edge_label_time.tolist() == [times[row] for row in label[1].tolist()]
        assert part.edge_label_rating.tolist() == [row * 0.5 for row in label[1].tolist()]
        assert part.edge_index is parts[0].edge_index
        assert torch.equal(part.edge_index, labels[0])
        assert part.time.tolist() == parts[0].edge_label_time.tolist()
    assert torch.equal(parts[2].seen_edge_index, labels[1])
    assert parts[2].seen_time.tolist() == parts[1].edge_label_time.tolist()
    assert "seen_edge_index" not in parts[0]
    assert "seen_edge_index" not in parts[1]
    assert set(labels[0][0].tolist()) == set(users)
    for part in (train, val, test):
        validate(part)


def test_nodes_and_knowledge_are_shared_and_the_input_is_left_alone() -> None:
    data = make_store([0] * 10)
    before = set(data[INTERACTS].keys())
    train, val, test = RandomSplit()(data)
    for part in (train, val, test):
        assert part["item"].x is data["item"].x
        assert part["item"].name == data["item"].name
        assert part[RELATES].edge_index is data[RELATES].edge_index
        assert part[IS].edge_index is data[IS].edge_index
        assert part.relation_name is data.relation_name
    assert set(data[INTERACTS].keys()) == before
    assert data[INTERACTS].edge_index.size(1) == 10


@pytest.mark.parametrize(
    ("count", "val", "test", "expected"),
    [
        (1, 0.4, 0.5, (1, 0, 0)),
        (2, 0.4, 0.5, (1, 0, 1)),
        (3, 0.4, 0.5, (1, 0, 2)),
        (4, 0.1, 0.1, (4, 0, 0)),
        (5, 0.1, 0.1, (3, 1, 1)),
        (10, 0.2, 0.2, (6, 2, 2)),
        (50, 0.0, 0.29, (35, 0, 15)),
        (50, 0.29, 0.0, (35, 15, 0)),
        (7, 0.0, 0.0, (7, 0, 0)),
    ],
)
def test_shares_are_rounded_and_training_keeps_one(
    count: int, val: float, test: float, expected: tuple[int, int, int]
) -> None:
    data = make_store([1] * count, list(range(count)))
    for transform in (RandomSplit(val, test), TemporalSplit(val, test)):
        sizes = tuple(part[INTERACTS].edge_label_index.size(1) for part in transform(data))
        assert sizes == expected


def test_random_split_follows_its_seed_and_leaves_the_global_state_alone() -> None:
    data = make_store([0] * 40 + [1] * 40)
    state = torch.get_rng_state()
    first = [rows(part[INTERACTS].edge_label_index) for part in RandomSplit(seed=5)(data)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert [rows(part[INTERACTS].edge_label_index) for part in RandomSplit(seed=5)(data)] == first
    assert [rows(part[INTERACTS].edge_label_index) for part in RandomSplit(seed=6)(data)] != first
    per_user = Counter(data[INTERACTS].edge_index[0][first[2]].tolist())
    assert per_user == {0: 4, 1: 4}


def test_random_split_draws_every_row_alike() -> None:
    data = make_store([0] * 10)
    drawn = Counter(
        row
        for seed in range(300)
        for row in rows(RandomSplit(0, 0.3, seed)(data)[2][INTERACTS].edge_label_index)
    )
    counts = np.array([drawn[row] for row in range(10)])
    assert counts.sum() == 900
    assert counts.min() > 60
    assert counts.max() < 120


def test_temporal_split_takes_the_latest_with_ties_by_row() -> None:
    #            row: 0  1  2  3  4  5  6  7
    data = make_store([0, 0, 1, 0, 0, 1, 1, 1], [9, 5, 1, 5, 1, 7, 7, 7])
    train, val, test = TemporalSplit(0.25, 0.25)(data)
    assert rows(train[INTERACTS].edge_label_index) == [1, 2, 4, 5]
    assert rows(val[INTERACTS].edge_label_index) == [3, 6]
    assert rows(test[INTERACTS].edge_label_index) == [0, 7]


def test_leave_one_out_takes_the_last_two_of_users_with_three() -> None:
    data = make_store([0, 1, 0, 1, 0, 3], [3, 1, 1, 2, 1, 1])
    train, val, test = LeaveOneOut()(data)
    assert rows(train[INTERACTS].edge_label_index) == [1, 2, 3, 5]
    assert rows(val[INTERACTS].edge_label_index) == [4]
    assert rows(test[INTERACTS].edge_label_index) == [0]


def test_exact_timestamps_decide() -> None:
    data = make_store([0, 0, 0], [881250950, 881250949, 881250948])
    train, val, test = LeaveOneOut()(data)
    assert (rows(train[INTERACTS].edge_index), rows(val[INTERACTS].edge_label_index)) == ([2], [1])
    assert rows(test[INTERACTS].edge_label_index) == [0]


def test_other_columns_of_the_interactions_are_split_too() -> None:
    data = make_store([0] * 10)
    data[INTERACTS].weight = torch.arange(10)
    data[INTERACTS].source = "a file"
    train, val, test = apply_split(data, torch.tensor([0] * 8 + [1, 2]))
    assert train[INTERACTS].weight.tolist() == list(range(8))
    assert test[INTERACTS].edge_label_weight.tolist() == [9]
    assert test[INTERACTS].seen_weight.tolist() == [8]
    assert val[INTERACTS].source == "a file"


@pytest.mark.parametrize("transform", [TemporalSplit(), LeaveOneOut()], ids=repr)
def test_order_needs_time(transform: TemporalSplit | LeaveOneOut) -> None:
    with pytest.raises(
        ValueError, match=rf"\.time is missing, expected .* {type(transform).__name__} to sort by"
    ):
        transform(make_store([0, 0, 0]))


@pytest.mark.parametrize("kind", [RandomSplit, TemporalSplit])
@pytest.mark.parametrize(
    ("val", "test", "match"),
    [
        (-0.1, 0.1, r"val is -0\.1, expected a share"),
        (0.1, 1.0, r"test is 1\.0, expected a share"),
        (float("nan"), 0.1, "val is nan"),
        (0.5, 0.5, "leave some for training"),
    ],
)
def test_shares_out_of_range(
    kind: type[RandomSplit] | type[TemporalSplit], val: float, test: float, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        kind(val, test)


def test_a_split_store_is_refused() -> None:
    train, _, _ = RandomSplit()(make_store([0] * 10))
    with pytest.raises(ValueError, match=r"edge_label_index is present: the store is split already"):
        RandomSplit()(train)


@pytest.mark.parametrize(
    ("split", "error", "match"),
    [
        ([0, 1, 2], TypeError, "split is list, expected an int64 tensor"),
        (torch.zeros(3), TypeError, r"split is torch\.float32"),
        (torch.tensor([0, 1]), ValueError, r"shape \[2\], expected \[3\]"),
        (torch.tensor([0, 1, 3]), ValueError, "other values"),
        (torch.tensor([1, 2, 2]), ValueError, "no interaction to training"),
    ],
)
def test_bad_folds_are_refused(split: Tensor, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        apply_split(make_store([0, 0, 0]), split)


def test_bad_stores_are_refused() -> None:
    data = make_store([0, 0, 0])
    data[INTERACTS].edge_index[1, 0] = 99
    with pytest.raises(ValueError, match=r"edge_index\[1\] holds 99"):
        RandomSplit()(data)


def test_repr() -> None:
    assert repr(RandomSplit()) == "RandomSplit(val=0.1, test=0.1, seed=0)"
    assert repr(TemporalSplit(0, 0.2)) == "TemporalSplit(val=0, test=0.2)"
    assert repr(LeaveOneOut()) == "LeaveOneOut()"


def labelled(rows: list[tuple[int, int, int]]) -> HeteroData:
    """A store with one pair per (user, time, label), an item each, as a reader makes it of ``label_col=``."""
    user, time, label = zip(*rows)
    frame = pd.DataFrame({"user": user, "item": range(len(rows)), "time": time, "label": label})
    return from_pandas(frame, label_col="label")


LABELLED = [(user, time, (user * 7 + time * 3) % 5 % 2) for user in range(4) for time in range(12)]


@pytest.mark.parametrize("transform", [*TRANSFORMS, ClickThroughSplit(0.2, 0.3, seed=3)], ids=repr)
def test_labels_are_split_with_their_pairs(
    transform: Callable[[HeteroData], tuple[HeteroData, HeteroData, HeteroData]],
) -> None:
    data = labelled(LABELLED)
    train, val, test = transform(data)
    label_of = {(user, item): label for item, (user, _, label) in enumerate(LABELLED)}
    found = []
    for part in (train, val, test):
        validate(part)
        store = part[INTERACTS]
        assert "unsplit" not in store
        pairs = [tuple(pair) for pair in store.edge_label_index.t().tolist()]
        assert store.edge_label.tolist() == [label_of[pair] for pair in pairs]
        assert all(label_of[tuple(pair)] for pair in store.edge_index.t().tolist())
        assert torch.equal(
            store.edge_index, train[INTERACTS].edge_label_index[:, train[INTERACTS].edge_label > 0]
        )
        if not isinstance(transform, ClickThroughSplit):
            assert store.edge_label_time.tolist() == [LABELLED[item][1] for _, item in pairs]
            assert store.time.tolist() == [LABELLED[item][1] for item in store.edge_index[1].tolist()]
        found += pairs
    assert sorted(found) == sorted((user, item) for item, (user, _, _) in enumerate(LABELLED))
    held_out = val[INTERACTS].edge_label_index[:, val[INTERACTS].edge_label > 0]
    assert test[INTERACTS].seen_edge_index.tolist() == held_out.tolist()
    assert 0 in val[INTERACTS].edge_label.tolist() or isinstance(transform, LeaveOneOut)
    assert data[INTERACTS].unsplit is True
    with pytest.raises(ValueError, match="split already"):
        transform(train)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_pairs_labelled_1_are_split_as_if_there_were_no_others(
    transform: Callable[[HeteroData], tuple[HeteroData, HeteroData, HeteroData]],
) -> None:
    data = labelled(LABELLED)
    bare = copy.copy(data)
    for key in [key for key in data[INTERACTS] if key.startswith(("edge_label", "unsplit"))]:
        del bare[INTERACTS][key]
    for one, other in zip(transform(data), transform(bare)):
        store = one[INTERACTS]
        assert torch.equal(store.edge_index, other[INTERACTS].edge_index)
        assert torch.equal(store.edge_label_index[:, store.edge_label > 0], other[INTERACTS].edge_label_index)


def test_a_pair_labelled_0_goes_where_its_time_falls() -> None:
    data = labelled([(0, 1, 1), (0, 2, 1), (0, 4, 1), (0, 6, 1), (0, 3, 0), (0, 5, 0), (0, 7, 0), (1, 9, 0)])
    train, val, test = LeaveOneOut()(data)
    times = [part[INTERACTS].edge_label_time.tolist() for part in (train, val, test)]
    assert times == [[1, 2, 3, 9], [4, 5], [6, 7]]
    del data[INTERACTS].edge_label_time
    with pytest.raises(ValueError, match="edge_label_time is missing"):
        LeaveOneOut()(data)


def test_labels_that_do_not_fit_the_interactions_are_refused() -> None:
    data = labelled(LABELLED)
    data[INTERACTS].edge_index = data[INTERACTS].edge_index.flip(1)
    with pytest.raises(ValueError, match="edge_index holds other pairs than those that edge_label_index"):
        RandomSplit()(data)
    liked = labelled(LABELLED)[INTERACTS].edge_label > 0
    with pytest.raises(ValueError, match="sends no pair labelled 1 to training"):
        apply_split(labelled(LABELLED), torch.where(liked, 2, 0))


# ---------------------------------------------------------------------- one cut in time for all


def cut(users: list[int], times: list[int], val: float = 0.2, test: float = 0.2) -> list[list[int]]:
    """The rows of each part."""
    parts = TemporalSplit(val, test, cut="all")(make_store(users, times))
    return [rows(part[INTERACTS].edge_label_index) for part in parts]


def test_one_cut_is_the_same_moment_for_all_users() -> None:
    assert cut([0, 0, 1, 1, 2], [5, 1, 4, 2, 3]) == [[1, 3, 4], [2], [0]]
    assert cut([0] * 4 + [1], [1, 1, 1, 1, 9], val=0) == [[0, 1, 2, 3], [], [4]]  # user 1 is a stranger
    assert cut([0] * 5, [9, 1, 2, 3, 4], val=0, test=0)[0] == [0, 1, 2, 3, 4]


def test_interactions_at_the_moment_of_the_cut_stay_together() -> None:
    times = [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert cut([0] * 10, times) == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
    assert cut([0] * 10, [1, 2, 3, 4, 5, 5, 5, 5, 5, 8], val=0, test=0.2)[2] == [9]
    assert cut([0] * 4, [1, 1, 1, 2], val=0, test=0.5)[2] == [3]  # some are left for training


@given(
    times=st.lists(st.integers(0, 6), min_size=3, max_size=40),
    val=st.sampled_from([0.0, 0.2, 0.4]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_nothing_of_training_is_later_than_what_is_held_out(
    times: list[int], val: float, test: float
) -> None:
    try:
        parts = cut([n % 3 for n in range(len(times))], times, val, test)
    except ValueError:  # so many cannot be held out
        return
    assert sorted(n for part in parts for n in part) == list(range(len(times)))
    assert parts[0]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if parts[earlier] and parts[later]:
            assert max(times[n] for n in parts[earlier]) < min(times[n] for n in parts[later])


def test_labelled_rows_follow_the_cut_of_all() -> None:
    frame = pd.DataFrame(
        {
            "user": list("aabbcc"),
            "item": list("uvwxyz"),
            "time": [1, 4, 2, 9, 3, 10],
            "label": [1, 0, 1, 1, 1, 0],
        }
    )
    data = from_pandas(frame, label_col="label")
    train, _, test = TemporalSplit(0, 0.25, cut="all")(data)
    assert train[INTERACTS].edge_label_index[1].tolist() == [0, 1, 2, 4]
    assert test[INTERACTS].edge_label_index[1].tolist() == [3, 5]
    assert test[INTERACTS].edge_label.tolist() == [1, 0]


def test_a_cut_that_times_do_not_allow() -> None:
    with pytest.raises(
        ValueError, match="has 1 different times, too few for test to have its 2 interactions"
    ):
        cut([0] * 10, [7] * 10)
    with pytest.raises(ValueError, match="cut is 'global', expected 'user' or 'all'"):
        TemporalSplit(cut="global")  # type: ignore[arg-type]
    assert repr(TemporalSplit(cut="all")) == "TemporalSplit(val=0.1, test=0.1, cut='all')"
    assert repr(TemporalSplit()) == "TemporalSplit(val=0.1, test=0.1)"


@pytest.mark.parametrize(
    "transform", [RandomSplit, ClickThroughSplit, TripleSplit, ShuffleTails, RandomKnowledge]
)
def test_a_seed_of_numpy_s_is_a_seed(transform: Any, make_store: Callable[..., HeteroData]) -> None:
    data = make_store(10, 42)
    one, other = transform(seed=3)(data), transform(seed=np.int64(3))(data)
    for mine, theirs in zip(*((x if isinstance(x, tuple) else (x,)) for x in (one, other))):
        for edge_type in mine.edge_types:
            assert torch.equal(mine[edge_type].edge_index, theirs[edge_type].edge_index)
    assert repr(transform(seed=np.int64(3))) == repr(transform(seed=3))
    for seed in (None, "a", 1.5):
        with pytest.raises(TypeError, match=r"seed is .*, expected a whole number"):
            transform(seed=seed)
    with pytest.raises(ValueError, match="expected a whole number of 64 bits"):
        transform(seed=2**70)


@pytest.mark.parametrize("transform", [RandomSplit, TemporalSplit, ClickThroughSplit, TripleSplit])
@pytest.mark.parametrize("share", [None, "a", True])
def test_a_share_is_a_number(transform: Any, share: Any) -> None:
    for name in ("val", "test"):
        with pytest.raises(TypeError, match=f"{name} is {share!r}, expected a number"):
            transform(**{name: share})


@pytest.mark.parametrize("labelled", [False, True])
def test_columns_are_split_whatever_their_names(labelled: bool) -> None:
    data = make_store([0] * 6 + [1] * 4)
    store, row = data[INTERACTS], torch.arange(10)
    if labelled:
        store.edge_label_index, store.edge_label = store.edge_index, torch.ones(10)
        store.update({"unsplit": True, "edge_label_session_index": row})
    store.update(
        {
            "session_index": row,
            "index_of_visit": row[:, None] + torch.zeros(2),
            "walk_index": store.edge_index,
        }
    )
    train, val, test = RandomSplit(0.2, 0.2)(data)
    for part in (train, val, test):
        assert part[INTERACTS].session_index.tolist() == rows(part[INTERACTS].edge_index)
        assert part[INTERACTS].index_of_visit[:, 1].tolist() == rows(part[INTERACTS].edge_index)
        assert part[INTERACTS].edge_label_session_index.tolist() == rows(part[INTERACTS].edge_label_index)
        assert part[INTERACTS].walk_index is store.walk_index
    assert test[INTERACTS].seen_session_index.tolist() == rows(test[INTERACTS].seen_edge_index)


def test_a_cut_that_leaves_no_part_empty_is_found() -> None:
    times = [0] * 2 + [1] * 2 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 5
    parts = TemporalSplit(0.25, 0.1, cut="all")(make_store([0] * len(times), times))
    assert [set(part[INTERACTS].edge_label_time.tolist()) for part in parts] == [{0, 1, 2, 3}, {4}, {5}]
    late = TemporalSplit(0.1, 0.1, cut="all")(
        make_store([0] * 20, [0, 1] + [2] * 18)
    )  # test must leave 1 to val
    assert [part[INTERACTS].edge_label_index.size(1) for part in late] == [1, 1, 18]
    with pytest.raises(ValueError, match="has 2 different times, too few for val to have its 2 interactions"):
        TemporalSplit(0.1, 0.1, cut="all")(make_store([0] * 20, [0] * 10 + [1] * 10))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.bool])
def test_times_of_any_whole_dtype_are_compared(dtype: torch.dtype) -> None:
    data = make_store([0] * 8, [0, 1, 0, 1, 0, 0, 0, 0])
    data[INTERACTS].time = data[INTERACTS].time.to(dtype)
    train, _, test = TemporalSplit(0, 0.25, cut="all")(data)
    assert rows(test[INTERACTS].edge_label_index) == [1, 3]
    assert train[INTERACTS].time.dtype == dtype
    assert [rows(part[INTERACTS].edge_label_index) for part in LeaveOneOut()(data)[1:]] == [[1], [3]]
