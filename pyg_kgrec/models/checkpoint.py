"""Files of models: tensors, numbers and strings, written whole and read without running anything."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch_geometric.data import HeteroData

from pyg_kgrec._files import save_whole
from pyg_kgrec.models.signature import StoreSignature

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

FORMAT = 2
Model = TypeVar("Model", bound="Recommender")


def save(model: Recommender, path: Path) -> None:
    """Writes weights, settings and the signature of the training store to a file.

    Raises:
        FileNotFoundError: If the folder is missing.
    """
    content = {
        "pyg_kgrec": FORMAT,
        "model": type(model).__name__,
        "settings": model.settings,
        "signature": model.signature.state(),
        "state_dict": model.state_dict(),
    }
    save_whole(content, path)


def load(cls: type[Model], path: Path, data: HeteroData | None) -> Model:
    """Reads a model that :func:`save` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds another model, or does not fit ``data``.
    """
    content = _read(path)
    if content["model"] != cls.__name__:
        raise ValueError(f"{path} holds a {content['model']}, expected a {cls.__name__}")
    signature = StoreSignature.from_state(content["signature"])
    if data is not None:
        signature.check(data)
    model = cls(signature, **content["settings"])
    model.load_state_dict(content["state_dict"])
    return model.eval()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(broken)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of this package: it cannot be read") from error
    parts = {"model", "settings", "signature", "state_dict"}
    if not isinstance(content, dict) or content.get("pyg_kgrec") != FORMAT or not parts <= content.keys():
        raise ValueError(f"{path} is no checkpoint of this package, or of another version of its format")
    return content
