# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that only ask, and the one that certifies."""

from __future__ import annotations


def peer(name, state="up", **more):
    return {"peer": f"spiffe://t/node/{name}", "state": state, "last_error": None, **more}


def test_peers_are_selected_by_name_or_identity(run_module, admin_socket, backend):
    backend.peers = [peer("ra1"), peer("va1"), peer("va2")]
    result = run_module(
        "peer_info", admin_socket=admin_socket, peers=["ra1", "spiffe://t/node/va2"]
    )
    assert [one["peer"] for one in result["peers"]] == [
        "spiffe://t/node/ra1",
        "spiffe://t/node/va2",
    ]


def test_pings_are_returned_for_each_link(run_module, admin_socket, backend):
    backend.peers = [peer("ra1")]
    backend.pings = {"ra1": [0.5, 0.7]}
    result = run_module("peer_info", admin_socket=admin_socket, wait_for="up", ping=True)
    assert result["pings"] == {"ra1": [0.5, 0.7]}
    assert not result["changed"]


def test_waiting_in_vain_names_each_lost_peer_and_why(run_module, admin_socket, backend):
    backend.peers = [peer("ra1", "connecting", last_error="certificate revoked"), peer("va1")]
    result = run_module(
        "peer_info",
        admin_socket=admin_socket,
        peers=["ra1", "va1", "va2"],
        wait_for="up",
        wait_seconds=0.2,
    )
    assert result["failed"]
    assert "n has no link with ra1: certificate revoked" in result["msg"]
    assert "no link with va2: it never connected" in result["msg"]
    assert "va1" not in result["msg"]


def test_failed_ping_names_the_peer(run_module, admin_socket, backend):
    backend.peers = [peer("ra1")]
    result = run_module("peer_info", admin_socket=admin_socket, ping=True)
    assert result["failed"]
    assert "ping from n to ra1" in result["msg"]


def test_node_info_waits_until_healthy(run_module, admin_socket, backend):
    backend.health = ["degraded", "degraded", "ok"]
    result = run_module("node_info", admin_socket=admin_socket, wait_for="ok")
    assert result["status"]["health"] == "ok"
    assert result["identity"] == "spiffe://t/node/n"


def test_node_info_hides_hashes_of_tokens(run_module, admin_socket, backend):
    backend.objects["requesters"]["deploy"] = {"name": "deploy", "token_sha256": "ab" * 32}
    result = run_module("node_info", admin_socket=admin_socket)
    (requester,) = result["objects"]["requesters"]
    assert requester["spec"] == {"name": "deploy", "token_sha256": "(hidden)"}


def test_unhealthy_node_fails_with_its_own_reasons(run_module, admin_socket, backend):
    backend.health = ["degraded"]
    result = run_module("node_info", admin_socket=admin_socket, wait_for="ok", wait_seconds=0.1)
    assert result["failed"]
    assert "the node is degraded: link ra1 is down" in result["msg"]


def test_management_certificate_hands_on_what_was_issued(run_module, admin_socket):
    arguments = {"csr": "-----BEGIN", "identity": "spiffe://t/node/ra1"}
    result = run_module("management_certificate", admin_socket=admin_socket, **arguments)
    assert result["changed"]
    assert result["trust_anchors"] == ["CA"]
    foreseen = run_module(
        "management_certificate", admin_socket=admin_socket, check_mode=True, **arguments
    )
    assert not foreseen["changed"]


def test_management_certificate_refusal_names_the_node(run_module, admin_socket):
    result = run_module(
        "management_certificate", admin_socket=admin_socket, csr="x", identity="spiffe://t/node/ra1"
    )
    assert "management certificate for spiffe://t/node/ra1: is no CSR [field: csr]" in result["msg"]
