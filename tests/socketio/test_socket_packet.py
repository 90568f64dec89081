"""Socket.IO packets, read and written."""

from __future__ import annotations

import contextlib
import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as socketio_packet

from app.socketio.engine_packet import EncodedPacket, MalformedPacket
from app.socketio.socket_packet import (
    ClientPacket,
    Unread,
    _load_auth,
    add_attachment,
    check_ack,
    read_arguments,
    read_connect,
    read_packet,
    write_connect,
    write_disconnect,
    write_packet,
    write_refusal,
)

EVENT, ACK, BINARY_EVENT, BINARY_ACK = 2, 3, 5, 6


def test_packet_class_of_python_socketio() -> None:
    """The class of python-socketio that reads and writes packets has the form that socket_packet.py expects."""
    parameters = "(packet_type=2, data=None, namespace=None, id=None, binary=None, encoded_packet=None)"
    assert str(inspect.signature(socketio_packet.Packet)) == parameters
    assert str(inspect.signature(socketio_packet.Packet.add_attachment)) == "(self, attachment)"
    assert str(inspect.signature(socketio_packet.Packet.encode)) == "(self)"
    read: Any = socketio_packet.Packet(encoded_packet='2/site,7["a"]')  # type: ignore[no-untyped-call]
    assert (read.packet_type, read.data, read.namespace, read.id) == (EVENT, ["a"], "/site", 7)
    assert (read.attachment_count, socketio_packet.ACK) == (0, ACK)
    assert (socketio_packet.DISCONNECT, socketio_packet.BINARY_EVENT, socketio_packet.BINARY_ACK) == (
        1,
        BINARY_EVENT,
        6,
    )


@pytest.mark.parametrize(
    ("packet", "namespace", "query", "auth", "has_comma"),
    [
        (b"40", "/", {}, None, False),
        (b'40{"token":"a"}', "/", {}, {"token": "a"}, False),
        (b"40/site", "/site", {}, None, False),
        (b"40/site,", "/site", {}, None, True),
        (b'40/site,{"token":"a,b"}', "/site", {}, {"token": "a,b"}, True),
        (b"40/site?token=1&deviceId=a%20b", "/site", {"token": "1", "deviceId": "a b"}, None, False),
        (b"40/site?token=1,2&deviceId=3", "/site", {"token": "1,2", "deviceId": "3"}, None, False),
        (b"40/site?token=1,2,", "/site", {"token": "1,2"}, None, True),
        (b"40?token=1", "/", {"token": "1"}, None, False),
        ("40/site?token=é,".encode(), "/site", {"token": "é"}, None, True),
        (b"40/site,5", "/site", {}, None, True),
        (b'40/site,5{"token":"a"}', "/site", {}, {"token": "a"}, True),
    ],
)
def test_connects(
    packet: bytes, namespace: str, query: dict[str, str], auth: dict[str, str] | None, has_comma: bool
) -> None:
    """CONNECT of all generations: with a query (1.x, 2.x), with a payload (3.x, 4.x), with nothing."""
    connect = read_connect(packet)
    assert (connect.namespace, connect.query, connect.auth, connect.has_comma) == (namespace, query, auth, has_comma)


def test_connect_hides_the_token() -> None:
    """The repr of a CONNECT packet shows none of its content."""
    assert "s3cret" not in repr(read_connect(b'40/site,{"token":"s3cret"}'))


@pytest.mark.parametrize("packet", [b"40x", b"40/site,x", b"40[]", b"40/site,null", b'40/site,"a"', b"40/site,1[]"])
def test_malformed_connects(packet: bytes) -> None:
    """A payload that is no object is refused."""
    with pytest.raises(MalformedPacket):
        read_connect(packet)


def read_whole(packet: bytes, *attachments: bytes) -> tuple[ClientPacket, Any]:
    """Read a packet with its attachments and arguments."""
    read = read_packet(packet)
    for data in attachments:
        add_attachment(read, data)
    if read.is_event:
        return read, read_arguments(read)
    if read.packet_type in (ACK, BINARY_ACK):
        check_ack(read)
    return read, None


def test_events() -> None:
    """An event is read with namespace, id and arguments."""
    read, arguments = read_whole('42/site,7["é",{"a":[null]}]'.encode())
    assert (read.packet_type, read.namespace, read.id) == (EVENT, "/site", 7)
    assert arguments == ["é", {"a": [None]}]
    assert read_packet(b'42["a"]').namespace == "/"


def test_attachments() -> None:
    """A binary event is whole with its last attachment."""
    read = read_packet(b'452-/site,["a",{"_placeholder":true,"num":1},{"x":{"_placeholder":true,"num":0}}]')
    assert not add_attachment(read, b"zero")
    assert add_attachment(read, b"one")
    assert read_arguments(read) == ["a", b"one", {"x": b"zero"}]


def test_binary_event_without_attachments() -> None:
    """A binary event that announces none is whole."""
    read, arguments = read_whole(b'450-["a"]')
    assert (read.attachments_due, arguments) == (0, ["a"])
    assert read_packet(b"460-7[]").id == 7


@pytest.mark.parametrize(
    ("packet", "ack_id", "arguments"),
    [
        (b'42/site,[7,"a"]', None, ["7", "a"]),
        (b"42/site,", None, None),
        (b"42/site,12", 12, None),
        (b"42", None, None),
        (b'42/site,12345678901234567["x"]', None, ["x"]),
        (b'42/site, ["x"]', None, ["x"]),
        (b"43/site,12", 12, None),
        (b"43/site,12[]", 12, None),
        (b"43/site,[]", None, None),
        (b"43/site,", None, None),
        (b"43/site,12345678901234567", None, None),
        (b"41/site,5", 5, None),
        (b'42/site,["n",1' + b"0" * 5_000 + b"]", None, ["n", float("inf")]),
        (b'42/site,["n",-1' + b"0" * 5_000 + b"]", None, ["n", float("-inf")]),
    ],
)
def test_what_the_reference_server_takes(packet: bytes, ack_id: int | None, arguments: list[Any] | None) -> None:
    """Numbers as names, events and acks without arguments, ids and integers of many digits are no error."""
    read, read_as = read_whole(packet)
    assert (read.id, read_as) == (ack_id, arguments)


def test_deep_json() -> None:
    """JSON that is nested deeper than Python reads is told apart, wherever it stands."""
    deep = b"[" * 100_000
    with pytest.raises(Unread):
        read_whole(b'42["a",' + deep)
    assert read_connect(b'40/site,{"a":' + deep).is_unread


@pytest.mark.parametrize(
    "packet",
    [
        b"4",
        b"4abc",
        b"47",
        b"44",
        b"42{}",
        b"42[]",
        b"42[true]",
        b"42[null]",
        b'42abc["a"]',
        b'42"a"',
        b"43/site,12{}",
        b"43/site,12null",
        b'42["a"',
        b'4599999999999-["a"]',
        b'451001-["a"]',
        b'45["a"]',
        "4²".encode(),
        '42²["a"]'.encode(),
        '45²-["a"]'.encode(),
    ],
)
def test_malformed_packets(packet: bytes) -> None:
    """A malformed packet is refused."""
    with pytest.raises(MalformedPacket):
        read_whole(packet)


@pytest.mark.parametrize("num", ["5", "-3", '"a"', "null", "[]", "1e3"])
def test_malformed_placeholders(num: str) -> None:
    """An attachment that does not exist is refused, of whatever type its number is."""
    with pytest.raises(MalformedPacket):
        read_whole(f'451-["a",{{"_placeholder":true,"num":{num}}}]'.encode(), b"x")


@given(st.one_of(st.text(), st.text('0123456789-/,?[]{}"abc'), st.text("5/,-[]{}")))
def test_random_packets(text: str) -> None:
    """Any text is read or refused; nothing else is raised."""
    for read, prefix in ((read_whole, "4"), (read_whole, "45"), (read_connect, "40")):
        with contextlib.suppress(MalformedPacket):
            read((prefix + text).encode())


def bytes_of(parts: list[EncodedPacket | bytes]) -> list[bytes]:
    """The bytes on the wire."""
    return [part if isinstance(part, bytes) else part.packet for part in parts]


def test_writing() -> None:
    """Each packet is written as its client expects it."""
    assert bytes_of(write_packet(EVENT, "/site", ["a", "é"], 7)) == [b'42/site,7["a","\\u00e9"]']
    assert bytes_of(write_packet(ACK, "/", [], 3)) == [b"433[]"]
    assert bytes_of(write_packet(EVENT, "/", ["a", b"\x00"], None)) == [
        b'451-["a",{"_placeholder":true,"num":0}]',
        b"\x00",
    ]
    assert write_connect("/site", "id", 4).packet == b'40/site,{"sid":"id"}'
    assert write_connect("/", "id", 4).packet == b'40{"sid":"id"}'
    assert write_connect("/site", "id", 3).packet == b"40/site"
    assert write_connect("/", "id", 3).packet == b"40"
    assert write_refusal("/site", 'No "way"', 4).packet == b'44/site,{"message":"No \\"way\\""}'
    assert write_refusal("/site", "No", 3).packet == b'44/site,"No"'
    assert write_disconnect("/site").packet == b"41/site,"
    assert write_disconnect("/").packet == b"41"


@given(
    st.one_of(
        st.dictionaries(st.text(max_size=4), st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.none())).map(
            json.dumps
        ),
        st.text('{}[]":,\\ud8\n\t\x00\x7f\x1fé1.eE-+ntrulfase', max_size=24),
        st.text('"\\ud8dc00\n\x00é', max_size=12).map('{{"a":"{}"}}'.format),
    )
)
def test_auth_is_read_as_the_library_reads_it(text: str) -> None:
    """The faster reader of an auth that holds texts alone reads what the standard library reads, and nothing else."""
    try:
        expected: Any = json.loads(text)
    except ValueError:
        expected = MalformedPacket
    try:
        read: Any = _load_auth(text)
    except MalformedPacket:
        read = MalformedPacket
    assert repr(read) == repr(expected)
