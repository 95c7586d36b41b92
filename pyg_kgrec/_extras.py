"""Optional dependencies: asked for in one place, one sentence where they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# torch-scatter and torch-sparse import torch while they build, so pip must not build them in isolation.
_PIP_FLAGS = {"kernels": "--no-build-isolation "}


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra of this package brings it.

    Args:
        module: Name of the module, dotted or not, as in ``"matplotlib.pyplot"``.
        extra: Extra of this package that installs it, as in ``"viz"``.
        purpose: What needs it, as the first words of the sentence: ``"Explanation.plot"``.

    Returns:
        The imported module.

    Raises:
        ImportError: The module is not installed, or is installed and does not import.
    """
    package = module.partition(".")[0]
    command = f'pip install {_PIP_FLAGS.get(extra, "")}"pyg-kgrec[{extra}]"'
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ImportError(_broken(package, purpose, command, error), name=package) from error
        message = f"{purpose} needs {package}, which is not installed: {command} brings it."
        raise ImportError(message, name=package) from None
    except (ImportError, OSError) as error:  # OSError: a compiled library built for another torch
        raise ImportError(_broken(package, purpose, command, error), name=package) from error


def _broken(package: str, purpose: str, command: str, error: Exception) -> str:
    """The sentence for a module that is there and fails to import."""
    repair = command.replace("install ", "install --force-reinstall --no-deps ", 1)
    return f"{purpose} needs {package}, whose installed copy fails to import ({error}): {repair} may mend it."
