"""The command line: what is asked, done, and answered with an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pyg_kgrec._files import shown
from pyg_kgrec.cli import commands
from pyg_kgrec.cli.reading import DATASETS, SPLITS

_WRONG: Final = 2
_STOPPED: Final = 130


class _Parser(argparse.ArgumentParser):
    """A parser that answers bad input in one sentence."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {shown(message, 300)} (--help shows what there is)", file=sys.stderr)
        sys.exit(_WRONG)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Its words; by default those of the process.

    Returns:
        0; 2 for bad input, which one sentence on the standard error names; 130 after Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as ended:  # after --help, or bad words
        return int(ended.code or 0)
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            arguments.run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has read enough; nothing more is flushed at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print("pyg-kgrec: stopped", file=sys.stderr)
            return _STOPPED
        except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
            print(f"pyg-kgrec {arguments.command}: {shown(_sentence(error), 400)}", file=sys.stderr)
            return _WRONG
        except Exception as error:
            if not _is_of_input(error):
                raise
            print(f"pyg-kgrec {arguments.command}: {shown(_sentence(error), 400)}", file=sys.stderr)
            return _WRONG
    return 0


def _is_of_input(error: Exception) -> bool:
    """Whether an exception of other packages says that settings ask for what this machine has not."""
    kind = type(error).__name__
    return kind in ("MisconfigurationException", "OutOfMemoryError") or (
        isinstance(error, RuntimeError) and "memory" in str(error)
    )


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and len(error.args) == 2:
        return str(error.args[1])
    return str(error) or type(error).__name__


def _warn(
    message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {shown(str(message), 400)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pyg-kgrec", description="Knowledge-aware recommendation: from files to recommendations."
    )
    some = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    doctor = some.add_parser("doctor", help="what is installed, which backend each operation takes, and why")
    doctor.set_defaults(run=commands.doctor)

    data = some.add_parser("data", help="read files, split them, keep the stores in a folder")
    data.add_argument("--interactions", metavar="FILE", help="CSV or TSV: user_id, item_id, rating, time, …")
    for name in ("triples", "links", "items", "users", "entities"):
        data.add_argument(f"--{name}", metavar="FILE", help="a table, as from_pandas takes it")
    data.add_argument("--atomic", metavar="FOLDER/NAME", help="RecBole's atomic files FOLDER/NAME.inter, …")
    data.add_argument("--kgat", metavar="FOLDER", help="train.txt, test.txt, kg_final.txt")
    data.add_argument("--dataset", metavar="NAME", help=", ".join(DATASETS))
    data.add_argument("--split", help=f"{', '.join(SPLITS)} (default: random)")
    data.add_argument("--out", required=True, metavar="FOLDER", help="folder that the stores are kept in")
    data.add_argument("--seed", type=int, default=0, help="of what is drawn for the split (default: 0)")
    data.set_defaults(run=commands.data)

    fit = some.add_parser("fit", help="train a model on the stores of a folder")
    fit.add_argument("folder")
    fit.add_argument("model", help=f"{', '.join(commands.MODELS)}, or a blend like KGRec+EASE")
    fit.add_argument("--out", metavar="FILE", help="the model's file (default: FOLDER/model.pt)")
    fit.add_argument("--seed", type=int, default=0, help="of weights and training (default: 0)")
    fit.add_argument("--refit", metavar="FILE", help="train it again on everything, for this file")
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=commands.fit)

    evaluate = some.add_parser("evaluate", help="rank the whole catalogue for every user of a part")
    recommend = some.add_parser("recommend", help="a table of recommendations")
    explain = some.add_parser("explain", help="why users get items")
    export = some.add_parser("export", help="files for a service of your own, or a folder for a hub")
    for command in (evaluate, recommend, explain, export):
        command.add_argument("folder")
        command.add_argument("--model", metavar="FILE", help="the model's file (default: FOLDER/model.pt)")
        part = "all" if command is export else "test"
        command.add_argument("--part", default=part, help=f"train, val, test or all (default: {part})")
        if command is not export:
            command.add_argument("--out", metavar="FILE", help="a file .csv, .json or .parquet")
    evaluate.set_defaults(run=commands.evaluate)
    recommend.add_argument("--users", nargs="+", metavar="ID", help="raw ids (default: everyone)")
    recommend.add_argument("--items", nargs="+", metavar="ID", help="candidates (default: the catalogue)")
    recommend.add_argument("-k", type=int, metavar="K", help="how many items per user (default: 10)")
    recommend.add_argument("--exclude", metavar="FILE", help="a table of pairs: user, item")
    recommend.set_defaults(run=commands.recommend)
    explain.add_argument("--users", "--user", nargs="+", required=True, metavar="ID", help="raw ids")
    explain.add_argument(
        "--items", "--item", nargs="+", metavar="ID", help="each for each user (default: the user's best)"
    )
    explain.add_argument(
        "-k", type=int, metavar="K", help="how many of each user's best (1); length of the list for "
        "--counterfactual and --without (10)",
    )  # fmt: skip
    explain.add_argument(
        "--counterfactual", action="store_true", help="without what an item would not be among the k best"
    )
    explain.add_argument(
        "--without", nargs="*", type=int, metavar="UNIT", help="the list of one user without some units of one "
        "item, by their numbers; with no number, the units with theirs",
    )  # fmt: skip
    explain.set_defaults(run=commands.explain)
    export.add_argument("--out", required=True, metavar="FOLDER", help="folder that is written")
    export.add_argument("--hub", action="store_true", help="a folder for a hub of models, not for a service")
    export.add_argument(
        "--metrics", metavar="FILE", help="for its card: what `evaluate --out FILE.json` wrote"
    )
    export.set_defaults(run=commands.export)

    compare = some.add_parser("compare", help="train models alike, over seeds, and test their differences")
    compare.add_argument("folder")
    compare.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="or blends: KGRec+EASE")
    compare.add_argument("--out", metavar="FILE", help="a file .csv, .json or .parquet with a row per run")
    compare.add_argument("--quiet", action="store_true", help="no progress bar")
    compare.set_defaults(run=commands.compare)

    serve = some.add_parser("serve", help="recommendations, reasons and a page over HTTP")
    serve.add_argument(
        "folder", metavar="FOLDER", help="folder of stores, or the model's file before its store"
    )
    serve.add_argument("store", nargs="?", metavar="STORE", help="the store's file, after a model's")
    serve.add_argument("--model", metavar="FILE", help="the model's file (default: FOLDER/model.pt)")
    serve.add_argument("--part", help="train, val, test or all (default: all, or test where there is no all)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    serve.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default: 8000)")
    serve.add_argument(
        "--api-key-file", metavar="FILE", help="holds the key (default: PYG_KGREC_API_KEY, or none)"
    )
    serve.set_defaults(run=commands.serve)

    for name, command in some.choices.items():
        command.add_argument("--json", action="store_true", help="print JSON")
        if name not in ("doctor", "explain"):
            command.add_argument(
                "--config", metavar="FILE", help=f"a TOML file; its table [{name}] holds settings"
            )
            command.add_argument(
                "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
                help="settings, under the names that they have in Python",
            )  # fmt: skip
    return parser
