"""Tables: frames of any text, and what notebooks show, all escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

_LEFT = 'style="text-align:left"'
_LONG = 80


def table_of(caption: str, sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """An HTML table of two columns.

    Args:
        caption: What stands above it; may be empty.
        sections: Titles, each with names and what is said of them; those without any are left out.
    """
    rows = []
    for title, lines in sections:
        if lines:
            rows.append(f'<tr><th colspan="2" {_LEFT}>{html.escape(title)}</th></tr>')
        rows += [
            f"<tr><td {_LEFT}>{html.escape(name)}</td><td {_LEFT}>{html.escape(said)}</td></tr>"
            for name, said in lines
        ]
    head = f"<caption {_LEFT}>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def grid_of(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), below: str = ""
) -> str:
    """An HTML table with a head; a line break in a cell stays one.

    Args:
        columns: Titles of the columns.
        rows: Cells, row by row.
        numbers: Columns of numbers, which stand on the right.
        below: What stands under the table; may be empty.
    """
    side = ['style="text-align:right"' if place in numbers else _LEFT for place in range(len(columns))]
    for place in range(len(columns)):
        if any(len(row[place]) > _LONG for row in rows):  # on a phone the table is scrolled, not a word wide
            side[place] = 'style="text-align:left;min-width:20em"'

    def line(tag: str, cells: Sequence[str]) -> str:
        made = (f"<{tag} {at}>{_lines(cell)}</{tag}>" for at, cell in zip(side, cells, strict=True))
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line("td", cells) for cells in rows)
    end = f"<p>{html.escape(below)}</p>" if below else ""
    return f"<table><thead>{line('th', columns)}</thead><tbody>{body}</tbody></table>{end}"


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.splitlines())


def frame_of(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A DataFrame of columns, as pandas makes it of all but text that has no UTF-8 (half a surrogate pair).

    pandas keeps text as Arrow does where Arrow is installed, which such text cannot; its column holds objects.
    """
    try:
        return pd.DataFrame(columns)
    except UnicodeEncodeError:
        return pd.DataFrame({name: text_of(values) for name, values in columns.items()})


def text_of(values: Any) -> Any:
    """Values of a column, as an array of objects where pandas cannot keep their text in another way."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray | pd.Series):
        return values
    try:
        pd.Series(values)
    except UnicodeEncodeError:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return pd.Series(out, dtype=object, index=values.index if isinstance(values, pd.Series) else None)
    return values


def index_of(labels: Sequence[Any], name: str | None = None) -> pd.Index:
    """An index of labels, whatever their text; see :func:`frame_of`."""
    try:
        return pd.Index(labels, name=name)
    except UnicodeEncodeError:
        return pd.Index(labels, name=name, dtype=object)
