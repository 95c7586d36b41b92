"""MovieLens 100K with a Freebase knowledge graph."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data.atomic import read_atomic
from pyg_kgrec.data.splitting import apply_split
from pyg_kgrec.datasets.fetched import FetchedDataset

# One label (0 train, 1 validation, 2 test) for each row of ml-100k.inter, in the order of the rows. It was made
# by looking up every row in the three files of the split, ml-100k.{train,valid,test}.inter, which hold each row
# exactly once. Packed four labels a byte, the first in the lowest bits.
_SPLIT: Final = Path(__file__).with_name("ml-100k-split.npy")


class MovieLens100K(FetchedDataset):
    """MovieLens 100K: 100,000 ratings with times, and 91,631 Freebase triples around the films.

    943 users, 1,682 items with titles, 34,628 entities, 24 relations. 1,598 items are linked to an entity, 84
    are not; all items and all entities stay in the store. Users and items stand in the order of the files
    ``ml-100k.user`` and ``ml-100k.item``; raw ids are strings.

    The five files are fetched once into ``root``, checked against fixed SHA-256 sums, and processed; arguments
    and errors are those of :class:`~pyg_kgrec.datasets.fetched.FetchedDataset`, and ``source`` is the public
    RecBole repository if :obj:`None`.
    """

    home = "https://raw.githubusercontent.com/RUCAIBox/RecBole/master/recbole/dataset_example/ml-100k"
    sha256: ClassVar[dict[str, str]] = {
        "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
        "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
        "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    }

    def read(self) -> HeteroData:
        """The store, from the five files."""
        return read_atomic(self.raw_dir, "ml-100k", min_rating=0)  # every rating is an interaction

    def split(self) -> tuple[HeteroData, HeteroData, HeteroData]:
        """The fixed split, about 80/10/10 % of each user's ratings: 79,619, 9,942 and 10,439 pairs.

        Returns:
            The stores ``(train, val, test)`` of :func:`~pyg_kgrec.transforms.apply_split`, ready for ``fit``
            and ``evaluate``.
        """
        packed = np.load(_SPLIT)
        split = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
        return apply_split(self[0], torch.from_numpy(split.reshape(-1).astype(np.int64)))
