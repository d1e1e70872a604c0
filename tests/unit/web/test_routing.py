"""From a route table to answers: paths, methods, bodies, and what a bug looks like from outside."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from node_agent.web.api import ApiAnswer, ApiCall, ApiSettings, Route, json_answer
from node_agent.web.problems import Audience
from node_agent.web.routing import build_app
from tests.support.event_loop import run


class Number(msgspec.Struct, forbid_unknown_fields=True):
    """A body."""

    value: int


async def _show(call: ApiCall) -> ApiAnswer:
    return json_answer({"path": dict(call.path), "who": call.principal, "size": len(call.content)})


async def _double(call: ApiCall) -> ApiAnswer:
    return json_answer({"value": 2 * call.body(Number).value})


async def _fail(call: ApiCall) -> ApiAnswer:
    raise KeyError("a secret")


def _route(method: Any, path: str, handle: Any, **options: Any) -> Route:
    name = f"{method} {path}"
    return Route(
        method=method, path=path, name=name, summary="", handle=handle, answer=None, **options
    )


_ROUTES = [
    _route("GET", "/v1/things", _show),
    _route("POST", "/v1/things", _double),
    _route("PUT", "/v1/things/{name}", _show),
    _route("GET", "/v1/things/{name}/parts/{part}", _show),
    _route("GET", "/v1/bug", _fail, is_open=True),
]
_APP = build_app(
    _ROUTES, ApiSettings(admit=lambda _: "alice", audience=Audience.PUBLIC, max_body_bytes=100)
)


def ask(
    method: str,
    path: str,
    *messages: dict[str, Any],
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and decoded body of one request."""
    sent: list[Any] = []
    incoming = iter(messages or ({"type": "http.request", "body": b"", "more_body": False},))

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers or [],
    }
    run(_APP(scope, receive, send))
    start, body = sent
    given = {name.decode(): value.decode() for name, value in start["headers"]}
    assert given["content-length"] == str(len(body["body"]))
    return start["status"], given, json.loads(body["body"] or b"null")


def chunk(body: bytes, *, more: bool) -> dict[str, Any]:
    """Return a part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


def test_segments_are_decoded_one_by_one() -> None:
    _, _, answer = ask("GET", "/v1/things/a%2Fb/parts/%C3%A9%20")
    assert answer["path"] == {"name": "a/b", "part": "é "}
    assert answer["who"] == "alice"


@pytest.mark.parametrize(
    "path", ["/", "/v1/things/", "/v1/things//parts/x", "/v1/things/a/parts", "/V1/things", "*", ""]
)
def test_other_spellings_of_a_path_are_not_found(path: str) -> None:
    status, headers, problem = ask("GET", path)
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert problem["type"] == "urn:peersys:problem:not-found"


def test_wrong_method_and_options_name_the_right_ones() -> None:
    status, headers, _ = ask("DELETE", "/v1/things")
    assert (status, headers["allow"]) == (405, "GET, OPTIONS, POST")
    status, headers, _ = ask("OPTIONS", "/v1/things/a")
    assert (status, headers["allow"]) == (200, "OPTIONS, PUT")


def test_body_in_parts_is_put_together() -> None:
    parts = [chunk(b'{"val', more=True), chunk(b'ue": ', more=True), chunk(b"21}", more=False)]
    assert ask("POST", "/v1/things", *parts)[2] == {"value": 42}


def test_body_over_the_limit_is_refused_by_its_length_or_as_it_comes() -> None:
    declared = [(b"content-length", b"101")]
    assert ask("PUT", "/v1/things/a", headers=declared)[0] == 413
    assert ask("PUT", "/v1/things/a", headers=[(b"content-length", b"100")])[0] == 200
    whole = chunk(b"x" * 100, more=False)
    assert ask("PUT", "/v1/things/a", whole)[2]["size"] == 100
    growing = [chunk(b"x" * 60, more=True), chunk(b"x" * 60, more=True)]
    status, headers, _ = ask("PUT", "/v1/things/a", *growing)
    assert (status, headers["connection"]) == (413, "close")


def test_client_that_leaves_within_its_body_reaches_no_handler() -> None:
    gone = {"type": "http.disconnect"}
    assert ask("PUT", "/v1/things/a", chunk(b"x", more=True), gone)[0] == 400
    assert ask("PUT", "/v1/things/a", gone)[0] == 400


def test_header_given_twice_is_as_good_as_absent() -> None:
    call = ApiCall({"headers": [(b"x", b"1"), (b"x", b"2"), (b"y", b"3")]}, {}, b"", None)
    assert call.header(b"x") is None
    assert call.header(b"y") == "3"


def test_bug_in_a_handler_is_500_and_tells_nothing() -> None:
    status, _, problem = ask("GET", "/v1/bug")
    assert status == 500
    assert "secret" not in str(problem)
