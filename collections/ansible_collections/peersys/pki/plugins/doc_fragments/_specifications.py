# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

from __future__ import annotations

from textwrap import indent

from ansible_collections.peersys.pki.plugins.doc_fragments._crypto_token import CRYPTO_TOKENS

# One text per kind: the object's own module shows it as its options, the module peersys.pki.node
# as the suboptions of the kind's list. Keep in sync with module_utils/_specifications.py.

_KEY_KIND = r"""
key_kind:
  description: Algorithm and size of the key that the node generates.
  type: str
  choices: [rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384, ec-p521, ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87]
  default: ec-p256
"""
# An authenticator's key is for TLS, which has none of these.
_TLS_KEY_KIND = _KEY_KIND.replace(", ml-dsa-44, ml-dsa-65, ml-dsa-87", "")
_CRYPTO_TOKEN_NAME = r"""
crypto_token:
  description: The crypto token that holds the key. The key never leaves it.
  type: str
  default: default
"""
_RULES = r"""
rules:
  description: Access rules. Nothing is allowed that no rule allows, and deny wins over allow.
  type: list
  elements: dict
  default: []
  suboptions:
    resource:
      description:
        - A resource path such as V(/ra/enroll) or V(/ca/issuing).
        - V(*) stands for one segment or, once in a name, for a part of it (V(/ca/acme-*)), a last V(**) for all below.
      type: str
      required: true
    effect:
      description: Whether the rule grants or forbids.
      type: str
      choices: [allow, deny]
      default: allow
"""

_AUTHENTICATORS = (
    r"""
name:
  description: Name of the authenticator.
  type: str
  required: true
purpose:
  description:
    - V(peer) is the node's identity on peer links.
    - V(server) is the certificate of its REST port.
  type: str
  choices: [peer, server]
  default: peer
dns_names:
  description: DNS names of a server certificate.
  type: list
  elements: str
  default: []
ip_addresses:
  description: IP addresses of a server certificate.
  type: list
  elements: str
  default: []
certificate:
  description:
    - PEM chain from the Management CA, leaf first.
    - When not given, an installed certificate stays.
  type: str
trust_anchors:
  description:
    - PEM certificates of the Management CAs whose nodes are trusted.
    - When not given, installed ones stay.
  type: list
  elements: str
crls:
  description:
    - PEM CRLs of the trust anchors.
    - When not given, installed ones stay.
  type: list
  elements: str
require_current_crl:
  description:
    - Whether to trust no peer whose issuer's CRL is missing or overdue. Only for V(peer).
    - Something other than a peer link has to renew the CRL then. Without this an overdue CRL is shown by C(peersys status).
  type: bool
  default: false
"""
    + _CRYPTO_TOKEN_NAME
    + _TLS_KEY_KIND
)

_MANAGEMENT_CA = (
    r"""
name:
  description: Name of the CA.
  type: str
  required: true
subject:
  description:
    - Subject as RFC 4514 text, for example V(CN=Example Root,O=Example). It can't change later.
    - Required when the CA is to exist.
  type: str
validity_days:
  description: Validity of the CA certificate.
  type: int
  default: 3650
crl:
  description: When CRLs are made. The agent's defaults apply when not given.
  type: dict
  suboptions:
    validity_seconds:
      description: Validity of a CRL.
      type: int
      default: 604800
    overlap_seconds:
      description: The next CRL is made this long before the last one expires.
      type: int
      default: 86400
    delta_validity_seconds:
      description: Validity of a delta CRL; V(0) makes none.
      type: int
      default: 0
    on_revocation:
      description: Whether each revocation makes a new CRL at once.
      type: bool
      default: true
    shards:
      description:
        - Into how many lists the certificates issued from now on are divided; V(0) keeps one list.
        - Can be raised, never lowered. Each of C(crl_urls) must end in C(.crl).
      type: int
      default: 0
crl_urls:
  description: CRL distribution points written into the certificates that this CA issues.
  type: list
  elements: str
  default: []
"""
    + _CRYPTO_TOKEN_NAME
    + _KEY_KIND
)

_CERTIFICATION_AUTHORITIES = (
    _MANAGEMENT_CA
    + r"""
kind:
  description:
    - V(root) signs itself, V(issuing) is signed by another CA of the node.
    - V(management) is a self-signed CA that only issues authenticators, only on local request.
    - Required when the CA is to exist.
  type: str
  choices: [root, issuing, management]
issuer:
  description: The CA on the same node that signs this one. Only for V(issuing).
  type: str
path_length:
  description: Path length constraint in the CA certificate.
  type: int
profiles:
  description: Certificate profiles that the CA may be asked for.
  type: list
  elements: str
  default: []
ocsp_urls:
  description: OCSP addresses written into the certificates that this CA issues.
  type: list
  elements: str
  default: []
issuer_urls:
  description: Addresses of this CA's own certificate, written into the certificates that it issues.
  type: list
  elements: str
  default: []
"""
)

_CERTIFICATE_PROFILES = r"""
name:
  description: Name of the profile.
  type: str
  required: true
subject:
  description:
    - Subject attributes in the order in which they stand in the certificate.
    - An attribute that isn't listed is refused.
  type: list
  elements: dict
  default: []
  suboptions:
    attribute:
      description: The attribute.
      type: str
      required: true
      choices:
        - common_name
        - organization
        - organizational_unit
        - country
        - state_or_province
        - locality
        - serial_number
        - email_address
        - domain_component
        - user_id
    required:
      description: Whether a request without it is refused.
      type: bool
      default: false
    pattern:
      description: Regular expression that the whole value must match.
      type: str
    value:
      description: Fixed value that is written whatever was asked.
      type: str
san:
  description: Subject alternative names that a certificate may carry. Other kinds are refused.
  type: list
  elements: dict
  default: []
  suboptions:
    kind:
      description: Kind of name.
      type: str
      required: true
      choices: [dns, ip, email, uri]
    pattern:
      description: Regular expression that the whole name must match.
      type: str
    minimum:
      description: How many names of the kind there must be.
      type: int
      default: 0
    maximum:
      description: How many names of the kind there may be.
      type: int
      default: 100
key_kinds:
  description: Public keys that are accepted.
  type: list
  elements: str
  choices: [rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384, ec-p521, ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87]
  default: [ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072, rsa-4096, ed25519]
key_usage:
  description: Key usage bits by their names in RFC 5280, in snake case.
  type: list
  elements: str
  default: [digital_signature]
extended_key_usage:
  description: Extended key usages by name (V(server_auth)) or as dotted OIDs.
  type: list
  elements: str
  default: [server_auth]
validity_days:
  description: Validity of a certificate, and the most that may be asked for.
  type: int
  default: 90
backdate_seconds:
  description: How far in the past the validity starts, for clocks that are behind.
  type: int
  default: 300
policies:
  description: Certificate policies as dotted OIDs.
  type: list
  elements: str
  default: []
include_ocsp_url:
  description: Whether the CA's OCSP addresses are written into the certificate.
  type: bool
  default: true
include_issuer_url:
  description: Whether the addresses of the CA's certificate are written into the certificate.
  type: bool
  default: true
include_crl_url:
  description: Whether the CA's CRL distribution points are written into the certificate.
  type: bool
  default: true
approvals:
  description:
    - How many people other than the requester have to approve each request, up to 10.
    - A changed profile asks for new approvals of the requests that wait.
  type: int
  default: 0
approval_expiry_seconds:
  description: How long a request waits for its approvals, from a minute to 90 days.
  type: int
  default: 604800
"""

_PEER_ISSUERS = r"""
name:
  description: Name of the issuer, such as the tenant's name.
  type: str
  required: true
trust_domain:
  description:
    - The trust domain whose nodes it vouches for, as V(acme.example). It vouches for no other, and nobody else for this one.
    - Required when the issuer is to exist.
  type: str
trust_anchors:
  description:
    - PEM certificates of the CAs that sign the authenticators of that trust domain themselves.
    - No certificate, key or subject of them may be another trust domain's.
    - Required when the issuer is to exist.
  type: list
  elements: str
crls:
  description:
    - PEM CRLs of the trust anchors. An older one than is in force is refused.
    - When not given, installed ones stay.
  type: list
  elements: str
"""

_PEER_ROLES = (
    r"""
name:
  description: Name of the role.
  type: str
  required: true
members:
  description:
    - Peers that hold the role, as V(spiffe://<trust domain>/node/<name>).
    - Exact pins are possible as well, as V(fingerprint:<sha256>), V(spki:<sha256>) or V(serial:<hex>@<issuer>).
  type: list
  elements: str
  default: []
template:
  description:
    - What kind of peer its members are. Its rules are added to C(rules); the node keeps and shows them, not the template.
  type: str
  choices: [publisher, registration_authority, validation_authority, proxy, tenant]
parameters:
  description: What the template is about.
  type: dict
  suboptions:
    authorities: {type: list, elements: str, default: [], description: 'The CAs, by name or as a pattern such as V(acme-*).'}
    profiles: {type: list, elements: str, default: [], description: 'The profiles, likewise. For all but VA and publisher.'}
    protocols:
      {type: list, elements: str, default: [rest], choices: [rest, est, acme, cmp],
       description: The protocols by which requesters may come. For all but VA and publisher.}
    operations:
      {type: list, elements: str, default: [enroll, revoke, status, search], choices: [enroll, revoke, status, search, approve],
       description: What may be asked. For all but VA and publisher.}
    publishes:
      {type: list, elements: str, default: [certificate, status, crl, read], choices: [certificate, status, crl, read, take_back],
       description: 'What a publisher may send. V(read) lets it compare, V(take_back) undo a revocation.'}
tenant:
  description: Whose certificates its members enrol and see. The role's own name when not given.
  type: str
certificate_scope:
  description: Whether its members see the certificates of their tenant, or of everybody.
  type: str
  choices: [own, all]
  default: own
max_issued_certificates:
  description: How many certificates the tenant is issued in a period. Without it, any number.
  type: int
issued_period_seconds:
  description: The period in which issued certificates are counted, in whole hours up to 31 days.
  type: int
  default: 86400
max_valid_certificates:
  description: How many valid certificates the tenant has at one time. Without it, any number.
  type: int
names:
  description:
    - The names that may be asked for, as V(dns:example.org) (itself and below), V(ip:192.0.2.0/24), V(email:example.org) or V(uri:example.org).
    - Without any, every name that the profile allows.
  type: list
  elements: str
  default: []
"""
    + _RULES
)

_PEER_CONNECTORS = r"""
name:
  description: Name of the connector.
  type: str
  required: true
address:
  description:
    - Where the peer listens, as V(host:port). Resolved again at each dial.
    - Required when the connector is to exist.
  type: str
peer:
  description:
    - The identity that must answer, as V(spiffe://<trust domain>/node/<name>).
    - Required when the connector is to exist.
  type: str
authenticator:
  description: The authenticator that this node shows.
  type: str
  default: peer
enabled:
  description: Whether to dial. A connector that is switched off closes its links.
  type: bool
  default: true
min_connections:
  description: Links that always stand.
  type: int
  default: 1
max_connections:
  description: Links at the most, when requests queue. Not less than the least, and 64 at the most.
  type: int
  default: 4
max_parallel_requests:
  description: How many requests of the peer are served at a time, at least one for each link.
  type: int
  default: 50
max_age_seconds:
  description: Age at which a link is replaced.
  type: int
  default: 3600
idle_seconds:
  description: How long a link may be idle that is more than the least.
  type: int
  default: 60
"""

_PUBLISHERS = r"""
name:
  description: Name of the publisher.
  type: str
  required: true
peer:
  description:
    - The identity of the node that receives.
    - Required when the publisher is to exist.
  type: str
authorities:
  description:
    - The CAs whose records are published.
    - Required when the publisher is to exist.
  type: list
  elements: str
content:
  description:
    - What is published. V(certificate) is the whole certificate, without it only its status goes.
    - V(certificate) needs V(status).
  type: list
  elements: str
  choices: [certificate, status, crl]
  default: [certificate, status, crl]
verify_seconds:
  description:
    - How often what the receiver has is compared with what the node has, and repaired.
    - With V(0) only when somebody asks for it.
  type: int
  default: 3600
only_revoked:
  description:
    - Leave out certificates whose status never changed.
    - C(unknown_serial) of the receiver's signer says what silence about a serial then means.
  type: bool
  default: false
"""

_SIGNERS = (
    r"""
name:
  description: Name of the signer.
  type: str
  required: true
authority:
  description:
    - The CA whose certificates it answers for.
    - Required when the signer is to exist.
  type: str
validity_seconds:
  description: Validity of an OCSP response.
  type: int
  default: 3600
renew_before_seconds:
  description: How long before its end the signer's certificate is renewed.
  type: int
  default: 604800
unknown_serial:
  description:
    - What is answered for a serial number that isn't recorded here.
    - Without it that is V(unknown), and V(unauthorized) where the CA publishes only revoked certificates.
    - V(good) counts only where the CA publishes only revoked certificates.
  type: str
  choices: [unknown, unauthorized, revoked, good]
certificate_retrieval:
  description:
    - Whether anybody may fetch the CA's end-entity certificates by serial number at the status port.
    - They may hold personal data. Certificates of CAs can always be fetched.
  type: bool
  default: false
"""
    + _CRYPTO_TOKEN_NAME
    + _KEY_KIND
)

_REQUESTERS = (
    r"""
name:
  description: Name of the requester.
  type: str
  required: true
token_sha256:
  description: Hexadecimal SHA-256 of an API token of at least 128 random bits.
  type: str
certificate_sha256:
  description: Hexadecimal SHA-256 of the requester's TLS client certificate.
  type: str
client_trust_anchors:
  description: PEM certificates of the CAs that issue the requester's client certificates.
  type: list
  elements: str
  default: []
names:
  description:
    - The names that may be asked for, as V(dns:example.org) (itself and below), V(ip:192.0.2.0/24), V(email:example.org) or V(uri:example.org).
    - Without any, every name that the profile allows.
  type: list
  elements: str
  default: []
requests_per_second:
  description: How often it may ask in the long run. Beyond that it is told to wait.
  type: int
  default: 300
burst_requests:
  description: How often it may ask at once.
  type: int
  default: 1000
"""
    + _RULES
)


def _as_options(body: str) -> str:
    return "options:\n" + indent(body, "  ")


def _as_list(kind: str, description: str, body: str, needed: tuple[str, ...] = ()) -> str:
    for name in needed:
        body = body.replace(f"\n{name}:\n", f"\n{name}:\n  required: true\n", 1)
    head = f"{kind}:\n  description: {description}\n  type: list\n  elements: dict\n"
    return indent(head + "  suboptions:\n" + indent(body, "    "), "  ")


class ModuleDocFragment:
    """Options of each kind of object, and of all of them together."""

    # The annotations keep ansible-test's yamllint away: it reads only plain texts from the source.

    CRYPTO_TOKEN: str = _as_options(CRYPTO_TOKENS)
    AUTHENTICATOR: str = _as_options(_AUTHENTICATORS)
    MANAGEMENT_CA: str = _as_options(_MANAGEMENT_CA)
    CERTIFICATION_AUTHORITY: str = _as_options(_CERTIFICATION_AUTHORITIES)
    CERTIFICATE_PROFILE: str = _as_options(_CERTIFICATE_PROFILES)
    PEER_ISSUER: str = _as_options(_PEER_ISSUERS)
    PEER_ROLE: str = _as_options(_PEER_ROLES)
    PEER_CONNECTOR: str = _as_options(_PEER_CONNECTORS)
    PUBLISHER: str = _as_options(_PUBLISHERS)
    SIGNER: str = _as_options(_SIGNERS)
    REQUESTER: str = _as_options(_REQUESTERS)

    NODE: str = "options:\n" + "".join(
        (
            _as_list("crypto_tokens", "Where keys live.", CRYPTO_TOKENS),
            _as_list("authenticators", "The node's TLS identities.", _AUTHENTICATORS),
            _as_list(
                "certificate_profiles", "What certificates may contain.", _CERTIFICATE_PROFILES
            ),
            _as_list(
                "certification_authorities",
                "The CAs.",
                _CERTIFICATION_AUTHORITIES,
                ("kind", "subject"),
            ),
            _as_list(
                "peer_issuers",
                "Whose certificates prove the nodes of other trust domains.",
                _PEER_ISSUERS,
                ("trust_domain", "trust_anchors"),
            ),
            _as_list("peer_roles", "Who may do what over peer links.", _PEER_ROLES),
            _as_list("peer_connectors", "Outgoing links.", _PEER_CONNECTORS, ("address", "peer")),
            _as_list(
                "publishers", "Standing orders to publish.", _PUBLISHERS, ("peer", "authorities")
            ),
            _as_list("signers", "OCSP signing keys.", _SIGNERS, ("authority",)),
            _as_list("requesters", "Who may ask at this node's RA.", _REQUESTERS),
        )
    )
