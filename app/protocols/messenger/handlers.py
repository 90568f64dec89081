"""The table of events from clients: what each reads, who may send it, and what handles it. Knows no event.

Every event is answered: `{ok: true, ...}`, or `{ok: false, error: {code, message}}`.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any

import msgspec
from msgspec import Struct

from app.json_depth import MAX_LEVELS, is_too_deep
from app.protocols.messenger.answers import ChatEvent, ChatRefusal
from app.protocols.messenger.bounds import MAX_EVENT_BYTES
from app.protocols.messenger.caller import ChatCaller


class Standing(IntEnum):
    """The standing of a client: each includes those before it."""

    #: Nobody knows who it is.
    STRANGER = 0
    #: A user who is to set another password first.
    CHANGING = 1
    USER = 2
    ADMIN = 3


class Handler(Struct, frozen=True):
    """One event. Lives as long as the node."""

    #: A subclass of `ChatEvent`: its types and bounds are what a client may send.
    reads: type[ChatEvent]
    #: Called with the ChatCaller and the data. Answers the fields beside `ok`. Raises ChatRefusal, StoreError,
    #: LimitReached.
    handle: Callable[[Any, Any], Awaitable[Mapping[str, Any] | None]]
    least: Standing = Standing.USER
    #: Whether those of a connection that follow each other are under way together: the handler takes their order before
    #: its first wait.
    is_grouped: bool = False


class EntranceHandler(Handler, frozen=True):
    """An event that is about the connection itself: its `handle` is called with the chatter. Lives as long as the
    node."""


def standing_of(caller: ChatCaller) -> Standing:
    """The standing of the client of a connection."""
    if caller.user is None:
        return Standing.STRANGER
    if caller.user.must_change:
        return Standing.CHANGING
    return Standing.ADMIN if caller.user.is_admin else Standing.USER


_TOO_LOW = {
    Standing.STRANGER: ("not_logged_in", "Log in first."),
    Standing.CHANGING: ("must_change_password", "Set another password first."),
    Standing.USER: ("not_admin", "This is for admins."),
}


def check_standing(caller: ChatCaller, handler: Handler) -> None:
    """Raises ChatRefusal for a client that may not send the event, or not yet."""
    standing = standing_of(caller)
    if standing < handler.least:
        raise ChatRefusal(*_TOO_LOW[standing])


def read_event(handler: Handler, args: list[Any]) -> ChatEvent:
    """The data of an event. Raises ChatRefusal, and nothing else, whatever the client has sent."""
    return event_of(handler, read_object(args))


def read_object(args: list[Any]) -> Any:
    """The only argument of an event, within the bounds of all. Raises ChatRefusal, and nothing else."""
    if len(args) > 1:
        raise ChatRefusal("bad_request", f"Expected one object, got {len(args)} arguments.")
    data = args[0] if args and args[0] is not None else {}
    _check_text(data)
    return data


def event_of(handler: Handler, data: Any) -> ChatEvent:
    """The same with the types of its event. Raises ChatRefusal, and nothing else."""
    try:
        return msgspec.convert(data, handler.reads)
    except msgspec.ValidationError as error:
        raise _refusal_of(str(error)) from None


def _check_text(data: Any) -> None:
    """Refuses what no database keeps: half characters, NUL, and data that is too deep or too long."""
    try:
        packed = msgspec.json.encode(data)
    except (UnicodeEncodeError, RecursionError, ValueError, TypeError, OverflowError):
        raise ChatRefusal("bad_request", "Expected an object of JSON, with whole characters.") from None
    if len(packed) > MAX_EVENT_BYTES:
        raise ChatRefusal("too_long", f"Expected at most {MAX_EVENT_BYTES} bytes as JSON, got {len(packed)}.")
    if is_too_deep(packed):
        raise ChatRefusal("bad_request", f"Expected at most {MAX_LEVELS} levels of JSON.")
    if "\\u0000" in packed.decode().replace("\\\\", ""):
        raise ChatRefusal("bad_request", "Expected text without the character NUL.")


def _refusal_of(message: str) -> ChatRefusal:
    text = message.replace("`", '"')
    if "unknown field" in message:
        return ChatRefusal("unknown_field", f"{text}.")
    if "of length <=" in message:
        return ChatRefusal("too_long", f"{text}.")
    return ChatRefusal("bad_request", f"{text}.")
