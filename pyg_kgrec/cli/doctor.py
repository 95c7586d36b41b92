"""What is installed, which backend each operation takes and why, and what may slow training down."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any, Final

import torch

from pyg_kgrec import __version__, ops

_PACKAGES: Final = (
    "torch", "torch-geometric", "lightning", "torchmetrics", "numpy", "pandas", "scipy",
    "numba", "triton", "torch-scatter", "torch-sparse", "matplotlib", "faiss-cpu", "optuna",
    "pyarrow", "safetensors", "fastapi", "uvicorn",
)  # fmt: skip


def examine() -> dict[str, Any]:
    """Versions, devices, threads, the load of the machine, and the backend of each operation by device."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    devices = ["cpu"] + (["cuda"] if gpus else [])
    return {
        "pyg_kgrec": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "gpus": gpus,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": round(load, 2),
        "operations": {
            device: {
                name: {"backend": choice.backend, "reason": choice.reason}
                for name, choice in ops.report(device).items()
            }
            for device in devices
        },
        "warnings": _warnings(cores, load, torch.get_num_threads(), versions),
    }


def _warnings(cores: int, load: float, threads: int, versions: dict[str, str | None]) -> list[str]:
    found = []
    if load >= 0.7:  # this process has only just begun
        found.append(
            f"other processes share the {cores} cores (load {load:.2f}): small operations on several threads then "
            "wait for each other much longer than they work; set OMP_NUM_THREADS=1 or wait"
        )
    if threads > cores:
        found.append(f"PyTorch has {threads} threads on {cores} cores, expected no more threads than cores")
    if versions["numba"] is None:
        found.append("numba is not installed (extra fused): operations run in plain PyTorch on the CPU")
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    out = [f"pyg_kgrec {found['pyg_kgrec']}, Python {found['python']}"]
    out += [f"  {name:<16} {version or 'not installed'}" for name, version in found["packages"].items()]
    out.append(f"GPU: {', '.join(found['gpus']) or 'none'}")
    out.append(f"{found['cores']} cores, {found['threads']} threads, load {found['load']}")
    for device, choices in found["operations"].items():
        out.append(f"operations on {device}:")
        out += [f"  {name:<21} {choice['backend']:<8} {choice['reason']}" for name, choice in choices.items()]
    return out + [f"warning: {text}" for text in found["warnings"]]
