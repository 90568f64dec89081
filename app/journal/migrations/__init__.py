"""The history of the journal's tables, for Alembic. A file in `versions` is never changed once it is released."""
