"""Files of models: tensors, numbers and strings, written whole and read without running anything."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_finite
from pyg_kgrec._files import kind_of, pack, read_packed, replace_file, shown
from pyg_kgrec.data.store import ENTITY, ITEM, NODE_TYPES, USER
from pyg_kgrec.models.signature import StoreSignature

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

Model = TypeVar("Model", bound="Recommender")

_PARTS: Final = {"model", "settings", "signature", "state_dict"}
_FURTHER: Final = {"threshold"}  # which files of before lack
_MOST_NODES: Final = 2**24  # of a type, where the file holds neither their ids nor as many numbers


def save(model: Recommender, path: Path) -> None:
    """Writes weights, settings, threshold and the signature of the training store to a file.

    Raises:
        TypeError: If the threshold is no number.
        ValueError: If the threshold is NaN or infinite.
        FileNotFoundError: If the folder is missing.
        OSError: If the file cannot be written; a full disk says so.
    """
    check_finite(threshold=model.threshold)
    replace_file(path, pack(content_of(model), "model"))


def load_any(path: Path, data: HeteroData | None, root: type[Recommender]) -> Recommender:
    """Reads a model that :func:`save` wrote, of whatever subclass of ``root`` the file names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`load`, or if the file names a class that was not imported.
    """
    return read_any(read_packed(path, "model"), path, data, root)


def read_any(
    content: dict[str, Any], path: Path, data: HeteroData | None, root: type[Recommender]
) -> Recommender:
    """As :func:`read`, of whatever subclass of ``root`` the content names."""
    name = content.get("model")
    kind = _find_kind(name, root) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(
            f"{shown(path)} holds a {shown(str(name), 60)}, which is no model of this package and none that was "
            "imported, expected an import of its class before"
        )
    return read(kind, content, path, data, root)


def load(cls: type[Model], path: Path, data: HeteroData | None, root: type[Recommender]) -> Model:
    """Reads a model that :func:`save` wrote, in evaluation mode; its parts are subclasses of ``root``.

    What the file says of sizes is held against its own tensors before a model of those sizes is made.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds another model or what no model has, or does not fit ``data``.
    """
    return read(cls, read_packed(path, "model"), path, data, root)


def _one(name: str) -> str:
    """A class's name with its article."""
    return f"{'an' if name[:1] in tuple('AEIOU') else 'a'} {shown(name)}"


def read(
    cls: type[Model], content: dict[str, Any], path: Path, data: HeteroData | None, root: type[Recommender]
) -> Model:
    """The model that the content of a file or a folder describes; errors as :func:`load`."""
    try:
        signature = _checked(content, cls, root)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is no file of a {cls.__name__}: {shown(str(error), 200)}") from error
    if content["model"] != cls.__name__:
        found, expected = map(_one, (content["model"], cls.__name__))
        raise ValueError(f"{shown(path)} holds {found}, expected {expected}")
    if data is not None:
        signature.check(data)
    try:
        return _built(cls, signature, content, root)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{shown(path)} is no file of a {cls.__name__}: {shown(str(error), 200)}") from error


def content_of(model: Recommender) -> dict[str, Any]:
    """What a file says of a model: plain things only."""
    own = {
        "model": type(model).__name__,
        "settings": model._kept_settings(),
        "signature": model.signature.state(),
        "state_dict": model.state_dict(),
        "threshold": float(model.threshold),
    }
    if not model.parts:
        return own
    theirs = {id(module) for part in model.parts.values() for module in part.modules()}
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if id(module) in theirs)
    own["state_dict"] = {name: x for name, x in model.state_dict().items() if not name.startswith(prefixes)}
    return own | {"parts": {name: content_of(part) for name, part in model.parts.items()}}


def _built(
    cls: type[Model], signature: StoreSignature, content: dict[str, Any], root: type[Recommender]
) -> Model:
    """The model that a checked file describes."""
    if "parts" not in content:
        _check_shapes(cls, signature, content)
        model = cls(signature, **content["settings"])
        model.load_state_dict(content["state_dict"])
        model.check_state()
        model.threshold = content.get("threshold", 0.0)
        return model.eval()
    parts: dict[str, Recommender] = {}
    for name, part in content["parts"].items():
        kind = _kind(part["model"], root)
        parts[name] = _built(kind, _checked(part, kind, root), part, root)
    model = cls.from_parts(parts, content["settings"])
    model.signature = signature
    expected, found = content_of(model)["state_dict"], content["state_dict"]
    if expected.keys() != found.keys() or any(expected[n].shape != found[n].shape for n in expected):
        raise ValueError(f"its own tensors are not {', '.join(expected)} of as many numbers as it has parts")
    _check_kinds(expected, found)
    model.load_state_dict(found, strict=False)
    model.check_state()
    model.threshold = content.get("threshold", 0.0)
    return model.eval()


def _kind(name: str, root: type[Recommender]) -> type[Recommender]:
    """The recommender of this name, among those that are known to the interpreter: a file brings none along."""
    if kind := _find_kind(name, root):
        return kind
    raise ValueError(f"one of its parts is a {shown(name)}, which is no model that was imported")


def _find_kind(name: str, root: type[Recommender]) -> type[Recommender] | None:
    """The recommender of this name: the package's own, or else the one that was defined last."""
    todo = [root]
    own: list[type[Recommender]] = []
    others: list[type[Recommender]] = []
    while todo:
        kind = todo.pop()
        if kind.__name__ == name and not inspect.isabstract(kind):
            (own if kind.__module__.partition(".")[0] == __name__.partition(".")[0] else others).append(kind)
        todo += kind.__subclasses__()
    return (own + others)[0] if own or others else None


def _checked(content: dict[str, Any], cls: type[Recommender], root: type[Recommender]) -> StoreSignature:
    """The signature in a file whose parts are of the right kinds."""
    if (content.keys() - {"parts"}) | _FURTHER != _PARTS | _FURTHER:
        raise ValueError(f"its parts are not {', '.join(sorted(_PARTS))}")
    if "parts" in content:
        inner = content["parts"]
        if (
            not isinstance(inner, dict)
            or not inner
            or not all(isinstance(part, dict) for part in inner.values())
        ):
            raise TypeError("its parts are of another kind")
        for part in inner.values():
            _checked(part, _kind(str(part.get("model")), root), root)
    settings, state = content["settings"], content["state_dict"]
    if not isinstance(content["model"], str) or not isinstance(settings, dict) or not isinstance(state, dict):
        raise TypeError("its parts are of another kind")
    threshold = content.get("threshold", 0.0)
    if type(threshold) is not float or not math.isfinite(threshold):
        raise TypeError("its threshold is no finite number")
    for name, value in settings.items():
        values = value if type(value) in (list, tuple) else [value]
        if not all(x is None or type(x) in (bool, int, float, str) for x in values):
            raise TypeError(f"{shown(str(name))} is {kind_of(value)}, expected numbers, strings or None")
    if not all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in state.items()):
        raise TypeError("its state_dict holds something else than tensors")
    if content["model"] == cls.__name__:
        takes = inspect.signature(cls.__init__).parameters
        takes_any = any(
            x.kind is x.VAR_KEYWORD for x in takes.values()
        )  # and says itself what it does not know
        known = list(settings) if takes_any else list(takes)[2:]
        if unknown := sorted(str(name) for name in settings if name not in known):
            raise ValueError(
                f"it has the settings of another version of this model, {shown(unknown[0])!r} for one"
            )
    return _signature(content["signature"], sum(weight.numel() for weight in state.values()))


def _signature(state: Any, most: int) -> StoreSignature:
    signature = StoreSignature.from_state(state)
    for name, parts in (("num_nodes", signature.num_nodes), ("in_channels", signature.in_channels)):
        if not isinstance(parts, dict) or set(parts) != set(NODE_TYPES):
            raise TypeError(f"its {name} are not by node type")
        for number in parts.values():
            if type(number) is not int or number < 0:
                raise TypeError(f"its {name} are not whole numbers")
    if not isinstance(signature.ids, dict) or set(signature.ids) != set(NODE_TYPES):
        raise TypeError("its ids are not by node type")
    for node_type, ids in signature.ids.items():
        number = signature.num_nodes[node_type]
        if ids is not None:
            _check_labels(f"ids of {node_type}s", ids, number, (str, int))
            if len({type(raw) for raw in ids}) > 1 or len(set(ids)) < number:
                raise ValueError(f"its ids of {node_type}s are of two types, or one stands there twice")
        elif number > max(_MOST_NODES, most):
            raise ValueError(f"it has {number} {node_type} nodes, more than it can speak of")
    names = signature.relation_name
    _check_labels("relations", names, len(names) if isinstance(names, list) else 0, (str,))
    if signature.item_name is not None:
        _check_labels("names of items", signature.item_name, signature.num_nodes[ITEM], (str,))
    _check_column("trained users", signature.trained, torch.bool, signature.num_nodes[USER])
    _check_column("popularity", signature.popularity, torch.long, signature.num_nodes[ITEM])
    prior = signature.row_prior
    if prior is not None and not (
        isinstance(prior, Tensor)
        and prior.is_floating_point()
        and prior.dim() == 2
        and prior.size(0) == 2
        and bool(prior.isfinite().all())
    ):
        raise TypeError("its mean and deviation of users' rows are no two rows of finite numbers")
    link = signature.link
    if link is not None:
        if not isinstance(link, Tensor) or link.dtype != torch.long or link.dim() != 2 or link.size(0) != 2:
            raise TypeError("its links are no pairs of items and entities")
        for row, node_type in zip(link, (ITEM, ENTITY)):
            if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < signature.num_nodes[node_type]:
                raise ValueError(f"its links point outside its {node_type} nodes")
    return signature


def _check_labels(what: str, labels: Any, number: int, kinds: tuple[type, ...]) -> None:
    if (
        not isinstance(labels, list)
        or len(labels) != number
        or not all(type(label) in kinds for label in labels)
    ):
        raise TypeError(f"its {what} are not {number} {' or '.join(kind.__name__ for kind in kinds)}")


def _check_column(what: str, column: Any, dtype: torch.dtype, number: int) -> None:
    if column is None:
        return
    if not isinstance(column, Tensor) or column.dtype != dtype or column.shape != (number,):
        raise TypeError(f"its {what} are no tensor of {number} {dtype}")


def _check_shapes(cls: type[Recommender], signature: StoreSignature, content: dict[str, Any]) -> None:
    """Raises ValueError unless the file has a tensor of the right shape for each of the model's."""
    _ = signature.entity_node  # what a constructor reads numbers from is not made without memory
    try:
        with torch.device("meta"):
            planned = cls(signature, **content["settings"]).state_dict()
    except (RuntimeError, NotImplementedError) as error:
        if "meta" in str(error):  # a model of somebody else's, whose constructor reads what it made
            return
        raise
    state = content["state_dict"]
    if planned.keys() != state.keys():
        name = min(planned.keys() ^ state.keys())
        raise ValueError(f"it {'lacks' if name in planned else 'has'} the tensor {shown(name)}")
    _check_kinds(planned, state)
    for name, weight in planned.items():
        if weight.shape != state[name].shape:
            raise ValueError(
                f"{name} has the shape {list(state[name].shape)}, expected {list(weight.shape)} by its settings"
            )


def _check_kinds(planned: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Raises TypeError where a file has numbers of another kind: what is copied into integers may be anything."""
    for name, weight in planned.items():
        dtype = state[name].dtype
        if dtype != weight.dtype and not (dtype.is_floating_point and weight.is_floating_point()):
            found, expected = (str(kind).removeprefix("torch.") for kind in (dtype, weight.dtype))
            raise TypeError(f"{name} is {found}, expected {expected}")
