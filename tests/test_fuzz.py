"""The short form of ``make fuzz``: some cases of each area, in this process; and what counts as a failure."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.fuzz import run

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="written for Linux"),
]


@pytest.mark.parametrize(
    ("area", "count"),
    [
        ("readers", 60),
        ("stores", 60),
        ("models", 28),
        ("embeddings", 40),
        ("trainings", 6),
        ("operations", 40),
    ],
)
def test_damage_ends_right_or_in_a_sentence(area: str, count: int) -> None:
    outcomes = [run.judge(case) for case in run.load(area)(2026, count)]
    wrong = [
        f"{area}:{n} {o.kind}: {o.what}" for n, o in enumerate(outcomes) if o.kind not in ("right", "refused")
    ]
    assert wrong == []
    assert len(outcomes) == count
    assert any(outcome.kind == "refused" for outcome in outcomes)


def test_every_area_is_known() -> None:
    assert sum(share for _, _, share in run.AREAS.values()) == pytest.approx(1)


def raising(error: BaseException) -> Callable[[], object]:
    def case() -> object:
        raise error

    return case


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (lambda: 3, "right"),
        (raising(ValueError("x is 3, expected 4")), "refused"),
        (raising(FileNotFoundError("there is no file x")), "refused"),
        (raising(ValueError("x" * 401)), "no sentence"),
        (raising(TypeError("one line\nand another")), "no sentence"),
        (raising(ValueError("")), "no sentence"),
        (raising(KeyError("x")), "exception"),
        (raising(RuntimeError("x")), "exception"),
        (raising(AssertionError("a wrong result")), "exception"),
        (raising(MemoryError()), "exception"),
    ],
)
def test_what_counts_as_a_failure(case: Callable[[], object], kind: str) -> None:
    assert run.judge(case).kind == kind
