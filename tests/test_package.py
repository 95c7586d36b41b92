from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest

import pyg_kgrec

ROOT = Path(__file__).resolve().parents[1]
_CONTENT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = _CONTENT["project"], _CONTENT["tool"]

PUBLIC = ("data", "datasets", "transforms", "nn", "ops", "models")
EXTRAS = ("captum", "faiss", "matplotlib", "numba", "safetensors", "torch_scatter", "torch_sparse", "triton")


LOWEST = ("fused", "viz", "ann", "hub", "parquet", "tune", "captum", "dev")
TOOLS_OF_DEV = ("httpx2", "import-linter", "mypy", "nbmake", "pandas-stubs", "ruff")
"""What looks at the code, or asks a service, and takes no part in tests without the extra ``serve``."""


def run_python(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_version_stands_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert TOOLS["hatch"]["version"]["path"] == "pyg_kgrec/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", pyg_kgrec.__version__)


def test_version_is_the_installed_one() -> None:
    try:
        installed = metadata.version("pyg-kgrec")
    except metadata.PackageNotFoundError:
        pytest.skip("pyg-kgrec runs from its source tree here, and is not installed")
    assert installed == pyg_kgrec.__version__


def test_ships_its_types() -> None:
    assert Path(pyg_kgrec.__file__).with_name("py.typed").is_file()


def test_citation_is_of_this_version_and_of_the_licence_holder() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    holder = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())
    assert holder is not None
    assert re.search(r'name: "(.+)"', citation)[1] == holder[1]  # type: ignore[index]
    assert f"\nversion: {pyg_kgrec.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


def test_changelog_knows_what_is_unreleased() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_direct_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line and not line.startswith("#")}
    asked = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    names = {requirement.partition(">=")[0].lower() for requirement in asked}
    assert {name for name in names if not name.startswith("pyg-kgrec[")} <= pinned


def test_lowest_versions_are_those_that_are_promised() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    optional = PROJECT["optional-dependencies"]
    promised = [*PROJECT["dependencies"], *(r for name in LOWEST for r in optional[name])]
    least = dict(r.partition(";")[0].strip().split(">=") for r in promised if ">=" in r)
    wanted = {name: version for name, version in least.items() if name in pinned or name not in TOOLS_OF_DEV}

    def parts(version: str) -> list[int]:
        numbers = [int(part) for part in version.split(".")]
        return numbers + [0] * (3 - len(numbers))

    assert {name: parts(version) for name, version in wanted.items()} == {
        name: parts(version) for name, version in pinned.items()
    }


LATER = ("lightning", "matplotlib", "numba", "scipy", "torchmetrics")


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """What a fresh interpreter tells of the way from `import pyg_kgrec` to everything that it has, by line.

    PyG tries some extras by itself, and so does Lightning at the end; between them nobody gets one, and who asks is
    noted.
    """
    code = f"""
import sys
import pandas, torch, torch_geometric

asked = []

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {EXTRAS!r}:
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

there = {{name: it for name, it in sys.modules.items() if name.partition('.')[0] in {EXTRAS!r}}}
for name in there:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())

before = set(sys.modules)
import pyg_kgrec

print(sorted(set(sys.modules) - before))
print([name for name in pyg_kgrec.__all__ if name not in dir(pyg_kgrec)])
from pyg_kgrec.data import validate

print('pyg_kgrec.models' in sys.modules, 'pyg_kgrec.explain' in sys.modules)
from pyg_kgrec import KGRec

parts = {{name.split('.')[1] for name in sys.modules if name.startswith('pyg_kgrec.')}}
print(sorted(part for part in parts if not part.startswith('_')))
import {", ".join(f"pyg_kgrec.{name}" for name in PUBLIC)}

operations = [name.split('.')[2] for name in sys.modules if name.startswith('pyg_kgrec.ops.')]
print('dispatch' in operations, {{'numba', 'scan', 'scatter', 'triton'}} & set(operations))
print(sorted({{name.partition('.')[0] for name in set(sys.modules) - before}} & set({LATER!r})))
print(asked)
del sys.meta_path[0]
sys.modules.update(there)
print(pyg_kgrec.fit.__module__, 'lightning' in sys.modules, pyg_kgrec.fit is pyg_kgrec.training.fit)
print([getattr(pyg_kgrec, name).__name__ for name in ('kge', 'datasets', 'training')])
"""
    return run_python(code).splitlines()


def test_imports_without_extras_and_tries_none(imported: list[str]) -> None:
    assert imported[6] == "[]"


def test_import_brings_nothing_and_a_name_what_it_stands_on(imported: list[str]) -> None:
    """The package alone comes first; a model brings neither what trains and compares nor what serves.

    Beyond what PyG imports by itself, which scipy and pandas are, the package's own modules alone come; no kernel
    does before one is asked for.
    """
    assert imported[:6] + imported[7:] == [
        "['pyg_kgrec']",
        "[]",
        "False False",
        "['data', 'explain', 'kge', 'models', 'nn', 'ops', 'transforms']",
        "True set()",
        "[]",
        "pyg_kgrec.training True True",
        "['pyg_kgrec.kge', 'pyg_kgrec.datasets', 'pyg_kgrec.training']",
    ]


@pytest.mark.parametrize("module", ["pyg_kgrec", "pyg_kgrec.kge"])
def test_every_public_name_is_there_when_it_is_asked_for(module: str) -> None:
    found = import_module(module)
    for name in found.__all__:
        assert getattr(found, name) is not None
        assert name in dir(found)
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'fitt'"):
        getattr(found, "fitt")  # noqa: B009
