"""Keys, certificates, trust and CRLs change while links are up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import HandshakeError
from node_agent.net import LinkState, NetSettings, TlsIdentity
from node_agent.wire import WireSettings
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, Ends, linked, until
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from node_agent.net import IdentityHolder, Link


async def is_usable(link: Link) -> bool:
    answer = await link.call("x", b"hi", request_id=REQUEST_ID, timeout_seconds=5)
    return answer.payload == b"hi"


def with_crl(ends: Ends, holder: IdentityHolder, *revoked: IdentityHolder) -> TlsIdentity:
    current = holder.current
    crl = ends.authority.crl([other.current.certificate for other in revoked])
    return TlsIdentity(
        private_key=current.private_key,
        chain=current.chain,
        trust_anchors=current.trust_anchors,
        crls=[crl],
        clock=current.clock,
    )


def test_a_healthy_link_survives_every_replacement() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            for _ in range(3):
                ends.listening.replace(ends.authority.tls_identity("ra1"))
                ends.dialling.replace(ends.authority.tls_identity("ca1"))
                assert await is_usable(near)
                assert await is_usable(far)
            assert ends.listening.generation == 4

    run(scenario())


def test_calls_under_way_survive_a_replacement() -> None:
    async def scenario() -> None:
        async with linked() as (near, _, ends):
            calls = [
                asyncio.ensure_future(
                    near.call("x", b"hi", request_id=REQUEST_ID, timeout_seconds=5)
                )
                for _ in range(20)
            ]
            await asyncio.sleep(0)
            ends.listening.replace(ends.authority.tls_identity("ra1"))
            ends.dialling.replace(ends.authority.tls_identity("ca1"))
            assert [answer.payload for answer in await asyncio.gather(*calls)] == [b"hi"] * 20

    run(scenario())


def test_the_next_connection_uses_the_new_certificate() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            ends.listening.replace(ends.authority.tls_identity("ra1"))
            ends.dialling.replace(ends.authority.tls_identity("ca1"))
            again = await ends.dial()
            await until(lambda: len(ends.accepted) == 2)
            assert again.peer.serial == ends.listening.current.certificate.serial_number
            assert ends.accepted[1].peer.serial == ends.dialling.current.certificate.serial_number
            assert again.peer.serial != near.peer.serial
            assert again.peer.node == near.peer.node
            assert far.state is LinkState.OPEN

    run(scenario())


@pytest.mark.parametrize("who", ["listener", "dialler"])
def test_a_revoked_peer_loses_its_link_within_a_second(who: str) -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            started = asyncio.get_running_loop().time()
            if who == "listener":
                ends.dialling.replace(with_crl(ends, ends.dialling, ends.listening))
            else:
                ends.listening.replace(with_crl(ends, ends.listening, ends.dialling))
            async with asyncio.timeout(1):
                await near.wait_closed()
                await far.wait_closed()
            assert asyncio.get_running_loop().time() - started < 1
            assert "revoked" in near.close_reason
            assert "revoked" in far.close_reason
            with pytest.raises(HandshakeError):
                await ends.dial()

    run(scenario())


def test_only_the_revoked_peer_loses_its_link() -> None:
    async def scenario() -> None:
        async with linked() as (near, _, ends):
            other = ends.authority.holder("ca2")
            survivor = await ends.dial(identity=other)
            ends.listening.replace(with_crl(ends, ends.listening, ends.dialling))
            await near.wait_closed()
            assert await is_usable(survivor)

    run(scenario())


def test_a_peer_whose_authority_is_no_longer_trusted_loses_its_link() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            other = ThrowawayAuthority("New Management CA")
            ends.listening.replace(other.tls_identity("ra1"))
            async with asyncio.timeout(1):
                await near.wait_closed()
                await far.wait_closed()
            assert "no trusted issuer" in far.close_reason

    run(scenario())


def test_trust_can_move_to_a_new_authority_without_losing_a_link() -> None:
    """The rotation of a Management CA: trust both, renew everyone, trust only the new one."""

    async def scenario() -> None:
        async with linked() as (near, _, ends):
            old, new = ends.authority, ThrowawayAuthority("New Management CA")
            both = [old.certificate, new.certificate]
            ends.listening.replace(old.tls_identity("ra1", trust_anchors=both))
            ends.dialling.replace(old.tls_identity("ca1", trust_anchors=both))
            assert await is_usable(near)
            ends.listening.replace(new.tls_identity("ra1", trust_anchors=both))
            ends.dialling.replace(new.tls_identity("ca1", trust_anchors=both))
            renewed = await ends.dial()
            assert await is_usable(near)
            await near.drain(5)
            await until(lambda: ends.accepted[0].state is LinkState.CLOSED)
            ends.listening.replace(new.tls_identity("ra1"))
            ends.dialling.replace(new.tls_identity("ca1"))
            assert await is_usable(renewed)

    run(scenario())


def test_a_link_ends_when_the_peers_certificate_expires() -> None:
    async def scenario() -> None:
        clock = ManualClock(now=ThrowawayAuthority().clock.now())
        ends = Ends(
            listener_settings=NetSettings(wire=WireSettings(keep_alive_seconds=0.05)),
        )
        ends.listening.replace(ends.authority.tls_identity("ra1", clock=clock))
        async with linked(ends) as (_, far, _):
            clock.step(31 * 86_400)
            await until(lambda: far.state is LinkState.CLOSED)
            assert "expired" in far.close_reason

    run(scenario())


def test_a_closed_link_no_longer_listens_for_replacements() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            near.abort()
            await far.wait_closed()
            assert not ends.listening._subscribers
            assert not ends.dialling._subscribers

    run(scenario())
