"""A CRL of 150,000 entries: made at a real CA, streamed to a real VA, served in parts, and no node
holds it whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import urllib.request
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from node_agent.store import open_store
from tests.support.many_certificates import put_certificates
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.agents import Agent, Topology

    Start = Callable[..., AbstractContextManager[Topology]]

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

ENTRIES = 150_000
# Both nodes grow by what they do otherwise, too; a copy of the list would be 7 MiB each time.
GROWTH_KIB = 48 * 1024


def fill(agent: Agent, authority_id: str, entries: int = ENTRIES) -> None:
    """Put revoked certificates into the store of an agent that is stopped."""

    async def main() -> None:
        async with open_store(f"sqlite:///{agent.directory / 'state' / 'store.sqlite3'}") as store:
            await put_certificates(store, authority_id, entries)

    asyncio.run(main())


def peak_kib(agent: Agent) -> int:
    """Return the most memory that the agent ever held."""
    with open(f"/proc/{agent.running.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def revoke_one(topology: Topology) -> None:
    """Revoke some certificate, which makes the CA make a new list."""
    issued = topology.ca.admin.get("/v1/certificates?authority=issuing&limit=1000")
    serial = next(item["serial"] for item in issued if item["status"] == "good")
    topology.ca.admin.post(
        f"/v1/certificates/issuing/{serial}/revocation", {"reason": "superseded"}
    )


def get(topology: Topology, **headers: str) -> tuple[int, dict[str, str], bytes]:
    url = f"http://{topology.va.listen['status']}/crl/issuing.crl"
    request = urllib.request.Request(url, headers=headers)
    with contextlib.closing(urllib.request.urlopen(request, timeout=30)) as answer:
        return answer.status, dict(answer.headers), answer.read()


def octets_at_va(topology: Topology) -> int:
    head = urllib.request.Request(
        f"http://{topology.va.listen['status']}/crl/issuing.crl", method="HEAD"
    )
    with contextlib.closing(urllib.request.urlopen(head, timeout=30)) as answer:
        return int(answer.headers["Content-Length"])


def pieces_at_va(topology: Topology) -> int:
    path = topology.va.directory / "state" / "store.sqlite3"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM crl_chunks").fetchone()[0])


def test_a_long_crl_reaches_the_va_and_its_clients(own_topology: Start) -> None:
    with own_topology() as topology:
        path = "/v1/objects/certification_authorities/issuing"
        state = topology.ca.admin.get(path)["state"]
        topology.ca.stop()
        fill(topology.ca, state["authority_id"])
        topology.start_agent(topology.ca)
        topology.wait_healthy()
        before = {agent.name: peak_kib(agent) for agent in (topology.ca, topology.va)}

        revoke_one(topology)
        wait_until(lambda: pieces_at_va(topology) >= 4, timeout_seconds=90, what="pieces come")
        topology.va.kill()
        topology.start_agent(topology.va)
        wait_until(
            lambda: octets_at_va(topology) > 4 * 1024 * 1024,
            timeout_seconds=90,
            what="the VA serves the long list",
        )

        status, headers, whole = get(topology)
        crl = x509.load_der_x509_crl(whole)
        assert (status, len(crl)) == (200, ENTRIES + 1)
        issuer = x509.load_pem_x509_certificate(state["certificate"].encode())
        assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        status, part, some = get(topology, Range="bytes=4000000-4999999")
        assert (status, some) == (206, whole[4_000_000:5_000_000])
        assert (part["ETag"], part["Last-Modified"]) == (headers["ETag"], headers["Last-Modified"])

        wait_until(
            lambda: (
                topology.ca.admin.get("/v1/objects/publishers/va1")["state"]["lag_entries"] == 0
            ),
            timeout_seconds=30,
            what="the publisher has caught up",
        )
        assert peak_kib(topology.ca) - before["ca1"] < GROWTH_KIB
        assert peak_kib(topology.va) - before["va1"] < GROWTH_KIB


def is_up(agent: Agent, other: Agent) -> bool:
    peers = agent.admin.get("/v1/peers")
    return any(peer["peer"] == other.identity and peer["state"] == "up" for peer in peers)


def test_a_long_crl_of_the_management_ca_ends_links(own_topology: Start) -> None:
    """The list that the links themselves are checked against may be a long one, too."""
    with own_topology() as topology:
        path = "/v1/objects/certification_authorities/management"
        identifier = topology.ca.admin.get(path)["state"]["authority_id"]
        topology.ca.stop()
        fill(topology.ca, identifier, entries=10_000)
        topology.start_agent(topology.ca)
        topology.wait_healthy()
        assert is_up(topology.ca, topology.ra)
        issued = topology.ca.admin.get("/v1/certificates?authority=management&limit=1000")
        serial = next(
            item["serial"]
            for item in issued
            if item["status"] == "good" and topology.ra.identity in item["names"]
        )
        topology.ca.admin.post(
            f"/v1/certificates/management/{serial}/revocation", {"reason": "keyCompromise"}
        )
        wait_until(
            lambda: not is_up(topology.ca, topology.ra),
            timeout_seconds=10,
            what="the CA dropped the revoked node",
        )
        assert is_up(topology.ca, topology.va)
