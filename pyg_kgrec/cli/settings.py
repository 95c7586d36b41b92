"""Settings of a command: a TOML file, and ``name=value`` on the command line, under the names that Python has."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from pyg_kgrec._checks import meant
from pyg_kgrec._files import shown


def read_settings(
    config: str | None, table: str, pairs: Iterable[str], tables: Collection[str]
) -> dict[str, Any]:
    """What a table of a TOML file says, and after it what the command line says.

    A table within it, ``[fit.KGRec]``, holds settings of a model: ``lr`` there is ``KGRec.lr``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TOML, has an unknown table, or a word is not ``name=value``.
    """
    found: dict[str, Any] = {}
    if config is not None:
        path = Path(config)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {shown(path)}")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{shown(path)} is no TOML: {shown(str(error), 150)}") from error
        for name, value in content.items():
            if name not in tables or not isinstance(value, dict):
                raise ValueError(
                    f"{shown(path)} has the key {shown(repr(name), 60)}, expected the tables "
                    f"{', '.join(f'[{t}]' for t in tables)}{meant(name, tables)}"
                )
        for name, value in content.get(table, {}).items():
            found |= (
                {f"{name}.{n}": v for n, v in value.items()} if isinstance(value, dict) else {name: value}
            )
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{shown(repr(pair), 80)} is no setting, expected name=value, like lr=0.001")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """A value as TOML writes it; what is none is a string, and ``none`` is None."""
    if text.lower() == "none":
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_names(settings: Iterable[str], known: Iterable[str], whose: str) -> None:
    """Raises ValueError for a setting that nothing takes, with the nearest one that something does."""
    known = list(dict.fromkeys(known))
    for name in settings:
        if name not in known:
            hint = meant(name, known) or f", expected one of {shown(', '.join(known), 200)}"
            raise ValueError(f"{whose} has no setting {shown(repr(name), 60)}{hint}")


def names_of(function: Callable[..., Any], without: Collection[str] = ()) -> list[str]:
    """Names of the arguments of a function or constructor that a setting may have."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.name not in ("self", *without)]


def one_of(name: str, known: Iterable[str], what: str) -> str:
    """The name itself; raises ValueError where it is none of those that are known."""
    known = list(known)
    if name not in known:
        raise ValueError(
            f"there is no {what} {shown(repr(name), 60)}, expected {', '.join(known)}{meant(name, known)}"
        )
    return name
