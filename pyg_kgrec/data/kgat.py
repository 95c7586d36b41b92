"""The files that KGAT introduced, in which Last-FM, MIND and Alibaba-iFashion are handed around."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from pyg_kgrec.data.splitting import TEST, TRAIN, VAL, apply_split, random_split
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, validate

Array = NDArray[Any]

_MAX_DIGITS: Final = 10
_FOREIGN: Final = re.compile(r"[^0-9 \t\r\n]")


def read_kgat(
    root: str | PathLike[str], *, val: float = 0.1, seed: int = 0
) -> tuple[HeteroData, HeteroData, HeteroData]:
    """Reads ``train.txt``, ``test.txt`` and ``kg_final.txt`` from a folder.

    Each line of ``train.txt`` and ``test.txt`` is a user followed by the items of that user, all numbers;
    a user without items gives no pair. Each line of ``kg_final.txt`` is a triple: head, relation, tail. Ids
    are consecutive numbers from 0 and serve as raw ids, too; item i is entity i wherever there is an entity
    i. A pair that is repeated counts once, in training if it stands there.

    Args:
        root: The folder of the three files.
        val: The share of each user's training pairs that becomes validation (these files come without
            one), drawn and rounded as in :class:`~pyg_kgrec.transforms.RandomSplit`. With 0 the
            validation store has no pairs, and ``edge_index`` is all of ``train.txt``.
        seed: The seed of that draw.

    Returns:
        The stores ``(train, val, test)`` of :func:`~pyg_kgrec.transforms.apply_split`.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If ``val`` is out of range, a line holds anything but numbers, or a triple is no triple.
            The message names the file and line, what is wrong and what was expected.
    """
    if not 0 <= val < 1:
        raise ValueError(f"val is {val}, expected a share of the training pairs in [0, 1).")
    folder = Path(root)
    training, held_out = _read_pairs(folder / "train.txt"), _read_pairs(folder / "test.txt")
    triples = _read_triples(folder / "kg_final.txt")
    if not len(training):
        raise ValueError("train.txt: there is no pair, expected users followed by their items.")

    pairs = np.concatenate([training, held_out])
    in_test = np.arange(len(pairs)) >= len(training)
    first = ~pd.DataFrame(pairs).duplicated().to_numpy()
    pairs, in_test = pairs[first], in_test[first]
    num_users, num_items = (int(size) for size in pairs.max(axis=0) + 1)
    num_entities = int(triples[:, [0, 2]].max(initial=-1)) + 1

    data = HeteroData()
    for kind, size in ((USER, num_users), (ITEM, num_items), (ENTITY, num_entities)):
        data[kind].num_nodes = size
        data[kind].id = list(range(size))
    data[INTERACTS].edge_index = torch.from_numpy(pairs.T.copy())
    data[IS].edge_index = torch.arange(min(num_items, num_entities)).repeat(2, 1)
    data[RELATES].edge_index = torch.from_numpy(triples[:, [0, 2]].T.copy())
    data[RELATES].edge_type = torch.from_numpy(triples[:, 1].copy())
    data.relation_name = [str(relation) for relation in range(int(triples[:, 1].max(initial=-1)) + 1)]
    validate(data)

    split = torch.full((len(pairs),), TEST)
    train_rows = torch.from_numpy(~in_test)
    user = data[INTERACTS].edge_index[0, train_rows]
    # In a split with no test of its own the splits are 0 (train) and 1 (validation).
    split[train_rows] = torch.where(random_split(user, val, 0.0, seed) == VAL, VAL, TRAIN)
    return apply_split(data, split)


def _read_pairs(path: Path) -> Array:
    """The pairs [n, 2] of a file with one user and their items per line."""
    line, number = _read_numbers(path)
    starts = np.diff(line, prepend=-1) != 0
    user = number[starts][np.cumsum(starts) - 1]
    pairs: Array = np.stack([user, number], axis=1)[~starts]
    return pairs


def _read_triples(path: Path) -> Array:
    """The triples [T, 3] of a file with head, relation and tail a line."""
    line, number = _read_numbers(path)
    count = np.bincount(line)
    wrong = (count != 3) & (count != 0)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{path.name}, line {first + 1}: the count of numbers is {count[first]}, "
            "expected three: head, relation and tail."
        )
    return number.reshape(-1, 3)


def _read_numbers(path: Path) -> tuple[Array, Array]:
    """All numbers of a file, with the line (from 0) that each stands in."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a file of numbers.")
    text = path.read_bytes().decode("utf-8", errors="replace").removeprefix("\ufeff")
    foreign = _FOREIGN.search(text)
    if foreign is not None:
        before = text.count("\n", 0, foreign.start())
        content = text.split("\n")[before][:40]
        raise ValueError(
            f"{path.name}, line {before + 1}: found {foreign.group()!r} in {content!r}, "
            "expected numbers from 0 up, with spaces between."
        )
    code = np.frombuffer(text.encode(), dtype=np.uint8)
    digit = np.concatenate([[False], code >= ord("0"), [False]])
    starts, ends = np.flatnonzero(digit[1:] & ~digit[:-1]), np.flatnonzero(digit[:-1] & ~digit[1:])
    line: Array = np.searchsorted(np.flatnonzero(code == ord("\n")), starts)
    # On blank text np.fromstring would make up a number.
    number = (
        np.fromstring(text.strip(), dtype=np.int64, sep=" ") if starts.size else np.empty(0, dtype=np.int64)
    )
    _check_sizes(path.name, line, number, ends - starts)
    return line, number


def _check_sizes(file: str, line: Array, number: Array, digits: Array) -> None:
    """Refuses ids so far from consecutive that a table with a row an id could not be made."""
    wrong = (digits > _MAX_DIGITS) | (number > 10 * number.size + 1000)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, line {line[first] + 1}: there is an id of {digits[first]} digits in a file of "
            f"{number.size} numbers, expected consecutive ids from 0 up."
        )
