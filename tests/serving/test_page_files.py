"""The files of the page, without a browser."""

import re
from importlib.resources import files

import pytest

PAGE = files("pyg_kgrec") / "serving" / "page"
NAMES = ["index.html", "page.css", "page.js", "graph.js", "icon.svg"]


def read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def test_they_are_few_and_small() -> None:
    assert sorted(file.name for file in PAGE.iterdir()) == sorted(NAMES)
    assert sum(len(read(name).encode()) for name in NAMES) < 100_000


@pytest.mark.parametrize("name", NAMES)
def test_they_name_no_other_host(name: str) -> None:
    hosts = set(re.findall(r"\w+://[\w.]+|(?<!:)//[\w.]+\.\w+", read(name)))
    assert hosts <= {"http://www.w3.org"}, "of names of XML alone"


def test_the_page_allows_nothing_inline() -> None:
    html = read("index.html")
    assert "default-src 'none'" in html
    assert "unsafe" not in html
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", html)


@pytest.mark.parametrize("name", ["page.js", "graph.js"])
def test_names_come_into_the_page_as_text(name: str) -> None:
    code = read(name)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", code
    )
    assert not re.search(r"localStorage|sessionStorage|indexedDB|\.cookie", code), "the key stays in memory"


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r'(?:href|src)="page/([^"]+)"', read("index.html"))
    named += re.findall(r'from "\./([^"]+)"', read("page.js"))
    assert sorted(named) == sorted(set(NAMES) - {"index.html"})


def test_every_element_that_the_script_names_is_in_the_page() -> None:
    made = re.findall(r'id: "([\w-]+)"', read("page.js"))
    there = re.findall(r'\sid="([\w-]+)"', read("index.html"))
    named = set(re.findall(r'\$\("([\w-]+)"\)', read("page.js"))) - {
        "item-search-input"
    }  # made with its field
    assert named <= {*made, *there}
    assert len(there) == len(set(there))
