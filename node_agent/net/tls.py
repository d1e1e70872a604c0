"""A node's TLS identity: its key and chain, whom it trusts, and how all of that is replaced.

TLS 1.3 only, certificates on both sides, ALPN ``peersys/1``. Who the peer *is* comes from the one
``spiffe://`` URI in its certificate, never from a host name: addresses change, identities don't.
"""

from __future__ import annotations

import os
import secrets
import ssl
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.clock import Clock, SystemClock
from node_agent.errors import ConfigError, HandshakeError
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.net.crls import check_crls
from node_agent.net.path import PathRules, PathValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from node_agent.net.issuers import PeerIssuer

__all__ = [
    "ALPN",
    "IdentityHolder",
    "TlsIdentity",
    "load_key",
    "node_identity_of",
    "peer_identity_of",
]

ALPN = "peersys/1"
_SCHEME = "spiffe://"
_PEM = serialization.Encoding.PEM
_DER = serialization.Encoding.DER
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
_LEAF_AND_ANCHOR = 2


class TlsIdentity:
    """One immutable set of key, chain (leaf first), trust anchors and CRLs.

    ``trust_anchors`` vouch for the nodes of this node's own trust domain, each of ``peer_issuers``
    for those of its own.

    ``chain`` without the root. Its CA certificates also serve as intermediates when peers are
    validated, because Python before 3.13 hands out only the peer's leaf after a handshake: a
    Management CA that isn't itself the trust anchor has to be in our own chain or in
    ``trust_anchors``. Raises ConfigError when the parts don't fit together.
    """

    def __init__(
        self,
        *,
        private_key: PrivateKeyTypes,
        chain: Sequence[x509.Certificate],
        trust_anchors: Sequence[x509.Certificate],
        crls: Sequence[x509.CertificateRevocationList] = (),
        peer_issuers: Sequence[PeerIssuer] = (),
        clock: Clock | None = None,
        require_current_crl: bool = False,
    ) -> None:
        if not chain:
            raise ConfigError("has no certificate", where="authenticator: certificate")
        if not trust_anchors:
            raise ConfigError("are missing", where="authenticator: trust_anchors")
        self.private_key = private_key
        self.chain = tuple(chain)
        self.trust_anchors = tuple(trust_anchors)
        self.crls = tuple(crls)
        self.peer_issuers = tuple(peer_issuers)
        self.require_current_crl = require_current_crl
        self.clock: Clock = clock or SystemClock()
        self._check_key()
        check_crls(self.crls, [*self.trust_anchors, *self.chain[1:]], where="authenticator: crls")
        self.node = _own_identity(self.chain[0])
        self._issuers = _by_anchor(self.peer_issuers, self.trust_anchors)
        self._validator = PathValidator(
            (*self.trust_anchors, *self._issuers),
            intermediates=self.chain[1:],
            crls=[*self.crls, *(crl for issuer in self.peer_issuers for crl in issuer.crls)],
            rules=PathRules(
                extended_key_usages=(
                    ExtendedKeyUsageOID.CLIENT_AUTH,
                    ExtendedKeyUsageOID.SERVER_AUTH,
                ),
                require_current_crl=require_current_crl,
            ),
        )

    @classmethod
    def from_pem(
        cls,
        *,
        private_key: PrivateKeyTypes,
        chain: str,
        trust_anchors: Sequence[str],
        crls: Sequence[str] = (),
        clock: Clock | None = None,
        require_current_crl: bool = False,
    ) -> TlsIdentity:
        """Build an identity from PEM text. Raises ConfigError naming the part at fault."""
        with _reading("authenticator: certificate"):
            certificates = x509.load_pem_x509_certificates(chain.encode())
        with _reading("authenticator: trust_anchors"):
            anchors = [
                certificate
                for anchor in trust_anchors
                for certificate in x509.load_pem_x509_certificates(anchor.encode())
            ]
        with _reading("authenticator: crls"):
            lists = [x509.load_pem_x509_crl(crl.encode()) for crl in crls]
        return cls(
            private_key=private_key,
            chain=certificates,
            trust_anchors=anchors,
            crls=lists,
            clock=clock,
            require_current_crl=require_current_crl,
        )

    @property
    def certificate(self) -> x509.Certificate:
        """The node's own certificate."""
        return self.chain[0]

    @cached_property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain in DER, leaf first."""
        return tuple(certificate.public_bytes(_DER) for certificate in self.chain)

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """The context of the dialling side."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    @cached_property
    def server_context(self) -> ssl.SSLContext:
        """The context of the listening side."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        # A resumed session would carry a certificate that was checked under yesterday's trust.
        context.num_tickets = 0
        return context

    def verify_peer(self, chain_der: Sequence[bytes]) -> PeerIdentity:
        """Validate a peer's chain (DER, leaf first) under this trust, now.

        Raises HandshakeError saying what is wrong.
        """
        if not chain_der:
            raise HandshakeError("the peer sent no certificate")
        try:
            leaf, *others = (x509.load_der_x509_certificate(der) for der in chain_der)
        except ValueError as error:
            raise HandshakeError(f"the peer's certificate can't be read: {error}") from error
        path = self._validator.validate(leaf, intermediates=others, now=self.clock.now())
        peer = peer_identity_of(leaf)
        self._check_vouched(path, peer.node)
        return peer

    def _context(self, protocol: ssl._SSLMethod) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # identity is the URI SAN, checked after the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        # A subordinate Management CA may be the trust anchor; OpenSSL wants a root by default.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols([ALPN])
        # Trusted, but not named in the handshake: that would tell each tenant of all the others.
        trusted = (*self.trust_anchors, *self._issuers)
        anchors = b"".join(anchor.public_bytes(_DER) for anchor in trusted)
        context.load_verify_locations(cadata=anchors)
        chain = b"".join(certificate.public_bytes(_PEM) for certificate in self.chain)
        load_key(context, self.private_key, chain)
        return context

    def _check_key(self) -> None:
        own = self.private_key.public_key().public_bytes(_DER, _SPKI)
        if own != self.chain[0].public_key().public_bytes(_DER, _SPKI):
            raise ConfigError(
                "isn't for the authenticator's key",
                where="authenticator: certificate",
                remedy="certify the node's current CSR",
            )

    def _check_vouched(self, path: Sequence[x509.Certificate], node: NodeIdentity) -> None:
        """Raise HandshakeError unless the anchor at the path's end may vouch for ``node``.

        What is said is the same whether another issuer may or nobody does.
        """
        issuer = self._issuers.get(path[-1])
        domain = self.node.trust_domain if issuer is None else issuer.trust_domain
        if node.trust_domain != domain:
            raise HandshakeError(f"its issuer doesn't vouch for nodes of {node.trust_domain}")
        if issuer is not None and len(path) > _LEAF_AND_ANCHOR:
            raise HandshakeError("no trust anchor of its trust domain signed it itself")


class IdentityHolder:
    """The identity in force. ``replace`` is the hot reload: links stay, rights don't.

    New handshakes use the new key, chain and trust at once. Links that are up keep their TLS
    session; every subscriber is told, and a link whose peer no longer validates closes itself.
    """

    def __init__(self, identity: TlsIdentity) -> None:
        self._identity = identity
        self._generation = 1
        self._subscribers: dict[int, Callable[[], None]] = {}
        self._next_token = 0

    @property
    def current(self) -> TlsIdentity:
        """The identity in force."""
        return self._identity

    @property
    def generation(self) -> int:
        """How many identities there have been; a cached verdict is good for one generation."""
        return self._generation

    @property
    def node(self) -> NodeIdentity:
        """Who this node is."""
        return self._identity.node

    @property
    def clock(self) -> Clock:
        """The clock of the identity in force."""
        return self._identity.clock

    def replace(self, identity: TlsIdentity) -> None:
        """Put ``identity`` in force and tell every subscriber."""
        self._identity = identity
        self._generation += 1
        for notify in list(self._subscribers.values()):
            notify()

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        """Call ``notify`` after each replacement; returns the function that ends this."""
        token = self._next_token
        self._next_token += 1
        self._subscribers[token] = notify

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)

        return unsubscribe

    def verify_peer(self, chain_der: Sequence[bytes]) -> PeerIdentity:
        """Validate a peer's chain (DER, leaf first) under the trust in force.

        Raises HandshakeError saying what is wrong.
        """
        return self._identity.verify_peer(chain_der)


def load_key(context: ssl.SSLContext, private_key: PrivateKeyTypes, chain_pem: bytes) -> None:
    """Give OpenSSL a key and its chain (leaf first) through an anonymous file.

    ``ssl`` loads keys from a path only. The key must not reach a disk in the clear, so it goes into
    a memfd (memory that has no name in any file system), and, because such pages may be swapped out
    or dumped, encrypted under a password that exists for this one load. Raises ssl.SSLError when
    key and chain don't fit together.
    """
    password = secrets.token_bytes(32).hex().encode()
    key = private_key.private_bytes(
        _PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    with _anonymous_file(chain_pem + key) as path:
        context.load_cert_chain(path, password=password)


def node_identity_of(certificate: x509.Certificate) -> NodeIdentity:
    """Return the node that ``certificate`` names. Raises HandshakeError unless there is just one.

    Exactly one URI, as the SPIFFE X.509-SVID document asks (section 2): with two, different
    checks could look at different ones.
    """
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise HandshakeError("the certificate has no subject alternative name") from None
    uris = san.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(_SCHEME):
        raise HandshakeError(f"the certificate names {len(uris)} URIs instead of one {_SCHEME}…")
    try:
        return NodeIdentity.parse(uris[0])
    except ConfigError as error:
        raise HandshakeError(f"the certificate names no node: {error}") from error


def peer_identity_of(certificate: x509.Certificate) -> PeerIdentity:
    """Return what ``certificate`` says of its holder; validate the certificate first."""
    return PeerIdentity(
        node=node_identity_of(certificate),
        issuer=certificate.issuer.rfc4514_string(),
        serial=certificate.serial_number,
        fingerprint_sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        spki_sha256=_sha256(certificate.public_key().public_bytes(_DER, _SPKI)),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _by_anchor(
    issuers: Sequence[PeerIssuer], own: Sequence[x509.Certificate]
) -> dict[x509.Certificate, PeerIssuer]:
    found: dict[x509.Certificate, PeerIssuer] = {}
    for issuer in issuers:
        for anchor in issuer.trust_anchors:
            if anchor in own or found.setdefault(anchor, issuer) is not issuer:
                raise ConfigError(
                    f"the trust anchor of {issuer.trust_domain} is another trust domain's too",
                    where="peer_issuers",
                    remedy="each trust domain needs a CA of its own",
                )
    return found


def _own_identity(certificate: x509.Certificate) -> NodeIdentity:
    try:
        return node_identity_of(certificate)
    except HandshakeError as error:
        raise ConfigError(str(error), where="authenticator: certificate") from error


def _sha256(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()


@contextmanager
def _anonymous_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("authenticator", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        with suppress(OSError):
            os.close(descriptor)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"isn't readable PEM: {error}", where=where) from error
