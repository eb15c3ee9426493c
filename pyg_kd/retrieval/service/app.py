"""The ASGI application."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.answers import Health, encode
from pyg_kd.retrieval.service.body import read_json
from pyg_kd.retrieval.service.guard import Guard
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import Recommend, T, read
from pyg_kd.retrieval.service.service import Service


def create_app(
    bundle: str | os.PathLike[str] | TopKIndex,
    *,
    token: str | None = None,
    local: bool = True,
    limits: Limits | None = None,
) -> ASGIApp:
    r"""An application that serves a bundle, for any ASGI server that runs its lifespan.

    Args:
        bundle: The folder of a bundle, or an index.
        token: The bearer token that clients must send.
        local: Whether requests must be addressed to this machine by its own names.
        limits: What is allowed.
    """
    service = Service(bundle, limits or Limits())
    routes = _Routes(service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = Starlette(
        routes=routes.all(),
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_route, Refused: _refuse, Exception: _fail},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return Guard(
        app,
        token=token,
        local=local,
        most=service.limits.open,
        stopping=lambda: service.stopping,
        done=lambda path, status, seconds: None,
    )


class _Routes:
    def __init__(self, service: Service) -> None:
        self.service = service

    def all(self) -> list[Route]:
        return [
            Route("/recommend", self.recommend, methods=["POST"]),
            Route("/health", self.health),
        ]

    async def recommend(self, request: Request) -> Response:
        ask = await self._read(request, Recommend)
        return _json(await self.service.ranking.submit(ask))

    async def health(self, request: Request) -> Response:
        return _json(encode(Health()))

    async def _read(self, request: Request, kind: type[T]) -> T:
        limits = self.service.limits
        most, seconds = limits.body_bytes, limits.read_seconds
        return read(await read_json(request, most=most, seconds=seconds), kind)


async def _no_route(request: Request, error: Exception) -> Response:
    """Starlette's own refusals in the shape of all others."""
    assert isinstance(error, HTTPException)
    response = Refused(error.status_code, error.detail).response()
    response.headers.update(error.headers or {})
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _fail(request: Request, error: Exception) -> Response:
    return Refused(500, "the service failed to answer").response()


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
