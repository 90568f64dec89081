"""Socket.IO packets inside Engine.IO messages: readers of the clients' packets, writers of the server's.

Uses python-socketio's packet class for JSON and attachments, and adds the checks that it lacks. Knows no connections.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from socketio import packet as socketio_packet

from app.socketio.engine_packet import EncodedPacket, MalformedPacket
from app.socketio.engine_request import parse_query

ROOT = "/"
_Packet: Any = socketio_packet.Packet
_MAX_ATTACHMENTS = 1_000
MAX_ACK_DIGITS = 15
"""JavaScript counts no further than 2**53 without loss."""
_DECODING_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""The exceptions of python-socketio's packet class for malformed input."""

WITH_ATTACHMENTS = (socketio_packet.BINARY_EVENT, socketio_packet.BINARY_ACK)
EVENTS = (socketio_packet.EVENT, socketio_packet.BINARY_EVENT)


@dataclass(slots=True, repr=False)
class ConnectPacket:
    """A client's request to join a namespace; released after the answer. Without a repr: it carries the token."""

    namespace: str
    query: dict[str, str]
    auth: dict[str, Any] | None
    has_comma: bool
    """Clients from 2.x on end the namespace with a comma, 1.x clients do not."""


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
    auth = _load(text) if text else None
    if auth is not None and not isinstance(auth, dict):
        raise MalformedPacket
    return ConnectPacket(namespace, parse_query(query.encode()), auth, has_comma)


def read_packet(packet: bytes) -> Any:
    """Read any other packet as python-socketio's class; attachments are still missing. Raises MalformedPacket."""
    if packet[1:2] not in (b"1", b"2", b"3", b"5", b"6"):
        raise MalformedPacket
    try:
        read = _Packet(encoded_packet=packet[1:].decode())
    except _DECODING_ERRORS as error:
        raise MalformedPacket from error
    read.namespace = read.namespace or ROOT
    if read.attachment_count > _MAX_ATTACHMENTS or (read.id or 0) >= 10**MAX_ACK_DIGITS:
        raise MalformedPacket
    if read.packet_type in WITH_ATTACHMENTS and read.attachment_count == 0:
        # No attachment to wait for: the packet equals its plain form.
        read.packet_type -= socketio_packet.BINARY_EVENT - socketio_packet.EVENT
    if read.packet_type != socketio_packet.DISCONNECT:
        _check_arguments(read)
    return read


def add_attachment(read: Any, data: bytes) -> bool:
    """Add a binary message to the packet that announced it; True when it is whole. Raises MalformedPacket."""
    try:
        is_whole = bool(read.add_attachment(data))
    except _DECODING_ERRORS as error:
        raise MalformedPacket from error
    if is_whole:
        _check_arguments(read)
    return is_whole


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


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedPacket from error


def _check_arguments(read: Any) -> None:
    """An event is a list that begins with its name; an ack has an id and a list."""
    if not isinstance(read.data, list):
        raise MalformedPacket
    if read.packet_type in EVENTS:
        if not read.data or not isinstance(read.data[0], str):
            raise MalformedPacket
    elif read.id is None:
        raise MalformedPacket
