"""The operators whom a provider of identities knows."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0010"
down_revision = "0007"


def upgrade() -> None:
    """Adds the person at a provider that an operator is. The present operators have passwords."""
    op.add_column("operators", Column("subject", Text))
    op.create_index("operators_by_subject", "operators", ["subject"], unique=True)


def downgrade() -> None:
    """Deletes the column. The operators without a password cannot log in any more."""
    op.drop_index("operators_by_subject", "operators")
    op.drop_column("operators", "subject")
