"""Errors become problem documents in one table; nothing inner reaches the public."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from node_agent import errors
from node_agent.peers.answers import Problem, raise_problem
from node_agent.web.problems import Audience, problem_of, refuse
from node_agent.wire.codes import Status

SECRET = "ca1.internal /srv/store.sqlite3"
_EXAMPLES: dict[type[Exception], Exception] = {
    errors.NotAtWork: errors.NotAtWork({"REST port": SECRET}),
    errors.RemoteProtocolError: errors.RemoteProtocolError(SECRET, code=3),
    errors.LintFailed: errors.LintFailed(["e_bad"]),
    errors.RemoteError: errors.RemoteError(SECRET, status=Status.INTERNAL),
}
_WRITTEN_FOR_THE_REQUESTER = (errors.RequestRefused, errors.Conflict)
_EXPECTED = {
    "ConfigError": 422,
    "LocalProtocolError": 502,
    "RemoteProtocolError": 502,
    "ConnectError": 503,
    "HandshakeError": 503,
    "LinkClosed": 503,
    "ConnectTimeout": 504,
    "AcquireTimeout": 504,
    "CallTimeout": 504,
    "Unavailable": 503,
    "PolicyDenied": 403,
    "CsrRefused": 422,
    "ProfileViolation": 422,
    "LintFailed": 422,
    "SelfApproval": 422,
    "ApprovalEnded": 422,
    "QuotaExceeded": 429,
    "NotFound": 404,
    "Conflict": 409,
    "Outdated": 409,
    "Superseded": 409,
    "TokenClosed": 503,
    "TokenError": 503,
    "TokenLost": 503,
    "NotAtWork": 503,
    "RemoteError": 502,
}


def _example(name: str) -> Exception:
    kind: type[Exception] = getattr(errors, name)
    return _EXAMPLES.get(kind) or kind(SECRET)


def test_every_leaf_of_the_error_tree_is_expected_here() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    leaves = {kind.__name__ for kind in kinds if not kind.__subclasses__()} - {"Sequence"}
    # What waits for approval is answered 202, by test_approval_routes.py. An unexpected failure is
    # one of a standing task, and answers nobody.
    others = {"ProblemRaised", "Refused", "AwaitsApproval", "UnexpectedFailure"}
    assert leaves <= set(_EXPECTED) | others


@pytest.mark.parametrize("name", sorted(_EXPECTED))
def test_status_of_each_error(name: str) -> None:
    error = _example(name)
    for audience in Audience:
        answer = problem_of(error, audience)
        assert answer.problem.status == _EXPECTED[name]
        assert answer.problem.type.startswith("urn:peersys:problem:")
        assert answer.problem.title
        assert ("Retry-After" in answer.headers) is (_EXPECTED[name] in (429, 503))


@pytest.mark.parametrize("name", sorted(_EXPECTED))
def test_public_reads_only_what_was_written_for_it(name: str) -> None:
    error = _example(name)
    told = problem_of(error, Audience.PUBLIC).body.decode()
    if not isinstance(error, _WRITTEN_FOR_THE_REQUESTER):
        assert "internal /srv" not in told
    if name != "LintFailed":
        assert SECRET in problem_of(error, Audience.LOCAL).body.decode()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.OK, 502),
        (Status.DENIED, 403),
        (Status.NOT_FOUND, 404),
        (Status.INVALID, 422),
        (Status.CONFLICT, 409),
        (Status.UNAVAILABLE, 503),
        (Status.DEADLINE, 504),
        (Status.INTERNAL, 502),
        (99, 502),
    ],
)
def test_remote_error_keeps_its_meaning(status: int, expected: int) -> None:
    error = errors.RemoteError("x", status=status, problem="bad-csr", field="csr", remedy="r")
    answer = problem_of(error, Audience.PUBLIC)
    assert answer.problem.status == expected
    if status in (Status.INVALID, Status.CONFLICT):
        assert answer.problem.type == "urn:peersys:problem:bad-csr"
        assert (answer.problem.field, answer.problem.remedy) == ("csr", "r")
    else:
        assert answer.problem.field == ""


def test_a_request_that_expired_on_the_way_may_be_sent_again_and_is_told_so() -> None:
    """The RA's own deadline comes before the end that it signed: it answers, whoever held it."""
    with pytest.raises(errors.CallTimeout) as held:
        raise_problem(Status.DEADLINE, Problem("deadline", SECRET), peer=SECRET)
    for error in (held.value, errors.CallTimeout(SECRET), errors.AcquireTimeout(SECRET)):
        problem = problem_of(error, Audience.PUBLIC).problem
        assert problem.type == "urn:peersys:problem:deadline-exceeded"
        assert "same request id" in problem.remedy
        assert SECRET not in f"{problem.title} {problem.detail} {problem.remedy}"


def test_code_word_of_a_hostile_peer_is_not_passed_on() -> None:
    for word in ("bad csr\r\nSet-Cookie: x", "<script>", "A", "x" * 65, ""):
        error = errors.RemoteError("x", status=Status.INVALID, problem=word)
        problem = problem_of(error, Audience.LOCAL).problem
        assert problem.type == "urn:peersys:problem:request-refused"


@pytest.mark.parametrize(
    "error", [KeyError(SECRET), errors.NodeAgentError(SECRET), OSError(SECRET)]
)
def test_unforeseen_error_is_500_and_silent_for_everybody(error: Exception) -> None:
    for audience in Audience:
        answer = problem_of(error, audience)
        assert json.loads(answer.body) == {
            "type": "urn:peersys:problem:internal",
            "title": "Internal error",
            "status": 500,
        }


def test_own_refusal_passes_unchanged() -> None:
    raised = refuse(HTTPStatus.GONE, "gone", "it left", headers={"X": "y"})
    for audience in Audience:
        answer = problem_of(raised, audience)
        assert (answer.problem.status, answer.problem.detail) == (410, "it left")
        assert answer.headers == {"X": "y"}
