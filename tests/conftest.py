"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with local copies of the real data sets; tests that need one skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("PYG_KGREC_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no local data sets at {root}; point PYG_KGREC_DATA at a folder that holds ml-100k/")
    return root
