"""Three DataFrames of a split in, the three stores of it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data.frames import ROLES, LabelColumn, Table, Unknown, all_alike, build_store, read_tables
from pyg_kgrec.data.splitting import TRAIN, apply_split
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.data.text import quoted

_PARTS = ("train", "val", "test")


def split_frames(
    train: pd.DataFrame,
    val: pd.DataFrame,
    test: pd.DataFrame,
    triples: pd.DataFrame | None = None,
    links: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
    users: pd.DataFrame | None = None,
    entities: pd.DataFrame | None = None,
    *,
    user_col: str | None = None,
    item_col: str | None = None,
    entity_col: str | None = None,
    rating_col: str | None = None,
    label_col: LabelColumn = None,
    time_col: str | None = None,
    head_col: str | None = None,
    relation_col: str | None = None,
    tail_col: str | None = None,
    user_name: str | None = None,
    item_name: str | None = None,
    entity_name: str | None = None,
    user_features: Sequence[str] = (),
    item_features: Sequence[str] = (),
    entity_features: Sequence[str] = (),
    min_rating: float | None = None,
    unknown: Unknown = "raise",
) -> tuple[HeteroData, HeteroData, HeteroData]:
    """Builds the three stores of a split of your own from DataFrames.

    All three hold the same nodes, in the order of the rows of ``train``, ``val`` and ``test`` where no frame lists
    them: a user or an item that only ``test`` has is a node too, and a stranger to what is trained
    (:func:`~pyg_kgrec.check_split` counts them). The other arguments, what is kept of repeated rows, labels and
    warnings are those of :func:`~pyg_kgrec.data.from_pandas`, the form of the stores is that of
    :func:`~pyg_kgrec.transforms.apply_split`.

    Args:
        train: One row per interaction to learn from: user, item, and optionally rating and time.
        val: Those to choose by, with the same columns; it may be without rows.
        test: Those to be found in the end, likewise.
        triples: One row per triple: head, relation, tail.
        links: One row per link: item, entity.
        items: One row per item: its id, and optionally its name and features.
        users: One row per user, likewise.
        entities: One row per entity, likewise.
        user_col: Column of user ids.
        item_col: Column of item ids.
        entity_col: Column of entity ids.
        rating_col: Column of ratings.
        label_col: Column of labels; :obj:`False` says that no column holds labels.
        time_col: Column of times.
        head_col: Column of head entities.
        relation_col: Column of relations.
        tail_col: Column of tail entities.
        user_name: Column of readable names in ``users``.
        item_name: Column of readable names in ``items``.
        entity_name: Column of readable names in ``entities``.
        user_features: Numeric columns of ``users`` that become ``x``.
        item_features: Numeric columns of ``items`` that become ``x``.
        entity_features: Numeric columns of ``entities`` that become ``x``.
        min_rating: The lowest rating that counts as an interaction.
        unknown: What happens to rows with unknown ids.

    Returns:
        The stores ``(train, val, test)``, on the CPU.

    Raises:
        TypeError: As :func:`~pyg_kgrec.data.from_pandas`; if ids are ``str`` in one frame and ``int`` in another.
        ValueError: As :func:`~pyg_kgrec.data.from_pandas`; if a pair of user and item stands in two frames; if one
            has ratings, times or labels in a column that another lacks; or if nothing is left to train on.
    """
    columns = [
        user_col,
        item_col,
        entity_col,
        rating_col,
        label_col,
        time_col,
        head_col,
        relation_col,
        tail_col,
    ]
    tables = read_tables(
        dict(zip(_PARTS, (train, val, test), strict=True)),
        {"triples": triples, "links": links, "items": items, "users": users, "entities": entities},
        dict(zip(ROLES, columns, strict=True)),
        {"users": user_name, "items": item_name, "entities": entity_name},
        {"users": user_features, "items": item_features, "entities": entity_features},
    )
    parts = [tables.pop(name) for name in _PARTS]
    for part in parts:
        part.check_distinct(all_alike(part, min_rating))  # joined, a column stands there once
    whole = _joined(parts)
    _check_apart(whole, parts)
    data, rows = build_store({"interactions": whole, **tables}, min_rating, unknown)
    split = np.repeat(np.arange(3), [len(part.frame) for part in parts])[rows]
    if not (split == TRAIN).any():
        raise ValueError(
            "train: no row is left that counts, expected at least one interaction to learn from."
        )
    return apply_split(data, torch.from_numpy(split))


def _joined(parts: Sequence[Table]) -> Table:
    """The rows of all parts in one table, each column read from its own part so that messages name it."""
    frames: list[pd.DataFrame] = []
    kinds: dict[str, Any] = {}
    for part in parts:
        found = {role: part.find(role) for role in ("rating", "time")}
        first = kinds.setdefault("columns", found)
        for role, column in found.items():
            if column != first[role]:
                there, here = (quoted(c) if c is not None else "none" for c in (first[role], column))
                raise ValueError(
                    f"{part.label}: the column of each {role} is {here}, while that of {parts[0].label} is "
                    f"{there}, expected the same columns in all three frames."
                )
        label = part.columns["label"]
        read: dict[Any, Any] = {}
        for role in (USER, ITEM):
            ids = part.ids(role)
            where = part.where(part.id_column(role))
            known = kinds.setdefault(role, (where, ids.dtype)) if ids.size else None
            if known is not None and known[1] != ids.dtype:
                here, there = ("str" if dtype.kind == "O" else "int" for dtype in (ids.dtype, known[1]))
                raise TypeError(
                    f"{where} holds ids that are {here} while those of {known[0]} are {there}, expected one type "
                    "in all three frames."
                )
            read[role] = ids
        numbers = [column for column in found.values() if column is not None]
        if label is not None and label is not False:
            part.click_labels()
            numbers.append(label)
        frame = part.frame.loc[:, ~part.frame.columns.duplicated()].reset_index(drop=True)
        columns = {part.id_column(role): ids for role, ids in read.items()}
        columns |= {column: part.exact_numbers(column) for column in numbers}
        replaced = pd.DataFrame(
            {name: pd.Series(values) for name, values in columns.items()}, index=frame.index
        )
        # Every part bears the first one's names of ids, which may be others.
        names = {part.id_column(role): parts[0].id_column(role) for role in (USER, ITEM)}
        others = frame.drop(columns=[*columns, *names.values()], errors="ignore")
        frames.append(pd.concat([replaced.rename(columns=names), others], axis=1))
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    label = " + ".join(part.label for part in parts)
    return Table(pd.concat(filled, ignore_index=True), label, parts[0].columns, parts[0].features, parts)


def _check_apart(whole: Table, parts: Sequence[Table]) -> None:
    """Raises ValueError if a pair stands in two parts."""
    part = np.repeat(np.arange(len(parts)), [len(table.frame) for table in parts])
    pairs = pd.DataFrame({USER: whole.ids(USER), ITEM: whole.ids(ITEM), "part": part}).drop_duplicates()
    again = pairs[pairs.duplicated([USER, ITEM])]
    if again.empty:
        return
    user, item, second = again.iloc[0]
    first = pairs["part"][(pairs[USER] == user) & (pairs[ITEM] == item)].iloc[0]
    number = len(again.drop_duplicates([USER, ITEM]))
    raise ValueError(
        f"{parts[second].label}: {number:,} pair{'s' if number > 1 else ''} of user and item of one frame "
        f"stand{'' if number > 1 else 's'} in another one too, such as {quoted(user, 40)} and {quoted(item, 40)} "
        f"in {parts[first].label} and {parts[second].label}, expected each pair in one frame."
    )
