"""How the loops of this backend are compiled.

Three habits make them fast. Rows of tables are addressed as ``table[row, d]`` with unsigned numbers, never taken as
views: a view counts references atomically, and threads then fight for the counter. What is copied into other loops
(:func:`inline`) takes numbers and no tables, for the same reason. And results gather in a small local array, of
which :mod:`pyg_kgrec.ops.numba.rows` tells the compiler that it shares no memory with tables. Of the fast-math
flags those that assume away NaN and infinity are left out, because -inf marks what takes no part in a softmax.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
_SHARED = ("rows.py", "hashing.py")


def _stamp() -> str:
    """A name for the state of the files whose loops are compiled into those of other files."""
    files = (Path(__file__).with_name(name) for name in _SHARED)
    return sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()[:8]


_STAMP = _stamp()
_uncached: list[str] = []
"""Why loops are not cached on disk, once a folder for them has been looked for in vain."""


def jit(function: Callable[..., Any]) -> Any:
    """Compile a loop, cached on disk where there is a folder for it."""
    # Numba's cache looks for changes in the loop's own file alone. The name of a loop is part of its key.
    function.__qualname__ += f"_{_STAMP}"
    if not _uncached:
        try:
            return numba.njit(cache=True, **_FLAGS)(function)
        except RuntimeError as error:  # a package and a home that may only be read, as in containers
            if "cannot cache" not in str(error):
                raise
            _uncached.append(str(error))
            warnings.warn(
                "compiled loops cannot be kept on disk, and each process compiles them anew, which takes seconds: "
                "let NUMBA_CACHE_DIR name a folder that can be written to",
                stacklevel=2,
            )
    return numba.njit(**_FLAGS)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Copy a function of numbers into the loops that call it; one of tables would count who uses them."""
    return numba.njit(inline="always", **_FLAGS)(function)
