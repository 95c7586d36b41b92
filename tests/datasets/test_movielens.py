from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, IS, RELATES, read_atomic, validate
from pyg_kgrec.datasets import MovieLens100K, fetched
from pyg_kgrec.datasets import movielens as module

FILES = [f"ml-100k.{suffix}" for suffix in ("inter", "kg", "link", "item", "user")]


@pytest.fixture(scope="module")
def source(data_root: Path) -> Path:
    folder = data_root / "ml-100k"
    if not folder.is_dir():
        pytest.skip(f"no local copy of MovieLens 100K at {folder}")
    return folder


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> MovieLens100K:
    return MovieLens100K(tmp_path_factory.mktemp("ml"), source=source)


@pytest.fixture
def server(source: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine, and the folder of copies that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(source / name, folder / name)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()
        thread.join()


def names_in(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def files_under(root: Path) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names]


def test_the_store_is_whole(dataset: MovieLens100K) -> None:
    data = dataset[0]
    validate(data)
    assert len(dataset) == 1
    assert {kind: data[kind].num_nodes for kind in data.node_types} == {
        "user": 943,
        "item": 1682,
        "entity": 34628,
    }
    assert data[INTERACTS].edge_index.size(1) == 100_000
    assert data[INTERACTS].time[0] == 881250949
    assert data[INTERACTS].rating.unique().tolist() == [1, 2, 3, 4, 5]
    assert data[RELATES].edge_index.size(1) == 91_631
    assert len(data.relation_name) == 24
    assert data["item"].num_nodes - data[IS].edge_index[0].unique().numel() == 84
    assert data["entity"].num_nodes > data[IS].edge_index[1].unique().numel()
    assert data["item"].id == [str(i) for i in range(1, 1683)]
    assert data["user"].id == [str(i) for i in range(1, 944)]
    assert data["item"].name[49] == "Star Wars"


def test_the_split_is_the_fixed_one(dataset: MovieLens100K, source: Path) -> None:
    ours = dataset.split()
    theirs = read_atomic(source, name="ml-100k", splits=("train", "valid", "test"))
    for one, other in zip(ours, theirs):
        validate(one)
        assert one["user"].id == other["user"].id
        assert one["item"].id == other["item"].id
        assert one["entity"].id == other["entity"].id
        assert set(one[INTERACTS].keys()) == set(other[INTERACTS].keys())
        for key, value in one[INTERACTS].items():
            assert torch.equal(value, other[INTERACTS][key])
        assert torch.equal(one[RELATES].edge_index, other[RELATES].edge_index)
        assert torch.equal(one[IS].edge_index, other[IS].edge_index)
    assert [store[INTERACTS].edge_label_index.size(1) for store in ours] == [79619, 9942, 10439]


def test_the_shipped_split_is_small() -> None:
    assert module._SPLIT.stat().st_size <= 30 * 1024


def test_a_second_time_needs_no_source(dataset: MovieLens100K, tmp_path: Path) -> None:
    again = MovieLens100K(dataset.root, source=tmp_path / "nowhere")
    assert torch.equal(again[0][INTERACTS].edge_index, dataset[0][INTERACTS].edge_index)
    assert names_in(dataset.raw_dir) == sorted(FILES)


def test_transforms(dataset: MovieLens100K, tmp_path: Path) -> None:
    def mark(data: torch.nn.Module) -> torch.nn.Module:
        data.mark = 7
        return data

    assert MovieLens100K(dataset.root, transform=mark)[0].mark == 7
    shutil.copytree(dataset.raw_dir, tmp_path / "raw")
    assert MovieLens100K(tmp_path, pre_transform=mark)._data.mark == 7


def test_download(server: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = server
    dataset = MovieLens100K(tmp_path / "root", source=f"{url}/")
    assert dataset[0][INTERACTS].edge_index.size(1) == 100_000
    assert names_in(tmp_path / "root") == ["processed", "raw"]
    assert names_in(tmp_path / "root" / "processed") == ["data.pt"]


def test_a_corrupted_download_leaves_nothing(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    text = bytearray((folder / "ml-100k.item").read_bytes())
    text[1000] ^= 1
    (folder / "ml-100k.item").write_bytes(text)
    match = (
        r"^ml-100k\.item from http://127.* has the SHA-256 sum [0-9a-f]{64}, expected 51d7cdf7[0-9a-f]{56}\.$"
    )
    with pytest.raises(ValueError, match=match):
        MovieLens100K(tmp_path / "root", source=url)
    assert files_under(tmp_path / "root") == []


def test_a_missing_download_leaves_nothing(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "ml-100k.user").unlink()
    with pytest.raises(
        ConnectionError, match=r"ml-100k\.user could not be downloaded \(.*not found.*\), expected"
    ):
        MovieLens100K(tmp_path / "root", source=url)
    assert files_under(tmp_path / "root") == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"ml-100k\.inter could not be downloaded .* pass source="):
        MovieLens100K(tmp_path / "root", source="http://127.0.0.1:9")
    assert files_under(tmp_path / "root") == []


@pytest.mark.parametrize(
    ("limit", "message"),
    [("_MOST_BYTES", "larger than the 1000 bytes"), ("_MOST_SECONDS", "took longer than 0 seconds")],
)
def test_a_download_is_limited(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    monkeypatch.setattr(fetched, limit, 1000 if limit == "_MOST_BYTES" else 0)
    with pytest.raises(ConnectionError, match=rf"ml-100k\.inter could not be downloaded \(it .*{message}"):
        MovieLens100K(tmp_path / "root", source=server[0])
    assert files_under(tmp_path / "root") == []


def test_a_local_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ml-100k\.inter does not exist, expected a local copy"):
        MovieLens100K(tmp_path / "root", source=tmp_path)
    assert files_under(tmp_path / "root") == []


def test_changed_raw_files_are_noticed(dataset: MovieLens100K, tmp_path: Path) -> None:
    shutil.copytree(dataset.raw_dir, tmp_path / "raw")
    with (tmp_path / "raw" / "ml-100k.kg").open("a") as file:
        file.write("a\tb\tc\n")
    with pytest.raises(ValueError, match=r"^ml-100k\.kg in .*raw has the SHA-256 sum"):
        MovieLens100K(tmp_path)
    assert not list((tmp_path / "processed").glob("data*"))


# ---------------------------------------------------------------------- the DBpedia form


@pytest.fixture(scope="module")
def readable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> MovieLens100K:
    if not (source.parent / "ml-100k-dbpedia").is_dir():
        pytest.skip(f"no local copy of the DBpedia graphs beside {source}")
    return MovieLens100K(tmp_path_factory.mktemp("ml"), source=source.parent, knowledge="dbpedia")


def facts(data: HeteroData, entity: str) -> dict[str, list[str]]:
    """The names of what an entity's triples lead to, by relation."""
    head = list(data["entity"].id).index(entity)
    found: dict[str, list[str]] = {}
    for (h, t), r in zip(data[RELATES].edge_index.T.tolist(), data[RELATES].edge_type.tolist()):
        if h == head:
            found.setdefault(data.relation_name[r], []).append(data["entity"].name[t])
    return found


def test_the_readable_store_is_whole(readable: MovieLens100K, dataset: MovieLens100K) -> None:
    data, other = readable[0], dataset[0]
    validate(data)
    for key in ("edge_index", "time", "rating"):
        assert torch.equal(data[INTERACTS][key], other[INTERACTS][key])
        assert data[INTERACTS][key].dtype == other[INTERACTS][key].dtype
    for kind in ("user", "item"):
        assert data[kind].id == other[kind].id
    assert data["item"].name == other["item"].name
    for one, two in zip(readable.split(), dataset.split()):
        assert torch.equal(one[INTERACTS].edge_label_index, two[INTERACTS].edge_label_index)
    count = dict(zip(data.relation_name, data[RELATES].edge_type.bincount().tolist()))
    assert count == {
        "director": 1228,
        "starring": 5436,
        "writer": 1474,
        "producer": 1556,
        "music composer": 1170,
        "cinematography": 879,
        "editing": 715,
        "distributor": 1271,
        "genre": 2864,
    }
    assert data["entity"].num_nodes == 8010
    assert data[IS].edge_index.size(1) == data[IS].edge_index[0].unique().numel() == 1680
    found = [not data["entity"].id[e].startswith("movielens:") for e in data[IS].edge_index[1].tolist()]
    assert sum(found) == 1311
    assert not any(mark in name for name in data["entity"].name for mark in ("_", "%", "http"))


def test_facts_are_readable_and_of_the_right_film(readable: MovieLens100K) -> None:
    data = readable[0]
    amadeus = facts(data, "Amadeus_(film)")
    assert amadeus["director"] == ["Miloš Forman"]
    assert "Tom Hulce" in amadeus["starring"]
    assert amadeus["genre"] == ["Drama", "Mystery"]
    entity = {
        data["item"].id[i]: (data["entity"].id[e], data["entity"].name[e])
        for i, e in data[IS].edge_index.T.tolist()
    }
    assert entity["172"] == ("The_Empire_Strikes_Back", "Empire Strikes Back, The")
    assert entity["1"] == ("movielens:1", "Toy Story")
    assert entity["246"] == entity["268"]  # Chasing Amy stands in the data set twice
    assert entity["217"] != entity["672"]  # two films of one title: Cape Fear
    assert entity["22"][0] == "movielens:22"  # the table has Braveheart of 1925
    assert "267" not in entity  # neither title nor genre
    assert "John Morris" in data["entity"].name
    twice = [e for e, name in enumerate(data["entity"].name) if name == "Alan Parker"]
    assert len({data["entity"].id[e] for e in twice}) == len(twice) == 2


def test_one_root_holds_both_forms(source: Path, readable: MovieLens100K, tmp_path: Path) -> None:
    folder = source.parent / "ml-100k-dbpedia"
    root = tmp_path / "root"
    one = MovieLens100K(root, source=source)
    with pytest.raises(
        FileNotFoundError, match=r"mappings\.tsv does not exist, expected a local copy of mappings"
    ):
        MovieLens100K(root, source=tmp_path, knowledge="dbpedia")
    MovieLens100K(root, source=folder, knowledge="dbpedia")  # what MovieLens itself needs is there already
    assert names_in(root / "processed") == ["data.pt", "dbpedia.pt"]
    assert sorted(one.raw_file_names) == sorted(FILES)
    for form, relations in (("freebase", 24), ("dbpedia", 9)):
        assert (
            len(MovieLens100K(root, source=tmp_path / "nowhere", knowledge=form)[0].relation_name)
            == relations
        )
    flat = tmp_path / "flat"
    shutil.copytree(readable.raw_dir, flat)
    assert MovieLens100K(tmp_path / "other", source=flat, knowledge="dbpedia")[0]["entity"].num_nodes == 8010
    (flat / "writer.edgelist").chmod(0o644)
    with (flat / "writer.edgelist").open("a") as file:
        file.write("a b\n")
    with pytest.raises(ValueError, match=r"^writer\.edgelist from .*flat has the SHA-256 sum"):
        MovieLens100K(tmp_path / "third", source=flat, knowledge="dbpedia")
    assert files_under(tmp_path / "third") == []


def test_a_knowledge_graph_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="knowledge is 'wikidata', expected 'freebase' or 'dbpedia'"):
        MovieLens100K(tmp_path / "root", knowledge="wikidata")  # type: ignore[arg-type]
    assert not (tmp_path / "root").exists()


def test_the_public_addresses(readable: MovieLens100K, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readable, "source", None)
    commit = "380c1599ea5825bbb650c248f25bf42385b619bc"
    home = f"https://raw.githubusercontent.com/D2KLab/entity2rec/{commit}/datasets/Movielens1M"
    assert readable.places("mappings.tsv") == [f"{home}/original/mappings.tsv"]
    assert readable.places("director.edgelist") == [f"{home}/graphs/dbo%3Adirector.edgelist"]
    assert readable.places("ml-100k.item") == [f"{MovieLens100K.home}/ml-100k.item"]
