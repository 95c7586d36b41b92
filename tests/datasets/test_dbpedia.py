"""Which films of one list are which resources of another, on a few made-up rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pyg_kgrec.datasets.dbpedia import RELATIONS, join_films, read_graphs, resource_id, resource_name

HOME = "http://dbpedia.org/resource/"


def join(tmp_path: Path, film: str, year: str, *rows: tuple[str, str]) -> str | None:
    path = tmp_path / "mappings.tsv"
    path.write_text("".join(f"{n}\t{title}\t{HOME}{resource}\n" for n, (title, resource) in enumerate(rows)))
    return join_films(pd.DataFrame({"item_id": ["7"], "name": [film], "year": [year]}), path).get("7")


@pytest.mark.parametrize(
    ("film", "year", "title", "resource"),
    [
        ("Alien", "1979", "Alien (1979)", "Alien_(film)"),
        ("Godfather, The", "1972", "Godfather, The (1972)", "The_Godfather"),
        ("Godfather, The", "1972", "The Godfather (1972)", "The_Godfather"),
        ("Night Flier", "1997", "Night Flier (1997)", "The_Night_Flier_(film)"),
        ("Dear Diary (Caro Diario)", "1994", "Caro Diario (Dear Diary) (1994)", "Caro_diario"),
        ("Lashou shentan", "1992", "Hard-Boiled (Lashou shentan) (1992)", "Hard_Boiled"),
        ("Star Wars", "1977", "Star Wars: Episode IV - A New Hope (1977)", "Star_Wars_(film)"),
        ("Batman & Robin", "1997", "Batman and Robin (1997)", "Batman_%26_Robin_(film)"),
        ("Misérables, Les", "1995", "Miserables, Les (1995)", "Les_Misérables_(1995_film)"),
        ("Double vie (Double Life, The)", "1991", "Double Life, The (1991)", "The_Double_Life"),
        ("Conan", "1981", "Conan (1982)", "Conan_(1982_film)"),
        ("Twelve Monkeys", "1995", "Twelve Monkeys (1995)", "12_Monkeys"),
    ],
)
def test_a_film_is_found(tmp_path: Path, film: str, year: str, title: str, resource: str) -> None:
    assert join(tmp_path, film, year, (title, resource)) == resource_id(HOME + resource)


@pytest.mark.parametrize(
    ("film", "year", "rows"),
    [
        ("Conan", "1980", [("Conan (1982)", "Conan")]),
        ("Conan", "1981", [("Conan (1982)", "Conan_(1982_film)"), ("Conan (1990)", "Conan_(1990_film)")]),
        ("Conan", "1981", [("Conan (1981)", "Conan"), ("Conan (1981)", "Conan_(film)")]),
        ("Conan", "unknown", [("Conan (1981)", "Conan")]),
        ("Braveheart", "1995", [("Braveheart (1995)", "Braveheart_(1925_film)")]),
        ("Clerks", "1994", [("Clerks (1994)", "Clerks_II")]),
        ("Graduate, The", "1967", [("Graduate, The (1967)", "Graduate_(film)")]),
        ("Boys", "1996", [("Boys, Les (1997)", "Les_Boys")]),
        ("Full Speed", "1996", [("Full Speed (1996)", "Full_Speed")]),
        ("(...)", "1996", [("(!) (1996)", "%3F")]),
    ],
)
def test_another_film_is_not_taken(tmp_path: Path, film: str, year: str, rows: list[tuple[str, str]]) -> None:
    assert join(tmp_path, film, year, *rows) is None


def test_of_two_films_of_one_title_the_year_decides(tmp_path: Path) -> None:
    rows = ("Sabrina (1954)", "Sabrina_(1954_film)"), ("Sabrina (1995)", "Sabrina_(1995_film)")
    assert join(tmp_path, "Sabrina", "1995", *rows) == "Sabrina_(1995_film)"
    assert join(tmp_path, "Sabrina", "1954", *rows) == "Sabrina_(1954_film)"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("Joseph_F._Biroc", "Joseph F. Biroc"),
        ("John_Morris_(composer)", "John Morris"),
        ("What_About_Bob%3F", "What About Bob?"),
        ("MGM/UA_Home_Entertainment", "MGM/UA Home Entertainment"),
        ("Jan_Kr%C3%B3l", "Jan Król"),
        ("(Untitled)", "(Untitled)"),
    ],
)
def test_names_are_readable(url: str, name: str) -> None:
    assert resource_name(resource_id(HOME + url)) == name


def test_triples_of_the_wanted_films(tmp_path: Path) -> None:
    for graph in RELATIONS:
        (tmp_path / f"{graph}.edgelist").write_text("")
    rows = [
        ("A", HOME + "X_(actor)"),
        ("B", HOME + "X_(actor)"),
        ("A", HOME + "A"),
        ("A", "http://example.org/1"),
    ]
    rows += [("A", HOME + "X_(actor)")]
    (tmp_path / "starring.edgelist").write_text("".join(f"{HOME}{h} {t}\n" for h, t in rows))
    (tmp_path / "musicComposer.edgelist").write_text(f"{HOME}A {HOME}Y%27s\n")
    found = read_graphs(tmp_path, ["A", "C"])
    assert found.to_numpy().tolist() == [["A", "starring", "X_(actor)"], ["A", "music composer", "Y's"]]
