"""The tables, as SQLAlchemy Core describes them; ``migrations/`` makes them.

Serial numbers are 20 octets, big-endian, so that a database's byte order *is* numeric order
(RFC 5280 section 4.1.2.2 allows up to 20 octets; 64-bit integers can't hold them). Names compare
by code point on both databases, so that a prefix is a range of the index.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from node_agent.errors import StoreError

__all__ = [
    "APPEND_ONLY",
    "SERIAL_OCTETS",
    "approval_requests",
    "approvals",
    "audit_log",
    "certificate_names",
    "certificates",
    "change_log",
    "commit_marks",
    "crl_chunks",
    "crl_numbers",
    "crls",
    "crypto_keys",
    "log_heads",
    "metadata",
    "nodes",
    "objects",
    "pack_serial",
    "publisher_positions",
    "source_positions",
    "status_requests",
    "sync_heads",
    "sync_leaves",
    "sync_marks",
    "tenant_counts",
    "unpack_serial",
]

SERIAL_OCTETS: Final = 20

metadata = sa.MetaData()

_Position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite only makes a column the row's own number when its type is spelled INTEGER."""

_ByCodePoint = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

log_heads = sa.Table(
    "log_heads",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("certificate_id", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("audit_sequence", sa.BigInteger, nullable=False),
    sa.Column("audit_hash", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("log_id", sa.LargeBinary, nullable=False),
    sa.Column("log_secret", sa.LargeBinary, nullable=False),
)
"""One row: the newest number of every log. Its lock serializes writers (see docs/why/store.md).

``revision`` counts the committed plans, so that a node sees what another one changed. ``log_id`` is
the change log's own random name, ``log_secret`` what its receipts are made with.
"""

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("id", _Position, primary_key=True, autoincrement=False),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("serial", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("reason", sa.SmallInteger),
    sa.Column("invalidity_at", sa.BigInteger),
    sa.Column("status_changed_at", sa.BigInteger),
    sa.Column("not_before", sa.BigInteger, nullable=False),
    sa.Column("not_after", sa.BigInteger, nullable=False),
    sa.Column("issued_at", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("via", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("request_id", sa.LargeBinary),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("fingerprint_sha256", sa.LargeBinary, nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Column("crl_shard", sa.Integer, nullable=False),
    sa.Index("certificates_by_serial", "authority_id", "serial", unique=True),
    sa.Index("certificates_by_request", "request_id", "origin", unique=True),
    sa.Index("certificates_by_age", "issued_at", "authority_id", "serial"),
    sa.Index("certificates_by_authority_age", "authority_id", "issued_at", "serial"),
    sa.Index(
        "certificates_by_tenant_age",
        *("tenant", "authority_id", "issued_at", "serial"),
        sqlite_where=sa.text("tenant <> ''"),
        postgresql_where=sa.text("tenant <> ''"),
    ),
    sa.Index(
        "certificates_status_changed",
        *("authority_id", "crl_shard", "serial", "status", "revoked_at", "reason"),
        *("invalidity_at", "status_changed_at"),
        sqlite_where=sa.text("status_changed_at IS NOT NULL"),
        postgresql_where=sa.text("status_changed_at IS NOT NULL"),
    ),
)
"""``request_id`` is NULL where none was given, so that only real request ids are unique.
``crl_shard`` is the part of the CA's CRL that the certificate names: fixed at issuance.

``certificates_by_tenant_age`` keeps what a tenant's search costs apart from how much others have.

``certificates_status_changed`` holds all that a CRL needs, so that a long one is read along the
index instead of from all over the table; only certificates that ever changed status are in it.
"""

tenant_counts = sa.Table(
    "tenant_counts",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("certificates", sa.BigInteger, nullable=False),
)
"""A tenant's certificates by the hour since the epoch in which they were issued (``issued``) or
end (``ends``, without revoked ones): what quotas are measured by (``quotas.py``).
"""

certificate_names = sa.Table(
    "certificate_names",
    metadata,
    sa.Column("name", _ByCodePoint, primary_key=True),
    sa.Column("certificate_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Subject, common names and SANs in lower case. The key is the whole row: one tree to write, and
a narrow one to scan when a substring is asked.
"""

change_log = sa.Table(
    "change_log",
    metadata,
    sa.Column("position", _Position, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("serial", sa.LargeBinary),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Index("change_log_by_authority", "authority_id", "position"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("sequence", _Position, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("previous_hash", sa.LargeBinary, nullable=False),
    sa.Column("entry_hash", sa.LargeBinary, nullable=False),
)

status_requests = sa.Table(
    "status_requests",
    metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("request_id", sa.LargeBinary, primary_key=True),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("status_requests_by_age", "at"),
)
"""Requests for a change of status that were carried out lately: none is carried out twice,
whichever node it is sent to. ``position`` 0 is a request that changed nothing.
"""

approval_requests = sa.Table(
    "approval_requests",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("profile_digest", sa.LargeBinary, nullable=False),
    sa.Column("request_id", sa.LargeBinary, nullable=False),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("via", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("csr", sa.LargeBinary, nullable=False),
    sa.Column("validity_seconds", sa.BigInteger),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("needed", sa.Integer, nullable=False),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("ended_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("approval_requests_by_request", "request_id"),
    sa.Index("approval_requests_by_age", "authority_id", "opened_at", "id"),
    sa.Index("approval_requests_by_expiry", "expires_at"),
    sa.Index("approval_requests_by_origin", "origin", "state"),
)
"""Enrolments of profiles that ask for approvals. ``id`` is a digest of all that is approved."""

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("request", sa.LargeBinary, primary_key=True),
    sa.Column("approver", sa.Text, primary_key=True),
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""Who approved what. ``chain`` are the nodes that brought the approval."""

APPEND_ONLY: Final = ("change_log", "audit_log")
"""Tables whose rows a trigger keeps from being changed or removed."""

crls = sa.Table(
    "crls",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("is_delta", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("base_number", sa.BigInteger),
    sa.Column("this_update", sa.BigInteger, nullable=False),
    sa.Column("next_update", sa.BigInteger, nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Column("content_sha256", sa.LargeBinary),
    sa.Column("content_octets", sa.BigInteger),
    sa.Column("covers", sa.BigInteger, nullable=False),
)

"""``covers``: a position of the change log whose every change of status is on the list; 0 where the
list was made elsewhere.
"""

crl_chunks = sa.Table(
    "crl_chunks",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("content_sha256", sa.LargeBinary, primary_key=True),
    sa.Column("ordinal", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
"""Pieces of CRLs too long for one row, or still on their way (``contents.py``)."""

crl_numbers = sa.Table(
    "crl_numbers",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("status_position", sa.BigInteger, nullable=False),
    sa.Column("full_covers", sa.BigInteger, nullable=False),
    sa.Column("delta_covers", sa.BigInteger, nullable=False),
)
"""``status_position``: where the change log has the newest change of status in the CRL shard;
``full_covers`` and ``delta_covers``: what that was when the newest list was begun. While no list
covers it, a new one is wanted.
"""

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spec", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

"""``node`` is empty for what all nodes of the store have in common."""

crypto_keys = sa.Table(
    "crypto_keys",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("key_kind", sa.Text, nullable=False),
    sa.Column("public_der", sa.LargeBinary, nullable=False),
    sa.Column("private_part", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

publisher_positions = sa.Table(
    "publisher_positions",
    metadata,
    sa.Column("publisher", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)

source_positions = sa.Table(
    "source_positions",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("shares_passphrase", sa.SmallInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
)
"""Every node that ever started on this store."""

commit_marks = sa.Table(
    "commit_marks",
    metadata,
    sa.Column("writer", sa.LargeBinary, primary_key=True),
    sa.Column("batch", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""The newest batch of each writer: after a connection lost in COMMIT, it says what happened."""

sync_leaves = sa.Table(
    "sync_leaves",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("statuses", sa.LargeBinary, nullable=False),
    sa.Column("certificates", sa.LargeBinary, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("changed_statuses", sa.LargeBinary, nullable=False),
    sa.Column("changed_certificates", sa.LargeBinary, nullable=False),
    sa.Column("changed_entries", sa.BigInteger, nullable=False),
)
"""``changed_…`` are over the certificates whose status ever changed alone."""

sync_marks = sa.Table(
    "sync_marks",
    metadata,
    sa.Column("id", _Position, primary_key=True),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("bucket", sa.Integer, nullable=False),
)
"""Buckets whose leaves are out of date; triggers write them (see ``digests.py``)."""

sync_heads = sa.Table(
    "sync_heads",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("certificate_id", sa.BigInteger, nullable=False),
)
"""Up to which number of the certificates the leaves are made."""


def pack_serial(serial: int) -> bytes:
    """Return ``serial`` as 20 octets. Raises StoreError when it isn't a positive serial number."""
    try:
        return serial.to_bytes(SERIAL_OCTETS, "big")
    except OverflowError as error:
        raise StoreError(f"{serial:x} is not a serial number of at most 20 octets") from error


def unpack_serial(packed: bytes) -> int:
    """Return the number that ``pack_serial`` packed."""
    return int.from_bytes(packed, "big")
