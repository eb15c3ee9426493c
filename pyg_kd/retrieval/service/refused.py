"""Why a request is not answered: a status, a reason, and the field that is to blame."""

from __future__ import annotations

from starlette.responses import Response

from pyg_kd.retrieval.service.answers import Trouble, encode

#: Seconds after which a client that met a full queue may try again.
RETRY_AFTER = 1


class Refused(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        error: What is wrong, for the client alone: it may quote what was sent, so that it is
            never logged.
        field: The field of the request that is wrong, if it is one.

    Example:
        >>> Refused(422, "must be 1 or more", "k").response().body
        b'{"error":"must be 1 or more","field":"k"}'
    """

    def __init__(self, status: int, error: str, field: str | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.field = status, error, field

    def response(self) -> Response:
        """The answer that says so; all refusals have the same two fields."""
        headers = {}
        if self.status == 503:
            headers["retry-after"] = str(RETRY_AFTER)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status == 408:
            headers["connection"] = "close"  # the rest of the request may still come
        body = encode(Trouble(self.error, self.field))
        return Response(body, self.status, headers, "application/json")
