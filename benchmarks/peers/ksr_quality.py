"""hopwise's KSR on the split of examples/ksr_movielens.py, with the same vectors of entities and relations.

    make peers
    OMP_NUM_THREADS=2 python benchmarks/peers/ksr_quality.py --folder data/ml-100k --kg transe.pt --minutes 15

hopwise learns one item a sequence, so that every prefix of a history is an example. Both figures, of validation and
of test, are printed after each epoch: Recall@10 and NDCG@10 of the held-out film among all that the user has not
had.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, read_atomic
from pyg_kgrec.data.sequences import Sequences
from pyg_kgrec.kge import pretrained_embeddings
from pyg_kgrec.transforms import LeaveOneOut

LENGTH = 50


def prefixes(sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """What came before every item but a user's first (the latest 50), that item, and whose it is."""
    place = torch.arange(sequences.item.numel())
    user = torch.bucketize(place, sequences.start[1:], right=True)
    later = place > sequences.start[user]
    place, user = place[later], user[later]
    back = torch.maximum(sequences.start[user], place - LENGTH).unsqueeze(1) + torch.arange(LENGTH)
    before = torch.where(back < place.unsqueeze(1), sequences.item[back.clamp(max=place.max())], -1)
    return before, sequences.item[place], user


def held_out(data: HeteroData) -> tuple[Tensor, Tensor, Tensor]:
    """Sessions, the items to be found, and their users."""
    user, item = data[INTERACTS].edge_label_index
    return Sequences.from_store(data, torch.device("cpu")).last(user, LENGTH), item, user


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data/ml-100k"), help="the atomic files")
    parser.add_argument("--kg", help="file that keeps the pre-trained vectors")
    parser.add_argument("--python", default=".venv-peers/bin/python", help="interpreter with hopwise")
    parser.add_argument("--minutes", type=float, default=15.0)
    args = parser.parse_args()
    name = args.folder.name
    whole = read_atomic(args.folder, name)
    train, val, test = LeaveOneOut()(whole)
    tables = pretrained_embeddings(train, path=args.kg)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path) / "films"  # hopwise has settings of its own for data called ml-100k
        folder.mkdir()
        for suffix in ("inter", "kg", "link"):
            (folder / f"films.{suffix}").symlink_to((args.folder / f"{name}.{suffix}").resolve())
        for what, ids, table in (
            ("entity", whole["entity"].id, tables.entity),
            ("relation", whole.relation_name, tables.relation),
        ):
            vectors = [" ".join(f"{x:.6f}" for x in row) for row in table.tolist()]
            columns = {f"{what}_embedding_id:token": ids, f"{what}_embedding:float_seq": vectors}
            pd.DataFrame(columns).to_csv(folder / f"films.{what}emb", sep="\t", index=False)
        parts = {
            "train": prefixes(Sequences.from_store(train, torch.device("cpu"))),
            "val": held_out(val),
            "test": held_out(test),
        }
        seen = [Sequences.from_store(data, torch.device("cpu")) for data in (val, test)]
        arrays: dict[str, Any] = {"ids": np.array(whole["item"].id)}
        for part, tensors in parts.items():
            arrays |= {f"{part}_{i}": tensor.numpy() for i, tensor in enumerate(tensors)}
        for part, sequences in zip(("val", "test"), seen):
            arrays |= {f"{part}_start": sequences.start.numpy(), f"{part}_item": sequences.item.numpy()}
        np.savez(Path(path) / "split.npz", **arrays)
        script = Path(__file__).with_name("hopwise_ksr_quality.py").resolve()
        command = [str(Path(args.python).absolute()), str(script), str(folder), str(args.minutes)]
        subprocess.run(command, cwd=path, check=True)


if __name__ == "__main__":
    main()
