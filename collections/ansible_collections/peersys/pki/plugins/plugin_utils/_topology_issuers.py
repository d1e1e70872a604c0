# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Tenants that certify their own nodes: the trust domain and the Management CA of each.

Two tenants with one key, certificate or subject of a CA would be one tenant with two names, so
those are compared here as the agent does, before it is asked.
"""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    Fault,
    Path,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import Issuer, Topology
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_tenants import TENANTS
from ansible_collections.peersys.pki.plugins.plugin_utils._typed_document import TypedDocument

# ansible-core depends on it, so it is there whenever a topology is read. ansible-test imports every
# file without what ansible-core depends on.
with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

Faults = t.Iterator[Fault]

CERTIFICATE_KEYS = ("certificate", "certificate_file")
# Of every private key in PEM, whatever its format (RFC 7468 sections 10 and 11, and older ones).
_PRIVATE_KEY = "PRIVATE KEY-----"


class IssuerReader(TypedDocument):
    """Reads what tenants' files say of trust domains and Management CAs of their own."""

    def __init__(self, document: Document, trust_domain: t.Callable[..., str]) -> None:
        super().__init__(document)
        self._trust_domain = trust_domain

    def issuers(self) -> dict[str, Issuer]:
        """Return the issuer of each tenant that has one. Raises TopologyRefused."""
        return {
            name: self._issuer((TENANTS, name), raw)
            for name, raw in self.document.value.get(TENANTS, {}).items()
        }

    def _issuer(self, path: Path, raw: dict[str, t.Any]) -> Issuer:
        trust_domain = self._trust_domain(path, raw)
        below = (*path, "management_ca")
        given = self.required(path, raw, "management_ca", dict)
        self.known_keys(below, given, CERTIFICATE_KEYS)
        written = [key for key in CERTIFICATE_KEYS if given.get(key) is not None]
        if len(written) != 1:
            self.refuse(below, f"needs one of {' and '.join(CERTIFICATE_KEYS)}")
        where = (*below, written[0])
        text = self.typed(where, given[written[0]], str)
        if written[0] == "certificate_file":
            text = self._text_of(where, text)
        return Issuer(trust_domain, tuple(self._anchors(where, text)))

    def _text_of(self, path: Path, name: str) -> str:
        """Return a file's text; its name is relative to the tenant's file."""
        file = pathlib.Path(self.document.written(path)[0]).parent / name
        try:
            return file.read_text(encoding="ascii")
        except OSError as error:
            self.refuse(path, f"{name} can't be read: {error.strerror}", "Ask the tenant for it")
        except ValueError:
            self.refuse(path, f"{name} is no PEM", "Convert it: openssl x509 -inform DER")

    def _anchors(self, path: Path, text: str) -> t.Iterator[str]:
        """Yield the certificates alone: whatever else stands in the text goes nowhere."""
        if _PRIVATE_KEY in text:
            remedy = (
                "Remove it. Whoever has seen it can name every node of the tenant: tell the tenant"
            )
            self.refuse(path, "holds a private key, and only the certificate is needed", remedy)
        try:
            certificates = x509.load_pem_x509_certificates(text.encode())
            authorities = [_is_authority(one) for one in certificates]
        except ValueError:
            self.refuse(path, "is no certificate in PEM", "Ask the tenant for its Management CA's")
        for certificate, is_authority in zip(certificates, authorities, strict=True):
            if not is_authority:
                message = f"{certificate.subject.rfc4514_string()} is no CA"
                self.refuse(path, message, "Write the certificate of the CA, not of a node")
            yield certificate.public_bytes(serialization.Encoding.PEM).decode()


def issuers_differ(topology: Topology) -> Faults:
    """Yield each trust domain, and each mark of a CA, that is another's already."""
    domains = {topology.trust_domain: "yours"}
    marks: dict[tuple[str, t.Any], str] = {}
    own = _subject(topology.management["subject"])
    if own is not None:
        marks["subject", own] = "yours"
    for tenant, issuer in topology.issuers.items():
        path: Path = (TENANTS, tenant)
        owner = domains.setdefault(issuer.trust_domain, f"tenant {tenant}'s")
        if owner != f"tenant {tenant}'s":
            message = f"{issuer.trust_domain} is {owner} already"
            remedy = "Each trust domain has one Management CA"
            yield Fault((*path, "trust_domain"), message, remedy)
        yield from _shared_marks((*path, "management_ca"), tenant, issuer, marks)


def _shared_marks(
    path: Path, tenant: str, issuer: Issuer, marks: dict[tuple[str, t.Any], str]
) -> Faults:
    for mark in (mark for anchor in issuer.trust_anchors for mark in _marks(anchor)):
        owner = marks.setdefault(mark, f"tenant {tenant}'s")
        if owner != f"tenant {tenant}'s":
            remedy = "Whoever holds one CA's key must not be able to name another's nodes"
            yield Fault(path, f"the {mark[0]} of the CA is {owner} too", remedy)
            return


def _marks(anchor: str) -> t.Iterator[tuple[str, t.Any]]:
    certificate = x509.load_pem_x509_certificate(anchor.encode())
    yield "certificate", certificate.fingerprint(hashes.SHA256())
    yield (
        "key",
        certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    yield "subject", certificate.subject


def _subject(text: str) -> x509.Name | None:
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError:
        # The agent reads it later, and says what is wrong.
        return None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
