"""The tables of the messenger. A copy, because later versions of its `journal_tables.py` differ from it."""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0007"
down_revision = "0009"

metadata = MetaData()

_Key = BigInteger().with_variant(Integer, "sqlite")
_FALSE = text("false")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=_FALSE)


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


Table(
    "chat_sites",
    metadata,
    Column("site_id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
)

Table(
    "chat_users",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("login", Text),
    Column("login_key", Text),
    Column("external", Text),
    Column("name", Text, nullable=False, server_default=""),
    Column("sign", Text, nullable=False, server_default=""),
    Column("icon", Text, nullable=False, server_default=""),
    _flag("is_admin"),
    _flag("is_disabled"),
    Column("salt", LargeBinary),
    Column("iterations", Integer, nullable=False, server_default="0"),
    Column("stored_key", LargeBinary),
    Column("server_key", LargeBinary),
    _flag("must_change"),
    Column("scheme", Text, nullable=False, server_default="scram"),
    Column("voided", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "login_key"),
    UniqueConstraint("site_id", "external"),
    Index("chat_users_voided", "site_id", "voided"),
    sqlite_autoincrement=True,
)

Table(
    "chat_sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("device_id", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("chat_sessions_of_user", "user_id"),
    Index("chat_sessions_by_expiry", "expires_at"),
)
Table(
    "chat_networks",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("network", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "network"),
)

Table(
    "chat_rooms",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("external", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("icon", Text, nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    Column("object_type", Text),
    Column("object_id", Text),
    _flag("has_history"),
    Column("widened", BigInteger, nullable=False, server_default="0"),
    Column("has_receipts", Boolean),
    _flag("is_archived"),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "external"),
    Index("chat_rooms_by_site", "site_id"),
    sqlite_autoincrement=True,
)
Table(
    "chat_clock",
    metadata,
    Column("site_id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Table(
    "chat_members",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("room_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),
    _flag("is_admin"),
    PrimaryKeyConstraint("site_id", "room_id", "user_id", "since"),
    Index("chat_members_of_user", "site_id", "user_id", "until"),
    Index("chat_members_now", "site_id", "room_id", "user_id", unique=True, **_where("until IS NULL")),
)

Table(
    "chat_contacts",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("other_id", BigInteger, nullable=False),
    Column("name", Text),
    _flag("is_muted"),
    _flag("is_blocked"),
    PrimaryKeyConstraint("site_id", "user_id", "other_id"),
    Index("chat_contacts_of_other", "site_id", "other_id"),
)
Table(
    "chat_apps",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("reference", Text, nullable=False, server_default=""),
    Column("version", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "name", "reference", "version"),
)

Table(
    "chat_devices",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("device", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("os", Text, nullable=False, server_default=""),
    Column("os_version", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False, server_default=""),
    Column("memory", BigInteger),
    Column("cores", BigInteger),
    Column("app_id", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "user_id", "device"),
)

Table(
    "chat_registrations",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("login", Text, nullable=False),
    Column("login_key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("server_key", LargeBinary, nullable=False),
    Column("address", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("by", Text),
    Column("decided_at", BigInteger),
    Index("chat_registrations_by_state", "site_id", "state", "id"),
    sqlite_autoincrement=True,
)
Table(
    "chat_changes",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("of_id", BigInteger, nullable=False),
    Column("owner_id", BigInteger),
    Column("before", Text),
    Column("after", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("chat_changes_of", "site_id", "what", "of_id", "id"),
    sqlite_with_rowid=False,
)
Table(
    "chat_files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("device", Text, nullable=False),
    Column("app", Text),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("metadata", Text, nullable=False, server_default=""),
    Column("store", Text, nullable=False, server_default=""),
    Column("size", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False, server_default="0"),
    Column("parts", Text, nullable=False, server_default="[]"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("sent_at", BigInteger),
    Column("removed_at", BigInteger),
    Column("upload_ms", BigInteger, nullable=False, server_default="0"),
    Column("requests", Integer, nullable=False, server_default="0"),
    _flag("is_resumed"),
    Index("chat_files_of_user", "site_id", "user_id", "created_at"),
    Index("chat_files_unfinished", "expires_at", **_where("finished_at IS NULL OR removed_at IS NOT NULL")),
)
Table(
    "chat_messages",
    metadata,
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
    Index("chat_messages_by_id", "site_id", "id", unique=True),
    Index("chat_messages_by_client", "site_id", "from_user_id", "client_id", unique=True),
    Index("chat_messages_by_conversation", "site_id", "conversation", "id"),
    Index("chat_messages_by_change", "site_id", "conversation", "change"),
    Index("chat_messages_to", "site_id", "to_user_id", "change", **_where("to_user_id IS NOT NULL")),
    Index("chat_messages_from", "site_id", "from_user_id", "change", **_where("to_user_id IS NOT NULL")),
    Index("chat_messages_by_file", "site_id", "file", **_where("file IS NOT NULL")),
    sqlite_autoincrement=True,
)
Table(
    "chat_receipts",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("device_id", BigInteger, nullable=False),
    Column("sender_id", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
    Column("read_at", BigInteger),
    Column("change", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "message_id", "user_id", "device_id"),
    Index("chat_receipts_of_sender", "site_id", "sender_id", "change"),
    Index("chat_receipts_of_user", "site_id", "user_id", "change"),
    sqlite_with_rowid=False,
)
Table(
    "chat_outbox",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("rooms", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("but_user", Text),
    Column("but_device", Text),
    Column("message_id", BigInteger),
    PrimaryKeyConstraint("site_id", "id"),
    sqlite_with_rowid=False,
)
Table(
    "chat_sent",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "seq"),
    sqlite_with_rowid=False,
)

_SEARCH = {
    "sqlite": ("CREATE VIRTUAL TABLE chat_search USING fts5(words, scope, tokenize='unicode61 remove_diacritics 0')",),
    "postgresql": (
        "CREATE TABLE chat_search (key BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
        "CREATE INDEX chat_search_by_words ON chat_search USING gin (words)",
    ),
}
_OF_TRANSFERS = (Column("app", Text), Column("file", Text), Column("client_ms", BigInteger))


def upgrade() -> None:
    """Makes the tables, the index of words, and the columns of transfers."""
    metadata.create_all(op.get_bind(), checkfirst=False)
    for statement in _SEARCH[op.get_bind().dialect.name]:
        op.execute(statement)
    for column in _OF_TRANSFERS:
        op.add_column("transfers", column)
    op.create_index("transfers_by_file", "transfers", ["site_id", "file", "at"])


def downgrade() -> None:
    """Deletes them with all that is in them."""
    op.drop_index("transfers_by_file", "transfers")
    for column in _OF_TRANSFERS:
        op.drop_column("transfers", column.name)
    op.drop_table("chat_search")
    metadata.drop_all(op.get_bind())
