"""The rows of push0k's database as they are read. Ids are uuids as text, times milliseconds since the epoch."""

from collections.abc import Sequence

from msgspec import Struct

#: `datatype` of a message: formatted text, a link, an error of the server, and a message of its load test.
TEXT, LINK, FAULT, TEST = 0, 2, 3, 6
#: `roomtype` of the room whose members are admins.
ADMINS_ROOM = 7


class PushUser(Struct, frozen=True, kw_only=True):
    """A user. Lives until it is written; its repr shows no hash."""

    id: str
    is_marked: bool
    number: str
    name: str
    stored: str
    must_change: bool
    sign: str
    icon: str
    code: str

    def __repr__(self) -> str:
        return f"PushUser({self.id!r})"


class PushRoom(Struct, frozen=True, kw_only=True):
    """A room with its members. Lives until it is written."""

    id: str
    is_marked: bool
    name: str
    description: str
    kind: int
    icon: str
    object_type: str | None
    object_id: str | None
    members: Sequence[str]
    admins: Sequence[str]


class PushContact(Struct, frozen=True, kw_only=True):
    """A contact that is more than push0k's own entry for everyone. Lives until it is written."""

    owner: str
    other: str
    name: str | None
    is_muted: bool
    is_blocked: bool


class PushApp(Struct, frozen=True, kw_only=True):
    """A program that clients ran. Lives until it is written."""

    id: str
    name: str
    reference: str
    version: str


class PushDevice(Struct, frozen=True, kw_only=True):
    """A device on which a user was. Lives until it is written."""

    user: str
    device: str
    seen_at: int
    name: str
    os: str
    os_version: str


class PushMessage(Struct, frozen=True, kw_only=True):
    """A message. Lives until it is written."""

    id: str
    sender: str
    to_user: str | None
    room: str | None
    parent: str | None
    at: int
    kind: int
    text: str
    extra: str
    size: int
    device: str | None
    app: str | None
    #: The addressee had blocked the sender by then.
    is_withheld: bool

    @property
    def has_file(self) -> bool:
        """Whether it carries an attachment: a forward that of its parent."""
        return self.size > 0


class PushReceipt(Struct, frozen=True, kw_only=True):
    """The fate of a message at a device. Lives until it is written."""

    message: str
    user: str
    device: str
    is_delivered: bool
    is_read: bool
    #: None: no time was kept.
    delivered_at: int | None
    read_at: int | None


class PushCounts(Struct, frozen=True, kw_only=True):
    """The rows that there are to import."""

    users: int
    rooms: int
    contacts: int
    messages: int
    receipts: int
    attachments: int
    tests: int
