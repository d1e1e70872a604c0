# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each impossible topology is refused with line, key and remedy."""

from __future__ import annotations

import pytest
from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    TopologyRefused,
    read_document,
)

# behaviour: (what is replaced in the good topology, by what, the refusal)
REFUSALS = {
    "link to an unknown node": (
        "to: va1}",
        "to: va2}",
        "29: links[1].to: unknown node 'va2'. Known are ca1, ra1, va1",
    ),
    "CA on an unknown node": (
        "{node: ca1, subject",
        "{node: ca9, subject",
        "25: authorities.root.node: unknown node 'ca9'",
    ),
    "approvals through what is no RA": (
        "functions: [validation_authority]",
        "functions: [validation_authority]\n    approves: true",
        "19: nodes.va1.approves: va1 is no RA",
    ),
    "approves that is no yes or no": (
        "functions: [registration_authority]",
        "functions: [registration_authority]\n    approves: often",
        "14: nodes.ra1.approves: must be yes or no, not str",
    ),
    "unknown zone": (
        "zone: inner",
        "zone: core",
        "8: nodes.ca1.zone: unknown zone 'core'. Add it to zones",
    ),
    "zone that dials an unknown zone": (
        "dials: [outer]",
        "dials: [outside]",
        "4: zones.inner.dials[0]: unknown zone 'outside'",
    ),
    "unknown issuer": (
        "issuer: root",
        "issuer: rood",
        "26: authorities.issuing.issuer: unknown CA 'rood'",
    ),
    "issuing CA without issuer": (
        "issuer: root, subject",
        "kind: issuing, subject",
        "26: authorities.issuing: an issuing CA needs an issuer",
    ),
    "CA that signs itself in a loop": (
        "{node: ca1, subject: CN=Root",
        "{node: ca1, issuer: issuing, subject: CN=Root",
        "25: authorities.root.issuer: CAs sign each other in a loop",
    ),
    "unknown profile": (
        "[tls_client, tls_server]",
        "[tls_clients, tls_server]",
        "26: authorities.issuing.profiles[0]: unknown profile 'tls_clients'",
    ),
    "unknown CA on a link": (
        "to: ra1}",
        "to: ra1, authorities: [isuing]}",
        "28: links[0].authorities[0]: unknown CA 'isuing'",
    ),
    "only revoked certificates, and silence about the rest": (
        "to: va1}",
        "to: va1, publish: {only_revoked: true}}",
        "29: links[1].publish.only_revoked: what silence about a serial means isn't said. Choose",
    ),
    "publishing to an RA": (
        "to: ra1}",
        "to: ra1, publish: {content: [crl]}}",
        "28: links[0].publish: ra1 is no VA",
    ),
    "unknown option of publishing": (
        "to: va1}",
        "to: va1, publish: {only_revoke: true}}",
        "29: links[1].publish.only_revoke: unknown key",
    ),
    "RA that dials a CA": (
        "{from: ca1, to: ra1}",
        "{from: ra1, to: ca1}",
        "28: links[0].to: ra1 must not dial the CA ca1. Write from: ca1 and to: ra1",
    ),
    "node that dials without being a CA": (
        "  - {from: ca1, to: va1}",
        "  - {from: ca1, to: va1}\n  - {from: ra1, to: va1}",
        "30: links[2].from: ra1 is no CA, and only a CA's node dials",
    ),
    "link against the direction of zones": (
        "inner: {dials: [outer]}",
        "inner: {}",
        "28: links[0]: zone inner must not dial outer. Turn the link round, or add outer to "
        "zones.inner.dials",
    ),
    "link of a node to itself": (
        "  - {from: ca1, to: va1}",
        "  - {from: ca1, to: va1}\n  - {from: ra1, to: ra1}",
        "30: links[2]: closes the loop ra1 -> ra1",
    ),
    "the same link twice": (
        "  - {from: ca1, to: va1}",
        "  - {from: ca1, to: va1}\n  - {from: ca1, to: ra1}",
        "30: links[2]: written already as links[0]",
    ),
    "two nodes on one address and port": (
        "address: 192.0.2.13",
        "address: ra1.example.org",
        "19: nodes.va1.listen.peer: ra1.example.org:7443 is taken by ra1 (peer)",
    ),
    "one node twice on one port": (
        "{peer: 7443, rest: 8443}",
        "{peer: 7443, rest: 7443}",
        "14: nodes.ra1.listen.rest: ra1.example.org:7443 is taken by ra1 (peer)",
    ),
    "CA with an inbound peer port": (
        "certification_authority]",
        "certification_authority]\n    address: ca1\n    listen: {peer: 7443}",
        "11: nodes.ca1.listen.peer: a CA has no inbound peer port. Remove it: a CA dials its peers",
    ),
    "link to a node without peer port": (
        "{peer: 7443, rest: 8443}",
        "{rest: 8443}",
        "14: nodes.ra1.listen.peer: is missing, but ca1 dials ra1",
    ),
    "RA without REST port": (
        "{peer: 7443, rest: 8443}",
        "{peer: 7443}",
        "14: nodes.ra1.listen.rest: is missing on a registration authority",
    ),
    "VA without status port": (
        "{peer: 7443, status: 80}",
        "{peer: 7443}",
        "19: nodes.va1.listen.status: is missing on a validation authority",
    ),
    "VA that no CA publishes to": (
        "  - {from: ca1, to: va1}\n",
        "",
        "15: nodes.va1: no CA publishes to this VA. Add a link from a CA to va1",
    ),
    "RA that no CA dials": (
        "  - {from: ca1, to: ra1}\n",
        "",
        "10: nodes.ra1: no CA dials this RA",
    ),
    "no Management CA": (
        "[management_ca, certification_authority]",
        "[certification_authority]",
        "6: nodes: no node holds the Management CA. Give one node the function management_ca",
    ),
    "two Management CAs": (
        "[registration_authority]",
        "[registration_authority, management_ca]",
        "13: nodes.ra1.functions: ca1 holds the Management CA already",
    ),
    "CA on a node that is none": (
        "{node: ca1, subject: CN=Root, activation: on_demand}",
        "{node: ra1, subject: CN=Root}\n  other: {node: ra1, subject: CN=Other}",
        "27: authorities.issuing.issuer: root is on another node",
    ),
    "CA with the name of the Management CA": (
        "links:",
        "  management: {node: ca1, subject: CN=M}\nlinks:",
        "27: authorities.management: the Management CA has this name already",
    ),
    "unknown zone that is to dial": (
        "outer: {}",
        "outer: {dialled_by: [nowhere]}",
        "5: zones.outer.dialled_by[0]: unknown zone 'nowhere'. Add it to zones",
    ),
    "unknown top key": ("links:", "linkz:", "27: linkz: unknown key. Did you mean links?"),
    "unknown key of a node": (
        "address: 192.0.2.13",
        "adress: 192.0.2.13",
        "17: nodes.va1.adress: unknown key. Did you mean address?",
    ),
    "unknown key of a profile": (
        "{extended_key_usage: [client_auth]}",
        "{extended_key_usages: [client_auth]}",
        "23: profiles.tls_client.extended_key_usages: unknown key",
    ),
    "wrong value in a profile": (
        "{extended_key_usage: [client_auth]}",
        "{key_kinds: [rsa-1024]}",
        "23: profiles.tls_client: value of key_kinds must be one or more of",
    ),
    "unknown function": (
        "[validation_authority]",
        "[validation_authorities]",
        "18: nodes.va1.functions[0]: 'validation_authorities' is no function. Did you mean "
        "validation_authority?",
    ),
    "port out of range": (
        "status: 80}",
        "status: 80000}",
        "19: nodes.va1.listen.status: 80000 is no port",
    ),
    "missing key": ("    zone: inner\n", "", "7: nodes.ca1.zone: is missing below nodes.ca1"),
    "missing subject": (
        "{node: ca1, subject: CN=Root, activation: on_demand}",
        "{node: ca1}",
        "25: authorities.root: missing required arguments: subject",
    ),
    "wrong type": (
        "functions: [registration_authority]",
        "functions: registration_authority",
        "13: nodes.ra1.functions: must be a list, not str",
    ),
    "duplicate name": (
        "  va1:\n",
        "  ra1:\n",
        "15: nodes.ra1: written twice, first in line 10. Keep one of them",
    ),
    "name that is none": ("  va1:\n", "  VA_1:\n", "15: nodes.VA_1: 'VA_1' is no name"),
    "trust domain that is none": (
        "pki.example.org\nz",
        "PKI/x\nz",
        "2: trust_domain: 'PKI/x' is no trust domain",
    ),
    "way to open a token": (
        "on_demand",
        "sometimes",
        "25: authorities.root.activation: 'sometimes' is no way to open a token",
    ),
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, good, refusal):
    old, new, expected = REFUSALS[behaviour]
    assert good.count(old) >= 1
    assert any(line.startswith(expected) for line in _refused(refusal, good.replace(old, new, 1)))


def _refused(refusal, text):
    try:
        return refusal(text)
    except TopologyRefused as error:
        return [line.removeprefix("t.yml:") for line in str(error).splitlines()]


def test_loop_over_several_links_is_shown(good, refusal):
    more = "  - {from: ra1, to: va1}\n  - {from: va1, to: ra1}\n"
    assert any("closes the loop ra1 -> va1 -> ra1" in line for line in refusal(good + more))


def test_every_fault_of_a_kind_is_told_at_once(good, refusal):
    spoilt = good.replace("to: va1}", "to: va2}").replace("zone: inner", "zone: core")
    assert len(refusal(spoilt)) == 2


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x", "a: !!python/name:os.system x"])
def test_text_that_is_no_plain_yaml_is_refused_with_its_line(text):
    with pytest.raises(TopologyRefused, match=r"t\.yml:1: not YAML"):
        read_document("t.yml", text)


@pytest.mark.parametrize("text", ["", "[]", "text", "nodes: {}"])
def test_document_of_another_form_is_refused(text, refusal):
    assert _refused(refusal, text)
