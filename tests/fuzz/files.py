"""Damaged and forged files: of models, of embeddings, of trainings."""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final

from pyg_kgrec import BPRMF, Recommender, fit
from pyg_kgrec._files import pack, unpack
from pyg_kgrec.kge.embedding import kg_embeddings, pretrained_embeddings
from pyg_kgrec.testing import Splits, build_splits
from tests.fuzz import damage
from tests.fuzz.kinds import KINDS, build

_HEADER: Final = re.compile(rb"\x89pyg_kgrec (\d+) ([a-z ]+) (\d+) ([0-9a-f]{64})\r\n")


@cache
def _splits() -> Splits:
    return build_splits(features=True)


@cache
def _model_file(number: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        build(KINDS[number], _splits()).save(Path(folder) / "model")
        return (Path(folder) / "model").read_bytes()


@cache
def _embedding_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embedding"
        pretrained_embeddings(_splits()[0], 4, path=path, progress=False, max_epochs=1)
        return path.read_bytes()


_FIT: Final[dict[str, Any]] = {"max_epochs": 2, "batch_size": 64, "progress": False}


@cache
def _training_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        train, val, _ = _splits()
        fit(BPRMF(train, hidden_channels=4), train, val, **{**_FIT, "max_epochs": 1}, checkpoint_dir=folder)
        return (Path(folder) / "last.ckpt").read_bytes()


def models(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """Files of all models."""
    for number in range(count):
        yield partial(_model, f"models/{seed}/{number}", number % len(KINDS))


def embeddings(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """Files of embeddings of a knowledge graph."""
    for number in range(count):
        yield partial(_embedding, f"embeddings/{seed}/{number}")


def trainings(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """Checkpoints to resume from; most are refused before a training begins."""
    for number in range(count):
        yield partial(_training, f"trainings/{seed}/{number}")


def _damaged(whole: bytes, what: str, random: Random, forged: float) -> bytes:
    """Bytes damaged as they are; or, in a share of the cases, forged: damaged inside, with a sum that is right."""
    if random.random() >= forged:
        return damage.bytes_of(whole, random)
    if random.random() < 0.7:
        return pack(damage.inside(unpack(whole, what, Path("whole")), random), what)
    header = _HEADER.match(whole)
    assert header is not None
    body = whole[header.end() :]
    start = body.find(b"data.pkl") if random.random() < 0.6 else 0  # what says how tensors are put together
    end = start + 1500 if start else len(body)
    body = body[:start] + damage.bytes_of(body[start:end], random) + body[end:]
    digest = hashlib.sha256(header[2] + body).hexdigest()
    return b"\x89pyg_kgrec %s %s %d %s\r\n" % (header[1], header[2], len(body), digest.encode()) + body


def _written(folder: str, content: bytes) -> Path:
    path = Path(folder) / "file"
    path.write_bytes(content)
    return path


def _model(seed: str, number: int) -> Recommender:
    random, cls = Random(seed), KINDS[number]
    train, _, test = _splits()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = _written(folder, _damaged(_model_file(number), "model", random, forged=0.6))
        model = cls.load(path, test if random.random() < 0.5 else None)
        items, scores = model.recommend(test, ["u1", "u2"], k=3)
        assert items.shape == scores.shape == (2, 3)
        assert int(items.max()) < train["item"].num_nodes
    return model


def _embedding(seed: str) -> object:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = _written(folder, _damaged(_embedding_file(), "knowledge graph embedding", random, forged=0.4))
        tables = kg_embeddings(_splits()[0], path, 4)
    assert tables is not None
    assert all(bool(table.isfinite().all()) for table in tables)
    return tables


def _training(seed: str) -> object:
    random = Random(seed)
    train, val, _ = _splits()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = _written(folder, _damaged(_training_file(), "training checkpoint", random, forged=0.2))
        return fit(BPRMF(train, hidden_channels=4), train, val, **_FIT, resume=path)
