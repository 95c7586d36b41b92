"""The app: routes that check what is asked, let the library answer, and never keep a short request waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

import pyg_kgrec
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.serving import schemas
from pyg_kgrec.serving.answers import Json, read, refusal, sentence
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.limits import Limits
from pyg_kgrec.serving.metrics import Metrics
from pyg_kgrec.serving.middleware import Doorkeeper
from pyg_kgrec.serving.served import Served
from pyg_kgrec.serving.service import ModelSource, Service, StoreSource

T = TypeVar("T")
MODEL, STORE, API_KEY = "PYG_KGREC_MODEL", "PYG_KGREC_STORE", "PYG_KGREC_API_KEY"
PAGE: Final = Path(__file__).parent / "page"
_SHORT: Final = 0.005
"""Seconds that the event loop gives one answer; what takes longer is answered by a thread."""

_SAID: Final = {
    HTTPStatus.UNAUTHORIZED: "the key is missing or another one",
    HTTPStatus.NOT_FOUND: "an id is unknown",
    HTTPStatus.CONFLICT: "the model cannot",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "the body is no application/json",
    HTTPStatus.UNPROCESSABLE_ENTITY: "the request holds something else than expected",
    HTTPStatus.SERVICE_UNAVAILABLE: "too many requests are in work",
}
Limit = Annotated[int, Query(ge=1, le=1000, description="Most that are listed.")]
Words = Annotated[str, Query(max_length=200, description="Letters of an id or a name.")]


class _Threads:
    """Where answers are made: short ones in the event loop, others by threads, explanations by one of their own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting = 0
        self._open()

    def _open(self) -> None:
        self._work = ThreadPoolExecutor(2, thread_name_prefix="pyg_kgrec-work")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="pyg_kgrec-explain")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="pyg_kgrec-reload")

    async def short(self, seconds: float, answer: Callable[[], T]) -> T:
        """An answer that takes about so long."""
        if seconds <= _SHORT:
            return answer()
        return await asyncio.get_running_loop().run_in_executor(self._work, answer)

    async def slow(self, answer: Callable[[], T]) -> T:
        """An answer that may take long, one at a time."""
        if self._waiting >= self._limits.max_waiting:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._waiting} explanations and other long answers wait, as many as may: ask again in a moment",
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow, answer)
        finally:
            self._waiting -= 1

    async def aside(self, work: Callable[[], T]) -> T:
        """Work beside all answers."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    def close(self) -> None:
        """Ends all threads; an app that is started again gets others, which begin with the first that they do."""
        pools = self._work, self._slow, self._aside
        self._open()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


def create_app(
    model: ModelSource | None = None,
    data: StoreSource | None = None,
    *,
    api_key: str | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """A service as an ASGI app, for any server: recommendations, their reasons, and a page.

    The model is loaded, prepared and asked once before this returns. Each argument that is None is read from
    the environment (``PYG_KGREC_MODEL``, ``PYG_KGREC_STORE``, ``PYG_KGREC_API_KEY``), so that a server that builds
    the app itself needs no module of its own: ``uvicorn --factory pyg_kgrec.serving:create_app``.

    ``await app.state.reload()`` does what ``POST /reload`` does: it reads the files anew aside, and lets what they
    hold answer from then on.

    Args:
        model: The path of the model's file, or the model. Only files can be read anew by ``/reload``.
        data: The path of the store's file, or the store, which says what users have had.
        api_key: What requests must hold in the header ``X-API-Key``, but those for ``/health`` and the page.
            Without one everyone is answered who reaches the service.
        limits: Bounds of what one request may ask.

    Returns:
        The app. It has no state but the model, so that several processes may serve the same files.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If FastAPI is missing (extra ``serve``).
        TypeError: If an argument is of another type.
        ValueError: If neither an argument nor the environment names a model or a store, a file is damaged, the
            model does not fit the store, or the key is no word of visible ASCII characters.

    Example:
        >>> app = create_app(model, test)
        >>> client = TestClient(app)
        >>> client.post("/recommend", json={"users": ["ann"], "k": 3}).json()
    """
    limits = Limits() if limits is None else limits
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is {kind_of(limits)}, expected Limits")
    api_key = os.environ.get(API_KEY) if api_key is None else api_key
    if api_key is not None:
        check_key(api_key)
    service = Service(_named(model, MODEL, "model"), _named(data, STORE, "data"))
    metrics, threads = Metrics(), _Threads(limits)
    metrics.serve(service.current)
    reloading = asyncio.Lock()

    async def reload() -> Served:
        async with reloading:
            try:
                served = await threads.aside(service.reload)
            except Refused:
                metrics.reloads.labels("failed").inc()
                raise
            metrics.reloads.labels("ok").inc()
            metrics.serve(served)
            return served

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        threads.close()

    app = FastAPI(
        title="pyg_kgrec",
        version=pyg_kgrec.__version__,
        summary="Recommendations, their reasons, and what would change without them.",
        docs_url=None,  # its page loads from other hosts
        redoc_url=None,
        lifespan=lifespan,
        responses={
            int(status): {"model": schemas.Problem, "description": said} for status, said in _SAID.items()
        },
    )
    app.state.service, app.state.reload = service, reload
    _handle_errors(app)
    _add_routes(app, service, threads, metrics, limits)
    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", "")) != "/page")
    app.user_middleware.append(
        Middleware(Doorkeeper, routes=paths, metrics=metrics, limits=limits, api_key=api_key)
    )
    _describe(app)
    return app


def check_key(key: str) -> None:
    """Raises TypeError or ValueError for what is no API key."""
    if not isinstance(key, str):
        raise TypeError(f"api_key is {kind_of(key)}, expected a string")
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise ValueError(
            "the API key is empty, or holds something else than visible ASCII characters, expected one word of them"
        )


def _named(given: Any, variable: str, argument: str) -> Any:
    found = os.environ.get(variable) if given is None else given
    if found is None or found == "":
        raise ValueError(f"{argument} is None and {variable} is not set, expected one of them to name a file")
    return found


def _handle_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return refusal(error)

    async def wrong(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refusal(Refused(HTTPStatus.UNPROCESSABLE_ENTITY, sentence(error.errors())))

    async def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status, path = HTTPStatus(error.status_code), shown(request.url.path, 60)
        said = {
            HTTPStatus.NOT_FOUND: f"there is no {path} here, expected a path of /openapi.json",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{path} knows no {shown(request.method, 20)}, "
            f"expected {_methods(app, request.url.path)}",
        }.get(status, str(error.detail))
        answer = refusal(Refused(status, said))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = _methods(app, request.url.path).replace(" or ", ", ")
        return answer

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, wrong)
    app.add_exception_handler(HTTPException, other)


def _methods(app: FastAPI, path: str) -> str:
    found = [
        m for r in app.routes if getattr(r, "path", "") == path for m in getattr(r, "methods", None) or ()
    ]
    return " or ".join(sorted(found)) or "GET"


def _add_routes(app: FastAPI, service: Service, threads: _Threads, metrics: Metrics, limits: Limits) -> None:
    def at_most(most: int, **lists: Any) -> None:
        for name, values in lists.items():
            if values is not None and len(values) > most:
                raise Refused(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"{name} holds {len(values)} ids, expected at most {most}",
                )

    def check_k(k: int) -> None:
        if k > limits.max_k:
            number = str(k) if k < 10**18 else "a number of more than 18 digits"
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"k is {number}, expected at most {limits.max_k}")

    @app.get("/health", response_model=schemas.Health, tags=["service"], summary="What is served")
    async def health() -> Response:
        return Json(service.current.health())

    @app.get("/metrics", tags=["service"], summary="Counters for Prometheus", response_class=Response)
    async def measured() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.post(
        "/reload",
        response_model=schemas.Reloaded,
        tags=["service"],
        summary="Read the model and the store anew",
        openapi_extra=_body(schemas.Reload),
    )
    async def reload(request: Request) -> Response:
        await read(request, schemas.Reload, limits.max_body)
        served = await app.state.reload()
        return Json({"generation": served.generation})

    @app.get("/users", response_model=schemas.Users, tags=["what there is"], summary="Users by id or name")
    async def users(query: Words = "", limit: Limit = 20) -> Response:
        found, total = await _find(service.current, threads, USER, query, limit)
        return Json({"users": found, "total": total})

    @app.get("/items", response_model=schemas.Items, tags=["what there is"], summary="Items by id or name")
    async def items(query: Words = "", limit: Limit = 20) -> Response:
        found, total = await _find(service.current, threads, ITEM, query, limit)
        return Json({"items": found, "total": total})

    @app.post(
        "/history",
        response_model=schemas.Past,
        tags=["what there is"],
        summary="What a user has had",
        openapi_extra=_body(schemas.History),
    )
    async def history(request: Request) -> Response:
        asked = await read(request, schemas.History, limits.max_body)
        return Json(service.current.history(asked.user, asked.limit))

    @app.post(
        "/recommend",
        response_model=schemas.Recommended,
        tags=["recommendations"],
        summary="The best items for some users",
        openapi_extra=_body(schemas.Recommend),
    )
    async def recommend(request: Request) -> Response:
        asked = await read(request, schemas.Recommend, limits.max_body)
        check_k(asked.k)
        at_most(limits.max_users, users=asked.users)
        at_most(limits.max_items, items=asked.items, exclude=asked.exclude)
        served = service.current
        without = None
        if asked.without is not None:
            at_most(limits.max_items, **{"without.units": asked.without.units})
            without = asked.without.item, asked.without.units

        def answer() -> bytes | memoryview:
            found = served.recommend(
                asked.users, asked.k, asked.items, asked.exclude, asked.exclude_seen, without
            )
            return Json(found).body

        if without is not None:
            body = await threads.slow(answer)
        else:
            body = await threads.short(len(asked.users) * served.seconds, answer)
        return Response(body, media_type=Json.media_type)

    @app.post(
        "/similar",
        response_model=schemas.Alike,
        tags=["recommendations"],
        summary="The items most like some items",
        openapi_extra=_body(schemas.Similar),
    )
    async def similar(request: Request) -> Response:
        asked = await read(request, schemas.Similar, limits.max_body)
        check_k(asked.k)
        at_most(limits.max_users, items=asked.items)
        served = service.current
        seconds = len(asked.items) * served.seconds
        return Json(await threads.short(seconds, lambda: served.similar(asked.items, asked.k)))

    @app.post(
        "/session",
        response_model=schemas.Next,
        tags=["recommendations"],
        summary="The best items for a stranger, by a session",
        openapi_extra=_body(schemas.Session),
    )
    async def session(request: Request) -> Response:
        asked = await read(request, schemas.Session, limits.max_body)
        check_k(asked.k)
        at_most(limits.max_items, items=asked.items)
        served = service.current
        if served.grows and served.session_seconds > _SHORT:
            return Json(await threads.slow(lambda: served.session(asked.items, asked.k)))
        seconds = max(1, len(asked.items) / 20) * served.session_seconds
        return Json(await threads.short(seconds, lambda: served.session(asked.items, asked.k)))

    @app.post(
        "/explain",
        response_model=schemas.Explained,
        tags=["reasons"],
        summary="Why a user gets an item",
        openapi_extra=_body(schemas.Explain),
    )
    async def explain(request: Request) -> Response:
        asked = await read(request, schemas.Explain, limits.max_body)
        served = service.current
        return Json(await threads.slow(lambda: served.explain(asked.user, asked.item, asked.max_reasons)))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        if not (PAGE / "index.html").is_file():
            raise Refused(
                HTTPStatus.NOT_FOUND, "this installation has no page, expected the routes of /openapi.json"
            )
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE, check_dir=False), name="page")


async def _find(
    served: Served, threads: _Threads, node_type: str, query: str, limit: int
) -> tuple[list[dict[str, Any]], int]:
    if not query:
        return served.find(node_type, query, limit)
    return await threads.short(
        served.inputs.num_nodes[node_type] * 2e-7, lambda: served.find(node_type, query, limit)
    )


def _body(kind: type[schemas.Asked]) -> dict[str, Any]:
    """What OpenAPI says of a body that this package reads itself."""
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content = {"schema": reference, "example": kind.example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _describe(app: FastAPI) -> None:
    """Adds what bodies hold to the schema that FastAPI makes."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        found = made()
        known = found["components"]["schemas"]
        for kind in schemas.Asked.__subclasses__():
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            known |= schema.pop("$defs", {})
            known[kind.__name__] = schema
        return found

    app.openapi = openapi  # type: ignore[method-assign]
