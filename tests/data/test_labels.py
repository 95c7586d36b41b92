"""Stores under PyG's own functions: what comes out belongs to the rows it stands in."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Batch, HeteroData
from torch_geometric.loader import LinkNeighborLoader, NeighborLoader
from torch_geometric.loader.utils import filter_hetero_data
from torch_geometric.transforms import RandomLinkSplit, RemoveIsolatedNodes

from pyg_kgrec.data import (
    ENTITY,
    INTERACTS,
    ITEM,
    RELATES,
    USER,
    Labels,
    from_pandas,
    indexable,
    read_atomic,
    read_kgat,
    validate,
)
from pyg_kgrec.datasets import LastFM, MovieLens100K, SyntheticKG
from pyg_kgrec.testing import build_splits, build_store
from pyg_kgrec.transforms import ClickThroughSplit, CollaborativeKG, LeaveOneOut, RandomSplit, TripleSplit

BESIDE = {
    "edge_index": ("time", "rating", "edge_type"),
    "edge_label_index": ("edge_label", "edge_label_time", "edge_label_rating", "edge_label_type"),
    "seen_edge_index": ("seen_time", "seen_rating", "seen_edge_type"),
}


def check(whole: HeteroData, part: HeteroData, induced: bool = True) -> None:
    """Every node of a part has its own name and features, every pair of every index is one of the whole store's."""
    if part[INTERACTS].num_edges:  # a loader may meet none
        validate(part)
    row, new = {}, {}
    for node_type in part.node_types:
        store = whole[node_type]
        place = {raw_id: i for i, raw_id in enumerate(store.id)}
        rows = row[node_type] = torch.tensor([place[i] for i in part[node_type].id], dtype=torch.long)
        assert rows.numel() == part[node_type].num_nodes
        if "name" in store:
            assert part[node_type].name == [store.name[i] for i in rows.tolist()]
        if "x" in store:
            assert torch.equal(part[node_type].x, store.x[rows])
        new[node_type] = torch.full((store.num_nodes,), -1)
        new[node_type][rows] = torch.arange(rows.numel())
    for edge_type in part.edge_types:
        source, _, target = edge_type
        for key in [k for k in BESIDE if k in whole[edge_type]]:
            head, tail = whole[edge_type][key]
            expected = torch.stack([new[source][head], new[target][tail]])
            kept = (expected >= 0).all(dim=0)
            found = part[edge_type][key]
            if not induced and key == "edge_index":
                numbers = [pairs[0] * 10**6 + pairs[1] for pairs in (found, expected[:, kept])]
                assert bool(torch.isin(*numbers).all())
                continue
            assert torch.equal(found, expected[:, kept]), (edge_type, key)
            for column in [c for c in BESIDE[key] if c in whole[edge_type]]:
                assert torch.equal(part[edge_type][column], whole[edge_type][column][kept]), column


def triples_frame() -> dict[str, pd.DataFrame]:
    items = [f"i{i}" for i in range(9)]
    return {
        "interactions": pd.DataFrame(
            {
                "user_id": [10, 10, 10, 20, 20, 20, 30, 30],
                "item_id": [items[i] for i in (0, 3, 5, 0, 6, 7, 3, 6)],
            }
        ).assign(timestamp=range(8)),
        "triples": pd.DataFrame(
            {"head": ["e0", "e3", "e5", "e6"], "relation": list("abab"), "tail": ["g", "g", "h", "h"]}
        ),
        "links": pd.DataFrame({"item_id": ["i0", "i3", "i5", "i6"], "entity_id": ["e0", "e3", "e5", "e6"]}),
        "items": pd.DataFrame({"item_id": items, "name": [f"Film {i}" for i in items]}),
    }


def write_atomic(folder: Path) -> HeteroData:
    text = "user_id:token\titem_id:token\ttimestamp:float\n"
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 4), ("b", "z", 5), ("b", "w", 6)]
    (folder / "toy.inter").write_text(text + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows))
    (folder / "toy.item").write_text(
        "item_id:token\ttitle:token_seq\nv\tVera\nx\tXenia\ny\tYves\nz\tZoe\nw\tWim\n"
    )
    (folder / "toy.link").write_text("item_id:token\tentity_id:token\nx\tm1\ny\tm2\nz\tm3\n")
    (folder / "toy.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\nm1\tr\tm2\nm3\ts\tm2\n")
    return read_atomic(folder, "toy")


def write_kgat(folder: Path) -> HeteroData:
    (folder / "train.txt").write_text("0 1 2 3 4\n1 0 2 5\n2 4 5 6\n")
    (folder / "test.txt").write_text("0 5\n1 6\n2 0\n")
    (folder / "kg_final.txt").write_text("0 0 8\n1 0 8\n2 1 9\n5 1 8\n")
    return read_kgat(folder, val=0.3)[2]


def stores(name: str, folder: Path, request: pytest.FixtureRequest) -> HeteroData:
    def local(place: str) -> Path:
        root: Path = request.getfixturevalue("data_root") / place
        return root

    makers: dict[str, Callable[[], HeteroData]] = {
        "SyntheticKG": lambda: SyntheticKG(num_users=20, num_items=30, num_entities=60, num_relations=3)[0],
        "MovieLens100K": lambda: MovieLens100K(folder, source=local("ml-100k"))[0],
        "LastFM": lambda: LastFM(folder, source=local("last-fm-mkr"))[0],
        "from_pandas": lambda: from_pandas(**triples_frame()),
        "read_atomic": lambda: write_atomic(folder),
        "read_kgat": lambda: write_kgat(folder),
        "by hand": lambda: indexable(build_store(features=True)),
    }
    return makers[name]()


NAMES = ["SyntheticKG", "MovieLens100K", "LastFM", "from_pandas", "read_atomic", "read_kgat", "by hand"]


@pytest.fixture(params=NAMES, scope="module")
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[HeteroData]:
    """A store of each of our makers, whole and split."""
    data = stores(request.param, tmp_path_factory.mktemp("data"), request)
    return [data] if "edge_label_index" in data[INTERACTS] else [data, *RandomSplit(0.2, 0.3, seed=1)(data)]


def some(data: HeteroData) -> dict[str, torch.Tensor]:
    """Some nodes of each type, out of order, entities as a mask."""
    rng = torch.Generator().manual_seed(0)
    chosen = {
        t: torch.randperm(data[t].num_nodes, generator=rng)[: max(2, data[t].num_nodes * 2 // 3)]
        for t in (USER, ITEM)
    }
    return chosen | {ENTITY: torch.arange(data[ENTITY].num_nodes) % 5 != 1}


def test_subgraph(parts: list[HeteroData]) -> None:
    for data in parts:
        part = data.subgraph(some(data))
        check(data, part)
        assert part[USER].id == [data[USER].id[i] for i in some(data)[USER].tolist()]
        again = part.subgraph({ITEM: torch.arange(part[ITEM].num_nodes).flip(0)})
        check(data, again)
        assert again[ITEM].id == part[ITEM].id[::-1]


def test_isolated_nodes_are_removed(parts: list[HeteroData]) -> None:
    for data in parts:
        part = RemoveIsolatedNodes()(data)
        check(data, part)
        for node_type in part.node_types:
            ends = [
                part[e].edge_index[side].unique()
                for e in part.edge_types
                for side, kind in ((0, e[0]), (1, e[2]))
                if kind == node_type
            ]
            assert torch.cat(ends).unique().numel() == part[node_type].num_nodes


SAMPLES = pytest.mark.skipif(
    not any(map(find_spec, ("pyg_lib", "torch_sparse"))),
    reason="PyG's neighbour loaders need pyg-lib or torch-sparse (extra kernels)",
)


@SAMPLES
def test_neighbours_are_sampled(parts: list[HeteroData]) -> None:
    for data in parts:
        asked = data[INTERACTS].edge_index[1].unique()[-2:]
        for part in NeighborLoader(data, num_neighbors=[3, 2], input_nodes=(ITEM, asked), batch_size=2):
            check(data, part, induced=False)
            assert part[ITEM].id[:2] == data[ITEM].id[asked]
            assert part[USER].id == [data[USER].id[i] for i in part[USER].n_id.tolist()]


@SAMPLES
def test_neighbours_of_pairs_are_sampled(parts: list[HeteroData]) -> None:
    for data in parts:
        key = "edge_label_index" if data[INTERACTS].get("edge_label_index") is not None else "edge_index"
        pairs = data[INTERACTS][key][:, :4]
        loader = LinkNeighborLoader(
            data, num_neighbors=[3, 2], edge_label_index=(INTERACTS, pairs), batch_size=4, shuffle=False
        )
        part = next(iter(loader))
        asked = part[INTERACTS].edge_label_index
        assert [(part[USER].id[u], part[ITEM].id[i]) for u, i in asked.t().tolist()] == [
            (data[USER].id[u], data[ITEM].id[i]) for u, i in pairs.t().tolist()
        ]
        whole = copy.copy(data)
        for name in [k for k in whole[INTERACTS] if k.startswith("edge_label")]:
            del whole[INTERACTS][name]
        check(whole, part, induced=False)


def test_what_loaders_filter_by(parts: list[HeteroData]) -> None:
    for data in parts:
        nodes = {t: torch.arange(data[t].num_nodes).flip(0) for t in data.node_types}
        rows, cols, edges = {}, {}, {}
        for e in data.edge_types:
            index = data[e].edge_index
            rows[e] = data[e[0]].num_nodes - 1 - index[0]
            cols[e] = data[e[2]].num_nodes - 1 - index[1]
            edges[e] = torch.arange(index.size(1))
        part = filter_hetero_data(data, nodes, rows, cols, edges)
        check(data, part)
        assert part[USER].id == data[USER].id[::-1]


def test_a_period_is_left_of_every_index(parts: list[HeteroData]) -> None:
    """Of a training store the pairs to learn as well: its edges alone would leave what was cut to be learned."""
    for data in parts:
        store = data[INTERACTS]
        if "time" not in store:
            continue
        times = {
            index: stem + "time"
            for index, stem in (
                ("edge_index", ""),
                ("edge_label_index", "edge_label_"),
                ("seen_edge_index", "seen_"),
            )
            if index in store
        }
        low, high = (int(store.time.double().quantile(q)) for q in (0.3, 0.7))
        before = {key: value.clone() for key, value in store.items() if isinstance(value, torch.Tensor)}
        for part, start in ((data.snapshot(low, high), low), (data.up_to(high), -1)):
            validate(part)
            for index, time in times.items():
                kept = (store[time] >= start) & (store[time] <= high)
                assert index != "edge_index" or 0 < int(kept.sum()) < kept.numel()
                assert torch.equal(part[INTERACTS][index], store[index][:, kept])
                for column in [c for c in BESIDE[index] if c in store]:
                    assert torch.equal(part[INTERACTS][column], store[column][kept]), column
        assert all(torch.equal(store[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "split", [LeaveOneOut(), ClickThroughSplit(), TripleSplit(0.1, 0.1)], ids=lambda s: type(s).__name__
)
def test_other_splits(split: Callable[[HeteroData], Any]) -> None:
    for data in split(build_store(features=True)):
        check(data, data.subgraph(some(data)))
        check(data, RemoveIsolatedNodes()(data))


def test_pygs_own_split_of_a_store() -> None:
    split = RandomLinkSplit(
        edge_types=[INTERACTS], num_val=0.2, num_test=0.2, add_negative_train_samples=False
    )
    for data in split(indexable(build_store())):
        del data[INTERACTS].edge_label
        check(data, data.subgraph(some(data)))


def test_graph_of_items_and_entities_keeps_its_relations() -> None:
    """As many triples as relations: the relations' names are no attribute of the edges."""
    data = build_store()
    names = data.relation_name = [f"r{i}" for i in range(60)]
    graph = CollaborativeKG(inverse=True)(data)
    store = graph["node", "relates", "node"]
    store.relation_name = [f"r{i}" for i in range(store.num_edges)]
    kept = graph.subgraph({"node": torch.arange(3)})["node", "relates", "node"]
    assert kept.relation_name == store.relation_name
    assert graph.relation_name == names


def test_pairs_follow_over_copies_and_devices() -> None:
    test = build_splits()[2]
    keep = some(test)
    for moved in (
        test.subgraph(keep).to("cpu"),
        test.clone().subgraph(keep),
        copy.deepcopy(test).subgraph(keep),
        copy.deepcopy(test.subgraph(keep)),
        pickle.loads(pickle.dumps(test.subgraph(keep))),
        pickle.loads(pickle.dumps(test)).subgraph(keep),
        copy.copy(copy.copy(test).subgraph(keep)),
    ):
        check(test, moved)
        check(test, moved.subgraph({USER: torch.tensor([1, 0])}))


def test_the_content_of_a_store_is_read_with_weights_only() -> None:
    buffer = io.BytesIO()
    torch.save(build_splits()[2].to_dict(), buffer)
    buffer.seek(0)
    test = indexable(HeteroData.from_dict(torch.load(buffer, weights_only=True)))
    check(build_splits()[2], test.subgraph(some(test)))


def test_stores_stand_in_batches() -> None:
    store = indexable(build_store())
    batch = Batch.from_data_list([store, store])
    assert batch[USER].id == [store[USER].id, store[USER].id]
    assert batch[1][USER].id == store[USER].id


def test_a_list_that_is_assigned_can_be_indexed() -> None:
    data = indexable(build_store())
    data[USER].id = [f"v{i}" for i in range(10)]
    data[USER].id.reverse()
    assert data.subgraph({USER: torch.tensor([0, 3])})[USER].id == ["v9", "v6"]


def test_pairs_of_nodes_that_nobody_can_follow() -> None:
    """Without ids nothing tells which nodes are left."""
    test = build_splits(ids=False)[2]
    part = test.subgraph({USER: torch.tensor([4, 2, 0])})
    with pytest.raises(ValueError, match=r"edge_label_index was made for other nodes") as error:
        validate(part)
    assert len(str(error.value)) <= 400
    part[INTERACTS].edge_label_index = torch.tensor([[0], [1]])
    part[INTERACTS].seen_edge_index = None
    with pytest.raises(ValueError, match="edge_label_time"):
        validate(part)
    del part[INTERACTS].edge_label_time
    del part[INTERACTS].seen_time
    validate(part)


LETTERS = ["a", "b", "c", "d"]


def test_labels_read_as_a_list() -> None:
    labels = Labels(LETTERS)
    assert labels == LETTERS
    assert LETTERS == labels  # noqa: SIM300 - both ways
    assert isinstance(labels, list)
    assert (len(labels), list(labels), repr(labels)) == (4, LETTERS, repr(LETTERS))
    assert ("c" in labels, labels.index("c"), labels[-1], labels[np.int64(1)]) == (True, 2, "d", "b")
    assert labels[torch.tensor(2)] == "c"
    assert labels[1:3] == ["b", "c"]
    assert [*labels, "e"] == [*LETTERS, "e"]
    assert random.Random(0).sample(labels, 2)
    assert pd.DataFrame({"id": labels})["id"].tolist() == LETTERS
    labels[0] = "z"
    labels.reverse()
    assert labels == ["d", "c", "b", "z"]
    assert labels[torch.tensor([3])] == ["z"]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (torch.tensor([3, 0, 0]), ["d", "a", "a"]),
        (torch.tensor([-1, 1], dtype=torch.int32), ["d", "b"]),
        (torch.tensor([True, False, False, True]), ["a", "d"]),
        (np.array([2, 1]), ["c", "b"]),
        (np.array([False, True, False, False]), ["b"]),
        (torch.tensor([]), []),
    ],
)
def test_labels_are_selected(index: Any, expected: list[str]) -> None:
    found = Labels(LETTERS)[index]
    assert found == expected
    assert type(found) is Labels
    for copied in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert type(copied) is Labels
        assert copied == expected


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([4]), "index 4 is out of range, expected indices of 4 labels"),
        (torch.tensor([True]), "mask has 1 entries, expected one per label: 4"),
        (torch.tensor([0.5]), "index of labels is float32, expected integers or bools"),
        (torch.zeros(1, 1, dtype=torch.long), r"shape \[1, 1\], expected one dimension"),
    ],
)
def test_wrong_indices_are_refused(index: torch.Tensor, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        Labels(LETTERS)[index]


def test_only_a_store_can_be_made_indexable() -> None:
    with pytest.raises(TypeError, match=r"^data is a dict, expected a torch_geometric\.data\.HeteroData"):
        indexable({})  # type: ignore[arg-type]


def test_a_store_by_hand_is_left_as_it_is() -> None:
    data = build_store()
    out = indexable(data)
    assert type(data[USER].id) is list
    assert out[RELATES].edge_index is data[RELATES].edge_index
    assert out[USER].id == data[USER].id
    assert indexable(out)[USER].id is out[USER].id


def test_a_column_called_an_index_goes_with_its_pairs() -> None:
    data = build_splits()[2]
    store = data[INTERACTS]
    store.visit_index = torch.arange(store.edge_index.size(1))
    store.edge_label_visit_index = torch.arange(store.edge_label_index.size(1))
    users = torch.arange(1, data[USER].num_nodes)
    out = data.subgraph({USER: users})[INTERACTS]
    assert out.visit_index.tolist() == (store.edge_index[0] > 0).nonzero().flatten().tolist()
    assert out.edge_label_visit_index.tolist() == (store.edge_label_index[0] > 0).nonzero().flatten().tolist()


def test_held_out_pairs_follow_a_selection_by_hand_that_is_looked_at_half_way() -> None:
    data = build_splits()[2]
    data[USER].name = [f"user {i}" for i in data[USER].id]
    users, items = data[USER].id, data[ITEM].id
    pairs = [(users[u], items[i]) for u, i in data[INTERACTS].edge_label_index.t().tolist()]
    order = torch.arange(data[USER].num_nodes).flip(0)
    data[USER].id = data[USER].id[order]
    assert data[INTERACTS].get("edge_label_index") is not None  # a look, as printing the store takes
    data[USER].name = data[USER].name[order]
    interactions = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = torch.stack([order.argsort()[interactions[0]], interactions[1]])
    validate(data)
    users = data[USER].id
    assert [(users[u], items[i]) for u, i in data[INTERACTS].edge_label_index.t().tolist()] == pairs
    # A further list made of another one is no selection.
    data[USER].nick = data[USER].name[order]
    assert [(users[u], items[i]) for u, i in data[INTERACTS].edge_label_index.t().tolist()] == pairs


def test_what_stands_beside_edges_moves_with_them_where_they_are_sorted_and_kept_once() -> None:
    data = build_splits()[0]
    for edge_type, again in ((INTERACTS, 3), (RELATES, 4)):
        store = data[edge_type]
        for key in [key for key in store if store.is_edge_attr(key)]:
            store[key] = torch.cat([store[key], store[key][..., :again]], dim=-1)
    store = data[INTERACTS]
    store.time = torch.arange(store.edge_index.size(1))
    store.edge_attr = torch.ones(store.edge_index.size(1), 1)
    times = {tuple(pair): time for time, pair in enumerate(store.edge_index.t().tolist())}  # the last of each
    triples = {
        (*ends, kind)
        for *ends, kind in torch.cat([data[RELATES].edge_index, data[RELATES].edge_type[None]]).t().tolist()
    }
    held = store.edge_label_index.clone()
    out = data.coalesce()
    validate(out)
    assert out[INTERACTS].is_coalesced()
    assert (
        dict(zip(map(tuple, out[INTERACTS].edge_index.t().tolist()), out[INTERACTS].time.tolist())) == times
    )
    assert out[INTERACTS].edge_attr.sum() == store.edge_index.size(1)
    found = torch.cat([out[RELATES].edge_index, out[RELATES].edge_type[None]]).t().tolist()
    assert [tuple(triple) for triple in found] == sorted(triples)
    assert torch.equal(out[INTERACTS].edge_label_index, held)
    assert data[INTERACTS].time.numel() == store.time.numel() > len(times), "the store itself is not changed"


def test_a_store_with_labels_becomes_a_homogeneous_graph() -> None:
    data = build_splits()[2]
    plain = HeteroData()
    for store in (*data.node_stores, *data.edge_stores):
        for key in store:
            plain[store._key][key] = list(store[key]) if isinstance(store[key], Labels) else store[key]
    found, wanted = data.to_homogeneous(), plain.to_homogeneous()
    assert found.num_nodes == sum(data[kind].num_nodes for kind in data.node_types)
    assert torch.equal(found.edge_index, wanted.edge_index)
    assert torch.equal(found.node_type, wanted.node_type)
    assert "id" not in found
