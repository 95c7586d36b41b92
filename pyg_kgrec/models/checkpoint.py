"""Files of models: tensors, numbers and strings, written whole and read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch_geometric.data import HeteroData

from pyg_kgrec._files import pack, read_packed, replace_file, shown
from pyg_kgrec.models.signature import StoreSignature

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

Model = TypeVar("Model", bound="Recommender")


def save(model: Recommender, path: Path) -> None:
    """Writes weights, settings and the signature of the training store to a file.

    Raises:
        FileNotFoundError: If the folder is missing.
    """
    content = {
        "model": type(model).__name__,
        "settings": model.settings,
        "signature": model.signature.state(),
        "state_dict": model.state_dict(),
    }
    replace_file(path, pack(content, "model"))


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
    content = read_packed(path, "model")
    if content.keys() != {"model", "settings", "signature", "state_dict"}:
        raise ValueError(
            f"{shown(path)} is no checkpoint of a model of this package: other parts stand in it"
        )
    return content
