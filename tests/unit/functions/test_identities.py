"""Authenticators in force: what of them can be used, and by which CRLs peers are checked."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import HandshakeError
from node_agent.functions.identities import Identities
from tests.support.event_loop import run
from tests.support.own_authority import NODE, OwnAuthority, own_authority
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY = 86400
PARTIAL = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)


def pem(item: x509.Certificate | x509.CertificateRevocationList) -> str:
    return item.public_bytes(Encoding.PEM).decode()


@dataclass
class Node:
    """A node with certified authenticators, and the Management CA of it and its peers."""

    own: OwnAuthority
    management: ThrowawayAuthority
    identities: Identities

    async def certify(self, name: str = "peer", **fields: Any) -> None:
        """Create an authenticator, certify it, put it in force."""
        await self.own.apply(authenticators=[{"name": name}])
        key = self.own.tokens.own("default").private_key(f"authenticator-{name}")
        _, certificate = self.management.authenticator(NODE.name, NODE.trust_domain, key=key)  # type: ignore[arg-type]
        spec = {
            "name": name,
            "certificate": pem(certificate),
            "trust_anchors": [pem(self.management.certificate)],
            **fields,
        }
        await self.own.apply(authenticators=[spec])
        self.identities.configure(self.own.objects)

    def check_peer(self) -> None:
        """Validate a peer's certificate."""
        _, certificate = self.management.authenticator("ra1", NODE.trust_domain)
        holder = self.identities.holder("peer")
        assert holder is not None
        holder.verify_peer([certificate.public_bytes(Encoding.DER)])


@asynccontextmanager
async def node(directory: Path) -> AsyncIterator[Node]:
    async with own_authority(directory) as own:
        yield Node(
            own, ThrowawayAuthority(clock=own.clock), Identities(NODE, own.tokens, own.clock)
        )


def test_an_overdue_crl_is_told_and_goes_on_revoking(tmp_path: Path) -> None:
    async def told() -> None:
        async with node(tmp_path) as here:
            await here.certify(crls=[pem(here.management.crl())])
            assert list(here.identities.overdue()) == []
            here.own.clock.advance(8 * DAY)
            (overdue,) = here.identities.overdue()
            assert overdue.startswith("authenticators.peer: a CRL in force should have been")
            here.check_peer()

    run(told())


def test_who_requires_a_current_crl_trusts_nobody_by_an_overdue_one(tmp_path: Path) -> None:
    async def required() -> None:
        async with node(tmp_path) as here:
            await here.certify(crls=[pem(here.management.crl())], require_current_crl=True)
            here.check_peer()
            here.own.clock.advance(8 * DAY)
            with pytest.raises(HandshakeError, match="out of date"):
                here.check_peer()
            here.identities.learn_crl(
                here.management.crl(number=2).public_bytes(Encoding.DER), here.own.objects
            )
            here.check_peer()

    run(required())


def test_a_crl_of_some_certificates_takes_the_place_of_none(tmp_path: Path) -> None:
    async def learned() -> None:
        async with node(tmp_path) as here:
            await here.certify()
            partial = here.management.crl(number=9, extra_extensions=[(PARTIAL, True)])
            here.identities.learn_crl(partial.public_bytes(Encoding.DER), here.own.objects)
            whole = here.management.crl(number=2)
            here.identities.learn_crl(whole.public_bytes(Encoding.DER), here.own.objects)
            holder = here.identities.first
            assert holder is not None
            assert holder.current.crls == (whole,)
            assert here.identities.faults == {}

    run(learned())
