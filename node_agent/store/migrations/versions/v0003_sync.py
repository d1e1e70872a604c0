"""Digests of ranges of certificates, and triggers that say which of them are out of date."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BUCKET = {
    "sqlite": "(instr('0123456789ABCDEF', substr(hex({0}.serial), 1, 1)) - 1) * 4096"
    " + (instr('0123456789ABCDEF', substr(hex({0}.serial), 2, 1)) - 1) * 256"
    " + (instr('0123456789ABCDEF', substr(hex({0}.serial), 3, 1)) - 1) * 16"
    " + (instr('0123456789ABCDEF', substr(hex({0}.serial), 4, 1)) - 1)",
    "postgresql": "get_byte({0}.serial, 0) * 256 + get_byte({0}.serial, 1)",
}
_NEWEST = "(SELECT certificate_id FROM log_heads)"
_MARK = "INSERT INTO sync_marks (authority_id, bucket) "


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "sync_leaves",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("statuses", sa.LargeBinary, nullable=False),
        sa.Column("certificates", sa.LargeBinary, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("changed_statuses", sa.LargeBinary, nullable=False),
        sa.Column("changed_certificates", sa.LargeBinary, nullable=False),
        sa.Column("changed_entries", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_marks",
        sa.Column("id", _POSITION, primary_key=True),
        sa.Column("authority_id", sa.Text, nullable=False),
        sa.Column("bucket", sa.Integer, nullable=False),
    )
    heads = op.create_table(
        "sync_heads",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("certificate_id", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(heads, [{"id": 1, "certificate_id": 0}])
    if op.get_bind().dialect.name == "sqlite":
        _create_sqlite_triggers()
    else:
        _create_postgresql_triggers()


def downgrade() -> None:
    """Drop them."""
    for name in ("sync_insert", "sync_update", "sync_delete"):
        table = " ON certificates" if op.get_bind().dialect.name == "postgresql" else ""
        op.execute(f"DROP TRIGGER {name}{table}")
    if op.get_bind().dialect.name == "postgresql":
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP FUNCTION sync_mark_{event}()")
    for table in ("sync_heads", "sync_marks", "sync_leaves"):
        op.drop_table(table)


def _create_sqlite_triggers() -> None:
    def mark(row: str) -> str:
        return f"{_MARK}VALUES ({row}.authority_id, {_BUCKET['sqlite'].format(row)});"

    op.execute(
        "CREATE TRIGGER sync_insert AFTER INSERT ON certificates "
        f"WHEN NEW.id <= {_NEWEST} BEGIN {mark('NEW')} END"
    )
    op.execute(
        "CREATE TRIGGER sync_update AFTER UPDATE ON certificates "
        f"BEGIN {mark('OLD')} {mark('NEW')} END"
    )
    op.execute(f"CREATE TRIGGER sync_delete AFTER DELETE ON certificates BEGIN {mark('OLD')} END")


def _create_postgresql_triggers() -> None:
    def select(row: str) -> str:
        bucket = _BUCKET["postgresql"].format(row)
        return f"{_MARK}SELECT DISTINCT {row}.authority_id, {bucket} FROM {row}"  # noqa: S608

    added = f"{select('added')} WHERE added.id <= {_NEWEST};"
    changed = f"{select('gone')}; {select('added')};"
    for event, tables, body in (
        ("insert", "NEW TABLE AS added", added),
        ("update", "OLD TABLE AS gone NEW TABLE AS added", changed),
        ("delete", "OLD TABLE AS gone", f"{select('gone')};"),
    ):
        op.execute(
            f"CREATE FUNCTION sync_mark_{event}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {body} RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER sync_{event} AFTER {event.upper()} ON certificates "
            f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION sync_mark_{event}()"
        )
