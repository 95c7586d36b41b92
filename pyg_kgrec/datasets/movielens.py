"""MovieLens 100K with a knowledge graph of Freebase or of DBpedia."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec._checks import check_choices
from pyg_kgrec.data.atomic import read_atomic
from pyg_kgrec.data.frames import from_pandas
from pyg_kgrec.data.splitting import apply_split
from pyg_kgrec.datasets.dbpedia import join_films, read_graphs, resource_name
from pyg_kgrec.datasets.fetched import FetchedDataset

Knowledge = Literal["freebase", "dbpedia"]

# One label (0 train, 1 validation, 2 test) for each row of ml-100k.inter, in the order of the rows. It was made
# by looking up every row in the three files of the split, ml-100k.{train,valid,test}.inter, which hold each row
# exactly once. Packed four labels a byte, the first in the lowest bits.
_SPLIT: Final = Path(__file__).with_name("ml-100k-split.npy")

_DBPEDIA: Final = "https://raw.githubusercontent.com/D2KLab/entity2rec/380c1599ea5825bbb650c248f25bf42385b619bc/datasets/Movielens1M"
_GRAPH: Final = ".edgelist"


class MovieLens100K(FetchedDataset):
    """MovieLens 100K: 100,000 ratings with times, and a knowledge graph around the films.

    943 users and 1,682 items with titles, in the order of the files ``ml-100k.user`` and ``ml-100k.item``;
    raw ids are strings. All items stay in the store, linked or not. Users, items, interactions and
    :meth:`split` are the same with either graph.

    ``knowledge='freebase'``: 91,631 triples of 24 relations between 34,628 entities, by RecBole's files.
    1,598 items are linked to an entity, 84 are not. Raw ids are Freebase's (``m.02mxw``); there are no names.

    ``knowledge='dbpedia'``: 16,593 triples of 9 relations between 8,010 entities, all with readable names:
    director (1,228), starring (5,436), writer (1,474), producer (1,556), music composer (1,170),
    cinematography (879), editing (715) and distributor (1,271) of DBpedia, and genre (2,864) of the file
    ``ml-100k.item``. 2,600 of the 6,328 tails of DBpedia stand in more than one triple. Every film with a
    fact is linked to an entity that bears its title: 1,680 items, of which 1,311 (84.8 % of the interactions)
    were found in DBpedia by title and year, the rest having genres alone; two items that are the same film
    share an entity. Raw ids are the last part of a resource (``John_Morris_(composer)``), ``genre:Drama``, or
    ``movielens:1`` for a film without resource. The join takes no film of another year or with another title:
    about one in eleven of those that the source's own table leads to is a namesake or a sequel (*Braveheart*
    of 1925), and is left out.

    The files are fetched once into ``root``, checked against fixed SHA-256 sums, and processed; arguments and
    errors are those of :class:`~pyg_kgrec.datasets.fetched.FetchedDataset`. One ``root`` may hold both forms.
    If ``source`` is :obj:`None`, the files of MovieLens come from the public RecBole repository, and those of
    DBpedia (which is under CC BY-SA 3.0) from the public repository D2KLab/entity2rec (Apache-2.0), at a
    fixed commit. Of a local ``source``, the files of DBpedia may also lie in ``ml-100k-dbpedia`` (``graphs``)
    below or beside it, and those of MovieLens in ``ml-100k``; the graphs may bear their original names, such
    as ``dbo:director.edgelist``.

    Args:
        root: The folder that the data set lives in; it is made if it is missing.
        source: Where the files come from: a local folder (they are copied) or a base URL (they are downloaded);
            their public homes if :obj:`None`.
        transform: Called on the store whenever it is accessed.
        pre_transform: Called on the store once, before it is saved.
        force_reload: Whether to process the files again.
        knowledge: Which knowledge graph: ``'freebase'`` or ``'dbpedia'``.

    Raises:
        ValueError: If ``knowledge`` is neither, or as :class:`~pyg_kgrec.datasets.fetched.FetchedDataset`.
    """

    home = "https://raw.githubusercontent.com/RUCAIBox/RecBole/master/recbole/dataset_example/ml-100k"
    sha256: ClassVar[dict[str, str]] = {
        "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
        "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
        "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    }
    dbpedia_sha256: ClassVar[dict[str, str]] = {
        "mappings.tsv": "024784c4a3b514cf85d921b4dc7ac8c0359ae64dd0202e1e1f9f2304cd8a75ef",
        "cinematography.edgelist": "28c902fe8c3ae54e21f5e04ecc9a9af7d0b01fd6174b26106661a4aece7614cb",
        "director.edgelist": "8b346ffaf2af9900ef7c74cddb4cc14fa94c0d8f6ddd0c04f14d7cb4a49aa82c",
        "distributor.edgelist": "0d4ff1ddce6d1c0c4fa121a5186ae5d0a93674cdd0d8c23ea470966b6d7cbc6f",
        "editing.edgelist": "e7705679df44a8cd10e023b6c8565bfc2c16ab391216c2d1af9143c5053d9f31",
        "musicComposer.edgelist": "c6e775deb7a0b5503607a5984c15edd0f3fc550937385dcf0d074eb07e4878b5",
        "producer.edgelist": "7636809dba1f2d507dd9c4579c43bf2f36c328adf2c3231b3ca6eaa3ed32dbbf",
        "starring.edgelist": "7342870b990adc4663a4c562542a0949aa514d7ee44646c85abf508a27694214",
        "writer.edgelist": "73c52c1c987bd0366c777de9cd40d2335d22fe7378a8558c7ad7db036a64eb4a",
    }
    """The files of the DBpedia form beside those of MovieLens, and their sums."""

    def __init__(
        self,
        root: str | PathLike[str],
        source: str | PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
        knowledge: Knowledge = "freebase",
    ) -> None:
        check_choices(knowledge=(knowledge, get_args(Knowledge)))
        self.knowledge = knowledge
        super().__init__(root, source, transform, pre_transform, force_reload)

    @property
    def sums(self) -> dict[str, str]:
        """The files of this form and their sums."""
        if self.knowledge == "freebase":
            return self.sha256
        kept = {name: digest for name, digest in self.sha256.items() if not name.endswith((".kg", ".link"))}
        return kept | self.dbpedia_sha256

    @property
    def processed_file_names(self) -> str:
        """The store: a file for each form."""
        return "data.pt" if self.knowledge == "freebase" else "dbpedia.pt"

    def places(self, name: str) -> list[str]:
        """Where a file may lie: its public address, or paths below ``source``."""
        is_graph = name.endswith(_GRAPH)
        if name not in self.dbpedia_sha256:
            return super().places(name) if self.source is None else [name, f"ml-100k/{name}"]
        if self.source is None:
            return [f"{_DBPEDIA}/{f'graphs/dbo%3A{name}' if is_graph else f'original/{name}'}"]
        if not is_graph:
            return [name, f"original/{name}", f"ml-100k-dbpedia/{name}", f"../ml-100k-dbpedia/{name}"]
        folders = ["", "graphs/", "ml-100k-dbpedia/", "ml-100k-dbpedia/graphs/"]
        folders += ["../ml-100k-dbpedia/", "../ml-100k-dbpedia/graphs/"]
        return [f"{folder}{mark}{name}" for folder in folders for mark in ("", "dbo:")]

    def read(self) -> HeteroData:
        """The store, from the files."""
        if self.knowledge == "freebase":
            return read_atomic(self.raw_dir, "ml-100k", min_rating=0)  # every rating is an interaction
        raw = Path(self.raw_dir)
        interactions = _table(raw / "ml-100k.inter", "user_id", "item_id", "rating", "timestamp")
        interactions = interactions.astype({"rating": float, "timestamp": float})
        items = _table(raw / "ml-100k.item", "item_id", "name", "year", "genres")
        knowledge = _knowledge(raw, items)
        users = _table(raw / "ml-100k.user", "user_id")
        return from_pandas(
            interactions,
            knowledge["triples"],
            knowledge["links"],
            items=items,
            users=users,
            entities=knowledge["entities"],
            min_rating=0,
        )

    def split(self) -> tuple[HeteroData, HeteroData, HeteroData]:
        """The fixed split, about 80/10/10 % of each user's ratings: 79,619, 9,942 and 10,439 pairs.

        Returns:
            The stores ``(train, val, test)`` of :func:`~pyg_kgrec.transforms.apply_split`, ready for ``fit``
            and ``evaluate``.
        """
        packed = np.load(_SPLIT)
        split = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
        return apply_split(self[0], torch.from_numpy(split.reshape(-1).astype(np.int64)))


def _table(path: Path, *columns: str) -> pd.DataFrame:
    """The first columns of an atomic file, as text."""
    frame = pd.read_csv(
        path,
        sep="\t",
        dtype=str,
        keep_default_na=False,
        quoting=3,
        encoding="utf-8",
        usecols=range(len(columns)),
    )
    return frame.set_axis(list(columns), axis=1)


def _knowledge(raw: Path, items: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Triples, links and entities of the DBpedia form, as :func:`from_pandas` takes them."""
    joined = join_films(items, raw / "mappings.tsv")
    genres = {
        item: [genre for genre in text.split() if genre != "unknown"]
        for item, text in zip(items["item_id"], items["genres"])
    }
    # A resource begins with a capital, so that these ids cannot be one.
    film = {
        item: joined.get(item, f"movielens:{item}")
        for item in items["item_id"]
        if item in joined or genres[item]
    }
    of_genre = pd.DataFrame(
        [(film[item], "genre", f"genre:{genre}") for item in film for genre in genres[item]],
        columns=["head", "relation", "tail"],
    )
    triples = pd.concat([read_graphs(raw, joined.values()), of_genre.drop_duplicates()], ignore_index=True)
    titles = dict(zip(items["item_id"], items["name"]))
    names: dict[str, str] = {}
    for item, entity in film.items():
        names.setdefault(entity, titles[item])
    for tail in triples["tail"]:
        names.setdefault(
            tail, tail.removeprefix("genre:") if tail.startswith("genre:") else resource_name(tail)
        )
    return {
        "triples": triples,
        "links": pd.DataFrame({"item_id": list(film), "entity_id": list(film.values())}),
        "entities": pd.DataFrame({"entity_id": list(names), "name": list(names.values())}),
    }
