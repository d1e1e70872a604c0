"""An ASGI application out of a table of routes.

There is no web framework under this: a table of a dozen routes needs a dictionary and a few
patterns, and what a framework does around a handler was measured at half the cost of an enrolment
at the RA's edge (``docs/why/no-web-framework.md``).

Path segments are matched still percent-encoded and decoded one by one afterwards, so that a node
URI may stand in one segment (``/v1/peers/spiffe%3A%2F%2Fexample.org%2Fnode%2Fca1/ping``).
"""

from __future__ import annotations

import re
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from node_agent.errors import NodeAgentError
from node_agent.web.api import ApiAnswer, ApiCall, ApiSettings, Route
from node_agent.web.problems import PROBLEM_MEDIA_TYPE, problem_of, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.web.asgi import AsgiApp, Receive, Scope, Send

__all__ = ["build_app"]

_log = structlog.get_logger(__name__)
_Methods = dict[str, Route]


def build_app(routes: Sequence[Route], settings: ApiSettings) -> AsgiApp:
    """Return the ASGI application that serves ``routes``."""
    table = _RouteTable(routes)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await _answer(table, settings, scope, receive)
        await answer(scope, receive, send)

    return app


class _RouteTable:
    """Finds the routes of a path: fixed paths by name, others by the first pattern that fits."""

    def __init__(self, routes: Sequence[Route]) -> None:
        by_path: dict[str, _Methods] = {}
        for item in routes:
            by_path.setdefault(item.path, {})[item.method] = item
        self._fixed = {path: methods for path, methods in by_path.items() if "{" not in path}
        self._patterns = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), methods)
            for path, methods in by_path.items()
            if "{" in path
        ]

    def find(self, path: str) -> tuple[_Methods, dict[str, str]]:
        """Return the routes by method, and the decoded segments. Raises ProblemRaised (404)."""
        methods = self._fixed.get(path)
        if methods is not None:
            return methods, {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                segments = match.groupdict().items()
                return methods, {name: urllib.parse.unquote(text) for name, text in segments}
        raise refuse(HTTPStatus.NOT_FOUND, "not-found", "there is no such path here")


async def _answer(
    table: _RouteTable, settings: ApiSettings, scope: Scope, receive: Receive
) -> ApiAnswer:
    try:
        methods, segments = table.find(scope["raw_path"].decode("latin-1"))
        item = methods.get(scope["method"])
        if item is None:
            return _other_method(scope["method"], methods)
        principal = None if item.is_open else settings.admit(scope)
        content = await _read_body(scope, receive, settings.max_body_bytes)
        return await item.handle(ApiCall(scope, segments, content, principal))
    except NodeAgentError as error:
        return _problem(error, settings)
    except Exception as error:  # the root of this request: a bug is answered and logged
        _log.error("request failed", method=scope["method"], exc_info=error)
        return _problem(error, settings)


def _problem(error: Exception, settings: ApiSettings) -> ApiAnswer:
    answer = problem_of(error, settings.audience)
    return ApiAnswer(
        answer.body,
        status=answer.problem.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=answer.headers,
    )


def _other_method(method: str, methods: _Methods) -> ApiAnswer:
    """Answer OPTIONS (RFC 9110 section 9.3.7). Raises ProblemRaised (405) for the rest."""
    allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
    if method == "OPTIONS":
        return ApiAnswer(b"", headers=allow)
    detail = "this path takes other methods"
    raise refuse(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", detail, headers=allow)


async def _read_body(scope: Scope, receive: Receive, max_body_bytes: int) -> bytes:
    """Return the whole body. Raises ProblemRaised (413, or 400 when the client has left)."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > max_body_bytes:
            raise _too_large(max_body_bytes)
    message = await receive()
    content: bytes = message.get("body", b"")
    if message.get("more_body") or message["type"] == "http.disconnect":
        content = await _read_rest(message, receive, max_body_bytes)
    return content


async def _read_rest(message: Any, receive: Receive, max_body_bytes: int) -> bytes:
    collected = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise refuse(HTTPStatus.BAD_REQUEST, "cut-short", "the client left before the end")
        collected += message.get("body", b"")
        if len(collected) > max_body_bytes:
            raise _too_large(max_body_bytes)
        if not message.get("more_body"):
            return bytes(collected)
        message = await receive()


def _too_large(max_body_bytes: int) -> Exception:
    return refuse(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        f"a request body may have {max_body_bytes} bytes here",
        headers={"Connection": "close"},  # what is left of the body isn't read
    )
