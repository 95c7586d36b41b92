"""Draws the way of the data, from DataFrames to recommendations and their reasons, as the README shows it.

python docs/pictures/dataflow.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

INK, QUIET = "#1f2933", "#52606d"
# A column: what it holds, in what it is written, the place in the package; then its fill.
COLUMNS: list[tuple[str, str, str, str]] = [
    ("DataFrames", "interactions\ntriples\nlinks", "pandas", "#eef2f6"),
    (
        "Store",
        "one HeteroData:\nusers, items, entities,\nsplits, raw ids, names",
        "data · transforms",
        "#dbeafe",
    ),
    (
        "Read once",
        "validated, matched,\nindexed, encoded:\nmodel.prepare(store)",
        "models/inputs.py",
        "#dbeafe",
    ),
    (
        "Model",
        "KGRec · MKR · KTUP\nKSR · EASE · LightGCN\nand others, or a blend",
        "models → nn → ops",
        "#dcfce7",
    ),
]
OUTPUTS: list[tuple[str, str, str]] = [
    ("evaluate", "a table of metrics", "#fef3c7"),
    ("recommend", "raw ids and names, a DataFrame", "#fef3c7"),
    ("explain", "triples and paths, a picture", "#fef3c7"),
]
WIDTH, HEIGHT, GAP = 2.3, 2.3, 0.62


def box(ax: Axes, x: float, y: float, width: float, height: float, fill: str) -> None:
    """A rounded box, by its lower left corner."""
    style = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=INK, lw=1.1))


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A straight arrow."""
    ax.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 2, "shrinkB": 2}
    )


def draw(ax: Axes) -> None:
    """Four boxes in a row, then a fan of three."""
    for place, (title, body, home, fill) in enumerate(COLUMNS):
        x = place * (WIDTH + GAP)
        box(ax, x, 0, WIDTH, HEIGHT, fill)
        ax.text(
            x + WIDTH / 2,
            HEIGHT - 0.22,
            title,
            ha="center",
            va="top",
            fontsize=12.5,
            weight="bold",
            color=INK,
        )
        ax.text(x + WIDTH / 2, HEIGHT / 2 - 0.02, body, ha="center", va="center", fontsize=9.5, color=INK)
        ax.text(
            x + WIDTH / 2, 0.16, home, ha="center", va="bottom", fontsize=8.5, color=QUIET, family="monospace"
        )
        if place:
            arrow(ax, (x - GAP, HEIGHT / 2), (x, HEIGHT / 2))
    last = len(COLUMNS) * (WIDTH + GAP)
    height = (HEIGHT - 2 * 0.16) / 3
    for place, (title, body, fill) in enumerate(OUTPUTS):
        y = HEIGHT - height - place * (height + 0.16)
        box(ax, last, y, WIDTH + 0.55, height, fill)
        middle = last + (WIDTH + 0.55) / 2
        ax.text(
            middle, y + height * 0.68, title, ha="center", va="center", fontsize=11, weight="bold", color=INK
        )
        ax.text(middle, y + height * 0.28, body, ha="center", va="center", fontsize=8.8, color=INK)
        arrow(ax, (last - GAP, HEIGHT / 2), (last, y + height / 2))
    fit = 3 * (WIDTH + GAP) + WIDTH / 2
    ax.text(
        fit,
        HEIGHT + 0.34,
        "fit (Lightning)",
        ha="center",
        va="bottom",
        fontsize=8.8,
        color=QUIET,
        style="italic",
    )
    ax.annotate(
        "",
        (fit + 0.5, HEIGHT + 0.02),
        (fit - 0.5, HEIGHT + 0.02),
        arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3, "connectionstyle": "arc3,rad=-0.6"},
    )
    ax.set_xlim(-0.15, last + WIDTH + 0.7)
    ax.set_ylim(-0.15, HEIGHT + 0.72)
    ax.set_aspect("equal")
    ax.axis("off")


def main() -> None:
    """Writes the picture beside this file."""
    # Letters as outlines and fixed ids: the picture is the same on every machine and in every run.
    plt.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "dataflow", "font.family": "DejaVu Sans"}
    figure, ax = plt.subplots(figsize=(12, 2.6), layout="constrained")
    draw(ax)
    out = Path(__file__).with_suffix(".svg")
    figure.savefig(out, facecolor="white", metadata={"Date": None})
    print(out)


if __name__ == "__main__":
    main()
