"""The description of the service that clients are made from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from pyg_kd.retrieval.ids import Kind
from pyg_kd.retrieval.service import answers, requests
from pyg_kd.retrieval.service.metrics import CONTENT_TYPE


class Operation(NamedTuple):
    """One route: what it does, takes and answers, and why it may refuse."""

    told: str
    takes: type | None
    gives: type | str
    refusals: tuple[int, ...] = ()


#: What any request with a body may be refused for.
BODY = (400, 408, 413, 415, 422, 503)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/recommend"): Operation(
        "The best items of a user, or of somebody with a history.",
        requests.Recommend,
        answers.Recommendations,
        (404, *BODY),
    ),
    ("post", "/events"): Operation(
        "Note what a user did: seen, and folded in, from the next request on.",
        requests.Event,
        answers.Noted,
        (409, *BODY),
    ),
    ("post", "/unavailable"): Operation(
        "Leave items out of all lists.", requests.Items, answers.Noted, (409, *BODY)
    ),
    ("post", "/available"): Operation(
        "List items again.", requests.Items, answers.Noted, (409, *BODY)
    ),
    ("post", "/filters"): Operation(
        "Name a set of items, for the filters of requests.",
        requests.Filter,
        answers.Noted,
        (409, *BODY),
    ),
    ("post", "/reload"): Operation(
        "Serve the bundle that is in the folder now.", None, answers.Reloaded, (409, 503)
    ),
    ("get", "/health"): Operation("Whether the process runs.", None, answers.Health),
    ("get", "/ready"): Operation(
        "Whether requests should be sent here, and what answers them.", None, answers.Ready, (503,)
    ),
    ("get", "/metrics"): Operation("Counters of all workers, for Prometheus.", None, CONTENT_TYPE),
    ("get", "/openapi.json"): Operation("This description.", None, "application/json"),
}

#: Fields of which a request has exactly one.
ALTERNATIVES = {"Recommend": ("user", "history"), "Event": ("item", "items")}

REFUSALS = {
    400: "The body is not JSON, or the service was called by another name.",
    401: "The bearer token is missing or wrong.",
    404: "Nothing is known of the user, and the bundle has no popular items.",
    408: "The body took too long.",
    409: "The bundle was refused, or the service has no log or no bundle.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "A field is wrong.",
    503: "The service is busy, or stops.",
}


@lru_cache
def describe(user_kind: Kind, item_kind: Kind, *, token: bool) -> bytes:
    r"""The description as JSON, OpenAPI 3.1.

    Args:
        user_kind: What ids of users are in the bundle that is served.
        item_kind: What ids of items are.
        token: Whether clients need a token.

    Example:
        >>> told = msgspec.json.decode(describe("text", "position", token=False))
        >>> told["components"]["schemas"]["Recommend"]["properties"]["user"]["type"]
        'string'
    """
    kinds = {told.takes for told in OPERATIONS.values()} | {answers.Trouble}
    kinds |= {told.gives for told in OPERATIONS.values() if not isinstance(told.gives, str)}
    listed = sorted((kind for kind in kinds if kind is not None), key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(listed, ref_template="#/components/schemas/{name}")
    for name, fields in ALTERNATIVES.items():
        schemas[name]["oneOf"] = [{"required": [field]} for field in fields]
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            _narrow(field, user_kind if name == "user" else item_kind)
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), told in OPERATIONS.items():
        paths.setdefault(path, {})[method] = _operation(path, told, token)
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "pyg_kd", "version": version("pyg_kd")},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if token:
        scheme = {"type": "http", "scheme": "bearer"}
        described["components"]["securitySchemes"] = {"token": scheme}
    return msgspec.json.encode(described)


def _narrow(schema: dict[str, Any], kind: Kind) -> None:
    """Keep of an id that is an integer or a string what this bundle has."""
    if "items" in schema:
        _narrow(schema["items"], kind)
    kinds = {told.get("type"): told for told in schema.get("anyOf", [])}
    if kinds.keys() == {"integer", "string"}:
        del schema["anyOf"]
        schema |= kinds["string" if kind == "text" else "integer"]


def _operation(path: str, told: Operation, token: bool) -> dict[str, Any]:
    closed = token and path not in ("/health", "/ready")
    refusals = (400, *((401,) if closed else ()), 503, *told.refusals)
    found: dict[str, Any] = {
        "summary": told.told,
        "operationId": path.strip("/").partition(".")[0],
        "responses": {"200": _answer("The answer.", told.gives)},
    }
    for status in sorted({*refusals}):
        kind = answers.Ready if path == "/ready" and status == 503 else answers.Trouble
        found["responses"][str(status)] = _answer(REFUSALS[status], kind)
    if told.takes is not None:
        found["requestBody"] = {"required": True, "content": _content(told.takes)}
    if closed:
        found["security"] = [{"token": []}]
    return found


def _answer(told: str, kind: type | str) -> dict[str, Any]:
    return {"description": told, "content": _content(kind)}


def _content(kind: type | str) -> Mapping[str, Any]:
    if isinstance(kind, str):
        return {kind: {"schema": {"type": "string"} if kind == CONTENT_TYPE else {}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
