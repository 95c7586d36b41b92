"""Options that the examples share, under the names that the command `pyg-kgrec` has."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pyg_kgrec.cli.settings import read_settings


class Options(argparse.ArgumentParser):
    """A parser with --seed, --quiet and --json, and with what else an example asks for.

    Args:
        text: Docstring of the example; its first line is shown by --help.
        data: Whether it reads a data set from files: --root and --source.
        knowledge: The graph of MovieLens 100K that is taken by default; None has no --knowledge.
        seeds: Number of seeds by default; None has one seed only.
        epochs: Most epochs by default; None has no --max-epochs.
        settings: Whether models and `fit` take further arguments: --set and --fit.
        out: What --out is for; None has none.
        folder: What --out is by default.
    """

    def __init__(
        self,
        text: str | None,
        *,
        data: bool = False,
        knowledge: str | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        settings: bool = False,
        out: str | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(description=(text or "").splitlines()[0])
        add = self.add_argument
        if data:
            add("--root", type=Path, help="folder that the data set lives in or is put into")
            add("--source", help="local folder or base URL to take its files from")
        if knowledge is not None:
            add(
                "--knowledge",
                choices=["freebase", "dbpedia"],
                default=knowledge,
                help="graph of MovieLens 100K",
            )
        add("--seed", type=int, default=0, help="the first seed (default: 0)")
        if seeds is not None:
            add(
                "--seeds", type=int, nargs="+", default=[seeds], metavar="N",
                help=f"one number: how many, from --seed on; several: these (default: {seeds})",
            )  # fmt: skip
        if epochs is not None:
            add("--max-epochs", type=int, default=epochs, help=f"default: {epochs}")
        if settings:
            words = "as NAME=VALUE, or one JSON object"
            add("--set", nargs="*", default=[], metavar="NAME=VALUE", help=f"arguments of the model, {words}")
            add("--fit", nargs="*", default=[], metavar="NAME=VALUE", help=f"arguments of fit, {words}")
        if out is not None:
            add("--out", type=Path, default=folder, help=out)
        add("--quiet", action="store_true", help="no progress bar")
        add("--json", action="store_true", help="print figures alone, as JSON")

    def read(self) -> Any:
        """What was given: `seeds` as a list, `set` and `fit` as dictionaries, `progress` for `fit`."""
        found = self.parse_args()
        if found.seed < 0:
            self.error(f"--seed is {found.seed}, expected 0 or more")
        if hasattr(found, "seeds"):
            if len(found.seeds) == 1:
                if found.seeds[0] < 1:
                    self.error(
                        f"--seeds is {found.seeds[0]}, expected how many (1 or more), or several seeds"
                    )
                found.seeds = list(range(found.seed, found.seed + found.seeds[0]))
            elif min(found.seeds) < 0 or len(set(found.seeds)) < len(found.seeds):
                self.error(f"--seeds are {found.seeds}, expected different ones of 0 or more")
        for name in ("set", "fit"):
            if hasattr(found, name):
                setattr(found, name, self._settings(name, getattr(found, name)))
        found.progress = not found.quiet and not found.json and sys.stderr.isatty()
        return found

    def _settings(self, name: str, words: list[str]) -> dict[str, Any]:
        try:
            if len(words) == 1 and words[0].startswith("{"):
                return dict(json.loads(words[0]))
            return read_settings(None, "", words, ())
        except ValueError as error:
            self.error(f"--{name}: {error}")


def told(options: Any, *lines: Any) -> None:
    """Prints what is there for people only."""
    if not options.json:
        print(*lines, sep="\n", flush=True)


def row(values: dict[str, Any], name: str = "") -> None:
    """Prints figures as a line of JSON."""
    plain = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
    print(*filter(None, (name, json.dumps(plain, ensure_ascii=False, default=str))), flush=True)
