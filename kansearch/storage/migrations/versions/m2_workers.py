"""Workers; and on MySQL room for what Optuna's columns are too small for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "2"
down_revision = "1"

LONG_TEXTS = ("study_user_attributes", "study_system_attributes", "trial_user_attributes", "trial_system_attributes")
"""The learning curve of a long trial has more than the 64 KiB of MySQL's TEXT."""


def upgrade() -> None:
    """Make the table; change the columns."""
    op.create_table(
        "kansearch_workers",
        sa.Column("worker", sa.String(255), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("study_id", sa.Integer),
        sa.Column("trials", sa.Text, nullable=False),
        sa.Column("n_ended", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        sa.Column("beats", sa.Integer, nullable=False),
        sa.Column("ended", sa.String(255)),
        if_not_exists=True,
    )
    if op.get_context().dialect.name == "mysql":
        for table in LONG_TEXTS:
            op.alter_column(table, "value_json", type_=mysql.LONGTEXT(), existing_nullable=True)
        # Of MySQL's own accord these are whole seconds.
        for column in ("datetime_start", "datetime_complete"):
            op.alter_column("trials", column, type_=mysql.DATETIME(fsp=6), existing_nullable=True)
