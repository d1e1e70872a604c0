"""Certificate signing requests (PKCS #10, RFC 2986): read strictly, proven, and nothing believed.

What comes out is a key whose holder signed the request and the names that were asked for, in
normal form. Requested extensions other than alternative names are ignored, because the profile
decides them; a request to become a CA is refused outright.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import SignatureAlgorithmOID

from node_agent.errors import CsrRefused, RequestRefused
from node_agent.pki.keys import key_kind_of, spki_of
from node_agent.pki.names import (
    AlternativeName,
    DistinguishedName,
    NameAttribute,
    SanKind,
    attribute_of_oid,
    normalize,
    validate_attribute,
)
from node_agent.pki.weak_keys import weakness

if TYPE_CHECKING:
    from cryptography.x509 import CertificateSigningRequest

__all__ = ["MAX_CSR_BYTES", "MAX_NAMES", "Csr", "parse_csr"]

# An ML-DSA-87 request with a hundred names takes about 16 KiB; boulder accepts no more names.
MAX_CSR_BYTES = 32 * 1024
MAX_NAMES = 250

_PEM = re.compile(
    rb"\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\s(?P<body>[A-Za-z0-9+/=\s]+)"
    rb"-----END (?:NEW )?CERTIFICATE REQUEST-----\s*\Z"
)
_SOUND_HASHES = (
    hashes.SHA256,
    hashes.SHA384,
    hashes.SHA512,
    hashes.SHA3_256,
    hashes.SHA3_384,
    hashes.SHA3_512,
)
_ECDSA = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: ec.ECDSA(hashes.SHA256()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: ec.ECDSA(hashes.SHA384()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: ec.ECDSA(hashes.SHA512()),
}
_SAN_CLASSES: tuple[tuple[type[x509.GeneralName], SanKind], ...] = (
    (x509.DNSName, "dns"),
    (x509.IPAddress, "ip"),
    (x509.RFC822Name, "email"),
    (x509.UniformResourceIdentifier, "uri"),
)
_REMEDY = "make a new request, for example with openssl req -new"


@dataclass(frozen=True, slots=True)
class Csr:
    """A proven request. ``spki`` is the public key's canonical SubjectPublicKeyInfo DER."""

    der: bytes
    spki: bytes
    key_kind: str
    subject: DistinguishedName
    alternative_names: tuple[AlternativeName, ...]


def parse_csr(data: bytes) -> Csr:
    """Return the request in ``data`` (DER, or PEM with one request).

    Raises CsrRefused, and nothing else, when it is malformed, not signed by its own key, has a
    key that is weak or unsupported, or names that can't be certified.
    """
    encoded = _to_der(data)
    try:
        request = x509.load_der_x509_csr(encoded)
        return _read(encoded, request)
    except CsrRefused:
        raise
    except RequestRefused as error:
        raise CsrRefused(error.detail, field=error.field, remedy=error.remedy) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise _refused("the request is not a well-formed PKCS #10 structure") from error
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _refused("the request's extensions can't be read") from error


def _refused(detail: str, *, field: str = "csr", remedy: str = _REMEDY) -> CsrRefused:
    return CsrRefused(detail, field=field, remedy=remedy)


def _to_der(data: bytes) -> bytes:
    if len(data) > MAX_CSR_BYTES:
        raise _refused(f"the request is larger than {MAX_CSR_BYTES} bytes")
    if data[:1] == b"\x30":
        return bytes(data)
    match = _PEM.match(data)
    if match is None:
        raise _refused("the request is neither DER nor one PEM CERTIFICATE REQUEST")
    try:
        return base64.b64decode(b"".join(match["body"].split()), validate=True)
    except binascii.Error as error:
        raise _refused("the request's PEM body is not base64") from error


def _read(encoded: bytes, request: CertificateSigningRequest) -> Csr:
    public_key = request.public_key()
    kind = key_kind_of(public_key)
    if fault := weakness(public_key):  # type: ignore[arg-type]  # of a kind just found
        raise _refused(f"the key is weak: {fault}", field="key", remedy="generate a new key")
    _verify_possession(request, public_key)
    return Csr(
        der=encoded,
        spki=spki_of(public_key),  # type: ignore[arg-type]  # as above
        key_kind=kind,
        subject=_subject(request.subject),
        alternative_names=_alternative_names(request),
    )


def _verify_possession(request: CertificateSigningRequest, public_key: object) -> None:
    algorithm = request.signature_hash_algorithm
    if algorithm is not None and not isinstance(algorithm, _SOUND_HASHES):
        raise _refused(
            f"the request is signed with {algorithm.name}", remedy="sign it with SHA-256 or better"
        )
    if not _is_signed_by(request, public_key):
        raise _refused("the request is not signed by the key that it names")


def _is_signed_by(request: CertificateSigningRequest, public_key: object) -> bool:
    """Tell whether the request's own key signed it.

    The library's check decodes the key once more, which for EC takes a third of the verification.
    """
    algorithm = _ECDSA.get(request.signature_algorithm_oid)
    if algorithm is None or not isinstance(public_key, ec.EllipticCurvePublicKey):
        return request.is_signature_valid
    try:
        public_key.verify(request.signature, request.tbs_certrequest_bytes, algorithm)
    except InvalidSignature:
        return False
    return True


def _subject(name: x509.Name) -> DistinguishedName:
    attributes = []
    for rdn in name.rdns:
        if len(rdn) != 1:
            raise _refused(
                "the subject has a part with several attributes",
                field="subject",
                remedy="give each attribute its own part (openssl: no -multivalue-rdn)",
            )
        attributes.append(_attribute(next(iter(rdn))))
    if len(attributes) > MAX_NAMES:
        raise _refused("the subject has too many attributes", field="subject")
    return tuple(attributes)


def _attribute(part: x509.NameAttribute[str | bytes]) -> NameAttribute:
    attribute = attribute_of_oid(part.oid.dotted_string)
    if attribute is None or not isinstance(part.value, str):
        raise _refused(
            f"the subject attribute {part.oid.dotted_string} is not supported",
            field="subject",
            remedy="leave it out of the request",
        )
    if fault := validate_attribute(attribute, part.value):
        field = f"subject.{attribute}"
        raise _refused(f"{attribute} {fault}", field=field, remedy="correct the value")
    return NameAttribute(attribute, part.value)


def _alternative_names(request: CertificateSigningRequest) -> tuple[AlternativeName, ...]:
    names: dict[AlternativeName, None] = {}
    for extension in request.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise _refused(
                "the request asks for a CA certificate",
                field="basic_constraints",
                remedy="a CA is made on its node, never by enrolment",
            )
        if isinstance(extension.value, x509.SubjectAlternativeName):
            for name in extension.value:
                names[_alternative_name(name)] = None
    if len(names) > MAX_NAMES:
        raise _refused(f"more than {MAX_NAMES} alternative names", field="san")
    return tuple(names)


def _alternative_name(name: x509.GeneralName) -> AlternativeName:
    for family, kind in _SAN_CLASSES:
        if isinstance(name, family):
            return normalize(kind, str(name.value), wildcard=True)
    raise _refused(
        f"alternative names of the kind {type(name).__name__} are not supported",
        field="san",
        remedy="use DNS names, IP addresses, e-mail addresses and URIs",
    )
