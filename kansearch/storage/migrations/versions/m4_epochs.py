"""Workers say how many epochs they trained, so that people see how fast they are."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

WORKERS = "kansearch_workers"


def upgrade() -> None:
    """Add the column."""
    # MySQL keeps a column that was added although the migration was then cut off.
    if all(column["name"] != "n_epochs" for column in sa.inspect(op.get_bind()).get_columns(WORKERS)):
        op.add_column(WORKERS, sa.Column("n_epochs", sa.BigInteger, nullable=False, server_default="0"))
