"""The app under uvicorn: an address of its own, reloads by signal, and a stop that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import torch

from pyg_kgrec._checks import check_at_least, check_within
from pyg_kgrec._extras import require
from pyg_kgrec._files import shown
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.serving.app import API_KEY, check_key, create_app
from pyg_kgrec.serving.errors import Refused
from pyg_kgrec.serving.limits import Limits
from pyg_kgrec.serving.service import ModelSource, StoreSource

_SWITCH: Final = 0.0005
"""Seconds after which a thread that explains gives way to one that recommends; Python's own 5 ms are too long."""

_KEPT_OPEN: Final = 75
"""Seconds that a connection may rest; after uvicorn's own 5 a request can meet one that is being closed."""


def serve(
    model: ModelSource,
    data: StoreSource,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    limits: Limits | None = None,
    num_threads: int = 1,
    stop_after: int = 30,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves a model until SIGINT or SIGTERM, by uvicorn; SIGHUP reads the files anew.

    Requests that are in work when it stops are answered first. While new files are read, and when they cannot be
    served, the model that answered before goes on.

    Args:
        model: The path of the model's file, or the model.
        data: The path of the store's file, or the store.
        host: Address to listen on; by default only this machine reaches it. A warning says where others do and no
            key is asked for.
        port: Port to listen on, 0 for any that is free.
        api_key: As :func:`create_app` takes it.
        limits: As :func:`create_app` takes them.
        num_threads: Threads of one operation. One is fastest for the small operations of one recommendation.
        stop_after: Seconds that requests in work have to end when the service stops.
        ready: Called with the service's address once requests are answered.

    Raises:
        OSError: If the address cannot be listened on, such as a port in use; before anything is loaded.
        Exception: As :func:`create_app` raises.
    """
    uvicorn: Any = require("uvicorn", "serve", "pyg_kgrec.serving.serve")
    check_within(0, 65535, port=port)
    check_at_least(1, num_threads=num_threads, stop_after=stop_after)
    if api_key is not None:
        check_key(api_key)
    with _listen(host, port) as listener:
        address = _address(listener)
        if not _is_loopback(listener) and api_key is None and API_KEY not in os.environ:
            warn_caller(
                f"everyone who reaches {address} is answered: no API key is set ({API_KEY}, or api_key)"
            )
        torch.set_num_threads(num_threads)
        app = create_app(model, data, api_key=api_key, limits=limits)
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="on",
            server_header=False,
            timeout_keep_alive=_KEPT_OPEN,
            timeout_graceful_shutdown=stop_after,
        )
        server = uvicorn.Server(config)
        server.capture_signals = (
            contextlib.nullcontext
        )  # uvicorn's dies of the signal after the stop it asked for
        try:
            asyncio.run(_run(server, app, listener, lambda: ready(address) if ready else None))
        finally:
            sys.setswitchinterval(before)


async def _run(server: Any, app: Any, listener: socket.socket, ready: Callable[[], None]) -> None:
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def reload() -> None:
        try:
            served = await app.state.reload()
        except Refused as error:
            print(f"reload: {error.sentence}", file=sys.stderr, flush=True)
        else:
            print(f"reload: generation {served.generation} serves", file=sys.stderr, flush=True)

    def hear() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def stop(number: signal.Signals) -> None:
        server.handle_exit(number, None)

    if threading.current_thread() is threading.main_thread():  # signals are for nobody else
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop, number)
            except NotImplementedError:  # a system whose loops know no signals
                signal.signal(number, server.handle_exit)
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, hear)

    async def tell() -> None:
        while not server.started and not server.should_exit:
            await asyncio.sleep(0.01)
        if server.started:
            ready()

    telling = loop.create_task(tell())
    try:
        await server.serve(sockets=[listener])
    finally:
        telling.cancel()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a port in use is known before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(
            f"host is {shown(repr(host), 60)}, expected an address of this machine, such as 127.0.0.1"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        why = {
            errno.EADDRINUSE: f"port {port} of {host} is in use, expected a free one (port=0 takes any)",
            errno.EACCES: f"port {port} of {host} may not be used, expected one above 1023",
            errno.EADDRNOTAVAIL: f"{shown(host, 60)} is no address of this machine, expected such as 127.0.0.1",
        }
        raise OSError(
            error.errno,
            why.get(error.errno or 0, f"{shown(host, 60)}:{port} cannot be listened on ({error.strerror})"),
        ) from error
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    host = listener.getsockname()[0]
    return host == "::1" or host.startswith("127.")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
