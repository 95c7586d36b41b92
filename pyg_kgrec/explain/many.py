"""Explanations of many pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, overload

import pandas as pd

from pyg_kgrec._tables import grid_of, text_of
from pyg_kgrec.explain.explanation import Explanation

_SHOWN: Final = 10
"""Explanations that are printed or shown; each of them is made for it."""


class Explanations(Sequence[Explanation]):
    """Explanations of some pairs, each made when it is first asked for.

    Prints the first ten as text, and shows them as a table in a notebook: who, what, score, place and reasons.

    Args:
        number: How many there are.
        build: Makes one.
        raw: Raw ids of users and items, one pair for each.
    """

    def __init__(
        self, number: int, build: Callable[[int], Explanation], raw: Sequence[tuple[Any, Any]]
    ) -> None:
        self._build, self._raw = build, list(raw)
        self._made: list[Explanation | None] = [None] * number

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Explanation]: ...

    def __getitem__(self, index: int | slice) -> Explanation | list[Explanation]:
        """One of the explanations, or a list of some."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"explanation {index} of {len(self)}")
        place = index % len(self)
        found = self._made[place]
        if found is None:
            found = self._made[place] = self._build(place)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """All of them, made: what makes them holds the model."""
        made = list(self)
        return type(self), (len(made), made.__getitem__, self._raw)

    def to_frame(self) -> pd.DataFrame:
        """The units of all pairs, one row each: ``user`` and ``item`` (raw ids), and the columns of ``units``."""
        frames = []
        for place, (user, item) in enumerate(self._raw):
            units = self[place].units.copy()
            units.insert(0, "user", text_of([user] * len(units)))
            units.insert(1, "item", text_of([item] * len(units)))
            frames.append(units)
        if not frames:
            return pd.DataFrame(columns=["user", "item"])
        some = [frame for frame in frames if len(frame)]
        return pd.concat(some, ignore_index=True) if some else frames[0]

    def to_dict(self) -> list[dict[str, Any]]:
        """All explanations as :meth:`Explanation.to_dict` gives them, in a list."""
        return [one.to_dict() for one in self]

    def __str__(self) -> str:
        rest = self._rest()
        return "\n\n".join([*map(str, self[:_SHOWN]), *([rest] if rest else [])])

    def _repr_html_(self) -> str:
        rows = [
            [one.user, one.item, f"{one.score:.3f}", "" if one.rank is None else str(one.rank), one.text()]
            for one in self[:_SHOWN]
        ]
        return grid_of(
            ("user", "item", "score", "place", "reasons"), rows, numbers=(2, 3), below=self._rest()
        )

    def _rest(self) -> str:
        more = len(self) - _SHOWN
        return f"… and {more} more" if more > 0 else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"
