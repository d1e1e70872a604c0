"""The CAs that a node knows by certificate: its own, and those whose statuses were published to it.

A CA is filed under its authority id (which names the key), under its name, and under the issuer
hashes by which OCSP requests name it. A name is bound to one publishing node: another node that is
granted the same name can't take it over by publishing a CA of its own under it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from node_agent.errors import PolicyDenied
from node_agent.pki.names import authority_id
from node_agent.pki.ocsp import IssuerHashes, issuer_hashes
from node_agent.pki.outline import CertificateOutline, outline
from node_agent.store.records import ObjectRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "KIND",
    "KnownAuthorities",
    "KnownAuthority",
    "from_record",
    "kept_authority",
    "load_authority",
    "to_record",
]

KIND = "known_authorities"
"""Kind of the store's object; not among ``objects.KINDS``: nobody manages it, it is learned."""


class AuthorityState(msgspec.Struct, frozen=True):
    """What the store keeps of a learned CA. ``publisher`` is the publishing node's URI."""

    name: str
    chain: tuple[bytes, ...]
    publisher: str
    is_partial: bool = False
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownAuthority:
    """A CA. ``chain`` is DER, its own certificate first. ``publisher`` is empty for our own.

    ``is_partial``: only its revoked certificates are published to us. ``path`` are the change logs
    through which it comes to us, its own node's first.
    """

    authority_id: str
    name: str
    chain: tuple[bytes, ...]
    outline: CertificateOutline
    publisher: str
    is_partial: bool = False
    path: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether this node holds its key."""
        return not self.publisher

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Its certificate, parsed when it is first needed: of thousands of CAs few are."""
        return x509.load_der_x509_certificate(self.chain[0])

    @cached_property
    def subject(self) -> str:
        """Its name as RFC 4514 text. A look at the status asks for that of every CA: the parsed
        certificate, four times as large as its DER, isn't kept for it.
        """
        return x509.load_der_x509_certificate(self.chain[0]).subject.rfc4514_string()

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""
        return self.outline.spki


class KnownAuthorities:
    """All known CAs of a node, by id, by name, and by CertID issuer."""

    def __init__(self) -> None:
        self._by_id: dict[str, KnownAuthority] = {}
        self._by_name: dict[str, list[KnownAuthority]] = {}
        self._by_issuer: dict[IssuerHashes, KnownAuthority] = {}
        self.revision = 0
        """Moves with every change."""

    def add(self, authority: KnownAuthority) -> bool:
        """File ``authority``; tell whether it is new. Raises PolicyDenied when its name belongs to
        another publisher.
        """
        known = self._by_id.get(authority.authority_id)
        if known is not None and known.chain == authority.chain and known.name == authority.name:
            return self._describe(known, is_partial=authority.is_partial, path=authority.path)
        for other in self._by_name.get(authority.name, ()):
            if other.publisher != authority.publisher:
                raise PolicyDenied(
                    f"the CA name {authority.name!r} belongs to {other.publisher or 'this node'}",
                    rule="known_authorities",
                )
        self._file(authority)
        return True

    def describe(
        self, name: str, *, is_partial: bool, path: tuple[str, ...]
    ) -> list[KnownAuthority]:
        """Note how the CAs of a name come to us; return those of which it is news."""
        return [
            self._by_id[authority.authority_id]
            for authority in tuple(self._by_name.get(name, ()))
            if self._describe(authority, is_partial=is_partial, path=path)
        ]

    def _describe(self, known: KnownAuthority, *, is_partial: bool, path: tuple[str, ...]) -> bool:
        if known.is_own or (known.is_partial, known.path) == (is_partial, path):
            return False
        self._file(replace(known, is_partial=is_partial, path=path))
        return True

    def get(self, identifier: str) -> KnownAuthority | None:
        """Return the CA with this authority id."""
        return self._by_id.get(identifier)

    def named(self, name: str) -> KnownAuthority | None:
        """Return the newest CA of this name."""
        found = self._by_name.get(name)
        return found[-1] if found else None

    def ids_named(self, name: str) -> list[str]:
        """Return the ids of all CAs of this name."""
        return [known.authority_id for known in self._by_name.get(name, ())]

    def by_issuer(self, hashes: IssuerHashes) -> KnownAuthority | None:
        """Return the CA that an OCSP request means."""
        return self._by_issuer.get(hashes)

    def all(self) -> Iterable[KnownAuthority]:
        """Return every known CA."""
        return self._by_id.values()

    def ids_by_name(self) -> Mapping[str, str]:
        """Return name -> authority id."""
        return {name: found[-1].authority_id for name, found in self._by_name.items() if found}

    def _file(self, authority: KnownAuthority) -> None:
        self.revision += 1
        self._by_id[authority.authority_id] = authority
        same_name = self._by_name.setdefault(authority.name, [])
        same_name[:] = [old for old in same_name if old.authority_id != authority.authority_id]
        same_name.append(authority)
        for hashes in issuer_hashes(authority.outline.subject, authority.outline.spki):
            self._by_issuer[hashes] = authority


def load_authority(name: str, chain: tuple[bytes, ...], publisher: str) -> KnownAuthority:
    """Return the CA of ``chain``. Raises ValueError when its first certificate isn't one."""
    if not chain:
        raise ValueError("a CA without a certificate")
    certificate = x509.load_der_x509_certificate(chain[0])
    try:
        certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("a CA with a key of an unknown kind") from error
    return kept_authority(name, chain, publisher)


def kept_authority(name: str, chain: tuple[bytes, ...], publisher: str) -> KnownAuthority:
    """Return a CA that was checked when it came, without parsing it again."""
    fields = outline(chain[0])
    identifier = authority_id(fields.subject, fields.spki)
    return KnownAuthority(identifier, name, chain, fields, publisher)


def from_record(record: ObjectRecord) -> KnownAuthority:
    """Return a learned CA as the store kept it."""
    state = msgspec.msgpack.decode(record.state, type=AuthorityState)
    authority = kept_authority(state.name, state.chain, state.publisher)
    return replace(authority, is_partial=state.is_partial, path=state.path)


def to_record(authority: KnownAuthority, now: float) -> ObjectRecord:
    """Return the row that keeps a learned CA."""
    state = AuthorityState(
        authority.name,
        authority.chain,
        authority.publisher,
        authority.is_partial,
        authority.path,
    )
    return ObjectRecord(
        kind=KIND,
        name=authority.authority_id,
        spec=b"{}",
        state=msgspec.msgpack.encode(state),
        updated_at=int(now),
    )
