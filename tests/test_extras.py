from __future__ import annotations

import math
import os.path
import re
from pathlib import Path

import pytest

from pyg_kgrec._extras import require


def test_returns_the_module() -> None:
    assert require("math", "viz", "A test") is math


def test_returns_the_submodule() -> None:
    assert require("os.path", "viz", "A test") is os.path


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_missing_package_names_the_extra(module: str) -> None:
    with pytest.raises(ImportError) as caught:
        require(module, "viz", "The picture")
    assert str(caught.value) == (
        'The picture needs no_such_package, which is not installed: pip install "pyg-kgrec[viz]" brings it.'
    )
    assert caught.value.name == "no_such_package"


def test_compiled_kernels_are_built_against_the_installed_torch() -> None:
    with pytest.raises(ImportError, match=re.escape('pip install --no-build-isolation "pyg-kgrec[kernels]"')):
        require("no_such_package", "kernels", "The backend 'scatter'")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise OSError('undefined symbol: _ZN2at')", "undefined symbol: _ZN2at"),
        ("import no_such_dependency", "No module named 'no_such_dependency'"),
        ("from math import no_such_name", "cannot import name 'no_such_name'"),
    ],
)
def test_broken_package_is_not_called_missing(
    source: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="installed copy fails to import") as caught:
        require("broken_package", "kernels", "A test")
    assert cause in str(caught.value)
    assert "not installed" not in str(caught.value)
    assert isinstance(caught.value.__cause__, (ImportError, OSError))
