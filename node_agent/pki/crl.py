"""Certificate revocation lists: full, delta and per distribution point, of any length.

A million entries are some 40 MB, and the DER length in front of them is only known behind them. So
``CrlWriter`` spools encoded entries to a temporary file, hashes the finished list piece by piece
and signs the digest: memory stays flat. Ed25519 needs the whole list in memory to sign it.

Entries are encoded from the database's own rows. What follows the serial number in one (date,
reason) many have in common, so it is encoded once and remembered: a million entries take a second.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from node_agent.clock import LAST_SECOND
from node_agent.errors import ConfigError
from node_agent.pki import der, extensions
from node_agent.pki.keys import SigningKey, start_digest
from node_agent.pki.revoke import Reason
from node_agent.store.records import CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from node_agent.pki.issuer import Issuer
    from node_agent.store.records import RevokedRow

__all__ = ["CrlToBeSigned", "CrlWriter", "EncodedEntries", "build_crl", "entry_encoder"]

_VERSION_2 = der.integer(1)
_CHUNK_BYTES = 1 << 20
# Below this the spool stays in memory: 1 MiB holds about 25,000 entries.
_SPOOL_BYTES = 1 << 20
# Some 10 MB at most: as many differing dates and reasons of revocation are remembered.
_MOST_REMEMBERED = 50_000
_BehindSerial = tuple[str, int | None, int | None, int | None, int | None]
_GOOD = CertificateStatus.GOOD.value
_REASON_OID = "2.5.29.21"
_INVALIDITY_DATE_OID = "2.5.29.24"
_CRL_NUMBER_OID = "2.5.29.20"
_DELTA_CRL_INDICATOR_OID = "2.5.29.27"
_ISSUING_DISTRIBUTION_POINT_OID = "2.5.29.28"
_REASON_EXTENSIONS = {
    int(reason): der.extension(_REASON_OID, der.enumerated(reason)) for reason in Reason
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlToBeSigned:
    """A finished TBSCertList. Sign ``signing_input`` with ``key``: by ``sign_digest`` when
    ``is_digest``, else by ``sign``. Then call ``complete`` or ``write`` once.
    """

    key: SigningKey
    algorithm: bytes
    signing_input: bytes
    is_digest: bool
    head: bytes
    entries: IO[bytes]
    tail: bytes
    tbs_bytes: int

    def sign(self) -> bytes:
        """Return the signature, made here. Raises TokenError."""
        sign = self.key.sign_digest if self.is_digest else self.key.sign
        return sign(self.signing_input)

    def pieces(self, signature: bytes) -> Iterator[bytes]:
        """Yield the signed CRL in pieces of at most 1 MiB."""
        behind = self.algorithm + der.bit_string(signature)
        yield der.header(der.SEQUENCE, self.tbs_bytes + len(behind)) + self.head
        yield from _chunks(self.entries)
        yield self.tail + behind

    def complete(self, signature: bytes) -> bytes:
        """Return the signed CRL as DER."""
        return b"".join(self.pieces(signature))

    def write(self, output: IO[bytes], signature: bytes) -> None:
        """Write the signed CRL to ``output``."""
        for piece in self.pieces(signature):
            output.write(piece)


@dataclass(frozen=True, slots=True)
class EncodedEntries:
    """Some entries of a CRL as DER, one behind the other."""

    count: int
    data: bytes


class CrlWriter:
    """Takes entries in any number of ``add`` calls and finishes one CRL.

    ``number`` and ``base_number`` are CRL numbers; a ``base_number`` makes it a delta CRL.
    ``distribution_point_urls`` limit it to certificates that name such a point; ``freshest_urls``
    tell where the delta CRLs of a full CRL are. Times are whole seconds since the epoch.
    Raises ConfigError for values that no CRL may have. Use as a context manager, or ``close``.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        number: int,
        this_update: int,
        next_update: int,
        base_number: int | None = None,
        distribution_point_urls: Sequence[str] = (),
        freshest_urls: Sequence[str] = (),
    ) -> None:
        if not 0 <= number < 1 << 159 or (base_number is not None and base_number > number):
            raise ConfigError(f"{number} is no CRL number (RFC 5280 section 5.2.3)")
        if next_update <= this_update:
            raise ConfigError("a CRL must be valid for at least a second")
        self._issuer = issuer
        self.is_delta = base_number is not None
        self._times = der.x509_time(this_update) + der.x509_time(next_update)
        self._extensions = _crl_extensions(
            issuer, number, base_number, distribution_point_urls, freshest_urls
        )
        # Closed by __exit__.
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._entry_bytes = 0
        self.entry_count = 0

    def __enter__(self) -> CrlWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the temporary file back; what ``finish`` returned can't be used any more."""
        self._spool.close()

    def add(self, entries: EncodedEntries) -> None:
        """Append what an ``entry_encoder`` made."""
        self.entry_count += entries.count
        self._entry_bytes += self._spool.write(entries.data)

    def finish(self) -> CrlToBeSigned:
        """Return the list, ready to be signed."""
        revoked = der.header(der.SEQUENCE, self._entry_bytes) if self._entry_bytes else b""
        inner = _VERSION_2 + self._issuer.algorithm + self._issuer.name + self._times + revoked
        content_bytes = len(inner) + self._entry_bytes + len(self._extensions)
        head = der.header(der.SEQUENCE, content_bytes) + inner
        signing_input, is_digest = self._signing_input(head)
        return CrlToBeSigned(
            key=self._issuer.key,
            algorithm=self._issuer.algorithm,
            signing_input=signing_input,
            is_digest=is_digest,
            head=head,
            entries=self._spool,
            tail=self._extensions,
            tbs_bytes=len(head) + self._entry_bytes + len(self._extensions),
        )

    def _signing_input(self, head: bytes) -> tuple[bytes, bool]:
        digest = start_digest(self._issuer.key.kind, self._issuer.spki)
        if digest is None:
            return b"".join((head, *_chunks(self._spool), self._extensions)), False
        digest.update(head)
        for chunk in _chunks(self._spool):
            digest.update(chunk)
        digest.update(self._extensions)
        return digest.finalize(), True


def build_crl(
    issuer: Issuer,
    rows: Sequence[RevokedRow],
    *,
    number: int,
    this_update: int,
    next_update: int,
    base_number: int | None = None,
) -> bytes:
    """Return a signed CRL, made in one go with the key at hand. Raises ConfigError, TokenError."""
    with CrlWriter(
        issuer,
        number=number,
        this_update=this_update,
        next_update=next_update,
        base_number=base_number,
    ) as writer:
        writer.add(entry_encoder(is_delta=writer.is_delta)(rows))
        finished = writer.finish()
        return finished.complete(finished.sign())


def _chunks(spool: IO[bytes]) -> Iterator[bytes]:
    spool.seek(0)
    while chunk := spool.read(_CHUNK_BYTES):
        yield chunk


def entry_encoder(*, is_delta: bool) -> Callable[[Sequence[RevokedRow]], EncodedEntries]:
    """Return what encodes rows as the entries of one CRL (RFC 5280 section 5.3).

    A released hold stands in a delta CRL as removeFromCRL, and in no full one. Not for use by two
    threads at once.
    """
    behind: dict[_BehindSerial, bytes] = {}

    def encode(rows: Sequence[RevokedRow]) -> EncodedEntries:
        parts = []
        for row in rows:
            content, key = row[0], row[1:]
            tail = behind.get(key)
            if tail is None:
                if row[1] == _GOOD and not is_delta:
                    continue
                if len(behind) >= _MOST_REMEMBERED:
                    behind.clear()
                tail = behind[key] = _behind_serial(*key)
            # Most serials fill their column; those that don't are brought to minimal DER.
            if not 0 < content[0] < 0x80:
                content = content.lstrip(b"\0") or b"\0"
                if content[0] >= 0x80:
                    content = b"\0" + content
            size = len(content)
            parts.append(b"\x30%c\x02%c%b%b" % (size + len(tail) + 2, size, content, tail))
        return EncodedEntries(len(parts), b"".join(parts))

    return encode


def _behind_serial(
    status: str,
    revoked_at: int | None,
    reason: int | None,
    invalidity_at: int | None,
    changed_at: int | None,
) -> bytes:
    """Return revocation date and extensions: some 50 octets, so that an entry has less than 128."""
    if status == _GOOD:
        revoked_at, reason = changed_at, Reason.REMOVE_FROM_CRL
    elif status == CertificateStatus.ON_HOLD:
        reason = Reason.CERTIFICATE_HOLD
    at = changed_at if revoked_at is None else revoked_at
    assert at is not None
    # Reason unspecified is left out, as RFC 5280 section 5.3.1 asks.
    parts = _REASON_EXTENSIONS[reason] if reason else b""
    # Older versions recorded what a request said, whatever it was: a CRL is made all the same.
    if invalidity_at is not None and 0 <= invalidity_at <= LAST_SECOND:
        date = der.generalized_time(invalidity_at)
        parts += der.extension(_INVALIDITY_DATE_OID, date)
    if parts:
        parts = der.tlv(der.SEQUENCE, parts)
    return der.x509_time(at) + parts


def _crl_extensions(
    issuer: Issuer,
    number: int,
    base_number: int | None,
    distribution_point_urls: Sequence[str],
    freshest_urls: Sequence[str],
) -> bytes:
    parts = [
        extensions.authority_key_identifier(issuer.key_id),
        der.extension(_CRL_NUMBER_OID, der.integer(number)),
    ]
    if base_number is not None:
        base = der.integer(base_number)
        parts.append(der.extension(_DELTA_CRL_INDICATOR_OID, base, critical=True))
    else:
        parts.append(extensions.crl_distribution_points(freshest_urls, freshest=True))
    if distribution_point_urls:
        point = der.sequence(extensions.distribution_point_name(*distribution_point_urls))
        parts.append(der.extension(_ISSUING_DISTRIBUTION_POINT_OID, point, critical=True))
    return der.context(0, der.sequence(*parts), constructed=True)
