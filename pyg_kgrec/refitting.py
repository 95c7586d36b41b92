"""From a split to production: the model that a split has shown to be good, trained on everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_at_least
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._scheduling import WITH_A_LENGTH, Over
from pyg_kgrec.data.splitting import is_labelled
from pyg_kgrec.data.store import INTERACTS, validate
from pyg_kgrec.models.base import Recommender, check_recommender
from pyg_kgrec.models.blend import Blend
from pyg_kgrec.models.linear import SolvedRecommender
from pyg_kgrec.training import arguments_of_part, check_fit, check_monitor, fit


def refit(
    model: Recommender,
    data: HeteroData,
    history: pd.DataFrame | None = None,
    *,
    max_epochs: int | None = None,
    monitor: str = "ndcg@10",
    seed: int = 0,
    **arguments: Any,
) -> Recommender:
    """A fresh model of the same class and settings, trained on a store without anything held out.

    A model is chosen on a split, whose validation and test pairs it must not learn. What serves people should have
    learned them, too, and there is nothing left to stop by: it is trained for as many epochs as the best one of
    ``history`` took. A model that is solved (:class:`~pyg_kgrec.EASE`) takes the numbers that validation chose, a
    :class:`~pyg_kgrec.Blend` its weights; its parts are refitted one by one, by their histories and with their own
    arguments of ``fit``. A threshold of clicks stays what it was.

    The weights are drawn anew from ``seed``; the generators of the caller stay where they were. Embeddings of a
    knowledge graph that ``model`` was made with (``kg_embedding`` of a :class:`~pyg_kgrec.KSR`) are taken over,
    also by way of a file of the model (older files do not say that they were given: a TransE is
    learned anew then). ``model`` is left as it is.

    Args:
        model: The model that was trained on a split.
        data: The store before the split.
        history: What :func:`pyg_kgrec.fit` returned; the best epoch is the one with the highest ``monitor``. Not
            needed by models that are solved, nor with ``max_epochs``.
        max_epochs: Number of epochs, instead of the one that ``history`` says.
        monitor: The metric that training was stopped by.
        seed: Of the weights and of training.
        arguments: Further arguments of :func:`pyg_kgrec.fit`: those that the model was trained with (``lr``,
            ``batch_size``, …). What ``fit(…, tune=…)`` chose stands in ``history`` and counts where nothing
            else is given; for a part of a blend it counts whatever is given for all parts. ``scheduler='cosine'``
            and ``'linear'`` go over the epochs that the first training was to have
            (``history.attrs['max_epochs']``, or ``max_epochs`` where that is larger or there is no ``history``),
            so that each epoch has the rate that it had there.

    Returns:
        The new model, in evaluation mode.

    Raises:
        TypeError: If ``data`` is no store, ``history`` no DataFrame, or an argument of another type.
        ValueError: If an argument is out of range, a model that learns by gradients is given neither ``history``
            nor ``max_epochs``, a part of a blend has no history (it was fitted before, or the blend is one of a
            file) and there is no ``max_epochs``, the history has no column ``monitor``, ``data`` is a part of a
            split, whose ``edge_label_index`` says what is to be learned or found, or embeddings that were given
            have no row of one of its entities; if ``scheduler`` is ``'plateau'``, which waits for a validation
            store, or is ``'cosine'`` or ``'linear'`` and neither ``history`` nor ``max_epochs`` says over how many
            epochs.
    """
    check_recommender(model)
    validate(data)
    check_at_least(0, seed=seed)
    if "val" in arguments or "resume" in arguments:
        raise ValueError("refit takes neither val nor resume: it trains on everything, from the beginning")
    if "edge_label_index" in data[INTERACTS] and not is_labelled(data):
        raise ValueError(
            "data holds edge_label_index, so it is a part of a split, expected the store before the split, with "
            "all interactions in edge_index"
        )
    _check_lengths(model, history, max_epochs, monitor, {"seed": seed, **arguments})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _refit(model, data, history, max_epochs, monitor, {"seed": seed, **arguments})


_OF_THE_SPLIT = frozenset(
    {
        "max_epochs",
        "monitor",
        "patience",
        "min_epochs",
        "eval_every",
        "checkpoint_dir",
        "resume",
        "tune",
        "n_trials",
    }
)
"""Arguments of :func:`~pyg_kgrec.fit` that say how long a training on a split goes, and where it is kept."""


def _refit(
    model: Recommender,
    data: HeteroData,
    history: pd.DataFrame | None,
    max_epochs: int | None,
    monitor: str,
    arguments: dict[str, Any],
) -> Recommender:
    fresh: Recommender
    if isinstance(model, Blend):
        parts = {}
        for name, part in model.parts.items():
            history, watched, asked = _of_part(model, name, part, monitor, arguments)
            parts[name] = _refit(part, data, history, max_epochs, watched, asked)
        model.check_ready()
        fresh = Blend(parts, weights=model.weights, fit=model.fit_arguments)
    elif isinstance(model, SolvedRecommender):
        model.check_ready()
        chosen = {
            name: int(value) if name == "num_neighbors" else value
            for name, value in model.choice.items()
            if name in model.settings
        }
        fresh = type(model)(data, **model.settings | chosen)
    else:
        fresh = type(model)(data, **model.settings | model._of_graph(data))
        if fresh.learns():
            length = _length(history, max_epochs, monitor)
            arguments = _tuned(history) | arguments | {"max_epochs": length, "monitor": monitor}
            arguments = _as_scheduled(arguments, history)
    fit(fresh, data, **arguments)
    fresh.threshold = model.threshold
    return fresh


def _of_part(
    blend: Blend, name: str, part: Recommender, monitor: str, arguments: dict[str, Any]
) -> tuple[pd.DataFrame | None, str, dict[str, Any]]:
    """History, monitor and arguments of fit by which a part of a blend is refitted."""
    own, history = blend.fit_arguments.get(name, {}), blend.histories.get(name)
    # What tuning chose for a part was chosen over what is given for all of them.
    kept = {key: value for key, value in (*own.items(), *_tuned(history).items()) if key not in _OF_THE_SPLIT}
    return history, own.get("monitor", monitor), arguments_of_part(name, part, arguments, kept)


def best_epoch(history: pd.DataFrame, monitor: str = "ndcg@10") -> int:
    """Number of epochs that gave the highest ``monitor`` in a history of :func:`pyg_kgrec.fit`, at least 1.

    Epochs are told by the column ``epoch``, so that rows may be missing or stand in another order; of several as
    good the first counts. Without the column the rows are the epochs.

    Raises:
        TypeError: If ``history`` is no DataFrame, or ``monitor`` no text.
        ValueError: If the history has no such column, or nothing but NaN in it.
    """
    _check_frame(history)
    if not isinstance(monitor, str):
        raise TypeError(
            f"monitor is {shown(repr(monitor), 60)}, expected the name of a metric, like 'ndcg@10'"
        )
    if monitor not in history or not history[monitor].notna().any():
        named = shown(", ".join(map(str, history.columns)), 150)
        raise ValueError(
            f"history has no values of {shown(repr(monitor), 60)} (it has {named}), expected the history of a "
            "training with val, or another monitor"
        )
    values = history[monitor].to_numpy(dtype=float)
    epochs = history["epoch"].to_numpy(dtype=float) if "epoch" in history else np.arange(values.size)
    return int(np.nanmin(epochs[values == np.nanmax(values)])) + 1


def _check_frame(history: Any) -> None:
    if not isinstance(history, pd.DataFrame):
        raise TypeError(f"history is {kind_of(history)}, expected the DataFrame that fit returned")


def _check_lengths(
    model: Recommender,
    history: pd.DataFrame | None,
    max_epochs: int | None,
    monitor: str,
    arguments: dict[str, Any],
    part: str = "",
) -> None:
    """Raises TypeError or ValueError, before anything is trained, for what fit refuses or a missing length."""
    if history is not None:
        _check_frame(history)
    if isinstance(model, Blend):
        for name, one in model.parts.items():
            own, watched, asked = _of_part(model, name, one, monitor, arguments)
            _check_lengths(one, own, max_epochs, watched, asked, name)
        return
    check_monitor(monitor)
    if model.learns():
        if part and history is None and max_epochs is None:
            raise ValueError(
                f"the part {shown(part, 40)} of the Blend has no history: the Blend did not fit it, or was read "
                "from a file, which keeps none; expected max_epochs"
            )
        _length(history, max_epochs, monitor)
        _check_scheduled(history, max_epochs, arguments)
        arguments = _tuned(history) | arguments
    check_fit({"monitor": monitor, **arguments}, watched=False)


def _tuned(history: pd.DataFrame | None) -> dict[str, Any]:
    """Arguments of :func:`~pyg_kgrec.fit` that its ``tune`` chose."""
    return {} if history is None else dict(history.attrs.get("tune", {}).get("fit", {}))


def _as_scheduled(arguments: dict[str, Any], history: pd.DataFrame | None) -> dict[str, Any]:
    """The arguments of :func:`~pyg_kgrec.fit` with the rates per epoch that the first training had."""
    scheduler, asked = arguments.get("scheduler"), _asked_length(history)
    if not isinstance(scheduler, str) or scheduler not in WITH_A_LENGTH or asked is None:
        return arguments
    # More epochs than the first training was to have are all to have a rate above 0.
    return arguments | {"scheduler": Over(scheduler, max(asked, arguments["max_epochs"]))}


def _asked_length(history: pd.DataFrame | None) -> int | None:
    """The ``max_epochs`` of the training that a history is of; None where it does not say."""
    asked = None if history is None else history.attrs.get("max_epochs")
    if asked is not None:
        check_at_least(1, **{"history.attrs['max_epochs']": asked})
    return asked


def _check_scheduled(history: pd.DataFrame | None, max_epochs: int | None, arguments: dict[str, Any]) -> None:
    """Raises ValueError where the rates per epoch of the first training are not to be found, or waited for val."""
    scheduler = (_tuned(history) | arguments).get("scheduler")
    if isinstance(scheduler, str) and scheduler == "plateau":
        raise ValueError(
            "scheduler is 'plateau', which waits for the metric of a validation store, expected another one or "
            "None: refit trains on everything and watches nothing"
        )
    named = isinstance(scheduler, str) and scheduler in WITH_A_LENGTH
    if named and max_epochs is None and _asked_length(history) is None:
        raise ValueError(
            f"scheduler is {scheduler!r}, but history does not say over how many epochs it went (was it read from "
            "a file?), expected what fit returned, or history.attrs['max_epochs'] set to the max_epochs of fit"
        )


def _length(history: pd.DataFrame | None, max_epochs: int | None, monitor: str) -> int:
    if max_epochs is not None:
        check_at_least(1, max_epochs=max_epochs)
        return max_epochs
    if history is None:
        raise ValueError(
            "neither history nor max_epochs is given, expected what fit returned on the split, or epochs"
        )
    return best_epoch(history, monitor)
