"""The tables of the first version. A copy, because later versions of `app.journal.tables` differ from it."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

_STATES = ("waiting", "written", "acked", "expired", "replaced", "settled", "withdrawn", "resynced")

metadata = MetaData()

_Key = BigInteger().with_variant(Integer, "sqlite")

_UNFINISHED = "(n_waiting > 0 OR n_written > 0)"
_LOST = "(n_expired > 0 OR n_replaced > 0 OR n_settled > 0 OR n_withdrawn > 0 OR n_resynced > 0)"

Table(
    "sites",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

Table(
    "devices",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("handle", BigInteger),
    UniqueConstraint("site_id", "user", "device"),
    Index("devices_by_handle", "site_id", "handle"),
)

Table(
    "messages",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("rooms", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("options", Text, nullable=False, server_default=""),
    Column("addressed", Integer, nullable=False, server_default="0"),
    Column("body", Text),
    *(Column(f"n_{state}", Integer, nullable=False, server_default="0") for state in _STATES),
    Column("nodes", Integer),
    PrimaryKeyConstraint("site_id", "seq"),
    UniqueConstraint("site_id", "id"),
    Index("messages_by_time", "site_id", "accepted_at", "seq"),
    Index("messages_by_event", "site_id", "event", "seq"),
    Index("messages_unfinished", "site_id", "seq", postgresql_where=text(_UNFINISHED), sqlite_where=text(_UNFINISHED)),
    Index("messages_lost", "site_id", "seq", postgresql_where=text(_LOST), sqlite_where=text(_LOST)),
    sqlite_with_rowid=False,
)

Table(
    "message_rooms",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("room", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "room", "seq"),
    Index("message_rooms_by_seq", "site_id", "seq"),
    sqlite_with_rowid=False,
)

Table(
    "deliveries",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("device_id", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False, server_default="0"),
    Column("is_batch", Boolean, nullable=False, server_default=text("false")),
    Column("written_at", BigInteger),
    Column("acked_at", BigInteger),
    Column("ms", Integer),
    Column("ended_at", BigInteger),
    PrimaryKeyConstraint("site_id", "seq", "device_id"),
    Index("deliveries_of_device", "device_id", "seq"),
    sqlite_with_rowid=False,
)

Table(
    "connections",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user", Text),
    Column("device", Text),
    Column("node", Text),
    Column("address", Text),
    Column("user_agent", Text),
    Column("protocol", Text),
    Column("version", Text),
    Column("transport", Text),
    Column("client_version", Text),
    Column("tls", Text),
    Column("connected_at", BigInteger),
    Column("disconnected_at", BigInteger, nullable=False),
    Column("reason", Text),
    Column("connect_ms", Integer),
    Column("authorise_ms", Integer),
    Column("sync_ms", Integer),
    Column("bytes_read", BigInteger),
    Column("bytes_written", BigInteger),
    Column("messages", BigInteger),
    Column("replay", Integer),
    Index("connections_by_time", "site_id", "disconnected_at"),
    Index("connections_of_user", "site_id", "user", "disconnected_at"),
)

Table(
    "refusals",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    Column("user", Text),
    Column("device", Text),
    Column("node", Text),
    Column("address", Text),
    Column("user_agent", Text),
    Column("protocol", Text),
    Column("reason", Text, nullable=False),
    Index("refusals_by_time", "site_id", "at"),
    Index("refusals_of_user", "site_id", "user", "at"),
)

Table(
    "transfers",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("user", Text),
    Column("device", Text),
    Column("node", Text),
    Column("kind", Text, nullable=False),
    Column("bytes", BigInteger),
    Column("ms", BigInteger),
    Column("is_resumed", Boolean),
    Index("transfers_by_time", "site_id", "at"),
)

Table(
    "webhook_attempts",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("attempt", Integer),
    Column("events", Integer),
    Column("types", Text),
    Column("from_seq", BigInteger),
    Column("to_seq", BigInteger),
    Column("users", Text),
    Column("status", Integer),
    Column("ms", Integer),
    Column("answer", Text),
    Column("error", Text),
    Column("outcome", Text),
    Column("node", Text),
    Index("webhook_attempts_by_time", "site_id", "at"),
    Index("webhook_attempts_by_webhook", "site_id", "webhook_id"),
)

Table(
    "log",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    Column("node", Text),
    Column("level", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("fields", Text),
    Index("log_by_time", "at"),
    Index("log_by_site", "site_id", "at"),
)

Table(
    "audit",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text),
    Column("detail", Text),
    Index("audit_by_time", "at"),
)

Table(
    "samples",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("figures", Text, nullable=False),
    Index("samples_by_time", "seconds", "at"),
)

Table(
    "positions",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("read", BigInteger, nullable=False),
)

Table(
    "missing",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Index("missing_by_time", "at"),
)


def upgrade() -> None:
    """Makes the tables."""
    metadata.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Deletes the tables with all that is in them."""
    metadata.drop_all(op.get_bind())
