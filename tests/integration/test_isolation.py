"""A taken-over RA is taken out of a running PKI by one command on the CA's node."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.openssl import make_csr
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.node_process import Agent

pytestmark = pytest.mark.timeout(120)


def peersys(agent: Agent, *arguments: str) -> tuple[int, Any]:
    """Run a command on ``agent``'s node; return exit status and its JSON document."""
    socket = str(agent.admin.socket_path)
    command = [sys.executable, "-m", "node_agent", "--socket", socket, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def incoming(topology: Topology) -> int:
    """Return how many links the CA has with its RA."""
    peers = topology.ca.admin.get("/v1/peers")
    return sum(p["connections"] for p in peers if p["peer"] == topology.ra.identity)


def test_one_command_takes_a_node_out_and_tells_what_it_did(tmp_path: Path) -> None:
    nodes = Topology(tmp_path / "nodes")
    nodes.ra.module = "tests.support.short_patience"
    with nodes as topology:
        ca, ra = topology.ca, topology.ra
        status, issued = topology.rest().enroll(make_csr(tmp_path, "before.example.org"))
        assert status == 201, issued

        status, plan = peersys(ca, "peer", "isolate", "ra1", "--dry-run")
        assert status == 0
        assert incoming(topology) > 0
        (certificate,) = plan["certificates"]
        assert certificate["authority"] == "management"
        serial = certificate["serial"]
        assert ca.admin.get(f"/v1/certificates/management/{serial}")["status"] == "good"

        status, done = peersys(ca, "peer", "isolate", "ra1", "--since", "1h")
        assert (status, done["links_closed"]) == (0, True)
        assert incoming(topology) == 0
        assert done["publishers"] == ["ra1-management"]
        assert [spec["name"] for spec in done["connectors"]] == ["ra1"]
        enrolments = [e for e in done["asked"] if e["action"] == "ra.enroll"]
        assert [e["detail"]["serial"] for e in enrolments] == [issued["serial"]]
        found = ca.admin.get(f"/v1/certificates/management/{serial}")
        assert (found["status"], found["reason"]) == ("revoked", "keyCompromise")
        assert "ra1-management" not in {
            view["spec"]["name"] for view in ca.admin.get("/v1/objects/publishers")
        }

        # The VA learns of the revocation; the CA denies whatever role it is put back into.
        roles = ca.admin.get("/v1/objects/peer_roles/registration")["spec"]
        ca.admin.put("/v1/objects/peer_roles/registration", roles)
        ca.admin.put(
            "/v1/objects/peer_connectors/ra1",
            {**done["connectors"][0], "enabled": True},
        )
        status, answer = topology.rest().enroll(make_csr(tmp_path, "after.example.org"))
        assert status in (503, 504), answer
        assert not ca.admin.get("/v1/certificates?authority=issuing&name=after.example.org")
        status, again = peersys(ca, "peer", "isolate", ra.identity)
        assert (status, again["certificates"]) == (0, [])


def test_a_node_cannot_isolate_itself_and_a_renewed_key_does_not_help(tmp_path: Path) -> None:
    with Topology(tmp_path / "nodes") as topology:
        command = [sys.executable, "-m", "node_agent", "--socket"]
        done = subprocess.run(
            [*command, str(topology.ca.admin.socket_path), "peer", "isolate", "ca1"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert "is this node" in done.stderr
        assert peersys(topology.ca, "peer", "isolate", "va1")[0] == 0
        topology.va.stop()
        # Somebody certifies the name again: the role is by name, and still denies it.
        holder = certified_holder(topology.ca, topology.va.identity)
        connector = topology.ca.admin.get("/v1/objects/peer_connectors/va1")["spec"]
        with HostileNode(holder, listen=topology.va.listen["peer"]):
            topology.ca.admin.put("/v1/objects/peer_connectors/va1", {**connector, "enabled": True})
            wait_until(
                lambda: [
                    entry
                    for entry in topology.ca.admin.get("/v1/audit?last=true&denied=true&peer=va1")
                    if entry["action"] == "peer.link"
                ],
                timeout_seconds=10,
                what="the CA refused the link, and wrote it down",
            )
