"""A small graph in columns: labelled boxes, joined by arrows that a legend of relations explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pyg_kgrec._look import DARK, INK, PLAIN, figure_of, line_style, new_axes, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Key = tuple[str, str]
"""Kind and label of a box."""

COLUMNS: Final = {"user": 0, "history": 1, "preference": 1, "memory": 1, "entity": 2, "item": 3}
"""Where the boxes of each kind stand, from the left."""

FILL: Final = {
    "user": "#f6dfc4",
    "history": "#d5e6f5",
    "preference": "#e6dcf3",
    "memory": "#e6dcf3",
    "entity": "#dcefe3",
    "item": "#f7d3da",
}

SIZE: Final = 8.5  # points, of all text
_LEGEND_WIDTH: Final = 9.0  # inches, most
_GAP: Final = 1.35  # between columns, inches
_BETWEEN: Final = 0.13  # between boxes of a column
_PORT: Final = 0.12  # between the ends of two arrows at one box
_PAD: Final = 0.09  # between a label and the edge of its box
_EDGE: Final = 0.15  # around the whole


@dataclass(frozen=True)
class Link:
    """An arrow between two boxes.

    Attributes:
        source: The box on the left.
        target: The box on the right.
        relation: Which entry of the legend it belongs to; empty for none, a thin line in ink.
        weight: What its width stands for; widths go by the absolute value, below zero it is drawn pale.
        forward: Whether it points to the right.
    """

    source: Key
    target: Key
    relation: str
    weight: float = 0.0
    forward: bool = True


@dataclass
class _Box:
    """A box, or a place in a column that an arrow runs through."""

    column: int
    text: Any = None
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0  # of its left edge
    y: float = 0.0  # of its middle


@dataclass
class _Run:
    """The part of a link between two neighbouring columns."""

    link: int
    left: int
    right: int
    y: list[float] = field(default_factory=lambda: [0.0, 0.0])


def draw_diagram(
    ax: Axes | None,
    title: str,
    links: Sequence[Link],
    notes: dict[Key, str],
    width_name: str,
) -> Axes:
    """Draws boxes in columns and the arrows between them; no two labels overlap, at any size.

    Args:
        ax: Axes to draw on; new ones, of the size that the graph needs, if None. On smaller ones all is smaller.
        title: Of the picture.
        links: The arrows; what they join is drawn.
        notes: A second line of some boxes.
        width_name: What the widths of the arrows are, said in the legend.
    """
    own = ax is None
    ax = ax or new_axes(8, 4)
    figure = figure_of(ax)
    ax.set_axis_off()
    ax.patch.set_alpha(0)
    places: dict[Key, int] = {}
    boxes: list[_Box] = []
    used = sorted({COLUMNS[key[0]] for link in links for key in (link.source, link.target)})
    for link in links:
        for key in (link.source, link.target):
            if key not in places:
                places[key] = len(boxes)
                boxes.append(_Box(used.index(COLUMNS[key[0]])))
    runs = _runs(links, places, boxes)
    for key, place in places.items():
        label = wrap(key[1], 26) + (f"\n{notes[key]}" if key in notes else "")
        text = ax.text(0, 0, label, ha="center", va="center", fontsize=SIZE, color=DARK, zorder=4, **PLAIN)
        boxes[place].text = text
    heading = ax.set_title(wrap(title, 90, 2), fontsize=SIZE + 1.5, color=INK, va="top", pad=0, **PLAIN)
    relations = _relations(links)
    legend = _legend(ax, relations, width_name)
    heading_width, top = _size(heading)[0], _size(heading)[1] + 2 * _EDGE
    legend_width, legend_height = _size(legend) if legend is not None else (0.0, 0.0)

    width, height = _arrange(boxes, runs, len(used))
    shift = max(0.0, (max(legend_width, heading_width) + 2 * _EDGE - width) / 2)
    width += 2 * shift
    bottom = legend_height + (_EDGE if legend is not None else 0)
    whole = height + top + bottom
    if own:
        figure.set_layout_engine("none")
        figure.set_size_inches(width, whole)
        ax.set_position((0, 0, 1, 1))
        scale, (room_x, room_y) = 1.0, (width, whole)
    else:
        room_x, room_y = _size(ax)
        scale = min(1.0, room_x / width, room_y / whole)
    ax.set_xlim(-(room_x / scale - width) / 2, width + (room_x / scale - width) / 2)
    ax.set_ylim(whole - room_y / scale, whole)
    ax.set_title(
        heading.get_text(),
        fontsize=(SIZE + 1.5) * scale,
        color=INK,
        va="top",
        pad=0,
        y=1 - _EDGE * scale / room_y,
        **PLAIN,
    )
    if legend is not None:
        legend.set_bbox_to_anchor((width / 2, bottom), transform=ax.transData)
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_fontsize(text.get_fontsize() * scale)
    for box in boxes:
        box.x += shift
        box.y += bottom
        if box.text is not None:
            box.text.set_position((box.x + box.width / 2, box.y))
            if not own:
                _fit(box, scale)
    _draw_boxes(ax, {key: boxes[place] for key, place in places.items()}, scale)
    _draw_links(ax, links, runs, boxes, bottom, relations, scale)
    return ax


def _fit(box: _Box, scale: float) -> None:
    """A label in a box that is smaller: letters do not shrink quite as boxes do."""
    size = SIZE * scale
    box.text.set_fontsize(size)
    width, height = _size(box.text)
    room = min(box.width * scale / max(width, 1e-9), box.height * scale / max(height, 1e-9))
    box.text.set_fontsize(size * min(1.0, 0.94 * room))


def _runs(links: Sequence[Link], places: dict[Key, int], boxes: list[_Box]) -> list[_Run]:
    """The links from column to column, with a place for each in every column that it passes."""
    runs = []
    for number, link in enumerate(links):
        left, last = places[link.source], places[link.target]
        while boxes[left].column + 1 < boxes[last].column:
            boxes.append(_Box(boxes[left].column + 1, height=_PORT))
            runs.append(_Run(number, left, len(boxes) - 1))
            left = len(boxes) - 1
        runs.append(_Run(number, left, last))
    return runs


def _arrange(boxes: list[_Box], runs: list[_Run], columns: int) -> tuple[float, float]:
    """Gives every box its size and place and every run its ends; the size of the whole, in inches."""
    ends: list[tuple[list[_Run], list[_Run]]] = [([], []) for _ in boxes]
    for run in runs:
        ends[run.right][0].append(run)
        ends[run.left][1].append(run)
    for place, box in enumerate(boxes):
        if box.text is not None:
            width, height = _size(box.text)
            most = max(len(side) for side in ends[place])
            box.width, box.height = width + 2 * _PAD, max(height + 1.6 * _PAD, _PORT * (most + 0.5))
    column = [[p for p, box in enumerate(boxes) if box.column == c] for c in range(columns)]
    _sort(column, ends)
    tall = [sum(boxes[p].height + _BETWEEN for p in places) for places in column]
    height, x = max(tall), _EDGE
    for places, own in zip(column, tall):
        width = max(boxes[p].width for p in places)
        space = _BETWEEN + (height - own) / len(places)
        y = height - space / 2
        for p in places:
            box = boxes[p]
            if box.text is None:
                box.width = width
            box.y = y - box.height / 2
            y -= box.height + space
            box.x = x + (width - box.width) / 2
        x += width + _GAP
    for box, (to_left, to_right) in zip(boxes, ends):
        to_left.sort(key=lambda run: -boxes[run.left].y)
        to_right.sort(key=lambda run: -boxes[run.right].y)
        for end, mine in ((1, to_left), (0, to_right)):
            for i, run in enumerate(mine):
                run.y[end] = box.y + _PORT * ((len(mine) - 1) / 2 - i)
    return x - _GAP + _EDGE, height


def _sort(columns: list[list[int]], ends: list[tuple[list[_Run], list[_Run]]]) -> None:
    """Puts neighbours beside each other, so that few arrows cross: each box at the mean place of what it joins."""
    rank = {place: (i + 0.5) / len(places) for places in columns for i, place in enumerate(places)}
    for sweep in range(4):
        for places in columns if sweep % 2 == 0 else columns[::-1]:
            mean = {}
            for place in places:
                near = (
                    [run.left for run in ends[place][0]]
                    if sweep % 2 == 0
                    else [r.right for r in ends[place][1]]
                )
                mean[place] = sum(rank[other] for other in near) / len(near) if near else rank[place]
            places.sort(key=mean.__getitem__)
            rank |= {place: (i + 0.5) / len(places) for i, place in enumerate(places)}


def _draw_boxes(ax: Axes, boxes: dict[Key, _Box], scale: float) -> None:
    patches = import_module("matplotlib.patches")
    for (kind, _), box in boxes.items():
        ax.add_patch(
            patches.FancyBboxPatch(
                (box.x, box.y - box.height / 2),
                box.width,
                box.height,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=FILL[kind],
                edgecolor=INK,
                linewidth=0.7 * scale,
                zorder=3,
            )
        )


def _draw_links(
    ax: Axes,
    links: Sequence[Link],
    runs: list[_Run],
    boxes: list[_Box],
    bottom: float,
    relations: list[str],
    scale: float,
) -> None:
    patches, path = import_module("matplotlib.patches"), import_module("matplotlib.path").Path
    heaviest = max((abs(link.weight) for link in links if link.relation), default=0.0) or 1.0
    parts: list[list[_Run]] = [[] for _ in links]
    for run in runs:
        parts[run.link].append(run)
    # The strong ones last, on top.
    for link, mine in sorted(zip(links, parts), key=lambda pair: abs(pair[0].weight)):
        points: list[tuple[float, float]] = []
        codes: list[Any] = []
        for run in mine:
            left, right = boxes[run.left], boxes[run.right]
            x1, x2 = left.x + left.width, right.x
            y1, y2 = run.y[0] + bottom, run.y[1] + bottom
            points += [(x1, y1), ((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2), (x2, y2)]
            codes += [path.LINETO if codes else path.MOVETO, *[path.CURVE4] * 3]
        width = 0.8 + 3.4 * abs(link.weight) / heaviest if link.relation else 0.9
        style = line_style(relations.index(link.relation)) if link.relation else {"color": INK}
        ax.add_patch(
            patches.FancyArrowPatch(
                path=path(points, codes),
                arrowstyle="-|>" if link.forward else "<|-",
                mutation_scale=(8 + 1.6 * width) * scale,
                linewidth=width * scale,
                alpha=0.35 if link.weight < 0 else 0.9,
                fill=True,
                zorder=2,
                **style,
            )
        )


def _relations(links: Sequence[Link]) -> list[str]:
    """The relations, those of the widest arrows first."""
    widest: dict[str, float] = {}
    for link in links:
        if link.relation:
            widest[link.relation] = max(widest.get(link.relation, 0.0), abs(link.weight))
    return sorted(widest, key=lambda relation: -widest[relation])


def _legend(ax: Axes, relations: list[str], width_name: str) -> Any:
    """The legend of relations, in as many columns as have room; None where there are none."""
    if not relations:
        return None
    line = import_module("matplotlib.lines").Line2D
    handles = [line([], [], linewidth=2, **line_style(i)) for i in range(len(relations))]
    labels = [wrap(relation, 28, 2) for relation in relations]
    for columns in range(min(4, len(relations)), 0, -1):
        legend = ax.legend(
            handles,
            labels,
            ncols=columns,
            loc="upper center",
            frameon=False,
            fontsize=SIZE,
            labelcolor=INK,
            handlelength=3.2,
            borderaxespad=0,
            title=" ",
            title_fontsize=SIZE,
        )
        legend.get_title().set(text=wrap(width_name, 90, 2), color=INK, **PLAIN)
        for text in legend.get_texts():
            text.set(**PLAIN)
        if _size(legend)[0] <= _LEGEND_WIDTH:
            break
    return legend


def _size(artist: Any) -> tuple[float, float]:
    """Width and height in inches."""
    extent, dpi = artist.get_window_extent(), figure_of(artist).dpi
    return extent.width / dpi, extent.height / dpi
