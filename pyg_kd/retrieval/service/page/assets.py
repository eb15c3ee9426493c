"""The files of the page, and the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from pyg_kd.retrieval.service.refused import Refused

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

#: Nothing from elsewhere, nothing inline, in no frame, and no markup made by scripts.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # kept, but asked for again: a new version shows at once
}


class Assets:
    """The files of the page, read once.

    Example:
        >>> "app.js" in Assets().names, "index.html" in Assets().names
        (True, True)
    """

    def __init__(self) -> None:
        folder = files(__package__).joinpath("static")
        read = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
        self._content = {name: body for name, body in read.items() if name.split(".")[-1] in TYPES}

    @property
    def names(self) -> set[str]:
        """Names of the files."""
        return set(self._content)

    def respond(self, name: str, request: Request) -> Response:
        """A file, or 304 where the browser has it already.

        Raises:
            Refused: With status 404 if there is no such file.
        """
        if name not in self._content:
            raise Refused(404, "there is no such file")
        body = self._content[name]
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        headers = {**HEADERS, "etag": tag, "content-type": TYPES[name.split(".")[-1]]}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)
