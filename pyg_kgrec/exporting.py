"""For services without this package: embeddings, raw ids, a scorer and an index of a model, as files."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec._arrays import plain_numbers
from pyg_kgrec._checks import check_at_least, check_choices, check_encoded, check_flag, check_k, check_number
from pyg_kgrec._extras import require
from pyg_kgrec._files import check_folder, kind_of, read_folder, shown, write_folder
from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.data.vocabulary import RawIds, Vocabulary, as_ids
from pyg_kgrec.models.base import Recommender, Store, check_recommender, predicting
from pyg_kgrec.models.encoding import Products
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.ops.ranking import best

Tables = Literal["auto", "parquet", "npy"]
"""Files of embeddings and ids: Parquet, or NumPy's with JSON lines; ``'auto'``: Parquet where pyarrow is there."""

_MANIFEST: Final = "export.json"
_KIND: Final = "export"
_NAMES: Final = {USER: "users", ITEM: "items"}
_SCORER, _INDEX, _SEEN = "scorer.pt2", "index.faiss", "seen.npy"
_FILES: Final = (
    *(f"{name}.{kind}" for name in _NAMES.values() for kind in ("parquet", "npy", "jsonl")),
    *(_SEEN, _SCORER, _INDEX),
)
_ASKED: Final = 1000  # users, or pairs, that an index and a scorer are checked on
_FEW: Final = 20_000  # items, up to which all are compared: lists of them would not be faster
_BLOCK: Final = 1024  # users searched at a time
_PRODUCTS: Final = 2**22  # numbers of embeddings that are multiplied at a time: 16 MiB


@plain_numbers
def export(
    model: Recommender,
    data: Store,
    folder: str | os.PathLike[str],
    *,
    tables: Tables = "auto",
    index: str | None = "auto",
    recall: float = 0.99,
    k: int = 10,
    scorer: bool = True,
) -> dict[str, Any]:
    r"""Writes what serves a model whose scores are inner products.

    .. math::
        \hat{y}_{ui} = \mathbf{e}_u \cdot \mathbf{e}_i

    The folder then holds

    - ``users.parquet`` and ``items.parquet``: ``id`` (the position where the store has no raw ids), ``name`` where
      there are names, ``embedding``, float32; or the same as ``users.npy`` ``[n, d]`` and ``users.jsonl``;
    - ``seen.npy``: what must not be recommended, rows of users and items ``[2, n]`` int64;
    - ``scorer.pt2``: a :func:`torch.export.export` program of rows of users and items ``[B]`` int64 to scores
      ``[B]``, checked against the model;
    - ``index.faiss``: an index of the items by inner product. Up to 20,000 items it compares all; beyond, it
      compares lists of them, and as many lists as it takes for ``recall``;
    - ``export.json``: sizes, what was checked and measured, and the sum of each file.

    Rows are positions in these tables. Users and items of which the model knows nothing (see
    :meth:`~pyg_kgrec.Recommender.strangers`) are left out: their embeddings would say what the model does not.

    Args:
        model: The trained model.
        data: The store to serve from, or a prepared one.
        folder: The folder; made where it is missing. Files of an export that is there are replaced.
        tables: ``'parquet'`` (extra ``parquet``), ``'npy'``, or ``'auto'``: Parquet where pyarrow is installed.
        index: A string of faiss's index factory (extra ``ann``), None for no index, or ``'auto'``: one by the
            number of items where faiss is installed, and none otherwise.
        recall: Least share of the ``k`` best unseen items that the index has to find, in (0, 1], over up to 1,000
            users.
        k: Length of the lists that ``recall`` is measured on, at most of all items.
        scorer: Whether to write the program.

    Returns:
        What ``export.json`` says.

    Raises:
        ImportError: If faiss or pyarrow is asked for and missing.
        TypeError: If the model's scores are no inner products of embeddings, or an argument is of another type.
        ValueError: If an argument is out of range, the store does not fit the model, the index does not reach
            ``recall``, or the folder holds files of these names that are not of an export.
        OSError: If a file cannot be written.
    """
    check_recommender(model)
    check_choices(tables=(tables, ("auto", "parquet", "npy")))
    check_number("recall", recall)
    check_flag(scorer=scorer)
    check_at_least(1, k=k)
    if not 0 < recall <= 1:
        raise ValueError(f"recall is {shown(repr(recall))}, expected a share in (0, 1]")
    if index is not None and not isinstance(index, str):
        raise TypeError(f"index is {kind_of(index)}, expected 'auto', None or a string for faiss")
    path = Path(folder)
    check_folder(path, _MANIFEST, _KIND, _FILES)
    if tables == "auto":
        tables = "parquet" if find_spec("pyarrow") else "npy"
    if tables == "parquet":
        require("pyarrow.parquet", "parquet", "export(tables='parquet')")
    if index == "auto":
        index = "auto" if find_spec("faiss") else None
    if index is not None:
        require("faiss", "ann", "export(index=…)")
    inputs = model.inputs(data)
    with predicting():
        return _export(model, inputs, path, tables, index, float(recall), k, scorer)


def _export(
    model: Recommender,
    inputs: Inputs,
    folder: Path,
    tables: str,
    index: str | None,
    recall: float,
    k: int,
    scorer: bool,
) -> dict[str, Any]:
    kind = type(model).__name__
    encoding = model.own_encoding(inputs)
    if not isinstance(encoding, Products):
        raise TypeError(
            f"the scores of this {kind} are no inner products of embeddings, expected a model whose scores are, "
            "such as KGRec, LightGCN, BPRMF or ALS"
        )
    known = model.known(inputs)
    places = {USER: known.user.nonzero().flatten(), ITEM: known.item.nonzero().flatten()}
    for node_type, place in places.items():
        if not place.numel():
            raise ValueError(
                f"this {kind} knows none of the {node_type}s of data, expected a store to serve from"
            )
    found = ItemIndex(
        users=_labels(inputs, USER, places[USER]),
        items=_labels(inputs, ITEM, places[ITEM]),
        user_embeddings=encoding.user_embeddings[places[USER]].float().cpu().contiguous(),
        item_embeddings=encoding.item_embeddings[places[ITEM]].float().cpu().contiguous(),
        seen=_seen(inputs, known.user, known.item),
    )
    check_encoded(found)
    files: dict[str, bytes] = {}
    for node_type, table, embedding in (
        (USER, found.users, found.user_embeddings),
        (ITEM, found.items, found.item_embeddings),
    ):
        files |= _written(_NAMES[node_type], table, embedding, tables)
    pairs = torch.stack([found.seen.rows(torch.arange(len(found.users)))[1]] * 2)
    pairs[0] = torch.arange(len(found.users)).repeat_interleave(found.seen.start.diff())
    files[_SEEN] = _npy(pairs)
    report: dict[str, Any] = {
        "model": kind,
        "num_users": len(found.users),
        "num_items": len(found.items),
        "hidden_channels": found.item_embeddings.size(1),
        "left_out": {
            _NAMES[USER]: inputs.num_users - len(found.users),
            _NAMES[ITEM]: inputs.num_items - len(found.items),
        },
        "tables": tables,
        "index": None,
        "scorer": None,
    }
    if index is not None:
        k = min(k, len(found.items))
        files[_INDEX], report["index"] = _indexed(found, index, recall, k)
    if scorer:
        files[_SCORER], report["scorer"] = _program(model, inputs, found, places)
    write_folder(folder, _MANIFEST, _KIND, report, files)
    for name in _FILES:  # of an earlier export, in other forms
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    return report


def _labels(inputs: Inputs, node_type: str, place: Tensor) -> pd.DataFrame:
    """Raw ids, and names where there are some, of nodes ``[n]``."""
    index = place.tolist()
    columns = {"id": inputs.raw_ids(node_type, index)}
    names = inputs.data[node_type].get("name")
    if names is not None:
        columns["name"] = [names[i] for i in index]
    return pd.DataFrame(columns, dtype=object)  # as they are, whatever characters they have


def _seen(inputs: Inputs, user: Tensor, item: Tensor) -> PairIndex:
    """What must not be recommended, by rows of the tables of known users and items."""
    index = inputs.seen.within(item)
    start = index.start.diff()[user]
    row = index.select(user.nonzero().flatten())[1]
    return PairIndex(torch.cat([start.new_zeros(1), start.cumsum(0)]).cpu(), row.cpu())


# ---------------------------------------------------------------------- tables


def _npy(values: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.numpy(), allow_pickle=False)
    return buffer.getvalue()


def _written(name: str, labels: pd.DataFrame, embedding: Tensor, tables: str) -> dict[str, bytes]:
    """The files of one table."""
    if tables == "npy":
        lines = (json.dumps(row) for row in labels.to_dict("records"))
        return {f"{name}.npy": _npy(embedding), f"{name}.jsonl": "".join(f"{x}\n" for x in lines).encode()}
    arrow, parquet = require("pyarrow", "parquet", "export"), require("pyarrow.parquet", "parquet", "export")
    try:
        columns = {column: arrow.array(labels[column].tolist()) for column in labels}
    except (arrow.ArrowException, OverflowError, UnicodeError) as error:
        raise ValueError(
            f"an id or a name of the {name} cannot stand in Parquet ({shown(str(error), 100)}), expected "
            "tables='npy' for such ids"
        ) from error
    flat = arrow.array(embedding.flatten().numpy())
    columns["embedding"] = arrow.FixedSizeListArray.from_arrays(flat, embedding.size(1))
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(columns), buffer)
    return {f"{name}.parquet": buffer.getvalue()}


def _read(name: str, files: dict[str, bytes]) -> tuple[pd.DataFrame, Tensor]:
    """The inverse of :func:`_written`."""
    if f"{name}.parquet" in files:
        parquet = require("pyarrow.parquet", "parquet", "an export in Parquet")
        table = parquet.read_table(io.BytesIO(files[f"{name}.parquet"]))
        embedding = table["embedding"].combine_chunks()
        flat = embedding.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
        labels = {c: table[c].to_pylist() for c in table.column_names if c != "embedding"}
        return pd.DataFrame(labels, dtype=object), torch.tensor(flat)
    lines = files[f"{name}.jsonl"].decode().splitlines()
    array = np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False)
    return pd.DataFrame([json.loads(line) for line in lines], dtype=object), torch.tensor(array)


# ---------------------------------------------------------------------- the scorer


class _Scorer(torch.nn.Module):
    """Inner products of rows of two tables."""

    user_embeddings: Tensor
    item_embeddings: Tensor

    def __init__(self, user: Tensor, item: Tensor) -> None:
        super().__init__()
        self.register_buffer("user_embeddings", user)
        self.register_buffer("item_embeddings", item)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user_embeddings[user] * self.item_embeddings[item]).sum(-1)


def _program(
    model: Recommender, inputs: Inputs, found: ItemIndex, places: dict[str, Tensor]
) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a program that scores pairs, and how far it is from the model on some of them."""
    batch = torch.export.Dim("batch")
    example = (
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
    )  # one twice would be one input
    program = torch.export.export(
        _Scorer(found.user_embeddings, found.item_embeddings),
        example,
        dynamic_shapes={"user": {0: batch}, "item": {0: batch}},
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    generator = torch.Generator().manual_seed(0)
    row = {t: torch.randint(place.numel(), (_ASKED,), generator=generator) for t, place in places.items()}
    user, item = (places[t][row[t].to(inputs.device)] for t in (USER, ITEM))
    expected = model.encoding(inputs).score(user, item).float().cpu()
    scores = torch.export.load(buffer).module()(row[USER], row[ITEM])
    size = (found.user_embeddings[row[USER]] * found.item_embeddings[row[ITEM]]).abs().sum(1)
    difference = (scores - expected).abs()
    if not bool((difference <= 1e-5 * (size + 1)).all()):  # sums in another order, and no more
        raise RuntimeError(
            f"the exported scorer differs by {float(difference.max()):.3g} from this {type(model).__name__}, "
            "expected the same scores: nothing is written"
        )
    return buffer.getvalue(), {"checked_pairs": _ASKED, "largest_difference": float(difference.max())}


# ---------------------------------------------------------------------- the index


def _indexed(found: ItemIndex, factory: str, recall: float, k: int) -> tuple[bytes, dict[str, Any]]:
    """The bytes of an index that finds so large a share of the best items, and what was measured."""
    faiss = require("faiss", "ann", "export")
    number, channels = found.item_embeddings.shape
    if factory == "auto":
        lists = min(int(4 * math.sqrt(number)), number // 39)  # k-means wants 39 points for each
        factory = "Flat" if number <= _FEW else f"IVF{lists},Flat"
    items = found.item_embeddings.numpy()
    try:
        index = faiss.index_factory(channels, factory, faiss.METRIC_INNER_PRODUCT)
        index.train(items)
        index.add(items)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"faiss makes no index {shown(repr(factory), 60)} of {number} embeddings of {channels} numbers: "
            f"{shown(str(error), 120)}"
        ) from error
    user = torch.arange(0, len(found.users), max(1, len(found.users) // _ASKED))[:_ASKED]
    exact = found._scores(user, found.search(user, k)[0])
    found.index = index
    try:
        lists = int(faiss.extract_index_ivf(index).nlist)
    except RuntimeError:  # an index without lists
        lists = 0
    probes, reached = (1 if lists else 0), 0.0
    while True:
        if lists:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", probes)
        # An index that rounds embeddings says other scores than the embeddings have: those count.
        reached = _recall(exact, found._scores(user, found._by_index(user, k, found.seen)[0]))
        if reached >= recall or probes >= lists:
            break
        probes = min(2 * probes, lists)
    if reached < recall:
        raise ValueError(
            f"the index {shown(repr(factory), 60)} finds {reached:.4f} of the {k} best items, expected {recall}: "
            "give another index or a lower recall"
        )
    measured: dict[str, Any] = {"factory": factory, "recall": reached, "k": k, "users": user.numel()}
    if lists:
        measured |= {"nlist": lists, "nprobe": probes}
    return faiss.serialize_index(index).tobytes(), measured


def _recall(exact: Tensor, found: Tensor) -> float:
    """Share of the best scores ``[B, k]`` that are found; one of several equal items is as good as another.

    Args:
        exact: Scores of the best items, padded with −inf.
        found: Scores of the items that were found, by the embeddings and not by the index.
    """
    there = exact > -torch.inf
    last = exact.masked_fill(~there, torch.inf).amin(dim=1, keepdim=True)
    good = (found >= last - 1e-5 * last.abs()).sum(1)
    wanted = there.sum(1)
    return float(torch.minimum(good, wanted).sum() / wanted.sum().clamp(min=1))


def _compares_all(index: Any) -> bool:
    """Whether an index of faiss holds the embeddings as they are and compares each: what it finds is exact."""
    faiss = require("faiss", "ann", "an export with an index")
    flat = isinstance(faiss.downcast_index(index), faiss.IndexFlat)
    return flat and index.metric_type == faiss.METRIC_INNER_PRODUCT


def _keeps_embeddings(index: Any) -> bool:
    """Whether an index of faiss holds the embeddings as they are, so that its scores are inner products of them."""
    faiss = require("faiss", "ann", "an export with an index")
    exact = faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexHNSWFlat | faiss.IndexNSGFlat
    return isinstance(faiss.downcast_index(index), exact) and index.metric_type == faiss.METRIC_INNER_PRODUCT


@dataclass
class ItemIndex:
    """What :func:`export` wrote, to be asked for recommendations without the model.

    Attributes:
        users: ``id``, and ``name`` where there are names, of each user.
        items: Likewise of each item.
        user_embeddings: ``[num_users, d]`` float32.
        item_embeddings: ``[num_items, d]`` float32.
        seen: What must not be recommended, by rows.
        index: The index of faiss; None: all items are compared.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    user_embeddings: Tensor
    item_embeddings: Tensor
    seen: PairIndex
    index: Any = None

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ItemIndex:
        """Reads a folder that :func:`export` wrote; the scorer is left aside, and no code is run.

        Raises:
            FileNotFoundError: If there is no such folder, or one of its files is missing.
            ImportError: If the folder holds an index or Parquet and faiss or pyarrow is missing.
            ValueError: If a file is damaged.
        """
        path = Path(folder)
        report, files = read_folder(path, _MANIFEST, _KIND)
        faiss = require("faiss", "ann", "an export with an index") if _INDEX in files else None
        try:
            (users, user), (items, item) = (_read(name, files) for name in _NAMES.values())
            pairs = torch.tensor(np.load(io.BytesIO(files[_SEEN]), allow_pickle=False))
            shapes = [(report[f"num_{name}"], report["hidden_channels"]) for name in _NAMES.values()]
            if [tuple(user.shape), tuple(item.shape)] != shapes or [len(users), len(items)] != [
                n for n, _ in shapes
            ]:
                raise ValueError("its tables are of another size")
            limits = torch.tensor([[len(users)], [len(items)]])
            if pairs.dtype != torch.long or pairs.ndim != 2 or pairs.size(0) != 2:
                raise ValueError("what was seen is no pairs")
            if bool(((pairs < 0) | (pairs >= limits)).any()):
                raise ValueError("what was seen points outside its tables")
            index = None
            if faiss is not None:
                index = faiss.deserialize_index(np.frombuffer(files[_INDEX], dtype=np.uint8))
                if (index.ntotal, index.d) != tuple(item.shape):
                    raise ValueError("its index is of other items")
        except ImportError:
            raise
        except Exception as error:  # whatever a reader stumbles over, the files are at fault
            raise ValueError(f"{shown(path)} is no folder of an export: {shown(str(error), 200)}") from error
        return cls(users, items, user, item, PairIndex.from_pairs(pairs, len(users)), index)

    def search(self, user: Tensor, k: int = 10, *, exclude_seen: bool = True) -> tuple[Tensor, Tensor]:
        """The k best items of some users.

        Of equal scores the first item comes first, as in the model's own lists. An index that compares all items
        (``'Flat'``) gives what comparing them without one gives. Any other is asked for as many more items as a
        user has seen, which are then left out. What it finds is ordered likewise, by inner products also where the
        index rounds embeddings (``'SQ8'``, ``'PQ16'``) and looks by what is left of them; which of the items that
        score as much as the last of the list it finds, it leaves open, and that may depend on who is asked for
        together. For a user of whom it finds fewer than ``k`` although there are more, all items are compared.

        Args:
            user: Rows of users, ``[B]`` int64.
            k: Number of items.
            exclude_seen: Leave out what the user has seen.

        Returns:
            Rows of items ``[B, k]`` int64 and scores ``[B, k]``, highest first, padded with −1 and −inf where a
            user has fewer than ``k`` items left.

        Raises:
            TypeError: If an argument is of another type.
            ValueError: If ``k`` or a user is out of range.
        """
        number = self.item_embeddings.size(0)
        check_k(k, number)
        check_flag(exclude_seen=exclude_seen)
        if not isinstance(user, Tensor) or user.dtype != torch.long or user.ndim != 1:
            raise TypeError("user is no tensor [B] of int64, expected rows of users")
        if user.numel() and not 0 <= int(user.min()) <= int(user.max()) < len(self.users):
            raise ValueError(f"user holds a row outside the {len(self.users)} users of the export")
        seen = self.seen
        if not exclude_seen:
            seen = PairIndex(torch.zeros_like(self.seen.start), self.seen.item[:0])
        if self.index is None or _compares_all(self.index):
            return ops.rank_topk(self.user_embeddings[user], self.item_embeddings, k, seen.rows(user), _BLOCK)
        items, scores = self._by_index(user, k, seen)
        left = (number - seen.start.diff()[user]).clamp(max=k)
        short = (items >= 0).sum(1) < left  # the lists that were looked into held no more
        if bool(short.any()):
            some = user[short]
            items[short], scores[short] = ops.rank_topk(
                self.user_embeddings[some], self.item_embeddings, k, seen.rows(some), _BLOCK
            )
        return items, scores

    def _by_index(self, user: Tensor, k: int, seen: PairIndex) -> tuple[Tensor, Tensor]:
        """What :meth:`search` returns, as the index finds it: of some users too few."""
        number = self.item_embeddings.size(0)
        items = torch.full((user.numel(), k), -1)
        scores = torch.full((user.numel(), k), -torch.inf, dtype=torch.float32)
        if not user.numel():
            return items, scores
        count = seen.start.diff()[user]
        for part in count.argsort().split(_BLOCK):  # who has seen about as much is asked for together
            some = user[part]
            most = min(number, k + int(count[part].max()))
            score, item = map(torch.from_numpy, self.index.search(self.user_embeddings[some].numpy(), most))
            item, place = item.sort(dim=1)  # the index leaves the order of equal scores open
            score = score.gather(1, place)
            row, gone = seen.select(some)
            key = torch.arange(some.numel()).unsqueeze(1) * number + item
            score.masked_fill_((item < 0) | torch.isin(key, row * number + gone), -torch.inf)
            top, place = best(score, k)
            scores[part] = top
            items[part] = item.gather(1, place).masked_fill(top == -torch.inf, -1)
        if not _keeps_embeddings(self.index):
            # In the order of items, so that of equal scores the first one stays first.
            items = items.masked_fill(items < 0, number).sort(dim=1).values
            items.masked_fill_(items == number, -1)
            scores, place = self._scores(user, items).sort(dim=1, descending=True, stable=True)
            items = items.gather(1, place)
        return items, scores

    def _scores(self, user: Tensor, items: Tensor) -> Tensor:
        """Inner products of users ``[B]`` and items of each ``[B, k]``, −inf where an item is −1."""
        size = max(1, _PRODUCTS // max(1, items.size(1) * self.item_embeddings.size(1)))
        scores = [
            (self.user_embeddings[some].unsqueeze(1) * self.item_embeddings[row.clamp(min=0)]).sum(2)
            for some, row in zip(user.split(size), items.split(size))
        ]
        return torch.cat(scores).masked_fill(items < 0, -torch.inf)

    def recommend(self, users: RawIds | str | int, k: int = 10, *, exclude_seen: bool = True) -> pd.DataFrame:
        """The k best items of some users by raw id.

        Args:
            users: Raw ids of users, ``[B]``, or one.
            k: Number of items per user.
            exclude_seen: Leave out what the user has seen.

        Returns:
            A frame with the columns ``user``, ``rank`` (from 1), ``item``, ``name`` where items have names, and
            ``score``.

        Raises:
            TypeError: If an id is of another type.
            ValueError: If an id is not in the export, or ``k`` is out of range.
        """
        if isinstance(users, torch.Tensor):
            raise TypeError("users is a tensor, expected raw ids: search takes rows")
        raw = as_ids(users)
        row = Vocabulary(self.users["id"].tolist(), USER).index(raw)
        item, score = self.search(row, k, exclude_seen=exclude_seen)
        who, rank = (item >= 0).nonzero(as_tuple=True)
        found = self.items.iloc[item[who, rank].tolist()]
        columns: dict[str, Sequence[Any] | np.ndarray] = {
            "user": [raw[i] for i in who.tolist()],
            "rank": (rank + 1).numpy(),
            "item": found["id"].tolist(),
        }
        if "name" in found:
            columns["name"] = found["name"].tolist()
        return frame_of(columns | {"score": score[who, rank].numpy()})
