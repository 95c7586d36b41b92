"""What a run found out, as JSON and Markdown, written anew after every row: a run cut off leaves its rows."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu.plan import Clock

Row = dict[str, Any]

OK, OUT_OF_MEMORY, NO_TIME = "ok", "out of memory", "no time left"
TITLES = {
    "correctness": "Kernels against PyTorch in float64, relative error",
    "bits": "Two runs, compared bit by bit",
    "models": "Every model, an epoch trained on the device, compared with the CPU",
    "attention": "Attention, forward and backward",
    "compiled": "The best composition under torch.compile",
    "large": "Attention, forward and backward, at the largest size",
    "half": "Attention, forward and backward, bfloat16",
    "step": "A training step of KGRec on MovieLens 100K's sizes, made data",
    "tests": "Tests of the operations",
}
COMPOSITIONS = ("torch", "pyg", "scatter")
GOALS = {"composition": 4.0, "compiled": 2.0, "bandwidth": 0.5}
"""Times the best composition, times torch.compile of it, fraction of the copy bandwidth on unique bytes."""


class Journal:
    """The rows of a run, by part.

    Args:
        folder: Where the files go; it is made if it is missing.
        name: Their name without ending.
        clock: The run's.
        resume: Go on from what the files hold.
    """

    def __init__(self, folder: Path, name: str, clock: Clock, resume: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.json, self.markdown, self.clock = folder / f"{name}.json", folder / f"{name}.md", clock
        self.machine: Row = {}
        self.begun: list[str] = []
        self.parts: dict[str, list[Row]] = {}
        if resume and self.json.is_file():
            content = json.loads(self.json.read_text())
            self.machine, self.begun, self.parts = content["machine"], content["begun"], content["parts"]
        self.started = time.time()

    @property
    def failed(self) -> list[Row]:
        """Rows that are not as they should be; what had no room or no time is none of them."""
        fine = (OK, OUT_OF_MEMORY, NO_TIME)
        return [row for rows in self.parts.values() for row in rows if row["status"] not in fine]

    def describe(self, **machine: Any) -> None:
        """Note what the run runs on."""
        self.machine |= machine
        self.write()

    def begin(self, part: str) -> None:
        """Note that a part begins, before it can take the process with it."""
        self.begun.append(part)
        self.write()

    def add(self, part: str, row: Row, status: str = OK) -> None:
        """Add a row and write everything."""
        self.parts.setdefault(part, []).append({**row, "status": status})
        print(f"[{self.clock.left():5.0f} s left] {part}: {_line(self.parts[part][-1])}", flush=True)
        self.write()

    def attempt(self, part: str, key: Row, run: Callable[[], Row], needs: float = 0.0) -> bool:
        """Add the row that a call returns, or why there is none.

        Args:
            part: The row belongs to.
            key: What the row is about.
            run: Returns the rest of the row; its ``status``, if it has one, is the row's.
            needs: Seconds that it takes; it is not called where fewer are left.

        Returns:
            Whether the row is as it should be.
        """
        if self.clock.left() < needs:
            self.add(part, key, NO_TIME)
            return False
        try:
            row = run()
            status = row.pop("status", OK)
        except Exception as error:
            row, status = {}, failure(error)
        if status == OUT_OF_MEMORY:
            release()
        self.add(part, {**key, **row}, status)
        return status == OK

    def write(self) -> None:
        """Write both files, whole."""
        content = {"machine": self.machine, "begun": self.begun, "parts": self.parts, "goals": self.goals()}
        _replace(self.json, json.dumps(content, indent=1))
        _replace(self.markdown, self.report())

    def _measured(self, part: str) -> list[Row]:
        """Rows of a part that hold a figure."""
        return [row for row in self.parts.get(part, []) if row["status"] == OK]

    def goals(self) -> list[Row]:
        """What was aimed at beside what was measured, for each graph that has a figure of ours."""
        found = []
        measured = [*self._measured("attention"), *self._measured("large")]
        compiled = self._measured("compiled")
        for own in measured:
            if own["form"] != "triton":
                continue
            rivals = [r for r in measured if r["size"] == own["size"] and r["form"] in COMPOSITIONS]
            best = min((r["ms"] for r in rivals), default=None)
            of_compiled = min((r["ms"] for r in compiled if r["size"] == own["size"]), default=None)
            reached = {
                "composition": None if best is None else best / own["ms"],
                "compiled": None if of_compiled is None else of_compiled / own["ms"],
                "bandwidth": own.get("of_copy_unique"),
            }
            met = {
                f"{name} met": None if value is None else value >= GOALS[name]
                for name, value in reached.items()
            }
            found.append({"size": own["size"], **reached, **met})
        return found

    def report(self) -> str:
        """Everything as Markdown."""
        lines = ["# Kernels on a GPU", ""]
        if self.machine.get("rehearsal"):
            lines += ["**A rehearsal at toy sizes on a CPU: no figure here says anything about a GPU.**", ""]
        lines += [f"- {key}: {value}" for key, value in self.machine.items()]
        lines += ["", f"{len(self.failed)} rows failed.", ""]
        if goals := self.goals():
            aims = (
                f"Aimed at: ≥ {GOALS['composition']:g} × the best composition, ≥ {GOALS['compiled']:g} × "
                f"torch.compile of it, ≥ {GOALS['bandwidth']:.0%} of the copy bandwidth on unique bytes."
            )
            lines += ["## Goals", "", aims, "", *_table(goals), ""]
        for part, title in TITLES.items():
            if rows := self.parts.get(part):
                lines += [f"## {title}", "", *_table(rows), ""]
        return "\n".join(lines)


def release() -> None:
    """Give back what a call that failed held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def failure(error: Exception) -> str:
    """The status of a row that an exception ended."""
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
        return OUT_OF_MEMORY
    first = next(iter(str(error).strip().splitlines()), "")
    return f"failed: {type(error).__name__}: {first[:200]}"


def is_fatal(row: Row) -> bool:
    """Whether a row says that the process can use its GPU no more."""
    words = (
        "illegal memory access",
        "misaligned address",
        "device-side assert",
        "unspecified launch failure",
    )
    return any(word in row["status"] for word in words)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/").replace("\n", " ")


def _line(row: Row) -> str:
    return ", ".join(f"{key} {_cell(value)}" for key, value in row.items())


def _table(rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "status"))
    if any("status" in row for row in rows):
        columns.append("status")
    numbers = {c for c in columns if any(isinstance(row.get(c), (int, float)) for row in rows)}
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    marks = ["---:" if column in numbers else "---" for column in columns]
    return [f"| {' | '.join(line)} |" for line in ([c.replace("_", " ") for c in columns], marks, *cells)]
