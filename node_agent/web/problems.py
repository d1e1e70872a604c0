"""The one place where an error becomes an HTTP status (RFC 9457 problem documents).

Each row of the table says how one branch of ``node_agent.errors`` looks from outside. A subclass
without a row of its own takes its nearest parent's; an error without any row is our fault: 500,
logged by the caller, nothing told. What a stranger may read differs from what the operator at the
admin socket may read, so every answer is made for an audience:

- PUBLIC gets the same words for "you may not" and "there is no such thing", and nothing about the
  inside (hosts, links, stores, rules);
- LOCAL gets everything.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from node_agent import errors
from node_agent.web.bodies import Problem
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PROBLEM_MEDIA_TYPE",
    "TYPE_PREFIX",
    "Audience",
    "ProblemAnswer",
    "ProblemRaised",
    "problem_of",
    "refuse",
]

PROBLEM_MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:peersys:problem:"
# A peer chooses the code word of a RemoteError; only what looks like ours is passed on.
_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_DENIED_DETAIL = "you may not do this here, or it does not exist"
_DENIED_REMEDY = "GET /v1/catalogue lists what you may ask for; the RA's operator grants the rest"
_RETRY_REMEDY = "send it again with the same request id: it is carried out at most once"


class Audience(enum.Enum):
    """Who will read the answer."""

    PUBLIC = "public"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class ProblemAnswer:
    """A problem document and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.problem)


class ProblemRaised(errors.NodeAgentError):
    """The edge itself refuses: the request never reached a backend. Carries its answer."""

    def __init__(self, answer: ProblemAnswer) -> None:
        self.answer = answer
        super().__init__(answer.problem.detail or answer.problem.title)


@dataclass(frozen=True, slots=True)
class _Row:
    status: HTTPStatus
    code: str
    title: str
    tells_public: bool = False
    """Whether the error's own words were written for the requester."""
    remedy: str = ""


_UNAVAILABLE = _Row(
    HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Nobody can serve this now", remedy=_RETRY_REMEDY
)
_DENIED = _Row(HTTPStatus.FORBIDDEN, "denied", "Not allowed", remedy=_DENIED_REMEDY)
_NOT_FOUND = _Row(HTTPStatus.NOT_FOUND, "not-found", "No such thing")
_INVALID = _Row(
    HTTPStatus.UNPROCESSABLE_ENTITY, "request-refused", "Can't be granted as written", True
)
_CONFLICT = _Row(HTTPStatus.CONFLICT, "conflict", "Contradicts what is stored", True)
_DEADLINE = _Row(
    HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded", "No answer in time", remedy=_RETRY_REMEDY
)
_BAD_GATEWAY = _Row(HTTPStatus.BAD_GATEWAY, "peer-failed", "The node that had to answer failed")
_INTERNAL = _Row(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "Internal error")

_ROWS: dict[type[Exception], _Row] = {
    errors.ConfigError: _Row(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad-specification", "The specification can't work"
    ),
    errors.RequestRefused: _INVALID,
    errors.QuotaExceeded: _Row(
        HTTPStatus.TOO_MANY_REQUESTS, "quota-exceeded", "No more certificates now", True
    ),
    errors.PolicyDenied: _DENIED,
    errors.NotFound: _NOT_FOUND,
    errors.Conflict: _CONFLICT,
    errors.StoreError: _Row(HTTPStatus.SERVICE_UNAVAILABLE, "store", "The store can't do this now"),
    errors.TokenError: _Row(
        HTTPStatus.SERVICE_UNAVAILABLE, "token-locked", "A crypto token can't be used"
    ),
    errors.Unavailable: _UNAVAILABLE,
    errors.NotAtWork: _Row(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not-at-work",
        "Stored, but not at work yet",
        remedy="mend the cause: the node tries again by itself, and when this is sent again",
    ),
    errors.NetworkError: _UNAVAILABLE,
    errors.DeadlineExceeded: _DEADLINE,
    errors.ProtocolError: _BAD_GATEWAY,
}

_REMOTE_ROWS: dict[int, _Row] = {
    Status.DENIED: _DENIED,
    Status.NOT_FOUND: _NOT_FOUND,
    Status.INVALID: _INVALID,
    Status.CONFLICT: _CONFLICT,
    Status.UNAVAILABLE: _UNAVAILABLE,
    Status.DEADLINE: _DEADLINE,
    Status.INTERNAL: _BAD_GATEWAY,
}


def problem_of(error: BaseException, audience: Audience) -> ProblemAnswer:
    """Return what ``audience`` is answered for ``error``; 500 without detail for a stranger one."""
    if isinstance(error, ProblemRaised):
        return error.answer
    row = _row_of(error)
    if row is None:
        return _answer(_INTERNAL, Problem(type="", title="", status=0))
    told = _told(error)
    if audience is Audience.PUBLIC and not row.tells_public:
        told = Problem(type="", title="", status=0, detail=_DENIED_DETAIL if row is _DENIED else "")
    return _answer(row, told, headers=_headers(error, row))


def _row_of(error: BaseException) -> _Row | None:
    if isinstance(error, errors.RemoteError):
        return _REMOTE_ROWS.get(error.status, _BAD_GATEWAY)
    return next((_ROWS[kind] for kind in type(error).__mro__ if kind in _ROWS), None)


def _told(error: BaseException) -> Problem:
    """Return what the error says of itself; type and status come from its row."""
    code = getattr(error, "code", None) or getattr(error, "problem", None)
    rule = getattr(error, "rule", "")
    detail = f"{error} (rule: {rule})" if rule else str(error)
    return Problem(
        type=code if isinstance(code, str) and _CODE.fullmatch(code) else "",
        title="",
        status=0,
        detail=detail,
        field=getattr(error, "field", "") or getattr(error, "where", ""),
        remedy=getattr(error, "remedy", ""),
        findings=tuple(getattr(error, "findings", ())),
    )


def _answer(row: _Row, told: Problem, *, headers: Mapping[str, str] | None = None) -> ProblemAnswer:
    problem = msgspec.structs.replace(
        told,
        type=TYPE_PREFIX + (told.type or row.code),
        title=row.title,
        status=int(row.status),
        remedy=told.remedy or row.remedy,
    )
    return ProblemAnswer(problem, headers or {})


def _headers(error: BaseException, row: _Row) -> dict[str, str]:
    if row.status not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return {}
    return {"Retry-After": str(max(1, getattr(error, "retry_after_seconds", 1)))}


def refuse(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    field_name: str = "",
    remedy: str = "",
    headers: Mapping[str, str] | None = None,
) -> ProblemRaised:
    """Return the error to raise when the edge itself refuses a request."""
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=status.phrase,
        status=int(status),
        detail=detail,
        field=field_name,
        remedy=remedy,
    )
    return ProblemRaised(ProblemAnswer(problem, headers or {}))
