"""Two tenants at one CA, and the RA of one is hostile: for it, the other has no certificates, and
nothing that waits for approval.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import NodeAgentError, NotFound, PolicyDenied
from node_agent.peers.approval_messages import PendingRequest
from node_agent.peers.operations import (
    ENROLL,
    PENDING,
    SEARCH,
    EnrollRequest,
    SearchRequest,
    serial_octets,
)
from tests.support.agents import server_profile
from tests.support.chains import Chain
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.hostile_requests import CSR
from tests.support.openssl import make_csr
from tests.support.scope_table import VERDICTS, Try, tries

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

TABLE = [case for case in tries() if case.operation is not ENROLL]
WAITING = [case for case in TABLE if case.operation in (PENDING, *VERDICTS)]
NAME = "secret.beta.example.org"


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Yield one CA that two tenants behind one proxy may use alike."""
    with Chain(
        tmp_path_factory.mktemp("neighbours"),
        cas={"ca1": ("issuing",)},
        proxies=["inner"],
        behind={"alpha": ("issuing",), "beta": ("issuing",)},
        dials=[("ca1", "inner"), ("alpha", "inner"), ("beta", "inner")],
    ) as found:
        yield found


@pytest.fixture(scope="module")
def betas(neighbours: Chain, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the serial number of a certificate of the other tenant."""
    csr = make_csr(tmp_path_factory.mktemp("beta"), NAME)
    status, answer = neighbours.rest("beta").enroll(csr)
    assert status == 201, answer
    serial: str = answer["serial"]
    return serial


@pytest.fixture(scope="module")
def alpha(neighbours: Chain, betas: str) -> Iterator[HostileNode]:
    """Alpha's RA, taken over; it has enrolled something itself."""
    ca = neighbours["ca1"].identity
    neighbours["alpha"].stop()
    with HostileNode(certified_holder(neighbours["ca1"], neighbours["alpha"].identity)) as node:
        node.believe(ca)
        node.believe_relay(neighbours["inner"].identity)
        node.dial(neighbours["inner"].listen["peer"], neighbours["inner"].identity)
        node.ask(ENROLL, EnrollRequest(authority="issuing", profile="server", csr=CSR), of=ca)
        yield node


@pytest.fixture(scope="module")
def waiting(
    neighbours: Chain, alpha: HostileNode, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """Return what a request of the other tenant waits for, after a profile that both may use."""
    approved = {**server_profile(), "approvals": 1}
    neighbours["ca1"].admin.apply(certificate_profiles=[approved])
    csr = make_csr(tmp_path_factory.mktemp("waiting"), NAME)
    status, answer = neighbours.rest("beta").enroll(csr)
    assert status == 202, answer
    return bytes.fromhex(answer["approval"])


def said(
    node: HostileNode, case: Try, serial: bytes, approval: bytes = bytes(32), *, of: str
) -> tuple[type, str, Any]:
    """Return what a request about ``serial`` or ``approval`` is answered, without the serial."""
    try:
        answer = node.ask(case.operation, case.request(serial, approval), of=of)
    except NodeAgentError as error:
        return type(error), str(error).replace(serial.hex().lstrip("0"), "SERIAL"), None
    return type(answer), "", answer


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_no_verb_of_any_protocol_reaches_a_neighbours_certificate(
    neighbours: Chain, alpha: HostileNode, betas: str, case: Try
) -> None:
    ca = neighbours["ca1"].identity
    theirs = serial_octets(int(betas, 16))
    kind, text, answer = said(alpha, case, theirs, of=ca)
    absent = said(alpha, case, secrets.token_bytes(16), of=ca)
    if case.operation is SEARCH and case.is_allowed:
        assert [item for item in answer.certificates if item.serial == theirs] == []
        return
    if case.operation is PENDING and case.is_allowed:
        assert answer.requests == ()
        return
    assert (kind, text) == absent[:2]
    assert kind is (NotFound if case.is_allowed else PolicyDenied)


@pytest.mark.parametrize("case", WAITING, ids=str)
def test_no_verb_of_any_protocol_reaches_what_a_neighbour_waits_for(
    neighbours: Chain, alpha: HostileNode, waiting: bytes, case: Try
) -> None:
    ca, serial = neighbours["ca1"].identity, bytes(16)
    answers = [
        said(alpha, case, serial, approval, of=ca)
        for approval in (waiting, secrets.token_bytes(32))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] is (NotFound if case.is_allowed else PolicyDenied)


def test_no_page_of_what_waits_is_cut_short_by_a_neighbours_request(
    neighbours: Chain, alpha: HostileNode, waiting: bytes
) -> None:
    request = PendingRequest(authority="issuing", limit=1)
    answer = alpha.ask(PENDING, request, of=neighbours["ca1"].identity)
    assert (answer.requests, answer.after) == ((), None)


def test_the_neighbour_itself_sees_what_it_waits_for(neighbours: Chain, waiting: bytes) -> None:
    page = neighbours.rest("beta").request("GET", "/v1/approvals?authority=issuing")[1]
    assert [item["approval"] for item in page["requests"]] == [waiting.hex()]


@pytest.mark.parametrize(
    "filters",
    [
        {"name": "secret"},
        {"name": NAME},
        {"requester": "tester"},
        {"profile": "server"},
        {"status": "good"},
        {"expires_before": 4_000_000_000},
        {"limit": 1},
    ],
    ids=str,
)
def test_no_search_leads_to_it(
    neighbours: Chain, alpha: HostileNode, betas: str, filters: dict[str, Any]
) -> None:
    request = SearchRequest(authority="issuing", **filters)
    found: list[str] = []
    while True:
        page = alpha.ask(SEARCH, request, of=neighbours["ca1"].identity)
        found += [item.serial.hex().lstrip("0") for item in page.certificates]
        if page.after is None:
            break
        request = SearchRequest(authority="issuing", after=page.after, **filters)
    assert betas not in found


def test_it_is_as_it_was_in_the_end(neighbours: Chain, alpha: HostileNode, betas: str) -> None:
    answer = neighbours.rest("beta").request("GET", f"/v1/certificates/issuing/{betas}")
    assert (answer[0], answer[1]["status"]) == (200, "good")
