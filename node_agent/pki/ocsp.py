"""OCSP (RFC 6960, lightweight profile RFC 5019, nonce RFC 9654): requests read, answers built.

Requests come from anyone, so the reader has small fixed limits and one kind of failure. Answers
are assembled around what a signer has encoded once: its id, its algorithm, its certificate.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import der
from node_agent.pki.keys import SigningKey, algorithm_identifier, load_spki, verify
from node_agent.pki.outline import is_wrapped_strictly, outline
from node_agent.pki.revoke import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_CERT_IDS",
    "MAX_NONCE_BYTES",
    "MAX_REQUEST_BYTES",
    "CertId",
    "CertStatusAnswer",
    "IssuerHashes",
    "OcspError",
    "OcspRequest",
    "OcspSigner",
    "build_response",
    "complete_response",
    "error_response",
    "issuer_hashes",
    "parse_request",
    "prepare_response",
]

# A request for one certificate has about 80 bytes, and a signed one with its chain a few thousand.
MAX_REQUEST_BYTES = 8192
MAX_CERT_IDS = 20
# RFC 9654 section 2.1: from 1 to 128 octets.
MAX_NONCE_BYTES = 128
_MAX_SERIAL_OCTETS = 20
_MAX_EXTENSIONS = 10

_NONCE_OID = der.oid("1.3.6.1.5.5.7.48.1.2")
_BASIC_RESPONSE_OID = der.oid("1.3.6.1.5.5.7.48.1.1")
_EXTENDED_REVOKE = der.extension("1.3.6.1.5.5.7.48.1.9", der.NULL)
_HASH_OIDS = {
    "sha1": der.oid("1.3.14.3.2.26"),
    "sha256": der.oid("2.16.840.1.101.3.4.2.1"),
    "sha384": der.oid("2.16.840.1.101.3.4.2.2"),
    "sha512": der.oid("2.16.840.1.101.3.4.2.3"),
}
_HASH_NAMES = {
    oid + parameters: name for name, oid in _HASH_OIDS.items() for parameters in (b"", der.NULL)
}
_HASH_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_SUCCESSFUL = der.enumerated(0)

IssuerHashes = tuple[str, bytes, bytes]
"""Hash name (``sha1``, ``sha256``, ``sha384``, ``sha512``), hash of the issuer's name, hash of its
key's bits.
"""


class OcspError(enum.IntEnum):
    """OCSPResponseStatus values of answers that aren't signed (RFC 6960 section 4.2.1)."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6


@dataclass(frozen=True, slots=True)
class CertId:
    """A certificate as a request names it. ``encoded`` is its DER, which the answer repeats.

    ``issuer`` has the hash name "" for an algorithm that isn't supported: no issuer matches it.
    """

    issuer: IssuerHashes
    serial: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """What is asked for, and the nonce that the answer must repeat."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertStatusAnswer:
    """The answer for one CertId. Times are whole seconds since the epoch.

    ``never_issued`` is the "revoked" of RFC 6960 section 2.2 for a serial number that the CA never
    used; the other fields of a revocation are then fixed by the standard.
    """

    cert_id: CertId
    status: Literal["good", "revoked", "unknown"]
    this_update: int
    next_update: int | None = None
    revoked_at: int | None = None
    reason: int | None = None
    never_issued: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OcspSigner:
    """A delegated responder: a key and its certificate, and what of them goes into each answer."""

    key: SigningKey
    certificate: bytes
    serial: int
    not_before: int
    not_after: int
    responder_id: bytes
    algorithm: bytes
    certificates: bytes

    @classmethod
    def load(cls, key: SigningKey, certificate: bytes) -> OcspSigner:
        """Return the signer with this certificate (DER).

        Raises ConfigError when the certificate isn't an OCSP signer's, or not of this key.
        """
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            usage = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            is_its_key = parsed.public_key() == load_spki(key.spki)
        except (
            *(ValueError, UnsupportedAlgorithm, x509.InvalidVersion),
            *(x509.ExtensionNotFound, x509.DuplicateExtension),
        ) as error:
            raise ConfigError("the certificate is not an OCSP signer's") from error
        if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
            raise ConfigError("the certificate is not an OCSP signer's")
        if not is_its_key:
            raise ConfigError("the signer's certificate belongs to another key")
        key_hash = der.octet_string(_key_hash("sha1", key.spki))
        return cls(
            key=key,
            certificate=certificate,
            serial=parsed.serial_number,
            not_before=int(parsed.not_valid_before_utc.timestamp()),
            not_after=int(parsed.not_valid_after_utc.timestamp()),
            # RFC 6960 section 4.2.1: byKey is SHA-1 by definition, as an identifier.
            responder_id=der.context(2, key_hash, constructed=True),
            algorithm=algorithm_identifier(key.kind),
            certificates=der.context(0, der.sequence(certificate), constructed=True),
        )

    def check_issuer(self, name: bytes, spki: bytes) -> None:
        """Raise ConfigError unless the CA with this name and SubjectPublicKeyInfo (DER) signed the
        certificate: no client would take an answer of any other one (RFC 6960 section 4.2.2.2).
        """
        parsed = x509.load_der_x509_certificate(self.certificate)
        is_named = outline(self.certificate).issuer == name
        is_whole = is_named and is_wrapped_strictly(self.certificate)
        if not is_whole or not verify(spki, parsed.signature, parsed.tbs_certificate_bytes):
            raise ConfigError("the signer's certificate isn't of its CA")


def _key_hash(algorithm: str, spki: bytes) -> bytes:
    *_, (_, bits, _) = der.children(der.read_all(spki, der.SEQUENCE))
    return hashlib.new(algorithm, bits[1:], usedforsecurity=False).digest()


def issuer_hashes(name: bytes, spki: bytes) -> tuple[IssuerHashes, ...]:
    """Return how requests may name the issuer with this name and SubjectPublicKeyInfo (DER)."""
    return tuple(
        (
            algorithm,
            hashlib.new(algorithm, name, usedforsecurity=False).digest(),
            _key_hash(algorithm, spki),
        )
        for algorithm in _HASH_BYTES
    )


def parse_request(data: bytes) -> OcspRequest:
    """Return the request in ``data`` (DER).

    Raises RequestRefused, and nothing else, when it is malformed or beyond the limits: answer it
    with ``error_response(OcspError.MALFORMED_REQUEST)``. A signature on the request is not
    checked, because answers are the same for everyone.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise _refused(f"the request is larger than {MAX_REQUEST_BYTES} bytes")
    try:
        return _parse(data)
    except der.DerError as error:
        raise _refused(f"the request is malformed: {error}") from error


def _refused(detail: str) -> RequestRefused:
    return RequestRefused(detail, field="ocsp_request", remedy="send an RFC 6960 OCSPRequest")


def _parse(data: bytes) -> OcspRequest:
    read = der.read
    tag, at, end = read(data)
    tbs_tag, tbs_at, tbs_end = read(data, at)
    if tag != der.SEQUENCE or tbs_tag != der.SEQUENCE or end != len(data):
        raise der.DerError("not an OCSPRequest")
    if tbs_end != end:
        signature_tag, _, signature_end = read(data, tbs_end)
        if signature_tag != 0xA0 or signature_end != end:
            raise der.DerError("something follows the request")
    tag, start, stop = read(data, tbs_at)
    if tag == 0xA0:
        if data[start:stop] != b"\x02\x01\x00":
            raise der.DerError("not version 1")
        tag, start, stop = read(data, stop)
    if tag == 0xA1:
        tag, start, stop = read(data, stop)
    if tag != der.SEQUENCE:
        raise der.DerError("the request list is missing")
    cert_ids = _parse_list(data, start, stop)
    return OcspRequest(cert_ids, _parse_nonce(data, stop, tbs_end) if stop != tbs_end else None)


def _parse_list(data: bytes, at: int, end: int) -> tuple[CertId, ...]:
    cert_ids = []
    while at < end:
        tag, start, at = der.read(data, at)
        id_tag, id_at, id_end = der.read(data, start)
        if tag != der.SEQUENCE or id_tag != der.SEQUENCE or at > end or id_end > at:
            raise der.DerError("not a Request")
        if id_end != at:
            _refuse_critical(data, id_end, at, tag=0xA0)
        cert_ids.append(_parse_cert_id(data, start, id_at, id_end))
        if len(cert_ids) > MAX_CERT_IDS:
            raise der.DerError(f"more than {MAX_CERT_IDS} certificates")
    if not cert_ids:
        raise der.DerError("no certificate is asked for")
    return tuple(cert_ids)


def _parse_cert_id(data: bytes, whole: int, at: int, end: int) -> CertId:
    read = der.read
    tag_a, start, stop = read(data, at)
    name = _HASH_NAMES.get(data[start:stop])
    if name is None:
        name = _unsupported_hash(data[start:stop])
    tag_n, start, stop = read(data, stop)
    name_hash = data[start:stop]
    tag_k, start, stop = read(data, stop)
    key_hash = data[start:stop]
    tag_s, start, stop = read(data, stop)
    if (tag_a, tag_n, tag_k, tag_s) != (der.SEQUENCE, 4, 4, 2) or stop != end:
        raise der.DerError("not a CertID")
    if stop - start > _MAX_SERIAL_OCTETS:
        raise der.DerError("a serial number is longer than 20 octets")
    if name and not len(name_hash) == len(key_hash) == _HASH_BYTES[name]:
        raise der.DerError("a hash has the wrong length")
    serial = der.decode_integer(data[start:stop])
    return CertId((name, name_hash, key_hash), serial, data[whole:end])


def _unsupported_hash(algorithm: bytes) -> str:
    """Return the name that no issuer has. Raises DerError unless it is an AlgorithmIdentifier."""
    parts = der.children(algorithm)
    if not 1 <= len(parts) <= 2 or parts[0][0] != der.OID:
        raise der.DerError("not a hash algorithm")
    der.decode_oid(parts[0][1])
    return ""


def _parse_nonce(data: bytes, at: int, end: int) -> bytes | None:
    nonce = _refuse_critical(data, at, end, tag=0xA2).get(_NONCE_OID)
    if nonce is None:
        return None
    content = der.read_all(nonce, der.OCTET_STRING)
    if not 1 <= len(content) <= MAX_NONCE_BYTES:
        raise der.DerError(f"a nonce has 1 to {MAX_NONCE_BYTES} octets")
    return content


def _refuse_critical(data: bytes, at: int, end: int, *, tag: int) -> dict[bytes, bytes]:
    """Return {OID: value} of the extensions there; raises for one that is critical and unknown."""
    found_tag, start, stop = der.read(data, at)
    if found_tag != tag or stop != end:
        raise der.DerError("something unexpected follows")
    found: dict[bytes, bytes] = {}
    for element, body, _ in der.children(der.read_all(data[start:stop], der.SEQUENCE)):
        parts = list(der.children(body)) if element == der.SEQUENCE else []
        if not 2 <= len(parts) <= 3 or parts[0][0] != der.OID or parts[-1][0] != der.OCTET_STRING:
            raise der.DerError("not an Extension")
        oid = parts[0][2]
        if len(parts) == 3 and parts[1][2] != der.TRUE:
            raise der.DerError("a criticality that is not TRUE")
        if len(parts) == 3 and oid != _NONCE_OID:
            raise der.DerError("an unknown extension is critical")
        if oid in found or len(found) >= _MAX_EXTENSIONS:
            raise der.DerError("extensions are repeated or too many")
        found[oid] = parts[-1][1]
    return found


def error_response(error: OcspError) -> bytes:
    """Return the unsigned answer with this status."""
    return der.sequence(der.enumerated(error))


def build_response(
    signer: OcspSigner,
    answers: Sequence[CertStatusAnswer],
    *,
    produced_at: int,
    nonce: bytes | None = None,
) -> bytes:
    """Return the answer, signed here. Raises TokenError."""
    data = prepare_response(signer, answers, produced_at=produced_at, nonce=nonce)
    return complete_response(signer, data, signer.key.sign(data))


def prepare_response(
    signer: OcspSigner,
    answers: Sequence[CertStatusAnswer],
    *,
    produced_at: int,
    nonce: bytes | None = None,
) -> bytes:
    """Return the ResponseData that ``signer.key`` has to sign."""
    extensions = b""
    if nonce is not None:
        extensions = der.sequence(_NONCE_OID, der.octet_string(der.octet_string(nonce)))
    if any(answer.never_issued for answer in answers):
        extensions += _EXTENDED_REVOKE
    if extensions:
        extensions = der.context(1, der.tlv(der.SEQUENCE, extensions), constructed=True)
    return der.sequence(
        signer.responder_id,
        der.generalized_time(produced_at),
        der.sequence(*[_single_response(answer) for answer in answers]),
        extensions,
    )


def complete_response(signer: OcspSigner, response_data: bytes, signature: bytes) -> bytes:
    """Return the OCSPResponse with ``signature`` over ``response_data``."""
    basic = der.sequence(
        response_data, signer.algorithm, der.bit_string(signature), signer.certificates
    )
    response_bytes = der.sequence(_BASIC_RESPONSE_OID, der.octet_string(basic))
    return der.sequence(_SUCCESSFUL, der.context(0, response_bytes, constructed=True))


def _single_response(answer: CertStatusAnswer) -> bytes:
    parts = answer.cert_id.encoded + _cert_status(answer) + der.generalized_time(answer.this_update)
    if answer.next_update is not None:
        parts += b"\xa0\x11" + der.generalized_time(answer.next_update)
    return der.header(der.SEQUENCE, len(parts)) + parts


def _cert_status(answer: CertStatusAnswer) -> bytes:
    if answer.never_issued:
        return _revoked(0, Reason.CERTIFICATE_HOLD)
    if answer.status == "good":
        return b"\x80\x00"
    if answer.status == "unknown":
        return b"\x82\x00"
    return _revoked(answer.revoked_at or 0, answer.reason or 0)


def _revoked(at: int, reason: int) -> bytes:
    parts = der.generalized_time(at)
    if reason:
        parts += b"\xa0\x03" + der.enumerated(reason)
    return der.tlv(0xA1, parts)
