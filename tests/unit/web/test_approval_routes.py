"""Approvals over REST: what waits, who is asked, and what is refused at the edge."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import SelfApproval
from node_agent.web.pem import decode_csr
from tests.unit.web.registration_double import MemoryRegistration
from tests.unit.web.test_registration import ALICE, AS_ALICE, csr_pem, exchange

if TYPE_CHECKING:
    from tests.unit.web.http_client import Answer

CSR = csr_pem()
APPROVAL = hashlib.sha256(decode_csr(CSR)).hexdigest()
ORDER = {"authority": "issuing", "profile": "approved", "csr": CSR, "request_id": str(uuid.uuid4())}
PLACE = f"/v1/approvals/issuing/{APPROVAL}"


@pytest.fixture
def backend() -> MemoryRegistration:
    return MemoryRegistration(ALICE)


def ask(method: str, target: str, body: Any = None, *, backend: MemoryRegistration) -> Answer:
    return exchange(method, target, body, headers=AS_ALICE, backend=backend)


def test_the_same_request_is_202_until_it_is_approved_and_then_201(
    backend: MemoryRegistration,
) -> None:
    first = ask("POST", "/v1/certificates", ORDER, backend=backend)
    assert first.status == 202
    assert first.headers["retry-after"] == "30"
    assert first.json == {
        "request_id": ORDER["request_id"],
        "authority": "issuing",
        "profile": "approved",
        "approval": APPROVAL,
        "approvals_given": 0,
        "approvals_needed": 1,
        "expires_at": 2**33,
        "state": "waiting",
    }
    (listed,) = ask("GET", "/v1/approvals?authority=issuing", backend=backend).json["requests"]
    assert listed["approval"] == APPROVAL
    assert ask("GET", PLACE, backend=backend).json == listed
    order = {"verdict": "approve", "profile": "approved"}
    assert ask("POST", f"{PLACE}/verdict", order, backend=backend).json["changed"]
    assert ask("POST", "/v1/certificates", ORDER, backend=backend).status == 201
    assert ask("POST", "/v1/certificates", ORDER, backend=backend).status == 200


@pytest.mark.parametrize(
    ("target", "body", "status", "field"),
    [
        ("/v1/approvals", None, 400, "authority"),
        ("/v1/approvals?authority=issuing&limit=1000", None, 400, "limit"),
        ("/v1/approvals/issuing/ABC", None, 400, "approval"),
        (f"/v1/approvals/issuing/{'0' * 64}", None, 404, None),
        (f"{PLACE}/verdict", {"verdict": "issue", "profile": "approved"}, 400, "verdict"),
        (f"{PLACE}/verdict", {"verdict": "approve"}, 400, None),
        (
            f"{PLACE}/verdict",
            {"verdict": "approve", "profile": "approved", "reason": "why not"},
            400,
            "reason",
        ),
        (
            f"{PLACE}/verdict",
            {"verdict": "reject", "profile": "approved", "reason": "\x1b[31m"},
            400,
            "reason",
        ),
    ],
    # Not the targets: the digest of a fresh request is in them.
    ids=[
        "no CA",
        "high limit",
        "no digest",
        "absent",
        "no verdict",
        "no one to decide",
        "reason to approve",
        "control character",
    ],
)
def test_what_is_asked_wrongly_is_refused(
    backend: MemoryRegistration, target: str, body: Any, status: int, field: str | None
) -> None:
    answer = ask("GET" if body is None else "POST", target, body, backend=backend)
    assert answer.status == status
    assert answer.json.get("field") == field


def test_an_approval_of_ones_own_request_says_what_to_do(backend: MemoryRegistration) -> None:
    backend.fault = SelfApproval("who asked can't approve it", remedy="have somebody else do it")
    order = {"verdict": "approve", "profile": "approved"}
    answer = ask("POST", f"{PLACE}/verdict", order, backend=backend)
    assert answer.status == 422
    assert answer.json["type"] == "urn:peersys:problem:self-approval"
    assert answer.json["remedy"] == "have somebody else do it"


def test_only_who_is_known_may_ask(backend: MemoryRegistration) -> None:
    for method, target in (
        ("GET", "/v1/approvals?authority=issuing"),
        ("GET", PLACE),
        ("POST", f"{PLACE}/verdict"),
    ):
        assert exchange(method, target, headers={}, backend=backend).status == 401
    assert backend.calls == []
