"""How many certificates a tenant has: counted in the transaction that issues or revokes one.

Writers follow one another (see docs/why/store.md), over all nodes of a store, so what is counted
here is all there is when the next certificate is decided on: no two nodes can overrun a quota
together. Counts are kept by the hour, so a quota costs some rows however many certificates there
are; a period counts from the hour in which it began, and a certificate until the hour it ends in
is over.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from node_agent.errors import QuotaExceeded
from node_agent.store.prepared import Prepared
from node_agent.store.schema import tenant_counts

if TYPE_CHECKING:
    from node_agent.store.records import CertificateQuota, CertificateRecord

__all__ = ["TenantCounts"]

_SECONDS_PER_HOUR: Final = 3600
_ISSUED: Final = "issued"
_ENDS: Final = "ends"
# A role's period is at most 31 days (policy/parse.py).
_KEPT_HOURS: Final = 32 * 24

_count = Prepared(
    sa.select(sa.func.sum(tenant_counts.c.certificates)).where(
        tenant_counts.c.tenant == sa.bindparam("tenant"),
        tenant_counts.c.kind == sa.bindparam("kind"),
        tenant_counts.c.hour >= sa.bindparam("since"),
    )
)
_forget = Prepared(
    tenant_counts.delete().where(
        tenant_counts.c.tenant == sa.bindparam("tenant"),
        tenant_counts.c.kind == sa.bindparam("kind"),
        tenant_counts.c.hour < sa.bindparam("before"),
    )
)


def _upsert(insert: Any) -> Prepared:
    more = tenant_counts.c.certificates + insert.excluded.certificates
    return Prepared(
        insert.on_conflict_do_update(
            index_elements=["tenant", "kind", "hour"], set_={"certificates": more}
        )
    )


_upserts = {
    "sqlite": _upsert(sqlite.insert(tenant_counts)),
    "postgresql": _upsert(postgresql.insert(tenant_counts)),
}


class TenantCounts:
    """What a batch counts, on top of what is stored. ``now`` is in seconds since the epoch."""

    def __init__(self, connection: sa.Connection, *, now: int) -> None:
        self._connection = connection
        self._hour = now // _SECONDS_PER_HOUR
        self._new: Counter[tuple[str, str, int]] = Counter()
        self._stored: dict[tuple[str, str, int], int] = {}

    def check(self, tenant: str, quota: CertificateQuota) -> None:
        """Raise QuotaExceeded when one more certificate would be too many."""
        if quota.max_issued is not None:
            since = self._hour - quota.issued_period_seconds // _SECONDS_PER_HOUR + 1
            if self._count(tenant, _ISSUED, since) >= quota.max_issued:
                raise QuotaExceeded(
                    f"{quota.max_issued} certificates were issued to you in "
                    f"{quota.issued_period_seconds} s, and no more may be",
                    remedy="ask again when the oldest of them are longer ago",
                )
        if (
            quota.max_valid is not None
            and self._count(tenant, _ENDS, self._hour) >= quota.max_valid
        ):
            raise QuotaExceeded(
                f"{quota.max_valid} certificates of yours are valid, and no more may be",
                remedy="revoke those that you don't need, or wait until some end",
            )

    def issued(self, record: CertificateRecord) -> None:
        """Count a certificate that is issued."""
        if record.tenant:
            self._new[record.tenant, _ISSUED, record.issued_at // _SECONDS_PER_HOUR] += 1
            self._new[record.tenant, _ENDS, record.not_after // _SECONDS_PER_HOUR] += 1

    def revoked(self, tenant: str, not_after: int) -> None:
        """Count a certificate no longer; a hold may be released, and counts on."""
        if tenant:
            self._new[tenant, _ENDS, not_after // _SECONDS_PER_HOUR] -= 1

    def flush(self) -> None:
        """Write what was counted, and forget hours that no quota looks at any more."""
        if not self._new:
            return
        rows = [
            {"tenant": tenant, "kind": kind, "hour": hour, "certificates": number}
            for (tenant, kind, hour), number in sorted(self._new.items())
            if number
        ]
        if rows:
            _upserts[self._connection.dialect.name].write(self._connection, rows)
        kept = ((_ISSUED, self._hour - _KEPT_HOURS), (_ENDS, self._hour))
        _forget.write(
            self._connection,
            [
                {"tenant": tenant, "kind": kind, "before": before}
                for tenant in sorted({tenant for tenant, _, _ in self._new})
                for kind, before in kept
            ],
        )

    def _count(self, tenant: str, kind: str, since: int) -> int:
        key = (tenant, kind, since)
        stored = self._stored.get(key)
        if stored is None:
            row = _count.one(self._connection, tenant=tenant, kind=kind, since=since)
            stored = self._stored[key] = int(row[0] or 0)
        return stored + sum(
            number
            for (whose, what, hour), number in self._new.items()
            if (whose, what) == (tenant, kind) and hour >= since
        )
