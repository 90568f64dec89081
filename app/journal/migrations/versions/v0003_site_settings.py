"""The sites that operators add and change while nodes serve."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "site_settings",
        Column("name", Text, primary_key=True),
        Column("block", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("changed_at", BigInteger, nullable=False),
        Column("keys_made", Text, nullable=False),
    )
    op.create_index("site_settings_by_version", "site_settings", ["version"])
