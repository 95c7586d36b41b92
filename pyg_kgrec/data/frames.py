"""DataFrames in, a store out."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_choices
from pyg_kgrec._files import kind_of
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, validate
from pyg_kgrec.data.text import listed, quoted, shorten, warn_caller

Array = NDArray[Any]
Unknown = Literal["raise", "drop"]
LabelColumn = str | Literal[False] | None

USUAL_NAMES: Final = {
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
ROLES: Final = (USER, ITEM, ENTITY, "rating", "label", "time", "head", "relation", "tail")
OF_INTERACTIONS: Final = (USER, ITEM, "rating", "label", "time")
# A column of the same name in another frame plays another role, or none.
ROLES_OF: Final = {
    "triples": ("head", "relation", "tail"),
    "links": (ITEM, ENTITY),
    "items": (ITEM,),
    "users": (USER,),
    "entities": (ENTITY,),
}
SINGULAR: Final = {"users": "user", "items": "item", "entities": "entity"}
# What other tools call a column that says more of an interaction than that it is there. It is read where it
# is named only; compared by its letters in lower case, without is, was or has before them.
LABEL_NAMES: Final = frozenset(
    [
        "label", "labels", "target", "click", "clicks", "clicked", "like", "likes", "liked", "dislike",
        "disliked", "feedback", "y", "ytrue", "outcome", "response", "positive", "negative", "relevance",
        "relevant", "interacted", "converted", "conversion", "purchase", "purchased", "bought", "buy",
        "watched", "clicklabel", "ratinglabel", "binarylabel",
    ]
)  # fmt: skip
WEIGHT_NAMES: Final = frozenset(
    [
        "weight", "weights", "count", "counts", "plays", "listens", "views", "frequency", "confidence",
        "strength", "score", "scores", "stars", "rating", "ratings", "rate", "implicit", "preference",
        "quantity", "quantities", "qty", "amount", "amounts",
    ]
)  # fmt: skip
WEIGHT_ENDS: Final = frozenset(["rating", "weight", "count", "score"])
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_TEXTS_OF_NOTHING: Final = ("", "nan", "NaN", "None", "NaT", "<NA>", "null", "NULL")


def is_label(name: str) -> bool:
    """Whether a column is called what other tools call labels."""
    return "".join(_words(name)) in LABEL_NAMES


def is_weight(name: str) -> bool:
    """Whether a column is called what other tools call ratings and weights."""
    words = _words(name)
    return "".join(words) in WEIGHT_NAMES or (bool(words) and words[-1] in WEIGHT_ENDS)


def _words(name: str) -> list[str]:
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    return words[1:] if len(words) > 1 and words[0] in ("is", "was", "has") else words


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
) -> HeteroData:
    r"""Builds a store from DataFrames.

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

    **Labels.** With ``label_col`` a row labelled 0 (or −1) was shown and not liked. ``edge_index`` (with
    ``time`` and ``rating``) then holds the rows labelled 1 alone, so that no other row is a positive,
    spreads over the graph or is to be found; ``edge_label_index`` holds all rows, ``edge_label`` their
    labels (0 or 1, float32), and ``edge_label_time`` and ``edge_label_rating`` what else is known of them. A
    row labelled 0 does not count as seen: its item may be recommended. ``unsplit`` is :obj:`True` on such a
    store, which is how splits tell it from one of their own. Where all labels are 1 the store is as without
    them.

    **What is not asked for** is not guessed: a column with a usual name for labels (``label``, ``click``,
    ``target``, ...) that holds two kinds of values is refused unless ``label_col`` says what it is. One
    warning each says that all rows count as positives although ratings, or a column such as ``weight`` that
    is not read, differ; how many rows repeat a pair or a triple (a repeated triple stays, and weighs as
    often as it stands there); which ids look like one another (``'7'`` and ``'07'``) or like a missing value
    that became text; and what ``unknown='drop'`` has dropped.

    Items are entities only where ``links`` says so. If items and entities share their ids, pass
    ``links=pd.DataFrame({'item_id': ids, 'entity_id': ids})``.

    Args:
        interactions: One row per interaction: user, item, and optionally rating and time. Times may be numbers,
            or datetimes and text as in ISO 8601 (``2026-11-28 10:00:00``), which become Unix seconds, of UTC where
            no offset stands there; whole numbers are stored as int64, others as float64.
        triples: One row per triple: head, relation, tail.
        links: One row a link: item, entity. An item may have none, one or several.
        items: One row per item: its id, and optionally its name and features.
        users: One row per user, likewise.
        entities: One row per entity, likewise. If given, it must list every entity of ``triples``.
        user_col: Column of user ids (in ``interactions`` and ``users``).
        item_col: Column of item ids (in ``interactions``, ``links`` and ``items``).
        entity_col: Column of entity ids (in ``links`` and ``entities``).
        rating_col: Column of ratings, or of weights.
        label_col: Column of labels: 0 and 1, −1 and 1, or bools. :obj:`False` says that no column holds
            labels, so that every row is a positive.
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
        unknown: What happens to rows with an id that is not known where it must be: items of ``links`` that
            neither ``interactions`` nor ``items`` have, entities of ``links`` that no triple (or
            ``entities``, if given) has, entities of ``triples`` that ``entities`` does not list, and
            interactions of users and items that have no row while ``user_features`` or ``item_features`` ask
            for one. ``'raise'`` refuses them, ``'drop'`` leaves them out, with one warning that counts them.

    Returns:
        The store, on the CPU.

    Raises:
        TypeError: If an argument is no DataFrame, if ids are floats, bools, missing or of mixed types, or if
            a column that must be numeric is not.
        ValueError: If a column is missing or ambiguous, an id unknown or listed twice, a number NaN or
            infinite, or if no interaction is left. The message names the frame, the column, what is wrong
            and what was expected.
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
        {"interactions": interactions},
        {"triples": triples, "links": links, "items": items, "users": users, "entities": entities},
        dict(zip(ROLES, columns, strict=True)),
        {"users": user_name, "items": item_name, "entities": entity_name},
        {"users": user_features, "items": item_features, "entities": entity_features},
    )
    return build_store(tables, min_rating, unknown)[0]


def read_tables(
    interactions: dict[str, Any],
    others: dict[str, Any],
    columns: dict[str, Any],
    names: dict[str, Any],
    features: dict[str, Any],
) -> dict[str, Table]:
    """Says of each frame what it holds.

    Args:
        interactions: Frames of interactions by what messages call them; all must be there.
        others: Triples, links, items, users and entities; those that are None are left out.
        columns: The column of each of :data:`ROLES`, None for its usual names.
        names: The column of readable names of users, items and entities.
        features: The columns of features of users, items and entities.

    Raises:
        TypeError: If something is no frame.
        ValueError: If names or features of a frame that is not there are asked for.
    """
    read = {label: _features(f"{SINGULAR[label]}_features", value) for label, value in features.items()}
    tables: dict[str, Table] = {}
    for label, frame in {**interactions, **others}.items():
        if frame is None and label not in interactions:
            if names.get(label) is not None or read.get(label):
                raise ValueError(
                    f"{label} is not given, expected the frame that holds its names and features."
                )
            continue
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"{label} is {kind_of(frame)}, expected a pandas DataFrame.")
        own = {role: columns[role] for role in ROLES_OF.get(label, OF_INTERACTIONS)}
        tables[label] = Table(frame, label, own | {"name": names.get(label)}, read.get(label, []))
    return tables


def _features(argument: str, names: Any) -> list[str]:
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable) or isinstance(names, bytes | pd.DataFrame):
        raise TypeError(f"{argument} is {quoted(names)}, expected a list of column names.")
    return list(names)


@dataclass(frozen=True)
class Table:
    """A frame, what error messages should call it, and the columns of the roles that it has."""

    frame: pd.DataFrame
    label: str
    columns: dict[str, Any]
    features: Sequence[str] = ()
    parts: Sequence[Table] = ()
    """Frames whose rows these are, one after the other, where each has its own precision."""

    def __post_init__(self) -> None:
        levels = self.frame.columns.nlevels
        if levels > 1:
            raise ValueError(
                f"{self.label}: the columns have {levels} levels, expected one "
                "(frame.columns = frame.columns.map('_'.join) makes one of them)."
            )

    @cached_property
    def positions(self) -> dict[Hashable, list[int]]:
        """Where the column of each name stands."""
        found: dict[Hashable, list[int]] = {}
        for position, name in enumerate(self.frame.columns):
            found.setdefault(name, []).append(position)
        return found

    @cached_property
    def _read(self) -> dict[str, Array]:
        """The ids that were read, by role."""
        return {}

    def find(self, role: str) -> Any:
        """The column that plays ``role``, or :obj:`None` if it has none of its usual names."""
        named = self.columns.get(role)
        if named is not None:
            return self._present(named, [named], f"{role}_col" if role != "name" else "the name")
        return next((name for name in USUAL_NAMES[role] if name in self.positions), None)

    def ids(self, role: str) -> Array:
        """The raw ids in the column that plays ``role``: int64, or objects that are all ``str``."""
        if role not in self._read:
            column = self.id_column(role)
            self._read[role] = _raw_ids(self._series(column), self.where(column))
        return self._read[role]

    def id_column(self, role: str) -> Any:
        """The column that plays ``role``; ValueError if there is none."""
        column = self.find(role)
        return self._present(None, list(USUAL_NAMES[role]), role) if column is None else column

    def numbers(self, column: str) -> Array:
        """A numeric column as float64 (datetimes and ISO 8601 text as Unix seconds), checked to be finite."""
        series, where = _plain(self._series(column)), self.where(column)
        if not len(series):  # an empty column is of no type
            return np.empty(0)
        dtype = series.dtype
        if pd.api.types.is_datetime64_any_dtype(dtype) or str(dtype).startswith(("date32", "date64")):
            return _finite(_unix_seconds(series), where)
        is_time = column == self.find("time")
        if is_time and (stamps := _iso_seconds(series)) is not None:
            return _finite(stamps, where)
        numeric = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
        numeric = numeric and not pd.api.types.is_complex_dtype(dtype)
        try:
            values = series.to_numpy(np.float64, na_value=np.nan) if numeric else None
        except (TypeError, ValueError, OverflowError):
            values = None
        if values is None:
            times = (
                ", datetimes, or times as ISO 8601 writes them, like 2026-11-28 10:00:00" if is_time else ""
            )
            raise TypeError(
                f"{where} has the dtype {shorten(str(dtype), 40)}, expected numbers{times} "
                "(pd.to_numeric and pd.to_datetime help)."
            )
        return _finite(values, where)

    def exact_numbers(self, column: str) -> Array:
        """A column as :meth:`numbers`, but whole numbers as int64 and short floats in their own precision."""
        values, series = self.numbers(column), _plain(self._series(column))
        dtype = getattr(series.dtype, "numpy_dtype", getattr(series.dtype, "subtype", series.dtype))
        if not values.size or not isinstance(dtype, np.dtype):
            return values
        if dtype.kind in "iu" and int(series.max()) <= np.iinfo(np.int64).max:
            return series.to_numpy(np.int64)
        if dtype.kind == "f" and dtype.itemsize < 8:
            return values.astype(dtype)
        return values

    def reaches(self, least: float) -> Array:
        """Which rows are rated ``least`` or higher, bool; 0.7 is the 0.7 of a float32 column.

        Raises:
            ValueError: If there is no column of ratings.
        """
        if self.parts:
            return np.concatenate([part.reaches(least) for part in self.parts])
        column = self.find("rating")
        if column is None:
            raise ValueError(f"{self.label}: there is no column of ratings, expected one with min_rating.")
        with np.errstate(over="ignore"):  # beyond all float32 is infinite there
            rows: Array = self.exact_numbers(column) >= float(least)
        return rows

    def click_labels(self) -> Array | None:
        """Whether each row is labelled as a positive, bool; :obj:`None` where no column of labels is asked for.

        Raises:
            TypeError: If the labels are no numbers.
            ValueError: If they are other numbers than 0 and 1 or −1 and 1, or if a column that looks like
                labels was neither asked for nor declined.
        """
        named = self.columns.get("label")
        if named is None:
            self._refuse_to_guess()
        if named is None or named is False:
            return None
        column = self._present(named, [named], "label_col")
        values = self.numbers(column)
        kinds = np.unique(values)
        if not (np.isin(kinds, (0, 1)).all() or np.isin(kinds, (-1, 1)).all()):
            raise ValueError(
                f"{self.where(column)} holds {', '.join(f'{kind:g}' for kind in kinds[:4])}"
                f"{', …' if kinds.size > 4 else ''}, expected labels 0 and 1, or -1 and 1 "
                "(ratings go in as rating_col= with min_rating=)."
            )
        positive: Array = values > 0
        return positive

    def labels(self, ids: Array) -> list[str] | None:
        """The readable names of the rows, the id where one is missing; :obj:`None` without such a column."""
        column = self.find("name")
        if column is None:
            return None
        series = self._series(column)
        there = series.notna().to_numpy(bool)
        names = (name if has else raw for name, has, raw in zip(series.astype(object), there, ids))
        return [str.__str__(name) if isinstance(name, str) else str(name) for name in names]

    def where(self, column: Any) -> str:
        """How error messages name a column."""
        return f"{self.label}: column {quoted(column)}"

    def feature_matrix(self) -> Tensor | None:
        """The feature columns as float32 [rows, columns]."""
        if not self.features:
            return None
        columns = [
            _single(self.numbers(name), self.where(name)) for name in map(self._feature, self.features)
        ]
        return torch.from_numpy(np.stack(columns, axis=1))

    def check_distinct(self, alike: bool) -> None:
        """Raises ValueError if a column of interactions that would be looked at unread stands there twice.

        Args:
            alike: As in :meth:`warn_of_unread`.
        """
        guessed = self.columns.get("label") is None
        for name in self._others():
            if (guessed and is_label(name)) or (alike and is_weight(name)):
                self._series(name)

    def warn_of_unread(self, alike: bool) -> None:
        """Says which columns of interactions hold something that is not read.

        Args:
            alike: Whether all rows count as positives, with neither labels nor a lowest rating.
        """
        read = self.find("rating")
        for name in self._others():
            if name == read:
                continue
            if name.lower().endswith("_list"):
                warn_caller(
                    f"{self.where(name)} is not read: only the item of a row counts as an interaction, "
                    "expected one row per item (DataFrame.explode makes them)."
                )
            elif alike and is_weight(name) and len(self._kinds(name)) > 1:
                warn_caller(
                    f"{self.where(name)} is not read: all rows count as positives alike, whatever it holds "
                    f"(rating_col={quoted(name)} reads it, min_rating= says from where on a row counts)."
                )
            elif self.find("time") is None and self._holds_times(name):
                warn_caller(
                    f"{self.where(name)} holds times and is not read: interactions have none "
                    f"(time_col={quoted(name)} reads it)."
                )

    def _refuse_to_guess(self) -> None:
        """Raises ValueError if a column that nobody named looks like labels of two kinds."""
        for name in self._others():
            if not is_label(name) or self._holds_times(name):
                continue
            kinds = self._kinds(name)
            numbers = pd.to_numeric(pd.Series(kinds, dtype=object), errors="coerce")
            if len(kinds) == 2 or (len(kinds) == 1 and not (numbers > 0).all()):
                raise ValueError(
                    f"{self.where(name)} holds {listed(kinds)} and may tell positives from others, "
                    f"expected label_col={quoted(name)} to learn so, or "
                    "label_col=False to take all rows as positives."
                )
            if len(kinds) > 2:
                warn_caller(
                    f"{self.where(name)} is not read: all rows count as positives, whatever it holds "
                    f"(label_col= reads labels 0 and 1, rating_col={quoted(name)} with min_rating= numbers)."
                )

    def _holds_times(self, name: str) -> bool:
        """Whether a column that nothing looks at holds datetimes, each of its columns where there are several."""
        return all(
            pd.api.types.is_datetime64_any_dtype(self.frame.dtypes.iloc[place])
            for place in self.positions[name]
        )

    def _others(self) -> list[str]:
        """The columns whose names are ``str`` and play no role."""
        named = [name for name in self.columns.values() if isinstance(name, Hashable)]
        return [name for name in self.positions if isinstance(name, str) and name not in named]

    def _kinds(self, name: str) -> list[Any]:
        """The distinct values of a column, a missing one among them; none where they cannot be compared."""
        series = self._series(name)
        try:
            return list(series.unique())
        except (TypeError, ValueError):
            return []

    def _feature(self, name: str) -> str:
        return self._present(name, [name], "a feature")

    def _series(self, column: Any) -> pd.Series:
        places = self.positions[column]
        if len(places) > 1:
            raise ValueError(f"{self.where(column)} is there more than once, expected distinct column names.")
        series: pd.Series = self.frame.iloc[:, places[0]]
        return series

    def _present(self, named: Any, names: list[Any], argument: str) -> Any:
        if not isinstance(named, Hashable) or isinstance(named, bool):
            raise TypeError(f"{self.label}: {argument} is {quoted(named)}, expected the name of a column.")
        if named is not None and named in self.positions:
            return named
        if named is not None and not isinstance(named, str):
            raise TypeError(
                f"{self.label}: {argument} is {quoted(named)}, expected the name of a column "
                f"({self._columns_there()})."
            )
        there = [str(column) for column in list(self.positions)[:1000]]
        close = difflib.get_close_matches(names[0][:100], there, n=1)
        hint = f" (did you mean {quoted(close[0])}?)" if close else ""
        expected = " or ".join(map(quoted, names))
        raise ValueError(f"{self.label}: there is no column {expected}, {self._columns_there()}{hint}.")

    def _columns_there(self) -> str:
        return f"the columns are {listed(list(self.positions), 8) or 'none'}"


def build_store(
    tables: dict[str, Table], min_rating: float | None, unknown: Unknown = "raise"
) -> tuple[HeteroData, Array]:
    """Builds the store of :func:`from_pandas`, and says which rows of the interactions it kept.

    Args:
        tables: ``'interactions'``, and any of ``'triples'``, ``'links'``, ``'items'``, ``'users'``,
            ``'entities'``.
        min_rating: The lowest rating that counts.
        unknown: What happens to rows with unknown ids.

    Returns:
        The store, and the positions of the rows in it, ascending: the columns of ``edge_label_index`` where
        there are labels, of ``edge_index`` otherwise.
    """
    check_min_rating(min_rating)
    check_choices(unknown=(unknown if isinstance(unknown, str) else quoted(unknown), get_args(Unknown)))
    for label in ("links", "entities"):
        if label in tables and "triples" not in tables:
            raise ValueError(
                f"{tables[label].label} is given without triples, expected a knowledge graph as well."
            )
    whole = interactions = tables["interactions"]
    data = HeteroData()
    if interactions.frame.empty:
        raise ValueError(f"{interactions.label}: there is no row, expected at least one interaction.")
    alike = all_alike(interactions, min_rating)
    interactions.check_distinct(alike)

    _check_types(tables)
    known = _Known(unknown)
    ids = {USER: interactions.ids(USER), ITEM: interactions.ids(ITEM)}
    described = {USER: tables.get("users"), ITEM: tables.get("items")}
    positions = np.arange(len(interactions.frame))
    if unknown == "drop":
        # Otherwise _add_nodes refuses nodes that have no row of features.
        kept = np.ones(positions.size, dtype=bool)
        for kind, table in described.items():
            if table is not None and table.features:
                kept = kept & known.rows(
                    kind, interactions.label, ids[kind], [(table.label, table.ids(kind))]
                )
        if not kept.any():
            raise ValueError(
                f"{interactions.label}: no row has a user and an item with features, expected at least one."
            )
        positions = np.flatnonzero(kept)
        interactions = replace(interactions, frame=interactions.frame.iloc[positions])
        ids = {kind: raw[kept] for kind, raw in ids.items()}
    item_table = described[ITEM]
    sources = [] if item_table is None else [(item_table.label, item_table.ids(ITEM))]
    knowledge = _read_knowledge(tables, known, [*sources, (interactions.label, ids[ITEM])])

    parts = [(interactions.label, ids[ITEM])]
    if knowledge is not None and knowledge.links is not None:
        parts.append((tables["links"].label, knowledge.links[0]))
    users = _add_nodes(data, USER, described[USER], [(interactions.label, ids[USER])])
    items = _add_nodes(data, ITEM, item_table, parts)

    enough = None if min_rating is None else whole.reaches(min_rating)[positions]
    rows = _add_interactions(data, interactions, users[0], items[0], enough, min_rating)
    if knowledge is not None:
        _add_knowledge(data, tables, knowledge, items[-1])
    known.warn()
    interactions.warn_of_unread(alike)
    validate(data)
    return indexable(data), positions[rows]


def all_alike(interactions: Table, min_rating: float | None) -> bool:
    """Whether all rows count as positives, with neither labels nor a lowest rating."""
    return min_rating is None and not interactions.columns.get("label")


def check_min_rating(min_rating: Any) -> None:
    """Raises TypeError or ValueError unless ``min_rating`` is None or a number to compare ratings to."""
    if min_rating is None:
        return
    if isinstance(min_rating, bool | np.bool_) or not isinstance(min_rating, Real):
        raise TypeError(f"min_rating is {quoted(min_rating)}, expected a number.")
    try:
        wrong = math.isnan(float(min_rating))
    except OverflowError:
        wrong = True
    if wrong:
        raise ValueError(f"min_rating is {quoted(min_rating)}, expected a number that fits into float64.")


class _Known:
    """Finds the rows whose ids are known where they must be, and refuses or drops the others.

    Args:
        unknown: What happens to the others.
    """

    def __init__(self, unknown: Unknown) -> None:
        self.unknown = unknown
        self.dropped: list[str] = []

    def rows(self, kind: str, label: str, ids: Array, sources: list[tuple[str, Array]]) -> Array:
        """Which rows have known ids only, bool ``[n]``.

        Args:
            kind: The node type.
            label: What error messages call the rows.
            ids: The ids of the rows, ``[n]`` or ``[n, 2]``.
            sources: Where ids are known from: a label for error messages, and the ids.

        Raises:
            ValueError: If an id is unknown and that is to be refused.
        """
        flat = ids.reshape(-1)
        pools = [there for _, there in sources if there.size]
        pool = np.concatenate(pools) if pools else flat[:0]
        found = pd.Series(flat, dtype=flat.dtype).isin(pool).to_numpy(bool)
        rows: Array = found if ids.ndim == 1 else found[0::2] & found[1::2]
        if rows.all():
            return rows
        distinct = pd.unique(flat[~found])
        noun = f"{kind} id" if distinct.size == 1 else f"{kind} ids"
        what = f"{noun} unknown to {' and '.join(place for place, _ in sources)} ({_named(distinct)})"
        if self.unknown == "raise":
            raise ValueError(
                f"{label}: {distinct.size} {what}, expected ids from there"
                f"{_other_spelling(distinct, pool)} (unknown='drop' leaves such rows out)."
            )
        self.dropped.append(f"{int((~rows).sum())} of {rows.size} rows of {label}, {what}")
        return rows

    def warn(self) -> None:
        """Says once what was dropped."""
        if self.dropped:
            warn_caller(f"unknown='drop' has dropped {'; '.join(self.dropped)}.")


@dataclass(frozen=True)
class _Knowledge:
    """Raw ids of triples and links.

    Attributes:
        ends: Head and tail of each triple, ``[T, 2]``.
        relation: Its relation, ``[T]``.
        links: Item and entity of each link, ``[l]`` each, if there are links.
    """

    ends: Array
    relation: Array
    links: tuple[Array, Array] | None


def _read_knowledge(
    tables: dict[str, Table], known: _Known, items: list[tuple[str, Array]]
) -> _Knowledge | None:
    """Triples and links without the rows that are dropped for unknown ids; None where there are no triples."""
    if "triples" not in tables:
        return None
    triples, links, entities = tables["triples"], tables.get("links"), tables.get("entities")
    heads, tails, relation = (triples.ids(role) for role in ("head", "tail", "relation"))
    ends = np.stack([heads, tails], axis=1)
    entity_sources = [(triples.label, ends.reshape(-1))]
    if entities is not None:
        entity_sources = [(entities.label, entities.ids(ENTITY))]
        rows = known.rows(ENTITY, triples.label, ends, entity_sources)
        ends, relation = ends[rows], relation[rows]
    if links is None:
        return _Knowledge(ends, relation, None)
    item, entity = links.ids(ITEM), links.ids(ENTITY)
    rows = known.rows(ITEM, links.label, item, items)
    item, entity = item[rows], entity[rows]
    rows = known.rows(ENTITY, links.label, entity, entity_sources)
    return _Knowledge(ends, relation, (item[rows], entity[rows]))


def _add_interactions(
    data: HeteroData,
    table: Table,
    user: Array,
    item: Array,
    enough: Array | None,
    min_rating: float | None,
) -> Array:
    """Adds the interactions that count, those rated ``min_rating`` being ``enough``, and returns their rows."""
    rating_col, time_col = table.find("rating"), table.find("time")
    rating = None if rating_col is None else _single(table.numbers(rating_col), table.where(rating_col))
    exact = None if rating_col is None else table.exact_numbers(rating_col)
    time = None if time_col is None else table.exact_numbers(time_col)
    positive = table.click_labels()
    rows = _latest_rows(user * data[ITEM].num_nodes + item, time)
    if rows.size < user.size:
        warn_caller(
            f"{table.label}: {user.size - rows.size} of {user.size} rows repeat a user-item pair, "
            "the latest row of each pair is kept."
        )
    if enough is not None:
        rows = rows[enough[rows]]
        if not rows.size:
            raise ValueError(
                f"{table.label}: no rating is {quoted(min_rating)} or more, expected at least one."
            )
    elif exact is not None and positive is None and exact.min() < exact.max():
        least, most = quoted(float(exact.min())), quoted(float(exact.max()))
        warn_caller(
            f"{table.where(rating_col)} holds {least} to {most} and all rows count as positives, the lowest too: "
            f"min_rating= says from where on one counts (min_rating={least} keeps all)."
        )
    pairs = torch.from_numpy(np.stack([user[rows], item[rows]]))
    columns: dict[str, Tensor] = {}
    if rating is not None:
        columns["rating"] = torch.from_numpy(rating[rows])
    if time is not None:
        # Seconds since 1970 lose their last digits in float32.
        whole = time.dtype == np.int64 or bool(
            (time == np.floor(time)).all() and (np.abs(time) < 2**53).all()
        )
        columns["time"] = torch.from_numpy(time[rows].astype(np.int64 if whole else np.float64))
    store = data[INTERACTS]
    if positive is None or positive[rows].all():
        store.update({"edge_index": pairs, **columns})
        return rows
    liked = torch.from_numpy(positive[rows])
    if not liked.any():
        raise ValueError(
            f"{table.where(table.columns['label'])} labels no row as a positive, expected at least one."
        )
    store.update({"edge_index": pairs[:, liked], **{key: column[liked] for key, column in columns.items()}})
    store.update({"edge_label_index": pairs, "edge_label": liked.float(), "unsplit": True})
    store.update({f"edge_label_{key}": column for key, column in columns.items()})
    return rows


def _add_knowledge(
    data: HeteroData, tables: dict[str, Table], knowledge: _Knowledge, linked_items: Array
) -> None:
    triples, links = tables["triples"], knowledge.links
    # Row by row, so that entities are numbered in the order in which a reader meets them.
    parts = [(triples.label, knowledge.ends.reshape(-1))]
    if links is not None:
        parts.append((tables["links"].label, links[1]))
    codes = _add_nodes(data, ENTITY, tables.get("entities"), parts)
    relation, labels = pd.factorize(knowledge.relation)
    ends = codes[0].reshape(-1, 2)
    repeats = int(
        pd.DataFrame({"head": ends[:, 0], "relation": relation, "tail": ends[:, 1]}).duplicated().sum()
    )
    if repeats:
        warn_caller(
            f"{triples.label}: {repeats} of {len(ends)} rows repeat a triple; they are kept, so that a triple "
            "weighs as often as it stands there (DataFrame.drop_duplicates keeps one of each)."
        )

    data[RELATES].edge_index = torch.from_numpy(ends.T.copy())
    data[RELATES].edge_type = torch.from_numpy(relation.astype(np.int64))
    data.relation_name = [str(label) for label in labels.tolist()]
    if links is None:
        warn_caller(f"{triples.label} came without links, so that no item has an entity.")
        data[IS].edge_index = torch.empty(2, 0, dtype=torch.long)
    else:
        pairs = pd.DataFrame({ITEM: linked_items, ENTITY: codes[1]}).drop_duplicates()
        data[IS].edge_index = torch.from_numpy(pairs.to_numpy(np.int64).T.copy())


def _add_nodes(
    data: HeteroData,
    kind: str,
    table: Table | None,
    parts: list[tuple[str, Array]],
) -> list[Array]:
    """Adds the nodes of one type and returns the indices of the ids in each of ``parts``.

    Args:
        data: The store under construction.
        kind: The node type.
        table: The frame that lists nodes, if there is one.
        parts: Where else ids come from: a label for error messages, and the ids.
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
            f"{table.label}: {kind} id {quoted(twice)} is listed more than once, expected each id once."
        )
    _warn_of_lookalikes(kind, [label for label, raw in sources if raw.size], ids)
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
    filled = [ids for _, ids in sources if ids.size]
    if not filled:
        return np.empty(0, dtype=np.int64), [np.empty(0, dtype=np.int64) for _ in sources]
    codes, ids = pd.factorize(np.concatenate(filled))
    bounds = np.cumsum([ids.size for _, ids in sources])[:-1]
    return np.asarray(ids), np.split(codes.astype(np.int64), bounds)


def _warn_of_lookalikes(kind: str, labels: list[str], ids: Array) -> None:
    """Says which text ids differ from another one in their spelling only, or stand for a missing value."""
    if ids.dtype != object:
        return
    known = set(ids.tolist())
    places = " and ".join(dict.fromkeys(labels))
    odd = [
        raw for raw in known if raw[:1] == "0" or raw[-2:] == ".0" or raw[:1].isspace() or raw[-1:].isspace()
    ]
    alike = sorted(raw for raw in odd if (plain := _plainly(raw)) != raw and plain in known)
    if alike:
        warn_caller(
            f"{places}: {len(alike)} {kind} ids differ from another one in spelling only "
            f"({quoted(alike[0], 24)} and {quoted(_plainly(alike[0]), 24)}) and are {kind}s of their own."
        )
    absent = [text for text in _TEXTS_OF_NOTHING if text in known]
    if absent:
        warn_caller(
            f"{places}: the {kind} id {quoted(absent[0])} looks like a missing value that became text, "
            f"and counts as one {kind} (drop rows without an id before .astype(str))."
        )


def _plainly(raw: str) -> str:
    """A whole number without spaces, leading zeros and ``.0``; other text without the spaces around it."""
    text = raw.strip()
    whole = text.removesuffix(".0")
    return (whole.lstrip("0") or "0") if whole.isdecimal() and whole.isascii() else text


def _other_spelling(unknown: Array, known: Array) -> str:
    """What helps where unknown ids are known in another spelling."""
    if unknown.dtype != object:
        return ""
    plain = {_plainly(raw): raw for raw in known.tolist()}
    return next(
        (
            f", where {quoted(raw, 24)} is written {quoted(plain[_plainly(raw)], 24)}"
            for raw in unknown[:1000].tolist()
            if _plainly(raw) in plain
        ),
        "",
    )


def _check_types(tables: dict[str, Table]) -> None:
    """Raises TypeError if ids of one kind are ``str`` in one column and ``int`` in another, in whatever frames."""
    first: dict[str, tuple[str, str]] = {}
    for label, table in tables.items():
        for role in ROLES_OF.get(label, OF_INTERACTIONS):
            if role not in (USER, ITEM, ENTITY, "head", "tail"):
                continue
            ids = table.ids(role)
            if not ids.size:  # an empty column is of no type
                continue
            kind = ENTITY if role in ("head", "tail") else role
            where, found = table.where(table.id_column(role)), "str" if ids.dtype == object else "int"
            before, known = first.setdefault(kind, (where, found))
            if known != found:
                raise TypeError(
                    f"{where} holds ids that are {found} while those of {before} are {known}, expected one type "
                    f"for all {kind} ids (.astype(str) makes them text)."
                )


def _raw_ids(series: pd.Series, where: str) -> Array:
    """Ids as int64, or as objects that are all ``str``."""
    if isinstance(series.dtype, pd.CategoricalDtype) and not series.isna().any():
        series = series.astype(series.cat.categories.dtype)
    if isinstance(series.dtype, pd.ArrowDtype) and str(series.dtype.pyarrow_dtype).startswith("dictionary"):
        # Arrow's categories: their codes are no ids.
        series = series.astype(pd.ArrowDtype(series.dtype.pyarrow_dtype.value_type))
    dtype = series.dtype
    if pd.api.types.is_float_dtype(dtype) and len(series):  # an empty column is of no type
        raise TypeError(
            f"{where} has the dtype {shorten(str(dtype), 40)}, expected raw ids that are str or int "
            "(missing values turn int columns into float ones: drop them, then .astype('int64'))."
        )
    missing = series.isna().to_numpy(bool)
    if missing.any():
        raise ValueError(f"{where} has no value in row {int(np.argmax(missing))}, expected a raw id.")
    if pd.api.types.is_integer_dtype(dtype):
        if len(series) and int(series.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{where} holds ids of 2**63 or more, expected smaller ones, or str.")
        return series.to_numpy(np.int64)
    values = series.to_numpy(object)
    kinds = set(map(type, values))
    if kinds <= {str}:
        return values
    if all(issubclass(kind, str) for kind in kinds):
        # What a string holds: str() of a member of an enumeration is its name.
        return np.array([str.__str__(value) for value in values], dtype=object)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return values.astype(np.int64)
        except OverflowError:
            raise ValueError(f"{where} holds ids of 2**63 or more, expected smaller ones, or str.") from None
    found = shorten(" and ".join(sorted(kind.__name__ for kind in kinds)), 80)
    raise TypeError(f"{where} holds {found}, expected raw ids that are all str or all int.")


def _plain(series: pd.Series) -> pd.Series:
    """The values themselves where they are categories, and in a dtype of their own where they are objects."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = pd.Series(np.asarray(series))
    return series.infer_objects()


def _unix_seconds(series: pd.Series) -> Array:
    """Datetimes (NumPy's or Arrow's, any time zone) as float64 seconds since 1970; NaN where missing."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert(None)
    elif isinstance(series.dtype, pd.ArrowDtype):
        series = pd.to_datetime(pd.Series(series.to_numpy(object)), utc=True).dt.tz_convert(None)
    stamps = series.to_numpy()
    per_second = _PER_SECOND[np.datetime_data(stamps.dtype)[0]]
    whole, rest = np.divmod(stamps.astype(np.int64), per_second)
    return np.where(np.isnat(stamps), np.nan, whole + rest / per_second)


def _iso_seconds(series: pd.Series) -> Array | None:
    """Times written as in ISO 8601 as float64 seconds since 1970, NaN where missing; None if one is not written so.

    A time without an offset is one of UTC.
    """
    if not (series.dtype == object or isinstance(series.dtype, pd.StringDtype)):
        return None
    some = series[series.notna()]
    try:
        if not len(some) or not some.str.match(r"\d{4}-\d{2}-\d{2}").all():
            return None
        return _unix_seconds(pd.to_datetime(series, format="ISO8601", utc=True))
    except (AttributeError, ValueError, TypeError):  # a column of other objects, a day that is none
        return None


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
    return listed(ids[:4].tolist())
