# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module of one object: check, run, check again, run again, remove, remove again."""

from __future__ import annotations

import pytest

OBJECTS = {
    "crypto_token": ("crypto_tokens", {"name": "offline", "activation": "on_demand"}),
    "certification_authority": (
        "certification_authorities",
        {"name": "issuing", "kind": "issuing", "issuer": "root", "subject": "CN=Issuing"},
    ),
    "management_ca": ("certification_authorities", {"name": "management", "subject": "CN=M"}),
    "certificate_profile": ("certificate_profiles", {"name": "tls", "san": [{"kind": "dns"}]}),
    "peer_issuer": (
        "peer_issuers",
        {"name": "acme", "trust_domain": "acme.example", "trust_anchors": ["PEM"]},
    ),
    "peer_role": ("peer_roles", {"name": "ra1", "rules": [{"resource": "/ra/enroll"}]}),
    "peer_connector": (
        "peer_connectors",
        {"name": "ra1", "address": "ra1:7443", "peer": "spiffe://t/node/ra1"},
    ),
    "publisher": (
        "publishers",
        {"name": "va1", "peer": "spiffe://t/node/va1", "authorities": ["issuing"]},
    ),
    "signer": ("signers", {"name": "issuing", "authority": "issuing"}),
    "requester": ("requesters", {"name": "deploy", "token_sha256": "ab" * 32}),
    "authenticator": ("authenticators", {"name": "peer"}),
}


@pytest.mark.parametrize("module", OBJECTS)
def test_check_run_check_run_remove(module, run_module, admin_socket, backend):
    kind, fields = OBJECTS[module]
    arguments = {"admin_socket": admin_socket, **fields}
    stored = backend.objects[kind]
    assert run_module(module, check_mode=True, **arguments)["changed"]
    assert fields["name"] not in stored
    created = run_module(module, **arguments)
    assert created["changed"]
    assert created["object"]["spec"]["name"] == fields["name"]
    assert created["diff"][0]["before"] == {}
    assert not run_module(module, check_mode=True, **arguments)["changed"]
    assert not run_module(module, **arguments)["changed"]
    gone = {"admin_socket": admin_socket, "name": fields["name"], "state": "absent"}
    assert run_module(module, check_mode=True, **gone)["changed"]
    assert fields["name"] in stored
    assert run_module(module, **gone)["changed"]
    assert fields["name"] not in stored
    assert not run_module(module, **gone)["changed"]


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("certification_authority", "kind, subject"),
        ("peer_issuer", "trust_domain, trust_anchors"),
        ("peer_connector", "address, peer"),
        ("publisher", "peer, authorities"),
        ("signer", "authority"),
    ],
)
def test_what_an_object_needs_is_asked_for(module, missing, run_module, admin_socket):
    result = run_module(module, admin_socket=admin_socket, name="x")
    assert result["msg"] == f"state is present but all of the following are missing: {missing}"


@pytest.mark.parametrize("module", OBJECTS)
def test_check_mode_without_an_agent_foresees_creation(module, run_module, tmp_path):
    _kind, fields = OBJECTS[module]
    result = run_module(module, check_mode=True, admin_socket=str(tmp_path / "none"), **fields)
    assert result["changed"]


def test_management_ca_is_stored_as_one(run_module, admin_socket, backend):
    run_module("management_ca", admin_socket=admin_socket, name="management", subject="CN=M")
    assert backend.objects["certification_authorities"]["management"]["kind"] == "management"


def test_refusal_names_the_object(run_module, admin_socket):
    result = run_module("crypto_token", admin_socket=admin_socket, name="refused")
    assert result["msg"].startswith("crypto_tokens refused: can't be")


def test_installed_certificate_stays_when_none_is_given(run_module, admin_socket):
    installed = {"certificate": "PEM", "trust_anchors": ["CA"], "crls": ["CRL"]}
    run_module("authenticator", admin_socket=admin_socket, name="peer", **installed)
    result = run_module("authenticator", admin_socket=admin_socket, name="peer")
    assert not result["changed"]
    assert not result["needs_certificate"]
    assert result["certificate"] == {"serial": "2a"}
