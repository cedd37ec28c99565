"""Checkpoints of trials."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "1"
down_revision = None


def upgrade() -> None:
    """Storages from before there were migrations have the table already."""
    op.create_table(
        "kansearch_trial_checkpoints",
        sa.Column("trial_id", sa.Integer, sa.ForeignKey("trials.trial_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("state", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"), nullable=False),
        if_not_exists=True,
    )
