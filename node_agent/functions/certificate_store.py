"""Which certificates anybody may fetch: those of CAs, by the search keys of RFC 4387 or by name,
and, only where a signer says so, end-entity certificates by CA and serial number.

End-entity certificates may hold personal data (names, addresses), and whoever can list them learns
who is there. So nothing finds one who doesn't know issuer and serial number already.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from node_agent.pki import der
from node_agent.pki.outline import outline, subject_key_id
from node_agent.web.backends import Download, FoundCertificates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node_agent.clock import Clock
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.functions.responder import SignerSource
    from node_agent.store.api import Reader
    from node_agent.web.certificate_search import SearchKey

__all__ = ["CertificateStore", "search_keys"]


class CertificateStore:
    """Implements ``web.backends.RetrievalBackend``. The index is made when it is first needed, and
    anew after the known CAs have changed.
    """

    def __init__(
        self, *, store: Reader, known: KnownAuthorities, signers: SignerSource, clock: Clock
    ) -> None:
        self._store = store
        self._known = known
        self._signers = signers
        self._clock = clock
        self._revision = -1
        self._indexed_at = 0
        self._certificates: dict[tuple[str, bytes], list[bytes]] = {}
        self._issuers: dict[tuple[str, bytes], KnownAuthority] = {}
        self._indexing = asyncio.Lock()

    async def certificates(self, key: SearchKey) -> FoundCertificates:
        """Return the CA certificates that ``key`` names."""
        await self._index()
        return FoundCertificates(tuple(self._certificates.get(key, ())), self._indexed_at)

    async def crl_issuer(self, key: SearchKey) -> str | None:
        """Return the name of the CA whose CRL ``key`` asks for."""
        await self._index()
        found = self._issuers.get(key)
        return None if found is None else found.name

    async def issuer_chain(self, authority: str) -> Download | None:
        """Return a CA's certificate and those above it as a certs-only CMS message."""
        known = self._known.named(authority)
        if known is None:
            return None
        chain = [x509.load_der_x509_certificate(item) for item in known.chain]
        data = pkcs7.serialize_certificates(chain, Encoding.DER)
        return _download(data, "application/pkcs7-mime", last_modified=known.outline.not_before)

    async def certificate(self, authority: str, serial: int) -> Download | None:
        """Return an end-entity certificate of a CA whose signer here allows it, and that was
        published whole; None says neither which of these was missing.
        """
        known = self._known.named(authority)
        signer = self._signers.active(authority)
        if known is None or signer is None or not signer.spec.certificate_retrieval:
            return None
        record = await self._store.certificate(known.authority_id, serial)
        if record is None or not record.der:
            return None
        return _download(
            record.der,
            "application/pkix-cert",
            last_modified=record.not_before,
            is_immutable=True,
        )

    async def _index(self) -> None:
        async with self._indexing:
            revision = self._known.revision
            if revision == self._revision:
                return
            authorities = tuple(self._known.all())
            current = [item for item in authorities if self._known.named(item.name) is item]
            # Thousands of CAs take a while, and links must not wait for it.
            self._certificates = await asyncio.to_thread(_index_certificates, authorities)
            self._issuers = await asyncio.to_thread(_index_issuers, current)
            self._indexed_at = int(self._clock.now())
            self._revision = revision


def search_keys(certificate: bytes) -> Iterable[tuple[str, bytes]]:
    """Yield every search key (RFC 4387 section 2.2) of a CA's DER certificate. It has no ``uri``:
    that is what a server, a person or a device is reached by.
    """
    fields = outline(certificate)
    yield "certHash", _sha1(certificate)
    yield "sHash", _sha1(fields.subject)
    yield "iHash", _sha1(fields.issuer)
    yield "iAndSHash", _sha1(der.sequence(fields.issuer, der.integer(fields.serial)))
    key_id = subject_key_id(certificate)
    if key_id is not None:
        yield "sKIDHash", _sha1(key_id)
    subject = x509.load_der_x509_certificate(certificate).subject
    for name in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        yield "name", _sha1(name.value if isinstance(name.value, bytes) else name.value.encode())


def _index_certificates(
    authorities: Iterable[KnownAuthority],
) -> dict[tuple[str, bytes], list[bytes]]:
    found: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for certificate in dict.fromkeys(item for known in authorities for item in known.chain):
        for key in search_keys(certificate):
            found[key].append(certificate)
    return dict(found)


def _index_issuers(
    authorities: Iterable[KnownAuthority],
) -> dict[tuple[str, bytes], KnownAuthority]:
    found = {}
    for known in authorities:
        found["iHash", _sha1(known.outline.subject)] = known
        key_id = subject_key_id(known.chain[0])
        if key_id is not None:
            found["sKIDHash", _sha1(key_id)] = known
    return found


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _download(
    data: bytes, content_type: str, *, last_modified: int, is_immutable: bool = False
) -> Download:
    return Download(
        data=data,
        content_type=content_type,
        etag=hashlib.sha256(data).hexdigest()[:32],
        last_modified=last_modified,
        is_immutable=is_immutable,
    )
