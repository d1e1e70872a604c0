"""Run migrations on the connection that ``migrate.py`` opened, inside its transaction."""

from __future__ import annotations

from alembic import context

from node_agent.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
