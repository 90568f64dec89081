"""Socket.IO packets inside Engine.IO messages: readers of the clients' packets, writers of the server's.

Reads as the reference server (Socket.IO 4 on Node) does: a packet is malformed only if that server closes on it. The
arguments are read last: a packet of a namespace that is not joined costs no JSON. Knows no connections.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from socketio import packet as socketio_packet

from app.errors import RecadoError
from app.socketio.engine_packet import EncodedPacket, MalformedPacket
from app.socketio.engine_request import parse_query

ROOT = "/"
_Packet: Any = socketio_packet.Packet
_MAX_ATTACHMENTS = 1_000
MAX_ACK_DIGITS = 15
"""JavaScript counts no further than 2**53 without loss. No packet of this server has a longer id."""

WITH_ATTACHMENTS = (socketio_packet.BINARY_EVENT, socketio_packet.BINARY_ACK)
EVENTS = (socketio_packet.EVENT, socketio_packet.BINARY_EVENT)

_TYPES = {b"1": socketio_packet.DISCONNECT, b"2": socketio_packet.EVENT, b"3": socketio_packet.ACK}
_TYPES |= {b"5": socketio_packet.BINARY_EVENT, b"6": socketio_packet.BINARY_ACK}
_ATTACHMENTS = re.compile(rb"(\d{1,9})-")
_texts = msgspec.json.Decoder(dict[str, str])
_ID = re.compile(rb"[0-9\t\n\v\f\r ]*")


MAX_JSON_BYTES = 1 << 16
"""The longest JSON of a client that is read. The reference server reads any; no application here has use for more."""


class Unread(RecadoError):
    """The JSON of a client is too long, or nested too deeply for Python: it is passed over."""


@dataclass(slots=True, repr=False)
class ConnectPacket:
    """A client's request to join a namespace; released after the answer. Without a repr: it carries the token."""

    namespace: str
    query: dict[str, str]
    auth: dict[str, Any] | None
    has_comma: bool
    """Clients from 2.x on end the namespace with a comma, 1.x clients do not."""
    is_unread: bool = False
    """Whether the JSON was too long, or nested too deeply, to be read."""


@dataclass(slots=True, repr=False)
class ClientPacket:
    """Any other packet of a client, its JSON still unread; lives until its last attachment is here."""

    packet_type: int
    namespace: str
    id: int | None
    """The ack id; None also for an id longer than any of this server's."""
    payload: bytes
    attachments_due: int
    attachments: list[bytes] = field(default_factory=list)

    @property
    def is_event(self) -> bool:
        """Whether it is an event, else an ack or a DISCONNECT."""
        return self.packet_type in EVENTS


def read_connect(packet: bytes) -> ConnectPacket:
    """Read ``40``, ``40/ns,{...}`` or the old clients' ``40/ns?a=b``; raises MalformedPacket."""
    text = packet[2:].decode()
    namespace, query, has_comma = ROOT, "", False
    if text.startswith("/"):
        name, comma, rest = text.partition(",")
        if "?" in name:
            # Packets with a query never have a payload, and the old clients do not escape commas in it.
            comma, rest = ("," if text.endswith(",") else ""), ""
            name, _, query = text.removesuffix(",").partition("?")
        namespace, has_comma, text = name, bool(comma), rest
    elif text.startswith("?"):
        text, query = "", text[1:]
    text = text.lstrip("0123456789 \t\r\n")  # an id, which the reference server passes over
    try:
        auth = _load_auth(text) if text else None
    except Unread:
        return ConnectPacket(namespace, {}, None, has_comma, is_unread=True)
    if text and not isinstance(auth, dict):
        raise MalformedPacket
    return ConnectPacket(namespace, parse_query(query.encode()), auth, has_comma)


def read_packet(packet: bytes) -> ClientPacket:
    """Read any other packet up to its JSON; raises MalformedPacket."""
    packet_type, at, attachments = _TYPES.get(packet[1:2]), 2, 0
    if packet_type is None:
        raise MalformedPacket
    if packet_type in WITH_ATTACHMENTS:
        announced = _ATTACHMENTS.match(packet, at)
        if announced is None or int(announced[1]) > _MAX_ATTACHMENTS:
            raise MalformedPacket
        attachments, at = int(announced[1]), announced.end()
    namespace = ROOT
    if packet[at : at + 1] == b"/":
        end = packet.find(b",", at)
        end = end if end >= 0 else len(packet)
        namespace, at = packet[at:end].decode().partition("?")[0], end + 1
    digits = _ID.match(packet, at)
    assert digits is not None, "an empty match always exists"
    return ClientPacket(packet_type, namespace, _read_id(digits[0]), packet[digits.end() :], attachments)


def read_arguments(packet: ClientPacket) -> list[Any] | None:
    """Return the name of an event and its arguments, with its attachments in place; None for an event without any.

    Raises MalformedPacket, Unread. A name may be a number, as in the reference server.
    """
    if not packet.payload:
        return None
    data = _load(packet.payload.decode(), packet.attachments)
    name = data[0] if isinstance(data, list) and data else None
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise MalformedPacket
    return [str(name), *data[1:]]


def check_ack(packet: ClientPacket) -> None:
    """Raise MalformedPacket unless the ack has a list of arguments, whose JSON is not read, or none."""
    if packet.payload[:1] not in (b"[", b""):
        raise MalformedPacket


def add_attachment(packet: ClientPacket, data: bytes) -> bool:
    """Add a binary message to the packet that announced it; True when the packet is whole."""
    packet.attachments.append(data)
    return len(packet.attachments) >= packet.attachments_due


def write_packet(packet_type: int, namespace: str, data: Any, ack_id: int | None) -> list[EncodedPacket | bytes]:
    """Write an event or an ack: the text packet, then its binary attachments. Text is ASCII, right for every client."""
    encoded = _Packet(packet_type, data, namespace, ack_id).encode()
    parts = encoded if isinstance(encoded, list) else [encoded]
    return [EncodedPacket(b"4" + part.encode()) if isinstance(part, str) else bytes(part) for part in parts]


def write_connect(namespace: str, sid: str, version: int) -> EncodedPacket:
    """Write the CONNECT packet that tells a client it has joined."""
    if version == 3:
        return EncodedPacket(b"40" + (b"" if namespace == ROOT else namespace.encode()))
    return EncodedPacket(f'40{namespace_prefix(namespace)}{{"sid":"{sid}"}}'.encode())


def write_refusal(namespace: str, message: str, version: int) -> EncodedPacket:
    """Write the packet that tells a client why it may not join: a plain text in version 3, an object in 4."""
    content: Any = message if version == 3 else {"message": message}
    return EncodedPacket(f"44{namespace_prefix(namespace)}{json.dumps(content, separators=(',', ':'))}".encode())


def write_disconnect(namespace: str) -> EncodedPacket:
    """Write the packet that tells a client it has been removed from a namespace."""
    return EncodedPacket(f"41{namespace_prefix(namespace)}".encode())


def namespace_prefix(namespace: str) -> str:
    """Return the text between a packet's type and its id: empty for the root namespace."""
    return "" if namespace == ROOT else f"{namespace},"


def _read_id(digits: bytes) -> int | None:
    digits = digits.strip()
    return int(digits) if digits.isdigit() and len(digits) <= MAX_ACK_DIGITS else None


def _load_auth(text: str) -> Any:
    """Read JSON as `_load` does: faster where it is an object of texts, as nearly every one is."""
    if len(text) <= MAX_JSON_BYTES:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
            return _texts.decode(text)
    return _load(text)


def _load(text: str, attachments: list[bytes] | None = None) -> Any:
    """Read JSON, with a binary message in the place of each of its placeholders; raises MalformedPacket, Unread."""
    if len(text) > MAX_JSON_BYTES:
        raise Unread

    def place(value: dict[str, Any]) -> Any:
        if value.get("_placeholder") is not True:
            return value
        number = value.get("num")
        if not isinstance(number, int) or not 0 <= number < len(attachments or ()):
            raise MalformedPacket
        return (attachments or [])[number]

    try:
        return _load_numbers(text, place if attachments else None)
    except RecursionError as error:
        raise Unread from error
    except ValueError as error:
        raise MalformedPacket from error


def _load_numbers(text: str, hook: Callable[[dict[str, Any]], Any] | None) -> Any:
    try:
        return json.loads(text, object_hook=hook)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # An integer of more digits than Python converts. JavaScript reads each as the nearest number.
        return json.loads(text, object_hook=hook, parse_int=float)
