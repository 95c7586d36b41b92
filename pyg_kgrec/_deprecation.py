"""Names that have changed: how long the former ones work, and how that is said."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

FORMER: Final[dict[str, str]] = {}
"""What still works under a former name, with the version that no longer has it."""


def warn_renamed(former: str, now: str, gone: str, stacklevel: int = 2) -> None:
    """Warns that something has another name now.

    A ``DeprecationWarning``, which those see who wrote the line that uses the name; a ``FutureWarning``, which
    everybody sees, once the next minor version is the one without it.

    Args:
        former: The former name, as one writes it.
        now: What to write instead.
        gone: Version that no longer has the former name, like ``'0.4'``.
        stacklevel: As that of :func:`warnings.warn`, counted from the caller.
    """
    warnings.warn(f"{former} is {now} now, and gone in {gone}", category(gone), stacklevel + 1)


def category(gone: str) -> type[Warning]:
    """Which warning a version that has the name until ``gone`` gives."""
    major, minor = numbers(import_module("pyg_kgrec").__version__)
    return FutureWarning if numbers(gone) <= (major, minor + 1) else DeprecationWarning


def numbers(version: str) -> tuple[int, int]:
    """Major and minor number of a version."""
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def renamed_arguments(gone: str, **names: str) -> Callable[[_Function], _Function]:
    """Lets a function take keyword arguments by their former names, with a warning.

    Args:
        gone: Version that no longer takes them.
        names: By former name, the name of now.

    Raises:
        TypeError: When the function is called with an argument under both names.
    """

    def decorate(function: _Function) -> _Function:
        where = function.__qualname__.rpartition("<locals>.")[2]
        FORMER.update({f"{where}({former}=)": gone for former in names})

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for former in names.keys() & kwargs.keys():
                now = names[former]
                if now in kwargs:
                    raise TypeError(f"{where} got {now} and {former}, its former name, expected one of both")
                warn_renamed(f"{where}({former}=)", f"{now}=", gone)
                kwargs[now] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def moved(module: str, gone: str, **names: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that names have left.

    Args:
        module: Name of the module.
        gone: Version in which it no longer knows them.
        names: By name, the module that has it now.
    """
    FORMER.update({f"{module}.{name}": gone for name in names})

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(names[name]), name)
        warn_renamed(f"{module}.{name}", f"{names[name]}.{name}", gone)
        setattr(sys.modules[module], name, value)  # so that it is said once
        return value

    return find
