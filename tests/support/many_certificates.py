"""Certificates by the hundred thousand, put into a store in bulk, for tests of long lists."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from node_agent.store.records import CertificateRecord, CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.store import Store

__all__ = ["put_certificates"]

_BATCH = 10_000
_REVOKED_AT = 1_790_000_000


async def put_certificates(
    store: Store, authority_id: str, count: int, *, revoked_every: int = 1, source: str = "bulk"
) -> None:
    """Store ``count`` certificates of which every ``revoked_every``-th is revoked (0: none).

    They come as from upstream: in whole batches, without an entry in the store's own log.
    """
    numbers = sorted(range(count), key=_serial)
    for position, start in enumerate(range(0, count, _BATCH), start=1):
        await store.apply_published(
            source,
            position,
            certificates=list(
                _records(authority_id, numbers[start : start + _BATCH], revoked_every)
            ),
        )


def _records(
    authority_id: str, numbers: list[int], revoked_every: int
) -> Iterator[CertificateRecord]:
    for number in numbers:
        is_revoked = revoked_every > 0 and number % revoked_every == 0
        yield CertificateRecord(
            authority_id=authority_id,
            serial=_serial(number),
            der=b"",
            subject="",
            names=(),
            fingerprint_sha256=hashlib.sha256(b"certificate %d" % number).digest(),
            not_before=_REVOKED_AT - 86_400,
            not_after=_REVOKED_AT + 86_400 * 365,
            profile="",
            issued_at=_REVOKED_AT - 86_400,
            status=CertificateStatus.REVOKED if is_revoked else CertificateStatus.GOOD,
            revoked_at=_REVOKED_AT + number % 1000 if is_revoked else None,
            reason=1 if is_revoked else None,
            invalidity_at=_REVOKED_AT if is_revoked else None,
        )


def _serial(number: int) -> int:
    return int.from_bytes(hashlib.sha256(b"serial %d" % number).digest()[:20], "big") >> 1
