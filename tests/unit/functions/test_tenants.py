"""Two tenants with a CA each on one node: neither learns of the other. What is forbidden and what
doesn't exist get the same answer, for the same work, so that time tells nothing either.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingRequest,
    RejectRequest,
    WithdrawRequest,
)
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import (
    APPROVE,
    CATALOGUE,
    CERTIFY_SIGNER,
    ENROLL,
    OPERATIONS,
    PENDING,
    REJECT,
    REVOKE,
    SEARCH,
    STATUS,
    WITHDRAW,
    CatalogueRequest,
    CertifySignerRequest,
    EnrollRequest,
    Operation,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
    serial_octets,
)
from node_agent.policy import parse_roles
from node_agent.wire import Status
from tests.support.event_loop import run
from tests.support.hostile_requests import csr_for
from tests.support.own_authority import OwnAuthority, own_authority
from tests.support.peer_nodes import Meadow, PeerNode, identity_of
from tests.support.scope_table import METHODS, OWN_AUTHORITY, tries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from node_agent.net import RawAnswer

PROFILE = {
    "subject": [{"attribute": "common_name", "pattern": "[a-z.]+"}],
    "san": [{"kind": "dns", "minimum": 1}],
    "validity_days": 30,
}
NODE: dict[str, Any] = {
    "crypto_tokens": [{"name": "offline", "activation": "on_demand"}],
    "certificate_profiles": [{**PROFILE, "name": name} for name in ("server", "secret", "unused")],
    "certification_authorities": [
        {"name": "management", "kind": "management", "subject": "CN=Management"},
        {"name": "root", "kind": "root", "subject": "CN=Root", "crypto_token": "offline"},
        *(
            {
                "name": name,
                "kind": "issuing",
                "issuer": "root",
                "subject": f"CN={name}",
                "profiles": profiles,
            }
            for name, profiles in (("alpha", ["server"]), ("beta", ["secret", "server"]))
        ),
    ],
}
VERBS = ["/peer/incoming", "/ra/*", "/protocol/rest"]
GRANTS = {
    "alpha1": [*VERBS, "/ca/alpha", "/profile/server", "/profile/unused"],
    "beta1": [*VERBS, "/ca/beta", "/profile/secret"],
    # Uses alpha's CA, and has nothing else to do with alpha.
    "gamma1": [*VERBS, "/ca/alpha", "/profile/server"],
}
CSR = csr_for("www.example.org")
READS = (
    *("certificate", "search", "certificate_by_request", "audit_entries", "objects"),
    *("approval", "approvals"),
)
WRITES = (
    *("record_issuance", "record_status", "record_status_once"),
    *("open_approval", "add_vote", "end_approval"),
)


class Node:
    """A CA node as its tenants' RAs reach it; ``work`` is what the store was asked for."""

    def __init__(self, own: OwnAuthority, meadow: Meadow) -> None:
        self.own = own
        self.ca = meadow.node("ca1", GRANTS)
        self.ras = {name: meadow.node(name, {"ca1": ["/peer/**", "/ca/**"]}) for name in GRANTS}
        self.work: list[str] = []
        self.ca.held.update(("ca/alpha", "ca/beta", "ca/root", "ca/management"))
        register: Callable[..., None] = self.ca.dispatcher.register
        for operation, handler in (
            (ENROLL, own.service.enroll),
            (REVOKE, own.service.revoke),
            (STATUS, own.service.status),
            (SEARCH, own.service.search),
            (CATALOGUE, own.service.catalogue),
            (CERTIFY_SIGNER, own.service.certify_signer),
            (PENDING, own.service.approvals.pending),
            (APPROVE, own.service.approvals.approve),
            (REJECT, own.service.approvals.reject),
            (WITHDRAW, own.service.approvals.withdraw),
        ):
            register(operation, handler)
        for name in (*READS, *WRITES):
            setattr(own.store, name, self._counted(name, getattr(own.store, name)))

    def _counted(
        self, name: str, method: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any, **options: Any) -> Any:
            self.work.append(name)
            return await method(*arguments, **options)

        return counted

    async def ask(self, who: str, operation: Operation[Any, Any], request: Any) -> Any:
        return await self.ras[who].caller.call(
            operation, request, peers=[self.ca.node], requester="mallory", timeout_seconds=5
        )

    async def enrol(self, who: str, authority: str, profile: str) -> int:
        request = EnrollRequest(authority=authority, profile=profile, csr=CSR)
        await self.ask(who, ENROLL, request)
        newest = (await self.ask(who, SEARCH, SearchRequest(authority=authority))).certificates[0]
        return int.from_bytes(newest.serial, "big")

    async def told(
        self, operation: Operation[Any, Any], request: Any
    ) -> tuple[int, bytes, list[str], list[bool]]:
        """Return status and signed payload of alpha's request, and what it cost the CA."""
        self.work.clear()
        self.ca.audited.clear()
        ra = self.ras["alpha1"]
        request_id = b"i" * 16
        message = sign_request(
            ra.holder,
            method=operation.method,
            request_id=request_id,
            audience=operation.audience(request) or self.ca.node.uri,
            requester="mallory",
            payload=msgspec.msgpack.encode(request),
        ).message
        answer = await self._raw(ra, operation.method, message, request_id)
        body = msgspec.msgpack.decode(msgspec.msgpack.decode(answer.payload)[0])
        allowed = [record.allowed for record in self.ca.audited]
        return int(answer.status), body[3], list(self.work), allowed

    async def _raw(self, ra: PeerNode, method: str, message: bytes, request_id: bytes) -> RawAnswer:
        (link,) = ra.directory.links(self.ca.node)
        return await link.call(method, message, request_id=request_id, timeout_seconds=5)


@contextlib.asynccontextmanager
async def a_node(directory: Path) -> AsyncIterator[Node]:
    async with Meadow() as meadow, own_authority(directory, **NODE) as own:
        node = Node(own, meadow)
        for ra in node.ras.values():
            await meadow.link(node.ca, ra)
        yield node


def role_of(name: str, more: dict[str, Any]) -> PeerRoleSpec:
    """Return a tenant's role at the CA; ``more`` is what alpha's has beside."""
    return PeerRoleSpec(
        name=f"role-{name}",
        members=(identity_of(name).uri,),
        rules=tuple(AccessRule(resource=resource) for resource in GRANTS[name]),
        **(more if name == "alpha1" else {}),
    )


def about(authority: str, serial: int = 1) -> dict[str, tuple[Operation[Any, Any], Any]]:
    """Return a request of each kind about ``authority``."""
    octets = serial_octets(serial)
    return {
        "enroll": (ENROLL, EnrollRequest(authority=authority, profile="server", csr=CSR)),
        "revoke": (REVOKE, RevokeRequest(authority=authority, serial=octets)),
        "status": (STATUS, StatusRequest(authority=authority, serial=octets)),
        "search": (SEARCH, SearchRequest(authority=authority)),
        "signer": (CERTIFY_SIGNER, CertifySignerRequest(authority=authority, csr=CSR)),
        "pending": (PENDING, PendingRequest(authority=authority)),
        "one that waits": (PENDING, PendingRequest(authority=authority, approval=octets[:1] * 32)),
        **verdicts(authority, "server", octets[:1] * 32),
        **{
            f"{method} {case.variant}": (
                case.operation,
                replace(case, authority=authority).request(serial=octets),
            )
            for method in METHODS
            if method.startswith("publish.")
            for case in tries(method)
            if case.authority == OWN_AUTHORITY
        },
    }


def verdicts(
    authority: str, profile: str, approval: bytes
) -> dict[str, tuple[Operation[Any, Any], Any]]:
    given: dict[str, Any] = {"authority": authority, "profile": profile, "approval": approval}
    return {
        "approve": (APPROVE, ApproveRequest(**given)),
        "reject": (REJECT, RejectRequest(**given)),
        "withdraw": (WITHDRAW, WithdrawRequest(**given)),
    }


def test_every_operation_of_the_protocol_is_asked_about() -> None:
    """The catalogue names no CA; it has a test of its own."""
    asked = {operation.method for operation, _ in about("").values()}
    assert asked | {CATALOGUE.method} == set(OPERATIONS)


@pytest.mark.parametrize("forbidden", ["beta", "root", "management"])
def test_a_forbidden_ca_is_as_an_absent_one(tmp_path: Path, forbidden: str) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            serial = await node.enrol("beta1", "beta", "secret")
            tables = [about(forbidden, serial), about("nowhere", serial), about("nowhere", 1)]
            for verb in tables[0]:
                said = [await node.told(*table[verb]) for table in tables]
                assert said == [said[0]] * 3, verb
                status, _, work, allowed = said[0]
                assert (status, work, allowed) == (Status.DENIED, [], [False]), verb

    run(scene())


def test_a_forbidden_profile_is_as_an_absent_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            tables = [
                {
                    "enroll": (ENROLL, EnrollRequest(authority="alpha", profile=name, csr=CSR)),
                    **verdicts("alpha", name, b"a" * 32),
                }
                for name in ("secret", "nothing")
            ]
            for verb in tables[0]:
                said = [await node.told(*table[verb]) for table in tables]
                assert said[0] == said[1], verb
                assert said[0][0] == Status.DENIED, verb

    run(scene())


def test_a_profile_that_a_ca_lacks_names_no_other(tmp_path: Path) -> None:
    """It is granted everywhere, and used by no CA: the answer lists none that are."""

    async def scene() -> None:
        async with a_node(tmp_path) as node:
            request = EnrollRequest(authority="alpha", profile="unused", csr=CSR)
            status, payload, *_ = await node.told(ENROLL, request)
            assert status == Status.INVALID
            assert b"secret" not in payload
            assert b"server" not in payload

    run(scene())


@pytest.mark.parametrize("verb", ["revoke", "status"])
def test_another_tenants_serial_number_is_as_one_that_never_was(tmp_path: Path, verb: str) -> None:
    """Asked of the own CA, with the same work."""

    async def scene() -> None:
        async with a_node(tmp_path) as node:
            theirs = await node.enrol("beta1", "beta", "secret")
            absent = theirs ^ 1
            said = []
            for serial in (theirs, absent):
                status, payload, work, allowed = await node.told(*about("alpha", serial)[verb])
                text = payload.replace(f"{serial:x}".encode(), b"SERIAL")
                said.append((status, text, work, allowed))
            assert said[0] == said[1]
            assert said[0][0] == Status.NOT_FOUND

    run(scene())


@pytest.mark.parametrize("verb", ["revoke", "status"])
@pytest.mark.parametrize("reason", [0, 6, 8])
def test_another_tenants_certificate_of_the_same_ca_is_as_one_that_never_was(
    tmp_path: Path, verb: str, reason: int
) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            theirs = await node.enrol("gamma1", "alpha", "server")
            said = []
            for serial in (theirs, theirs ^ 1):
                operation, request = about("alpha", serial)[verb]
                if verb == "revoke":
                    request = msgspec.structs.replace(request, reason=reason)
                status, payload, work, allowed = await node.told(operation, request)
                text = payload.replace(f"{serial:x}".encode(), b"SERIAL")
                said.append((status, text, work, allowed))
            assert said[0] == said[1]
            assert said[0][0] == Status.NOT_FOUND
            found = await node.ask("gamma1", *about("alpha", theirs)["status"])
            assert found.status == "good"

    run(scene())


def test_a_request_id_of_another_tenant_is_answered_with_no_certificate_of_theirs(
    tmp_path: Path,
) -> None:
    """It has read the other's request: id, requester and CSR are the same."""

    async def scene() -> None:
        async with a_node(tmp_path) as node:
            request = EnrollRequest(authority="alpha", profile="server", csr=CSR)
            chains = [
                (
                    await node.ras[who].caller.call(
                        ENROLL,
                        request,
                        peers=[node.ca.node],
                        requester="mallory",
                        request_id=b"q" * 16,
                        timeout_seconds=5,
                    )
                )
                for who in ("gamma1", "alpha1", "gamma1")
            ]
            assert chains[0].chain == chains[2].chain != chains[1].chain
            assert [answer.repeated for answer in chains] == [False, False, True]

    run(scene())


@pytest.mark.parametrize(
    ("fields", "is_seen"),
    [
        ({}, False),
        ({"certificate_scope": "all"}, True),
        ({"tenant": "role-gamma1"}, True),
        ({"tenant": "role-beta1"}, False),
    ],
    ids=str,
)
def test_a_role_says_whose_certificates_its_members_see(
    tmp_path: Path, fields: dict[str, Any], is_seen: bool
) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            theirs = await node.enrol("gamma1", "alpha", "server")
            node.ca.dispatcher.replace_roles(parse_roles([role_of(n, fields) for n in GRANTS]))
            answer = await node.ask("alpha1", SEARCH, SearchRequest(authority="alpha"))
            found = {int.from_bytes(item.serial, "big") for item in answer.certificates}
            assert (theirs in found) is is_seen
            status, *_ = await node.told(*about("alpha", theirs)["status"])
            assert status == (Status.OK if is_seen else Status.NOT_FOUND)

    run(scene())


@pytest.mark.parametrize(
    ("quota", "what"),
    [
        ({"max_issued_certificates": 2}, b"were issued"),
        ({"max_valid_certificates": 2}, b"are valid"),
    ],
    ids=str,
)
def test_a_tenants_quota_is_its_own(tmp_path: Path, quota: dict[str, Any], what: bytes) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            node.ca.dispatcher.replace_roles(
                parse_roles([role_of(n, quota if n == "alpha1" else {}) for n in GRANTS])
            )
            for _ in range(3):
                await node.enrol("gamma1", "alpha", "server")
            mine = [await node.enrol("alpha1", "alpha", "server") for _ in range(2)]
            before = await node.own.store.last_position()
            status, payload, _, allowed = await node.told(*about("alpha")["enroll"])
            assert status == Status.INVALID
            assert b"quota-exceeded" in payload
            assert what in payload
            assert allowed == [True]
            assert await node.own.store.last_position() == before
            await node.enrol("gamma1", "alpha", "server")
            await node.ask("alpha1", *about("alpha", mine[0])["revoke"])
            status, *_ = await node.told(*about("alpha")["enroll"])
            is_again = "max_valid_certificates" in quota
            assert status == (Status.OK if is_again else Status.INVALID)

    run(scene())


@pytest.mark.parametrize(
    "filters",
    [
        {"name": "www.example.org"},
        {"requester": "mallory"},
        {"profile": "secret"},
        {"status": "good"},
        {"expires_before": 4_000_000_000},
        {"limit": 100_000},
    ],
    ids=str,
)
def test_no_search_finds_what_is_another_tenants(tmp_path: Path, filters: dict[str, Any]) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            own = await node.enrol("alpha1", "alpha", "server")
            for _ in range(3):
                await node.enrol("beta1", "beta", "secret")
                await node.enrol("gamma1", "alpha", "server")
            answer = await node.ask("alpha1", SEARCH, SearchRequest(authority="alpha", **filters))
            found = {int.from_bytes(item.serial, "big") for item in answer.certificates}
            assert found <= {own}

    run(scene())


def test_a_place_in_another_tenants_list_leads_nowhere(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            for _ in range(3):
                await node.enrol("beta1", "beta", "secret")
            theirs = await node.ask("beta1", SEARCH, SearchRequest(authority="beta", limit=1))
            request = SearchRequest(authority="alpha", after=theirs.after)
            assert (await node.ask("alpha1", SEARCH, request)).certificates == ()

    run(scene())


def test_no_number_tells_how_much_is_done_for_others(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            positions = []
            for others in (0, 3):
                for _ in range(others):
                    await node.enrol("beta1", "beta", "secret")
                serial = await node.enrol("alpha1", "alpha", "server")
                operation, request = about("alpha", serial)["revoke"]
                positions.append((await node.ask("alpha1", operation, request)).position)
            assert positions == [0, 0]

    run(scene())


def test_each_tenants_catalogue_is_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_node(tmp_path) as node:
            offers = {}
            for name in GRANTS:
                answer = await node.ask(name, CATALOGUE, CatalogueRequest())
                offers[name] = [(offer.name, offer.profiles) for offer in answer.authorities]
            assert offers == {
                "alpha1": [("alpha", ("server",))],
                "beta1": [("beta", ("secret",))],
                "gamma1": [("alpha", ("server",))],
            }

    run(scene())
