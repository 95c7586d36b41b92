from __future__ import annotations

import pytest

from pyg_kgrec.explain.words import entity_words, is_machine_id, relation_words, role_words


def test_properties_of_freebase_in_words() -> None:
    names = [
        "film.film.directed_by",
        "film.director.film",
        "film.film_genre.films_in_this_genre",
        "film.film.genre",
        "film.film_subject.films",
        "film.person_or_entity_appearing_in_film.film",
        "~film.film.actor",
    ]
    assert relation_words(names) == [
        "directed by",
        "director of",
        "genre of",
        "genre",
        "subject of",
        "person or entity appearing in film",
        "~actor",
    ]


def test_other_names_stay() -> None:
    names = ["directed by", "has genre", "item", "a.b", "~made by", "3", "", "Set in: 1.5.2"]
    assert relation_words(names) == names


def test_addresses_in_words() -> None:
    assert relation_words(
        ["http://dbpedia.org/ontology/musicComposer", "<http://rdf.freebase.com/ns/film.film.actor>"]
    ) == [
        "music composer",
        "actor",
    ]
    assert entity_words("http://dbpedia.org/resource/John_Morris_(composer)") == "John Morris (composer)"
    assert entity_words("<http://dbpedia.org/resource/Am%C3%A9lie>") == "Amélie"
    assert entity_words("http and so on") == "http and so on"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["film.film.genre", "music.album.genre"], ["genre (film)", "genre (album)"]),
        (
            ["cvg.publisher.games", "games.publisher.items", "x.publisher.games"],
            ["games (cvg publisher)", "items", "games (x publisher)"],
        ),
        (["film.film.actor", "actor"], ["actor (film)", "actor"]),
        (["a.film.film.actor", "b.film.film.actor"], ["a.film.film.actor", "b.film.film.actor"]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_no_two_relations_are_read_alike(names: list[str], expected: list[str]) -> None:
    assert relation_words(names) == expected
    assert relation_words(names[::-1]) == expected[::-1]


def test_roles_of_both_ends() -> None:
    assert role_words("film.director.film") == ("director", "")
    assert role_words("film.film.actor") == ("film", "actor")
    assert role_words("~film.film.actor") == ("actor", "film")
    assert role_words("directed by") == ("", "")


def test_machine_ids() -> None:
    assert all(map(is_machine_id, ["m.02mxw", "/m/02mxw", "g.11b7_x"]))
    assert not any(map(is_machine_id, ["m.", "E13", "e2", "M.02", "Mr. X", "mx02", "3846"]))
