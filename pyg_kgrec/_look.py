"""The look of all pictures: ink, colours, figures and labels. matplotlib is imported where a picture is drawn."""

from __future__ import annotations

import unicodedata
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pyg_kgrec._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#787878"
"""Of text and lines without a box: a grey that reads on white (contrast 4.4) and on near-black, #111 (4.3)."""

DARK: Final = "#1c1c1c"
"""Of text in a box, which is pale on every background."""

FOR: Final = "#2271b2"
"""Of what speaks for an item."""

AGAINST: Final = "#d55e00"
"""Of what speaks against it. People who see no red or green tell it from blue."""

COLOURS: Final = ("#2271b2", "#d55e00", "#359b73", "#b2579b", "#a97d00", "#1d9ccc", "#8f5f3f", "#6b63c7")
"""Of things of different kinds, told apart by their dashes too."""

DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 1.6)), (0, (1.3, 1.3)), (0, (6, 1.6, 1.3, 1.6)))
"""Of the lines of different kinds."""

PLAIN: Final[dict[str, Any]] = {"parse_math": False}
"""Of every text drawn: names may hold dollar signs, which are not the beginning of a formula."""


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the kind with this number: 32 kinds differ."""
    colour, turn = number % len(COLOURS), number // len(COLOURS)
    return {"color": COLOURS[colour], "linestyle": DASHES[(colour + turn) % len(DASHES)]}


def new_axes(width: float, height: float, purpose: str = "Explanation.plot") -> Axes:
    """Axes on a new figure of this size in inches, without a background.

    Raises:
        ImportError: If matplotlib is missing (extra ``viz``).
    """
    axes: Axes = new_figure(width, height, 1, purpose)[0]
    return axes


def new_figure(width: float, height: float, columns: int, purpose: str) -> list[Any]:
    """Axes side by side on a new figure of this size in inches, without a background.

    Raises:
        ImportError: If matplotlib is missing (extra ``viz``).
    """
    require("matplotlib", "viz", purpose)
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
    figure.patch.set_alpha(0)
    for ax in axes[0]:
        frame(ax)
    return list(axes[0])


def frame(ax: Axes) -> None:
    """Lines and figures of axes in ink, nothing behind them, and no line above or on the right."""
    ax.patch.set_alpha(0)
    ax.tick_params(colors=INK, labelsize=8)
    for side, spine in ax.spines.items():
        spine.set_color(INK)
        spine.set_visible(side not in ("top", "right"))
    for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
        label.set_color(INK)


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are on, however deep."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def cleaned(text: str, most: int) -> str:
    """The first characters of a text on one line, without what no font can draw."""
    line = " ".join(text[:most].split()).encode("utf-8", "replace").decode()
    return "".join(letter for letter in line if unicodedata.category(letter) != "Cc")


def shorten(text: str, length: int) -> str:
    """The text on one line, without what no font can draw, cut to ``length`` characters."""
    line = cleaned(text, 4 * length)
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1] + "…"


def wrap(text: str, width: int, lines: int = 3) -> str:
    """The text on at most so many lines of so many columns; the last ends in an ellipsis where there was more.

    A letter of East Asian scripts, and an emoji, takes two columns.
    """
    line = shorten(text, width * lines)
    wrapped: list[str] = []
    for word in line.split(" "):
        if wrapped and _columns(wrapped[-1]) + 1 + _columns(word) <= width:
            wrapped[-1] += f" {word}"
            continue
        while _columns(word) > width:
            head = _head(word, width)
            wrapped.append(head)
            word = word[len(head) :]
        wrapped.append(word)
    if len(wrapped) > lines:
        wrapped = wrapped[:lines]
        last = wrapped[-1]
        wrapped[-1] = (last if _columns(last) < width else _head(last, width - 1)).rstrip() + "…"
    return "\n".join(wrapped)


def entitle(ax: Axes, title: str, width: int, beneath: str = "", **style: Any) -> None:
    """A title above the axes, wrapped so that it stays on the figure wherever the axes lie on it.

    Args:
        ax: The axes, with all that stands beside them.
        title: Its text.
        width: Most columns of a line. They are fewer where letters are wide or an end would be cut off.
        beneath: A further line, as it is.
        style: Further arguments of ``set_title``.
    """

    def lines(width: int) -> str:
        return "\n".join(filter(None, (wrap(title, width, 2 if width > 40 else 3), beneath)))

    look: dict[str, Any] = {"fontsize": 10, "color": INK} | style | PLAIN
    heading = ax.set_title(lines(width), **look)
    figure = figure_of(ax)
    if heading.get_window_extent().width < figure.bbox.width / 3:  # wherever its middle is
        return
    figure.draw_without_rendering()  # what is beside the axes has taken its room now
    middle = (ax.get_window_extent().x0 + ax.get_window_extent().x1) / 2
    room = 2 * min(middle, figure.bbox.width - middle)
    while heading.get_window_extent().width > room and width > 12:
        width = int(0.9 * width)
        heading.set_text(lines(width))


def _columns(text: str) -> int:
    return sum(_wide(letter) for letter in text)


def _wide(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _head(word: str, width: int) -> str:
    """As much of a word as so many columns hold, at least one letter."""
    used = 0
    for place, letter in enumerate(word):
        used += _wide(letter)
        if used > width:
            return word[: max(place, 1)]
    return word


def sentence(ax: Axes | None, title: str, text: str) -> Axes:
    """A sentence in place of a picture, where there is nothing to draw."""
    ax = ax or new_axes(6, 1.4)
    ax.set_axis_off()
    ax.text(
        0.5,
        0.5,
        wrap(text, 80, 4),
        transform=ax.transAxes,
        ha="center",
        va="center",
        color=INK,
        fontsize=9,
        **PLAIN,
    )
    entitle(ax, title, 90)
    return ax
