"""The OpenAPI 3.1 document of an API, made from its route table."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.web.bodies import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from node_agent.web.api import Route

__all__ = ["openapi_document"]

_REFERENCE = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")


def openapi_document(
    routes: Sequence[Route],
    *,
    title: str,
    description: str,
    version: str,
    security_schemes: Mapping[str, Any],
) -> bytes:
    """Return the document as JSON. Every security scheme opens every operation that isn't open."""
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for item in routes:
        operation = _operation(item, schemas)
        operation["security"] = [] if item.is_open else [{name: []} for name in security_schemes]
        paths.setdefault(item.path, {})[item.method.lower()] = operation
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "description": description,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": dict(security_schemes)},
    }
    return msgspec.json.encode(document)


def _schemas(routes: Sequence[Route]) -> tuple[dict[Any, Any], dict[str, Any]]:
    kinds: list[Any] = [Problem]
    for item in routes:
        shown = (item.body, item.query, item.answer, *item.other_answers.values())
        kinds.extend(kind for kind in shown if kind is not None)
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    return dict(zip(unique, schemas, strict=True)), components


def _operation(item: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": item.name,
        "summary": item.summary,
        "parameters": [*_path_parameters(item), *_query_parameters(item), *item.headers],
        "responses": _responses(item, schemas),
    }
    if item.body is not None:
        content = {"application/json": {"schema": schemas[item.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_parameters(item: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1}
            | ({"pattern": item.path_patterns[name]} if name in item.path_patterns else {}),
        }
        for name in _PATH_PARAMETER.findall(item.path)
    ]


def _query_parameters(item: Route) -> list[dict[str, Any]]:
    if item.query is None:
        return []
    # A struct's own schema lists its fields, inlined: a query has no nested types.
    _, components = msgspec.json.schema_components([item.query], ref_template=_REFERENCE)
    schema = components[item.query.__name__]
    required = set(schema.get("required", ())) | set(item.required_query)
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _given(shape)}
        for name, shape in schema["properties"].items()
    ]


def _given(shape: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema as it stands in a URL, where absence is the only null."""
    choices = [choice for choice in shape.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return {key: value for key, value in shape.items() if value is not None}
    return dict(choices[0])


def _responses(item: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    shown = schemas[item.answer] if item.answer is not None else {"type": "object"}
    problem = {
        "description": "Problem document (RFC 9457)",
        "content": {"application/problem+json": {"schema": schemas[Problem]}},
    }
    answers = {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": schema}},
        }
        for status, schema in (
            *((status, shown) for status in (item.status, *item.other_statuses)),
            *((status, schemas[kind]) for status, kind in item.other_answers.items()),
        )
    }
    return {str(status): answer for status, answer in answers.items()} | {"default": problem}
