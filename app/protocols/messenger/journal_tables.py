"""The tables of the messenger, in the journal's database, but for those of messages. Knows no connection to SQL.

Times are milliseconds since the epoch. Ids count by table, and no id comes again. Rows of two sites never meet: every
statement names the site. No retention deletes these rows.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from app.journal.tables import RowKey, flag, metadata, where

#: The files that may have to go.
UNFINISHED_FILES = "finished_at IS NULL OR removed_at IS NOT NULL"


chat_sites = Table(
    "chat_sites",
    metadata,
    Column("site_id", Integer, primary_key=True, autoincrement=False),
    #: 32 random bytes: the made-up salts of unknown logins and the signatures of links follow from it.
    Column("secret", LargeBinary, nullable=False),
    #: The forms of imported passwords, separated by spaces: each client tries them beside its own.
    Column("forms", Text, nullable=False, server_default=""),
)

chat_users = Table(
    "chat_users",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    #: As it is shown: NFC. NULL where the users are those of the site's backend.
    Column("login", Text),
    #: The login as it is compared: NFC of its case-folded form.
    Column("login_key", Text),
    #: The id at the site's backend; NULL where users log in here.
    Column("external", Text),
    Column("name", Text, nullable=False, server_default=""),
    Column("sign", Text, nullable=False, server_default=""),
    Column("icon", Text, nullable=False, server_default=""),
    flag("is_admin"),
    flag("is_disabled"),
    #: SCRAM-SHA-256; NULL: no password is right.
    Column("salt", LargeBinary),
    Column("iterations", Integer, nullable=False, server_default="0"),
    Column("stored_key", LargeBinary),
    Column("server_key", LargeBinary),
    #: An operator has set the password: the user sets another one first.
    flag("must_change"),
    #: How a client makes the password of it, `scram` or the name of an imported form.
    Column("scheme", Text, nullable=False, server_default="scram"),
    #: Counts the site's users that were ever given a password, from 1: made-up answers have the iterations of one.
    Column("keyed", Integer),
    #: The number of the site at which sessions of the user last ended early: nodes close their connections.
    Column("voided", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "login_key"),
    UniqueConstraint("site_id", "external"),
    Index("chat_users_voided", "site_id", "voided"),
    Index("chat_users_keyed", "site_id", "keyed", unique=True),
    # The columns that lists are filtered by.
    Index("chat_users_listed", "site_id", "id", "login_key", "external", "name", "is_disabled", "is_admin"),
    sqlite_autoincrement=True,
)

chat_sessions = Table(
    "chat_sessions",
    metadata,
    #: SHA-256 of the token.
    Column("digest", LargeBinary, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    #: The row of `chat_devices` that the session is bound to.
    Column("device_id", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("chat_sessions_of_user", "user_id"),
    Index("chat_sessions_by_expiry", "expires_at"),
)

#: The networks that a user has logged in from: guesses from elsewhere do not lock the user out of these.
chat_networks = Table(
    "chat_networks",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("network", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "network"),
)

chat_rooms = Table(
    "chat_rooms",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    #: The room at the site's backend; NULL where rooms are made here.
    Column("external", Text),
    Column("name", Text, nullable=False),
    #: `chat`, `channel` or `admins`.
    Column("kind", Text, nullable=False),
    Column("icon", Text, nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    #: The application's object that the room is about.
    Column("object_type", Text),
    Column("object_id", Text),
    #: Whether a member sees what was sent before it was one.
    flag("has_history"),
    #: The number of the site's clock when that was last turned on.
    Column("widened", BigInteger, nullable=False, server_default="0"),
    #: Whether receipts are kept; NULL: as its kind has it.
    Column("has_receipts", Boolean),
    flag("is_archived"),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "external"),
    Index("chat_rooms_listed", "site_id", "id", "name", "kind", "is_archived"),
    sqlite_autoincrement=True,
)

#: The last number of a site: messages, changes, memberships and the outbox have numbers of one row, which grow in the
#: order of the commits.
chat_clock = Table(
    "chat_clock",
    metadata,
    Column("site_id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: One row for each time that a user was a member.
chat_members = Table(
    "chat_members",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("room_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    #: Numbers of the clock; without `until` the user is a member.
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),
    flag("is_admin"),
    PrimaryKeyConstraint("site_id", "room_id", "user_id", "since"),
    Index("chat_members_of_user", "site_id", "user_id", "until"),
    Index("chat_members_now", "site_id", "room_id", "user_id", unique=True, **where("until IS NULL")),
)

chat_contacts = Table(
    "chat_contacts",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("other_id", BigInteger, nullable=False),
    #: The other's name in this user's list; NULL: the other's own.
    Column("name", Text),
    flag("is_muted"),
    flag("is_blocked"),
    PrimaryKeyConstraint("site_id", "user_id", "other_id"),
    Index("chat_contacts_of_other", "site_id", "other_id"),
)

#: The programs that clients run.
chat_apps = Table(
    "chat_apps",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("reference", Text, nullable=False, server_default=""),
    Column("version", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "name", "reference", "version"),
)

chat_devices = Table(
    "chat_devices",
    metadata,
    Column("id", RowKey, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    #: The deviceId.
    Column("device", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("os", Text, nullable=False, server_default=""),
    Column("os_version", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False, server_default=""),
    Column("memory", BigInteger),
    Column("cores", BigInteger),
    #: The program of its last connection; NULL: it told none.
    Column("app_id", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    UniqueConstraint("site_id", "user_id", "device"),
)

chat_registrations = Table(
    "chat_registrations",
    metadata,
    Column("id", RowKey, primary_key=True),
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
    #: `waiting`, `accepted` or `refused`.
    Column("state", Text, nullable=False),
    #: The operator or the user that has decided, and when.
    Column("by", Text),
    Column("decided_at", BigInteger),
    Index("chat_registrations_by_state", "site_id", "state", "id"),
    sqlite_autoincrement=True,
)

#: The history of the directory.
chat_changes = Table(
    "chat_changes",
    metadata,
    Column("site_id", Integer, nullable=False),
    #: A number of the clock.
    Column("id", BigInteger, nullable=False),
    #: `user`, `room`, `contact`, `device` or `app`.
    Column("what", Text, nullable=False),
    #: The row that has changed; of a contact the other user.
    Column("of_id", BigInteger, nullable=False),
    #: The user whose contact or device it is; else NULL.
    Column("owner_id", BigInteger),
    #: JSON objects of what has changed; NULL: it is new.
    Column("before", Text),
    Column("after", Text, nullable=False),
    #: `user:<id>`, `operator:<name>` or `server`.
    Column("by", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("chat_changes_of", "site_id", "what", "of_id", "id"),
    Index("chat_changes_of_owner", "site_id", "owner_id", "id"),
    sqlite_with_rowid=False,
)

#: The files. The id is the last part of tus's Location, and `file` of a message.
chat_files = Table(
    "chat_files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Integer, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("device", Text, nullable=False),
    Column("app", Text),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    #: Upload-Metadata as sent: tus wants it back.
    Column("metadata", Text, nullable=False, server_default=""),
    #: The place of its parts: "" is the disk, else the URL of a bucket with a prefix.
    Column("store", Text, nullable=False, server_default=""),
    Column("size", BigInteger, nullable=False),
    #: The bytes that are stored for good.
    Column("received", BigInteger, nullable=False, server_default="0"),
    #: A JSON list of [name, bytes] of the stored parts, in order.
    Column("parts", Text, nullable=False, server_default="[]"),
    Column("created_at", BigInteger, nullable=False),
    #: When an unfinished one goes; NULL once it is finished.
    Column("expires_at", BigInteger),
    Column("finished_at", BigInteger),
    #: When it was sent in a message for the first time.
    Column("sent_at", BigInteger),
    #: Set before its parts are deleted; the row goes last.
    Column("removed_at", BigInteger),
    Column("upload_ms", BigInteger, nullable=False, server_default="0"),
    #: The requests that stored something.
    Column("requests", Integer, nullable=False, server_default="0"),
    flag("is_resumed"),
    Index("chat_files_of_user", "site_id", "user_id", "created_at"),
    Index("chat_files_unfinished", "expires_at", **where(UNFINISHED_FILES)),
)

#: Accepted and not yet handed to the core, in the order of the clock.
chat_outbox = Table(
    "chat_outbox",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("id", BigInteger, nullable=False),
    #: `send`, `join` or `leave`.
    Column("kind", Text, nullable=False),
    #: A JSON list of rooms of the core.
    Column("rooms", Text, nullable=False),
    #: The event and its arguments as JSON.
    Column("body", Text, nullable=False),
    #: The device that does not get it.
    Column("but_user", Text),
    Column("but_device", Text),
    Column("message_id", BigInteger),
    PrimaryKeyConstraint("site_id", "id"),
    sqlite_with_rowid=False,
)

#: The messages behind the seqs of the core, for receipts.
chat_sent = Table(
    "chat_sent",
    metadata,
    Column("site_id", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "seq"),
    sqlite_with_rowid=False,
)
