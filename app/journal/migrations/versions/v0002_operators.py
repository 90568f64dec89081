"""The tables of operators and of their tokens. A copy, because later versions of `app.journal.tables` differ."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

revision = "0002"
down_revision = "0001"

metadata = MetaData()

_Key = BigInteger().with_variant(Integer, "sqlite")

Table(
    "operators",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sites", Text),
    Column("version", Integer, nullable=False, server_default="0"),
    Column("is_disabled", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    sqlite_autoincrement=True,
)

Table(
    "api_tokens",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("operator_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("api_tokens_of_operator", "operator_id"),
    sqlite_autoincrement=True,
)


def upgrade() -> None:
    """Makes the tables."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Deletes the tables with all that is in them."""
    for table in reversed(metadata.sorted_tables):
        op.drop_table(table.name)
