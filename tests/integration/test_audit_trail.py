"""The audit log of a real agent: who knocks without a certificate, and what is exported."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

KNOCKS = 60


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    # Without a journal on this machine the nodes are as healthy: nothing waits for it.
    with Topology(tmp_path_factory.mktemp("audit"), settings={"audit_journal": True}) as found:
        yield found


def knock(address: str) -> None:
    """Begin TLS without a certificate, and leave when it is refused."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["peersys/1"])
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as tls:
                tls.recv(1)
        except OSError:
            return


def test_who_knocks_without_a_certificate_is_audited_and_cannot_fill_the_log(
    topology: Topology,
) -> None:
    ra = topology.ra

    def handshakes() -> list[dict[str, Any]]:
        entries = ra.admin.get("/v1/audit?last=true&limit=1000")
        return [entry for entry in entries if entry["action"] == "peer.handshake"]

    for _ in range(KNOCKS):
        knock(ra.listen["peer"])
    wait_until(handshakes, what="the first is in the audit log")
    assert len(handshakes()) == 1
    (entry,) = handshakes()
    assert not entry["allowed"]
    assert entry["detail"] == {"source": "127.0.0.1", "direction": "in"}
    ra.stop()
    topology.start_agent(ra)
    topology.wait_healthy()
    times = [int(entry["detail"].get("times", 1)) for entry in handshakes()]
    assert sum(times) == KNOCKS
