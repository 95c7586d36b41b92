"""What a split must not hold: whatever tells a model, before it is asked, what is to be found."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_choices
from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, has_knowledge, validate
from pyg_kgrec.data.text import quoted, shorten

Severity = Literal["leak", "warning", "note", "ok"]
ByTime = Literal["user", "all"]
Array = NDArray[Any]

_USER_ENTITY: Final = r"^(?:user|u)[:_/#. -]?(.+)$"
_LIKES: Final = frozenset(
    ["interact", "like", "rate", "rating", "click", "view", "watch", "listen", "play", "buy"]
)
_MOSTLY: Final = 0.5  # share of a relation's triples from which on it is taken for what it looks like


@dataclass(frozen=True)
class SplitReport:
    """What :func:`check_split` found: it prints as one line per check.

    Attributes:
        frame: One row per check: ``check`` (what was looked for), ``parts`` (where), ``count`` of ``of`` (how
            many of how many), ``share``, ``severity`` (``'leak'``: results are worth nothing; ``'warning'``:
            look at it; ``'note'``: as it is in many splits; ``'ok'``) and ``example`` (by raw ids; why, where
            nothing could be checked).
    """

    frame: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether no check found a leak."""
        return not (self.frame["severity"] == "leak").any()

    @property
    def leaks(self) -> pd.DataFrame:
        """The rows of leaks."""
        return self.frame[self.frame["severity"] == "leak"]

    def to_frame(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _lines(self) -> list[str]:
        lines = []
        for row in self.frame.to_dict("records"):
            share = "under 0.1%" if 0 < row["share"] < 0.001 else f"{row['share']:.1%}"
            number = f"{row['count']:,} of {row['of']:,} ({share})" if row["of"] else "nothing to check"
            such = "such as " if row["count"] else ""
            example = f", {such}{row['example']}" if row["example"] else ""
            lines.append(f"{row['severity']:<8} {row['check']}, {row['parts']}: {number}{example}")
        return lines


def check_split(
    train: HeteroData,
    val: HeteroData | None = None,
    test: HeteroData | None = None,
    time: ByTime | None = None,
) -> SplitReport:
    """Looks for what a split of a store must not hold. No store is changed.

    =============================================  ==============================================================
    check                                          severity where something is found
    =============================================  ==============================================================
    pairs to find that an earlier part holds       leak: ``edge_index`` and ``edge_label_index`` of training
                                                   against validation and test, validation against test
    pairs to find in their own ``edge_index``       leak: what the model propagates over when it is asked
    pairs to find that must not be recommended     leak: they stand in ``seen_edge_index`` and are never found
    users, items that training lacks               warning: of them, models know at most features and links
    users with nothing to find                     note: of those that training has, they are no part of any mean;
                                                   warning where it is all of them
    interactions later than a pair to find         of the same user, and over all: leak if ``time`` says so,
                                                   note otherwise (most splits look ahead over all)
    triples that spell out pairs to find           leak: a triple joins the user's entity and the item's. A user is
                                                   the entity that has its raw id, alone or after ``user:``; where
                                                   ids are mere numbers, so that two may be equal by chance, a
                                                   warning, unless the relation is named as an interaction or half
                                                   of its triples are interactions
    triples to find that stand in training         leak
    triples to find whose reverse does             leak if the relations are inverse by name (``~``) or if half of
                                                   one's triples stand the other way round under the other;
                                                   warning otherwise
    =============================================  ==============================================================

    Pairs that are labelled 0 are neither known nor to be found. Nodes of different stores are matched by raw id; in
    stores without raw ids by position.

    Args:
        train: The training store, as splits make it.
        val: The validation store.
        test: The test store.
        time: What kind of split by time this is meant to be: ``'user'`` (nothing is learned of a user that is later
            than a pair of this user to be found), ``'all'`` (of anybody), or :obj:`None` for none.

    Returns:
        The report.

    Raises:
        TypeError: If a part is no store.
        ValueError: If a store is not valid, a part to be checked holds no ``edge_label_index``, there is neither
            ``val`` nor ``test``, or ``time`` is unknown.
    """
    if time is not None:
        check_choices(time=(time, get_args(ByTime)))
    parts = {"train": train} | {n: s for n, s in (("val", val), ("test", test)) if s is not None}
    if len(parts) == 1:
        raise ValueError("val and test are both None, expected at least one part to check against training.")
    for name, store in parts.items():
        validate(store)
        if name != "train" and all(
            store[e].get("edge_label_index") is None for e in (INTERACTS, *_relates(store))
        ):
            raise ValueError(
                f"{name} holds no edge_label_index, expected the pairs or triples that are to be found."
            )
    nodes = {kind: _Nodes.of(kind, parts) for kind in (USER, ITEM, ENTITY)}
    rows = [
        *_pairs(parts, nodes),
        *_strangers(parts, nodes),
        *_left_alone(parts, nodes),
        *_times(parts, nodes, time),
    ]
    rows += [*_spelled_out(parts, nodes), *_inverse(parts, nodes)]
    return SplitReport(
        frame_of({name: [getattr(row, name) for row in rows] for name in _Row.__annotations__})
    )


@dataclass(frozen=True)
class _Row:
    check: str
    parts: str
    count: int
    of: int
    share: float
    severity: Severity
    example: str


def _row(check: str, parts: str, count: int, of: int, severity: Severity, example: str = "") -> _Row:
    found = count > 0
    return _Row(check, parts, count, of, count / of if of else 0.0, severity if found else "ok", example)


@dataclass(frozen=True)
class _Nodes:
    """The nodes of one type over all parts.

    Attributes:
        number: A number for each node of each part (None where it is the position itself).
        size: How many different nodes there are.
        ids: Raw id by number, if there are raw ids.
    """

    number: dict[str, Tensor | None]
    size: int
    ids: Sequence[Any] | None

    @classmethod
    def of(cls, kind: str, parts: dict[str, HeteroData]) -> _Nodes:
        stores = {name: store[kind] for name, store in parts.items() if kind in store.node_types}
        ids = {name: store.get("id") for name, store in stores.items()}
        size = max((int(store.num_nodes) for store in stores.values()), default=0)
        first = next(iter(ids.values()), None)
        if first is None or any(raw is None for raw in ids.values()):
            return cls(dict.fromkeys(parts), size, None)
        if all(raw is first or (len(raw) == len(first) and raw == first) for raw in ids.values()):
            return cls(dict.fromkeys(parts), size, first)
        known = {
            raw: number for number, raw in enumerate(dict.fromkeys(i for raw in ids.values() for i in raw))
        }
        number = {name: torch.tensor([known[i] for i in raw], dtype=torch.long) for name, raw in ids.items()}
        return cls({name: number.get(name) for name in parts}, len(known), list(known))

    def place(self, part: str, index: Tensor) -> Tensor:
        """The numbers of nodes of a part."""
        number = self.number[part]
        return index.cpu() if number is None else number[index.cpu()]

    def name(self, number: int, what: str) -> str:
        """A node as an example shows it."""
        return f"{what} {quoted(self.ids[number], 30) if self.ids is not None else number}"


Nodes = dict[str, _Nodes]


def _relates(store: HeteroData) -> list[tuple[str, str, str]]:
    return [RELATES] if has_knowledge(store) else []


def _keys(
    nodes: Nodes, part: str, index: Tensor | None, edge_type: tuple[str, str, str] = INTERACTS
) -> Tensor:
    """One number per pair ``[2, n]``, the same for the same pair."""
    if index is None:
        return torch.empty(0, dtype=torch.long)
    first, second = nodes[edge_type[0]], nodes[edge_type[2]]
    return first.place(part, index[0]) * max(second.size, 1) + second.place(part, index[1])


def _pair_name(nodes: Nodes, key: Tensor) -> str:
    user, item = divmod(int(key), max(nodes[ITEM].size, 1))
    return f"{nodes[USER].name(user, 'user')} and {nodes[ITEM].name(item, 'item')}"


def _isin(values: Tensor, pool: Tensor) -> Tensor:
    """Which values stand in a pool."""
    if not pool.numel():
        return torch.zeros(values.numel(), dtype=torch.bool)
    ordered = pool.sort().values
    place = torch.searchsorted(ordered, values).clamp(max=ordered.numel() - 1)
    return ordered[place] == values


def _wanted(parts: dict[str, HeteroData]) -> list[str]:
    """The parts that hold pairs to find."""
    return [
        name
        for name in parts
        if name != "train" and parts[name][INTERACTS].get("edge_label_index") is not None
    ]


def _to_find(store: HeteroData) -> tuple[Tensor, Tensor | None]:
    """The pairs of ``edge_label_index`` ``[2, n]`` and their times; those labelled 0 are nothing to be found."""
    own = store[INTERACTS]
    index, time, label = (own.get(key) for key in ("edge_label_index", "edge_label_time", "edge_label"))
    if index is None:
        return torch.empty(2, 0, dtype=torch.long), None
    if label is None:
        return index, time
    return index[:, label > 0], None if time is None else time[label > 0]


def _pairs(parts: dict[str, HeteroData], nodes: Nodes) -> list[_Row]:
    rows = []
    wanted = {name: _keys(nodes, name, _to_find(parts[name])[0]).unique() for name in _wanted(parts)}

    def row(check: str, where: str, found: Tensor, pool: Tensor) -> None:
        both = found[_isin(found, pool)]
        example = _pair_name(nodes, both[0]) if both.numel() else ""
        rows.append(_row(check, where, both.numel(), found.numel(), "leak", example))

    known = (parts["train"][INTERACTS].edge_index, _to_find(parts["train"])[0])
    training = torch.cat([_keys(nodes, "train", index) for index in known])
    for name, found in wanted.items():
        row("pairs to find that an earlier part holds", f"train and {name}", found, training)
    if len(wanted) == 2:
        row("pairs to find that an earlier part holds", "val and test", wanted["test"], wanted["val"])
    for name, found in wanted.items():
        own = parts[name][INTERACTS]
        shown = _keys(nodes, name, own.edge_index)
        row("pairs to find in edge_index of their own store", name, found, shown)
        row(
            "pairs to find that must not be recommended",
            name,
            found,
            _keys(nodes, name, own.get("seen_edge_index")),
        )
    return rows


def _strangers(parts: dict[str, HeteroData], nodes: Nodes) -> list[_Row]:
    rows = []
    for name in _wanted(parts):
        for side, kind in enumerate((USER, ITEM)):
            there = torch.zeros(nodes[kind].size, dtype=torch.bool)
            there[nodes[kind].place("train", parts["train"][INTERACTS].edge_index[side])] = True
            asked = nodes[kind].place(name, _to_find(parts[name])[0][side]).unique()
            lacking = asked[~there[asked]]
            example = nodes[kind].name(int(lacking[0]), kind) if lacking.numel() else ""
            rows.append(
                _row(f"{kind}s that training lacks", name, lacking.numel(), asked.numel(), "warning", example)
            )
    return rows


def _left_alone(parts: dict[str, HeteroData], nodes: Nodes) -> list[_Row]:
    """Users of training that a part asks nothing of."""
    rows, there = [], nodes[USER].place("train", parts["train"][INTERACTS].edge_index[0]).unique()
    for name in _wanted(parts):
        asked = nodes[USER].place(name, _to_find(parts[name])[0][0])
        idle = there[~_isin(there, asked)]
        example = nodes[USER].name(int(idle[0]), "user") if idle.numel() else ""
        severity: Severity = "warning" if idle.numel() == there.numel() else "note"
        rows.append(_row("users with nothing to find", name, idle.numel(), there.numel(), severity, example))
    return rows


def _comparable(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, float]:
    """Two columns of times in a dtype that holds both exactly where both are whole, and a time after all others."""
    if one.is_floating_point() or other.is_floating_point():
        return one.cpu().double(), other.cpu().double(), torch.inf
    return one.cpu().long(), other.cpu().long(), torch.iinfo(torch.long).max


def _times(parts: dict[str, HeteroData], nodes: Nodes, claim: ByTime | None) -> list[_Row]:
    rows = []
    check = "interactions later than a pair to find"
    order = ["train", *_wanted(parts)]
    for place, name in enumerate(order[1:], 1):
        pairs, moment = _to_find(parts[name])
        if moment is None:
            rows.append(_row(check, name, 0, 0, "ok", "no edge_label_time to check by"))
            continue
        user = nodes[USER].place(name, pairs[0])
        for before in order[:place]:
            own = parts[before][INTERACTS]
            index, time = (own.edge_index, own.get("time")) if before == "train" else _to_find(parts[before])
            where = f"{before} and {name}"
            if time is None:
                rows.append(_row(check, where, 0, 0, "ok", "no time to check by"))
                continue
            when, time, never = _comparable(moment, time)
            earliest = torch.full((nodes[USER].size,), never, dtype=when.dtype)
            earliest.scatter_reduce_(0, user, when, "amin")
            of_user = nodes[USER].place(before, index[0])
            first = when.min() if when.numel() else never
            for scope, late in (("of the same user", time > earliest[of_user]), ("of anybody", time > first)):
                example = ""
                if late.any():
                    example = _pair_name(nodes, _keys(nodes, before, index[:, late.nonzero()[0]])[0])
                leak = claim == "all" or (claim == "user" and scope == "of the same user")
                rows.append(
                    _row(
                        f"{check} {scope}",
                        where,
                        int(late.sum()),
                        time.numel(),
                        "leak" if leak else "note",
                        example,
                    )
                )
    return rows


def _triples(parts: dict[str, HeteroData], nodes: Nodes) -> tuple[Tensor, list[str]]:
    """The different triples that models are shown, ``[3, T]`` in common numbers, and the relations' labels."""
    found, labels, known = [], dict[str, int](), set[int]()
    for name, store in parts.items():
        if not has_knowledge(store) or id(store[RELATES].edge_index) in known:
            continue
        known.add(id(store[RELATES].edge_index))
        ends = [nodes[ENTITY].place(name, end) for end in store[RELATES].edge_index]
        found.append(torch.stack([ends[0], _relation(store, store[RELATES].edge_type, labels), ends[1]]))
    return (torch.cat(found, dim=1) if found else torch.empty(3, 0, dtype=torch.long)), list(labels)


def _relation(store: HeteroData, relation: Tensor, labels: dict[str, int]) -> Tensor:
    """The common numbers of relations, by label."""
    number = [labels.setdefault(label, len(labels)) for label in store.relation_name]
    return torch.tensor(number, dtype=torch.long)[relation.cpu()]


def _spelled_out(parts: dict[str, HeteroData], nodes: Nodes) -> list[_Row]:
    check = "triples that spell out pairs to find"
    if not any(map(has_knowledge, parts.values())):
        return []
    users, by_chance = _user_entities(nodes)
    if users is None or not users.size:
        reason = (
            "no user is an entity" if users is not None else "no raw ids of users and entities to check by"
        )
        return [_row(check, "train", 0, 0, "ok", reason)]
    of_entity = torch.full((max(nodes[ENTITY].size, 1),), -1)
    of_entity[torch.from_numpy(users[:, 1].copy())] = torch.from_numpy(users[:, 0].copy())
    links = _links(parts, nodes)
    (head, relation, tail), labels = _triples(parts, nodes)
    number, user, item = [], [], []
    for one, other in ((head, tail), (tail, head)):
        row = (of_entity[one] >= 0).nonzero().flatten().numpy()
        ends = pd.DataFrame({"row": row, "user": of_entity[one].numpy()[row], "entity": other.numpy()[row]})
        joined = ends.merge(links, on="entity")
        number.append(joined["row"].to_numpy())
        user.append(joined["user"].to_numpy())
        item.append(joined["item"].to_numpy())
    triple = torch.from_numpy(np.concatenate(number).astype(np.int64))
    key = torch.from_numpy(
        np.concatenate(user).astype(np.int64) * max(nodes[ITEM].size, 1)
        + np.concatenate(item).astype(np.int64)
    )
    wanted = {name: _keys(nodes, name, _to_find(parts[name])[0]).unique() for name in _wanted(parts)}
    every = torch.cat([_keys(nodes, "train", parts["train"][INTERACTS].edge_index), *wanted.values()])
    size = relation.bincount(minlength=len(labels))
    likely = relation[triple[_isin(key, every)].unique()].bincount(minlength=len(labels)) / size.clamp(min=1)
    rows = []
    for name, pairs in wanted.items():
        hit = _isin(key, pairs)
        kinds = relation[triple[hit]].unique().tolist()
        sure = not by_chance or any(
            float(likely[kind]) >= _MOSTLY or any(word in labels[kind].lower() for word in _LIKES)
            for kind in kinds
        )
        example = ""
        if kinds:
            first = int(hit.nonzero()[0])
            example = f"{_pair_name(nodes, key[first])} by {quoted(labels[int(relation[triple[first]])], 30)}"
        count = key[hit].unique().numel()
        rows.append(_row(check, name, count, pairs.numel(), "leak" if sure else "warning", example))
    return rows


def _user_entities(nodes: Nodes) -> tuple[Array | None, bool]:
    """User and entity of each user that is an entity ``[n, 2]``, and whether that may be so by chance."""
    users, entities = nodes[USER].ids, nodes[ENTITY].ids
    if users is None or entities is None:
        return None, False
    known = {str(raw): number for number, raw in enumerate(users)}
    text = pd.Series([str(raw) for raw in entities], dtype=object)
    plain = _places(text, known)
    marked = _places(text.where(plain.isna()).str.extract(_USER_ENTITY, expand=False), known)
    by_chance = (
        bool(plain.notna().any()) and bool(text[plain.notna()].str.isdecimal().all()) and marked.isna().all()
    )
    found = plain.fillna(marked) if marked.notna().any() else plain
    entity = np.flatnonzero(found.notna().to_numpy())
    return np.stack([found.to_numpy()[entity].astype(np.int64), entity], axis=1), bool(by_chance)


def _places(text: pd.Series, known: dict[str, int]) -> pd.Series:
    """Numbers of texts, as ``map`` finds them; it cannot look up half a surrogate pair where Arrow keeps text."""
    return pd.Series([known.get(t, np.nan) for t in text], dtype=float)


def _links(parts: dict[str, HeteroData], nodes: Nodes) -> pd.DataFrame:
    """Item and entity of each link, and of each item that has an entity's raw id where no link says so."""
    pairs = [
        torch.stack([nodes[ITEM].place(name, index[0]), nodes[ENTITY].place(name, index[1])])
        for name, store in parts.items()
        if has_knowledge(store)
        for index in [store[IS].edge_index]
    ]
    item, entity = torch.cat(pairs, dim=1).numpy()
    found = pd.DataFrame({"item": item, "entity": entity})
    if nodes[ITEM].ids is not None and nodes[ENTITY].ids is not None:
        known = {raw: number for number, raw in enumerate(nodes[ENTITY].ids)}
        linked = set(item.tolist())
        same = [
            (number, known[raw])
            for number, raw in enumerate(nodes[ITEM].ids)
            if number not in linked and raw in known
        ]
        found = pd.concat([found, pd.DataFrame(same, columns=["item", "entity"], dtype=np.int64)])
    return found.drop_duplicates()


def _inverse(parts: dict[str, HeteroData], nodes: Nodes) -> list[_Row]:
    """Held-out triples that training holds, as they are or the other way round."""
    train = parts["train"]
    held = {
        name: store[RELATES]
        for name, store in parts.items()
        if name != "train" and has_knowledge(store) and store[RELATES].get("edge_label_index") is not None
    }
    if not held or not has_knowledge(train):
        return []
    labels: dict[str, int] = {}
    size = max(nodes[ENTITY].size, 1)

    def frame(part: str, index: Tensor, relation: Tensor) -> pd.DataFrame:
        head, tail = (nodes[ENTITY].place(part, end) for end in index)
        number = _relation(parts[part], relation, labels)
        columns = {"pair": head * size + tail, "back": tail * size + head, "relation": number}
        return pd.DataFrame({key: column.numpy() for key, column in columns.items()}).drop_duplicates()

    shown = frame("train", train[RELATES].edge_index, train[RELATES].edge_type)
    found = {name: frame(name, store.edge_label_index, store.edge_label_type) for name, store in held.items()}
    every = pd.concat([shown, *found.values()]).drop_duplicates()
    inverse = _inverse_relations(every, list(labels))
    rows = []
    for name, part in found.items():
        again = part.merge(shown[["pair", "relation"]], on=["pair", "relation"])
        check, where = "triples to find that stand in training", f"train and {name}"
        rows.append(
            _row(check, where, len(again), len(part), "leak", _triple_name(again, size, nodes, list(labels)))
        )
        back = part.merge(
            shown[["pair", "relation"]], left_on="back", right_on="pair", suffixes=("", "_back")
        )
        known = (
            pd.Series(list(zip(back["relation"], back["relation_back"])), dtype=object)
            .isin(inverse)
            .to_numpy(bool)
        )
        for check, some, severity in (
            (
                "triples to find whose reverse stands in training under an inverse relation",
                back[known],
                "leak",
            ),
            ("triples to find whose ends training joins the other way round", back[~known], "warning"),
        ):
            some = some.drop_duplicates(["pair", "relation"])
            example = _triple_name(some, size, nodes, list(labels))
            rows.append(_row(check, where, len(some), len(part), severity, example))  # type: ignore[arg-type]
    return rows


def _inverse_relations(every: pd.DataFrame, labels: list[str]) -> list[tuple[int, int]]:
    """Pairs of relations of which one says the other the other way round: by their names, or mostly in fact."""
    both = every.merge(every[["pair", "relation"]], left_on="back", right_on="pair", suffixes=("", "_back"))
    both = both[both["pair"] != both["back"]]
    count = both.groupby(["relation", "relation_back"]).size()
    size = every["relation"].value_counts()
    found: set[tuple[int, int]] = set()
    for pair, number in count.items():
        one, other = (int(kind) for kind in pair)  # type: ignore[attr-defined]
        if number >= _MOSTLY * size[one]:
            found |= {(one, other), (other, one)}
    place = {label: number for number, label in enumerate(labels)}
    named = [(one, place[f"~{label}"]) for label, one in place.items() if f"~{label}" in place]
    found |= {*named, *((back, one) for one, back in named)}
    return list(found)


def _triple_name(rows: pd.DataFrame, size: int, nodes: Nodes, labels: list[str]) -> str:
    if rows.empty:
        return ""
    head, tail = divmod(int(rows["pair"].iloc[0]), size)
    label = shorten(labels[int(rows["relation"].iloc[0])], 30)
    return f"({nodes[ENTITY].name(head, 'entity')}, {label}, {nodes[ENTITY].name(tail, 'entity')})"
