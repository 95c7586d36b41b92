"""What happens to every request: it is counted, timed, let in or refused, and its failure is no trace."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyg_kgrec.serving.answers import refusal
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.limits import Limits
from pyg_kgrec.serving.metrics import Metrics

LOG = logging.getLogger("pyg_kgrec.serving")
HEADER: Final = b"x-api-key"
OPEN: Final = ("/health", "/")
_PAGE: Final = "/page/"
_OTHER: Final = "other"
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Doorkeeper:
    """The ASGI middleware around the app.

    Args:
        app: The app.
        routes: Paths that are counted by themselves.
        metrics: Where they are counted.
        limits: Bounds.
        api_key: What the header ``X-API-Key`` must hold; None lets everyone in.
    """

    def __init__(
        self, app: ASGIApp, routes: frozenset[str], metrics: Metrics, limits: Limits, api_key: str | None
    ) -> None:
        self._app, self._routes, self._metrics, self._limits = app, routes, metrics, limits
        self._key = None if api_key is None else _digest(api_key.encode())
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        route = path if path in self._routes else _PAGE if path.startswith(_PAGE) else _OTHER
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                if route in ("/", _PAGE):
                    headers["Content-Security-Policy"] = _POLICY
                    headers["Referrer-Policy"] = "no-referrer"
                else:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        self._in_work += 1
        self._metrics.in_work.set(self._in_work)
        try:
            refused = self._refused(scope, route)
            await (self._app if refused is None else refusal(refused))(scope, receive, noted)
        except Exception:
            LOG.exception("a request to %s failed", route)
            if not status:
                failure = Refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "the service failed to answer this request, its log says why",
                )
                await refusal(failure)(scope, receive, noted)
        finally:
            self._in_work -= 1
            self._metrics.in_work.set(self._in_work)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _refused(self, scope: Mapping[str, Any], route: str) -> Refused | None:
        if self._in_work > self._limits.max_requests and route != "/health":
            return Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._limits.max_requests} requests are in work, as many as may be: ask again in a moment",
            )
        if self._key is not None and route not in OPEN and route != _PAGE:
            given = next((value for name, value in scope["headers"] if name == HEADER), None)
            if given is None:
                return Refused(
                    HTTPStatus.UNAUTHORIZED, "the header X-API-Key is missing, expected the service's key"
                )
            if not hmac.compare_digest(_digest(given), self._key):
                return Refused(
                    HTTPStatus.UNAUTHORIZED, "the header X-API-Key holds another key, expected the service's"
                )
        return None


def _digest(key: bytes) -> bytes:
    """Keys of all lengths are compared in the same time."""
    return hashlib.sha256(key).digest()
