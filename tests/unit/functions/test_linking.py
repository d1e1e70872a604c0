"""Links follow their connectors and the certificate that they show, without losing a request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.clock import SystemClock
from node_agent.config import NodeSettings
from node_agent.functions.identities import Identities
from node_agent.functions.linking import Linking
from node_agent.peers.operations import ENROLL, CertificateAnswer, EnrollRequest
from tests.support.event_loop import run
from tests.support.own_authority import NODE, OwnAuthority, own_authority
from tests.support.peer_nodes import Meadow, PeerNode, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from node_agent.peers.context import Context
    from node_agent.store.records import AuditRecord

RIGHTS = ("/peer/incoming", "/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest")
ENROLMENT = EnrollRequest(authority="issuing", profile="server", csr=b"csr")


@dataclass
class Scene:
    """A CA with a connector to an RA. ``gate`` holds up the CA's answers, ``arrived`` counts."""

    own: OwnAuthority
    meadow: Meadow
    ra: PeerNode
    identities: Identities
    linking: Linking
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0

    async def certify(self, name: str = "peer") -> None:
        """Certify an authenticator, again if it is already, and have it followed."""
        await self.own.apply(authenticators=[{"name": name}])
        key = self.own.tokens.own("default").private_key(f"authenticator-{name}")
        authority = self.meadow.authority
        _, certificate = authority.authenticator(NODE.name, key=key)  # type: ignore[arg-type]
        pem = [
            item.public_bytes(Encoding.PEM).decode()
            for item in (certificate, authority.root.certificate)
        ]
        await self.own.apply(
            authenticators=[{"name": name, "certificate": pem[0], "trust_anchors": [pem[1]]}]
        )
        self.identities.configure(self.own.objects)
        await self.linking.configure()

    async def connect(self, **fields: Any) -> None:
        """Write the connector and have it followed."""
        connector = {
            "name": "ra1",
            "address": str(await self.meadow.address_of(self.ra)),
            "peer": self.ra.node.uri,
            "min_connections": 2,
            **fields,
        }
        await self.own.apply(peer_connectors=[connector])
        await self.linking.configure()

    def shown(self) -> set[int]:
        """Return the serial numbers of the certificates that the RA is shown."""
        return {link.peer.serial for link in self.ra.directory.links(NODE)}

    def in_force(self, name: str = "peer") -> set[int]:
        holder = self.identities.holder(name)
        assert holder is not None
        return {holder.current.certificate.serial_number}

    async def enroll(self, context: Context, request: EnrollRequest) -> CertificateAnswer:
        self.arrived += 1
        await self.gate.wait()
        return CertificateAnswer(chain=(request.csr,))

    def ask(self) -> asyncio.Task[CertificateAnswer]:
        return asyncio.create_task(
            self.ra.caller.call(ENROLL, ENROLMENT, peers=[NODE], timeout_seconds=10)
        )


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    async def audit(record: AuditRecord) -> None:
        pass

    async with Meadow() as meadow, own_authority(directory) as own:
        # OpenSSL goes by the time of the machine.
        own.clock.step(SystemClock().now() - own.clock.now())
        ra = meadow.node("ra1", {NODE.name: ["/peer/incoming", "/peer/upstream", "/ca/issuing"]})
        rules = [{"resource": resource} for resource in RIGHTS]
        await own.apply(peer_roles=[{"name": "ra1", "members": [ra.node.uri], "rules": rules}])
        identities = Identities(NODE, own.tokens, SystemClock())
        linking = Linking(
            settings=NodeSettings(
                identity=NODE,
                state_directory=directory,
                runtime_directory=directory,
                store_url="",
                passphrase_path=None,
                peer_address=None,
                rest_address=None,
                status_address=None,
                admin_group=None,
                workers=1,
                log_level="info",
            ),
            objects=own.objects,
            identities=identities,
            audit=audit,
            on_link=lambda: None,
            route=lambda audience: [],
            clock=SystemClock(),
        )
        here = Scene(own, meadow, ra, identities, linking)
        linking.register(ENROLL, here.enroll)
        try:
            await here.certify()
            await here.connect()
            await until(lambda: len(ra.directory.links(NODE)) == 2)
            yield here
        finally:
            await linking.close()


def test_a_renewed_certificate_takes_hold_at_once_and_no_request_is_lost(tmp_path: Path) -> None:
    async def renewed() -> None:
        async with scene(tmp_path) as here:
            old = here.in_force()
            assert here.shown() == old
            under_way = [here.ask() for _ in range(4)]
            await until(lambda: here.arrived == 4)
            await here.certify()
            assert here.in_force() != old
            await until(lambda: len(here.shown() - old) == 1)
            later = [here.ask() for _ in range(4)]
            await until(lambda: here.arrived == 8)
            here.gate.set()
            for answer in await asyncio.gather(*under_way, *later):
                assert answer.chain == (b"csr",)
            await until(lambda: here.shown() == here.in_force())

    run(renewed())


def test_what_did_not_change_replaces_no_link(tmp_path: Path) -> None:
    async def unchanged() -> None:
        async with scene(tmp_path) as here:
            links = set(here.ra.directory.links(NODE))
            await here.linking.configure()
            await here.connect(max_parallel_requests=40)
            here.gate.set()
            await here.ask()
            assert set(here.ra.directory.links(NODE)) == links

    run(unchanged())


def test_a_connector_with_another_authenticator_shows_that(tmp_path: Path) -> None:
    async def other() -> None:
        async with scene(tmp_path) as here:
            await here.certify("second")
            before = here.shown()
            assert before == here.in_force() != here.in_force("second")
            await here.connect(authenticator="second")
            await until(lambda: not here.shown() & before)
            assert here.shown() == here.in_force("second")

    run(other())
