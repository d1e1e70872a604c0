# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tenant that certifies its own nodes: who is told of its Management CA, and what is refused."""

from __future__ import annotations

import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ACME = """\
plugin: peersys.pki.topology
trust_domain: NAME.example
management_ca:
  certificate_file: NAME.pem
zones:
  NAME: {dials: [middle]}
nodes:
  ra-NAME:
    zone: NAME
    address: ADDRESS
    functions: [registration_authority]
    name: ra1
profiles:
  NAME_server: {san: [{kind: dns}]}
authorities:
  NAME: {node: ca1, issuer: root, subject: CN=NAME, profiles: [NAME_server]}
links:
  - {from: ra-NAME, to: proxy1}
"""
OWN_CA = """\
management_ca: {subject: CN=Example Management CA}
"""


def tenant(name, old="", new=""):
    """Return a tenant's file, spoilt by replacing ``old``."""
    text = ACME.replace("NAME", name).replace("ADDRESS", f"ra.{name}.example.org")
    assert old in text
    return text.replace(old, new, 1)


def made(subject, key, *, is_authority=True):
    """Return a certificate as PEM, signed by itself."""
    name = x509.Name.from_rfc4514_string(subject)
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def keys():
    """Two keys, as no two tenants may have one."""
    return [ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP256R1())]


@pytest.fixture
def beside(tmp_path, keys):
    """The directory of tenants' files, with the certificates of acme and beta in it."""
    directory = tmp_path / "tenants"
    directory.mkdir()
    for name, key in zip(("acme", "beta"), keys, strict=True):
        (directory / f"{name}.pem").write_text(made(f"CN={name} Management CA", key))
    return directory


@pytest.fixture
def loaded(with_tenants, beside):
    """Variables by host, with the tenant acme."""
    inventory = with_tenants(acme=tenant("acme"))
    return {host.name: host.vars for host in inventory.hosts.values()}


def test_ca_and_proxy_are_told_who_vouches_for_the_tenant(loaded, beside):
    expected = [
        {
            "name": "acme",
            "trust_domain": "acme.example",
            "trust_anchors": [(beside / "acme.pem").read_text()],
        }
    ]
    assert loaded["ca1"]["certification_authority_peer_issuers"] == expected
    assert loaded["proxy1"]["ra_proxy_peer_issuers"] == expected


def test_roles_have_the_tenants_node_by_its_own_name_and_trust_domain(loaded):
    for host, function in (("ca1", "certification_authority"), ("proxy1", "ra_proxy")):
        roles = {role["name"]: role for role in loaded[host][f"{function}_peer_roles"]}
        assert roles["ra-acme"]["members"] == ["spiffe://acme.example/node/ra1"]
        assert roles["ra-acme"]["tenant"] == "tenant-acme"


def test_no_play_comes_to_the_tenants_hosts_nor_waits_for_them(with_tenants, beside):
    inventory = with_tenants(acme=tenant("acme"))
    assert "ra-acme" not in inventory.hosts
    assert inventory.groups["tenant_acme"].get_hosts() == []
    assert inventory.get_host("proxy1").vars["verification_peers"] == ["ca1"]


def test_tenants_address_is_let_in_at_the_proxy(with_tenants, beside, shared):
    networks = {
        "inner: {": "inner: {networks: [192.0.2.0/26], ",
        "middle:": "middle: {networks: [192.0.2.64/26]}",
    }
    text = shared.replace("functions: [man", "address: 192.0.2.2, functions: [man")
    for old, new in networks.items():
        text = text.replace(old, new, 1)
    text = text.replace("192.0.2.1,", "192.0.2.65,")
    acme = tenant("acme", "{dials: [middle]}", "{networks: [198.18.1.0/24], dials: [middle]}")
    inventory = with_tenants(shared=text, acme=acme.replace("ra.acme.example.org", "198.18.1.11"))
    (rule,) = inventory.get_host("proxy1").vars["firewall_rules"]
    assert rule["from"] == ["192.0.2.2", "198.18.1.11"]
    assert rule["comment"] == "peer port, for ca1, ra-acme"


def test_nothing_but_certificates_goes_on(with_tenants, beside):
    path = beside / "acme.pem"
    certificate = path.read_text()
    path.write_text(f"Subject: CN=acme\n{certificate}written down by somebody\n")
    ca1 = with_tenants(acme=tenant("acme")).get_host("ca1").vars
    assert ca1["certification_authority_peer_issuers"][0]["trust_anchors"] == [certificate]


def test_certificate_may_stand_in_the_file(with_tenants, beside):
    # A JSON text is a YAML one.
    text = json.dumps((beside / "acme.pem").read_text())
    acme = tenant("acme", "certificate_file: acme.pem", f"certificate: {text}")
    ca1 = with_tenants(acme=acme).get_host("ca1").vars
    anchors = ca1["certification_authority_peer_issuers"][0]["trust_anchors"]
    assert anchors == [(beside / "acme.pem").read_text()]


OPERATORS = """\
trust_domain: acme.example
management_ca:
  certificate_file: acme.pem
"""


def test_tenant_that_the_operator_certifies_needs_no_issuer(with_tenants):
    acme = tenant("acme", OPERATORS).replace("name: ra1", "listen: {rest: 8443}")
    inventory = with_tenants(acme=acme)
    assert inventory.get_host("ca1").vars["certification_authority_peer_issuers"] == []
    assert "ra-acme" in inventory.hosts


REFUSALS = {
    "trust domain of another tenant": (
        ("trust_domain: beta.example", "trust_domain: acme.example"),
        "2: trust_domain: acme.example is tenant acme's already. "
        "Each trust domain has one Management CA",
    ),
    "the operator's trust domain": (
        ("trust_domain: beta.example", "trust_domain: pki.example.org"),
        "2: trust_domain: pki.example.org is yours already",
    ),
    "another tenant's certificate": (
        ("beta.pem", "acme.pem"),
        "3: management_ca: the certificate of the CA is tenant acme's too. "
        "Whoever holds one CA's key must not be able to name another's nodes",
    ),
    "missing file": (
        ("beta.pem", "gone.pem"),
        "4: management_ca.certificate_file: gone.pem can't be read: No such file or directory",
    ),
    "no certificate": (
        ("  certificate_file: beta.pem", "  {}"),
        "3: management_ca: needs one of certificate and certificate_file",
    ),
    "two certificates": (
        ("  certificate_file: beta.pem", "  certificate_file: beta.pem\n  certificate: x"),
        "3: management_ca: needs one of certificate and certificate_file",
    ),
    "text that is no certificate": (
        ("certificate_file: beta.pem", "certificate: beta"),
        "4: management_ca.certificate: is no certificate in PEM. "
        "Ask the tenant for its Management CA's",
    ),
    "trust domain without CA": (
        ("management_ca:\n  certificate_file: beta.pem\n", ""),
        "1: management_ca: is missing below the top",
    ),
    "CA without trust domain": (
        ("trust_domain: beta.example\n", ""),
        "1: trust_domain: is missing below the top",
    ),
    "trust domain that is none": (
        ("beta.example", "Beta"),
        "2: trust_domain: 'Beta' is no trust domain",
    ),
    "VA of a tenant that certifies it": (
        ("[registration_authority]", "[registration_authority, validation_authority]"),
        "11: nodes.ra-beta.functions[1]: a tenant that certifies its nodes brings RAs and no VA",
    ),
    "ports of a host that isn't ours": (
        ("    name: ra1", "    name: ra1\n    listen: {rest: 8443}"),
        "13: nodes.ra-beta.listen: is said on the tenant's side, where the node is run",
    ),
    "another name of a node that we certify": (
        ("trust_domain: beta.example\nmanagement_ca:\n  certificate_file: beta.pem\n", ""),
        "9: nodes.ra-beta.name: only a tenant with a Management CA of its own calls a node",
    ),
    "name that is none": (("name: ra1", "name: RA_1"), "12: nodes.ra-beta.name: 'RA_1' is no name"),
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, refused, beside):
    (old, new), message = REFUSALS[behaviour]
    told = refused(acme=tenant("acme"), beta=tenant("beta", old, new))
    assert any(line.startswith(f"tenants/beta.yml:{message}") for line in told), told


@pytest.mark.parametrize(
    ("subject", "same_key", "what"),
    [("CN=Other", True, "key"), ("CN=acme Management CA", False, "subject")],
)
def test_ca_with_anything_of_another_tenants_is_refused(
    subject, same_key, what, refused, beside, keys
):
    (beside / "beta.pem").write_text(made(subject, keys[0 if same_key else 1]))
    (told,) = refused(acme=tenant("acme"), beta=tenant("beta"))
    assert told.startswith(
        f"tenants/beta.yml:3: management_ca: the {what} of the CA is tenant acme's too."
    )


def test_ca_with_the_name_of_the_operators_is_refused(refused, beside, shared, keys):
    (beside / "acme.pem").write_text(made("CN=Example Management CA", keys[0]))
    (told,) = refused(shared=shared + OWN_CA, acme=tenant("acme"))
    assert "management_ca: the subject of the CA is yours too" in told


def test_certificate_of_a_node_is_refused(refused, beside, keys):
    (beside / "acme.pem").write_text(made("CN=ra1", keys[0], is_authority=False))
    (told,) = refused(acme=tenant("acme"))
    assert "CN=ra1 is no CA. Write the certificate of the CA, not of a node" in told


def test_private_key_is_refused_and_not_repeated(refused, beside, keys):
    key = keys[0].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with (beside / "acme.pem").open("ab") as file:
        file.write(key)
    told = refused(acme=tenant("acme"))
    assert told == [
        "tenants/acme.yml:4: management_ca.certificate_file: holds a private key, and only the "
        "certificate is needed. Remove it. Whoever has seen it can name every node of the tenant: "
        "tell the tenant"
    ]


def test_der_is_refused(refused, beside):
    (beside / "acme.pem").write_bytes(b"\x30\x82\x01\x00")
    assert "acme.pem is no PEM. Convert it" in refused(acme=tenant("acme"))[0]


def test_topology_itself_has_no_tenants_in_it(refused, shared):
    assert refused(shared=shared + "tenants: {acme: {}}\n") == [
        "topology.yml:14: tenants: unknown key. Write tenants/<tenant>.yml beside this file"
    ]
