"""DataFrames in, a store out."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, validate

Array = NDArray[Any]

_USUAL_NAMES: Final = {
    USER: ("user_id", "user"),
    ITEM: ("item_id", "item"),
    ENTITY: ("entity_id", "entity"),
    "head": ("head_id", "head"),
    "relation": ("relation_id", "relation"),
    "tail": ("tail_id", "tail"),
    "rating": ("rating",),
    "time": ("timestamp", "time"),
    "name": ("name", "title"),
}


def from_pandas(
    interactions: pd.DataFrame,
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
) -> HeteroData:
    """Builds a store from DataFrames.

    Only ``interactions`` is needed. A column argument left at :obj:`None` is looked up under its usual names:
    ``user_id`` or ``user``, ``item_id`` or ``item``, ``entity_id`` or ``entity``, ``rating``, ``timestamp``
    or ``time``, ``head_id`` or ``head``, ``relation_id`` or ``relation``, ``tail_id`` or ``tail``, and for
    readable names ``name`` or ``title``. Ratings, times and names may be absent; a column that you name must
    be there.

    Raw ids are ``str`` or ``int``, of one type for all users, items and entities each. Their order in the
    store is that of the rows of ``users``, ``items`` and ``entities``; ids that no such frame lists follow in
    order of first appearance. A user-item pair that stands in several rows is kept once, in its latest row
    (by time, then by position). Interactions rated below ``min_rating`` are dropped after that; their users
    and items stay in the store.

    Items are entities only where ``links`` says so. If items and entities share their ids, pass
    ``links=pd.DataFrame({'item_id': ids, 'entity_id': ids})``.

    Args:
        interactions: One row per interaction: user, item, and optionally rating and time. Times may be numbers
            or datetimes, which become Unix seconds; whole numbers are stored as int64, others as float64.
        triples: One row per triple: head, relation, tail.
        links: One row a link: item, entity. An item may have none, one or several.
        items: One row per item: its id, and optionally its name and features.
        users: One row per user, likewise.
        entities: One row per entity, likewise. If given, it must list every entity of ``triples``.
        user_col: Column of user ids (in ``interactions`` and ``users``).
        item_col: Column of item ids (in ``interactions``, ``links`` and ``items``).
        entity_col: Column of entity ids (in ``links`` and ``entities``).
        rating_col: Column of ratings.
        time_col: Column of times.
        head_col: Column of head entities.
        relation_col: Column of relations.
        tail_col: Column of tail entities.
        user_name: Column of readable names in ``users``; a missing name becomes the id.
        item_name: Column of readable names in ``items``.
        entity_name: Column of readable names in ``entities``.
        user_features: Numeric columns of ``users`` that become ``x`` (float32).
        item_features: Numeric columns of ``items`` that become ``x``.
        entity_features: Numeric columns of ``entities`` that become ``x``.
        min_rating: The lowest rating that counts as an interaction.

    Returns:
        The store, on the CPU.

    Raises:
        TypeError: If an argument is no DataFrame, if ids are floats, bools, missing or of mixed types, or if
            a column that must be numeric is not.
        ValueError: If a column is missing, an id unknown or listed twice, a number NaN or infinite, or if no
            interaction is left. The message names the frame, the column, what is wrong and what was expected.
    """
    frames = {
        "interactions": interactions,
        "triples": triples,
        "links": links,
        "items": items,
        "users": users,
        "entities": entities,
    }
    columns = {
        USER: user_col,
        ITEM: item_col,
        ENTITY: entity_col,
        "rating": rating_col,
        "time": time_col,
        "head": head_col,
        "relation": relation_col,
        "tail": tail_col,
    }
    names = {"users": user_name, "items": item_name, "entities": entity_name}
    features = {"users": user_features, "items": item_features, "entities": entity_features}
    tables: dict[str, Table] = {}
    for label, frame in frames.items():
        if frame is None and label != "interactions":
            if names.get(label) is not None or len(features.get(label, ())):
                raise ValueError(
                    f"{label} is not given, expected the frame that holds its names and features."
                )
            continue
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"{label} is a {type(frame).__name__}, expected a pandas DataFrame.")
        listed = features.get(label, ())
        tables[label] = Table(
            frame,
            label,
            columns | {"name": names.get(label)},
            [listed] if isinstance(listed, str) else list(listed),
        )
    return build_store(tables, min_rating)[0]


@dataclass(frozen=True)
class Table:
    """A frame, what error messages should call it, and where its columns are."""

    frame: pd.DataFrame
    label: str
    columns: dict[str, str | None]
    features: Sequence[str] = ()

    def find(self, role: str) -> str | None:
        """The column that plays ``role``, or :obj:`None` if it has none of its usual names."""
        named = self.columns.get(role)
        if named is not None:
            return self._present(named, [named])
        return next((name for name in _USUAL_NAMES[role] if name in self.frame.columns), None)

    def ids(self, role: str) -> Array:
        """The raw ids in the column that plays ``role``: int64, or objects that are all ``str``."""
        column = self.find(role) or self._present(None, list(_USUAL_NAMES[role]))
        return _raw_ids(self._series(column), self.where(column))

    def numbers(self, column: str) -> Array:
        """A numeric column as float64 (datetimes as Unix seconds), checked to be finite."""
        series, where = self._series(column), self.where(column)
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            series = series.dt.tz_convert(None)
        if pd.api.types.is_datetime64_dtype(series.dtype):
            seconds = (series - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
            return _finite(seconds.to_numpy(np.float64), where)
        series = series.infer_objects()
        dtype = series.dtype
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
            raise TypeError(
                f"{where} has the dtype {dtype}, expected numbers (pd.to_numeric and pd.to_datetime help)."
            )
        return _finite(series.to_numpy(np.float64, na_value=np.nan), where)

    def labels(self, ids: Array) -> list[str] | None:
        """The readable names of the rows, the id where one is missing; :obj:`None` without such a column."""
        column = self.find("name")
        if column is None:
            return None
        series = self._series(column)
        return [str(name) for name in series.astype(object).where(series.notna(), ids)]

    def where(self, column: str | None) -> str:
        """How error messages name a column."""
        return f"{self.label}: column {column!r}"

    def feature_matrix(self) -> Tensor | None:
        """The feature columns as float32 [rows, columns]."""
        if not self.features:
            return None
        columns = [
            _single(self.numbers(name), self.where(name)) for name in map(self._feature, self.features)
        ]
        return torch.from_numpy(np.stack(columns, axis=1))

    def _feature(self, name: str) -> str:
        return self._present(name, [name])

    def _series(self, column: str) -> pd.Series:
        series = self.frame[column]
        if not isinstance(series, pd.Series):
            raise ValueError(f"{self.where(column)} is there more than once, expected distinct column names.")
        return series

    def _present(self, named: str | None, names: list[str]) -> str:
        if named is not None and named in self.frame.columns:
            return named
        there = [str(column) for column in self.frame.columns]
        close = difflib.get_close_matches(names[0], there, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        expected = " or ".join(map(repr, names))
        has = ", ".join(map(repr, there[:10])) or "none"
        raise ValueError(f"{self.label}: there is no column {expected}, the columns are {has}{hint}.")


def build_store(tables: dict[str, Table], min_rating: float | None) -> tuple[HeteroData, Array]:
    """Builds the store of :func:`from_pandas`, and says which rows of the interactions it kept.

    Args:
        tables: ``'interactions'``, and any of ``'triples'``, ``'links'``, ``'items'``, ``'users'``,
            ``'entities'``.
        min_rating: The lowest rating that counts.

    Returns:
        The store, and the positions of the rows in it, ascending.
    """
    for label in ("links", "entities"):
        if label in tables and "triples" not in tables:
            raise ValueError(
                f"{tables[label].label} is given without triples, expected a knowledge graph as well."
            )
    interactions, data = tables["interactions"], HeteroData()
    if interactions.frame.empty:
        raise ValueError(f"{interactions.label}: there is no row, expected at least one interaction.")

    user_parts = [(interactions.label, interactions.ids(USER))]
    item_parts = [(interactions.label, interactions.ids(ITEM))]
    if "links" in tables:
        item_parts.append((tables["links"].label, tables["links"].ids(ITEM)))
    users = _add_nodes(data, USER, tables.get("users"), user_parts)
    items = _add_nodes(data, ITEM, tables.get("items"), item_parts, num_known=1)

    rows = _add_interactions(data, interactions, users[0], items[0], min_rating)
    if "triples" in tables:
        _add_knowledge(data, tables, items[1] if "links" in tables else None)
    validate(data)
    return indexable(data), rows


def _add_interactions(
    data: HeteroData, table: Table, user: Array, item: Array, min_rating: float | None
) -> Array:
    """Adds the interactions that count, and returns their rows."""
    rating_col, time_col = table.find("rating"), table.find("time")
    rating = None if rating_col is None else table.numbers(rating_col)
    time = None if time_col is None else table.numbers(time_col)
    rows = _latest_rows(user * data[ITEM].num_nodes + item, time)
    if min_rating is not None:
        if rating is None:
            raise ValueError(f"{table.label}: there is no column of ratings, expected one with min_rating.")
        rows = rows[rating[rows] >= min_rating]
        if not rows.size:
            raise ValueError(f"{table.label}: no rating is {min_rating} or more, expected at least one.")
    store = data[INTERACTS]
    store.edge_index = torch.from_numpy(np.stack([user[rows], item[rows]]))
    if rating is not None:
        store.rating = torch.from_numpy(_single(rating, table.where(rating_col))[rows])
    if time is not None:
        # Seconds since 1970 lose their last digits in float32.
        whole = bool((time == np.floor(time)).all() and (np.abs(time) < 2**53).all())
        store.time = torch.from_numpy(time[rows].astype(np.int64 if whole else np.float64))
    return rows


def _add_knowledge(data: HeteroData, tables: dict[str, Table], linked_items: Array | None) -> None:
    triples, links, entities = tables["triples"], tables.get("links"), tables.get("entities")
    heads, tails = triples.ids("head"), triples.ids("tail")
    _check_same_type(triples.label, heads, triples.label, tails)
    # Row by row, so that entities are numbered in the order in which a reader meets them.
    ends = np.stack([heads, tails], axis=1).reshape(-1)
    parts = [(triples.label, ends)]
    if links is not None:
        parts.append((links.label, links.ids(ENTITY)))
    codes = _add_nodes(data, ENTITY, entities, parts, num_known=0 if entities is not None else 1)
    relation, labels = pd.factorize(triples.ids("relation"))

    data[RELATES].edge_index = torch.from_numpy(codes[0].reshape(-1, 2).T.copy())
    data[RELATES].edge_type = torch.from_numpy(relation.astype(np.int64))
    data.relation_name = [str(label) for label in labels.tolist()]
    if links is None or linked_items is None:
        warnings.warn(
            f"{triples.label} came without links, so that no item has an entity.",
            stacklevel=4,
        )
        data[IS].edge_index = torch.empty(2, 0, dtype=torch.long)
    else:
        pairs = pd.DataFrame({ITEM: linked_items, ENTITY: codes[1]}).drop_duplicates()
        data[IS].edge_index = torch.from_numpy(pairs.to_numpy(np.int64).T.copy())


def _add_nodes(
    data: HeteroData,
    kind: str,
    table: Table | None,
    parts: list[tuple[str, Array]],
    num_known: int | None = None,
) -> list[Array]:
    """Adds the nodes of one type and returns the indices of the ids in each of ``parts``.

    Args:
        data: The store under construction.
        kind: The node type.
        table: The frame that lists nodes, if there is one.
        parts: Where else ids come from: a label for error messages, and the ids.
        num_known: How many of the parts may bring ids of their own; all of them if :obj:`None`. The ids of
            the others must be known by then.
    """
    listed = None if table is None else table.ids(kind)
    sources = [
        ("", np.empty(0, dtype=np.int64)) if listed is None or table is None else (table.label, listed)
    ]
    sources += parts
    ids, codes = _factorize(sources)
    num_listed = 0 if listed is None else listed.size
    if table is not None and listed is not None and not np.array_equal(codes[0], np.arange(num_listed)):
        twice = listed[np.argmax(codes[0] != np.arange(num_listed))]
        raise ValueError(
            f"{table.label}: {kind} id {twice!r} is listed more than once, expected each id once."
        )
    num_known = len(parts) if num_known is None else num_known
    limit = max((int(code.max()) + 1 for code in codes[: 1 + num_known] if code.size), default=0)
    for (label, _), code in zip(sources[1 + num_known :], codes[1 + num_known :]):
        _check_known(kind, label, sources[: 1 + num_known], ids[code[code >= limit]])

    store = data[kind]
    store.num_nodes = int(ids.size)
    store.id = ids.tolist()
    if table is None or listed is None:
        return codes[1:]
    names, x = table.labels(listed), table.feature_matrix()
    if names is not None:
        store.name = names + [str(raw) for raw in store.id[num_listed:]]
    if x is not None:
        if num_listed < store.num_nodes:
            raise ValueError(
                f"{table.label}: {store.num_nodes - num_listed} {kind} ids have no row "
                f"({_named(ids[num_listed:])}), expected features for every {kind}."
            )
        store.x = x
    return codes[1:]


def _factorize(sources: list[tuple[str, Array]]) -> tuple[Array, list[Array]]:
    """Numbers the ids of all sources in order of first appearance."""
    filled = [(label, ids) for label, ids in sources if ids.size]
    for label, ids in filled[1:]:
        _check_same_type(filled[0][0], filled[0][1], label, ids)
    if not filled:
        return np.empty(0, dtype=np.int64), [np.empty(0, dtype=np.int64) for _ in sources]
    codes, ids = pd.factorize(np.concatenate([ids for _, ids in filled]))
    bounds = np.cumsum([ids.size for _, ids in sources])[:-1]
    return np.asarray(ids), np.split(codes.astype(np.int64), bounds)


def _check_known(kind: str, label: str, known: list[tuple[str, Array]], unknown: Array) -> None:
    if not unknown.size:
        return
    distinct = pd.unique(unknown)
    places = " and ".join(place for place, _ in known if place)
    noun = f"{kind} id" if distinct.size == 1 else f"{kind} ids"
    raise ValueError(
        f"{label}: {distinct.size} {noun} unknown to {places} ({_named(distinct)}), expected ids from there."
    )


def _check_same_type(first: str, one: Array, second: str, other: Array) -> None:
    if one.size and other.size and one.dtype != other.dtype:
        kinds = ["str" if ids.dtype == object else "int" for ids in (one, other)]
        raise TypeError(
            f"{second}: ids are {kinds[1]} while those of {first} are {kinds[0]}, expected one type for both."
        )


def _raw_ids(series: pd.Series, where: str) -> Array:
    """Ids as int64, or as objects that are all ``str``."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    dtype = series.dtype
    if pd.api.types.is_float_dtype(dtype):
        raise TypeError(
            f"{where} has the dtype {dtype}, expected raw ids that are str or int "
            "(missing values turn int columns into float ones: drop them, then .astype('int64'))."
        )
    if series.isna().any():
        raise ValueError(f"{where} has no value in row {int(np.argmax(series.isna()))}, expected a raw id.")
    if pd.api.types.is_integer_dtype(dtype):
        if len(series) and int(series.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{where} holds ids of 2**63 or more, expected smaller ones, or str.")
        return series.to_numpy(np.int64)
    values = series.to_numpy(object)
    kinds = set(map(type, values))
    if all(issubclass(kind, str) for kind in kinds):
        return values
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return values.astype(np.int64)
        except OverflowError:
            raise ValueError(f"{where} holds ids of 2**63 or more, expected smaller ones, or str.") from None
    found = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"{where} holds {found}, expected raw ids that are all str or all int.")


def _latest_rows(pair: Array, time: Array | None) -> Array:
    """The last row of each distinct pair by time, ties by position; ascending."""
    order = np.arange(pair.size) if time is None else np.argsort(time, kind="stable")
    again = pd.Series(pair[order]).duplicated(keep="last").to_numpy()
    return np.sort(order[~again])


def _finite(values: Array, where: str) -> Array:
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"{where} holds {values[wrong][0]} in row {np.argmax(wrong)}, expected finite numbers."
        )
    return values


def _single(values: Array, where: str) -> Array:
    """The values as float32."""
    wrong = np.abs(values) > np.finfo(np.float32).max
    if wrong.any():
        raise ValueError(
            f"{where} holds {values[wrong][0]} in row {np.argmax(wrong)}, expected numbers that fit into float32."
        )
    return values.astype(np.float32)


def _named(ids: Array) -> str:
    return ", ".join(map(repr, ids[:3].tolist())) + (", …" if ids.size > 3 else "")
