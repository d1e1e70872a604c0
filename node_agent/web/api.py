"""The vocabulary of the JSON APIs: routes, calls and answers.

A handler is ``async (ApiCall) -> ApiAnswer``; it raises errors and never writes a status for one.
Bodies and queries are decoded with msgspec into the structs of the API, so that a decoding error
names the field at fault. ``routing.py`` makes an ASGI application out of a table of routes,
``openapi.py`` its description.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import msgspec

from node_agent.web.problems import Audience, refuse

if TYPE_CHECKING:
    from node_agent.web.asgi import Receive, Scope, Send

__all__ = ["ApiAnswer", "ApiCall", "ApiSettings", "Method", "Route", "json_answer"]

Method = Literal["GET", "POST", "PUT", "DELETE"]
T = TypeVar("T")
_JSON = b"application/json"
_QUERY_FIELDS = 32  # the widest query (certificate search) has eight


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Rules of one API.

    ``admit`` gets the ASGI scope and returns who asks, or raises, before the body is read; routes
    that are ``is_open`` skip it. How long a body may take to arrive is the server's rule
    (``serve.HttpSettings``), which ends the connection.
    """

    admit: Callable[[Any], Any]
    audience: Audience
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request: scope, decoded path segments, body, and who asks (None on an open route)."""

    scope: Scope
    path: Mapping[str, str]
    content: bytes
    principal: Any

    def body(self, kind: type[T]) -> T:
        """Return the JSON body as ``kind``. Raises ProblemRaised (400, 415)."""
        _check_media_type(self.header(b"content-type"))
        try:
            return cast("T", _decoder(kind).decode(self.content))
        except msgspec.ValidationError as error:
            raise _bad_request("bad-body", error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refuse(HTTPStatus.BAD_REQUEST, "bad-json", str(error)) from error

    def query(self, kind: type[T]) -> T:
        """Return the query string as ``kind``. Raises ProblemRaised (400)."""
        pairs = _query_pairs(self.scope["query_string"])
        given = dict(pairs)
        if len(given) != len(pairs):
            raise refuse(HTTPStatus.BAD_REQUEST, "bad-query", "a parameter is given twice")
        try:
            query = msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            raise _bad_request("bad-query", error) from error
        for name in given:
            if getattr(query, name, None) is None:  # the word "null" where a number belongs
                detail = "a parameter has a value or is left out"
                raise refuse(HTTPStatus.BAD_REQUEST, "bad-query", detail, field_name=name)
        return query

    def convert(self, given: dict[str, Any], kind: type[T]) -> T:
        """Return an already decoded body as ``kind``. Raises ProblemRaised (400)."""
        try:
            return msgspec.convert(given, kind)
        except msgspec.ValidationError as error:
            raise _bad_request("bad-body", error) from error

    def header(self, name: bytes) -> str | None:
        """Return a header's value (``name`` in lower case); None when absent or given twice."""
        values = [value for key, value in self.scope["headers"] if key == name]
        return values[0].decode("latin-1") if len(values) == 1 else None


class ApiAnswer:
    """A complete answer, itself the ASGI application that sends it."""

    __slots__ = ("content", "headers", "status")

    def __init__(
        self,
        content: bytes,
        *,
        status: int = 200,
        media_type: bytes = _JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.content = content
        self.status = status
        self.headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(content)),
            (b"cache-control", b"no-store"),
        ]
        for name, value in (headers or {}).items():
            self.headers.append((name.lower().encode("ascii"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.content, "more_body": False})


_encoder = msgspec.json.Encoder()


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> ApiAnswer:
    """Return ``value`` (a struct, or a list of them) as a JSON answer."""
    return ApiAnswer(_encoder.encode(value), status=status, headers=headers)


Handler = Callable[[ApiCall], Awaitable[ApiAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. ``path`` has ``{name}`` segments; ``body``, ``query`` and ``answer`` are the
    types that the OpenAPI document shows (``answer`` None: a document of its own).
    """

    method: Method
    path: str
    name: str
    summary: str
    handle: Handler
    answer: Any
    status: int = 200
    other_statuses: tuple[int, ...] = ()
    other_answers: Mapping[int, Any] = field(default_factory=dict)
    """Types of answers with yet other statuses."""
    body: Any = None
    query: type[msgspec.Struct] | None = None
    required_query: tuple[str, ...] = ()
    path_patterns: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[Mapping[str, Any], ...] = ()
    """Header parameters as OpenAPI parameter objects."""
    is_open: bool = False
    """Whether it is answered without credentials."""


def _check_media_type(content_type: str | None) -> None:
    media_type = (content_type or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise refuse(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            f"{media_type[:100]!r} is not understood here",
            remedy="send Content-Type: application/json",
        )


def _bad_request(code: str, error: msgspec.ValidationError) -> Exception:
    detail, _, where = str(error).partition(" - at `")
    field_name = where.rstrip("`").removeprefix("$").removeprefix(".")
    return refuse(HTTPStatus.BAD_REQUEST, code, detail, field_name=field_name)


def _query_pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return urllib.parse.parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_QUERY_FIELDS,
        )
    except ValueError as error:
        raise refuse(HTTPStatus.BAD_REQUEST, "bad-query", str(error)) from error


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder
