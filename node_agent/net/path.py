"""Certification path validation for peers (RFC 5280, section 6), as far as a closed PKI needs it.

Python's ``ssl`` checks a chain during the handshake, but it can't be asked again when trust or
CRLs change, its CRL mode fails every peer once one CRL is missing, and it can't validate the
origin of a signed envelope. So each peer certificate is validated here, after the handshake and
before Hello is answered, and again whenever trust or CRLs are replaced.

What differs from RFC 5280, always toward refusal:

- names chain when they are equal value by value; there is no case folding or white-space folding;
- certificate policies aren't processed: a critical policy constraint, mapping or inhibition is
  refused as an extension that isn't understood;
- a CRL counts when the key that signed the certificate signed it too, for all certificates and
  all reasons: delta, indirect and partitioned CRLs aren't used.

Everything is deterministic in (certificates, CRLs, time); nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtensionOID

from node_agent.errors import HandshakeError
from node_agent.net.crls import RevocationLists
from node_agent.net.name_constraints import names_of, violated_constraint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["PathRules", "PathValidator"]

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)

# Extensions that are processed below, or that restrict nothing that a peer link depends on.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)
# NIST SP 800-131A rev. 2: SHA-1 signatures and RSA below 2048 bits are disallowed.
_REFUSED_HASHES = (hashes.MD5, hashes.SHA1)
_MINIMUM_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class PathRules:
    """How strict to be.

    ``max_certificates`` is leaf to anchor; OpenSSL's default depth is 100, a peer's path has 2 or
    3. ``max_signature_checks`` bounds what a crafted set of look-alike issuers costs (Go's
    verifier stops at 100 for the same reason). ``require_current_crl`` refuses where no current CRL
    is held for an issuer; without it a CRL still counts after its nextUpdate, so that a revocation
    is never forgotten, and a CRL that comes late doesn't end every link at once.
    """

    max_certificates: int = 8
    max_signature_checks: int = 100
    extended_key_usages: tuple[x509.ObjectIdentifier, ...] = ()
    require_current_crl: bool = False


class PathValidator:
    """Finds and checks a path from a leaf to one of ``anchors``."""

    def __init__(
        self,
        anchors: Iterable[x509.Certificate],
        *,
        intermediates: Iterable[x509.Certificate] = (),
        crls: Iterable[x509.CertificateRevocationList] = (),
        rules: PathRules | None = None,
    ) -> None:
        self._rules = rules or PathRules()
        self._anchors = _by_subject(anchors)
        self._intermediates = _by_subject(intermediates)
        self._revocation = RevocationLists(crls, required=self._rules.require_current_crl)

    def validate(
        self, leaf: x509.Certificate, *, intermediates: Iterable[x509.Certificate] = (), now: float
    ) -> list[x509.Certificate]:
        """Return a valid path, leaf first and anchor last.

        Raises HandshakeError saying what is wrong with the path that came furthest.
        """
        search = _Search(
            self._rules,
            self._revocation,
            self._anchors,
            [self._intermediates, _by_subject(intermediates)],
            now,
        )
        try:
            return search.run(leaf)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise HandshakeError(f"the peer's certificate can't be read: {error}") from error


class _Search:
    """One depth-first search; remembers the fault that was met at the greatest depth."""

    def __init__(
        self,
        rules: PathRules,
        revocation: RevocationLists,
        anchors: dict[x509.Name, list[x509.Certificate]],
        pools: Sequence[dict[x509.Name, list[x509.Certificate]]],
        now: float,
    ) -> None:
        self.rules = rules
        self.revocation = revocation
        self.anchors = anchors
        self.pools = pools
        self.now = now
        self.signature_checks = 0
        self.fault = ""
        self.fault_depth = 0

    def run(self, leaf: x509.Certificate) -> list[x509.Certificate]:
        path = self._extend([leaf])
        if path is None:
            raise HandshakeError(self.fault or "the peer's certificate has no path to our trust")
        return path

    def _extend(self, path: list[x509.Certificate]) -> list[x509.Certificate] | None:
        last = path[-1]
        for anchor in self.anchors.get(last.issuer, ()):
            if self._is_signed(last, anchor) and self._is_valid([*path, anchor]):
                return [*path, anchor]
        if len(path) + 1 >= self.rules.max_certificates:
            self._note(path, f"the path is longer than {self.rules.max_certificates} certificates")
            return None
        return self._extend_through_intermediates(path)

    def _extend_through_intermediates(
        self, path: list[x509.Certificate]
    ) -> list[x509.Certificate] | None:
        last = path[-1]
        for pool in self.pools:
            for candidate in pool.get(last.issuer, ()):
                if candidate in path or not self._is_signed(last, candidate):
                    continue
                found = self._extend([*path, candidate])
                if found is not None:
                    return found
        self._note(path, f"no trusted issuer {last.issuer.rfc4514_string() or '(empty name)'}")
        return None

    def _is_signed(self, subject: x509.Certificate, issuer: x509.Certificate) -> bool:
        self.signature_checks += 1
        if self.signature_checks > self.rules.max_signature_checks:
            raise HandshakeError("the peer's certificate needs too many signature checks")
        try:
            subject.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            return False
        return True

    def _is_valid(self, path: list[x509.Certificate]) -> bool:
        fault = (
            _certificate_fault(path, self.rules, self.now)
            or _name_constraint_fault(path)
            or self._revocation_fault(path)
        )
        if fault:
            self._note(path, fault)
        return not fault

    def _revocation_fault(self, path: list[x509.Certificate]) -> str | None:
        for subject, issuer in pairwise(path):
            fault = self.revocation.fault_of(subject, issuer, self.now)
            if fault:
                return fault
        return None

    def _note(self, path: list[x509.Certificate], fault: str) -> None:
        if len(path) > self.fault_depth:
            self.fault, self.fault_depth = fault, len(path)


def _certificate_fault(path: list[x509.Certificate], rules: PathRules, now: float) -> str | None:
    for index, certificate in enumerate(path):
        fault = _own_fault(certificate, now)
        if index:
            fault = fault or _issuer_fault(certificate, _issued_below(path[1:index]))
        else:
            fault = fault or _leaf_fault(certificate, rules.extended_key_usages)
        if fault:
            return f"{certificate.subject.rfc4514_string() or 'certificate'}: {fault}"
    return None


def _issued_below(between: list[x509.Certificate]) -> int:
    """Count the CA certificates below an issuer that its path length limits (not self-issued)."""
    return sum(certificate.subject != certificate.issuer for certificate in between)


def _own_fault(certificate: x509.Certificate, now: float) -> str | None:
    if now < certificate.not_valid_before_utc.timestamp():
        return "not valid yet"
    if now > certificate.not_valid_after_utc.timestamp():
        return "expired"
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            return f"critical extension {extension.oid.dotted_string} isn't understood"
    return _algorithm_fault(certificate)


def _algorithm_fault(certificate: x509.Certificate) -> str | None:
    if isinstance(certificate.signature_hash_algorithm, _REFUSED_HASHES):
        return f"signed with {certificate.signature_hash_algorithm.name}"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MINIMUM_RSA_BITS:
        return f"RSA key of {key.key_size} bits"
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA key"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < 256:
        return f"EC key of {key.curve.key_size} bits"
    return None


def _issuer_fault(certificate: x509.Certificate, issued_below: int) -> str | None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return "isn't a CA"
    if constraints.path_length is not None and issued_below > constraints.path_length:
        return f"its path length {constraints.path_length} is exceeded"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "its key usage doesn't allow signing certificates"
    return None


def _leaf_fault(
    certificate: x509.Certificate, extended_key_usages: Sequence[x509.ObjectIdentifier]
) -> str | None:
    if not extended_key_usages:
        return None
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "its key usage doesn't allow signatures"
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return "a CA can't be a peer"
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    # anyExtendedKeyUsage isn't enough: an authenticator is made for this one purpose.
    if extended is None or not all(usage in extended for usage in extended_key_usages):
        return "its extended key usage doesn't allow peer links"
    return None


def _name_constraint_fault(path: list[x509.Certificate]) -> str | None:
    for index, issuer in enumerate(path[1:], start=1):
        constraints = _extension(issuer, x509.NameConstraints)
        if constraints is None:
            continue
        for depth, certificate in enumerate(path[:index]):
            if depth and certificate.subject == certificate.issuer:
                continue  # RFC 5280, 6.1.3 (b): self-issued certificates only count as the leaf
            fault = violated_constraint(constraints, names_of(certificate))
            if fault:
                return fault
    return None


def _extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _by_subject(
    certificates: Iterable[x509.Certificate],
) -> dict[x509.Name, list[x509.Certificate]]:
    index: dict[x509.Name, list[x509.Certificate]] = {}
    for certificate in certificates:
        same_name = index.setdefault(certificate.subject, [])
        if certificate not in same_name:
            same_name.append(certificate)
    return index
