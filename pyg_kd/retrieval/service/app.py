"""The ASGI application.

Built on Starlette, with msgspec to read and write JSON, to be run by uvicorn with httptools and
uvloop. Measured with wrk on two cores that server and client share, one worker, 16 connections, a
request of two fields answered by a list of 20 items without any ranking, requests a second: a bare
ASGI function under uvicorn 31,000, Starlette 20,000, Litestar 10,500, FastAPI 5,000; under granian
the bare function 24,000, Starlette 16,500. Ranking takes longer than any of these, and what
Starlette costs over the bare function buys routes, tests and a way to embed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.board import Board
from pyg_kd.retrieval.service.event_log import EventLog, Tail
from pyg_kd.retrieval.service.guard import Guard
from pyg_kd.retrieval.service.logs import tell_failed_start
from pyg_kd.retrieval.service.metrics import Metrics
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.page import Models
from pyg_kd.retrieval.service.page import routes as page_routes
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.routes import Routes
from pyg_kd.retrieval.service.served import Served
from pyg_kd.retrieval.service.service import Service
from pyg_kd.retrieval.service.source import Source


class App:
    r"""An application that serves a bundle, for any ASGI server that runs its lifespan.

    Args:
        service: What answers.
        token: The bearer token that clients must send.
        local: Whether requests must be addressed to this machine by its own names.
        host: A further name of this machine: the one at which it listens.
        teacher: An index to show beside the served one on the page.
        titles: Titles of items by their ids, for the page.
        others: Tells other workers to reload, and returns how many serve a digest.
    """

    def __init__(
        self,
        service: Service,
        *,
        token: str | None = None,
        local: bool = True,
        host: str | None = None,
        teacher: TopKIndex | None = None,
        titles: Mapping[Any, str] | None = None,
        others: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        page = page_routes(
            lambda: Models(service.served.index, teacher, titles or {}),
            service.limits,
            service.follow,
        )
        routes = Routes(service, token=token is not None, others=others)
        app = Starlette(
            routes=[*routes.all(), *page],
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: _no_route,
                Refused: _refuse,
                ClientDisconnect: _give_up,
                Exception: _fail,
            },
        )
        app.router.redirect_slashes = False
        self.guard = Guard(
            app,
            token=token,
            local=local,
            host=host,
            most=service.limits.open,
            stopping=lambda: service.stopping,
            metrics=service.metrics,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self.guard(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            await self.service.start()
        except Exception as error:
            tell_failed_start(error)
            raise
        yield
        await self.service.stop()


def create_app(
    bundle: str | os.PathLike[str] | TopKIndex,
    *,
    events: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local: bool = True,
    limits: Limits | None = None,
    teacher: TopKIndex | None = None,
    titles: Mapping[Any, str] | None = None,
    backend: str = "numpy",
) -> ASGIApp:
    r"""An application that serves a bundle from one process, to be embedded or run by uvicorn.

    Args:
        bundle: The folder of a bundle, or an index.
        events: The file to which events are written, and which several processes may share. By
            default, the bundle's path with ``.events`` added; for an index, none.
        token: The bearer token that clients must send. By default none is needed.
        local: Whether requests must be addressed to this machine by its own names, which keeps
            pages of other sites out where there is no token.
        limits: What is allowed.
        teacher: An index to show beside the served one on the page.
        titles: Titles of items by their original ids, for the page.
        backend: What ranks items of a bundle.

    Raises:
        OSError: If the log of events can't be opened.
        ValueError: If it is another file.

    Example:
        >>> import numpy as np
        >>> from starlette.testclient import TestClient
        >>> index = TopKIndex(np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32))
        >>> with TestClient(create_app(index), base_url="http://localhost") as client:
        ...     client.post("/recommend", json={"user": 1, "k": 1}).json()["items"]
        [{'id': 1, 'score': 1.0}]
    """
    path = None if events is None else Path(events)
    if path is None and not isinstance(bundle, TopKIndex):
        path = default_log(bundle)
    log = None if path is None else EventLog(path)
    if isinstance(bundle, TopKIndex):
        source: Source | Served = Served(bundle, tail=None if path is None else Tail(path))
    else:
        source = Source(bundle, path, backend)
    service = Service(source, log, limits or Limits(), Metrics(Board()))
    return App(service, token=token, local=local and token is None, teacher=teacher, titles=titles)


def default_log(bundle: str | os.PathLike[str]) -> Path:
    """Where the events of a bundle go: beside its folder."""
    path = os.path.abspath(bundle)  # "." and ".." have no name; links keep theirs
    return Path(path + ".events")


async def _no_route(request: Request, error: Exception) -> Response:
    """Starlette's own refusals in the shape of all others."""
    assert isinstance(error, HTTPException)
    response = Refused(error.status_code, error.detail).response()
    response.headers.update(error.headers or {})
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _give_up(request: Request, error: Exception) -> Response:
    """For the counters alone: nobody reads it."""
    return Response(status_code=499)


async def _fail(request: Request, error: Exception) -> Response:
    return Refused(500, "the service failed to answer").response()
