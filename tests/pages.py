"""Runs the Python blocks of the documentation, page by page: `make test-docs`.

A plugin of pytest. A page begins with what its text takes for granted: a small data set, as DataFrames and as a
store, its split, a model. Data sets that have to be fetched are small made ones, and `fit` is short where a block
names no length. Everything else is as it stands on the page. A block that cannot run stands under an HTML comment
that says why, `<!-- skip: next "reason" -->`; what a page needs besides is in `<!-- invisible-code-block: python`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec, evaluate, fit, pretrain_transe
from pyg_kgrec.data import INTERACTS, IS, RELATES, from_pandas
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.kge import fit_kge
from pyg_kgrec.transforms import ClickThroughSplit, RandomSplit

ROOT = Path(__file__).resolve().parents[1]
USERS = ["ann", "bob", "196", "186", "1"]
ITEMS = ["brazil", "302", "50", "Toy Story", "Aladdin", "Lion King, The"]
EPOCHS = 2


def frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Interactions, triples and links with the raw ids that the pages speak of."""
    made = SyntheticKG(num_users=40, num_items=50, num_entities=90, num_relations=4, seed=0)[0]
    users = USERS + [f"u{number}" for number in range(40 - len(USERS))]
    items = ITEMS + [f"i{number}" for number in range(50 - len(ITEMS))]
    pairs, is_, relates = made[INTERACTS], made[IS], made[RELATES]
    interactions = pd.DataFrame(
        {
            "user_id": [users[user] for user in pairs.edge_index[0].tolist()],
            "item_id": [items[item] for item in pairs.edge_index[1].tolist()],
            "timestamp": pairs.time.tolist(),
        }
    )
    # Items that the pages ask about are new to ann and 196.
    asked = interactions.user_id.isin(["ann", "196", "1"]) & interactions.item_id.isin(
        ["brazil", "302", "50"]
    )
    head, tail = relates.edge_index.tolist()
    relations = [made.relation_name[relation] for relation in relates.edge_type.tolist()]
    triples = pd.DataFrame(
        {
            "head_id": [f"e{entity}" for entity in head],
            "relation_id": relations,
            "tail_id": [f"e{entity}" for entity in tail],
        }
    )
    item, entity = is_.edge_index.tolist()
    links = pd.DataFrame(
        {"item_id": [items[one] for one in item], "entity_id": [f"e{one}" for one in entity]}
    )
    return interactions[~asked], triples, links


class SmallDataset:
    """Stands where a page names a data set that has to be fetched."""

    def __init__(self, root: str, **arguments: Any) -> None:
        self.data = from_pandas(*frames())

    def __getitem__(self, index: int) -> HeteroData:
        return self.data

    def split(self, **arguments: Any) -> tuple[HeteroData, ...]:
        return tuple(RandomSplit(val=0.1, test=0.1, seed=0)(self.data))


class SmallClicks(SmallDataset):
    def split(self, **arguments: Any) -> tuple[HeteroData, ...]:
        return tuple(ClickThroughSplit(val=0.2, test=0.2, seed=0)(self.data))


def write_atomic(
    folder: Path, interactions: pd.DataFrame, triples: pd.DataFrame, links: pd.DataFrame
) -> None:
    """The same data as atomic files, where `coming-from.md` reads them."""
    folder.mkdir(parents=True)
    rated = interactions.assign(rating=5.0)
    for frame, name in ((rated, "inter"), (triples, "kg"), (links, "link")):
        kinds = {"rating": "float", "timestamp": "float"}
        typed = frame.rename(columns={column: f"{column}:{kinds.get(column, 'token')}" for column in frame})
        typed.to_csv(folder / f"ml-100k.{name}", sep="\t", index=False)


def given_parts(interactions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A split that is there as three DataFrames: each user's last interaction, the last but one, and the others."""
    latest = interactions.sort_values("timestamp", kind="stable").groupby("user_id").cumcount(ascending=False)
    names = {"test_frame": latest == 0, "val_frame": latest == 1, "train_frame": latest > 1}
    return {name: interactions[rows] for name, rows in names.items()}


@contextmanager
def short() -> Iterator[None]:
    """Trainings of which a block names no length end after a few epochs."""
    with ExitStack() as stack:
        for function in (fit, fit_kge, pretrain_transe):
            stack.enter_context(mock.patch.dict(function.__kwdefaults__, max_epochs=EPOCHS))
        yield


def begin(namespace: dict[str, Any]) -> None:
    """What every page takes for granted, in a folder of its own."""
    stack = namespace["_stack"] = ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    stack.callback(os.chdir, Path.cwd())
    os.chdir(folder)
    stack.enter_context(short())
    stack.enter_context(
        mock.patch.multiple("pyg_kgrec.datasets", MovieLens100K=SmallDataset, LastFM=SmallClicks)
    )
    interactions, triples, links = frames()
    write_atomic(folder / "dataset" / "ml-100k", interactions, triples, links)
    data = from_pandas(interactions, triples, links)
    train, val, test = RandomSplit(val=0.1, test=0.1, seed=0)(data)
    seed_everything(0)
    model = KGRec(train, hidden_channels=16)
    fit(model, train, val, seed=0, progress=False)
    namespace.update(
        interactions=interactions, triples=triples, links=links, data=data, train=train, val=val, test=test,
        model=model, fit=fit, evaluate=evaluate, torch=torch, RandomSplit=RandomSplit,
        MovieLens100K=SmallDataset, store=test, df=interactions, mask=torch.arange(50) % 2 == 0,
        in_stock=["302", "50", "brazil", "Aladdin"],
        shown_yesterday=pd.DataFrame({"user": ["ann"], "item": ["302"]}),
        **given_parts(interactions),
    )  # fmt: skip


def end(namespace: dict[str, Any]) -> None:
    namespace["_stack"].close()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    path=str(ROOT),
    patterns=["*.md"],
    setup=begin,
    teardown=end,
).pytest()
