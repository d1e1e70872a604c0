"""A client of an RA's REST interface and of a VA's status port, for tests and benchmarks."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uuid

__all__ = ["RestClient", "http_request"]


class RestClient:
    """An API-token client of one RA (``trust_anchors``: PEM); a connection for each call."""

    def __init__(
        self, address: str, *, token: str, trust_anchors: str, timeout_seconds: float = 30
    ) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._tls = ssl.create_default_context(cadata=trust_anchors)

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and decoded answer."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._tls, timeout=self._timeout_seconds
        )
        given = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), given)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None

    def enroll(
        self,
        csr: str,
        *,
        authority: str = "issuing",
        profile: str = "server",
        request_id: uuid.UUID | None = None,
    ) -> tuple[int, Any]:
        """POST a PEM CSR; return status and answer."""
        body = {"authority": authority, "profile": profile, "csr": csr}
        if request_id is not None:
            body["request_id"] = str(request_id)
        return self.request("POST", "/v1/certificates", body)

    def revoke(
        self, serial: str, *, reason: str = "keyCompromise", authority: str = "issuing"
    ) -> tuple[int, Any]:
        """Revoke by serial in hexadecimal; return status and answer."""
        path = f"/v1/certificates/{authority}/{serial}/revocation"
        return self.request("POST", path, {"reason": reason})


def http_request(
    address: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout_seconds: float = 10,
) -> tuple[int, dict[str, str], bytes]:
    """Send one plain HTTP request; return status, headers (lower-case names) and body."""
    connection = http.client.HTTPConnection(address, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, received, answer.read()
    finally:
        connection.close()
