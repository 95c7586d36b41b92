"""The Triton kernels without a GPU: in Triton's interpreter, and through its compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyg_kgrec.ops import dispatch

HERE = Path(__file__).parent
# What the interpreter takes longest for, and what the other tests of these kernels come close to.
SLOW = "gradcheck or opcheck or sizes_at_the_edge or only_what_asks or either_result or strided"


def _python(*args: str, interpret: str) -> subprocess.CompletedProcess[str]:
    """Run Python anew: Triton reads TRITON_INTERPRET when it is imported, which may have happened here."""
    environment = os.environ | {"TRITON_INTERPRET": interpret, "PYG_KGREC_BACKEND": "auto"}
    root = HERE.parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(root), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *args], env=environment, cwd=root, text=True, capture_output=True, check=False
    )


@pytest.mark.skipif(
    not dispatch.installed("triton"), reason="backend triton needs a package that is not installed"
)
@pytest.mark.skipif(dispatch.interpreting(), reason="this process interprets the kernels itself")
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the kernels run there")
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(f"not ({SLOW})", id="numbers"),
        pytest.param(SLOW, id="checks", marks=pytest.mark.slow),
    ],
)
def test_kernels_in_the_interpreter(which: str) -> None:
    names = ("attention", "aggregate", "dropout", "memory", "operator")
    files = [str(HERE / f"test_{name}.py") for name in names]
    chosen = f"(triton or half) and ({which})"
    result = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files, interpret="1")
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout


@pytest.mark.skipif(
    not dispatch.installed("triton"), reason="backend triton needs a package that is not installed"
)
def test_what_a_warp_works_on() -> None:
    """Four edges at least where rows are wide, and no limit that numbers of 64 bits would not fit in."""
    from pyg_kgrec.ops.triton.segments import sizes_of

    def chosen(channels: int, dtype: torch.dtype = torch.float32) -> tuple[int, int | None]:
        sizes = sizes_of(torch.empty(0, channels, dtype=dtype), 2, 8, 256, (64, 96))
        return sizes["BLOCK"], sizes.get("maxnreg")

    assert [chosen(width) for width in (6, 32, 64, 128, 256, 1024)] == [
        (8, 64), (8, 64), (4, 64), (4, 96), (4, None), (1, None),
    ]  # fmt: skip
    assert chosen(64, torch.float64) == (4, None)
    assert chosen(64, torch.bfloat16) == (4, 64)


@pytest.mark.slow
@pytest.mark.skipif(
    not dispatch.installed("triton"), reason="backend triton needs a package that is not installed"
)
@pytest.mark.parametrize("table", ["*fp32", "*bf16", "*fp64"])
def test_kernels_compile_for_a_gpu(table: str) -> None:
    """Triton's compiler needs no GPU to translate the kernels for one."""
    result = _python(str(HERE / "compile_kernels.py"), table, interpret="0")
    assert result.returncode == 0, result.stderr[-4000:]
    assert len(result.stdout.split()) == 14, result.stdout
