"""Bodies of requests read, and answers written, as JSON."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pyg_kgrec._files import shown
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.schemas import Asked

A = TypeVar("A", bound=Asked)
_RETRY: Final = "1"


class Json(Response):
    """An answer as JSON; text stays readable."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Its bytes."""
        try:
            return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # half a surrogate pair in a name: it can be written escaped alone
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def refusal(error: Refused) -> Json:
    """The answer that says why there is none."""
    headers = {"Retry-After": _RETRY} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "X-API-Key"
    return Json({"detail": error.sentence}, status_code=error.status, headers=headers)


async def read(request: Request, kind: type[A], most: int) -> A:
    """The body of a request as what it has to hold.

    Args:
        request: The request.
        kind: What it has to hold.
        most: Most bytes.

    Raises:
        Refused: If it is too large, ends too soon, is no JSON, or holds something else.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body's Content-Type is {shown(repr(media), 60) if media else 'missing'}, "
            "expected application/json",
        )
    too_large = Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large, expected at most {most} bytes"
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and (len(length) > 18 or int(length) > most):
        raise too_large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
    except ClientDisconnect:  # nobody hears this, and nothing has failed here
        raise Refused(HTTPStatus.BAD_REQUEST, "the body ends before its end, expected all of it") from None
    try:
        return kind.model_validate_json(b"".join(parts))
    except ValidationError as error:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, sentence(error.errors(include_url=False), kind)
        ) from None


def sentence(errors: Any, kind: type[Asked] | None = None) -> str:
    """The first of what pydantic found wrong, where, and what was expected."""
    first = errors[0]
    place = list(first["loc"] if kind is not None else first["loc"][1:])
    if len(place) > 1 and place[-1] in ("int", "str") and first["type"] != "extra_forbidden":
        place.pop()  # the member of a union; what was found wrong with an id is one thing
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" if i else str(p) for i, p in enumerate(place))
    where = shown(where, 60)
    value, what = first.get("input"), first["type"]
    if what == "json_invalid":
        return f"the body is no JSON ({shown(str(first['ctx']['error']), 120)}), expected an object"
    if what == "extra_forbidden":
        known = ", ".join(kind.model_fields) if kind is not None and len(place) == 1 else "item, units"
        return f"the body has the unknown field {where}, expected {known or 'an empty object'}"
    if what == "missing":
        return f"{where} is missing, expected {'a value' if kind is None else _expected(kind, place)}"
    if not place:
        return f"the body is {_quoted(value)}, expected an object"
    ids = {error["type"] for error in errors if error["loc"][:-1] == first["loc"][:-1]} >= {
        "int_type",
        "string_type",
    }
    expected = "a raw id: a string or a whole number" if ids else _wanted(first)
    more = len({tuple(error["loc"][: len(place)]) for error in errors}) - 1
    return (
        f"{where} is {_quoted(value)}, expected {expected}{f' ({more} more are wrong)' if more > 0 else ''}"
    )


def _expected(kind: type[Asked], place: list[Any]) -> str:
    field = kind.model_fields.get(str(place[0])) if len(place) == 1 else None
    if field is None:
        return "item and units"
    return "a list of raw ids" if "list" in str(field.annotation) else "a raw id: a string or a whole number"


_WANTED: Final = {
    "bool_type": "true or false",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 4300 digits",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_type": "a string",
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "at least {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_long": ("max_length", "at most {} characters"),
    "too_short": ("min_length", "at least {}"),
}


def _wanted(error: Any) -> str:
    """What pydantic asks for, as the end of a sentence."""
    what = error["type"]
    if what in _BOUNDS:
        name, text = _BOUNDS[what]
        return text.format(error["ctx"][name])
    message: str = error["msg"].removeprefix("Input should be ")
    return _WANTED.get(what, message[:1].lower() + message[1:])


def _quoted(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return f"a number of {value.bit_length()} bits"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    return shown(repr(value), 60)
