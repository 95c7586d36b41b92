"""Folders of models: weights as safetensors, the rest as JSON, and a card that people read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_finite
from pyg_kgrec._extras import require
from pyg_kgrec._files import check_folder, kind_of, read_folder, read_json, replace_file, shown, write_folder
from pyg_kgrec.models import checkpoint

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.safetensors"
_STORE: Final = "store.json"
_CARD: Final = "README.md"
_KIND: Final = "model"
_WRITTEN: Final = "<!-- Written by save_pretrained, which replaces this page as long as this line stands. -->"
_PLAIN: Final = (bool, int, float, str)


def save(
    model: Recommender,
    folder: Path,
    model_name: str | None,
    dataset_name: str | None,
    metrics: Mapping[str, float] | None,
) -> None:
    """Writes a model and its card to a folder; see :meth:`pyg_kgrec.Recommender.save_pretrained`."""
    safetensors = require("safetensors.torch", "hub", "save_pretrained")
    check_finite(threshold=model.threshold)
    for name, text in (("model_name", model_name), ("dataset_name", dataset_name)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} is {kind_of(text)}, expected a string")
    results = _results(metrics)
    check_folder(folder, _CONFIG, _KIND, (_WEIGHTS, _STORE))
    tensors: dict[str, Tensor] = {}
    stores: list[dict[str, Any]] = []
    config = _config(checkpoint.content_of(model), tensors, stores, "")
    config |= {"model_name": model_name, "dataset_name": dataset_name, "metrics": results}
    card = _card(model, folder, model_name, dataset_name, results)
    files = {
        _WEIGHTS: safetensors.save(tensors, metadata={"format": "pt"}),
        _STORE: json.dumps(stores, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    }
    write_folder(folder, _CONFIG, _KIND, config, files)
    path = folder / _CARD
    if not path.exists() or _WRITTEN.encode() in path.read_bytes():
        replace_file(path, card.encode("utf-8", "replace"))


def load(
    cls: type[Recommender], folder: Path, data: HeteroData | None, root: type[Recommender]
) -> Recommender:
    """Reads a model that :func:`save` wrote; ``root`` itself reads one of any class.

    Raises:
        FileNotFoundError: If there is no such folder, or a file in it is missing.
        ValueError: If a file is damaged, the folder holds another model, or it does not fit ``data``.
    """
    safetensors = require("safetensors.torch", "hub", "from_pretrained")
    config, files = read_folder(folder, _CONFIG, _KIND)
    if {_WEIGHTS, _STORE} - files.keys():
        raise ValueError(f"{shown(folder / _CONFIG)} does not speak of {_WEIGHTS} and {_STORE}")
    stores = read_json(files[_STORE], folder / _STORE)
    try:
        tensors: dict[str, Tensor] = safetensors.load(files[_WEIGHTS])
    except Exception as error:  # the library has errors of its own; the file is at fault in any case
        raise ValueError(f"{shown(folder / _WEIGHTS)} is damaged: it is no file of safetensors") from error
    try:
        content = _content(config, tensors, iter(stores), "")
        if tensors:
            raise ValueError(f"it has the tensor {shown(min(tensors))}, which belongs to nothing")
    except (TypeError, LookupError, AttributeError, ValueError, RecursionError, StopIteration) as error:
        raise ValueError(
            f"{shown(folder)} is no folder of a {shown(cls.__name__, 40)}: {shown(str(error), 150)}"
        ) from error
    if cls is root:
        return checkpoint.read_any(content, folder, data, root)
    return checkpoint.read(cls, content, folder, data, root)


def _config(
    content: dict[str, Any], tensors: dict[str, Tensor], stores: list[dict[str, Any]], prefix: str
) -> dict[str, Any]:
    """What JSON can say of a model; its tensors and what it remembers of its store go to the other files."""
    settings = {name: _plain(content["model"], name, value) for name, value in content["settings"].items()}
    for name, weight in content["state_dict"].items():
        tensors[prefix + name] = _dense(weight)
    store = {}
    for name, value in content["signature"].items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}signature.{name}"] = _dense(value)
        else:
            store[name] = value
    stores.append(store)
    config = {"model": content["model"], "settings": settings, "threshold": content["threshold"]}
    if "parts" in content:
        config["parts"] = {  # by number in the names of tensors: a part's name may hold anything
            name: _config(part, tensors, stores, f"{prefix}parts.{number}.")
            for number, (name, part) in enumerate(content["parts"].items())
        }
    return config


def _content(config: Any, tensors: dict[str, Tensor], stores: Any, prefix: str) -> dict[str, Any]:
    """The inverse of :func:`_config`, which takes the tensors that it speaks of out of ``tensors``."""
    own, signature = {}, dict(next(stores))
    inner = f"{prefix}parts."
    for full in [name for name in tensors if name.startswith(prefix) and not name.startswith(inner)]:
        name = full.removeprefix(prefix)
        if name.startswith("signature."):
            key = name.removeprefix("signature.")
            if key in signature:
                raise ValueError(f"its store says {shown(key)} twice")
            signature[key] = tensors.pop(full).clone()
        else:
            own[name] = tensors.pop(full)
    for name in ("link", "trained", "popularity"):
        signature.setdefault(name)
    content = {name: config[name] for name in ("model", "settings", "threshold")}
    content |= {"signature": signature, "state_dict": own}
    if "parts" in config:
        content["parts"] = {
            name: _content(part, tensors, stores, f"{inner}{number}.")
            for number, (name, part) in enumerate(config["parts"].items())
        }
    return content


def _dense(tensor: Tensor) -> Tensor:
    """A tensor of its own memory on the CPU."""
    if tensor.layout != torch.strided:
        raise TypeError("a weight of the model is sparse, expected dense ones for safetensors")
    return tensor.detach().cpu().contiguous().clone()


def _plain(model: str, name: str, value: Any) -> Any:
    """A setting as JSON has it."""
    values = value if type(value) in (list, tuple) else [value]
    if not all(x is None or type(x) in _PLAIN for x in values):
        raise TypeError(
            f"the setting {shown(name, 40)} of {shown(model, 40)} is {kind_of(value)}, expected "
            "numbers, strings or None"
        )
    return list(value) if type(value) is tuple else value


def _results(metrics: Mapping[str, float] | None) -> dict[str, float]:
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics is {kind_of(metrics)}, expected what evaluate returns")
    out = {}
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"metrics has the key {shown(repr(name), 60)}, expected names of metrics")
        check_finite(**{f"metrics[{shown(name, 40)!r}]": value})
        out[name] = float(value)
    return out


# ---------------------------------------------------------------------- the card


def _card(
    model: Recommender,
    folder: Path,
    model_name: str | None,
    dataset_name: str | None,
    metrics: Mapping[str, float],
) -> str:
    """The card, as Markdown: what the model learned from, with which settings, and how good it was."""
    kind, signature = type(model).__name__, model.signature
    title = _line(model_name or kind)
    lines = ["---", "library_name: pyg_kgrec", "tags:", "- recommender-systems", "- graph-machine-learning"]
    if dataset_name is not None:
        lines += ["datasets:", f"- {json.dumps(_line(dataset_name), ensure_ascii=False)}"]
    lines += ["---", "", _WRITTEN, "", f"# {_cell(title)}", ""]
    learned = f" of {_cell(dataset_name)}" if dataset_name is not None else ""
    lines += [f"A `{kind}` recommender, trained on the interactions{learned}.", ""]
    sizes = [(f"{name}s" if name != "entity" else "entities", n) for name, n in signature.num_nodes.items()]
    if signature.popularity is not None:
        sizes.insert(2, ("interactions", int(signature.popularity.sum())))
    sizes.append(("relations", len(signature.relation_name)))
    lines += ["## Training data", "", *_table("", "number", [(name, f"{n:,}") for name, n in sizes if n])]
    settings = [(f"`{name}`", f"`{value!r}`") for name, value in model.settings.items()]
    if settings:
        lines += ["## Settings", "", *_table("setting", "value", settings)]
    for name, part in model.parts.items():
        inner = [(f"`{key}`", f"`{value!r}`") for key, value in part.settings.items()]
        lines += [f"## Part {_cell(name)}: `{type(part).__name__}`", ""]
        lines += _table("setting", "value", inner) if inner else []
    if metrics:
        rows = [(name, f"{value:.4f}") for name, value in metrics.items()]
        lines += ["## Results", "", *_table("metric", "value", rows)]
    lines += ["## Use", "", "```python", f"from pyg_kgrec import {_importable(kind)}", ""]
    lines += [f"model = {_importable(kind)}.from_pretrained({str(folder.name)!r})  # the folder of this page"]
    lines += ["model.recommend(data, users, k=10)  # data: the store to predict on", "```", ""]
    return "\n".join(lines)


def _importable(kind: str) -> str:
    """The name to import: of a class that is not the package's own, the one that reads every class."""
    import pyg_kgrec

    return kind if kind in pyg_kgrec.__all__ else "Recommender"


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {left} | {right} |", "| --- | ---: |", *(f"| {_cell(a)} | {_cell(b)} |" for a, b in rows), ""]


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    """A text that stays within its cell or line."""
    return _line(text).replace("|", "\\|").replace("<", "&lt;")
