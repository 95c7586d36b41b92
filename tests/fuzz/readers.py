"""Damaged files and DataFrames: each ends in a store, or in one sentence that refuses it."""

from __future__ import annotations

import datetime
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pandas as pd
from torch_geometric.data import HeteroData

from pyg_kgrec.data import from_pandas, read_atomic, read_kgat, validate

_ATOMIC: Final = {
    ".inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\tlabel:float\n"
    "7\t20\t5\t100\t1\n8\t10\t3\t101\t0\n7\t10\t4\t102\t1\n8\t30\t1\t103\t0\n9\t20\t2\t104\t1\n",
    ".kg": "head_id:token\trelation_id:token\ttail_id:token\nm.1\tfilm.by\tm.2\nm.3\tfilm.by\tm.2\n"
    "m.3\tfilm.by\tm.2\n",
    ".link": "item_id:token\tentity_id:token\n10\tm.3\n20\tm.1\n",
    ".item": "item_id:token\tyear:token\tmovie_title:token_seq\n10\t1990\tTen\n40\t\t\n20\t1999\tTwo “Tens”\n",
    ".user": "age:token\tuser_id:token\n30\t8\n40\t7\n",
}
_SPLITS: Final = (".train.inter", ".valid.inter", ".test.inter")
_KGAT: Final = {
    "train.txt": "0 1 2 3 4 5\n2 0 1\n1 4 5 6\n",
    "test.txt": "0 6\n1\n2 2 3\n",
    "kg_final.txt": "0 0 7\n3 2 8\n7 0 8\n7 0 8\n",
}
_PIECES: Final = (
    b"\t", b"\n", b"\r", b"\0", b'"', b",", b";", b":", b" ", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"-1",
    b"1e999", b"nan", b"inf", b"9" * 30, b"1" * 400, "ä".encode("latin-1"), "\u2028".encode(), b"\x1c",
    b"0x10", b"1_0", b"user_id:token", b":float", b"token_seq", b"x" * 5000,
)  # fmt: skip
_ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 2**63, 2**64, 10**400, 1.5, 1e39, 1e308, float("nan"), float("inf"), 1 + 2j, "",
    "nan", " u1", "1.0", "007", "x" * 100_000, "a\nb", "\ud800", b"bytes", (1, 2), [1], {}, np.int8(3),
    np.float32(2), np.str_("s"), pd.NA, pd.NaT, pd.Timestamp(0),
    pd.Timestamp("2262-01-01", tz="Asia/Tokyo"), datetime.date(1, 1, 1), datetime.timedelta(1), object(),
)  # fmt: skip
_DTYPES: Final = (
    "category", "string", "object", "float32", "float16", "Int64", "UInt8", "Float64", "boolean",
    "complex64", "int8", "datetime64[ns]", "datetime64[s]", "timedelta64[ns]", "Sparse[int]",
    "Sparse[float]", "str", "S5", "uint64",
)  # fmt: skip
_NAMES: Final = (
    "user_id", "item_id", "label", "Click", "weight", "rating", "item_id_list", "timestamp", 0, 1.5, None,
    True, ("a", "b"), "n" * 50_000, "a\nb", float("nan"),
)  # fmt: skip


def cases(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """``count`` damaged inputs of the readers and of ``from_pandas``; the same seed gives the same ones.

    Each returns the stores it made, or raises. A store that is returned and not valid is an AssertionError.
    """
    kinds, folder = (_atomic, _frames, _kgat), tempfile.TemporaryDirectory()
    for number in range(count):
        yield partial(_run, kinds[number % len(kinds)], f"{seed}/{number}", folder)


def _run(
    kind: Callable[[Random, str], Any], seed: str, folder: tempfile.TemporaryDirectory[str]
) -> list[HeteroData]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kind(Random(seed), folder.name)
        stores = list(made) if isinstance(made, tuple) else [made]
        for store in stores:
            try:
                validate(store)
            except (TypeError, ValueError) as error:
                raise AssertionError(f"a reader returned a store that is not valid: {error}") from error
    return stores


def _damaged(raw: bytes, random: Random) -> bytes:
    """Some bytes flipped, cut, doubled, moved or replaced."""
    for _ in range(random.choice((1, 1, 1, 3))):
        start = random.randrange(len(raw) + 1)
        end = min(len(raw), start + random.choice((0, 1, 3, 20, 10**6)))
        kind = random.randrange(8)
        if kind == 0 and raw:
            at = random.randrange(len(raw))
            raw = raw[:at] + bytes([raw[at] ^ 1 << random.randrange(8)]) + raw[at + 1 :]
        elif kind == 1:
            raw = raw[:start]
        elif kind == 2:
            raw = raw[:start] + random.choice(_PIECES) + raw[end:]
        elif kind == 3:
            raw = raw[:start] + random.randbytes(random.randrange(9)) + raw[end:]
        elif kind == 4:
            raw = raw[:end] + raw[start:]
        elif kind == 5:
            lines = raw.split(b"\n")
            random.shuffle(lines)
            raw = b"\n".join(lines)
        elif kind == 6:
            raw = raw.replace(b"\t", random.choice(_PIECES[:8]))
        else:
            raw = raw + random.choice((b"\n", b"\n\n \n", b"\t\t\t\t\n", b"\r\n"))
    return raw


def _write(folder: Path, files: dict[str, bytes], random: Random) -> None:
    """The files, one or two of them damaged, now and then all in another encoding."""
    damaged = random.sample(sorted(files), random.choice((1, 1, 2)))
    codec = random.choice(("utf-8",) * 15 + ("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32"))
    for name, raw in files.items():
        text = raw.decode().encode(codec, errors="replace")
        (folder / name).write_bytes(_damaged(text, random) if name in damaged else text)


def _options(random: Random) -> dict[str, Any]:
    """Arguments that a reader of files may be given, most of them sound."""
    options: dict[str, Any] = {}
    if random.random() < 0.1:
        options["encoding"] = random.choice(
            (None, "cp1252", "utf-16", "utf-7", "hex", "no such", "", 5, "a\0b", "idna")
        )
    if random.random() < 0.05:
        options["separator"] = random.choice((",", ";", " ", "\t", "::", "", "\n", None, 0, "x" * 10**5))
    return options


def _atomic(random: Random, folder: str) -> Any:
    files = {f"toy{suffix}": text.encode() for suffix, text in _ATOMIC.items()}
    splits: Any = None
    if random.random() < 0.3:
        splits = ("train", "valid", "test")
        files |= {f"toy{suffix}": files["toy.inter"] for suffix in _SPLITS}
        if random.random() < 0.2:
            splits = random.choice(
                ("train", ("train", "x" * 10**4, "test"), ("train",), 5, (1, 2, 3), [None] * 3)
            )
    options = _options(random) | {"label_col": "label", "unknown": "drop"}
    odd: dict[str, tuple[Any, ...]] = {
        "label_col": (False, None, "rating", "user_id", 0, []),
        "min_rating": (3, -1, float("nan"), 10**400, "3", True),
        "unknown": ("raise", "skip", None),
        "rating_col": ("rating", "label", "no", 0, "timestamp", "item_id"),
    }
    if random.random() < 0.3:
        option = random.choice(sorted(odd))
        options[option] = random.choice(odd[option])
    name = random.choice(("toy",) * 20 + ("no", "x" * 10**4, "a\0b", 5, "\ud800"))
    _write(Path(folder), files, random)
    return read_atomic(folder, name, splits, **options)  # type: ignore[arg-type]


def _kgat(random: Random, folder: str) -> Any:
    options = _options(random)
    if random.random() < 0.3:
        options["val"] = random.choice((0, 0.5, 1, -0.1, float("nan"), "0.1", None, 10**400, True))
    if random.random() < 0.2:
        options["seed"] = random.choice((1, -5, 2**70, 1.5, None, "0", np.int64(3)))
    _write(Path(folder), {name: text.encode() for name, text in _KGAT.items()}, random)
    root: Any = random.choice((folder,) * 20 + (5, folder + "/no", "\0", None))
    return read_kgat(root, **options)


def _frames(random: Random, folder: str) -> Any:
    frames: dict[str, Any] = dict(_sound_frames(random.random() < 0.5))
    for name in ("triples", "links", "items", "users", "entities"):
        if random.random() < 0.2:
            frames[name] = None
    for _ in range(random.choice((1, 1, 1, 2))):
        name = random.choice(
            [name for name, frame in frames.items() if isinstance(frame, pd.DataFrame)] or ["users"]
        )
        if isinstance(frames[name], pd.DataFrame):
            frames[name] = _damaged_frame(frames[name], random)
    options: dict[str, Any] = {"label_col": "label", "unknown": "drop"}
    odd: dict[str, tuple[Any, ...]] = {
        "label_col": (False, None, "rating", "user_id", 0, []),
        "item_features": (
            "year",
            ["year"],
            {"year"},
            pd.Index(["year"]),
            ["title"],
            ["no"],
            5,
            None,
            [["year"]],
        ),
        "entity_features": (["v"], ["v", "v"], "entity_id"),
        "min_rating": (2, 10**400, float("inf"), "2", np.float32(1), []),
        "unknown": ("raise", "skip", 5),
    }
    for column in ("user_col", "item_col", "entity_col", "rating_col", "time_col", "head_col", "item_name"):
        odd[column] = (*_NAMES, [], {}, np.array(["a"]), b"user_id")
    if random.random() < 0.3:
        option = random.choice(sorted(odd))
        options[option] = random.choice(odd[option])
    return from_pandas(**frames, **options)


@cache
def _sound_frames(text: bool) -> dict[str, pd.DataFrame]:
    """Frames that make a store, with ids that are ``str`` or ``int``."""
    users, items = (
        (["u2", "u1", "u2", "u3"], ["i9", "i9", "i5", "i7"]) if text else ([2, 1, 2, 3], [9, 9, 5, 7])
    )
    interactions = {"user_id": users, "item_id": items, "rating": [5, 1, 2, 4], "timestamp": [9, 8, 7, 6]}
    triples = {
        "head_id": ["e3", "e1", "e1"],
        "relation_id": ["by", "by", "in"],
        "tail_id": ["e1", "e7", "e7"],
    }
    return {
        "interactions": pd.DataFrame(interactions | {"label": [1, 0, 1, 1]}),
        "triples": pd.DataFrame(triples),
        "links": pd.DataFrame({"item_id": items[2:], "entity_id": ["e7", "e1"]}),
        "items": pd.DataFrame(
            {"item_id": items[1:], "title": ["One", None, "Nine"], "year": [1.0, 5.0, 9.0]}
        ),
        "users": pd.DataFrame({"user_id": sorted(set(users)), "name": list("abc"), "age": [20, 30, 40]}),
        "entities": pd.DataFrame({"entity_id": ["e1", "e3", "e7"], "v": [0.5, 1.0, 2.0]}),
    }


def _damaged_frame(frame: pd.DataFrame, random: Random) -> Any:
    """The frame with one thing wrong (or only odd) about it."""
    frame = frame.copy()
    if not len(frame.columns):
        return frame
    place = random.randrange(len(frame.columns))
    column = frame.iloc[:, place]
    kind = random.randrange(13)
    if kind in (0, 1, 2) and len(frame):
        cells = column.astype(object).tolist()
        for _ in range(random.choice((1, 1, len(cells)))):
            cells[random.randrange(len(cells))] = random.choice(_ODD)
        dtype = object if kind < 2 else None
        return _with_column(frame, place, pd.Series(cells, index=frame.index, dtype=dtype))
    if kind in (3, 4):
        try:
            return _with_column(frame, place, column.astype(random.choice(_DTYPES)))
        except (TypeError, ValueError, OverflowError, AttributeError, ImportError):
            return frame
    if kind == 5:
        names = list(frame.columns)
        names[place] = random.choice(_NAMES)
        frame.columns = pd.Index(names, dtype=object, tupleize_cols=False)
        return frame
    if kind == 6:
        return frame.drop(columns=frame.columns[place])
    if kind == 7:
        return pd.concat([frame, column], axis=1)
    if kind == 8:
        order = random.sample(range(len(frame.columns)), len(frame.columns))
        return frame.set_axis(frame.columns[order], axis=1)
    if kind == 9:
        return pd.concat({random.choice(("a", 0)): frame}, axis=1)
    if kind == 10:
        return frame.iloc[: random.randrange(len(frame) + 1)]
    if kind == 11:
        return pd.concat([frame] * random.choice((2, 3)))
    return random.choice(
        (column, frame.to_numpy(), frame.to_dict(), [], "frame", 5, pd.DataFrame(), frame.T, frame.index)
    )


def _with_column(frame: pd.DataFrame, place: int, column: pd.Series) -> pd.DataFrame:
    frame.isetitem(place, column)
    return frame
