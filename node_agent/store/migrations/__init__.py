"""Alembic migrations; each works with the code before and after it."""
