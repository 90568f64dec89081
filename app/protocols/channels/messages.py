"""The messages of the contract, in and out: JSON of WS-PushServer with every key. Pure: bytes in, values out."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from app.protocols.validation import explain
from app.surrogates import replace_half_pairs
from app.transport.frames import text_frame_head

BAD_JSON = "Bad JSON"
INVALID_MESSAGE = "Invalid message"
#: The `message` of a CLIENT_ACK, by its cause.
CONNECTED = "Connected"
SUBSCRIBED = "Subscribed"
UNSUBSCRIBED = "Unsubscribed"
#: Of a resumable subscriber, which WS-PushServer does not have.
MISSED = "Missed"
#: The maximum length of a channel's name: the name is in every push, and it is a key in Redis.
MAX_NAME_BYTES = 1_000
#: The recipients of a push, which travel to every node and stand in the history.
MAX_RECIPIENTS = 10_000
#: A smaller body cannot hold very many recipients.
LONG_BYTES = 65_536


_UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\\Z"
_Uuid = Annotated[str, Meta(pattern=_UUID_PATTERN)]


class Malformed(Exception):
    """A message is no JSON (`BAD_JSON`), or has an unexpected shape (`INVALID_MESSAGE`); `details` names the place."""

    def __init__(self, text: str, details: str) -> None:
        super().__init__(text)
        self.details = details


class ChannelData(Struct):
    """The `data` of a message that names a channel and nothing else."""

    channel: str


class ClientAction(Struct, rename="camel"):
    """A message from a subscriber. Its uuid, if present, must be the subscriber's own."""

    message_type: Literal["CLIENT_ACTION"]
    action: Literal["SUBSCRIBE", "UNSUBSCRIBE"]
    data: ChannelData
    uuid: str | None = None


class CreateData(Struct, rename="camel"):
    """The `data` of a creation. WS-PushServer takes a token here and does not look at it."""

    channel: str
    channel_token: str | None = None


class CreateAction(Struct, rename="camel"):
    """The body of POST /channel/create."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["CREATE_CHANNEL"]
    data: CreateData


class TokenData(Struct, rename="camel"):
    """The `data` of a ping or a deletion. The token has to be there, and may be null: that is no channel's token."""

    channel: str
    channel_token: str | None


class PingAction(Struct, rename="camel"):
    """The body of POST /channel/ping."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["PING_CHANNEL"]
    data: TokenData


class DeleteAction(Struct, rename="camel"):
    """The body of POST /channel/delete."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["DELETE_CHANNEL"]
    data: TokenData


class PushData(Struct, rename="camel"):
    """The `data` of a push; without recipients it is for all subscribers."""

    channel: str
    channel_token: str
    recipients: list[_Uuid]
    message: str


class PushAction(Struct, rename="camel"):
    """The body of POST /push."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["PUSH_MESSAGE"]
    data: PushData


class LongPushData(Struct, rename="camel"):
    """The `data` of a long push, whose recipients are not read before its token is known to be right."""

    channel: str
    channel_token: str
    recipients: msgspec.Raw
    message: str


class LongPushAction(Struct, rename="camel"):
    """The body of POST /push, when it is long."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["PUSH_MESSAGE"]
    data: LongPushData


_Action = TypeVar("_Action", ClientAction, CreateAction, PingAction, DeleteAction, PushAction, LongPushAction)


def decode(payload: bytes, kind: type[_Action]) -> _Action:
    """Decodes a message. Raises Malformed."""
    try:
        if not payload.isascii():
            payload.decode()
        action = msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(payload, error) from None
    _check_name(action.data.channel)
    if isinstance(action.data, PushData):
        _check_recipients(action.data.recipients)
    return action


def read_recipients(recipients: bytes) -> list[str]:
    """The recipients of a long push. Raises Malformed, before any is built when there are too many."""
    if recipients.count(b'"') > 2 * MAX_RECIPIENTS:
        raise _too_many_recipients()
    try:
        read = msgspec.json.decode(recipients, type=list[_Uuid])
    except (msgspec.DecodeError, RecursionError) as error:
        malformed = _malformed(recipients, error)
        raise Malformed(str(malformed), f"data.recipients: {malformed.details}") from None
    _check_recipients(read)
    return read


def _malformed(payload: bytes, error: Exception) -> Malformed:
    """Finds the kind of the mistake. msgspec stops at the first mistake: a wrong shape may precede a syntax error, and
    such a text is no JSON."""
    is_too_deep, reason = isinstance(error, RecursionError), str(error)
    if isinstance(error, msgspec.ValidationError):
        try:
            _check_syntax(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as syntax:
            # Kept as text: an error in a local variable keeps this frame, and by it its subscriber, in a cycle.
            is_too_deep, reason = isinstance(syntax, RecursionError), str(syntax)
        else:
            reason = reason.replace(f"`str` matching regex {_UUID_PATTERN!r}", "a uuid")
            return Malformed(INVALID_MESSAGE, explain(reason))
    if is_too_deep:
        return Malformed(BAD_JSON, "JSON is nested too deeply.")
    if _has_half_pair(payload):
        return Malformed(BAD_JSON, "Expected characters: half of a surrogate pair (as \\ud800) is none.")
    return Malformed(BAD_JSON, f"Expected JSON in UTF-8: {reason}.")


def _check_syntax(payload: bytes) -> None:
    # As Raw nothing is built of it: a stranger's text of 1 MB would become half a million objects.
    msgspec.json.decode(payload, type=msgspec.Raw)


def _has_half_pair(payload: bytes) -> bool:
    """Whether half of a surrogate pair is the only mistake: msgspec reports it as an end of the text."""
    mended = replace_half_pairs(payload)
    if mended is payload:
        return False
    try:
        _check_syntax(mended)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _check_recipients(recipients: list[str]) -> None:
    if len(recipients) > MAX_RECIPIENTS:
        raise _too_many_recipients()


def _too_many_recipients() -> Malformed:
    return Malformed(INVALID_MESSAGE, f"data.recipients: expected at most {MAX_RECIPIENTS}.")


def _check_name(channel: str) -> None:
    if not 0 < len(channel.encode()) <= MAX_NAME_BYTES:
        raise Malformed(INVALID_MESSAGE, f"data.channel: expected a name of 1 to {MAX_NAME_BYTES} bytes.")


def error(code: int, message: str, details: str | None = None) -> bytes:
    """An error message, for publishers and subscribers."""
    return _outgoing("ERROR", code, message, {"errorDetails": details})


def unknown_channel(channel: str) -> str:
    """The details of an error 404, in the words of WS-PushServer."""
    return f'Could not find a WebSocketChannel called "{channel}"'


def server_ack(message: str, channel: str, token: str | None = None) -> bytes:
    """The answer to a publisher; only the answer to a creation has the token."""
    return _outgoing("SERVER_ACK", 200, message, {"channel": channel, "channelToken": token})


def client_ack(
    uuid: str, channels: Iterable[str], extra: dict[str, Any] | None = None, message: str = CONNECTED
) -> bytes:
    """The message to a subscriber after connecting and after each change; `extra` goes beyond the original."""
    return _outgoing("CLIENT_ACK", 200, message, {"uuid": uuid, "subscribedChannels": list(channels), **(extra or {})})


def sysadmin(channels: list[str], channels_amount: int, clients_amount: int) -> bytes:
    """The answer of /sysadmin: the names of channels, the number of all channels, and of all subscribers."""
    data = {"channels": channels, "channelsAmount": channels_amount, "clientsAmount": clients_amount}
    return _outgoing("SERVER_SYSADMIN", 200, "OK", data)


def push_prefix(uuid: str, channels: Iterable[str]) -> bytes:
    """The part of a push that depends on the subscriber, up to the part that all subscribers share."""
    whole = _outgoing("CLIENT_PUSH", 200, "Push Message", {"uuid": uuid, "subscribedChannels": list(channels)})
    return whole.removesuffix(b"}}") + b',"pushMessage":'


class Push:
    """One push to one channel, as frames. Lives while it is delivered, and longer while it is held or replayed.

    A frame is a head, the subscriber's prefix, and a part that all subscribers share. The head is computed again only
    when the next prefix has another length, so a push costs no JSON and mostly no arithmetic per subscriber.
    """

    __slots__ = ("_head", "_prefix_bytes", "_shared", "channel", "seq")

    def __init__(self, seq: int, channel: str, message: str) -> None:
        self.seq = seq
        self.channel = channel
        self._shared = msgspec.json.encode({"channel": channel, "message": message}) + b"}}"
        self._prefix_bytes = -1
        self._head = b""

    @property
    def size(self) -> int:
        """How many bytes all its frames share."""
        return len(self._shared)

    def frame(self, prefix: bytes) -> bytes:
        """The frame for a subscriber with this prefix. The hot path: runs once per delivery."""
        size = len(prefix)
        if size != self._prefix_bytes:
            self._prefix_bytes = size
            self._head = text_frame_head(size + len(self._shared))
        return self._head + prefix + self._shared


def pack(channel: str, message: str) -> bytes:
    """Packs a push as a message of the core, `["event",arg]`: devices in the room bound to the channel get this."""
    return msgspec.json.encode([channel, message])


def pushed_text(body: bytes) -> str:
    """The text that a subscriber gets of a message `["event",arg,...]`: the only argument if it is text, else the JSON
    text of the list of arguments. A push into a channel has one argument, its message."""
    arguments = [bytes(argument).strip() for argument in msgspec.json.decode(body, type=list[msgspec.Raw])[1:]]
    if len(arguments) == 1 and arguments[0].startswith(b'"'):
        return msgspec.json.decode(arguments[0], type=str)
    return (b"[" + b",".join(arguments) + b"]").decode()


def _outgoing(message_type: str, code: int, message: str, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"messageType": message_type, "code": code, "message": message, "data": data})
