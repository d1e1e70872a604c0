# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

ROLE = {
    "name": "ca1",
    "members": ["spiffe://t/node/ca1"],
    "rules": [{"resource": "/peer/incoming"}],
}
SIGNER = {"name": "issuing", "authority": "issuing"}


def test_check_run_check_run(run_module, admin_socket, backend):
    arguments = {"admin_socket": admin_socket, "peer_roles": [ROLE], "signers": [SIGNER]}
    foreseen = run_module("node", check_mode=True, **arguments)
    assert foreseen["changed"]
    assert not backend.objects["signers"]
    assert run_module("node", **arguments)["changed"]
    assert not run_module("node", check_mode=True, **arguments)["changed"]
    assert not run_module("node", **arguments)["changed"]


def test_defaults_are_filled_in_and_unset_fields_left_out(run_module, admin_socket, backend):
    run_module("node", admin_socket=admin_socket, signers=[SIGNER])
    assert backend.objects["signers"]["issuing"] == {
        "name": "issuing",
        "authority": "issuing",
        "crypto_token": "default",
        "key_kind": "ec-p256",
        "validity_seconds": 3600,
        "renew_before_seconds": 604800,
        "certificate_retrieval": False,
    }


def test_diff_shows_each_step_and_hides_hashes_of_tokens(run_module, admin_socket):
    requester = {"name": "deploy", "token_sha256": "ab" * 32}
    result = run_module(
        "node", admin_socket=admin_socket, peer_roles=[ROLE], requesters=[requester]
    )
    assert [entry["after_header"] for entry in result["diff"]] == [
        "peer_roles/ca1 (create)",
        "requesters/deploy (create)",
    ]
    assert "ab" * 32 not in str(result)


def test_purge_removes_the_unlisted_of_its_kinds_only(run_module, admin_socket, backend):
    old = {"name": "old", "authority": "old"}
    run_module("node", admin_socket=admin_socket, peer_roles=[ROLE], signers=[old])
    result = run_module("node", admin_socket=admin_socket, signers=[SIGNER], purge=["signers"])
    assert [(step["action"], step["name"]) for step in result["steps"]] == [
        ("create", "issuing"),
        ("delete", "old"),
    ]
    assert list(backend.objects["signers"]) == ["issuing"]
    assert list(backend.objects["peer_roles"]) == ["ca1"]


def test_purge_gives_nothing_back_to_a_node_that_is_isolated(run_module, admin_socket, backend):
    denies = {"name": "isolated-ra1", "members": ["spiffe://t/node/ra1"], "rules": []}
    run_module("node", admin_socket=admin_socket, peer_roles=[denies, {**ROLE, "name": "old"}])
    run_module("node", admin_socket=admin_socket, peer_roles=[ROLE], purge=["peer_roles"])
    assert sorted(backend.objects["peer_roles"]) == ["ca1", "isolated-ra1"]


def test_purge_is_idempotent(run_module, admin_socket):
    arguments = {"admin_socket": admin_socket, "signers": [SIGNER], "purge": ["signers"]}
    assert run_module("node", **arguments)["changed"]
    assert not run_module("node", **arguments)["changed"]


def test_authenticators_come_back_with_what_their_certification_needs(run_module, admin_socket):
    arguments = {"admin_socket": admin_socket, "authenticators": [{"name": "peer"}]}
    (asked,) = run_module("node", **arguments)["authenticators"]
    assert (asked["name"], asked["csr"], asked["needs_certificate"]) == (
        "peer",
        "CSR of peer",
        True,
    )
    certified = [{"name": "peer", "certificate": "PEM", "trust_anchors": ["CA"], "crls": ["L"]}]
    run_module("node", admin_socket=admin_socket, authenticators=certified)
    again = run_module("node", **arguments)
    assert not again["changed"]
    assert not again["authenticators"][0]["needs_certificate"]


def test_refusal_names_field_and_remedy(run_module, admin_socket, backend):
    result = run_module(
        "node", admin_socket=admin_socket, signers=[SIGNER, {"name": "refused", "authority": "x"}]
    )
    assert result["failed"]
    assert result["msg"] == "node: can't be [field: signers.name]. Choose another"
    assert result["status"] == 422
    assert not backend.objects["signers"]


def test_missing_field_of_a_listed_object_is_refused_before_the_agent_is_asked(
    run_module, admin_socket, backend
):
    result = run_module("node", admin_socket=admin_socket, signers=[{"name": "issuing"}])
    assert result["failed"]
    assert "authority" in result["msg"]
    assert backend.asked == []


def test_check_mode_without_an_agent_foresees_a_new_node(run_module, tmp_path):
    missing = str(tmp_path / "admin.sock")
    result = run_module(
        "node", check_mode=True, admin_socket=missing, authenticators=[{"name": "peer"}]
    )
    assert result["changed"]
    assert result["authenticators"][0]["csr"] is None


def test_run_without_an_agent_fails_with_the_socket(run_module, tmp_path):
    missing = str(tmp_path / "admin.sock")
    result = run_module("node", admin_socket=missing, start_timeout_seconds=0)
    assert result["failed"]
    assert missing in result["msg"]
