"""Run by Alembic: on the connection that whoever migrates brings along."""

from alembic import context

from kansearch.storage.tables import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
