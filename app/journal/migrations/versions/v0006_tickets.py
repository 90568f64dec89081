"""The resume tickets of connections."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the ticket of a connection. Of those that are there nobody knows it."""
    op.add_column("connections", Column("ticket", Text))


def downgrade() -> None:
    """Deletes the column."""
    op.drop_column("connections", "ticket")
