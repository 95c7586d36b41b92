from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, MultiStepLR, StepLR
from torch_geometric.nn import TransE
from torch_geometric.transforms import BaseTransform

from pyg_kgrec.comparison import runs
from pyg_kgrec.comparison.digest import digest
from pyg_kgrec.comparison.entries import Entry
from pyg_kgrec.comparison.runner import made_with
from pyg_kgrec.data.store import num_relations
from pyg_kgrec.models import KSR
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import LeaveOneOut

GAMMA = 0.1


def scheduler(gamma: float) -> Callable[..., Any]:
    return lambda optimizer: StepLR(optimizer, 1, gamma=gamma)


def other_default(optimizer: Any, gamma: float = 0.1) -> Any:
    return StepLR(optimizer, 1, gamma=gamma)


def of_its_file(optimizer: Any) -> Any:
    return StepLR(optimizer, 1, gamma=GAMMA)


def transe(p_norm: float = 1.0) -> TransE:
    torch.manual_seed(0)
    return TransE(3, 2, hidden_channels=4, p_norm=p_norm)


def middle(value: float) -> torch.Tensor:
    x = torch.zeros(2000)
    x[1000] = value
    return x


class Held:
    def __init__(self, value: Any) -> None:
        self.value = value


PAIRS: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (lambda: scheduler(0.1), lambda: scheduler(0.9)),
    (lambda: functools.partial(other_default), lambda: functools.partial(other_default, gamma=0.2)),
    (lambda: lambda o: StepLR(o, 1, gamma=0.1), lambda: lambda o: StepLR(o, 1, gamma=0.2)),
    (lambda: middle(0), lambda: middle(1)),
    (lambda: middle(0).numpy(), lambda: middle(1).numpy()),
    (lambda: pd.DataFrame({"x": middle(0).numpy()}), lambda: pd.DataFrame({"x": middle(1).numpy()})),
    (lambda: middle(0), lambda: middle(0).double()),
    (lambda: middle(1).to_sparse(), lambda: middle(2).to_sparse()),
    (lambda: transe(1.0), lambda: transe(2.0)),
    (lambda: functools.partial(CyclicLR, base_lr=1e-4, max_lr=0.1, step_size_up=100, mode="triangular"),
     lambda: functools.partial(CyclicLR, base_lr=1e-4, max_lr=0.1, step_size_up=100, mode="triangular2")),
    (lambda: functools.partial(MultiStepLR, milestones=list(range(200))),
     lambda: functools.partial(MultiStepLR, milestones=[*range(100), *range(101, 200)])),
    (lambda: Held([1, "a"]), lambda: Held([1, "b"])),
    (lambda: {"a": {1, 2}}, lambda: {"a": {1, 3}}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_sum_is_of_all_that_a_value_holds(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    assert digest(one()) == digest(one())
    assert digest(one()) != digest(other())


def test_a_function_is_also_what_it_finds_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(of_its_file)
    monkeypatch.setitem(globals(), "GAMMA", 0.2)
    assert digest(of_its_file) != before


def test_what_holds_itself_comes_to_an_end() -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep, deep]
    assert len(digest(endless)) == len(digest(deep)) == 64


def test_a_sum_is_the_same_in_every_process() -> None:
    value = {"words": {"a", "b", "c", "d"}, "numbers": [1, 2.5, None], "tensor": torch.arange(3)}
    assert digest(value) == "a3f9dfddba9bb262cf48bd5b0bda9cfd801d094180dbbda1fcf8910591d7437a"


def _made_with(entry: Entry, **tune: Any) -> str:
    train, _, test = LeaveOneOut()(build_store())
    plan = runs.Plan([entry], (train, None, test), None, [2], "ndcg@2", 1, tune, 3)
    return made_with(runs.describe(plan, entry, 0)[0])


def test_rows_with_other_embeddings_functions_and_spaces_are_other_rows() -> None:
    def entry(value: float, **arguments: Any) -> Entry:
        tables = torch.full((store["entity"].num_nodes, 4), value), torch.full((relations, 4), value)
        settings = {"embedding_channels": 4, "hidden_channels": 4, "kg_embedding": tables}
        return Entry("KSR", KSR, settings, arguments)

    store = build_store()
    relations = num_relations(store)
    rows = [
        lambda: _made_with(entry(0.0)),
        lambda: _made_with(entry(1.0)),
        lambda: _made_with(entry(0.0, scheduler=scheduler(0.1))),
        lambda: _made_with(entry(0.0, scheduler=scheduler(0.2))),
        lambda: _made_with(entry(0.0), KSR=lambda trial: {"lr": 0.1}),
        lambda: _made_with(entry(0.0), KSR=lambda trial: {"lr": 0.2}),
    ]
    sums = [row() for row in rows]
    assert len(set(sums)) == len(rows)
    assert sums == [row() for row in rows]


class Splits(BaseTransform):
    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def forward(self, data: Any) -> Any:
        return data


def test_a_split_by_other_numbers_is_another_split() -> None:
    keys = [
        runs.Plan([], build_store(), Splits(middle(value)), [2], "ndcg@2", 1, {}, 0).key()
        for value in (0, 0, 1)
    ]
    assert keys[0] == keys[1] != keys[2]
