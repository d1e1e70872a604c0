"""An in-memory StatusBackend that really signs OCSP responses and CRLs, by a throwaway CA."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from node_agent.web.backends import CachedResponse, Download, Health, OcspAnswer
from tests.support.pki import ThrowawayAuthority
from tests.unit.web.memory_connection import FixedRetrieval

__all__ = ["MALFORMED", "MemoryStatus"]

MALFORMED = bytes.fromhex("30030a0101")
_HOUR = datetime.timedelta(hours=1)


class MemoryStatus:
    """One CA called ``issuing`` with one good certificate.

    ``signed`` counts signatures; ``fault`` is raised instead of a new answer; ``gate`` holds new
    answers back while it is cleared.
    """

    def __init__(self) -> None:
        self.authority = ThrowawayAuthority("Issuing")
        _, self.certificate = self.authority.authenticator("www")
        self.kept: dict[bytes, CachedResponse] = {}
        self.signed = 0
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.word: Health = Health(status="ok")
        self.lag: float | None = 0.0
        self.crls: dict[tuple[str, bool], Download] = {}
        der = self.authority.crl(revoked=[77]).public_bytes(Encoding.DER)
        self.put_crl("issuing", der)

    def put_crl(self, authority: str, der: bytes, *, delta: bool = False) -> Download:
        """Serve ``der`` as a CRL."""
        self.crls[authority, delta] = download = Download(
            data=der,
            content_type="application/pkix-crl",
            etag=hashlib.sha256(der).hexdigest()[:16],
            last_modified=int(time.time()) - 60,
            expires_at=int(time.time()) + 7 * 86400,
        )
        return download

    def request(self) -> bytes:
        """Return an OCSP request for the certificate."""
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            self.certificate, self.authority.certificate, hashes.SHA1()
        )
        return builder.build().public_bytes(Encoding.DER)

    def cached_response(self, request_der: bytes) -> CachedResponse | None:
        return self.kept.get(request_der)

    async def ocsp_response(self, request_der: bytes) -> OcspAnswer:
        if self.fault is not None:
            raise self.fault
        await self.gate.wait()
        try:
            request = ocsp.load_der_ocsp_request(request_der)
        except ValueError:
            return OcspAnswer(der=MALFORMED)
        self.signed += 1
        return self._answer(request_der, has_nonce=len(request.extensions) > 0)

    async def crl(self, authority: str, delta: bool, shard: int = 0) -> Download | None:
        if self.fault is not None:
            raise self.fault
        name = f"{authority}/{shard}" if shard else authority
        return self.crls.get((name, delta))

    async def issuer_certificate(self, authority: str) -> Download | None:
        if authority != "issuing":
            return None
        return Download(
            data=self.authority.certificate.public_bytes(Encoding.DER),
            content_type="application/pkix-cert",
            etag="ca",
            last_modified=1_700_000_000,
        )

    @property
    def retrieval(self) -> FixedRetrieval:
        return FixedRetrieval()

    def health(self) -> Health:
        return self.word

    def lag_seconds(self) -> float | None:
        return self.lag

    def _answer(self, request_der: bytes, *, has_nonce: bool) -> OcspAnswer:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.certificate,
                issuer=self.authority.certificate,
                algorithm=hashes.SHA1(),
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now,
                next_update=now + _HOUR,
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.authority.certificate)
        )
        if has_nonce:
            nonce = ocsp.load_der_ocsp_request(request_der).extensions.get_extension_for_class(
                x509.OCSPNonce
            )
            builder = builder.add_extension(nonce.value, critical=False)
        der = builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
        answer = OcspAnswer(
            der=der,
            last_modified=int(now.timestamp()),
            expires_at=None if has_nonce else int((now + _HOUR).timestamp()),
            etag=hashlib.sha256(der).hexdigest()[:16],
        )
        if not has_nonce:
            self.kept[request_der] = CachedResponse(answer)
        return answer
