"""Words for the identifiers of knowledge graphs: ``film.film.directed_by`` is read as "directed by"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

_PROPERTY: Final = re.compile(r"(?:[a-z0-9_]+\.)*([a-z0-9_]+)\.([a-z0-9_]+)\.([a-z0-9_]+)")
"""Domain, type and property of Freebase."""

_ADDRESS: Final = re.compile(r"<?https?://\S+?[/#]([^/#\s>]+)[/#]?>?")
_MACHINE_ID: Final = re.compile(r"/?[mg][./][0-9a-z_]{2,}")
_INVERSE: Final = "~"


def relation_words(names: Sequence[str]) -> list[str]:
    """Relations in words, as many as there are, no two alike.

    Of a property of Freebase these are the words of its last part, or, where the property leads from a role back
    to what the role is in (``film.director.film``), those of the role and "of"; of an address (URI) those of its
    last part. What two relations would share is told apart by the type, or type and domain, in brackets. Other
    names stay as they are. The identity of a relation is its name in the store, whatever it is read as.

    Args:
        names: Of the relations of a store (``data.relation_name``).
    """
    told = [_words(name) for name in names]
    for more in (_with_type, _with_domain, _as_it_is):
        often = Counter(told)
        told = [more(name, words) if often[words] > 1 else words for name, words in zip(names, told)]
    return told


def role_words(name: str) -> tuple[str, str]:
    """What the head and what the tail of a triple of this relation are: ``director`` of ``film.director.film``.

    Either is empty where the name does not say.
    """
    match = _PROPERTY.fullmatch(name.removeprefix(_INVERSE))
    if match is None:
        return "", ""
    domain, kind, _ = match.groups()
    words = _words(name.removeprefix(_INVERSE))
    ends = (_spaced(kind.removeprefix(f"{domain}_")), "" if words.endswith((" by", " of")) else words)
    return ends[::-1] if name.startswith(_INVERSE) else ends


def entity_words(name: str) -> str:
    """The last part of an address (URI) in words; any other name as it is."""
    match = _ADDRESS.fullmatch(name)
    return name if match is None else unquote(match[1]).replace("_", " ")


def is_machine_id(name: str) -> bool:
    """Whether a name is an identifier of Freebase, which says nothing: ``m.02mxw``, ``/m/02mxw``."""
    return _MACHINE_ID.fullmatch(name) is not None


def _words(name: str) -> str:
    mark = _INVERSE if name.startswith(_INVERSE) else ""
    name = name.removeprefix(_INVERSE)
    address = _ADDRESS.fullmatch(name)
    if address is not None:
        name = unquote(address[1])
    match = _PROPERTY.fullmatch(name)
    if match is not None:
        domain, kind, last = match.groups()
        role = _spaced(kind.removeprefix(f"{domain}_"))
        if kind != domain and re.fullmatch(rf"{domain}s?(_in_this_\w+)?", last):
            return f"{mark}{role}" if role.endswith(f" {domain}") else f"{mark}{role} of"
        return mark + _spaced(last)
    if address is not None:
        return mark + _spaced(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)).lower()
    return mark + name


def _with_type(name: str, words: str) -> str:
    match = _PROPERTY.fullmatch(name.removeprefix(_INVERSE))
    return words if match is None else f"{words} ({_spaced(match[2])})"


def _with_domain(name: str, words: str) -> str:
    match = _PROPERTY.fullmatch(name.removeprefix(_INVERSE))
    return (
        words if match is None else f"{words.rpartition(' (')[0]} ({_spaced(match[1])} {_spaced(match[2])})"
    )


def _as_it_is(name: str, words: str) -> str:
    return name


def _spaced(text: str) -> str:
    return text.replace("_", " ").strip()
