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
    REVOKE,
    SEARCH,
    STATUS,
    EnrollRequest,
    SearchRequest,
    serial_octets,
)
from tests.support.agents import server_profile
from tests.support.chains import Chain
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.hostile_requests import CSR
from tests.support.openssl import make_csr
from tests.support.scope_table import ABSENT, OK, PROTOCOLS, VERDICTS, Scope, Try, tries
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

WAITING = sorted({PENDING.method, *VERDICTS})
FINDING = sorted({REVOKE.method, STATUS.method, SEARCH.method})
REACHING = sorted({*FINDING, *WAITING})
"""What looks for a certificate, or for a request that waits."""
ASKS = "mallory via alpha"
NEIGHBOUR = Scope({**dict.fromkeys(REACHING, ABSENT), SEARCH.method: OK})
"""The same CA, profile and verbs; of all that is the other's, nothing is there."""
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


def said(node: HostileNode, case: Try, *, of: str, **about: bytes) -> tuple[type, str, Any]:
    """Return how a request about something is answered, without the serial number in it."""
    serial = about.get("serial", b"\1").hex().lstrip("0")
    try:
        answer = node.ask(case.operation, case.request(source=node.holder.node.uri, **about), of=of)
    except NodeAgentError as error:
        return type(error), str(error).replace(serial, "SERIAL"), None
    return type(answer), "", answer


@pytest.mark.parametrize("method", FINDING)
def test_no_verb_of_any_protocol_reaches_a_neighbours_certificate(
    neighbours: Chain, alpha: HostileNode, betas: str, method: str
) -> None:
    theirs = serial_octets(int(betas, 16))
    trial = Trial(alpha, neighbours["inner"], NEIGHBOUR, ASKS, of=neighbours["ca1"].identity)
    trial.check(method, serial=theirs)


@pytest.mark.parametrize("method", WAITING)
def test_no_verb_of_any_protocol_reaches_what_a_neighbour_waits_for(
    neighbours: Chain, alpha: HostileNode, waiting: bytes, method: str
) -> None:
    trial = Trial(alpha, neighbours["inner"], NEIGHBOUR, ASKS, of=neighbours["ca1"].identity)
    trial.check(method, approval=waiting)


@pytest.mark.parametrize("method", REACHING)
def test_what_a_neighbour_has_is_as_absent_as_what_never_was(
    neighbours: Chain, alpha: HostileNode, betas: str, waiting: bytes, method: str
) -> None:
    """What is granted is asked; what isn't is denied before anything is looked up."""
    ca, theirs = neighbours["ca1"].identity, serial_octets(int(betas, 16))
    for case in filter(NEIGHBOUR.allows, tries(method)):
        kind, text, answer = said(alpha, case, of=ca, serial=theirs, approval=waiting)
        never = {"serial": secrets.token_bytes(16), "approval": secrets.token_bytes(32)}
        assert (kind, text) == said(alpha, case, of=ca, **never)[:2]
        if case.operation is SEARCH:
            assert theirs not in [item.serial for item in answer.certificates]
        else:
            assert kind is NotFound


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_denial_is_the_same_for_what_a_neighbour_has(
    neighbours: Chain, alpha: HostileNode, betas: str, waiting: bytes, protocol: str
) -> None:
    ca, theirs = neighbours["ca1"].identity, serial_octets(int(betas, 16))
    never = {"serial": secrets.token_bytes(16), "approval": secrets.token_bytes(32)}
    denied = [
        case
        for method in REACHING
        for case in tries(method)
        if case.protocol == protocol and not NEIGHBOUR.allows(case)
    ]
    assert denied
    for case in denied:
        answers = [
            said(alpha, case, of=ca, **about)
            for about in ({"serial": theirs, "approval": waiting}, never)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] is PolicyDenied


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
