"""Who gets a link, who doesn't, and what a failed dial leaves behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.config import Address
from node_agent.errors import ConnectError, ConnectTimeout, HandshakeError
from node_agent.net import IdentityHolder, NetSettings, TlsNetwork
from node_agent.wire import WireSettings
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, Ends, answer_at_once, until
from tests.support.network import Relay
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

QUICK = NetSettings(
    connect_timeout_seconds=0.3,
    handshake_timeout_seconds=0.3,
    wire=WireSettings(hello_timeout_seconds=0.3),
)


def open_sockets() -> int:
    gc.collect()
    links = [os.readlink(f"/proc/self/fd/{name.name}") for name in descriptors()]
    return sum(link.startswith("socket:") for link in links)


def descriptors() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


async def refused(ends: Ends, identity: IdentityHolder | None = None) -> str:
    """Dial, and return why it failed. Nothing may be left of the attempt."""
    await ends.listen()
    try:
        with pytest.raises(HandshakeError) as caught:
            await ends.dial(identity=identity)
        assert ends.accepted == []
        return str(caught.value)
    finally:
        await ends.close()


def test_a_revoked_dialler_is_refused_and_told_so() -> None:
    async def scenario() -> None:
        ends = Ends()
        crl = ends.authority.crl([ends.dialling.current.certificate])
        ends.listening.replace(ends.authority.tls_identity("ra1", crls=[crl]))
        assert "is revoked" in await refused(ends)

    run(scenario())


def test_a_revoked_listener_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        crl = ends.authority.crl([ends.listening.current.certificate])
        ends.dialling.replace(ends.authority.tls_identity("ca1", crls=[crl]))
        assert "is revoked" in await refused(ends)

    run(scenario())


def test_an_expired_dialler_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        expired = ends.authority.holder("ca1", not_before_seconds=-100, not_after_seconds=-10)
        assert await refused(ends, expired)

    run(scenario())


def test_a_dialler_of_a_foreign_authority_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        foreign = ThrowawayAuthority("Foreign CA")
        identity = foreign.holder("ca1", trust_anchors=[ends.authority.certificate])
        assert await refused(ends, identity)

    run(scenario())


def test_a_foreign_authority_of_the_same_name_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        impostor = ThrowawayAuthority()
        identity = impostor.holder("ca1", trust_anchors=[ends.authority.certificate])
        assert await refused(ends, identity)

    run(scenario())


def test_a_listener_of_a_foreign_authority_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        foreign = ThrowawayAuthority("Foreign CA")
        identity = ends.authority.holder("ca1", trust_anchors=[foreign.certificate])
        assert "certificate" in (await refused(ends, identity)).lower()

    run(scenario())


def test_another_node_than_the_dialled_one_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        try:
            with pytest.raises(HandshakeError, match="other was dialled"):
                await ends.network.dial(
                    ends.address,
                    identity=ends.dialling,
                    expected=ends.authority.holder("other").node,
                    handler=answer_at_once,
                    settings=NetSettings(),
                )
            assert ends.accepted == []
        finally:
            await ends.close()

    run(scenario())


def test_a_certificate_without_client_usage_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        server_only = [ExtendedKeyUsageOID.SERVER_AUTH]
        identity = ends.authority.holder("ca1", extended_key_usage=server_only)
        assert await refused(ends, identity)

    run(scenario())


def without_alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols([])


def other_alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["http/1.1"])


def tls_1_2(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("spoil", [without_alpn, other_alpn, tls_1_2])
def test_a_dialler_with_the_wrong_protocol_is_refused(
    spoil: Callable[[ssl.SSLContext], None],
) -> None:
    async def scenario() -> None:
        ends = Ends()
        spoil(ends.dialling.current.client_context)
        assert await refused(ends)

    run(scenario())


@pytest.mark.parametrize("spoil", [without_alpn, other_alpn, tls_1_2])
def test_a_listener_with_the_wrong_protocol_is_refused(
    spoil: Callable[[ssl.SSLContext], None],
) -> None:
    async def scenario() -> None:
        ends = Ends()
        spoil(ends.listening.current.server_context)
        assert await refused(ends)

    run(scenario())


def test_a_dialler_without_a_certificate_is_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["peersys/1"])
        try:
            reader, writer = await asyncio.open_connection(
                ends.address.host, ends.address.port, ssl=context, server_hostname=""
            )
            said = b""
            with suppress(OSError):  # an alert, a reset or just the end: it depends on timing
                said = await reader.read()
            assert said == b"", "not even Hello"
            writer.close()
            assert ends.accepted == []
        finally:
            await ends.close()

    run(scenario())


def test_nobody_listening_is_a_connect_error() -> None:
    async def scenario() -> None:
        ends = Ends()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectError):
                await ends.dial(Address(*unused.getsockname()))

    run(scenario())


def test_a_name_that_does_not_exist_is_a_connect_error() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectError, match="can't be resolved"):
            await Ends().dial(Address("does-not-exist.invalid", 7443))

    run(scenario())


def test_a_port_that_is_taken_is_a_connect_error() -> None:
    async def scenario() -> None:
        ends = Ends()
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConnectError):
            await ends.network.listen(
                Address(*taken.getsockname()),
                identity=ends.listening,
                on_link=ends.accepted.append,
                handler=answer_at_once,
                settings=NetSettings(),
            )

    run(scenario())


def test_a_listener_that_never_answers_is_a_connect_timeout() -> None:
    async def scenario() -> None:
        ends = Ends(dialler_settings=QUICK)
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectTimeout):
            await ends.dial(Address(*silent.getsockname()))

    run(scenario())


def test_a_listener_that_never_says_hello_is_given_up() -> None:
    async def scenario() -> None:
        ends = Ends(dialler_settings=QUICK)
        accepted: list[asyncio.StreamWriter] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            await reader.read()
            writer.close()

        context = ends.listening.current.server_context
        server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
        try:
            with pytest.raises((ConnectTimeout, HandshakeError)):
                await ends.dial(Address(*server.sockets[0].getsockname()))
            assert accepted, "TLS got through"
        finally:
            server.close()
            await until(lambda: all(writer.is_closing() for writer in accepted))

    run(scenario())


def test_a_dialler_that_never_says_hello_is_given_up() -> None:
    async def scenario() -> None:
        ends = Ends(listener_settings=QUICK)
        await ends.listen()
        try:
            reader, writer = await asyncio.open_connection(
                ends.address.host,
                ends.address.port,
                ssl=ends.dialling.current.client_context,
                server_hostname="",
            )
            said = await asyncio.wait_for(reader.read(), 5)
            assert b"hello timeout" in said
            assert ends.accepted == []
            writer.close()
        finally:
            await ends.close()

    run(scenario())


def test_strangers_who_never_start_tls_do_not_lock_peers_out() -> None:
    async def scenario() -> None:
        settings = NetSettings(max_pending_handshakes=3, handshake_timeout_seconds=1.0)
        ends = Ends(listener_settings=settings)
        await ends.listen()
        strangers = [socket.create_connection((ends.address.host, ends.address.port))]
        strangers += [
            socket.create_connection((ends.address.host, ends.address.port)) for _ in range(5)
        ]
        try:
            link = await ends.dial()
            answer = await link.call("x", b"hi", request_id=REQUEST_ID, timeout_seconds=5)
            assert answer.payload == b"hi"
        finally:
            for stranger in strangers:
                stranger.close()
            await ends.close()

    run(scenario())


def test_running_out_of_descriptors_pauses_accepting_and_nothing_else() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        link = await ends.dial()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as waiting:
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(descriptors()), hard))
            try:
                waiting.connect((ends.address.host, ends.address.port))
                await asyncio.sleep(0.01)
                answer = await link.call("x", b"hi", request_id=REQUEST_ID, timeout_seconds=5)
                assert answer.payload == b"hi"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await ends.dial()
        await ends.close()

    run(scenario())


def test_links_of_one_peer_are_bounded() -> None:
    async def scenario() -> None:
        ends = Ends(listener_settings=NetSettings(max_links_per_peer=2))
        await ends.listen()
        try:
            first = await ends.dial()
            await ends.dial()
            with pytest.raises(HandshakeError, match="has 2 links already"):
                await ends.dial()
            first.abort()
            await until(lambda: ends.accepted[0].close_reason)
            await ends.dial()
        finally:
            await ends.close()

    run(scenario())


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is resolved at each dial, and a dead first address doesn't hide a living second."""

    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        loop = asyncio.get_running_loop()
        asked: list[str] = []
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            dead = unused.getsockname()
            alive = (ends.address.host, ends.address.port)

            async def resolve(host: str, port: int, **_: Any) -> list[Any]:
                asked.append(host)
                return [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", sockaddr)
                    for sockaddr in (dead, alive)
                ]

            real = loop.getaddrinfo

            async def resolve_names(host: Any, port: Any, **options: Any) -> Any:
                if host == "ra.test.example":
                    return await resolve(host, port)
                return await real(host, port, **options)

            monkeypatch.setattr(loop, "getaddrinfo", resolve_names)
            try:
                await ends.dial(Address("ra.test.example", 7443))
                await ends.dial(Address("ra.test.example", 7443))
                assert asked == ["ra.test.example"] * 2
            finally:
                await ends.close()

    run(scenario())


@pytest.mark.parametrize("after_seconds", [0.0, 0.001, 0.004, 0.01, 0.03])
def test_cancelling_a_dial_leaves_nothing_behind(after_seconds: float) -> None:
    """Teleport #10368: leases that leak when a dial fails or is given up."""

    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        try:
            before = open_sockets()
            for _ in range(5):
                dialling = asyncio.ensure_future(ends.dial())
                await asyncio.sleep(after_seconds)
                dialling.cancel()
                await asyncio.gather(dialling, return_exceptions=True)
            for link in ends.dialled:
                link.abort()
            await until(lambda: all(link.close_reason for link in ends.accepted))
            await until(lambda: open_sockets() <= before)
            assert all(link.close_reason for link in ends.dialled)
        finally:
            await ends.close()

    run(scenario())


@pytest.mark.parametrize("kind", ["refused", "reset", "silent", "foreign"])
def test_a_hundred_failed_dials_leave_nothing_behind(kind: str) -> None:
    async def scenario() -> None:
        ends = Ends(dialler_settings=NetSettings(connect_timeout_seconds=0.05))
        await ends.listen()
        if kind == "foreign":
            ends.dialling = ThrowawayAuthority("Foreign").holder("ca1")
            ends.dialler_settings = NetSettings()
        async with target_of(kind, ends) as address:
            before = open_sockets()
            for _ in range(100 if kind != "silent" else 10):
                with pytest.raises((ConnectError, ConnectTimeout, HandshakeError)):
                    await ends.dial(address)
            await until(lambda: open_sockets() <= before + 1)
        await ends.close()

    run(scenario(), timeout_seconds=50)


def target_of(kind: str, ends: Ends) -> Any:
    @asynccontextmanager
    async def open_target() -> AsyncIterator[Address]:
        if kind == "foreign":
            yield ends.address
            return
        if kind == "silent":
            with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
                yield Address(*silent.getsockname())
            return
        async with Relay(ends.address) as relay:
            relay.refuses = True
            yield relay.address if kind == "reset" else Address("127.0.0.1", 1)

    return open_target()


def test_closing_a_listener_breaks_off_handshakes_and_keeps_links() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        link = await ends.dial()
        with socket.create_connection((ends.address.host, ends.address.port)):
            await asyncio.sleep(0)
            assert ends.listener is not None
            await ends.listener.close()
            ends.listener = None
        answer = await link.call("x", b"still here", request_id=REQUEST_ID, timeout_seconds=5)
        assert answer.payload == b"still here"
        await ends.close()

    run(scenario())


def test_the_network_needs_no_event_loop_of_its_own() -> None:
    assert TlsNetwork().__dict__ == {}
