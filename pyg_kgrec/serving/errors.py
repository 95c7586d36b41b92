"""What a service refuses, in one sentence with a status."""

from __future__ import annotations

from http import HTTPStatus

from pyg_kgrec._files import shown

LONGEST = 400
"""Characters of a sentence."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        sentence: What is wrong, where, and what was expected.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        self.status, self.sentence = status, shown(sentence, LONGEST)
        super().__init__(self.sentence)
