"""The one table between errors and answer statuses, read in both directions.

A handler raises; the answer carries a status and a problem; the caller raises the same error
again. What isn't in the table is INTERNAL without a word about it. A denial says nothing but that:
not which rule, not whether what was asked for exists. Nor does "not now" say why: the reasons name
other peers and count what others do. They are in this node's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from node_agent.errors import (
    ApprovalEnded,
    CallTimeout,
    Conflict,
    CsrRefused,
    DeadlineExceeded,
    LintFailed,
    NetworkError,
    NodeAgentError,
    NotFound,
    PolicyDenied,
    ProfileViolation,
    QuotaExceeded,
    RemoteError,
    RequestRefused,
    SelfApproval,
    StoreError,
    TokenError,
    Unavailable,
)
from node_agent.peers.codec import ENCODER, UNREADABLE
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.peers.served_reads import ReadNotFresh

__all__ = [
    "DENIED",
    "SIGN_ANEW",
    "Problem",
    "decode_problem",
    "encode_problem",
    "not_passed_on",
    "problem_of",
    "raise_problem",
    "sign_anew",
]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered with what it asked for. ``code`` is for programs."""

    code: str
    detail: str = ""
    field: str = ""
    remedy: str = ""
    retry_after_seconds: int = 0


DENIED: Final = (Status.DENIED, Problem("denied", "not permitted"))

_DECODER = msgspec.msgpack.Decoder(Problem)
_RETRY_SECONDS: Final = 1
_MAX_RETRY_SECONDS: Final = 3600


SIGN_ANEW: Final = "sign-anew"
"""The code of a read that is valid and isn't served: it, or another one, was before."""


def sign_anew(refusal: ReadNotFresh) -> tuple[Status, Problem]:
    """Return how a read is answered that its origin has to sign again."""
    pause = refusal.retry_after_seconds
    detail = "it can't be served now"
    return Status.UNAVAILABLE, Problem(SIGN_ANEW, detail, retry_after_seconds=pause)


def encode_problem(problem: Problem) -> bytes:
    """Return the problem as an answer's payload."""
    return ENCODER.encode(problem)


def decode_problem(payload: bytes) -> Problem:
    """Return the problem in ``payload``; an empty one when it isn't readable."""
    try:
        return _DECODER.decode(payload)
    except UNREADABLE:
        return Problem("")


def problem_of(error: BaseException) -> tuple[Status, Problem]:
    """Return how ``error`` is answered. The first row that fits counts, so order matters."""
    for kind, status, describe in _TABLE:
        if isinstance(error, kind):
            return status, describe(error)
    return Status.INTERNAL, Problem("internal")


def _refused(error: BaseException) -> Problem:
    assert isinstance(error, RequestRefused)
    return Problem(error.code, error.detail, error.field, error.remedy)


def _unavailable(error: BaseException) -> Problem:
    assert isinstance(error, Unavailable)
    return Problem(
        "unavailable", "it can't be served now", retry_after_seconds=error.retry_after_seconds
    )


def _passed_on(error: BaseException) -> Problem:
    assert isinstance(error, RemoteError)
    return Problem(error.problem, error.detail, error.field, error.remedy)


def _said(code: str) -> Callable[[BaseException], Problem]:
    return lambda error: Problem(code, str(error))


def _hidden(code: str, detail: str) -> Callable[[BaseException], Problem]:
    """Return a problem that says nothing of this node's inside."""
    problem = Problem(code, detail, retry_after_seconds=_RETRY_SECONDS)
    return lambda error: problem


_TABLE: Final[
    tuple[tuple[type[BaseException], Status, Callable[[BaseException], Problem]], ...]
] = (
    (PolicyDenied, Status.DENIED, lambda error: DENIED[1]),
    (RequestRefused, Status.INVALID, _refused),
    (NotFound, Status.NOT_FOUND, _said("not-found")),
    (Conflict, Status.CONFLICT, _said("conflict")),
    (Unavailable, Status.UNAVAILABLE, _unavailable),
    (StoreError, Status.UNAVAILABLE, _hidden("unavailable", "the store can't serve it now")),
    (TokenError, Status.UNAVAILABLE, _hidden("unavailable", "a key can't be used now")),
    (NetworkError, Status.UNAVAILABLE, _hidden("unavailable", "the way upstream is broken")),
    (DeadlineExceeded, Status.DEADLINE, _hidden("deadline", "not done in time")),
    (TimeoutError, Status.DEADLINE, _hidden("deadline", "not done in time")),
    (RemoteError, Status.INTERNAL, _passed_on),
)

_REFUSALS: Final[dict[str, type[RequestRefused]]] = {
    kind.code: kind
    for kind in (
        *(RequestRefused, CsrRefused, ProfileViolation, QuotaExceeded),
        *(SelfApproval, ApprovalEnded),
    )
}


def raise_problem(status: int, problem: Problem, *, peer: str) -> NoReturn:
    """Raise what an answer with ``status`` other than OK means here.

    PolicyDenied, NotFound, RequestRefused and its kinds, Conflict, Unavailable, CallTimeout, or
    RemoteError for the rest.
    """
    detail = problem.detail or f"{peer} answered with status {status}"
    match status:
        case Status.DENIED:
            raise PolicyDenied(f"{peer} denied it", rule=f"at {peer}")
        case Status.NOT_FOUND:
            raise NotFound(detail)
        case Status.CONFLICT:
            raise Conflict(detail)
        case Status.UNAVAILABLE:
            raise Unavailable(f"{peer}: {detail}", retry_after_seconds=_pause(problem))
        case Status.DEADLINE:
            raise CallTimeout(f"{peer}: {detail}")
        case Status.INVALID:
            _raise_refusal(problem, detail)
        case _:
            raise RemoteError(
                detail,
                status=status,
                problem=problem.code,
                field=problem.field,
                remedy=problem.remedy,
            )


def not_passed_on(status: int, problem: Problem, *, peer: str) -> NodeAgentError:
    """Return what it means that ``peer``, which may not answer for it, says this in its own name.

    It may be hostile, so nothing that it wrote is in it but when to come back.
    """
    match status:
        case Status.DENIED:
            return PolicyDenied(f"{peer} denied it", rule=f"at {peer}")
        case Status.UNAVAILABLE:
            return Unavailable(f"{peer} can't pass it on now", retry_after_seconds=_pause(problem))
        case Status.DEADLINE:
            return CallTimeout(f"{peer} had no answer in time")
        case _:
            return RemoteError(
                f"{peer} didn't pass it on", status=Status.INTERNAL, problem="not-passed-on"
            )


def _pause(problem: Problem) -> int:
    return min(max(problem.retry_after_seconds, _RETRY_SECONDS), _MAX_RETRY_SECONDS)


def _raise_refusal(problem: Problem, detail: str) -> NoReturn:
    if problem.code == LintFailed.code:
        raise LintFailed(detail.split("; "), field=problem.field)
    kind = _REFUSALS.get(problem.code, RequestRefused)
    raise kind(detail, field=problem.field, remedy=problem.remedy)
