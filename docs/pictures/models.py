"""Draws what each model computes, top to bottom, as its page shows it, to be read on light and on dark.

python docs/pictures/models.py
"""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

# Fill of a box by what stands in it. Text lies in boxes alone, so that the ground of the page may be light or dark.
FILLS: Final = {"data": "#dbeafe", "learned": "#dcfce7", "computed": "#eef2f6", "answer": "#fef3c7"}
INK, QUIET, LINE = "#1f2933", "#52606d", "#7b8794"
WIDTH, GAP, AIR, TITLE, LETTERS, HEIGHT = 520, 14, 34, 15, 13, 19


class Box(NamedTuple):
    """A box: what it is, its title, the lines below, and its share of the row's width."""

    kind: str
    title: str
    text: tuple[str, ...] = ()
    share: float = 1


class Drawing(NamedTuple):
    """Rows of boxes, arrows between them as ((row, place), (row, place)), and what only training does."""

    rows: tuple[tuple[Box, ...], ...]
    arrows: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    training: tuple[str, ...]


def _down(*numbers: int) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Arrows from every box of a row to every box of the next; rows have so many boxes."""
    return tuple(
        ((row, i), (row + 1, j))
        for row, (above, below) in enumerate(pairwise(numbers))
        for i in range(above)
        for j in range(below)
    )


INTERACTIONS: Final = Box("data", "Interactions", ("who had what",))
TRIPLES: Final = Box("data", "Triples, links", ("head, relation, tail",))
DOT: Final = Box("answer", "Score", ("inner product of user and item",))
HISTORY: Final = Box("answer", "Score", ("sum over the user's history",))
DRAWINGS: Final[dict[str, Drawing]] = {
    "kgrec": Drawing(
        (
            (TRIPLES, Box("learned", "Embeddings", ("nodes and relations",)), INTERACTIONS),
            (
                Box("computed", "Attention over triples", ("γ: how much each", "tells of its head")),
                Box("computed", "Aggregation", ("a user is the mean", "of the user's items")),
            ),
            (Box("computed", "Sum over hops", ("embeddings of users and items",)),),
            (DOT,),
        ),
        (
            ((0, 0), (1, 0)),
            ((0, 1), (1, 0)),
            ((0, 1), (1, 1)),
            ((0, 2), (1, 1)),
            ((1, 0), (2, 0)),
            ((1, 1), (2, 0)),
            ((2, 0), (3, 0)),
        ),
        (
            "positives ranked above sampled negatives",
            "advice of EASE as second positives",
            "triples of the highest γ hidden and reconstructed",
            "two views of the items contrasted",
        ),
    ),
    "mkr": Drawing(
        (
            (Box("learned", "User u"), Box("learned", "Item v"), Box("learned", "Entity e of v")),
            (
                Box("computed", "Dense layers", ("L of them",)),
                Box(
                    "computed",
                    "Cross & compress",
                    ("L units: item and entity", "exchange what they know"),
                    2.1,
                ),
            ),
            (
                Box("answer", "Score", ("f(u, v): dot or MLP",)),
                Box("computed", "Head and relation", ("dense layers", "predict the tail")),
            ),
        ),
        (
            ((0, 0), (1, 0)),
            ((0, 1), (1, 1)),
            ((0, 2), (1, 1)),
            ((1, 0), (2, 0)),
            ((1, 1), (2, 0)),
            ((1, 1), (2, 1)),
        ),
        ("pairs: cross entropy, softmax or BPR", "after every t batches of pairs one of triples"),
    ),
    "ktup": Drawing(
        (
            (
                Box("learned", "User u"),
                Box("learned", "Item i", ("+ mean of entities",)),
                Box("learned", "Preferences", ("+ relations, normals",)),
            ),
            (Box("computed", "Preference of the pair", ("which of them suits u and i best, or a mixture",)),),
            (Box("computed", "Projection", ("u and i onto the preference's hyperplane",)),),
            (Box("answer", "Score", ("distance of u + p and i, below 0",)),),
        ),
        _down(3, 1, 1, 1),
        (
            "positives ranked above sampled negatives",
            "true triples above false ones by a margin, as in TransH",
            "normals orthogonal to translations; items near entities",
        ),
    ),
    "ksr": Drawing(
        (
            (
                Box("data", "Session", ("a user's items by time",)),
                Box("data", "Triples, links"),
            ),
            (
                Box("computed", "GRU", ("reads the items' embeddings",)),
                Box("learned", "TransE", ("entities, relations;", "trained first")),
            ),
            (
                Box("computed", "State h"),
                Box(
                    "computed",
                    "Memory",
                    ("a slot for each relation, written with", "the entity of each item of the session"),
                    1.6,
                ),
            ),
            (Box("computed", "Reading", ("h attends to relations: m is the weighted sum of slots",)),),
            (Box("answer", "Score of the next item", ("[h, m] and [item, its entity], projected",)),),
        ),
        (
            ((0, 0), (1, 0)),
            ((0, 1), (1, 1)),
            ((1, 0), (2, 0)),
            ((1, 1), (2, 1)),
            ((2, 0), (3, 0)),
            ((2, 1), (3, 0)),
            ((3, 0), (4, 0)),
        ),
        ("every item of a session but the first, all positions in one pass",),
    ),
    "lightgcn": Drawing(
        (
            (Box("learned", "Embeddings", ("users, items: layer 0",)), INTERACTIONS),
            (
                Box(
                    "computed",
                    "Propagation, L times",
                    ("each node: its neighbours over the root of both degrees",),
                ),
            ),
            (Box("computed", "Mean over layers 0 to L"),),
            (DOT,),
        ),
        _down(2, 1, 1, 1),
        ("positives ranked above sampled negatives", "L2 norm of the batch's embeddings"),
    ),
    "bprmf": Drawing(
        ((Box("learned", "User embedding"), Box("learned", "Item embedding")), (DOT,)),
        _down(2, 1),
        ("positives ranked above sampled negatives", "L2 norm of the batch's embeddings"),
    ),
    "popularity": Drawing(
        (
            (INTERACTIONS,),
            (Box("computed", "Count", ("interactions of each item",)),),
            (Box("answer", "Score", ("the count, for every user alike",)),),
        ),
        _down(1, 1, 1),
        (),
    ),
    "ease": Drawing(
        (
            (INTERACTIONS, Box("data", "Facts of items", ("with knowledge= only",))),
            (Box("computed", "Gram matrix", ("XᵀX + α FFᵀ + λI, items × items",)),),
            (Box("learned", "Inverse, once", ("B: what each item says of each other one",)),),
            (HISTORY,),
        ),
        _down(2, 1, 1, 1),
        ("λ, α and the power of a fact's frequency chosen on validation",),
    ),
    "itemknn": Drawing(
        (
            (INTERACTIONS,),
            (Box("computed", "Cosines of items", ("by who had them, less for rare items",)),),
            (Box("learned", "The k nearest of each item"),),
            (HISTORY,),
        ),
        _down(1, 1, 1, 1),
        ("k and the shrinkage chosen on validation",),
    ),
    "rp3beta": Drawing(
        (
            (INTERACTIONS,),
            (Box("computed", "Walks of three steps", ("user, item, other user, item",)),),
            (Box("computed", "Popular items held back", ("divided by degree to the power β",)),),
            (Box("learned", "The k largest weights of each item"),),
            (HISTORY,),
        ),
        _down(1, 1, 1, 1, 1),
        ("k, α and β chosen on validation",),
    ),
    "als": Drawing(
        (
            (INTERACTIONS, Box("learned", "Item embeddings")),
            (Box("computed", "Solve each user", ("least squares: 1 for the history, 0 for the rest",)),),
            (DOT,),
        ),
        _down(2, 1, 1),
        (
            "16 sweeps: users solved from items, then items from users",
            "λ and the weight of the rest chosen on validation",
        ),
    ),
    "blend": Drawing(
        (
            (Box("learned", "Model A"), Box("learned", "Model B"), Box("learned", "…")),
            (
                Box("computed", "Normalised", ("per user",)),
                Box("computed", "Normalised", ("per user",)),
                Box("computed", "…", ("",)),
            ),
            (Box("answer", "Score", ("weighted sum; weights sum to 1",)),),
        ),
        (
            ((0, 0), (1, 0)),
            ((0, 1), (1, 1)),
            ((0, 2), (1, 2)),
            ((1, 0), (2, 0)),
            ((1, 1), (2, 0)),
            ((1, 2), (2, 0)),
        ),
        ("parts that were never fitted are fitted first", "weights chosen on validation"),
    ),
}


def svg(name: str, drawing: Drawing) -> str:
    """The picture of a model."""
    parts: list[str] = []
    places: dict[tuple[int, int], tuple[float, float, float, float]] = {}
    y = 2.0
    for number, row in enumerate(drawing.rows):
        height = max(HEIGHT * (1 + len(box.text)) + 16 for box in row)
        unit = (WIDTH - 4 - GAP * (len(row) - 1)) / sum(box.share for box in row)
        x = 2.0
        for place, box in enumerate(row):
            width = unit * box.share
            if len(row) == 1:  # alone in its row it is not wider than its words ask for
                width = 0.82 * (WIDTH - 4)
                x = (WIDTH - width) / 2
            places[number, place] = (x, y, width, height)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="8" '
                f'fill="{FILLS[box.kind]}" stroke="{LINE}"/>'
            )
            middle, top = x + width / 2, y + (height - HEIGHT * (1 + len(box.text))) / 2 + 14
            parts.append(_text(middle, top, box.title, TITLE, INK, bold=True))
            parts += [
                _text(middle, top + HEIGHT * (line + 1), text, LETTERS, INK)
                for line, text in enumerate(box.text)
            ]
            x += width + GAP
        y += height + AIR
    parts += [_arrow(places[start], places[end]) for start, end in drawing.arrows]
    y -= AIR
    if drawing.training:
        y += 18
        height = HEIGHT * (1 + len(drawing.training)) + 16
        parts.append(
            f'<rect x="2" y="{y:.1f}" width="{WIDTH - 4}" height="{height}" rx="8" fill="#fce7f3" '
            f'stroke="{LINE}" stroke-dasharray="5 4"/>'
        )
        parts.append(_text(WIDTH / 2, y + 22, "When it is fitted", TITLE, INK, bold=True))
        parts += [
            _text(WIDTH / 2, y + 22 + HEIGHT * (line + 1), text, LETTERS, INK)
            for line, text in enumerate(drawing.training)
        ]
        y += height
    marker = (
        f'<defs><marker id="end" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 2:.0f}" width="{WIDTH}" '
        f'height="{y + 2:.0f}" role="img" font-family="system-ui, sans-serif">\n'
        f"<title>{escape(_words(name, drawing))}</title>\n{marker}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, size: int, fill: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{weight} text-anchor="middle">'
        f"{escape(text)}</text>"
    )


def _arrow(start: tuple[float, float, float, float], end: tuple[float, float, float, float]) -> str:
    """From the lower edge of a box to the upper edge of another, bent where they do not face each other."""
    x, y, width, height = start
    to_x, to_y, to_width, _ = end
    middle, target = x + width / 2, to_x + to_width / 2
    reach = to_width / 2 - 20  # arrows from several boxes end beside each other
    target += max(-reach, min(reach, 0.5 * (middle - target)))
    if middle < to_x + 12 or middle > to_x + to_width - 12:
        pass
    elif width < to_width:
        target = middle
    first, last = y + height, to_y - 2
    half = (first + last) / 2
    return (
        f'<path d="M{middle:.1f} {first:.1f}C{middle:.1f} {half:.1f} {target:.1f} {half:.1f} '
        f'{target:.1f} {last:.1f}" '
        f'fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#end)"/>'
    )


def _words(name: str, drawing: Drawing) -> str:
    """The same for somebody who hears the page."""
    rows = "; then ".join(
        " and ".join(", ".join(filter(None, (box.title, *box.text))) for box in row) for row in drawing.rows
    )
    return f"{name}, top to bottom: {rows}."


def main() -> None:
    """Writes the pictures beside this file."""
    for name, drawing in DRAWINGS.items():
        out = Path(__file__).with_name(f"model-{name}.svg")
        out.write_text(svg(name, drawing))
        print(out)


if __name__ == "__main__":
    main()
