"""The tables of messages and receipts, and those that a load test has in their place. Knows no connection to SQL.

The numbers of all of them are of the site's clock, so that none comes twice. The tables of a load test hold messages of
runs, and lose them with the run: no sync, history or search reads them.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from app.journal.tables import RowKey, flag, metadata, where


def _message_columns() -> list[Column[Any]]:
    return [
        #: The row in `chat_search`.
        Column("key", RowKey, primary_key=True),
        Column("site_id", Integer, nullable=False),
        #: A number of the clock: the order of acceptance.
        Column("id", BigInteger, nullable=False),
        #: The id that the client has given it.
        Column("client_id", Text, nullable=False),
        Column("from_user_id", BigInteger, nullable=False),
        #: Either a user or a room.
        Column("to_user_id", BigInteger),
        Column("room_id", BigInteger),
        #: `r12`, or `u3:7` for two users.
        Column("conversation", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("text", Text, nullable=False),
        #: JSON of the application.
        Column("data", Text),
        Column("reply_to", BigInteger),
        Column("forward_of", BigInteger),
        #: A row of `chat_files`, and its id, name, type and size as clients get them, as JSON.
        Column("file", Text),
        Column("file_info", Text),
        Column("at", BigInteger, nullable=False),
        Column("device_id", BigInteger),
        Column("app_id", BigInteger),
        #: SHA-256 of the request: the same id with another content is refused.
        Column("digest", LargeBinary, nullable=False),
        #: A number of the clock: its last change.
        Column("change", BigInteger, nullable=False),
        Column("changed_at", BigInteger),
        flag("is_deleted"),
        #: The addressee had blocked the sender, who alone sees it.
        flag("is_withheld"),
        #: JSON of what its sender alone sees, after a change while blocked.
        Column("own", Text),
    ]


def _receipt_parts() -> list[Column[Any] | PrimaryKeyConstraint]:
    return [
        Column("site_id", Integer, nullable=False),
        Column("message_id", BigInteger, nullable=False),
        Column("user_id", BigInteger, nullable=False),
        #: A row of `chat_devices`.
        Column("device_id", BigInteger, nullable=False),
        Column("sender_id", BigInteger, nullable=False),
        Column("delivered_at", BigInteger),
        Column("read_at", BigInteger),
        #: A number of the clock.
        Column("change", BigInteger, nullable=False),
        PrimaryKeyConstraint("site_id", "message_id", "user_id", "device_id"),
    ]


#: The messages. Their text is found through `chat_search`, whose form depends on the database: see the migration.
chat_messages = Table(
    "chat_messages",
    metadata,
    *_message_columns(),
    Index("chat_messages_by_id", "site_id", "id", unique=True),
    Index("chat_messages_by_client", "site_id", "from_user_id", "client_id", unique=True),
    Index("chat_messages_by_conversation", "site_id", "conversation", "id"),
    Index("chat_messages_by_change", "site_id", "conversation", "change"),
    Index("chat_messages_to", "site_id", "to_user_id", "change", **where("to_user_id IS NOT NULL")),
    Index("chat_messages_from", "site_id", "from_user_id", "change", **where("to_user_id IS NOT NULL")),
    Index("chat_messages_by_file", "site_id", "file", **where("file IS NOT NULL")),
    sqlite_autoincrement=True,
)

#: The fate of a message at a device of an addressee.
chat_receipts = Table(
    "chat_receipts",
    metadata,
    *_receipt_parts(),
    Index("chat_receipts_of_sender", "site_id", "sender_id", "change"),
    Index("chat_receipts_of_user", "site_id", "user_id", "change"),
    sqlite_with_rowid=False,
)

#: The runs of load tests: those under way, and those whose messages are not deleted yet.
chat_load_runs = Table(
    "chat_load_runs",
    metadata,
    Column("site_id", Integer, nullable=False),
    #: The name, which no other run has.
    Column("run", Text, nullable=False),
    Column("room_id", BigInteger, nullable=False),
    #: The messages that it still takes.
    Column("messages_left", BigInteger, nullable=False),
    #: How long it takes messages from the first one on, in ms; NULL: the first one has come.
    Column("ms", BigInteger),
    #: When it takes no more messages.
    Column("until", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "run"),
    sqlite_with_rowid=False,
)

chat_load_messages = Table(
    "chat_load_messages",
    metadata,
    *_message_columns(),
    Column("run", Text, nullable=False),
    Index("chat_load_messages_by_id", "site_id", "id", unique=True),
    Index("chat_load_messages_by_client", "site_id", "from_user_id", "client_id", unique=True),
    Index("chat_load_messages_of_run", "site_id", "run", "id"),
    sqlite_autoincrement=True,
)

chat_load_receipts = Table(
    "chat_load_receipts",
    metadata,
    *_receipt_parts(),
    sqlite_with_rowid=False,
)


class MessageTables(Struct, frozen=True):
    """Where messages and their receipts are stored."""

    messages: Table
    receipts: Table


REAL = MessageTables(chat_messages, chat_receipts)
LOAD = MessageTables(chat_load_messages, chat_load_receipts)
