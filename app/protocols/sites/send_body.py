"""Reads the body of POST /send, as JSON or as the bracketed forms of PHP and Rails, into rooms, event and arguments.

The code is pure: it takes bytes, and returns a value or raises BadRequest. The arguments of a JSON body stay the bytes
that the backend sent.
"""

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from app.core.address import Room, room_texts
from app.core.message import ExceptHandle
from app.core.options import MessageOptions
from app.errors import BadRequest
from app.json_depth import MAX_LEVELS, is_too_deep
from app.protocols.sites.form import read_form
from app.protocols.sites.send_options import NAMES as OPTION_NAMES
from app.protocols.validation import decode_json, explain

#: Events of the contract itself; and events that socket.io keeps for itself, at which a 4.x client disconnects with a
#: parse error.
RESERVED_EVENTS = frozenset(
    ("_batch", "_closed", "_join", "_leave", "_presence", "_resync", "_settings", "_token_expiring", "_withdraw")
) | frozenset(("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"))

#: The lists and objects of one message. Browsers build each, and here their nesting is looked at.
MAX_CONTAINERS = 50_000


class SendBody(Struct, frozen=True):
    """The message that a backend asks to send."""

    rooms: list[str]
    event: str
    #: `["event",arg,...]`, JSON text in UTF-8.
    packed: bytes
    #: The options beside them, by name, as they were given; a value that is no text, number or truth is None.
    options: dict[str, Any] = {}


class Draft(Struct, frozen=True):
    """A message of a request that was read and not accepted yet."""

    sent: SendBody
    options: MessageOptions
    resync: bool
    #: The device that does not get it.
    but: ExceptHandle | None = None


class _SendBody(Struct):
    rooms: list[Room] | Room | UnsetType | None = UNSET
    event: str | UnsetType | None = UNSET
    args: Raw | UnsetType = UNSET
    # Any value may stand here: the reader of the options judges it.
    ttl: Raw | UnsetType = UNSET
    collapse: Raw | UnsetType = UNSET
    settle: Raw | UnsetType = UNSET
    ack_within: Raw | UnsetType = UNSET
    wait: Raw | UnsetType = UNSET
    timeout: Raw | UnsetType = UNSET
    notify: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET


#: The options are the last fields.
_OPTIONS = _SendBody.__struct_fields__[-len(OPTION_NAMES) :]
_NO_OPTIONS = (UNSET,) * len(_OPTIONS)

_decoder = msgspec.json.Decoder(_SendBody)
_scalars = msgspec.json.Decoder(str | int | float | bool)


def read_send_body(content_type: str, body: bytes) -> SendBody:
    """Reads a body. `content_type` is the header's value; an empty value means JSON.

    Raises BadRequest, whose text says what is wrong and what is expected.
    """
    if is_form(content_type):
        return _checked(_from_form(body))
    media_type = media_type_of(content_type)
    if media_type in ("", "application/json") or media_type.endswith("+json"):
        return _checked(_from_json(body))
    raise BadRequest("Content-Type: expected application/json or application/x-www-form-urlencoded.")


def body_of(rooms: list[str], event: str, arg: bytes) -> SendBody:
    """The body of a message with one argument, JSON in UTF-8, by the same rules. Raises BadRequest."""
    return _checked(_SendBody([*rooms], event, Raw(b"[" + arg + b"]")))


def is_form(content_type: str) -> bool:
    """Whether this header announces a form."""
    return media_type_of(content_type) == "application/x-www-form-urlencoded"


@lru_cache(maxsize=64)
def media_type_of(content_type: str) -> str:
    """The media type of the header's value, in lower case and without parameters."""
    return content_type.split(";", 1)[0].strip().lower()


def _from_json(body: bytes) -> _SendBody:
    try:
        sent: _SendBody = decode_json(_decoder, body)
        return sent
    except UnicodeDecodeError:
        raise BadRequest("Body: expected JSON in UTF-8.") from None
    except RecursionError:
        raise BadRequest("Body: JSON is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise BadRequest(f"Body: {explain(str(error))}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"Body: expected JSON: {error}.") from None


def _from_form(body: bytes) -> _SendBody:
    fields = read_form(body)
    if not fields.keys() & {"rooms", "event", "args"} and body.lstrip().startswith(b"{"):
        raise BadRequest("Body: it looks like JSON: send it with Content-Type: application/json.")
    try:
        rooms = msgspec.convert(fields["rooms"], list[Room] | Room) if "rooms" in fields else UNSET
        event = msgspec.convert(fields["event"], str) if "event" in fields else UNSET
    except msgspec.ValidationError:
        raise BadRequest("Body: expected rooms to be a text or a list of texts, and event a text.") from None
    args = Raw(msgspec.json.encode(fields["args"])) if "args" in fields else UNSET
    options = {name: Raw(msgspec.json.encode(fields[name])) for name in OPTION_NAMES & fields.keys()}
    return _SendBody(rooms, event, args, **options)


def _checked(body: _SendBody) -> SendBody:
    rooms, event = body.rooms, body.event
    if rooms is UNSET or rooms is None:
        raise BadRequest("rooms: expected a room or a list of rooms.")
    if event is UNSET or event is None or event == "":
        raise BadRequest("event: expected the name of an event.")
    if event in RESERVED_EVENTS:
        raise BadRequest(f"event: {event} is reserved.")
    if body.args is not UNSET:
        _check_args(bytes(body.args))
    rooms = rooms if isinstance(rooms, list) else [rooms]
    return SendBody(room_texts(rooms), event, _pack(event, body.args), _options_of(body))


def _options_of(body: _SendBody) -> dict[str, Any]:
    raws = structs.astuple(body)[-len(_OPTIONS) :]
    if raws == _NO_OPTIONS:
        return {}
    given = [(name, bytes(raw)) for name, raw in zip(_OPTIONS, raws, strict=True) if raw is not UNSET]
    return {name: _scalar(raw) for name, raw in given if raw != b"null"}


def _scalar(raw: bytes) -> Any:
    try:
        return _scalars.decode(raw)
    except msgspec.DecodeError:
        return None


def _check_args(args: bytes) -> None:
    """Brackets in texts count too, which only a text of tens of thousands of brackets notices."""
    if args.count(b"[") + args.count(b"{") > MAX_CONTAINERS:
        raise BadRequest(f"args: expected at most {MAX_CONTAINERS} lists and objects.")
    if is_too_deep(args):
        raise BadRequest(f"args: nested too deeply, expected at most {MAX_LEVELS} levels.")


def _pack(event: str, args: Raw | UnsetType) -> bytes:
    name = msgspec.json.encode(event)
    raw = b"null" if args is UNSET else bytes(args).strip()
    if raw.startswith(b"["):
        raw = raw[1:-1].strip()
    return b"[" + name + b"," + raw + b"]" if raw else b"[" + name + b"]"
