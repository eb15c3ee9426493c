from __future__ import annotations

import json

import msgspec
import pytest

from pyg_kd.retrieval.service.openapi import OPERATIONS, describe
from pyg_kd.retrieval.service.requests import MAX_HISTORY, MAX_K
from tests.retrieval.service.conftest import make_index


def _references(node) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in _references(value)]
    return [ref for value in node for ref in _references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("token", [None, "s3cret"])
def test_the_description_is_whole(client, token):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = client(token=token).get("/openapi.json", headers=headers)
    told = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert told["openapi"] == "3.1.0"
    for reference in _references(told):
        node = told
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    assert {(method, path) for path, item in told["paths"].items() for method in item} == {
        *OPERATIONS
    }
    closed = told["paths"]["/recommend"]["post"]
    assert ("401" in closed["responses"]) == ("security" in closed) == (token is not None)


def test_every_route_is_described_and_there(client, tmp_path):
    connection = client(events=tmp_path / "log")
    for method, path in OPERATIONS:
        answer = connection.request(method, path)
        assert answer.status_code not in (404, 405), path
        wrong = "PUT" if method == "post" else "POST"
        assert connection.request(wrong, path).status_code == 405


def test_limits_are_told():
    schemas = json.loads(describe("integer", "text", token=False))["components"]["schemas"]
    ask = schemas["Recommend"]
    assert ask["properties"]["k"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_K,
        "default": 20,
    }
    assert ask["properties"]["history"]["maxItems"] == MAX_HISTORY
    assert ask["additionalProperties"] is False
    assert ask["oneOf"] == [{"required": ["user"]}, {"required": ["history"]}]
    assert schemas["Trouble"]["required"] == ["error"]


def test_answers_are_as_described(client):
    """Each answer is read back strictly as the type that the description is made from."""
    connection = client()
    for (method, path), operation in OPERATIONS.items():
        if isinstance(operation.gives, str) or method == "post":
            continue
        msgspec.json.decode(connection.request(method, path).content, type=operation.gives)
    answer = connection.post("/recommend", json={"user": 1})
    found = msgspec.json.decode(answer.content, type=OPERATIONS["post", "/recommend"].gives)
    assert msgspec.to_builtins(found) == answer.json()


def test_ids_are_what_the_bundle_has(client):
    for kind, wanted in (("text", "string"), ("integer", "integer"), ("position", "integer")):
        schemas = client(make_index(kind)).get("/openapi.json").json()["components"]["schemas"]
        ask, event = schemas["Recommend"]["properties"], schemas["Event"]["properties"]
        for field in (ask["user"], event["user"], event["item"]):
            assert field["type"] == wanted and "anyOf" not in field
        for field in (ask["history"], ask["candidates"], event["items"]):
            assert field["items"]["type"] == wanted
        assert schemas["Item"]["properties"]["id"]["type"] == wanted
        assert ask["filters"]["items"]["type"] == "string"
