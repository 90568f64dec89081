"""Packets as ready bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.socketio.engine_packet import BinaryPacket, EncodedPacket, escape_non_ascii
from app.transport.frames import text_frame


def test_forms_are_made_once() -> None:
    """Each form is made when first asked for and then shared."""
    packet = EncodedPacket('42["é"]'.encode())
    assert packet.frame == text_frame(packet.packet)
    assert packet.frame is packet.frame
    assert packet.ascii == b'42["\\u00e9"]'
    assert packet.ascii_frame == text_frame(packet.ascii)
    assert packet.ascii_frame is packet.ascii_frame


def test_ascii_packets_share_one_frame() -> None:
    """A packet of ASCII is not kept twice for old clients."""
    packet = EncodedPacket(b'42["event"]')
    assert packet.ascii is packet.packet
    assert packet.ascii_frame is packet.frame


def test_unknown_attributes_raise() -> None:
    """The lazy forms do not swallow a misspelt name."""
    with pytest.raises(AttributeError):
        EncodedPacket(b"4").farme  # type: ignore[attr-defined]  # noqa: B018


def test_namespace_is_not_escaped() -> None:
    """Only the JSON may hold escapes: the namespace before it stays UTF-8."""
    assert escape_non_ascii('42/é,7["ü"]'.encode()) == '42/é,7["\\u00fc"]'.encode()
    assert escape_non_ascii("40/é".encode()) == "40/é".encode()


@given(st.lists(st.text()))
def test_escapes_mean_the_same(values: list[str]) -> None:
    """The escaped JSON of any text is ASCII and reads the same."""
    escaped = escape_non_ascii(b"42" + json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    assert escaped.isascii()
    assert json.loads(escaped[2:]) == values


def test_waiting_costs_more_than_the_bytes() -> None:
    """An empty packet counts against the bound too."""
    assert EncodedPacket(b"").waiting_bytes > 0
    assert BinaryPacket(b"abc").waiting_bytes - BinaryPacket(b"").waiting_bytes == 3
