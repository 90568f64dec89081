"""Runs the migrations on the connection that `app.journal.schema` gives. Alembic executes this file."""

from alembic import context

from app.journal.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # `schema` has begun the transaction, under a lock.
    transactional_ddl=False,
)
context.run_migrations()
