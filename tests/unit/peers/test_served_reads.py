"""A read is served once, while it is valid and after it; and an honest one is always served."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import Unavailable
from node_agent.identity import PeerIdentity
from node_agent.peers.envelope import RequestBody, SignedRequest, VerifiedRequest
from node_agent.peers.operations import OPERATIONS, SEARCH, SearchAnswer, SearchRequest
from node_agent.peers.served_reads import ReadNotFresh, ServedReads
from node_agent.wire.codes import Status
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, PeerNode, identity_of
from tests.unit.peers.test_calls_over_links import CA_GRANTS, RA_GRANTS

if TYPE_CHECKING:
    from node_agent.net import IncomingCall, RawAnswer

LIFETIME_SECONDS = 20
NOTHING = SearchAnswer(certificates=(), after=None)


def read_of(origin: str, at: float, *, lifetime: int = LIFETIME_SECONDS) -> VerifiedRequest:
    body = RequestBody(
        1, "ra.search", secrets.token_bytes(16), "ca/x", int(at), int(at) + lifetime, "", b""
    )
    return VerifiedRequest(
        body,
        PeerIdentity.named(identity_of(origin)),
        (),
        secrets.token_bytes(32),
        SignedRequest(b"", b"", (b"",)),
    )


def test_what_is_remembered_is_refused_until_it_has_expired_and_then_forgotten() -> None:
    clock = ManualClock()
    reads = ServedReads(clock)
    read = read_of("ra1", clock.now())
    reads.add(read)
    for seconds in (0, LIFETIME_SECONDS, 59):
        clock.advance(seconds)
        with pytest.raises(ReadNotFresh, match="replayed"):
            reads.add(read)
    assert len(reads) == 1
    clock.advance(60)
    reads.add(read_of("ra2", clock.now()))
    assert len(reads) == 1


def test_what_was_signed_before_the_start_is_not_served_and_what_is_signed_then_is() -> None:
    clock = ManualClock()
    reads = ServedReads(clock)
    with pytest.raises(ReadNotFresh, match="before this node started"):
        reads.add(read_of("ra1", clock.now() - 1))
    reads.add(read_of("ra1", clock.now()))


def test_who_has_too_many_remembered_is_told_to_wait_and_nobody_else_is() -> None:
    clock = ManualClock()
    reads = ServedReads(clock, most=40)
    for _ in range(10):
        reads.add(read_of("flood", clock.now(), lifetime=300))
    with pytest.raises(Unavailable):
        reads.add(read_of("flood", clock.now()))
    for _ in range(10):
        reads.add(read_of("honest", clock.now()))
    clock.advance(300 + 60 + 16)
    reads.add(read_of("flood", clock.now()))


def test_only_reads_that_may_pass_others_are_held_to_it() -> None:
    reads = {name for name, operation in OPERATIONS.items() if operation.may_be_replayed}
    assert reads == {"ra.status", "ra.search", "ra.pending", "ra.catalogue"}


@dataclass(frozen=True, slots=True)
class Sent:
    request_id: bytes
    payload: bytes


class Pair:
    """An RA that searches, and a CA that notes what came."""

    def __init__(self, meadow: Meadow) -> None:
        self.meadow = meadow
        self.ca = meadow.node("ca1", {"ra1": RA_GRANTS})
        self.ca.held.add("ca/issuing")
        self.ra = meadow.node("ra1", {"ca1": CA_GRANTS})
        self.sent: list[Sent] = []
        self.deaf = 0
        self._honest = self.ca.dispatcher.handle
        self.ca.dispatcher.handle = self._note  # type: ignore[method-assign]

        async def search(context: object, request: SearchRequest) -> SearchAnswer:
            return NOTHING

        self.ca.dispatcher.register(SEARCH, search)

    async def _note(self, call: IncomingCall) -> RawAnswer:
        self.sent.append(Sent(call.request_id, call.payload))
        answer = await self._honest(call)
        if self.deaf:
            self.deaf -= 1
            call.link.abort()
        return answer

    async def search(self) -> SearchAnswer:
        return await self.ra.caller.call(
            SEARCH,
            SearchRequest(authority="issuing"),
            peers=[self.ca.node],
            requester="alice",
            timeout_seconds=8,
        )

    async def replay(self, sent: Sent) -> RawAnswer:
        (link, *_) = self.ra.directory.links(self.ca.node)
        return await link.call(
            "ra.search", sent.payload, request_id=sent.request_id, timeout_seconds=5
        )


def test_a_replay_is_denied_in_the_log_and_told_to_sign_anew() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            pair = Pair(meadow)
            await meadow.link(pair.ca, pair.ra)
            await pair.search()
            answer = await pair.replay(pair.sent[0])
            assert answer.status == Status.UNAVAILABLE
            assert b"sign-anew" in answer.payload
            assert [record.reason for record in pair.ca.denials] == [
                "it was served before: replayed"
            ]

    run(scene())


def test_a_read_that_is_sent_again_is_another_one() -> None:
    """Its answer was lost with the link, so the CA has served the first."""

    async def scene() -> None:
        async with Meadow() as meadow:
            pair = Pair(meadow)
            await meadow.link(pair.ca, pair.ra)
            await meadow.link(pair.ca, pair.ra)
            pair.deaf = 1
            await pair.search()
            first, second = pair.sent
            assert first.request_id != second.request_id
            assert pair.ca.denials == []

    run(scene())


def test_after_a_restart_a_kept_read_is_not_served_and_an_honest_one_is_on_retry() -> None:
    """The RA's clock is a second behind: what it signs at first seems to be from before."""

    async def scene() -> None:
        async with Meadow() as meadow:
            pair = Pair(meadow)
            await meadow.link(pair.ca, pair.ra)
            await pair.search()
            clock = pair.ca.holder.clock
            restarted = ServedReads(clock)
            restarted._started_at = int(clock.now()) + 1
            pair.ca.dispatcher._reads = restarted
            assert (await pair.replay(pair.sent[0])).status == Status.UNAVAILABLE
            assert await pair.search() == NOTHING
            assert len(pair.sent) >= 4
            assert {record.reason for record in pair.ca.denials} == {
                "signed before this node started"
            }

    run(scene())


def test_the_same_read_of_a_proxy_that_lost_its_link_is_signed_anew_by_the_origin() -> None:
    """A proxy sends what it has once more; only the origin can make it another one."""

    async def scene() -> None:
        async with Meadow() as meadow:
            ca = meadow.node("ca1", {"ra1": RA_GRANTS[1:], "proxy1": [*RA_GRANTS, "/peer/relay"]})
            ca.held.add("ca/issuing")
            proxy = meadow.node("proxy1", {"ra1": RA_GRANTS, "ca1": CA_GRANTS})
            proxy.relay_to(ca)
            ra = meadow.node(
                "ra1",
                {
                    "proxy1": ["/peer/incoming", "/peer/upstream", "/peer/relay"],
                    "ca1": CA_GRANTS[1:],
                },
            )
            lost: list[bytes] = []
            await _search_through(meadow, ca, proxy, ra, lost)
            assert len(lost) == 1

    run(scene())


async def _search_through(
    meadow: Meadow, ca: PeerNode, proxy: PeerNode, ra: PeerNode, lost: list[bytes]
) -> None:
    async def search(context: object, request: SearchRequest) -> SearchAnswer:
        return NOTHING

    ca.dispatcher.register(SEARCH, search)
    honest = ca.dispatcher.handle

    async def losing_once(call: IncomingCall) -> RawAnswer:
        answer = await honest(call)
        if not lost:
            lost.append(call.request_id)
            call.link.abort()
        return answer

    ca.dispatcher.handle = losing_once  # type: ignore[method-assign]
    for _ in range(2):
        await meadow.link(ca, proxy)
    await meadow.link(ra, proxy)
    answer = await ra.caller.call(
        SEARCH,
        SearchRequest(authority="issuing"),
        peers=[ca.node],
        requester="alice",
        timeout_seconds=8,
    )
    assert answer == NOTHING
