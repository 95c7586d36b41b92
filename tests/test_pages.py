from __future__ import annotations

import re
from pathlib import Path

import pytest

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
