"""The map of what was imported into a messenger, and the forms of imported passwords."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, Text

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Adds the map and the forms. No site has imported anything yet."""
    op.add_column("chat_sites", Column("forms", Text, nullable=False, server_default=""))
    op.create_table(
        "chat_imports",
        Column("site_id", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("foreign_id", Text, nullable=False),
        Column("id", BigInteger, nullable=False),
        PrimaryKeyConstraint("site_id", "kind", "foreign_id"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Deletes them. Imported users that keep their passwords cannot log in any more."""
    op.drop_table("chat_imports")
    op.drop_column("chat_sites", "forms")
