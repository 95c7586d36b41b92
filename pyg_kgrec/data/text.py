"""What readers share: text out of files, and sentences of bounded length."""

from __future__ import annotations

import codecs
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch_geometric

from pyg_kgrec._files import kind_of

_PACKAGE: Final = f"{Path(__file__).parents[1]}{os.sep}"
_PYG: Final = f"{Path(torch_geometric.__file__).parent}{os.sep}"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's mark does: it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PLAIN: Final = (bool, int, float, complex, str, bytes, np.generic, type(None))


def shorten(text: str, most: int = 60) -> str:
    """``text`` on one line and in at most ``most`` characters, the middle left out."""
    if len(text) > 10 * most:
        text = text[: 5 * most] + text[-5 * most :]
    if not text.isprintable():
        text = repr(text)[1:-1]
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[-(most // 2) :]}"


def quoted(value: Any, most: int = 40) -> str:
    """How a message quotes what it found: as ``repr`` does, in at most about ``most`` characters."""
    if not isinstance(value, _PLAIN):
        return kind_of(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > 4 * most:
        return f"an int of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        value = value[: most + 1]
    return shorten(repr(value), most)


def listed(values: list[Any], most: int = 3) -> str:
    """Some of ``values``, quoted, with a comma between."""
    return ", ".join(quoted(value, 24) for value in values[:most]) + (", …" if len(values) > most else "")


def warn_caller(message: str) -> None:
    """Warns in the name of the line that called it, outside this package and PyG, which calls transforms."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, _PYG)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def read_text(path: Path, expected: str, encoding: str | None = None) -> str:
    r"""The text of a file, with ``\n`` at the ends of lines and without a byte order mark.

    Args:
        path: The file.
        expected: What it should be, for error messages: ``'an atomic file'``.
        encoding: A text encoding that Python knows; if :obj:`None` the one that a byte order mark names, UTF-8
            without one.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be read.
        TypeError: If ``encoding`` is no name.
        ValueError: If ``encoding`` is unknown, or the file holds bytes that it cannot be.
    """
    check_encoding(encoding)
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{shorten(str(path), 200)} does not exist, expected {expected}.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path can have this name"
        raise FileNotFoundError(
            f"{shorten(str(path), 200)} cannot be read ({reason}), expected {expected}."
        ) from None
    marked = next((codec for mark, codec in _MARKS if raw.startswith(mark)), None)
    codec = encoding or marked or "utf-8"
    name = "UTF-8" if codec in ("utf-8", "utf-8-sig") else codec
    file = shorten(path.name)
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}: byte {error.start} is not {name} (line {line}), expected {name} text "
            "(encoding= names another, such as encoding='cp1252')."
        ) from None
    except (UnicodeError, ValueError, OverflowError):
        raise ValueError(f"{file}: the file is not {name}, expected text in this encoding.") from None
    if "\0" in text:
        raise ValueError(
            f"{file}: character {text.index(chr(0))} is NUL, expected text "
            "(files in UTF-16 without a byte order mark need encoding='utf-16-le' or 'utf-16-be')."
        )
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def check_encoding(encoding: Any) -> None:
    """Raises TypeError or ValueError unless ``encoding`` is None or the name of a text encoding."""
    if encoding is None:
        return
    if not isinstance(encoding, str):
        raise TypeError(
            f"encoding is {quoted(encoding)}, expected the name of a text encoding such as 'cp1252'."
        )
    try:
        codecs.lookup(encoding)
        b"text".decode(encoding)
    except UnicodeError:
        return  # these bytes may be none of its texts
    except (LookupError, ValueError):
        raise ValueError(
            f"encoding is {quoted(encoding)}, expected a text encoding that Python knows, such as 'cp1252'."
        ) from None


def check_separator(separator: Any) -> None:
    """Raises TypeError or ValueError unless ``separator`` can stand between the cells of a line."""
    if not isinstance(separator, str):
        raise TypeError(f"separator is {quoted(separator)}, expected a str such as ','.")
    if not 1 <= len(separator) <= 16 or "\n" in separator or "\r" in separator:
        raise ValueError(
            f"separator is {quoted(separator)}, expected a few characters of one line such as ','."
        )
