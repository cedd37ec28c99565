"""Artifacts: checkpoints that lie outside of the database."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"

CHECKPOINTS = "kansearch_trial_checkpoints"


def upgrade() -> None:
    """Make the table; let checkpoints refer to it."""
    op.create_table(
        "kansearch_artifacts",
        sa.Column("artifact", sa.String(64), primary_key=True),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    # MySQL keeps a column that was added although the migration was then cut off.
    if all(column["name"] != "artifact" for column in sa.inspect(op.get_bind()).get_columns(CHECKPOINTS)):
        op.add_column(CHECKPOINTS, sa.Column("artifact", sa.String(64)))
