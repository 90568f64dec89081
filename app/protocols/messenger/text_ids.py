"""The ids of users and rooms in events, where they are text: their places in each event, and the exchange of numbers
for texts and back. Plain code: the texts and numbers are given.

Messages have numbers everywhere. The application's own `data` stays as it is.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from app.core.address import MAX_ROOM_BYTES
from app.protocols.messenger.answers import ChatRefusal

#: No user and no room has this id: it stands for a text that none has.
NO_ID = 2**53


class IdOf(Enum):
    """The thing that an id names."""

    USER = "user"
    ROOM = "room"


#: The places of ids in a value: the id itself, a list of such values, or an object with some of its fields.
IdShape: TypeAlias = "IdOf | list[IdShape] | dict[str, IdShape]"

_TARGET: IdShape = {"user": IdOf.USER, "room": IdOf.ROOM}
_MESSAGE: IdShape = {"from": IdOf.USER, "to": _TARGET}
_USERS: IdShape = [{"id": IdOf.USER}]
_ROOM: dict[str, IdShape] = {"id": IdOf.ROOM, "members": [IdOf.USER], "admins": [IdOf.USER]}
_ABOUT_USER: IdShape = {"user": IdOf.USER}
_DIRECTORY: dict[str, IdShape] = {"users": _USERS, "rooms": [_ROOM], "contacts": [_ABOUT_USER]}

#: The events from clients.
ASKED: Mapping[str, IdShape] = {
    "message": _MESSAGE,
    "history": {"with": _TARGET},
    "search": {"with": _TARGET},
    "typing": {"to": _TARGET},
    "contact": _ABOUT_USER,
    "room_create": {"members": [IdOf.USER], "admins": [IdOf.USER]},
    "room_change": _ROOM,
    "room_leave": {"id": IdOf.ROOM},
    "room_archive": {"id": IdOf.ROOM},
}
#: The answer to `sync`, whose size is bounded with its texts.
SYNCHRONISED: IdShape = {
    **_DIRECTORY,
    "online": [IdOf.USER],
    "messages": [_MESSAGE],
    "receipts": [_ABOUT_USER],
}
#: The answers to the other events.
ANSWERED: Mapping[str, IdShape] = {
    "history": {"messages": [_MESSAGE]},
    "search": {"messages": [_MESSAGE]},
    "room_create": {"id": IdOf.ROOM},
}
#: The events to clients.
TOLD: Mapping[str, IdShape] = {
    "message": _MESSAGE,
    "message_changed": _MESSAGE,
    "load_message": _MESSAGE,
    "receipt": _ABOUT_USER,
    "load_receipt": _ABOUT_USER,
    "typing": {"user": IdOf.USER, "to": _TARGET},
    "presence": _ABOUT_USER,
    "directory": _DIRECTORY,
}


class IdTexts(Struct, frozen=True):
    """The texts of some users and rooms, by their numbers."""

    users: Mapping[int, str]
    rooms: Mapping[int, str]

    def of(self, kind: IdOf, number: Any) -> Any:
        """The text of an id; of none it is none."""
        return None if number is None else (self.users if kind is IdOf.USER else self.rooms)[number]


class IdNumbers(Struct, frozen=True):
    """The numbers of some users and rooms, by their texts."""

    users: Mapping[str, int]
    rooms: Mapping[str, int]

    def of(self, kind: IdOf, text: Any) -> Any:
        """The number of an id, `NO_ID` where nothing has it; of none it is none."""
        return None if text is None else (self.users if kind is IdOf.USER else self.rooms).get(text, NO_ID)


class FoundIds:
    """The ids in a value. Lives until the others are read."""

    def __init__(self) -> None:
        self.of: dict[IdOf, set[Any]] = {kind: set() for kind in IdOf}

    def add(self, kind: IdOf, id: Any) -> Any:
        """Notes an id, and leaves it as it is."""
        if id is not None:
            self.of[kind].add(id)
        return id

    def add_text(self, kind: IdOf, id: Any) -> Any:
        """Notes an id as a client has sent it. Raises ChatRefusal for one that is no text."""
        if id is not None and not (isinstance(id, str) and is_fit(id)):
            raise ChatRefusal("bad_request", f"Expected ids of {kind.value}s as text, at most {MAX_ROOM_BYTES} bytes.")
        return self.add(kind, id)


def each_id(shape: "IdShape | None", value: Any, exchange: Callable[[IdOf, Any], Any]) -> Any:
    """The value with other ids. A part that has another form than its shape stays as it is."""
    if isinstance(shape, IdOf):
        return exchange(shape, value)
    if isinstance(shape, list) and isinstance(value, list):
        return [each_id(shape[0], one, exchange) for one in value]
    if isinstance(shape, dict) and isinstance(value, dict):
        return {name: each_id(shape[name], one, exchange) if name in shape else one for name, one in value.items()}
    return value


def taken_apart(body: str) -> tuple[str, dict[str, Any]]:
    """An event as the core sends it, whose fields without ids stay as JSON."""
    event, fields = _decoder.decode(body)
    shape = TOLD.get(event)
    places = shape if isinstance(shape, dict) else {}
    return event, {name: msgspec.json.decode(raw) if name in places else raw for name, raw in fields.items()}


def put_together(event: str, fields: Mapping[str, Any]) -> str:
    """The same as JSON."""
    return msgspec.json.encode([event, fields]).decode()


def is_fit(text: str) -> bool:
    """Whether every database holds the text as an id: it is neither empty nor too long, and has no control characters
    and whole characters alone."""
    try:
        return 0 < len(text.encode()) <= MAX_ROOM_BYTES and min(text) >= " "
    except UnicodeEncodeError:
        return False


_decoder = msgspec.json.Decoder(tuple[str, dict[str, Raw]])
