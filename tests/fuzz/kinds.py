"""The models whose files and entrances are tried."""

from __future__ import annotations

from typing import Any, Final

from torch_geometric.data import HeteroData

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    Blend,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    RP3beta,
    fit,
)
from pyg_kgrec.testing import Splits

_LEARNED: Final = (BPRMF, LightGCN, KGRec, MKR, KTUP, KSR)
KINDS: Final = (BPRMF, LightGCN, Popularity, KGRec, MKR, KTUP, KSR, EASE, ItemKNN, RP3beta, ALS, Blend)


def made(kind: type[Recommender], data: HeteroData, **settings: Any) -> Recommender:
    """A small model of a store, as its constructor leaves it."""
    if kind is Blend:
        return Blend([EASE(data), Popularity(data)])
    return kind(data, hidden_channels=4, **settings) if kind in _LEARNED else kind(data)


def build(kind: type[Recommender], splits: Splits, **settings: Any) -> Recommender:
    """A small model; one that is solved rather than learned has its weights."""
    model = made(kind, splits[0], **settings)
    if kind not in (*_LEARNED, Popularity):
        fit(model, *splits[:2], progress=False)
    return model
