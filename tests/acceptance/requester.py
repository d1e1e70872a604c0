"""A requester of its own: asks over REST as docs/reference/rest.md says, and no better."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

# "After 503, 504, or a lost connection: send the request again with the same request id."
WORTH_A_RETRY = (503, 504)
# Shorter than an RA waits for its CA: a host without power doesn't say so.
ANSWER_SECONDS = 5.0
_PAUSE_SECONDS = 0.05


class Refused(Exception):
    """The RA said no."""


@dataclass(frozen=True)
class Enrolment:
    """What one request came to."""

    name: str
    request_id: str
    serial: str
    attempts: int
    ended: float
    certificate: str


@dataclass
class Requester:
    """Asks RAs, the next one whenever one doesn't answer."""

    urls: list[str]
    token: str = field(repr=False)
    trust_anchors: str = field(repr=False)
    first: int = 0
    _connections: dict[str, http.client.HTTPSConnection] = field(default_factory=dict)

    def enrol(
        self, name: str, *, authority: str, profile: str, deadline: float, request_id: str = ""
    ) -> Enrolment:
        """Return the certificate that ``name`` got; asks again, with one id, until ``deadline``.

        Raises Refused for an answer that isn't worth a retry, TimeoutError at the deadline.
        """
        body = {
            "authority": authority,
            "profile": profile,
            "csr": signing_request(name),
            "request_id": request_id or str(uuid4()),
        }
        attempts = 0
        while time.monotonic() < deadline:
            answer = self._try("POST", "/v1/certificates", self.first + attempts, body)
            attempts += 1
            if answer is None:
                time.sleep(_PAUSE_SECONDS)
                continue
            certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            assert names.value.get_values_for_type(x509.DNSName) == [name]
            assert certificate.serial_number == int(answer["serial"], 16)
            return Enrolment(
                name,
                body["request_id"],
                answer["serial"],
                attempts,
                time.monotonic(),
                answer["certificate"],
            )
        raise TimeoutError(f"{name}: no certificate after {attempts} attempts")

    def revoke(self, authority: str, serial: str) -> None:
        """Revoke a certificate."""
        path = f"/v1/certificates/{quote(authority)}/{serial}/revocation"
        assert self._try("POST", path, self.first, {"reason": "superseded"}) is not None

    def issued(self, authority: str, name: str) -> list[dict[str, Any]]:
        """Return every certificate whose names contain ``name``, over all pages."""
        found: list[dict[str, Any]] = []
        query = {"authority": authority, "name": name, "limit": "1000"}
        while True:
            page = self._try("GET", f"/v1/certificates?{urlencode(query)}", self.first, None)
            assert page is not None
            found += page["certificates"]
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()

    def _try(self, method: str, path: str, turn: int, body: object) -> Any:
        """Return the answer, or None where the same is to be asked again."""
        connection = self._connection(self.urls[turn % len(self.urls)])
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        if response.status in WORTH_A_RETRY:
            return None
        if response.status >= 400:
            raise Refused(f"{method} {path}: {response.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def _connection(self, url: str) -> http.client.HTTPSConnection:
        if url not in self._connections:
            parts = urlsplit(url)
            assert parts.hostname is not None
            context = ssl.create_default_context(cadata=self.trust_anchors)
            self._connections[url] = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=ANSWER_SECONDS, context=context
            )
        return self._connections[url]


def signing_request(name: str) -> str:
    """Return a PEM request for ``name``, with a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = builder.add_extension(names, critical=False).sign(key, SHA256())
    return signed.public_bytes(Encoding.PEM).decode("ascii")
