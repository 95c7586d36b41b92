"""Tables for notebooks: titles, names and what is said of them, all escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

_LEFT = 'style="text-align:left"'


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
