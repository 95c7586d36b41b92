"""The files that KGAT introduced, in which Last-FM, MIND and Alibaba-iFashion are handed around."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Real
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
from pyg_kgrec.data.text import check_encoding, check_separator, quoted, read_text

Array = NDArray[Any]

_MAX_DIGITS: Final = 10
_FOREIGN: Final = re.compile(r"[^0-9 \t\r\n]")


def read_kgat(
    root: str | PathLike[str],
    *,
    val: float = 0.1,
    seed: int = 0,
    encoding: str | None = None,
    separator: str = " ",
) -> tuple[HeteroData, HeteroData, HeteroData]:
    """Reads ``train.txt``, ``test.txt`` and ``kg_final.txt`` from a folder.

    Each line of ``train.txt`` and ``test.txt`` is a user followed by the items of that user, all numbers;
    a user without items gives no pair. Each line of ``kg_final.txt`` is a triple: head, relation, tail. Ids
    are consecutive numbers from 0 and serve as raw ids, too; item i is entity i wherever there is an entity
    i. A pair that is repeated counts once, in training if it stands there; a triple that is repeated counts once,
    as in the loader of KGAT's authors.

    Args:
        root: The folder of the three files.
        val: The share of each user's training pairs that becomes validation (these files come without
            one), drawn and rounded as in :class:`~pyg_kgrec.transforms.RandomSplit`. With 0 the
            validation store has no pairs, and ``edge_index`` is all of ``train.txt``.
        seed: The seed of that draw.
        encoding: The encoding of the files; by default what a byte order mark says, UTF-8 without one.
        separator: What stands between the numbers of a line, beside spaces and tabs.

    Returns:
        The stores ``(train, val, test)`` of :func:`~pyg_kgrec.transforms.apply_split`.

    Raises:
        FileNotFoundError: If one of the files is missing or cannot be read.
        TypeError: If an argument has another type.
        ValueError: If ``val`` is out of range, a line holds anything but numbers, or a triple is no triple.
            The message names the file and line, what is wrong and what was expected.
    """
    if not isinstance(root, str | PathLike):
        raise TypeError(f"root is {quoted(root)}, expected the folder of the files.")
    if isinstance(val, bool) or not isinstance(val, Real):
        raise TypeError(f"val is {quoted(val)}, expected a share of the training pairs in [0, 1).")
    if not 0 <= val < 1:
        raise ValueError(f"val is {quoted(val)}, expected a share of the training pairs in [0, 1).")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed is {quoted(seed)}, expected a whole number.")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed is {quoted(seed)}, expected a whole number of 64 bits.")
    check_encoding(encoding)
    check_separator(separator)
    if any(character.isdigit() for character in separator):
        raise ValueError(f"separator is {quoted(separator)}, expected no digit, which is part of a number.")
    folder, read = Path(root), _Numbers(encoding, separator)
    training, held_out = _read_pairs(folder / "train.txt", read), _read_pairs(folder / "test.txt", read)
    triples = _read_triples(folder / "kg_final.txt", read)
    triples = triples[~pd.DataFrame(triples).duplicated().to_numpy()]
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
    split[train_rows] = torch.where(random_split(user, val, 0.0, int(seed)) == VAL, VAL, TRAIN)
    return apply_split(data, split)


def _read_pairs(path: Path, read: _Numbers) -> Array:
    """The pairs [n, 2] of a file with one user and their items per line."""
    line, number = read(path)
    starts = np.diff(line, prepend=-1) != 0
    user = number[starts][np.cumsum(starts) - 1]
    pairs: Array = np.stack([user, number], axis=1)[~starts]
    return pairs


def _read_triples(path: Path, read: _Numbers) -> Array:
    """The triples [T, 3] of a file with head, relation and tail a line."""
    line, number = read(path)
    count = np.bincount(line)
    wrong = (count != 3) & (count != 0)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{path.name}, line {first + 1}: the count of numbers is {count[first]}, "
            "expected three: head, relation and tail."
        )
    return number.reshape(-1, 3)


@dataclass(frozen=True)
class _Numbers:
    """Reads all numbers of a file, with the line (from 0) that each stands in.

    Attributes:
        encoding: The encoding; see :func:`~pyg_kgrec.data.text.read_text`.
        separator: What stands between numbers.
    """

    encoding: str | None
    separator: str

    def __call__(self, path: Path) -> tuple[Array, Array]:
        """Lines and numbers, ``[n]`` int64 each."""
        text = read_text(path, "a file of numbers", self.encoding).replace(self.separator, " ")
        foreign = _FOREIGN.search(text)
        if foreign is not None:
            before, start = text.count("\n", 0, foreign.start()), text.rfind("\n", 0, foreign.start()) + 1
            hint = f" (separator={foreign.group()!r} reads it)" if foreign.group() in ",;|" else ""
            raise ValueError(
                f"{path.name}, line {before + 1}: found {quoted(foreign.group())} in "
                f"{quoted(text[start : start + 41].partition(chr(10))[0])}, "
                f"expected numbers from 0 up, with spaces between{hint}."
            )
        code = np.frombuffer(text.encode(), dtype=np.uint8)
        digit = np.concatenate([[False], code >= ord("0"), [False]])
        starts, ends = np.flatnonzero(digit[1:] & ~digit[:-1]), np.flatnonzero(digit[:-1] & ~digit[1:])
        line: Array = np.searchsorted(np.flatnonzero(code == ord("\n")), starts)
        # On blank text np.fromstring would make up a number.
        number = (
            np.fromstring(text.strip(), dtype=np.int64, sep=" ")
            if starts.size
            else np.empty(0, dtype=np.int64)
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
