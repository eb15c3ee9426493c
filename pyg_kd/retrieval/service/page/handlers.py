"""The routes of the page: its files, and the questions that it asks."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pyg_kd.retrieval.index import TopKIndex
from pyg_kd.retrieval.service.answers import encode
from pyg_kd.retrieval.service.body import read_json
from pyg_kd.retrieval.service.options import Limits
from pyg_kd.retrieval.service.page.answers import QUESTIONS, Answers, Json, Models
from pyg_kd.retrieval.service.page.assets import HEADERS, Assets
from pyg_kd.retrieval.service.page.catalogue import Catalogue
from pyg_kd.retrieval.service.refused import Refused
from pyg_kd.retrieval.service.requests import read

#: Questions of the page that are worked on at once; more are refused, so that the page never
#: takes the threads and the time of those who ask for recommendations.
AT_ONCE = 4

#: The largest question in bytes: a history of the longest ids.
MAX_BYTES = 1 << 17


async def _nothing() -> None:
    pass


def routes(
    models: Callable[[], Models],
    limits: Limits | None = None,
    follow: Callable[[], Awaitable[None]] = _nothing,
) -> list[Route]:
    r"""The routes of the page.

    The page is ``GET /`` and its files are ``GET /page/...``: they hold nothing of the models and
    need no token. What it asks of them is under ``/compare/``.

    Args:
        models: Returns the models of the moment; that they changed is noticed at the next
            question.
        limits: How long a client may take to send a question.
        follow: Brings the models up to date before a question is answered.
    """
    page = _Page(models, Limits() if limits is None else limits, follow)
    files = [Route("/", page.file), Route("/page/{name}", page.file)]
    asked = [Route(f"/compare/{name}", page.asking(name), methods=["POST"]) for name in QUESTIONS]
    return [*files, Route("/compare/about", page.about), *asked]


class _Page:
    def __init__(
        self, models: Callable[[], Models], limits: Limits, follow: Callable[[], Awaitable[None]]
    ) -> None:
        self.assets, self._models, self._limits = Assets(), models, limits
        self._follow = follow
        self._catalogues: WeakKeyDictionary[TopKIndex, Catalogue] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(AT_ONCE)

    async def file(self, request: Request) -> Response:
        return self.assets.respond(request.path_params.get("name", "index.html"), request)

    async def about(self, request: Request) -> Response:
        return await self._answer(Answers.about)

    def asking(self, name: str) -> Callable[[Request], Any]:
        kind, answer = QUESTIONS[name]

        async def respond(request: Request) -> Response:
            seconds = self._limits.read_seconds
            asked = read(await read_json(request, most=MAX_BYTES, seconds=seconds), kind)
            return await self._answer(lambda answers: answer(answers, asked))

        return respond

    async def _answer(self, question: Callable[[Answers], Json]) -> Response:
        if not self._free.acquire(blocking=False):
            raise Refused(503, "the service is busy")
        try:
            await self._follow()
            body = await run_in_threadpool(lambda: encode(question(self._answers())))
        finally:
            self._free.release()
        headers = {**HEADERS, "cache-control": "no-store"}
        return Response(body, headers=headers, media_type="application/json")

    def _answers(self) -> Answers:
        models = self._models()
        with self._lock:  # titles are prepared once, not once a question
            found = self._catalogues.get(models.student)
            if found is None or found.names is not (models.names or None):
                found = self._catalogues[models.student] = Catalogue(models.student, models.names)
        return Answers(models, found)
