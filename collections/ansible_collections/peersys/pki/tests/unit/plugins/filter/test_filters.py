# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.peersys.pki.plugins.filter.certified_authenticator import (
    certified_authenticator,
)
from ansible_collections.peersys.pki.plugins.filter.isolation_table import isolation_table
from ansible_collections.peersys.pki.plugins.filter.missing_secrets import missing_secrets
from ansible_collections.peersys.pki.plugins.filter.verification_table import verification_table

REQUEST = {"name": "peer", "csr": "CSR", "spec": {"name": "peer", "purpose": "peer"}}


def certified(**answer):
    return certified_authenticator({"ansible_loop_var": "item", "item": REQUEST, **answer})


def test_certificate_anchors_and_crl_join_the_authenticator():
    assert certified(certificate="PEM", trust_anchors=["CA"], crl="CRL") == {
        "name": "peer",
        "purpose": "peer",
        "certificate": "PEM",
        "trust_anchors": ["CA"],
        "crls": ["CRL"],
    }


def test_dry_run_without_certificate_leaves_the_authenticator_as_it_is():
    assert certified(certificate=None, trust_anchors=[], crl=None) == REQUEST["spec"]


def test_management_ca_without_crl_gives_none():
    assert certified(certificate="PEM", trust_anchors=["CA"], crl=None)["crls"] == []


def test_something_else_is_refused():
    with pytest.raises(AnsibleFilterError, match="not an item of a registered certification"):
        certified_authenticator({"changed": True})


def test_table_lines_up_pings_and_steps():
    step = {"node": "ra1", "step": "enrolled", "milliseconds": 12.34, "detail": "serial 2a"}
    table = verification_table({"ra1": {"ca1": [0.52]}, "ca1": {"ra1": [0.4, 0.6]}}, [step])
    assert table.splitlines() == [
        "node  what           took  seen",
        "----  ----------  -------  ---------",
        "ca1   pinged ra1   0.4 ms  2 links",
        "ra1   pinged ca1   0.5 ms  1 link",
        "ra1   enrolled    12.3 ms  serial 2a",
    ]


def test_table_sums_up_what_a_host_tried():
    probes = [
        {"expect": "open", "state": "open"},
        {"expect": "closed", "state": "silent"},
        {"expect": "closed", "state": "refused"},
        {"expect": "closed", "state": "silent"},
    ]
    table = verification_table({}, (), {"client1": {"probes": probes, "milliseconds": 3001.0}})
    assert table.splitlines()[2:] == [
        "client1  reached 1 port         3001.0 ms  1 open",
        "client1  was kept from 3 ports  3001.0 ms  1 refused, 2 silent",
    ]


def test_table_of_nothing_is_its_head():
    assert verification_table({}).splitlines() == [
        "node  what  took  seen",
        "----  ----  ----  ----",
    ]


def host(name, needed, **variables):
    secrets = {"peersys_secrets": needed} if needed is not None else {}
    return {"inventory_hostname": name, **secrets, **variables}


def test_missing_secrets_are_told_by_file_with_everybody_who_needs_them():
    shared = {"file": "group_vars/store_main/vault.yml", "variables": ["a", "b"]}
    hosts = [
        host("ca1", [shared], peersys_declared_at="t.yml:3: nodes.ca1", a="there"),
        host("ca2", [shared], peersys_declared_at="t.yml:5: nodes.ca2"),
    ]
    assert missing_secrets(hosts) == [
        {
            "name": "group_vars/store_main/vault.yml",
            "variables": ["b", "a"],
            "declared_at": ["t.yml:3: nodes.ca1", "t.yml:5: nodes.ca2"],
        }
    ]


def test_node_of_a_written_inventory_needs_its_passphrase():
    (missing,) = missing_secrets([host("n", None), host("m", None, **{"node_passphrase": "there"})])
    assert missing == {
        "name": "host_vars/n/vault.yml",
        "variables": ["node_passphrase"],
        "declared_at": ["n"],
    }


ISOLATED = {
    "dry_run": False,
    "role": "isolated-ra1",
    "links_closed": True,
    "closed_after_seconds": 0.254,
    "certificates": [{"authority": "management", "serial": "2a"}],
    "connectors": [{"name": "ra1"}],
    "publishers": ["management-ra1"],
    "asked": [
        {
            "at": 1_795_479_941.06,
            "allowed": True,
            "action": "ra.enroll",
            "chain": "alice\x1b[2J via ra1",
            "resources": ["/ra/enroll", "/ca/issuing"],
            "detail": {"serial": "3b"},
        }
    ],
}


def test_isolation_is_told_for_each_node_and_so_is_what_was_asked():
    still_up = {**ISOLATED, "links_closed": False, "asked": []}
    told = isolation_table({"ca1": ISOLATED, "va1": still_up, "proxy1": None}).splitlines()
    assert told[0].split() == ["node", "links", "role", "revoked", "connectors", "publishers"]
    assert "closed in 0.25 s  isolated-ra1  management 2a  ra1         management-ra1" in told[2]
    assert told[3].startswith("proxy1  NOT REACHED")
    assert "NOT REACHED" in isolation_table({"ca1": {"error": "no agent"}})
    assert "STILL UP" in told[4]
    assert told[8].startswith("2026-11-24 00:25:41  ca1   allowed  ra.enroll")
    assert "alice\\x1b[2J via ra1" in told[8]
    assert told[8].endswith("/ra/enroll /ca/issuing  3b")


def test_isolation_that_found_nothing_or_was_only_foreseen_says_so():
    foreseen = {**ISOLATED, "dry_run": True, "links_closed": False, "asked": []}
    told = isolation_table({"ca1": foreseen}).splitlines()
    assert "as they were" in told[2]
    assert told[-1] == "It asked for nothing."


def test_isolation_of_something_else_is_refused():
    with pytest.raises(AnsibleFilterError, match="not what 'peersys peer isolate' says"):
        isolation_table({"ca1": {"links_closed": True}})
