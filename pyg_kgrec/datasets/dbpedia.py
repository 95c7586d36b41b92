"""Films of MovieLens 100K, their resources in DBpedia, and names that people can read."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pandas as pd

RELATIONS: Final = {
    "director": "director",
    "starring": "starring",
    "writer": "writer",
    "producer": "producer",
    "musicComposer": "music composer",
    "cinematography": "cinematography",
    "editing": "editing",
    "distributor": "distributor",
}
"""The graphs, by the DBpedia property that names their file, and how the relation is called."""

_RESOURCE: Final = "http://dbpedia.org/resource/"
_ARTICLES: Final = "the|a|an|le|la|les|l'|un|une|il|lo|gli|der|die|das|el|los|las"
_ARTICLE_LAST: Final = re.compile(rf"^(.*), ({_ARTICLES})$")
_ARTICLE_FIRST: Final = re.compile(rf"^(?:(?:{_ARTICLES}) +|l')")

# Of mappings.tsv about one row in ten names another film: a namesake (Braveheart of 1925), a sequel (Clerks II), or
# one that shares a word (To Have, or Not: Deep Throat). A row therefore counts only where the resource bears the
# film's title, or where it was found right by hand although it does not.
_RIGHT: Final = frozenset(
    [
        "12_Monkeys",
        "Amityville:_It's_About_Time",
        "Bloodsport_II:_The_Next_Kumite",
        "Bordello_of_Blood",
        "Def_Jam's_How_to_Be_a_Player",
        "Demon_Knight",
        "Dr._Strangelove",
        "Farinelli_(film)",
        "Hard_Boiled",
        "Interview_with_the_Vampire:_The_Vampire_Chronicles",
        "Nelly_and_Mr._Arnaud",
        "One_Eight_Seven",
        "Poison_Ivy_II:_Lily",
        "Romeo_and_Juliet_(1996_movie)",
        "Rudyard_Kipling's_The_Jungle_Book",
        "Star_Trek_II:_The_Wrath_of_Khan",
        "Sunchaser",
        "The_6th_Man",
        "The_Endless_Summer_II",
        "The_Jerky_Boys:_The_Movie",
        "There's_a_Zulu_On_My_Stoep",
        "U.S._Marshals_(film)",
        "Vive_L'Amour",
        "Yes,_Madam",
    ]
)
# Namesakes whose resource says no year.
_WRONG: Final = frozenset(["Full_Speed", "Sleepover_(film)"])


def resource_id(url: str) -> str:
    """The last part of a resource's address, decoded: ``John_Morris_(composer)``."""
    return unquote(url.removeprefix(_RESOURCE))


def resource_name(raw: str) -> str:
    """What people call a resource: its raw id with spaces, without what tells namesakes apart in brackets."""
    name = raw.replace("_", " ").strip()
    return re.sub(r" \([^()]*\)$", "", name) or name


def join_films(items: pd.DataFrame, mappings: Path) -> dict[str, str]:
    """The resource of each film of MovieLens 100K that has one.

    Films are joined by their titles and years: lower-case letters and digits without accents, "&" as "and",
    an article at the end in front, the title before brackets or the one in them. A year may be off by one where
    one film alone has the title. Where several resources fit, none is taken.

    Args:
        items: One row per film: ``item_id``, ``name`` and ``year``, all strings.
        mappings: The file ``mappings.tsv``: id, title with year, and resource, separated by tabs.

    Returns:
        Raw id of the resource by raw id of the film.
    """
    known: defaultdict[str, set[tuple[str, int, bool]]] = defaultdict(set)
    for line in mappings.read_text(encoding="utf-8").splitlines():
        _, title, url = line.split("\t")
        year = int(title[-5:-1])
        resource = resource_id(url)
        if resource in _WRONG or not _of_year(resource, year):
            continue
        name, forms = _key(resource_name(resource)), _forms(title[:-6])
        short = _key(_ARTICLE_FIRST.sub("", resource_name(resource).lower()))
        if resource in _RIGHT or name in forms or short in forms:
            for form in forms:
                known[form].add((resource, year, True))
        known[name].add((resource, year, True))
        known[short].add((resource, year, False))  # The Night Flier is Night Flier in its year alone

    found = {}
    for item, title, written in zip(items["item_id"], items["name"], items["year"]):
        year = int(written) if written.isdecimal() else -1
        fitting = set().union(*(known[form] for form in _forms(title)))
        exact = {resource for resource, when, _ in fitting if when == year}
        near = {resource for resource, when, full in fitting if full and abs(when - year) == 1}
        if len(exact) == 1:
            found[item] = exact.pop()
        elif not exact and len(near) == len({resource for resource, _, _ in fitting}) == 1:
            found[item] = near.pop()
    return found


def read_graphs(folder: Path, heads: Iterable[str]) -> pd.DataFrame:
    """The triples of some resources, in the order of the relations and of the files' rows.

    Args:
        folder: Holds one file per graph, such as ``director.edgelist``: head and tail with a space between.
        heads: Raw ids of the resources.

    Returns:
        One row per triple: ``head``, ``relation``, ``tail``. Tails that are no resources of DBpedia are left
        out, and so are triples of a resource with itself.
    """
    wanted = set(heads)
    rows = []
    for graph, relation in RELATIONS.items():
        for line in (folder / f"{graph}.edgelist").read_text(encoding="utf-8").splitlines():
            head, tail = line.split(" ")
            raw = resource_id(head)
            if raw in wanted and tail.startswith(_RESOURCE) and tail != head:
                rows.append((raw, relation, resource_id(tail)))
    return pd.DataFrame(rows, columns=["head", "relation", "tail"]).drop_duplicates(ignore_index=True)


def _of_year(resource: str, year: int) -> bool:
    """Whether a resource may be a film of that year: it names none, or one that is not further off than one."""
    named = re.search(r"\((\d{4})[^()]*\)$", resource)
    return named is None or abs(int(named[1]) - year) <= 1


def _forms(title: str) -> set[str]:
    """What a title may be compared by: the title before brackets, and each title in brackets."""
    inside = re.findall(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", title)
    return {key for part in (re.sub(r"\(.*\)", "", title), *inside) if (key := _key(part))}


def _key(title: str) -> str:
    """Lower-case letters and digits, the article in front."""
    text = unicodedata.normalize("NFKD", title).lower().replace("&", " and ").strip()
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"^a\.?k\.?a\.? ", "", text)
    return re.sub(r"[^a-z0-9]", "", _ARTICLE_LAST.sub(r"\2 \1", text))
