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
    "distill": 0.0,
}
_KGREC_FIT: dict[str, Any] = {"lr": 1e-4, "batch_size": 1024, "monitor": "recall@20"}

_MKR: dict[str, Any] = {
    "num_kge_layers": 1,
    "head": "dot",
    "unit": "cross_compress",
    "activation": "relu",
    "layer_lr": 1.0,
    "loss": "bce",
    "partners": "sample",
    "knowledge_loss": "paper",
    "knowledge_form": "paper",
    "decay": 1e-6,
}


def _mkr(num_layers: int, hidden_channels: int, interval: int, ratio: float) -> dict[str, dict[str, Any]]:
    sizes = {"num_layers": num_layers, "hidden_channels": hidden_channels}
    task = {"knowledge_interval": interval, "knowledge_lr": ratio}
    return {"model": _MKR | sizes | task, "fit": {"monitor": "auc"}}


PRESETS: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "KGRec": {
        "last-fm": {"model": _KGREC | {"cl_coef": 0.01, "cl_tau": 1.0, "cl_drop": 0.5}, "fit": _KGREC_FIT},
        "mind": {"model": _KGREC | {"cl_coef": 0.001, "cl_tau": 0.1, "cl_drop": 0.6}, "fit": _KGREC_FIT},
        "alibaba-ifashion": {
            "model": _KGREC | {"cl_coef": 0.001, "cl_tau": 0.2, "cl_drop": 0.5},
            "fit": _KGREC_FIT,
        },
    },
    "MKR": {
        "movielens-1m": _mkr(1, 8, 3, 0.5),
        "book-crossing": _mkr(1, 8, 2, 0.1),
        "last-fm": _mkr(2, 4, 2, 0.1),
        "bing-news": _mkr(3, 16, 5, 0.2),
    },
    "KTUP": {
        "dbbook2014": {
            "model": {
                "hidden_channels": 100,
                "induction": "soft",
                "norm": "l1",
                "loss": "bpr",
                "num_negatives": 1,
                "score_scale": 1.0,
                "joint": "alternate",
                "joint_ratio": 0.7,
                "margin": 1.0,
                "align_weight": 1.0,
                "item_norm": float("inf"),
                "transfer": "both",
                "entity_weight": 1.0,
                "knowledge_epochs": 0,
                "triple_lr": 1.0,
            },
            "fit": {"lr": 1e-3, "batch_size": 400, "monitor": "ndcg@10"},
        },
    },
}
"""Model → data set → arguments of the model and of ``fit``.

KGRec: Yang et al., KDD 2023, as set in the authors' code (``mae_msize`` is 512 in the paper's text). MKR: Wang
et al., WWW 2019, table 1 and section 4; the paper gives no learning rates. KTUP: Cao et al., WWW 2019, as set in
the authors' ``ktup.sh``, which starts from a trained TUP and TransH (see :meth:`pyg_kgrec.KTUP.start_from`).
"""


def preset(model: str, dataset: str) -> dict[str, dict[str, Any]]:
    """The paper's settings of a model for a data set.

    Args:
        model: ``'KGRec'``, ``'MKR'`` or ``'KTUP'``.
        dataset: ``'last-fm'``, ``'mind'`` or ``'alibaba-ifashion'`` for KGRec; ``'movielens-1m'``,
            ``'book-crossing'``, ``'last-fm'`` or ``'bing-news'`` for MKR; ``'dbbook2014'`` for KTUP.

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
