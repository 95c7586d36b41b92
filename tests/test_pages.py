from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest

import pyg_kgrec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SKIPPED = re.compile(r"<!--\s*skip: (\w+)(.*?)-->")


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    """`make test-docs` runs all others."""
    found = [match for page in PAGES for match in SKIPPED.findall(page.read_text())]
    assert [action for action, _ in found] == ["next"] * len(found)
    assert all(re.fullmatch(r' "[^"]{20,}" ', reason) for _, reason in found)
    assert len(found) <= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_of_python_hides_from_being_run(page: Path) -> None:
    """Sybil takes blocks by the word after the fence: `py` or `Python` would be passed over."""
    fences = re.findall(r"^\s*```(\S+)", page.read_text(), re.MULTILINE)
    assert {fence for fence in fences if fence.lower().startswith("py")} <= {"python"}


def test_every_public_module_has_its_page_of_the_reference() -> None:
    """`make docs` then finds each of its names on it, or fails."""
    package = ROOT / "pyg_kgrec"
    modules = {
        path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    public = {name for name in modules if not name.startswith("_")} - {"cli"}  # docs/command.md
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.rst"))
    assert {f"pyg_kgrec.{name}" for name in public} == set(re.findall(r"automodule:: (\S+)", pages))


MODELS = {kind.lower(): kind for kind in pyg_kgrec.models.__all__ if kind not in ("Recommender", "load")}
ONE_EACH = sorted(
    path for path in (ROOT / "docs" / "models").glob("*.md") if path.stem not in ("linear", "baselines")
)


def test_every_model_has_a_page() -> None:
    assert {path.stem for path in ONE_EACH} == set(MODELS)


@pytest.mark.parametrize("page", ONE_EACH, ids=lambda page: page.stem)
def test_settings_on_a_page_are_those_of_the_model(page: Path) -> None:
    """Each row names arguments of the constructor, beside their defaults."""
    section = page.read_text().partition("## Settings\n")[2].partition("\n## ")[0]
    model = getattr(pyg_kgrec, MODELS[page.stem])
    taken = {
        name: argument.default for name, argument in inspect.signature(model.__init__).parameters.items()
    }
    rows = re.findall(r"^\| (`.*?`) \| (`.*?`) \|", section, re.MULTILINE)
    found = [(n, d) for names, defaults in rows for n, d in zip(names.split(", "), defaults.split(", "))]
    assert found or page.stem == "popularity"
    for name, default in found:
        assert name.strip("`") in taken
        assert default.strip("`") == {"1e-05": "1e-5"}.get(text := repr(taken[name.strip("`")]), text)


def test_pictures_of_models_are_those_that_their_script_draws() -> None:
    pictures = ROOT / "docs" / "pictures"
    made = runpy.run_path(str(pictures / "models.py"))
    assert {page.stem for page in ONE_EACH} == set(made["DRAWINGS"])
    for name, drawing in made["DRAWINGS"].items():
        assert (pictures / f"model-{name}.svg").read_text() == made["svg"](name, drawing)
    for page in ONE_EACH:
        assert f"../pictures/model-{page.stem}.svg)" in page.read_text()
