"""Bodies of the RA REST API (``docs/reference/rest.md``) and what its backend is called with."""

from __future__ import annotations

import enum
import uuid  # noqa: TC003  # msgspec resolves the annotation at run time
from dataclasses import dataclass
from typing import Annotated

import msgspec

from node_agent.clock import LAST_SECOND
from node_agent.web.bodies import CertificateInfo, Order, View
from node_agent.web.rate_limit import Rate  # noqa: TC001  # msgspec resolves it at run time

__all__ = [
    "Catalogue",
    "CatalogueAuthority",
    "CertificatePage",
    "Credential",
    "CredentialKind",
    "EnrollCall",
    "EnrollOrder",
    "EnrollOutcome",
    "IssuedCertificate",
    "Requester",
]


_Word = Annotated[str, msgspec.Meta(min_length=1)]


class CredentialKind(enum.Enum):
    """How a requester proved who it is."""

    TOKEN = "token"  # noqa: S105  # a word, not a secret
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Credential:
    """SHA-256, lower-case hexadecimal, of the bearer token's bytes or the certificate's DER."""

    kind: CredentialKind
    sha256: str


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, and how often it may; ``name`` is the requester object's name."""

    name: str
    rate: Rate


class EnrollOrder(Order, frozen=True, kw_only=True):
    """``POST /v1/certificates``. ``csr`` is PEM, or base64 of the DER.

    ``request_id`` (or the Idempotency-Key header) makes a retry return the same certificate.
    """

    authority: _Word
    profile: _Word
    csr: _Word
    request_id: uuid.UUID | None = None
    validity_seconds: Annotated[int, msgspec.Meta(gt=0, le=LAST_SECOND)] | None = None


class IssuedCertificate(View, frozen=True, kw_only=True):
    """The answer to an enrolment. ``chain``: the CA certificates without the root, PEM."""

    certificate: str
    chain: str
    serial: str
    not_before: int
    not_after: int
    request_id: str
    authority: str
    profile: str
    repeated: bool = False


class CertificatePage(View, frozen=True, kw_only=True):
    """Matches, newest first; ``next`` goes into ``after`` of the following request."""

    certificates: tuple[CertificateInfo, ...]
    next: str | None = None


class CatalogueAuthority(View, frozen=True, kw_only=True):
    """A CA that the requester may use; ``chain`` includes the root, issuer first, PEM."""

    name: str
    chain: str
    profiles: tuple[str, ...]


class Catalogue(View, frozen=True, kw_only=True):
    """Only what the requester, this RA and every node on the way are all granted."""

    authorities: tuple[CatalogueAuthority, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollCall:
    """An enrolment as the backend gets it: ``csr`` DER, ``request_id`` 16 bytes."""

    authority: str
    profile: str
    csr: bytes
    request_id: bytes
    validity_seconds: int | None = None
    protocol: str = "rest"


@dataclass(frozen=True, slots=True)
class EnrollOutcome:
    """``chain`` is DER, leaf first, without the root."""

    chain: tuple[bytes, ...]
    repeated: bool = False
