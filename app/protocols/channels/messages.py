"""The texts of the contract, in and out: JSON of WS-PushServer, every key written out. Pure: bytes in, values out."""

import json
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from app.transport.frames import text_frame_head

BAD_JSON = "Bad JSON"
INVALID_MESSAGE = "Invalid message"
#: A channel's name has at most so many bytes: it is in every push, and a key in Redis.
MAX_NAME_BYTES = 1_000


class Malformed(Exception):
    """What was sent is not JSON (`BAD_JSON`), or not what is expected (`INVALID_MESSAGE`); `details` says where."""

    def __init__(self, text: str, details: str) -> None:
        super().__init__(text)
        self.details = details


class ChannelData(Struct):
    """`data` of what names a channel and no more."""

    channel: str


class ClientAction(Struct, rename="camel"):
    """What a subscriber sends. The uuid, if it says one, must be its own."""

    message_type: Literal["CLIENT_ACTION"]
    action: Literal["SUBSCRIBE", "UNSUBSCRIBE"]
    data: ChannelData
    uuid: str | None = None


class CreateAction(Struct, rename="camel"):
    """POST /channel/create."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["CREATE_CHANNEL"]
    data: ChannelData


class PingData(Struct, rename="camel"):
    """`data` of a ping."""

    channel: str
    channel_token: str | None = None


class PingAction(Struct, rename="camel"):
    """POST /channel/ping."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["PING_CHANNEL"]
    data: PingData


class DeleteData(Struct, rename="camel"):
    """`data` of a deletion."""

    channel: str
    channel_token: str


class DeleteAction(Struct, rename="camel"):
    """POST /channel/delete."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["DELETE_CHANNEL"]
    data: DeleteData


class PushData(Struct, rename="camel"):
    """`data` of a push; no recipients means all subscribers."""

    channel: str
    channel_token: str
    recipients: list[str]
    message: str


class PushAction(Struct, rename="camel"):
    """POST /push."""

    message_type: Literal["SERVER_ACTION"]
    action: Literal["PUSH_MESSAGE"]
    data: PushData


Action = ClientAction | CreateAction | PingAction | DeleteAction | PushAction
_Action = TypeVar("_Action", ClientAction, CreateAction, PingAction, DeleteAction, PushAction)


def decode(payload: bytes, kind: type[_Action]) -> _Action:
    """Reads what was sent. Raises Malformed."""
    try:
        if not payload.isascii():
            payload.decode()
        action = msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(payload, error) from None
    _check_name(action.data.channel)
    return action


def _malformed(payload: bytes, error: Exception) -> Malformed:
    """msgspec stops at the first thing that is wrong: what is no JSON behind it is no JSON."""
    if isinstance(error, msgspec.ValidationError):
        try:
            msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as syntax:
            error = syntax
        else:
            return Malformed(INVALID_MESSAGE, _plain(str(error)))
    if isinstance(error, RecursionError):
        return Malformed(BAD_JSON, "JSON is nested too deeply.")
    if _has_half_pair(payload):
        return Malformed(BAD_JSON, "Expected characters: half of a surrogate pair (as \\ud800) is none.")
    return Malformed(BAD_JSON, f"Expected JSON in UTF-8: {error}.")


def _has_half_pair(payload: bytes) -> bool:
    """Whether that alone is wrong: msgspec takes it for an end of the text, the standard library's JSON allows it."""
    try:
        json.dumps(json.loads(payload), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def _plain(reason: str) -> str:
    """msgspec's words with the key in front: "Expected `str`, got `int` - at `$.data.channel`"."""
    expected, _, path = reason.partition(" - at ")
    key = path.strip("`").removeprefix("$").lstrip(".")
    return f"{key}: {expected}." if key else f"{expected}."


def _check_name(channel: str) -> None:
    if not 0 < len(channel.encode()) <= MAX_NAME_BYTES:
        raise Malformed(INVALID_MESSAGE, f"data.channel: expected a name of 1 to {MAX_NAME_BYTES} bytes.")


def error(code: int, message: str, details: str | None = None) -> bytes:
    """An error, for either side."""
    return _outgoing("ERROR", code, message, {"errorDetails": details})


def server_ack(message: str, channel: str, token: str | None = None) -> bytes:
    """The answer to a publisher; the token is told once, to whoever creates the channel."""
    return _outgoing("SERVER_ACK", 200, message, {"channel": channel, "channelToken": token})


def client_ack(uuid: str, channels: Iterable[str], extra: dict[str, Any] | None = None) -> bytes:
    """What a subscriber is told when it connects and after each change; `extra` is beyond the original."""
    return _outgoing(
        "CLIENT_ACK", 200, "Connected", {"uuid": uuid, "subscribedChannels": list(channels), **(extra or {})}
    )


def push_prefix(uuid: str, channels: Iterable[str]) -> bytes:
    """The part of a push that is a subscriber's own, up to the part that is the same for all."""
    whole = _outgoing("CLIENT_PUSH", 200, "Push Message", {"uuid": uuid, "subscribedChannels": list(channels)})
    return whole.removesuffix(b"}}") + b',"pushMessage":'


class Push:
    """One push to one channel, as frames. Lives while it is handed out, longer while a subscriber is replayed to.

    A frame is its head, the subscriber's prefix and what all share. The head is made anew only when the next prefix
    has another length, so a push costs no JSON and mostly no arithmetic a subscriber.
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
        """The frame for a subscriber with this prefix. The hot path: once a delivery."""
        size = len(prefix)
        if size != self._prefix_bytes:
            self._prefix_bytes = size
            self._head = text_frame_head(size + len(self._shared))
        return self._head + prefix + self._shared


def pack(channel: str, message: str) -> bytes:
    """A push as a message of the core, `["event",arg]`: what devices get in the room that the channel is bound to."""
    return msgspec.json.encode([channel, message])


def pushed_text(body: bytes) -> str:
    """What a subscriber is pushed of a message `["event",arg,...]`: its only argument if that is text, else the JSON
    text of the list of them. A push into a channel has one, its message."""
    arguments = [bytes(argument).strip() for argument in msgspec.json.decode(body, type=list[msgspec.Raw])[1:]]
    if len(arguments) == 1 and arguments[0].startswith(b'"'):
        return msgspec.json.decode(arguments[0], type=str)
    return (b"[" + b",".join(arguments) + b"]").decode()


def _outgoing(message_type: str, code: int, message: str, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"messageType": message_type, "code": code, "message": message, "data": data})
