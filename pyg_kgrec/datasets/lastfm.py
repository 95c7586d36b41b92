"""Last.FM with the knowledge graph that MKR was tried on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd
from torch_geometric.data import HeteroData

from pyg_kgrec.data.frames import from_pandas
from pyg_kgrec.datasets.fetched import FetchedDataset
from pyg_kgrec.transforms.click_through import ClickThroughSplit


class LastFM(FetchedDataset):
    """Last.FM (HetRec 2011): who listened to which artist, and 15,518 triples around the artists.

    1,872 users, 3,846 artists with an entity each, 9,366 entities, 60 relations, 21,173 interactions: every artist
    with a count of plays is a positive, and the count is kept as ``rating``. Artists without an entity are
    left out, and so are users with no other artist, as in the MKR paper (Wang et al., WWW 2019). Raw ids are
    whole numbers.

    The three files, ``user_artists.dat``, ``item_index2entity_id.txt`` and ``kg.txt``, are fetched once into
    ``root``, checked against fixed SHA-256 sums, and processed; arguments and errors are those of
    :class:`~pyg_kgrec.datasets.fetched.FetchedDataset`, and ``source`` is the public KGCN repository if
    :obj:`None`.
    """

    home = "https://raw.githubusercontent.com/hwwang55/KGCN/master/data/music"
    sha256: ClassVar[dict[str, str]] = {
        "user_artists.dat": "254272fa721c3935e8be286d28c051b206844307128698ab4eaa41d483379416",
        "item_index2entity_id.txt": "496475ddc39b0e15956c58b86d0566bce96bf51c7daaa49d66bc1b9fefaeef1a",
        "kg.txt": "aa899f22a7a3b313e0baa22113fcd5fa040675fde44822152afed9900d33325f",
    }

    def read(self) -> HeteroData:
        """The store, from the three files."""
        raw = Path(self.raw_dir)
        links = pd.read_csv(raw / "item_index2entity_id.txt", sep="\t", names=["item_id", "entity_id"])
        plays = pd.read_csv(raw / "user_artists.dat", sep="\t")
        plays = plays.rename(columns={"userID": "user_id", "artistID": "item_id", "weight": "rating"})
        plays = plays[plays["item_id"].isin(links["item_id"])]
        triples = pd.read_csv(raw / "kg.txt", sep="\t", names=["head_id", "relation_id", "tail_id"])
        ends = pd.concat([links["entity_id"], triples["head_id"], triples["tail_id"]])
        entities = pd.DataFrame({"entity_id": ends.unique()})
        return from_pandas(
            plays, triples, links, items=links[["item_id"]], entities=entities, min_rating=0
        )  # every count of plays is an interaction

    def split(self, seed: int = 0) -> tuple[HeteroData, HeteroData, HeteroData]:
        """The paper's preprocessing: as many unwatched artists a user as positives, 42,346 pairs, split 6 : 2 : 2.

        Args:
            seed: The seed of negatives and split.

        Returns:
            The stores ``(train, val, test)`` of :class:`~pyg_kgrec.transforms.ClickThroughSplit`.
        """
        return ClickThroughSplit(val=0.2, test=0.2, seed=seed)(self[0])
