from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_kgrec.data.text import listed, quoted, read_text, shorten


@given(st.text(), st.integers(10, 80))
def test_what_is_quoted_stays_on_one_short_line(text: str, most: int) -> None:
    for short in (shorten(text * 50, most), quoted(text * 50, most)):
        assert len(short) <= most
        assert short.isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "'a'"),
        (np.int64(3), "3"),
        (np.str_("a"), "'a'"),
        (None, "None"),
        ([1] * 10**6, "a list"),
        (10**400, "an int of 1329 bits"),
        (10**4000, "an int of 13288 bits"),
        (-(10**400), "an int of 1329 bits"),
        (b"ab", "b'ab'"),
    ],
)
def test_values_are_quoted_as_they_are_written(value: Any, expected: str) -> None:
    assert quoted(value) == expected


def test_some_of_many_values() -> None:
    assert listed(["a", 1, None]) == "'a', 1, None"
    assert listed(list(range(9))) == "0, 1, 2, …"


def test_the_ends_of_lines_are_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "file", "text") == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["none", "file/below", "x" * 10_000, "a\0b", "."])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(FileNotFoundError, match="expected some text") as caught:
        read_text(tmp_path / name, "some text")
    assert len(str(caught.value)) <= 400
    if sys.platform != "win32" and name == ".":
        assert "directory" in str(caught.value)
