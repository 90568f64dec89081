"""The tables of the journal. Knows neither the streams nor the connections to SQL.

Times are milliseconds since the epoch. `migrations/` makes the tables; a test compares both.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.journal.states import Fate

metadata = MetaData()

#: SQLite counts a key up by itself only if its type is INTEGER.
RowKey = BigInteger().with_variant(Integer, "sqlite")


def flag(name: str) -> Column[bool]:
    """A column that is false unless it is set."""
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def where(condition: str) -> dict[str, Any]:
    """The words of a partial index in both databases."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


def _by_state(state: Fate) -> Index:
    """The messages that are in a state at some device: `GET /messages?state=` reads them from it, however rare they
    are. Nearly every message is acked at one: this state needs none."""
    return Index(f"messages_{state.word}", "site_id", "seq", **where(f"{state.column} > 0"))


sites = Table(
    "sites",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

devices = Table(
    "devices",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    #: The user room. "" with a device `handle <n>`: nobody knows any more to whom the handle belonged.
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    #: Its number in Redis; NULL once the number belongs to another device.
    Column("handle", BigInteger),
    UniqueConstraint("site_id", "user", "device"),
    Index("devices_by_handle", "site_id", "handle"),
)

messages = Table(
    "messages",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    #: A JSON list, as sent.
    Column("rooms", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    #: A JSON object; "" for none.
    Column("options", Text, nullable=False, server_default=""),
    #: The devices that it is for. The counts by state add up to it.
    Column("addressed", Integer, nullable=False, server_default="0"),
    #: Only where the site says `journal: {bodies: true}`.
    Column("body", Text),
    *(Column(state.column, Integer, nullable=False, server_default="0") for state in Fate),
    #: The nodes that were told, in a site without queues; else NULL.
    Column("nodes", Integer),
    PrimaryKeyConstraint("site_id", "seq"),
    UniqueConstraint("site_id", "id"),
    Index("messages_by_time", "site_id", "accepted_at", "seq"),
    Index("messages_by_event", "site_id", "event", "seq"),
    *(_by_state(state) for state in Fate if state is not Fate.ACKED),
    sqlite_with_rowid=False,
)

message_rooms = Table(
    "message_rooms",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("room", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "room", "seq"),
    Index("message_rooms_by_seq", "site_id", "seq"),
    sqlite_with_rowid=False,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("device_id", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False, server_default="0"),
    flag("is_batch"),
    Column("written_at", BigInteger),
    Column("acked_at", BigInteger),
    #: From writing to ack, both on the clock of the node that held the connection.
    Column("ms", Integer),
    #: When the delivery got its final state.
    Column("ended_at", BigInteger),
    PrimaryKeyConstraint("site_id", "seq", "device_id"),
    Index("deliveries_of_device", "device_id", "seq"),
    sqlite_with_rowid=False,
)

connections = Table(
    "connections",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user", Text),
    Column("device", Text),
    Column("node", Text),
    Column("address", Text),
    Column("user_agent", Text),
    #: The contract, such as `sites`; its version, such as 4 for Engine.IO 4; and how its bytes travel.
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
    #: `taken`, or why its resume ticket was refused; NULL: it brought none.
    Column("ticket", Text),
    Column("sync_ms", Integer),
    Column("bytes_read", BigInteger),
    Column("bytes_written", BigInteger),
    Column("messages", BigInteger),
    #: The messages in the replay at its begin.
    Column("replay", Integer),
    Index("connections_by_time", "site_id", "disconnected_at"),
    Index("connections_of_user", "site_id", "user", "disconnected_at"),
    Index("connections_by_end", "disconnected_at"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", RowKey, primary_key=True),
    #: NULL: of no known site.
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    #: NULL: nobody knows yet who it was.
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

transfers = Table(
    "transfers",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("user", Text),
    Column("device", Text),
    Column("node", Text),
    #: `synchronisation`, `upload` or `download`.
    Column("kind", Text, nullable=False),
    Column("bytes", BigInteger),
    Column("ms", BigInteger),
    Column("is_resumed", Boolean),
    #: The program of the client, the file, and the time by the client's own measure.
    Column("app", Text),
    Column("file", Text),
    Column("client_ms", BigInteger),
    Index("transfers_by_time", "site_id", "at"),
    Index("transfers_by_file", "site_id", "file", "at"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    #: The header webhook-id: the same for every attempt of one POST.
    Column("webhook_id", Text, nullable=False),
    Column("attempt", Integer),
    Column("events", Integer),
    Column("types", Text),
    Column("from_seq", BigInteger),
    Column("to_seq", BigInteger),
    #: The users of its events, a JSON list, as far as it is short.
    Column("users", Text),
    #: NULL: there was no answer.
    Column("status", Integer),
    Column("ms", Integer),
    Column("answer", Text),
    Column("error", Text),
    #: `delivered`, `retry`, `parked`, `off` or `test`.
    Column("outcome", Text),
    Column("node", Text),
    Index("webhook_attempts_by_time", "site_id", "at"),
    Index("webhook_attempts_by_webhook", "site_id", "webhook_id"),
)

log = Table(
    "log",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    Column("node", Text),
    Column("level", Text, nullable=False),
    Column("event", Text, nullable=False),
    #: A JSON object.
    Column("fields", Text),
    Index("log_by_time", "at"),
    Index("log_by_site", "site_id", "at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer),
    Column("at", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text),
    Column("detail", Text),
    Index("audit_by_time", "at"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
    #: The time between two samples: 10, kept for an hour, or 300, kept for 30 days.
    Column("seconds", Integer, nullable=False),
    #: A JSON object; see `samples.py`.
    Column("figures", Text, nullable=False),
    #: NULL: the whole node.
    Column("site_id", Integer),
    Index("samples_by_time", "seconds", "at"),
    Index("samples_by_site", "site_id", "seconds", "at"),
)

positions = Table(
    "positions",
    metadata,
    Column("stream", Text, primary_key=True),
    #: The last entry whose rows are in SQL, written in the same transaction.
    Column("entry_id", Text, nullable=False),
    #: How many entries had been added to the stream up to it, by the count of Redis.
    Column("read", BigInteger, nullable=False),
)

missing = Table(
    "missing",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    #: How many entries left the full stream before they were read.
    Column("entries", BigInteger, nullable=False),
    Index("missing_by_time", "at"),
)

#: The sites that operators add and change while nodes serve; see `app/catalog`.
site_settings = Table(
    "site_settings",
    metadata,
    Column("name", Text, primary_key=True),
    #: A block as in sites.yml, as JSON; "{}" once the site is gone.
    Column("block", Text, nullable=False),
    #: `live`, `leaving` while its keys are being removed from Redis, or `gone`.
    Column("state", Text, nullable=False),
    #: Grows with each change of any site. It is the time in ms, or one more than the last.
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    #: When each API key was made, a JSON object by the name of the key.
    Column("keys_made", Text, nullable=False),
    Index("site_settings_by_version", "version"),
)

#: The people who may log in to the console. They are no history, and no retention deletes them.
operators = Table(
    "operators",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    #: argon2id.
    Column("password_hash", Text, nullable=False),
    #: `admin`, `operator` or `viewer`.
    Column("role", Text, nullable=False),
    #: A JSON list of names; NULL: every site.
    Column("sites", Text),
    #: Grows when all sessions of the operator end.
    Column("version", Integer, nullable=False, server_default="0"),
    flag("is_disabled"),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    #: The person at a provider of identities: the issuer, a space, and its name for the person. NULL: it has a
    #: password.
    Column("subject", Text),
    Index("operators_by_subject", "subject", unique=True),
    # No id comes again, so that no session of a removed operator becomes another's.
    sqlite_autoincrement=True,
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("operator_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    #: SHA-256 of the token.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("api_tokens_of_operator", "operator_id"),
    sqlite_autoincrement=True,
)

#: The runs of the load test with their totals. They are no history, and no retention deletes them.
load_runs = Table(
    "load_runs",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("operator", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("description", Text, nullable=False),
    #: Devices, messages of each, and the most seconds, as JSON.
    Column("plan", Text, nullable=False),
    #: `running`, `done`, `failed` or `stopped`.
    Column("state", Text, nullable=False),
    #: A JSON object, or the reason of a failure; NULL while it runs.
    Column("totals", Text),
)

#: The tables that entries `rows` may fill.
ROW_TABLES = {table.name: table for table in (connections, refusals, log, samples, webhook_attempts, transfers, audit)}
