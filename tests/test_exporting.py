"""What a model leaves for services without this package."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close
from torch_geometric.data import HeteroData

from pyg_kgrec import ALS, BPRMF, EASE, KTUP, Blend, KGRec, LightGCN, Popularity, export, fit
from pyg_kgrec.data import INTERACTS
from pyg_kgrec.exporting import ItemIndex, _recall
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.testing import build_splits, build_store, users_of, with_newcomers

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*stand there again")]
faiss: Any = import_module("faiss") if find_spec("faiss") else None
needs_faiss = pytest.mark.skipif(not find_spec("faiss"), reason="the extra ann is not installed")
TABLES = [
    "npy",
    pytest.param(
        "parquet",
        marks=pytest.mark.skipif(not find_spec("pyarrow"), reason="the extra parquet is not installed"),
    ),
]


def model_of(kind: Any, data: HeteroData) -> Recommender:
    model: Recommender = kind(data, hidden_channels=4)
    if kind is ALS:
        fit(model, data, progress=False)
    return model.eval()


def many(num_users: int = 200, num_items: int = 3000, channels: int = 16) -> tuple[BPRMF, HeteroData]:
    """A catalogue in clusters, as what was learned is, and a model of it."""
    rng = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    seen = torch.stack(
        [torch.arange(num_users).repeat(30), torch.randint(num_items, (30 * num_users,), generator=rng)]
    )
    data[INTERACTS].edge_index = seen.unique(dim=1)
    model = BPRMF(data, hidden_channels=channels).eval()
    centre = torch.randn(40, channels, generator=rng)
    with torch.no_grad():
        for table in model.parameters():
            part = torch.randint(40, (table.size(0),), generator=rng)
            noise = torch.randn(table.shape, generator=rng)
            table.copy_((centre[part] + 0.5 * noise) * (0.5 + torch.rand(table.size(0), 1, generator=rng)))
    return model, data


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("kind", [KGRec, LightGCN, BPRMF, ALS])
def test_the_files_recommend_as_the_model_does(kind: Any, tables: Any, tmp_path: Path) -> None:
    data = build_store()
    model = model_of(kind, data)
    report = export(model, data, tmp_path / "made", tables=tables, index=None, scorer=False)
    served = ItemIndex.load(tmp_path / "made")
    assert report["left_out"] == {"users": 0, "items": 0}
    assert served.users["id"].tolist() == data["user"].id
    items, scores = served.search(users_of(data), 5)
    expected = model.rank(data, users_of(data), 5)
    assert torch.equal(items, expected[0])
    assert_close(scores, expected[1])
    frame = served.recommend(data["user"].id[:2], 5)
    theirs = model.recommend(data, data["user"].id[:2], 5, as_frame=True)
    assert frame["item"].tolist() == theirs["item"].tolist()
    assert frame["user"].tolist() == theirs["user"].tolist()
    all_of_them = served.recommend(data["user"].id[0], 5, exclude_seen=False)
    assert (
        all_of_them["item"].tolist()
        == model.recommend(data, data["user"].id[:1], 5, exclude_seen=False, as_frame=True)["item"].tolist()
    )


def test_the_scorer_runs_by_itself_and_scores_as_the_model_does(tmp_path: Path) -> None:
    data = build_store()
    model = model_of(BPRMF, data)
    report = export(model, data, tmp_path, tables="npy", index=None)
    assert report["scorer"]["largest_difference"] < 1e-5
    scorer = torch.export.load(tmp_path / "scorer.pt2").module()
    for number in (1, 3, 7):
        user, item = torch.arange(number) % 5, torch.arange(number).flip(0) % 5
        assert_close(scorer(user, item), model.score(data, user, item))


def test_an_export_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    data = build_store()
    export(model_of(BPRMF, data), data, tmp_path, tables="npy", index=None, scorer=False)
    (tmp_path / "scorer.pt2").write_bytes(b"of an earlier one")
    (tmp_path / "mine.txt").write_bytes(b"")
    model = model_of(BPRMF, data)
    export(model, data, tmp_path, tables="npy", index=None, scorer=False)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("users.npy", "users.jsonl", "items.npy", "items.jsonl", "seen.npy", "export.json", "mine.txt")
    }
    assert torch.equal(
        ItemIndex.load(tmp_path).search(users_of(data), 3)[0], model.rank(data, users_of(data), 3)[0]
    )


def test_who_the_model_does_not_know_is_left_out(tmp_path: Path) -> None:
    train = build_splits()[0]
    model = model_of(BPRMF, train)
    fit(model, train, max_epochs=1, progress=False)
    grown = with_newcomers(train)
    known = model.known(model.prepare(grown))
    report = export(model, grown, tmp_path, tables="npy", index=None, scorer=False)
    assert report["num_users"] == int(known.user.sum()) < grown["user"].num_nodes
    assert report["num_items"] == int(known.item.sum()) < grown["item"].num_nodes
    served = ItemIndex.load(tmp_path)
    user = known.user.nonzero().flatten()
    ids = [grown["user"].id[i] for i in user.tolist()]
    k = 3
    theirs = model.recommend(grown, ids, k, as_frame=True)
    assert served.recommend(ids, k)["item"].tolist() == theirs["item"].tolist()
    stranger = next(raw for i, raw in enumerate(grown["user"].id) if not known.user[i])
    with pytest.raises(ValueError, match="is unknown"):
        served.recommend(stranger, k)


@needs_faiss
@pytest.mark.parametrize("index", ["auto", "IVF32,Flat"])
def test_an_index_finds_the_best_unseen_items(index: str, tmp_path: Path) -> None:
    model, data = many()
    assert "id" not in data["user"]
    report = export(model, data, tmp_path, tables="npy", index=index, scorer=False)["index"]
    assert report["recall"] >= 0.99
    served = ItemIndex.load(tmp_path)
    items, scores = served.search(users_of(data), 10)
    best, exact = model.rank(data, users_of(data), 10)
    hits = (items.unsqueeze(2) == best.unsqueeze(1)).any(2).float().mean()
    assert hits >= 0.99
    assert _recall(exact, scores) >= 0.99
    if index == "auto":
        assert report["factory"] == "Flat"
        assert torch.equal(items, best)
    else:
        assert report["nprobe"] < 32  # and is not all of them
    assert served.recommend(7)["item"].tolist() == items[7].tolist()  # without raw ids, positions
    user, seen = data[INTERACTS].edge_index
    assert not bool(torch.isin(users_of(data).unsqueeze(1) * 3000 + items, user * 3000 + seen).any())
    assert bool(
        torch.isin(
            user * 3000 + seen,
            users_of(data).unsqueeze(1) * 3000 + served.search(users_of(data), 10, exclude_seen=False)[0],
        ).any()
    )


def indexed(factory: str | None, folder: Path) -> tuple[ItemIndex, BPRMF, HeteroData]:
    """An export of a model whose items have one of two embeddings."""
    model, data = many(num_users=60, num_items=300, channels=4)
    with torch.no_grad():
        table = max(model.parameters(), key=len)
        table.copy_(table[torch.arange(300) % 2])
    export(model, data, folder, tables="npy", index=factory, recall=0.5, scorer=False)
    return ItemIndex.load(folder), model, data


@needs_faiss
def test_an_index_of_all_items_lists_equal_ones_as_the_model_does(tmp_path: Path) -> None:
    served, model, data = indexed("Flat", tmp_path)
    users = users_of(data)
    items, scores = served.search(users, 10)
    expected, exact = model.rank(data, users, 10)
    assert torch.equal(items, expected)
    assert torch.equal(scores, exact)
    assert torch.equal(torch.cat([served.search(user, 10)[0] for user in users.split(1)]), items)
    everything, _ = served.search(users, 10, exclude_seen=False)
    assert everything.tolist() == model.recommend(data, users, 10, exclude_seen=False)[0].tolist()


@needs_faiss
def test_an_index_is_made_whatever_numbers_are_by_default(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        served, _, data = indexed("Flat", tmp_path)
        items, scores = served.search(users_of(data), 10)
    finally:
        torch.set_default_dtype(torch.float32)
    assert scores.dtype == torch.float32
    assert bool((scores[:, :-1] >= scores[:, 1:]).all())
    assert bool((items >= 0).all())


@needs_faiss
def test_what_an_index_of_lists_finds_is_in_order(tmp_path: Path) -> None:
    served, _, data = indexed("IVF2,Flat", tmp_path)
    users = users_of(data)
    served.index.nprobe = 2
    items, scores = served.search(users, 300)  # all there are, so that nothing is left open
    expected, exact = ItemIndex(**(vars(served) | {"index": None})).search(users, 300)
    assert_close(scores, exact)
    assert torch.equal(items == -1, expected == -1)
    same = scores[:, 1:] == scores[:, :-1]
    assert bool(same.any())
    assert bool((items[:, 1:] > items[:, :-1])[same & (items[:, 1:] >= 0)].all())


@pytest.mark.parametrize(
    "factory", [None, *(pytest.param(name, marks=needs_faiss) for name in ("Flat", "IVF2,Flat"))]
)
def test_nobody_gets_no_lists(factory: str | None, tmp_path: Path) -> None:
    served, _, _ = indexed(factory, tmp_path)
    items, scores = served.search(torch.empty(0, dtype=torch.long), 3)
    assert (items.shape, items.dtype) == ((0, 3), torch.long)
    assert (scores.shape, scores.dtype) == ((0, 3), torch.float32)
    assert served.recommend([], 3).empty


@needs_faiss
def test_an_index_below_the_recall_is_refused(tmp_path: Path) -> None:
    model, data = many()
    with pytest.raises(
        ValueError, match=r"the index 'PQ4x4' finds 0\.\d+ of the 10 best items, expected 0\.99"
    ):
        export(model, data, tmp_path / "new", tables="npy", index="PQ4x4", scorer=False)
    with pytest.raises(ValueError, match="faiss makes no index 'Nonsense'"):
        export(model, data, tmp_path / "new", tables="npy", index="Nonsense", scorer=False)
    assert not (tmp_path / "new").exists()


@needs_faiss
@pytest.mark.parametrize("factory", ["SQ4", "IVF8,SQ4", "L2norm,Flat"])
def test_recall_and_scores_are_of_the_embeddings_where_an_index_rounds_them(
    factory: str, tmp_path: Path
) -> None:
    model, data = many(num_users=100, num_items=600)
    report = export(model, data, tmp_path, tables="npy", index=factory, recall=0.2, scorer=False)["index"]
    served, users = ItemIndex.load(tmp_path), users_of(data)
    items, scores = served.search(users, 10)
    best, _ = model.rank(data, users, 10)
    hits = (items.unsqueeze(2) == best.unsqueeze(1)).any(2).float().mean()
    assert 0.2 < hits < 1
    assert report["recall"] == pytest.approx(float(hits))
    assert bool((items >= 0).all())
    assert_close(scores, model.score_all(data, users).gather(1, items))
    assert bool((scores[:, :-1] >= scores[:, 1:]).all())
    everything, scores = served.search(users[:2], 600, exclude_seen=False)
    assert_close(
        scores,
        model.score_all(data, users[:2])
        .gather(1, everything.clamp(min=0))
        .masked_fill(everything < 0, -torch.inf),
    )
    assert bool((served.search(users, 600)[0] == -1).any())


@needs_faiss
@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF16,SQ8", "HNSW8"])
def test_a_list_is_shorter_only_where_fewer_items_are_left(factory: str, tmp_path: Path) -> None:
    model, data = many(num_users=40, num_items=640)
    export(model, data, tmp_path, tables="npy", index=factory, recall=0.3, scorer=False)
    served, users = ItemIndex.load(tmp_path), users_of(data)
    if "IVF" in factory:
        faiss.extract_index_ivf(served.index).nprobe = 1
    best, exact = model.rank(data, users, 640)
    items, scores = served.search(users, 640)
    assert torch.equal(items >= 0, best >= 0)
    assert bool((items < 0).any())
    assert_close(scores, exact)
    found, _ = served.search(users, 60)
    assert bool((found >= 0).all())
    nearby = served.search(users, 5)[0]
    assert bool((nearby >= 0).all())
    assert factory != "IVF16,Flat" or not torch.equal(
        nearby, best[:, :5]
    )  # which the index still finds by itself


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("odd", ["\ud800 alone", "two\u2028lines\n", "", 2**70], ids=ascii)
def test_ids_of_any_kind_come_back_or_are_refused(odd: str | int, tables: Any, tmp_path: Path) -> None:
    data = build_store()
    number = data["item"].num_nodes
    data["item"].id = [odd, *(type(odd)(i + 1) for i in range(number - 1))]
    model = model_of(BPRMF, data)
    if tables == "parquet" and odd in ("\ud800 alone", 2**70):
        with pytest.raises(ValueError, match="expected tables='npy' for such ids"):
            export(model, data, tmp_path / "new", tables=tables, index=None, scorer=False)
        assert not (tmp_path / "new").exists()
        return
    export(model, data, tmp_path, tables=tables, index=None, scorer=False)
    assert ItemIndex.load(tmp_path).items["id"].tolist() == data["item"].id


def test_recall_counts_items_that_score_the_same() -> None:
    exact = torch.tensor([[3.0, 2.0, 2.0], [1.0, -torch.inf, -torch.inf]])
    assert _recall(exact, exact) == 1
    assert _recall(exact, torch.tensor([[3.0, 2.0, 1.0], [1.0, -torch.inf, -torch.inf]])) == pytest.approx(
        3 / 4
    )


@pytest.mark.parametrize("kind", [KTUP, EASE, Popularity, Blend])
def test_other_models_are_refused_in_one_sentence(kind: Any, tmp_path: Path) -> None:
    data = build_store()
    model = Blend({"a": EASE(data), "b": Popularity(data)}) if kind is Blend else kind(data)
    if kind is not KTUP:
        fit(model, data, progress=False)
    with pytest.raises(TypeError, match=f"the scores of this {kind.__name__} are no inner products"):
        export(model, data, tmp_path / "new", index=None, scorer=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tables": "csv"}, ValueError, "tables is 'csv'"),
        ({"recall": 0}, ValueError, "recall is 0, expected a share"),
        ({"recall": "1"}, TypeError, "recall is '1', expected a number"),
        ({"k": 0}, ValueError, "k is 0"),
        ({"index": 3}, TypeError, "index is an int"),
        ({"scorer": 1}, TypeError, "scorer is 1"),
    ],
    ids=str,
)
def test_wrong_arguments_write_nothing(arguments: Any, error: Any, match: str, tmp_path: Path) -> None:
    data = build_store()
    with pytest.raises(error, match=match):
        export(model_of(BPRMF, data), data, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_files_of_others_and_damaged_ones_are_told(tmp_path: Path) -> None:
    data = build_store()
    model = model_of(BPRMF, data)
    (tmp_path / "items.npy").write_bytes(b"theirs")
    with pytest.raises(ValueError, match=r"holds items\.npy of something else than this package's export"):
        export(model, data, tmp_path, index=None, scorer=False)
    folder = tmp_path / "ours"
    export(model, data, folder, tables="npy", index=None, scorer=False)
    manifest = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(manifest | {"num_items": 3}))
    with pytest.raises(ValueError, match="its tables are of another size"):
        ItemIndex.load(folder)
    (folder / "export.json").write_text(json.dumps(manifest))
    np.save(folder / "items.npy", np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(ValueError, match=r"items\.npy is damaged"):
        ItemIndex.load(folder)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ItemIndex.load(tmp_path / "none")


def test_ids_come_in_whatever_holds_them(tmp_path: Path) -> None:
    train, _, test = build_splits()
    export(model_of(BPRMF, train), test, tmp_path / "e")
    index = ItemIndex.load(tmp_path / "e")
    expected = index.recommend(["u1"], k=2)
    for users in (
        ("u1",),
        {"u1"},
        np.array(["u1"]),
        np.str_("u1"),
        pd.Series(["u1"]),
        pd.array(["u1"], dtype="string"),
    ):
        pd.testing.assert_frame_equal(index.recommend(users, k=2), expected)
    for users in (None, torch.tensor([1]), 1.5):
        with pytest.raises(TypeError, match="raw ids"):
            index.recommend(users)
