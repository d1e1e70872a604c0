"""The audit log's chain: what an entry's hash covers, so that a second implementation can check it.

``entry_hash = SHA-256(previous_hash || sequence as 8 octets, big-endian || body)``; the first
entry's previous hash is 32 zero octets. ``body`` is the MessagePack array ``[at, action, allowed,
chain, resources, reason, detail]`` with ``detail`` as a map in the order of its keys. The stored
body is hashed as it stands, so verifying needs no re-encoding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from node_agent.errors import StoreError
from node_agent.store.records import AuditEntry, AuditRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "GENESIS_HASH",
    "AuditHead",
    "AuditVerdict",
    "ChainCheck",
    "decode_body",
    "encode_body",
    "entry_hash",
]

GENESIS_HASH: Final = bytes(32)

AuditRow = tuple[int, bytes, bytes, bytes]
"""sequence, body, previous_hash, entry_hash."""


class _Body(msgspec.Struct, array_like=True, frozen=True):
    at: float
    action: str
    allowed: bool
    chain: str
    resources: tuple[str, ...]
    reason: str
    detail: dict[str, object]


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry: what a signed checkpoint states. ``sequence`` 0 is the empty log."""

    sequence: int
    entry_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """The outcome of a verification: ``first_bad`` is the first sequence that can't be trusted."""

    ok: bool
    entries: int
    first_bad: int | None = None
    reason: str = ""


def encode_body(record: AuditRecord) -> bytes:
    """Return the canonical body of ``record``."""
    return _encoder.encode(
        _Body(
            float(record.at),
            record.action,
            record.allowed,
            record.chain,
            record.resources,
            record.reason,
            dict(record.detail),
        )
    )


def decode_body(row: AuditRow) -> AuditEntry:
    """Return a stored row as an entry. Raises StoreError when its body isn't one."""
    sequence, body, previous, own = row
    try:
        decoded = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise StoreError(f"audit entry {sequence} can't be read: {error}") from error
    record = AuditRecord(
        at=decoded.at,
        action=decoded.action,
        allowed=decoded.allowed,
        chain=decoded.chain,
        resources=decoded.resources,
        reason=decoded.reason,
        detail={name: str(value) for name, value in decoded.detail.items()},
    )
    return AuditEntry(
        sequence=sequence, record=record, previous_hash=bytes(previous), entry_hash=bytes(own)
    )


def entry_hash(previous_hash: bytes, sequence: int, body: bytes) -> bytes:
    """Return the hash that chains ``body`` to the entry before it."""
    return hashlib.sha256(previous_hash + sequence.to_bytes(8, "big") + body).digest()


class ChainCheck:
    """Feed rows in order; then ``finish`` with what the log's head says.

    ``checkpoints`` are heads that were known earlier: sequence to entry hash. They find a log
    that was rewritten or cut as a whole, with a head to match.
    """

    def __init__(self, checkpoints: Iterable[AuditHead] = ()) -> None:
        self.last = AuditHead(0, GENESIS_HASH)
        self._expected = {known.sequence: known.entry_hash for known in checkpoints}

    def feed(self, rows: Iterable[AuditRow]) -> AuditVerdict | None:
        """Check the next rows; return a verdict at the first bad one."""
        for sequence, body, previous, own in rows:
            reason = self._fault(sequence, bytes(body), bytes(previous), bytes(own))
            if reason:
                return self._bad(self.last.sequence + 1, reason)
            self.last = AuditHead(sequence, bytes(own))
        return None

    def finish(self, head: AuditHead) -> AuditVerdict:
        """Compare the end of the rows with the head; return the final verdict."""
        newest_known = max(self._expected, default=0)
        if self.last != head:
            return self._bad(self.last.sequence + 1, "the log doesn't end where its head says")
        if newest_known > head.sequence:
            return self._bad(head.sequence + 1, "the log is shorter than a known checkpoint")
        return AuditVerdict(ok=True, entries=self.last.sequence)

    def _fault(self, sequence: int, body: bytes, previous: bytes, own: bytes) -> str:
        if sequence != self.last.sequence + 1:
            return "an entry is missing"
        if previous != self.last.entry_hash:
            return "the entry doesn't follow the one before it"
        if own != entry_hash(previous, sequence, body):
            return "the entry was changed"
        if self._expected.get(sequence, own) != own:
            return "the entry differs from a known checkpoint"
        return ""

    def _bad(self, sequence: int, reason: str) -> AuditVerdict:
        return AuditVerdict(ok=False, entries=self.last.sequence, first_bad=sequence, reason=reason)
