"""What a run of the benchmarks measured, as Markdown tables and pictures of what grows with the size.

    make bench                                   # runs everything, then this
    python benchmarks/report.py out/bench.json --picture out/bench.png

The figures are medians of one run on one machine; only those of the same table are to be compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd


def read(path: Path) -> tuple[pd.DataFrame, str]:
    """One row a measurement, and the machine in words.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not what ``pytest --benchmark-json`` writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; make bench writes it")
    try:
        content = json.loads(path.read_text())
        rows = [_row(entry) for entry in content["benchmarks"]]
        info = content["machine_info"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what pytest --benchmark-json writes") from error
    cpu = info.get("cpu", {})
    return pd.DataFrame(rows), f"{cpu.get('brand_raw') or info['machine']}, Python {info['python_version']}"


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    extra = entry["extra_info"]
    return {
        "group": entry["group"],
        "form": extra.get("form", entry["name"]),
        "median_ms": entry["stats"]["median"] * 1e3,
        "floor_ms": extra.get("floor_ms"),
        "peak_mib": extra.get("peak_mib"),
        "triples": extra.get("triples"),
        "steps": extra.get("steps"),
        "relations": extra.get("relations"),
        "growth": extra.get("growth", False),
        "threads": extra.get("threads"),
        "device": extra.get("device"),
    }


def markdown(table: pd.DataFrame) -> str:
    """A table a group: median, times the fastest, times the floor, peak memory."""
    parts = []
    for group, rows in table.groupby("group", sort=False):
        rows = rows.sort_values("median_ms")
        lines = [
            f"### {group}",
            "",
            "| form | median ms | × fastest | × floor | peak MiB |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        fastest = float(rows["median_ms"].iloc[0])
        for row in rows.to_dict("records"):
            median, floor, peak = row["median_ms"], row["floor_ms"], row["peak_mib"]
            cells = [
                row["form"],
                f"{median:.2f}",
                f"{median / fastest:.1f}",
                "–" if pd.isna(floor) or floor <= 0 else f"{median / floor:.1f}",
                "–" if pd.isna(peak) else f"{peak:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """The measurements of the attention on uniform graphs."""
    of_attention = table["group"].str.startswith("relational_attention")
    return table[of_attention & table["group"].str.contains("uniform")]


def draw_memory(chosen: pd.DataFrame, path: Path) -> None:
    """Draws time and peak of the relations' memory over steps and over relations, and writes the picture whole."""
    from matplotlib.figure import Figure

    usual = {key: chosen[key].mode().iloc[0] for key in ("steps", "relations")}
    figure = Figure(figsize=(8, 6), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (key, other) in enumerate((("steps", "relations"), ("relations", "steps"))):
        for axes, what in zip(grid[:, column], ("median_ms", "peak_mib")):
            for form, rows in chosen[chosen[other] == usual[other]].groupby("form", sort=False):
                rows = rows.sort_values(key)
                axes.plot(rows[key], rows[what], marker="o", label=form)
            axes.set(xscale="log", yscale="log")
        ticks = sorted(int(value) for value in chosen.loc[chosen[other] == usual[other], key].unique())
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(f"{key} ({usual[other]:.0f} {other})")
    grid[0, 0].set_ylabel("forward + backward, ms (median)")
    grid[1, 0].set_ylabel("peak, MiB")
    grid[0, 0].legend(frameon=False)
    figure.suptitle(f"relational memory, {chosen['device'].iloc[0]}, {chosen['threads'].iloc[0]} threads")
    _save(figure, path)


def draw(chosen: pd.DataFrame, path: Path) -> None:
    """Draws :func:`growth` as time over the number of triples, a line a form, and writes the picture whole."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for form, rows in chosen.groupby("form", sort=False):
        rows = rows.sort_values("triples")
        axes.plot(rows["triples"], rows["median_ms"], marker="o", label=form)
    floor = chosen.drop_duplicates("triples").sort_values("triples")
    axes.plot(floor["triples"], floor["floor_ms"], color="grey", linestyle=":", label="floor")
    axes.set(xscale="log", yscale="log", xlabel="triples", ylabel="forward + backward, ms (median)")
    axes.set_title(f"relational attention, {floor['device'].iloc[0]}, {floor['threads'].iloc[0]} threads")
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary, dpi=150)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what pytest --benchmark-json wrote")
    parser.add_argument("--picture", type=Path, help="where to write the picture")
    args = parser.parse_args()
    table, machine = read(args.json)
    print(f"Machine: {machine}\n\n{markdown(table)}")
    if args.picture and len(growth(table)):
        draw(growth(table), args.picture)
        print(f"\nPicture: {args.picture}")
    of_memory = table[table["growth"]]
    if args.picture and len(of_memory):
        second = args.picture.with_stem(f"{args.picture.stem}-memory")
        draw_memory(of_memory, second)
        print(f"\nPicture: {second}")


if __name__ == "__main__":
    main()
