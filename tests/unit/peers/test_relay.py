"""tenant RA -> proxy -> CA, where neither end accepts a connection and neither trusts the proxy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from node_agent.errors import NotFound, PolicyDenied, RemoteError, Unavailable
from node_agent.net import IncomingCall, RawAnswer
from node_agent.peers.envelope import SignedRequest, Via, body_digest_of, sign_answer
from node_agent.peers.operations import (
    CATALOGUE,
    ENROLL,
    AuthorityDescription,
    CatalogueAnswer,
    CatalogueRequest,
    CertificateAnswer,
    EnrollRequest,
)
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, until
from tests.unit.peers.test_calls_over_links import CA_GRANTS, ENROLMENT, RA_GRANTS

if TYPE_CHECKING:
    from node_agent.peers.context import Context

PROXY_GRANTS = ["/peer/incoming", "/peer/upstream", "/peer/relay"]
# What the CA grants the proxy: to bring requests, and at most what its tenants may have.
CA_TO_PROXY = [*RA_GRANTS, "/peer/relay"]


class Chain:
    """``tenant`` and ``ca`` both dial ``proxy``."""

    def __init__(self, meadow: Meadow) -> None:
        self.meadow = meadow
        self.ca = meadow.node("ca1", {"tenant1": RA_GRANTS[1:], "proxy1": CA_TO_PROXY})
        self.proxy = meadow.node("proxy1", {"tenant1": RA_GRANTS, "ca1": CA_GRANTS})
        self.tenant = meadow.node("tenant1", {"proxy1": PROXY_GRANTS, "ca1": CA_GRANTS[1:]})
        self.ca.held.add("ca/issuing")
        self.proxy.relay_to(self.ca)
        self.contexts: list[Context] = []

        async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
            self.contexts.append(context)
            return CertificateAnswer(chain=(b"certificate",))

        self.ca.dispatcher.register(ENROLL, handler)

    async def connect(self) -> None:
        await self.meadow.link(self.ca, self.proxy)
        await self.meadow.link(self.tenant, self.proxy)

    async def ask(self) -> CertificateAnswer:
        return await self.tenant.caller.call(
            ENROLL, ENROLMENT, peers=[self.ca.node], requester="alice", timeout_seconds=5
        )


def scene(play: object) -> None:
    async def perform() -> None:
        async with Meadow() as meadow:
            chain = Chain(meadow)
            await chain.connect()
            await play(chain)  # type: ignore[operator]

    run(perform())


def test_a_request_passes_the_proxy_and_the_answer_is_the_cas() -> None:
    async def play(chain: Chain) -> None:
        assert (await chain.ask()).chain == (b"certificate",)
        (context,) = chain.contexts
        assert context.origin.node == chain.tenant.node
        assert [via.node for via in context.via] == [chain.proxy.node]
        assert context.peer.node == chain.proxy.node
        assert context.audit_record.chain == "alice via tenant1 via proxy1"
        (passed,) = chain.proxy.audited
        assert passed.allowed
        assert passed.detail["outcome"] == "passed on"
        assert passed.chain == "alice via tenant1"

    scene(play)


@pytest.mark.parametrize("missing", ["/ra/*", "/ca/issuing", "/profile/server", "/protocol/rest"])
@pytest.mark.parametrize("who", ["tenant1", "proxy1"])
def test_at_the_ca_every_identity_of_the_chain_needs_every_grant(who: str, missing: str) -> None:
    async def play(chain: Chain) -> None:
        grants = {"tenant1": RA_GRANTS[1:], "proxy1": CA_TO_PROXY}
        grants[who] = [grant for grant in grants[who] if grant != missing]
        chain.ca.grant(grants)
        with pytest.raises(PolicyDenied):
            await chain.ask()
        assert chain.contexts == []
        assert chain.ca.denials[0].chain == "alice via tenant1 via proxy1"

    scene(play)


def test_a_neighbour_that_may_not_relay_speaks_only_for_itself() -> None:
    async def play(chain: Chain) -> None:
        chain.ca.grant({"tenant1": RA_GRANTS[1:], "proxy1": RA_GRANTS})
        with pytest.raises(PolicyDenied):
            await chain.ask()
        assert "/peer/relay" in chain.ca.denials[0].reason

    scene(play)


def test_the_proxy_decides_too_before_anything_goes_up() -> None:
    async def play(chain: Chain) -> None:
        chain.proxy.grant({"tenant1": [*RA_GRANTS, "!/ca/issuing"], "ca1": CA_GRANTS})
        with pytest.raises(PolicyDenied):
            await chain.ask()
        assert len(chain.proxy.denials) == 1
        assert chain.ca.audited == []

    scene(play)


def test_problems_of_the_ca_come_back_as_the_cas() -> None:
    async def play(chain: Chain) -> None:
        async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
            raise NotFound("no such profile")

        chain.ca.dispatcher.register(ENROLL, handler)
        with pytest.raises(NotFound, match="no such profile"):
            await chain.ask()

    scene(play)


def test_without_a_way_up_the_proxy_says_so() -> None:
    async def play(chain: Chain) -> None:
        chain.proxy.relay_to()
        with pytest.raises(Unavailable):
            await chain.ask()
        chain.proxy.dispatcher.relay = None
        with pytest.raises(Unavailable):
            await chain.ask()

    scene(play)


def test_a_request_whose_link_upstream_is_lost_goes_up_another() -> None:
    async def play(chain: Chain) -> None:
        honest = chain.ca.dispatcher.handle
        lost: list[bytes] = []

        async def dying_once(call: IncomingCall) -> RawAnswer:
            if not lost:
                lost.append(call.payload)
                call.link.abort()
            return await honest(call)

        chain.ca.dispatcher.handle = dying_once  # type: ignore[method-assign]
        await chain.meadow.link(chain.ca, chain.proxy)
        assert (await chain.ask()).chain == (b"certificate",)
        assert len(lost) == 1

    scene(play)


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.UNAVAILABLE, Unavailable), (Status.DEADLINE, TimeoutError)]
)
def test_what_a_link_upstream_says_unsigned_the_proxy_says_in_its_own_name(
    status: Status, expected: type[Exception]
) -> None:
    async def play(chain: Chain) -> None:
        async def refuse(call: IncomingCall) -> RawAnswer:
            return RawAnswer(status)

        chain.ca.dispatcher.handle = refuse  # type: ignore[method-assign]
        with pytest.raises(expected, match="proxy1"):
            await chain.ask()

    scene(play)


def test_a_loop_of_proxies_ends() -> None:
    async def play(chain: Chain) -> None:
        other = chain.meadow.node(
            "proxy2", {"proxy1": CA_TO_PROXY, "tenant1": RA_GRANTS, "ca1": CA_GRANTS}
        )
        chain.proxy.grant({"tenant1": RA_GRANTS, "proxy2": CA_TO_PROXY})
        await chain.meadow.link(other, chain.proxy)
        chain.proxy.relay_to(other)
        other.relay_to(chain.proxy)
        with pytest.raises(Unavailable, match="proxy1 can't pass it on"):
            await chain.ask()

    scene(play)


def test_two_proxies_in_a_row_both_stand_in_the_chain() -> None:
    async def perform() -> None:
        async with Meadow() as meadow:
            chain = Chain(meadow)
            outer = meadow.node(
                "proxy2", {"tenant1": RA_GRANTS, "proxy1": PROXY_GRANTS, "ca1": CA_GRANTS[1:]}
            )
            outer.relay_to(chain.proxy)
            chain.proxy.grant({"tenant1": RA_GRANTS, "proxy2": CA_TO_PROXY, "ca1": CA_GRANTS})
            chain.tenant.grant({"proxy2": PROXY_GRANTS, "ca1": CA_GRANTS[1:]})
            everyone = {"tenant1": RA_GRANTS[1:], "proxy1": CA_TO_PROXY, "proxy2": RA_GRANTS[1:]}
            chain.ca.grant(everyone)
            await meadow.link(chain.ca, chain.proxy)
            await meadow.link(chain.proxy, outer)
            await meadow.link(chain.tenant, outer)
            await chain.ask()
            (context,) = chain.contexts
            assert context.audit_record.chain == "alice via tenant1 via proxy2 via proxy1"
            chain.ca.grant({**everyone, "proxy2": [*RA_GRANTS[1:], "!/ca/*"]})
            with pytest.raises(PolicyDenied):
                await chain.ask()

    run(perform())


class HostileProxy:
    """Replaces the proxy's handler; passes requests on as ``change`` says and keeps them."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.kept: list[tuple[str, bytes, bytes]] = []

    def install(self, handle: object) -> None:
        self.chain.proxy.dispatcher.handle = handle  # type: ignore[assignment,method-assign]

    async def pass_on(self, call: IncomingCall, message: bytes, **changes: object) -> RawAnswer:
        """Send ``message`` to the CA as the proxy would."""
        fields = {"method": call.method, "request_id": call.request_id, **changes}
        (link,) = self.chain.proxy.directory.links(self.chain.ca.node)
        return await link.call(
            str(fields["method"]),
            message,
            request_id=fields["request_id"],  # type: ignore[arg-type]
            timeout_seconds=5,
        )


def test_a_hostile_proxy_cannot_answer_in_the_cas_place() -> None:
    async def play(chain: Chain) -> None:
        async def answer_itself(call: IncomingCall) -> RawAnswer:
            payload = msgspec.msgpack.encode(CertificateAnswer(chain=(b"forged",)))
            answer = sign_answer(
                chain.proxy.holder,
                body_digest=body_digest_of(call.payload),
                status=Status.OK,
                payload=payload,
            )
            return RawAnswer(Status.OK, answer)

        HostileProxy(chain).install(answer_itself)
        with pytest.raises(RemoteError) as caught:
            await chain.ask()
        assert caught.value.problem == "untrusted-answer"

    scene(play)


@pytest.mark.parametrize("attack", ["body", "request id", "method", "as its own", "hide itself"])
def test_a_hostile_proxy_cannot_change_what_is_asked_or_who_asks(attack: str) -> None:
    async def play(chain: Chain) -> None:
        proxy = HostileProxy(chain)

        async def tamper(call: IncomingCall) -> RawAnswer:
            signed = msgspec.msgpack.decode(call.payload, type=SignedRequest)
            changes: dict[str, object] = {}
            match attack:
                case "body":
                    body = signed.body.replace(b"server", b"sErver")
                    signed = msgspec.structs.replace(signed, body=body)
                case "request id":
                    changes["request_id"] = b"z" * 16
                case "method":
                    changes["method"] = "ra.revoke"
                case "as its own":
                    own = chain.proxy.holder.current.chain_der
                    signed = msgspec.structs.replace(signed, chain=own)
                case "hide itself":
                    # It may name others as having passed it; its own link still names it.
                    tenant = chain.tenant.node.uri
                    via = Via(tenant, "CN=x", "1", "a" * 64, "b" * 64)
                    signed = msgspec.structs.replace(signed, via=(via,))
                    chain.ca.grant(
                        {"tenant1": RA_GRANTS[1:], "proxy1": ["/peer/incoming", "/peer/relay"]}
                    )
            return await proxy.pass_on(call, msgspec.msgpack.encode(signed), **changes)

        proxy.install(tamper)
        with pytest.raises((PolicyDenied, RemoteError)):
            await chain.ask()
        assert chain.contexts == []
        assert len(chain.ca.denials) >= 1

    scene(play)


def test_a_hostile_proxy_cannot_ask_for_another_tenant() -> None:
    """Its own signature on the tenant's payload is its own request, under its own rights."""

    async def play(chain: Chain) -> None:
        chain.ca.grant({"tenant1": RA_GRANTS[1:], "proxy1": PROXY_GRANTS})
        chain.proxy.grant({"tenant1": RA_GRANTS, "ca1": CA_GRANTS})
        with pytest.raises(PolicyDenied):
            await chain.proxy.caller.call(
                ENROLL, ENROLMENT, peers=[chain.ca.node], requester="alice", timeout_seconds=5
            )
        assert chain.ca.denials[0].chain == "alice via proxy1"

    scene(play)


def test_a_proxy_cannot_use_for_itself_what_it_is_granted_for_its_tenants() -> None:
    async def play(chain: Chain) -> None:
        chain.proxy.grant({"tenant1": RA_GRANTS, "ca1": CA_GRANTS})

        async def ask() -> CertificateAnswer:
            return await chain.proxy.caller.call(
                ENROLL, ENROLMENT, peers=[chain.ca.node], timeout_seconds=5
            )

        with pytest.raises(PolicyDenied):
            await ask()
        assert "/peer/origin" in chain.ca.denials[0].reason
        chain.ca.grant({"proxy1": [*CA_TO_PROXY, "/peer/origin"]})
        assert (await ask()).chain == (b"certificate",)

    scene(play)


def test_a_replayed_request_is_the_same_request_until_it_expires() -> None:
    async def play(chain: Chain) -> None:
        proxy = HostileProxy(chain)

        async def twice(call: IncomingCall) -> RawAnswer:
            first = await proxy.pass_on(call, call.payload)
            again = await proxy.pass_on(call, call.payload)
            assert first.status == again.status == Status.OK
            return again

        proxy.install(twice)
        await chain.ask()
        ids = {context.request_id for context in chain.contexts}
        digests = {context.request_digest for context in chain.contexts}
        assert len(chain.contexts) == 2
        assert len(ids) == len(digests) == 1  # what the store's exactly-once key is made of

    scene(play)


def test_a_dropped_request_ends_at_its_deadline_and_nothing_else() -> None:
    async def play(chain: Chain) -> None:
        async def drop(call: IncomingCall) -> RawAnswer:
            await asyncio.sleep(60)
            return RawAnswer(Status.OK)

        HostileProxy(chain).install(drop)
        with pytest.raises(TimeoutError):
            await chain.tenant.caller.call(
                ENROLL, ENROLMENT, peers=[chain.ca.node], timeout_seconds=0.2
            )

    scene(play)


def test_a_proxy_is_bypassed_when_the_ca_is_linked_directly() -> None:
    async def play(chain: Chain) -> None:
        chain.ca.grant({"tenant1": RA_GRANTS, "proxy1": CA_TO_PROXY})
        chain.tenant.grant({"proxy1": PROXY_GRANTS, "ca1": CA_GRANTS})
        await chain.meadow.link(chain.ca, chain.tenant)
        await chain.ask()
        assert chain.contexts[0].via == ()

    scene(play)


async def _offer(context: Context, request: CatalogueRequest) -> CatalogueAnswer:
    names = [name for name in ("issuing", "other") if context.permits(f"/ca/{name}")]
    return CatalogueAnswer(
        authorities=tuple(AuthorityDescription(name=name, chain=(), profiles=()) for name in names)
    )


def test_the_catalogue_comes_through_the_proxy_from_the_ca_itself() -> None:
    async def play(chain: Chain) -> None:
        chain.ca.dispatcher.register(CATALOGUE, _offer)
        answer = await chain.tenant.caller.call(
            CATALOGUE, CatalogueRequest(), peers=[chain.ca.node], timeout_seconds=5
        )
        assert [offer.name for offer in answer.authorities] == ["issuing"]

    scene(play)


def test_a_stranger_behind_the_proxy_gets_no_catalogue() -> None:
    async def play(chain: Chain) -> None:
        chain.ca.dispatcher.register(CATALOGUE, _offer)
        chain.ca.grant({"proxy1": CA_TO_PROXY})
        with pytest.raises(PolicyDenied):
            await chain.tenant.caller.call(
                CATALOGUE, CatalogueRequest(), peers=[chain.ca.node], timeout_seconds=5
            )
        assert "has no role" in chain.ca.denials[0].reason

    scene(play)


@pytest.mark.parametrize("what", ["another tenant's, linked", "another tenant's, away", "absent"])
def test_a_node_that_serves_the_tenant_nothing_is_denied_at_the_proxy_as_if_it_were_not_there(
    what: str,
) -> None:
    """A passed-on question would tell which CA nodes there are, who is linked, and their keys."""

    async def play(chain: Chain) -> None:
        other = chain.meadow.node("ca2", {"proxy1": CA_TO_PROXY, "tenant1": ["/ca/else"]})
        other.dispatcher.register(CATALOGUE, _offer)
        known = {"tenant1": RA_GRANTS, "ca1": CA_GRANTS}
        if what != "absent":
            known["ca2"] = ["/peer/incoming", "/peer/upstream", "/ca/beta"]
        chain.proxy.grant(known)
        chain.proxy.relay_to(chain.ca, other)
        chain.tenant.grant({"proxy1": PROXY_GRANTS, "ca1": CA_GRANTS[1:], "ca2": CA_GRANTS[1:]})
        if "linked" in what:
            await chain.meadow.link(other, chain.proxy)
        with pytest.raises(PolicyDenied, match="proxy1 denied it"):
            await chain.tenant.caller.call(
                CATALOGUE, CatalogueRequest(), peers=[other.node], timeout_seconds=5
            )
        (denial,) = chain.proxy.denials
        assert denial.chain == "tenant1"
        assert "serves no CA" in denial.reason
        assert other.audited == []

    scene(play)


@pytest.mark.parametrize(("before", "is_served"), [(9, True), (10, False)])
def test_ten_proxies_may_be_on_the_way_and_no_more(before: int, is_served: bool) -> None:
    """The last of them is the CA's neighbour, which nobody has written into via yet."""

    async def play(chain: Chain) -> None:
        proxy = HostileProxy(chain)
        own = chain.ca.holder.verify_peer(chain.proxy.holder.current.chain_der)
        via = Via(
            own.node.uri, own.issuer, f"{own.serial:x}", own.fingerprint_sha256, own.spki_sha256
        )

        async def pass_on(call: IncomingCall) -> RawAnswer:
            signed = msgspec.msgpack.decode(call.payload, type=SignedRequest)
            signed = msgspec.structs.replace(signed, via=(via,) * before)
            return await proxy.pass_on(call, msgspec.msgpack.encode(signed))

        proxy.install(pass_on)
        if is_served:
            assert (await chain.ask()).chain == (b"certificate",)
        else:
            with pytest.raises(PolicyDenied):
                await chain.ask()
            assert "more than 10 nodes" in chain.ca.denials[0].reason

    scene(play)


def test_the_proxy_cannot_give_its_own_catalogue_for_the_cas() -> None:
    async def play(chain: Chain) -> None:
        async def answer_itself(call: IncomingCall) -> RawAnswer:
            answer = sign_answer(
                chain.proxy.holder,
                body_digest=body_digest_of(call.payload),
                status=Status.OK,
                payload=msgspec.msgpack.encode(CatalogueAnswer(authorities=())),
            )
            return RawAnswer(Status.OK, answer)

        HostileProxy(chain).install(answer_itself)
        with pytest.raises(RemoteError) as caught:
            await chain.tenant.caller.call(
                CATALOGUE, CatalogueRequest(), peers=[chain.ca.node], timeout_seconds=5
            )
        assert caught.value.problem == "untrusted-answer"

    scene(play)


def test_when_one_ca_node_cannot_serve_it_the_proxy_asks_another() -> None:
    async def play(chain: Chain) -> None:
        twin = chain.meadow.node("ca2", {"tenant1": RA_GRANTS[1:], "proxy1": CA_TO_PROXY})
        twin.held.add("ca/issuing")
        asked: list[str] = []

        async def refuse(context: Context, request: EnrollRequest) -> CertificateAnswer:
            asked.append("ca1")
            raise Unavailable("the token is locked")

        async def serve(context: Context, request: EnrollRequest) -> CertificateAnswer:
            asked.append("ca2")
            return CertificateAnswer(chain=(b"second",))

        chain.ca.dispatcher.register(ENROLL, refuse)
        twin.dispatcher.register(ENROLL, serve)
        everyone = {"tenant1": RA_GRANTS, "ca1": CA_GRANTS, "ca2": CA_GRANTS}
        chain.proxy.grant(everyone)
        chain.tenant.grant({"proxy1": PROXY_GRANTS, "ca1": CA_GRANTS[1:], "ca2": CA_GRANTS[1:]})
        await chain.meadow.link(twin, chain.proxy)
        chain.proxy.relay_to(chain.ca, twin)
        for _ in range(3):
            assert (await chain.ask()).chain == (b"second",)
        assert asked.count("ca1") <= 1

    scene(play)


def test_a_proxy_whose_upstream_is_away_says_so_before_the_deadline() -> None:
    async def play(chain: Chain) -> None:
        for link in chain.ca.directory.links():
            link.abort()
        await until(lambda: not chain.proxy.directory.is_connected(chain.ca.node))
        with pytest.raises(Unavailable) as caught:
            await chain.ask()
        assert caught.value.retry_after_seconds == 5

    scene(play)


def test_the_ca_may_renew_its_key_between_a_request_and_its_answer() -> None:
    """The proxy's link is still the old one; the answer brings the new certificate along."""

    async def play(chain: Chain) -> None:
        before = chain.ca.holder.current.chain_der

        async def renewing(context: Context, request: EnrollRequest) -> CertificateAnswer:
            chain.ca.holder.replace(chain.meadow.authority.holder("ca1").current)
            return CertificateAnswer(chain=(b"certificate",))

        chain.ca.dispatcher.register(ENROLL, renewing)
        assert (await chain.ask()).chain == (b"certificate",)
        assert chain.ca.holder.current.chain_der != before

    scene(play)


def test_an_origin_may_renew_its_key_between_a_request_and_its_repetition() -> None:
    """The id and what is asked are the same, and so is who asks: a name, and not a key."""

    async def play(chain: Chain) -> None:
        request_id = bytes(range(16))
        for _ in range(2):
            await chain.tenant.caller.call(
                ENROLL,
                ENROLMENT,
                peers=[chain.ca.node],
                requester="alice",
                timeout_seconds=5,
                request_id=request_id,
            )
            chain.tenant.holder.replace(chain.meadow.authority.holder("tenant1").current)
        first, again = chain.contexts
        assert first.origin.spki_sha256 != again.origin.spki_sha256
        assert (first.origin.node, first.request_id) == (again.origin.node, again.request_id)
        assert first.request_digest == again.request_digest

    scene(play)
