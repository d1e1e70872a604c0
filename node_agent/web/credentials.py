"""Who asks: from a bearer token or a TLS client certificate to a requester's name."""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

from node_agent.web.problems import refuse
from node_agent.web.rate_limit import Rate
from node_agent.web.registration_bodies import Credential, CredentialKind, Requester

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node_agent.objects import RequesterSpec
    from node_agent.web.asgi import Scope

__all__ = ["CredentialTable", "credential_of", "unauthenticated"]

_MAX_TOKEN_BYTES = 512


class CredentialTable:
    """The requesters of a node by what they present; for ``RegistrationBackend.authenticate``.

    Found by hash of a secret of at least 128 random bits, then compared in constant time: what a
    dictionary leaks by timing is about the hash, which helps nobody to the token.
    """

    def __init__(self, requesters: Iterable[RequesterSpec]) -> None:
        self._by_credential: dict[tuple[CredentialKind, str], tuple[str, Requester]] = {}
        for spec in requesters:
            requester = Requester(spec.name, Rate(spec.requests_per_second, spec.burst_requests))
            for kind, sha256 in (
                (CredentialKind.TOKEN, spec.token_sha256),
                (CredentialKind.CERTIFICATE, spec.certificate_sha256),
            ):
                if sha256:
                    self._by_credential[kind, sha256.lower()] = (sha256.lower(), requester)

    def find(self, credential: Credential) -> Requester | None:
        """Return who holds ``credential``, or None."""
        known, requester = self._by_credential.get(
            (credential.kind, credential.sha256), ("0" * 64, None)
        )
        return requester if hmac.compare_digest(known, credential.sha256) else None


def credential_of(scope: Scope) -> Credential:
    """Return what the request presents; a bearer token goes before a client certificate.

    Raises ProblemRaised (401) when it presents neither, or something else.
    """
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if values:
        return _token_credential(values)
    tls = (scope.get("extensions") or {}).get("tls", {})
    sha256 = tls.get("client_certificate_sha256")
    if sha256 is None:
        raise unauthenticated()
    return Credential(CredentialKind.CERTIFICATE, sha256)


def _token_credential(values: list[bytes]) -> Credential:
    scheme, _, token = values[0].partition(b" ")
    token = token.strip()
    if len(values) > 1 or scheme.lower() != b"bearer" or not 0 < len(token) <= _MAX_TOKEN_BYTES:
        raise unauthenticated()
    return Credential(CredentialKind.TOKEN, hashlib.sha256(token).hexdigest())


def unauthenticated() -> Exception:
    """Return the one refusal for a missing, malformed, unknown or deleted credential."""
    return refuse(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "no requester of this RA has that credential",
        remedy="send Authorization: Bearer <token>, or connect with a client certificate",
        headers={"WWW-Authenticate": 'Bearer realm="peersys"'},
    )
