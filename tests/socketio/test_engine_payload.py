"""Payloads of polling requests, read and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.socketio.engine_packet import BinaryPacket, EncodedPacket, MalformedPacket, Packet, PacketFlood
from app.socketio.engine_payload import (
    BINARY_TYPE,
    MAX_PACKETS,
    TEXT_TYPE,
    Received,
    decode_payload_v3,
    decode_payload_v3_binary,
    decode_payload_v4,
    encode_payload,
    encode_script,
    payload_from_form,
)

# Characters of one, two, three and four bytes; JavaScript counts the last as two.
TEXT = '42["aé€😀"]'
BINARY = bytes(range(256))


def plain(packets: Iterable[Received]) -> list[bytes | tuple[bytes]]:
    """The packets as values that compare."""
    return [(packet.data,) if isinstance(packet, BinaryPacket) else packet for packet in packets]


def decode_v3(body: bytes) -> Iterator[Received]:
    """Read a version 3 text payload of an unknown client."""
    return decode_payload_v3(body, is_maybe_encoded_twice=True)


characters = st.characters(exclude_characters="\x1e", exclude_categories=["Cs"])
texts = st.text(characters).map(lambda text: b"4" + text.encode())
binaries = st.binary().map(lambda data: (data,))


def to_packets(values: list[bytes | tuple[bytes]]) -> list[Packet]:
    """Make packets of drawn values."""
    return [EncodedPacket(value) if isinstance(value, bytes) else BinaryPacket(value[0]) for value in values]


@given(st.lists(st.one_of(texts, binaries), min_size=1, max_size=8))
def test_version_4_reads_what_it_writes(values: list[bytes | tuple[bytes]]) -> None:
    """Text and binary packets survive a version 4 payload."""
    body, content_type = encode_payload(to_packets(values), 4, supports_binary=True)
    assert content_type == TEXT_TYPE
    assert plain(decode_payload_v4(body)) == values


@given(st.lists(st.one_of(binaries, st.just(b'42["a"]')), min_size=1, max_size=8))
def test_version_3_reads_what_it_writes(values: list[bytes | tuple[bytes]]) -> None:
    """Text and binary packets survive a version 3 payload, in text and in binary framing."""
    body, content_type = encode_payload(to_packets(values), 3, supports_binary=False)
    assert content_type == TEXT_TYPE
    assert plain(decode_v3(body)) == values
    body, content_type = encode_payload(to_packets(values), 3, supports_binary=True)
    assert content_type == BINARY_TYPE
    assert plain(decode_payload_v3_binary(body)) == values


def test_version_3_writes_ascii() -> None:
    """Events leave as escapes, whose length is the same for clients that decode UTF-8 once or twice."""
    body, _ = encode_payload([EncodedPacket(TEXT.encode())], 3, supports_binary=False)
    length, _, text = body.partition(b":")
    assert int(length) == len(text)
    assert text.isascii()
    assert json.loads(text[2:]) == json.loads(TEXT[2:])


def test_version_3_reads_2x_clients() -> None:
    """2.x clients encode once and count UTF-16 units."""
    units = len(TEXT.encode("utf-16-le")) // 2
    body = f"{units}:{TEXT}3:43x".encode()
    assert plain(decode_payload_v3(body, is_maybe_encoded_twice=False)) == [TEXT.encode(), b"43x"]
    assert plain(decode_v3(body)) == [TEXT.encode(), b"43x"]


def test_version_3_reads_1x_clients() -> None:
    """1.x clients encode twice and count the bytes of the first encoding."""
    once = TEXT.encode().decode("latin-1")
    body = f"{len(once)}:{once}3:43x".encode()
    assert plain(decode_v3(body)) == [TEXT.encode(), b"43x"]


def test_version_3_known_2x_client_is_not_decoded_twice() -> None:
    """Text of a 2.x client that looks encoded twice is taken as it is."""
    assert plain(decode_payload_v3("4:4Ã©x".encode(), is_maybe_encoded_twice=False)) == ["4Ã©x".encode()]
    assert plain(decode_payload_v3("4:4Ã©x".encode(), is_maybe_encoded_twice=True)) == ["4éx".encode()]


def test_version_3_binary_framing_encodes_once() -> None:
    """In binary framing both old clients encode text once and count bytes."""
    text = TEXT.encode()
    digits = bytes(map(int, str(len(text))))
    assert plain(decode_payload_v3_binary(b"\x00" + digits + b"\xff" + text)) == [text]


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_payload_v4, b""),
        (decode_payload_v4, b"4a\x1e"),
        (decode_payload_v4, b"4\xff"),
        (decode_v3, b""),
        (decode_v3, b"abc"),
        (decode_v3, b"9:4a"),
        (decode_v3, b"-1:4"),
        (decode_v3, "²:4a".encode()),
        (decode_v3, b"99999999999999999999:4a"),
        (decode_v3, "2:4😀".encode()),
        (decode_payload_v3_binary, b""),
        (decode_payload_v3_binary, b"\x00\xff4"),
        (decode_payload_v3_binary, b"\x00\x02\xff4"),
        (decode_payload_v3_binary, b"\x02\x01\xff4"),
        (decode_payload_v3_binary, b"\x00\x0a\xff4"),
        (decode_payload_v3_binary, b"\x01\x01\xff\x02"),
        (decode_payload_v3_binary, b"\x00\x02\xff4\xff"),
        (decode_payload_v3_binary, b"\x00" + b"\x01" * 50),
        (payload_from_form, b""),
        (payload_from_form, b"e=4a"),
        (payload_from_form, b"d=%ff"),
        (payload_from_form, b"d=\xff"),
        (payload_from_form, b"&".join([b"d=1"] * 100)),
    ],
)
def test_malformed(decode: Callable[[bytes], Iterable[object]], body: bytes) -> None:
    """A malformed payload is refused, not guessed at."""
    with pytest.raises(MalformedPacket):
        list(decode(body))


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_payload_v4, b"\x1e".join([b'42[""]'] * 513)),
        (decode_payload_v4, b"\x1e" * 900_000),
        (decode_v3, b"1:6" * 513),
        (decode_v3, b"0:" * 450_000),
        (decode_v3, "2:6é".encode() * 513),
        (decode_payload_v3_binary, b"\x00\x01\xff6" * 513),
    ],
)
def test_too_many_packets(decode: Callable[[bytes], Iterable[object]], body: bytes) -> None:
    """A payload has a bound of packets, found before they are all made."""
    with pytest.raises(PacketFlood):
        list(decode(body))


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_payload_v4, b"4a\x1e4b\x1e"),
        (decode_v3, b"2:4a2:4b9:4c"),
        (decode_payload_v3_binary, b"\x00\x02\xff4a\x00\x02\xff4b\x02"),
    ],
)
def test_packets_are_decoded_one_by_one(decode: Callable[[bytes], Iterator[Received]], body: bytes) -> None:
    """A packet is decoded when it is asked for: those in front of a mistake are read, as the reference server reads."""
    found = decode(body)
    assert [next(found), next(found)] == [b"4a", b"4b"]
    with pytest.raises(MalformedPacket):
        next(found)


def test_as_many_packets_as_allowed() -> None:
    """The bound itself is allowed."""
    assert len(list(decode_payload_v4(b"\x1e".join([b"6"] * MAX_PACKETS)))) == MAX_PACKETS
    assert len(list(decode_v3(b"1:6" * MAX_PACKETS))) == MAX_PACKETS
    assert len(list(decode_payload_v3_binary(b"\x00\x01\xff6" * MAX_PACKETS))) == MAX_PACKETS


def test_what_the_reference_server_passes_over() -> None:
    """No base64 is malformed, and an empty packet of version 3 is a noop."""
    assert plain(decode_payload_v4(b"b!!!\x1ebYW J=x")) == [(b"",), (b"ab",)]
    assert plain(decode_v3(b"0:3:b4!2:4a0:")) == [b"6", (b"",), b"4a", b"6"]


def test_a_namespace_outside_ascii_for_1x_clients() -> None:
    """A 1.x client decodes text twice and counts its bytes; a 2.x client decodes once and counts UTF-16 units."""
    packet = EncodedPacket('42/é,1["ü"]'.encode())
    twice, _ = encode_payload([packet], 3, supports_binary=False, is_encoded_twice=True)
    assert plain(decode_payload_v3(twice, is_maybe_encoded_twice=True)) == ['42/é,1["\\u00fc"]'.encode()]
    length, _, text = twice.decode().partition(":")
    assert int(length) == len(text)
    assert text.encode("latin-1").decode() == '42/é,1["\\u00fc"]'
    once, _ = encode_payload([packet], 3, supports_binary=False, is_encoded_twice=False)
    assert once.decode() == '16:42/é,1["\\u00fc"]'
    binary, _ = encode_payload([packet], 3, supports_binary=True, is_encoded_twice=True)
    assert binary == b"\x00\x01\x07\xff" + '42/é,1["\\u00fc"]'.encode()


@given(st.text())
def test_forms(payload: str) -> None:
    """A form is read as a standard reader of forms reads it."""
    escaped = payload.replace("\\n", "\\\\n").replace("\n", "\\n")
    if "\\\\\\n" not in escaped and "\ud800" not in payload:
        assert payload_from_form(urlencode({"d": escaped}).encode()).decode() == payload


@given(st.one_of(st.binary(), st.text("0123456789:b4=\\n\x1e").map(str.encode)))
def test_random_bytes(body: bytes) -> None:
    """Any bytes are read or refused; nothing else is raised."""
    for decode in (decode_payload_v4, decode_v3, decode_payload_v3_binary, payload_from_form):
        try:
            list(decode(body))
        except MalformedPacket:
            continue


def test_script() -> None:
    """JSONP calls the function of the client's number with the payload as a JavaScript string."""
    payload = '4["a\u2028\\"b\n"]'
    script = encode_script("7);alert(1", payload.encode()).decode()
    function, _, literal = script.removesuffix(");").partition("(")
    assert function == "___eio[71]"
    assert literal.isascii()
    assert json.loads(literal) == payload


@pytest.mark.parametrize("payload", ['4["a b+c&d=é"]', "4a\nb", "4a\\nb", "4a\\\\nb", "4\\", "4n"])
def test_form(payload: str) -> None:
    """The escaping of newlines by the clients before they submit the form is undone."""
    # As the polling-jsonp transport of the 1.x and 2.x clients: \n as two characters, then as one.
    escaped = payload.replace("\\n", "\\\\n").replace("\n", "\\n")
    assert payload_from_form(urlencode({"d": escaped}).encode()).decode() == payload
