"""The OpenAPI documents: what they say is what is served."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from node_agent.clock import SystemClock
from node_agent.objects import RequesterSpec
from node_agent.web.admin import admin_openapi, admin_routes
from node_agent.web.registration import registration_app, registration_openapi, registration_routes
from tests.support.event_loop import run
from tests.unit.web.management_double import MemoryManagement
from tests.unit.web.registration_double import MemoryRegistration, token_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator


def documents() -> dict[str, Any]:
    """Return both documents, decoded."""
    return {
        "admin": json.loads(admin_openapi(admin_routes(MemoryManagement()))),
        "rest": json.loads(registration_openapi(registration_routes(MemoryRegistration()))),
    }


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _operations(document: Any) -> list[Any]:
    return [operation for path in document["paths"].values() for operation in path.values()]


@pytest.mark.parametrize("name", ["admin", "rest"])
def test_document_is_whole(name: str) -> None:
    document = documents()[name]
    assert document["openapi"].startswith("3.1")
    for reference in _references(document):
        _, *parts = reference.split("/")
        target = document
        for part in parts:
            target = target[part]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    identifiers = [operation["operationId"] for operation in _operations(document)]
    assert len(identifiers) == len(set(identifiers))
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_every_rest_operation_but_the_document_needs_credentials() -> None:
    document = documents()["rest"]
    schemes = set(document["components"]["securitySchemes"])
    for operation in _operations(document):
        needed = {name for choice in operation["security"] for name in choice}
        assert needed == (set() if operation["operationId"] == "openapi" else schemes)


def test_admin_document_covers_the_kinds_of_the_specification() -> None:
    schemas = documents()["admin"]["components"]["schemas"]
    assert "peer_roles" in schemas["NodeSpecification"]["properties"]
    assert schemas["PeerRoleSpec"]["additionalProperties"] is False


def test_every_documented_rest_path_is_served_and_refuses_strangers() -> None:
    async def status(method: str, path: str) -> int:
        requester = RequesterSpec(name="alice", token_sha256=token_sha256("t"))
        app = registration_app(MemoryRegistration(requester), clock=SystemClock())
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        }
        await app(scope, receive, send)
        return int(sent[0]["status"])

    for path, operations in documents()["rest"]["paths"].items():
        served = path.replace("{authority}", "issuing").replace("{serial}", "0a")
        for method, operation in operations.items():
            expected = 401 if operation["security"] else 200
            assert run(status(method.upper(), served)) == expected
