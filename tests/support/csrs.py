"""Requests, profiles and CAs for the tests of ``pki``: sane defaults, so that a test shows only
what is unusual about its case."""

from __future__ import annotations

import base64
import functools
import ipaddress
import subprocess
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
from node_agent.pki import authorities
from node_agent.pki.csr import Csr, parse_csr
from node_agent.pki.issue import sign
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey, PrivateKey, generate_key
from node_agent.pki.names import parse_name
from node_agent.pki.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "NOW",
    "PROFILE_SPEC",
    "csr_der",
    "issuing_ca",
    "key_of_kind",
    "openssl",
    "parsed_csr",
    "pem",
    "pkilint_crl",
    "pkilint_ocsp",
    "profile",
    "root_ca",
]

# 2026-03-01T12:00:00Z: tests never ask the wall clock. ``openssl verify`` is given it too.
NOW = 1772366400

PROFILE_SPEC = CertificateProfileSpec(
    name="tls",
    subject=(SubjectRule(attribute="common_name"),),
    san=(SanRule(kind="dns"), SanRule(kind="ip"), SanRule(kind="uri"), SanRule(kind="email")),
)


@functools.cache
def key_of_kind(kind: str = "ec-p256", which: int = 0) -> PrivateKey:
    """Return a key of ``kind``, made once per run; ``which`` tells several of one kind apart."""
    del which
    return generate_key(kind)


def profile(**changes: Any) -> Profile:
    """Return the default profile with ``changes`` to its specification."""
    fields = {name: getattr(PROFILE_SPEC, name) for name in PROFILE_SPEC.__struct_fields__}
    return Profile.from_spec(CertificateProfileSpec(**{**fields, **changes}))


def general_name(name: str) -> x509.GeneralName:
    """Return ``dns:…``, ``ip:…``, ``email:…`` or ``uri:…`` as a GeneralName."""
    kind, _, value = name.partition(":")
    match kind:
        case "dns":
            return x509.DNSName(value)
        case "ip":
            return x509.IPAddress(ipaddress.ip_address(value))
        case "email":
            return x509.RFC822Name(value)
    return x509.UniformResourceIdentifier(value)


def csr_der(
    subject: str = "",
    names: Sequence[str] = (),
    *,
    key: PrivateKey | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """Return a request as another program would make it. ``subject`` is RFC 4514 text."""
    key = key or key_of_kind("ec-p256", 1)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name.from_rfc4514_string(subject, {"emailAddress": x509.NameOID.EMAIL_ADDRESS})
    )
    if names:
        san = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(san, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    hashed = isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    request = builder.sign(key, hashes.SHA256() if hashed else None)
    return request.public_bytes(serialization.Encoding.DER)


def parsed_csr(
    subject: str = "CN=host.example.org",
    names: Sequence[str] = ("dns:host.example.org",),
    *,
    key: PrivateKey | None = None,
) -> Csr:
    """Return a proven request."""
    return parse_csr(csr_der(subject, names, key=key))


@functools.cache
def root_ca(kind: str = "ec-p256", path_length: int | None = None) -> Issuer:
    """Return a root CA whose key is of ``kind``."""
    key = LocalKey.of(key_of_kind(kind, 100))
    made = sign(
        authorities.prepare_self_signed_ca(
            key,
            parse_name("CN=Test Root,O=Example,C=DE"),
            kind="root",
            now=NOW,
            validity_days=7300,
            path_length=path_length,
        )
    )
    return Issuer.load(key, [made.der], crl_urls=["http://va.example.org/crl/root.crl"])


@functools.cache
def issuing_ca(kind: str = "ec-p256") -> Issuer:
    """Return an issuing CA below the root, with the usual URLs."""
    root, key = root_ca(), LocalKey.of(key_of_kind(kind, 200))
    made = sign(
        authorities.prepare_issuing_ca(
            root, key.spki, parse_name("CN=Test Issuing,O=Example"), now=NOW, validity_days=3650
        )
    )
    return Issuer.load(
        key,
        [made.der, *root.chain],
        ocsp_urls=["http://va.example.org/ocsp"],
        issuer_urls=["http://va.example.org/ca/issuing.cer"],
        crl_urls=["http://va.example.org/crl/issuing.crl"],
    )


def pkilint_crl(encoded: bytes) -> list[str]:
    """Return what pkilint finds wrong with a CRL, warnings and above."""
    from pkilint import loader, pkix
    from pkilint.pkix import crl, extension, name

    validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    return _findings(validator, loader.load_crl(encoded, "crl"))


def pkilint_ocsp(encoded: bytes) -> list[str]:
    """Return what pkilint finds wrong with an OCSP response, warnings and above."""
    from pkilint import loader, pkix
    from pkilint.pkix import extension, name, ocsp

    validator = ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    return _findings(validator, loader.load_ocsp_response(encoded, "response"))


def _findings(validator: Any, document: Any) -> list[str]:
    from pkilint.validation import ValidationFindingSeverity as Severity

    return [
        description.finding.code
        for result in validator.validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity <= Severity.WARNING
    ]


def pem(label: str, der: bytes) -> bytes:
    """Return ``der`` as PEM."""
    body = base64.encodebytes(der)
    lines = b"".join(body.split())
    wrapped = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label.encode(), wrapped, label.encode())


def openssl(*arguments: str | Path, stdin: bytes = b"") -> str:
    """Run openssl and return what it printed; fails the test when it fails."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, timeout=30, check=False
    )
    printed = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, printed
    return printed
