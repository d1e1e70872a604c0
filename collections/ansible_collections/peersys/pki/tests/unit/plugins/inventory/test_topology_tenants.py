# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tenants bring files of their own: what follows from them, and what clashes."""

from __future__ import annotations

import pytest
from ansible_collections.peersys.pki.plugins.inventory.topology import InventoryModule

TENANT = """\
plugin: peersys.pki.topology
zones:
  NAME: {dials: [middle]}
nodes:
  ra-NAME:
    zone: NAME
    address: ra.NAME.example.org
    functions: [registration_authority]
    listen: {rest: 8443}
profiles:
  NAME_server: {san: [{kind: dns}]}
authorities:
  NAME: {node: ca1, issuer: root, subject: CN=NAME, profiles: [NAME_server]}
links:
  - {from: ra-NAME, to: proxy1}
"""


def tenant(name, old="", new=""):
    """Return a tenant's file, spoilt by replacing ``old``."""
    assert old in TENANT.replace("NAME", name)
    return TENANT.replace("NAME", name).replace(old, new, 1)


def granted(inventory, host, function):
    roles = inventory.get_host(host).vars[f"{function}_peer_roles"]
    return {role["name"]: {rule["resource"] for rule in role["rules"]} for role in roles}


def test_tenant_brings_hosts_to_a_group_of_its_own_and_says_where(with_tenants, tmp_path):
    inventory = with_tenants(alpha=tenant("alpha"), beta=tenant("beta"))
    assert [host.name for host in inventory.groups["tenant_beta"].get_hosts()] == ["ra-beta"]
    told = inventory.get_host("ra-beta").vars["peersys_declared_at"]
    assert told == f"{tmp_path}/tenants/beta.yml:5: nodes.ra-beta"


def test_ra_of_a_tenant_gets_its_tenants_cas_though_its_link_names_none(with_tenants):
    inventory = with_tenants(alpha=tenant("alpha"), beta=tenant("beta"))
    for function, host in (("certification_authority", "ca1"), ("ra_proxy", "proxy1")):
        rights = granted(inventory, host, function)
        for own in ("alpha", "beta"):
            found = {one for one in rights[f"ra-{own}"] if one.startswith(("/ca", "/profile"))}
            assert found == {f"/ca/{own}", f"/profile/{own}_server"}


def test_tenants_have_secrets_of_their_own(with_tenants):
    inventory = with_tenants(alpha=tenant("alpha"))
    files = [one["file"] for one in inventory.get_host("ra-alpha").vars["peersys_secrets"]]
    assert files == ["host_vars/ra-alpha/vault.yml", "group_vars/tenant_alpha/vault.yml"]


def test_zone_may_say_who_dials_it(with_tenants):
    spoken = tenant("alpha", "{dials: [middle]}", "{dials: [middle], dialled_by: [inner]}")
    zones = with_tenants(alpha=spoken).get_host("ca1").vars["topology_zones"]
    assert zones["inner"]["dials"] == ["middle", "alpha"]


def test_tenants_file_is_no_inventory_of_its_own(with_tenants, tmp_path):
    with_tenants(alpha=tenant("alpha"))
    assert InventoryModule().verify_file(str(tmp_path / "tenants/alpha.yml"))
    assert not InventoryModule().verify_file(str(tmp_path / "alpha.yml"))


def test_name_that_another_tenant_has_is_refused_with_both_places(refused):
    told = refused(alpha=tenant("alpha"), beta=tenant("beta", "  ra-beta:", "  ra-alpha:"))
    assert told == [
        "tenants/beta.yml:5: nodes.ra-alpha: ra-alpha is written already at tenants/alpha.yml:5. "
        "Choose another name"
    ]


CLASHES = {
    "name of what is everybody's": (
        ("  ra-beta:", "  proxy1:"),
        "5: nodes.proxy1: proxy1 is written already at topology.yml:8. Choose another name",
    ),
    "address of another host": (
        ("ra.beta.example.org", "ra.alpha.example.org"),
        "7: nodes.ra-beta.address: ra-alpha has ra.alpha.example.org already. "
        "Each host has an address of its own",
    ),
    "another tenant's zone": (
        ("zone: beta", "zone: alpha"),
        "6: nodes.ra-beta.zone: alpha is of tenant alpha. "
        "Tenant beta may name what is its own, or in no tenant's file",
    ),
    "everybody's zone": (
        ("zone: beta", "zone: middle"),
        "6: nodes.ra-beta.zone: zone middle isn't one of tenant beta. "
        "Give the tenant a zone of its own, in the same file",
    ),
    "a way into another tenant's zone": (
        ("dials: [middle]", "dials: [middle, alpha]"),
        "3: zones.beta.dials: alpha is of tenant alpha. "
        "Tenant beta may name what is its own, or in no tenant's file",
    ),
    "another tenant's profile": (
        ("profiles: [beta_server]", "profiles: [alpha_server]"),
        "13: authorities.beta.profiles[0]: alpha_server is of tenant alpha. "
        "Tenant beta may name what is its own, or in no tenant's file",
    ),
    "another tenant's CA": (
        ("to: proxy1}", "to: proxy1, authorities: [alpha]}"),
        "15: links[0].authorities[0]: alpha is of tenant alpha. "
        "Tenant beta may name what is its own, or in no tenant's file",
    ),
    "a proxy of its own": (
        ("[registration_authority]", "[ra_proxy]"),
        "8: nodes.ra-beta.functions[0]: tenant beta can't bring it. Write it in the topology",
    ),
    "an unknown key": (("links:", "stores:"), "14: stores: unknown key. Known are "),
    "no plugin": (("plugin: peersys.pki.topology\n", ""), "1: plugin: is missing below the top"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_what_clashes_is_refused_with_file_and_line(clash, refused):
    (old, new), message = CLASHES[clash]
    told = refused(alpha=tenant("alpha"), beta=tenant("beta", old, new))
    assert any(line.startswith(f"tenants/beta.yml:{message}") for line in told), told


def test_ra_of_nobody_must_say_its_cas_beside_tenants(refused, shared):
    link = "  - {from: ra1, to: proxy1}\n"
    node = (
        "  ra1: {zone: middle, address: 192.0.2.2, functions: [registration_authority], "
        "listen: {rest: 8443}}\nauthorities:"
    )
    shared = shared.replace("authorities:", node, 1) + link
    remedy = "Write authorities: and the CAs that this RA is for"
    told = refused(shared=shared, alpha=tenant("alpha"))
    assert told == [
        f"topology.yml:15: links[1]: would be for the CAs of all tenants. {remedy}",
    ]


def test_ra_of_nobody_gets_no_tenants_ca(refused, shared):
    link = "  - {from: ra1, to: proxy1, authorities: [common, alpha]}\n"
    node = (
        "  ra1: {zone: middle, address: 192.0.2.2, functions: [registration_authority], "
        "listen: {rest: 8443}}\nauthorities:"
    )
    shared = shared.replace("authorities:", node, 1) + link
    assert refused(shared=shared, alpha=tenant("alpha")) == [
        "topology.yml:15: links[1].authorities[1]: alpha is of tenant alpha, and ra1 isn't. "
        "Leave it away",
    ]


def test_only_the_operators_approvers_decide_what_any_tenant_asks(with_tenants, shared):
    """Without a sight of certificates; a tenant's own approver stays with its tenant."""
    listening = "address: 192.0.2.2, listen: {peer: 7443, rest: 8443}"
    with_an_ra = shared.replace(
        "authorities:\n",
        f"  ra1: {{zone: middle, {listening}, functions: [registration_authority], approves: true}}\n"
        "authorities:\n",
    ).replace("to: proxy1}\n", "to: proxy1}\n  - {from: ca1, to: ra1, authorities: [common]}\n")
    approving = tenant("alpha", "    address", "    approves: true\n    address")
    inventory = with_tenants(shared=with_an_ra, alpha=approving)
    roles = inventory.get_host("ca1").vars["certification_authority_peer_roles"]
    everybodys = [role for role in roles if role.get("certificate_scope") == "all"]
    assert everybodys == [
        {
            "name": "ra1_approvals",
            "members": ["spiffe://pki.example.org/node/ra1"],
            "rules": [{"resource": "/ra/approve"}],
            "certificate_scope": "all",
        }
    ]
    assert "/ra/approve" in granted(inventory, "ca1", "certification_authority")["ra-alpha"]
    assert {role["name"]: role.get("tenant") for role in roles}["ra-alpha"] == "tenant-alpha"
