"""Alembic's scripts, one a version."""
