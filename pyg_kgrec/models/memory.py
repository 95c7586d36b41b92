"""Whether there is memory for a dense matrix, asked before any of it is taken."""

from __future__ import annotations

from pathlib import Path

import torch

from pyg_kgrec._checks import check_factor

GIB = 2**30
_UNKNOWN = 16 * GIB  # where the system does not say


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return _UNKNOWN
    return min([free, *_limits()])


def _limits() -> list[int]:
    """What control groups leave to this process, where there are some."""
    found = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            folder = Path("/sys/fs/cgroup")
            found.append(int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return [max(0, left) for left in found]


def check_memory(
    what: str, num_items: int, need: int, device: torch.device, max_memory: float | None, instead: str
) -> None:
    """Raises ValueError where a matrix over all items would not fit.

    Args:
        what: Name of the model.
        num_items: Size of the catalogue.
        need: Bytes that it takes.
        device: Where.
        max_memory: GiB that it may take; None for all that is free.
        instead: What to do about it.
    """
    if max_memory is not None:
        check_factor(max_memory=max_memory)
    most = free_memory(device) if max_memory is None else int(max_memory * GIB)
    if need > most:
        said = "is free" if max_memory is None else "is allowed (max_memory)"
        raise ValueError(
            f"{what} on {num_items} items needs {_gib(need)} GiB for its matrices of items × items, "
            f"{_gib(most)} GiB {said}: {instead}"
        )


def _gib(number: int) -> str:
    """Bytes in GiB, with a digit that is not 0."""
    return f"{number / GIB:.1f}" if number >= GIB or not number else f"{number / GIB:.2g}"
