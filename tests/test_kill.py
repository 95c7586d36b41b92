"""The short form of ``make kill``: two trainings that are killed and go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow  # make kill tries more
def test_a_killed_training_goes_on_to_the_last_bit() -> None:
    command = [sys.executable, str(ROOT / "tests" / "kill" / "run.py")]
    command += ["--kills", "2", "--epochs", "3", "--models", "MKR", "KTUP"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, env=environment, text=True, capture_output=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 of 2 killed trainings end with the bits of the undisturbed one" in result.stdout
