"""A taken-over RA with its valid key: it may do what its role says, and every other try is denied
and stands in the CA's audit log under its name.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from node_agent.errors import Conflict, PolicyDenied, ProfileViolation, RequestRefused
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import (
    ENROLL,
    REVOKE,
    SEARCH,
    STATUS,
    WITHDRAW,
    EnrollRequest,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
    serial_octets,
)
from node_agent.wire import Status
from tests.support.hostile_peer import HostilePeer
from tests.support.hostile_requests import CSR, ENROL, ask, csr_for
from tests.support.pki import ThrowawayAuthority
from tests.support.processes import wait_until
from tests.support.scope_table import ABSENT, METHODS, OK, Scope
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.agents import Topology

    Denials = Callable[[], list[dict[str, Any]]]

SCOPE = Scope(
    {
        **dict.fromkeys((ENROLL.method, REVOKE.method, STATUS.method, SEARCH.method), OK),
        WITHDRAW.method: ABSENT,
    }
)
UNHEARD_OF = (
    "node.apply",
    "objects.put",
    "admin.status",
    "audit.delete",
    "ca.sign",
    "token.export",
    "ra.enroll ",
    "RA.ENROLL",
    "__init__",
)


@pytest.fixture(scope="module")
def ra(topology: Topology) -> Iterator[HostilePeer]:
    topology.ra.stop()
    with HostilePeer(topology, topology.ra) as peer:
        wait_until(peer.is_linked, timeout_seconds=30, what="the CA dialled the hostile RA")
        yield peer


@pytest.fixture(scope="module")
def own(ra: HostilePeer) -> bytes:
    """The serial number of a certificate that it enrolled."""
    ask(ra, ENROLL, EnrollRequest(**ENROL))
    serial: bytes = ask(ra, SEARCH, SearchRequest(authority="issuing")).certificates[0].serial
    return serial


def signed(peer: HostilePeer, method: str, request_id: bytes, **changes: Any) -> bytes:
    """Return a well-signed envelope, but for what ``changes`` says."""
    parts = {"audience": "ca/issuing", "requester": "", "payload": b"\x80", **changes}
    return sign_request(peer.holder, method=method, request_id=request_id, **parts).message


def test_what_its_role_allows_it_can_do(ra: HostilePeer) -> None:
    """Without this, a link that denies everything would pass every test below."""
    answer = ask(ra, ENROLL, EnrollRequest(**ENROL), requester="anybody")
    assert len(answer.chain) == 2
    assert ask(ra, SEARCH, SearchRequest(authority="issuing")).certificates


@pytest.mark.parametrize("method", METHODS)
def test_what_its_role_does_not_allow_is_denied_and_logged(
    ra: HostilePeer, topology: Topology, own: bytes, method: str
) -> None:
    trial = Trial(ra, topology.ca, SCOPE, chain="mallory via ra1")
    trial.check(method, serial=own)


@pytest.mark.parametrize("requester", ["", "verification", "local uid 0", "ca1", "x" * 300])
def test_no_claimed_requester_has_more_rights_than_the_ra(
    ra: HostilePeer, denied_since: Denials, requester: str
) -> None:
    with pytest.raises(PolicyDenied):
        ask(ra, ENROLL, EnrollRequest(**{**ENROL, "authority": "root"}), requester=requester)
    assert len(denied_since()) == 1


@pytest.mark.parametrize("method", UNHEARD_OF)
def test_no_operation_but_the_listed_ones_exists(
    ra: HostilePeer, denied_since: Denials, method: str
) -> None:
    request_id = secrets.token_bytes(16)
    answer = ra.send(method, signed(ra, method, request_id), request_id=request_id)
    assert answer.status == Status.DENIED
    assert len(denied_since()) == 1


def test_a_request_for_other_names_than_the_profile_allows_is_refused(ra: HostilePeer) -> None:
    with pytest.raises(ProfileViolation):
        ask(ra, ENROLL, EnrollRequest(**{**ENROL, "csr": csr_for("WWW.example.org")}))


def test_somebody_elses_request_id_brings_nothing(ra: HostilePeer) -> None:
    request_id = secrets.token_bytes(16)
    ask(ra, ENROLL, EnrollRequest(**ENROL), request_id=request_id)
    other = EnrollRequest(**{**ENROL, "csr": csr_for("other.example.org")})
    with pytest.raises(Conflict):
        ask(ra, ENROLL, other, request_id=request_id)


@pytest.mark.parametrize("csr", [b"", b"\x30\x00", CSR[:-1], CSR + b"\x00"])
def test_what_is_no_csr_is_refused(ra: HostilePeer, csr: bytes) -> None:
    with pytest.raises(RequestRefused):
        ask(ra, ENROLL, EnrollRequest(**{**ENROL, "csr": csr}))


def _garbage(peer: HostilePeer, request_id: bytes) -> bytes:
    return b"\x00" * 64


def _of_another_key(peer: HostilePeer, request_id: bytes) -> bytes:
    """Signed by a node of the same name that another Management CA certified."""
    forged = ThrowawayAuthority().holder("ra1")
    parts = {"audience": "ca/issuing", "requester": "", "payload": b"\x80"}
    return sign_request(forged, method="ra.enroll", request_id=request_id, **parts).message


def _altered(peer: HostilePeer, request_id: bytes) -> bytes:
    message = signed(peer, "ra.enroll", request_id, requester="alice")
    return message.replace(b"alice", b"admin")


def _of_another_method(peer: HostilePeer, request_id: bytes) -> bytes:
    return signed(peer, "ra.search", request_id)


def _of_another_id(peer: HostilePeer, request_id: bytes) -> bytes:
    return signed(peer, "ra.enroll", secrets.token_bytes(16))


def _for_another_ca(peer: HostilePeer, request_id: bytes) -> bytes:
    return signed(peer, "ra.enroll", request_id, audience="ca/elsewhere")


@pytest.mark.parametrize(
    "forge",
    [_garbage, _of_another_key, _altered, _of_another_method, _of_another_id, _for_another_ca],
)
def test_an_envelope_that_is_not_right_is_denied_and_logged(
    ra: HostilePeer,
    denied_since: Denials,
    forge: Callable[[HostilePeer, bytes], bytes],
) -> None:
    request_id = secrets.token_bytes(16)
    answer = ra.send("ra.enroll", forge(ra, request_id), request_id=request_id)
    assert answer.status == Status.DENIED
    assert len(denied_since()) == 1


@pytest.mark.parametrize("serial", [b"", b"\1" * 21, b"\xff" * 4096])
@pytest.mark.parametrize(("operation", "kind"), [(REVOKE, RevokeRequest), (STATUS, StatusRequest)])
def test_what_is_no_serial_number_is_denied_and_logged(
    ra: HostilePeer, denied_since: Denials, operation: Any, kind: Any, serial: bytes
) -> None:
    """It reaches no handler: none fails over it, with a trace in the CA's log for each try."""
    with pytest.raises(PolicyDenied):
        ask(ra, operation, kind(authority="issuing", serial=serial))
    (entry,) = denied_since()
    assert entry["action"] == operation.method


def newest_crl(topology: Topology) -> x509.CertificateRevocationList:
    pem = topology.ca.admin.get("/v1/crls/issuing")["crl"]
    return x509.load_pem_x509_crl(pem.encode())


@pytest.mark.parametrize("at", [-1, 253402300800, 10**17])
def test_no_date_of_a_revocation_breaks_the_crl(
    ra: HostilePeer, topology: Topology, at: int
) -> None:
    """It may revoke; a date that no list can write would end the CA, again at each start."""
    answer = ask(ra, ENROLL, EnrollRequest(**{**ENROL, "csr": csr_for("www.example.org")}))
    serial = serial_octets(x509.load_der_x509_certificate(answer.chain[0]).serial_number)
    with pytest.raises(PolicyDenied):
        ask(ra, REVOKE, RevokeRequest(authority="issuing", serial=serial, invalidity_at=at))
    ask(ra, REVOKE, RevokeRequest(authority="issuing", serial=serial, invalidity_at=1))
    number = int.from_bytes(serial, "big")
    wait_until(
        lambda: newest_crl(topology).get_revoked_certificate_by_serial_number(number) is not None,
        timeout_seconds=15,
        what="the CA made a CRL",
    )
    entry = newest_crl(topology).get_revoked_certificate_by_serial_number(number)
    assert entry is not None
    date = entry.extensions.get_extension_for_class(x509.InvalidityDate).value
    assert date.invalidity_date_utc.timestamp() == 1


def test_a_denial_does_not_tell_what_exists(ra: HostilePeer) -> None:
    said = set()
    for authority in ("root", "nowhere"):
        with pytest.raises(PolicyDenied) as caught:
            ask(ra, SEARCH, SearchRequest(authority=authority))
        said.add(str(caught.value).replace(authority, "X"))
    assert len(said) == 1


def test_the_log_is_whole_after_all_of_it(ra: HostilePeer, topology: Topology) -> None:
    assert topology.ca.admin.post("/v1/audit/verify", {})["ok"]


def test_a_revoked_authenticator_ends_it_within_a_second(
    ra: HostilePeer, topology: Topology
) -> None:
    """The last of this file: nothing above works afterwards."""
    topology.ca.admin.post(
        f"/v1/certificates/management/{ra.serial}/revocation", {"reason": "keyCompromise"}
    )
    wait_until(lambda: not ra.is_linked(), timeout_seconds=1, what="the CA dropped the link")
    (peer,) = (peer for peer in topology.ca.admin.get("/v1/peers") if peer["peer"].endswith("/ra1"))
    assert peer["state"] != "up"
