"""Keep long CRLs in pieces, beside their row instead of in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table of pieces, and to each CRL what its pieces make up together."""
    op.add_column("crls", sa.Column("content_sha256", sa.LargeBinary))
    op.add_column("crls", sa.Column("content_octets", sa.BigInteger))
    op.add_column(
        "crls", sa.Column("covers", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
    op.create_table(
        "crl_chunks",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("content_sha256", sa.LargeBinary, primary_key=True),
        sa.Column("ordinal", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop them; a CRL that was in pieces is lost until the next one is made."""
    op.execute("DELETE FROM crls WHERE content_sha256 IS NOT NULL")
    op.drop_table("crl_chunks")
    op.drop_column("crls", "covers")
    op.drop_column("crls", "content_octets")
    op.drop_column("crls", "content_sha256")
