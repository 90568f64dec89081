"""Each method of a client as a value: what it asks, and how the answer is read. Nothing here does I/O."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from recado_client.errors import BadAnswer, BadInput, Refused
from recado_client.messages import BatchAnswer, BatchMessage, Receipt, Rooms, SendOptions, Sent
from recado_client.settings import is_header_text

T = TypeVar("T")

#: Longer answers are not read: the longest page of a receipt has some 300 KB.
MAX_ANSWER_BYTES = 4 << 20
_LONGEST_KEY = 128
_WAIT_SECONDS = 5
_MESSAGE_ID = re.compile(r"\d{1,19}", re.ASCII)
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


class Unset:
    """The type of `UNSET`: arguments that were not given are one null for the client, and `None` is one too."""


UNSET = Unset()


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request of a site and the reading of its answer. Every attempt sends the same."""

    method: str
    path: str
    read_result: Callable[[Any, Answer], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: The seconds that the server was asked to wait before it answers.
    wait_seconds: float = 0.0
    #: The result when a repeat is told that there is no such thing: an attempt before it may have done the work.
    when_gone: T | None = None

    def read(self, answer: Answer, is_repeat: bool = False) -> T:
        """The result; `Refused` for an error, `BadAnswer` for what no Recado server answers."""
        if answer.status == 404 and is_repeat and self.when_gone is not None:
            return self.when_gone
        if answer.status != 200:
            raise _refused(answer)
        try:
            return self.read_result(json.loads(answer.body), answer)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise BadAnswer(f"{self.method} {self.path}: the answer is not that of a Recado server") from None


def send(rooms: Rooms, event: str, args: object, options: SendOptions) -> Call[Sent]:
    """POST /send."""
    message = {"rooms": _rooms(rooms), "event": event} | ({} if args is UNSET else {"args": args})
    query: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    key = query.pop("idempotency_key", None)
    wait = float(query.get("timeout", _WAIT_SECONDS)) if "wait" in query else 0.0
    words = {name: _word(value) for name, value in query.items()}
    return Call("POST", "/send", _read_sent, words, _posted(key), _json(message), wait)


def send_batch(messages: Sequence[BatchMessage], key: str | None) -> Call[list[BatchAnswer]]:
    """POST /send/batch."""
    count = len(messages)

    def read(value: Any, answer: Answer) -> list[BatchAnswer]:
        if len(value) != count or not all(isinstance(one["ok"], bool) for one in value):
            raise ValueError
        return cast("list[BatchAnswer]", value)

    whole = [{**message, "rooms": _rooms(message["rooms"])} for message in messages]
    return Call("POST", "/send/batch", read, {}, _posted(key), _json(whole))


def message(message_id: str, limit: int | None, cursor: str | None, bodies: bool) -> Call[Receipt]:
    """GET /messages/<id>."""
    query = {"limit": limit, "cursor": cursor, "bodies": bodies or None}
    words = {name: _word(value) for name, value in query.items() if value is not None}
    return Call("GET", _path_of(message_id), _read_receipt, words)


def withdraw(message_id: str) -> Call[int]:
    """DELETE /messages/<id>."""
    return Call("DELETE", _path_of(message_id), _number("devices"), when_gone=0)


def disconnect(**fields: str | bool | None) -> Call[int]:
    """POST /disconnect."""
    given = {name: value for name, value in fields.items() if value not in (None, False)}
    if not given.keys() & {"user", "device", "room"}:
        raise BadInput("disconnect: expected user, device or room")
    return Call("POST", "/disconnect", _number("disconnected"), {}, _JSON, _json(given))


def move_rooms(user: str, join: Sequence[str | int], leave: Sequence[str | int]) -> Call[int]:
    """POST /rooms."""
    given = {"user": user, "join": [str(room) for room in join], "leave": [str(room) for room in leave]}
    body = {name: value for name, value in given.items() if value}
    return Call("POST", "/rooms", _number("devices"), {}, _JSON, _json(body))


_JSON = {"content-type": "application/json"}


def _posted(key: str | None) -> dict[str, str]:
    """The headers of a message. Every attempt has the same key, so that the message is stored once."""
    key = uuid.uuid4().hex if key is None else key
    if not is_header_text(key) or len(key) > _LONGEST_KEY:
        raise BadInput(f"idempotency_key: expected 1 to {_LONGEST_KEY} printable characters of ASCII")
    return {**_JSON, "idempotency-key": key}


def _rooms(rooms: Rooms) -> Any:
    return list(rooms) if isinstance(rooms, Sequence) and not isinstance(rooms, str) else rooms


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"the message is not JSON: {error}") from None
    # Half a surrogate pair has no UTF-8; its escape is what the server takes.
    return text.encode() if _is_whole(text) else json.dumps(value, separators=(",", ":")).encode()


def _is_whole(text: str) -> bool:
    return not re.search(r"[\ud800-\udfff]", text)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path_of(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(str(message_id)):
        raise BadInput("id: expected the id of a message, which is a number")
    return f"/messages/{quote(str(message_id))}"


def _read_sent(value: Any, answer: Answer) -> Sent:
    replayed = answer.headers.get("idempotent-replayed") == "true"
    optional = [None if value.get(name) is None else _whole(value[name]) for name in ("acked", "waiting")]
    return Sent(_text(value["id"]), _whole(value.get("recipients", 0)), replayed, *optional)


def _read_receipt(value: Any, answer: Answer) -> Receipt:
    _text(value["id"])
    if not isinstance(value["devices"], list) or not isinstance(value["summary"], dict):
        raise ValueError
    return cast(Receipt, value)


def _number(name: str) -> Callable[[Any, Answer], int]:
    return lambda value, answer: _whole(value[name])


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _refused(answer: Answer) -> Refused:
    error, code = _words_of(answer.body)
    return Refused(answer.status, error, code, seconds_of(answer.headers.get("retry-after", "")))


def _words_of(body: bytes) -> tuple[str, str | None]:
    try:
        value = json.loads(body)
        code = value.get("code")
        return str(value["error"]), code if isinstance(code, str) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return body[:1000].decode("utf-8", "replace"), None


def seconds_of(retry_after: str) -> float:
    """The seconds of a Retry-After; 0 when it is no number."""
    return float(retry_after) if _SECONDS.fullmatch(retry_after) else 0.0
