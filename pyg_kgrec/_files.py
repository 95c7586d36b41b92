"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save_whole(content: Any, path: Path) -> None:
    """``torch.save`` under a temporary name in the same folder, then renamed.

    Raises:
        FileNotFoundError: If the folder is missing.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder to save {path.name} in")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
