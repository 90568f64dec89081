"""Events on the wire: frames that may be split anywhere, lengths that are equal in every language, SSE, chunks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.topics.frames import (
    KEEP_ALIVE_FRAME,
    Encoding,
    Event,
    event_of_server,
    quote,
    to_ascii,
    to_chunk,
    to_frame,
)
from tests.support.topic_frames import FrameReader

DETAIL = {"text": "it's ''7'' é \U0001f600 \u2028", "list": [1, 2.5, None, True], "deep": {"'": "'"}}


def event(detail: object = DETAIL, type_: str = "news", seq: int = 7) -> Event:
    """An event as the bus carries it."""
    return Event.from_body(json.dumps([type_, detail], ensure_ascii=False).encode(), 1234, seq)


def test_frame() -> None:
    """A frame is the number of characters between pairs of ', then JSON with the contract's keys."""
    data = event().encode("a/+", "a/b", Encoding.FRAMES, with_id=True).decode()
    _, length, text = data.split("''")
    assert int(length) == len(text)
    assert json.loads(text) == {
        "iat": 1234,
        "ep": {"requested": "a/+", "emitted": "a/b"},
        "e": {"type": "news", "detail": DETAIL},
    }


def test_every_count_is_the_same() -> None:
    """JavaScript's length, characters and bytes are equal, because every character
    beyond ASCII is escaped; so is every '."""
    text = event().encode("münchen/ü'", "münchen/ü'", Encoding.FRAMES, with_id=True).decode().split("''")[2]
    assert text.isascii()
    assert "'" not in text
    assert len(text) == len(text.encode()) == len(text.encode("utf-16-le")) // 2


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_keeps_the_text(text: str) -> None:
    """Escaped text decodes to the original text."""
    assert json.loads(quote(text)) == text
    assert json.loads(to_ascii(json.dumps({text: [text]}, ensure_ascii=False, indent=1).encode())) == {text: [text]}


def test_cut_at_every_border() -> None:
    """Three frames and a keep-alive are read the same wherever they are split in two or three pieces."""
    frames = [event(n).encode("t", "t", Encoding.FRAMES, with_id=True) for n in range(3)]
    stream = (frames[0] + KEEP_ALIVE_FRAME + frames[1] + frames[2]).decode()
    whole = FrameReader()
    whole.feed(stream)
    assert [one["e"]["detail"] for one in whole.events] == [0, 1, 2]
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1, 7):
            reader = FrameReader()
            for piece in (stream[:first], stream[first:second], stream[second:]):
                reader.feed(piece)
            assert (reader.events, reader.keep_alives, reader.rest) == (whole.events, 1, "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'["t"]', {"type": "t"}),
        (b'["t",null]', {"type": "t", "detail": None}),
        (b'["t",{"a": 1}]', {"type": "t", "detail": {"a": 1}}),
        (b'["t",1,"two"]', {"type": "t", "detail": [1, "two"]}),
        (b'["t",[]]', {"type": "t", "detail": []}),
    ],
)
def test_arguments_of_a_bridged_message(body: bytes, expected: object) -> None:
    """No argument means no detail, one argument is the detail, several become a list."""
    assert json.loads(Event.from_body(body, 1, 1).packed) == expected


def test_numbers_are_kept() -> None:
    """A number arrives with the digits with which it was sent."""
    assert b"12345678901234567890.10" in Event.from_body(b'["t",12345678901234567890.10]', 1, 1).packed


def test_sse() -> None:
    """id, event and data stand on one line each; data is the JSON of a frame."""
    lines = event().encode("a", "a", Encoding.SSE, with_id=True).decode().split("\n")
    assert lines[:2] == ["id: 7", "event: news"]
    assert json.loads(lines[2].removeprefix("data: "))["e"]["detail"] == DETAIL
    assert lines[3:] == ["", ""]
    assert not event().encode("a", "a", Encoding.SSE, with_id=False).startswith(b"id")


def test_sse_has_no_line_of_its_callers() -> None:
    """Line breaks in a type or a detail do not make an SSE line of their own."""
    packed = Event.from_body(b'["a\\r\\nid: 9\\u0000",\n{"b":\r\n1}]', 1, 7)
    text = packed.encode("t", "t", Encoding.SSE, with_id=True).decode()
    assert text.count("\n") == 4
    assert "\r" not in text
    assert text.split("\n")[1] == "event: a  id: 9 "


def test_of_the_server() -> None:
    """An event of the server without a detail has no `detail` key."""
    assert json.loads(event_of_server("_resync", 5).packed) == {"type": "_resync"}
    assert json.loads(event_of_server("available", 5, {"clid_instances": 2}).packed)["detail"] == {"clid_instances": 2}


def test_chunk() -> None:
    """A chunk is its size in hexadecimal, then the bytes (RFC 9112, 7.1)."""
    assert to_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert to_frame(b"") == KEEP_ALIVE_FRAME
