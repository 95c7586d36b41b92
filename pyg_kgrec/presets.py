"""The papers' settings for each data set, as data."""

from __future__ import annotations

import copy
from typing import Any

_KGREC: dict[str, Any] = {
    "hidden_channels": 64,
    "num_layers": 2,
    "num_heads": 2,
    "dropout": 0.1,
    "loss": "bpr",
    "num_negatives": 1,
    "node_dropout_rate": 0.5,
    "mae_coef": 0.1,
    "mae_msize": 256,
    "decay": 1e-5,
    "inverse": True,
    "item_gate": False,
    "hide_targets": False,
}
_KGREC_FIT: dict[str, Any] = {"lr": 1e-4, "batch_size": 1024, "monitor": "recall@20"}

PRESETS: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "KGRec": {
        "last-fm": {"model": _KGREC | {"cl_coef": 0.01, "cl_tau": 1.0, "cl_drop": 0.5}, "fit": _KGREC_FIT},
        "mind": {"model": _KGREC | {"cl_coef": 0.001, "cl_tau": 0.1, "cl_drop": 0.6}, "fit": _KGREC_FIT},
        "alibaba-ifashion": {
            "model": _KGREC | {"cl_coef": 0.001, "cl_tau": 0.2, "cl_drop": 0.5},
            "fit": _KGREC_FIT,
        },
    }
}
"""Model → data set → arguments of the model and of ``fit``.

KGRec: Yang et al., KDD 2023, as set in the authors' code (``mae_msize`` is 512 in the paper's text).
"""


def preset(model: str, dataset: str) -> dict[str, dict[str, Any]]:
    """The paper's settings of a model for a data set.

    Args:
        model: ``'KGRec'``.
        dataset: ``'last-fm'``, ``'mind'`` or ``'alibaba-ifashion'``.

    Returns:
        ``{'model': …, 'fit': …}``, arguments of the model's constructor and of :func:`pyg_kgrec.fit`:
        ``fit(KGRec(train, **p['model']), train, val, **p['fit'])``.

    Raises:
        ValueError: If there is no such preset.
    """
    if model not in PRESETS:
        raise ValueError(f"there are no presets for model {model!r}, expected one of {sorted(PRESETS)}")
    if dataset not in PRESETS[model]:
        raise ValueError(f"{model} has no preset for {dataset!r}, expected one of {sorted(PRESETS[model])}")
    return copy.deepcopy(PRESETS[model][dataset])
