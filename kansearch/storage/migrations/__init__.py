"""How our own tables came to be what they are: Alembic's migrations, numbered from 1, run when a storage is opened."""
