"""Make the first tables, the row of heads, and the triggers that keep the logs append-only."""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BY_CODE_POINT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_OF_A_TENANT = sa.text("tenant <> ''")
_STATUS_CHANGED = sa.text("status_changed_at IS NOT NULL")
_APPEND_ONLY = ("change_log", "audit_log")


def upgrade() -> None:
    """Make everything."""
    _create_certificates()
    _create_logs()
    _create_approvals()
    _create_crls()
    _create_objects()
    _create_positions()
    _protect_logs()


def downgrade() -> None:
    """Drop everything; nothing came before."""
    for table in (
        *("commit_marks", "nodes", "source_positions", "publisher_positions", "crypto_keys"),
        *("objects", "crl_numbers", "crls", "status_requests", "audit_log", "change_log"),
        *("approvals", "approval_requests", "log_heads"),
        *("tenant_counts", "certificate_names", "certificates"),
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _create_certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("id", _POSITION, primary_key=True, autoincrement=False),
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
    )
    _index_certificates()
    op.create_table(
        "certificate_names",
        sa.Column("name", _BY_CODE_POINT, primary_key=True),
        sa.Column("certificate_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_counts",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("certificates", sa.BigInteger, nullable=False),
    )


def _index_certificates() -> None:
    table = "certificates"
    op.create_index("certificates_by_serial", table, ["authority_id", "serial"], unique=True)
    op.create_index("certificates_by_request", table, ["request_id", "origin"], unique=True)
    op.create_index("certificates_by_age", table, ["issued_at", "authority_id", "serial"])
    op.create_index("certificates_by_authority_age", table, ["authority_id", "issued_at", "serial"])
    op.create_index(
        "certificates_by_tenant_age",
        table,
        ["tenant", "authority_id", "issued_at", "serial"],
        sqlite_where=_OF_A_TENANT,
        postgresql_where=_OF_A_TENANT,
    )
    op.create_index(
        "certificates_status_changed",
        table,
        [
            *("authority_id", "crl_shard", "serial", "status", "revoked_at", "reason"),
            *("invalidity_at", "status_changed_at"),
        ],
        sqlite_where=_STATUS_CHANGED,
        postgresql_where=_STATUS_CHANGED,
    )


def _create_logs() -> None:
    heads = op.create_table(
        "log_heads",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("certificate_id", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("audit_sequence", sa.BigInteger, nullable=False),
        sa.Column("audit_hash", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("log_id", sa.LargeBinary, nullable=False),
        sa.Column("log_secret", sa.LargeBinary, nullable=False),
    )
    first = {"id": 1, "certificate_id": 0, "position": 0, "audit_sequence": 0, "revision": 0}
    random = {"log_id": os.urandom(16), "log_secret": os.urandom(32)}
    op.bulk_insert(heads, [{**first, "audit_hash": bytes(32), **random}])
    op.create_table(
        "change_log",
        sa.Column("position", _POSITION, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("authority_id", sa.Text, nullable=False),
        sa.Column("serial", sa.LargeBinary),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("change_log_by_authority", "change_log", ["authority_id", "position"])
    op.create_table(
        "audit_log",
        sa.Column("sequence", _POSITION, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("entry_hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "status_requests",
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("request_id", sa.LargeBinary, primary_key=True),
        sa.Column("request_digest", sa.LargeBinary, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("status_requests_by_age", "status_requests", ["at"])


def _create_approvals() -> None:
    op.create_table(
        "approval_requests",
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
    )
    for name, columns in (
        ("request", ["request_id"]),
        ("age", ["authority_id", "opened_at", "id"]),
        ("expiry", ["expires_at"]),
        ("origin", ["origin", "state"]),
    ):
        op.create_index(f"approval_requests_by_{name}", "approval_requests", columns)
    op.create_table(
        "approvals",
        sa.Column("request", sa.LargeBinary, primary_key=True),
        sa.Column("approver", sa.Text, primary_key=True),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def _create_crls() -> None:
    op.create_table(
        "crls",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("is_delta", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("base_number", sa.BigInteger),
        sa.Column("this_update", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "crl_numbers",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("status_position", sa.BigInteger, nullable=False),
        sa.Column("full_covers", sa.BigInteger, nullable=False),
        sa.Column("delta_covers", sa.BigInteger, nullable=False),
    )


def _create_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "crypto_keys",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("key_kind", sa.Text, nullable=False),
        sa.Column("public_der", sa.LargeBinary, nullable=False),
        sa.Column("private_part", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )


def _create_positions() -> None:
    op.create_table(
        "publisher_positions",
        sa.Column("publisher", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "source_positions",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("shares_passphrase", sa.SmallInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "commit_marks",
        sa.Column("writer", sa.LargeBinary, primary_key=True),
        sa.Column("batch", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def _protect_logs() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in _APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
