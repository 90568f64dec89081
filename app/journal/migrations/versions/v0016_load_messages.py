"""The messages and receipts of a messenger's load tests, in tables of their own."""

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, PrimaryKeyConstraint, Text, text

revision = "0016"
down_revision = "0015"

_Key = BigInteger().with_variant(Integer, "sqlite")


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def upgrade() -> None:
    """Adds the tables. Messages of earlier runs stay where they are."""
    op.create_table(
        "chat_load_runs",
        Column("site_id", Integer, nullable=False),
        Column("run", Text, nullable=False),
        Column("room_id", BigInteger, nullable=False),
        Column("messages_left", BigInteger, nullable=False),
        Column("ms", BigInteger),
        Column("until", BigInteger, nullable=False),
        PrimaryKeyConstraint("site_id", "run"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chat_load_messages",
        Column("key", _Key, primary_key=True),
        Column("site_id", Integer, nullable=False),
        Column("id", BigInteger, nullable=False),
        Column("client_id", Text, nullable=False),
        Column("from_user_id", BigInteger, nullable=False),
        Column("to_user_id", BigInteger),
        Column("room_id", BigInteger),
        Column("conversation", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("data", Text),
        Column("reply_to", BigInteger),
        Column("forward_of", BigInteger),
        Column("file", Text),
        Column("file_info", Text),
        Column("at", BigInteger, nullable=False),
        Column("device_id", BigInteger),
        Column("app_id", BigInteger),
        Column("digest", LargeBinary, nullable=False),
        Column("change", BigInteger, nullable=False),
        Column("changed_at", BigInteger),
        _flag("is_deleted"),
        _flag("is_withheld"),
        Column("own", Text),
        Column("run", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    of_client = ["site_id", "from_user_id", "client_id"]
    op.create_index("chat_load_messages_by_id", "chat_load_messages", ["site_id", "id"], unique=True)
    op.create_index("chat_load_messages_by_client", "chat_load_messages", of_client, unique=True)
    op.create_index("chat_load_messages_of_run", "chat_load_messages", ["site_id", "run", "id"])
    op.create_table(
        "chat_load_receipts",
        Column("site_id", Integer, nullable=False),
        Column("message_id", BigInteger, nullable=False),
        Column("user_id", BigInteger, nullable=False),
        Column("device_id", BigInteger, nullable=False),
        Column("sender_id", BigInteger, nullable=False),
        Column("delivered_at", BigInteger),
        Column("read_at", BigInteger),
        Column("change", BigInteger, nullable=False),
        PrimaryKeyConstraint("site_id", "message_id", "user_id", "device_id"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Deletes them."""
    for table in ("chat_load_receipts", "chat_load_messages", "chat_load_runs"):
        op.drop_table(table)
