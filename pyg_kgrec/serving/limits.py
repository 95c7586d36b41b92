"""How much a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyg_kgrec._checks import check_at_least


@dataclass(frozen=True)
class Limits:
    """Bounds of what one request may ask, and of how many may wait.

    Attributes:
        max_k: Longest list.
        max_users: Most users, or items whose like is asked for, of one request.
        max_items: Most candidates, excluded items, or items of a session.
        max_body: Most bytes of a request's body.
        max_requests: Most requests in work at a time; further ones are answered with 503.
        max_waiting: Most explanations and other long answers that wait for their turn; further ones are answered
            with 503.

    Raises:
        TypeError: If a bound is no whole number.
        ValueError: If it is below 1.
    """

    max_k: int = 100
    max_users: int = 100
    max_items: int = 10_000
    max_body: int = 2**20
    max_requests: int = 256
    max_waiting: int = 16

    def __post_init__(self) -> None:
        check_at_least(1, **{field.name: getattr(self, field.name) for field in fields(self)})
