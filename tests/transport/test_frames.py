"""Frames and close codes, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transport import frames
from tests.transport.serving import TEXT, client_frame


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_length_takes_the_shortest_form(size: int, header: bytes) -> None:
    """A payload's length stands in 7, 16 or 64 bits, whichever is enough (RFC 6455, 5.2)."""
    payload = b"x" * size
    assert frames.text_frame(payload) == header + payload
    assert frames.text_frame_head(size) == header


def test_opcodes() -> None:
    """Each kind of frame carries its own opcode, FIN set and no mask."""
    assert frames.binary_frame(b"a") == b"\x82\x01a"
    assert frames.pong_frame(b"a") == b"\x8a\x01a"
    assert frames.close_frame(1000, "by") == b"\x88\x04\x03\xe8by"


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_codes_that_mean_none_are_not_written(code: int) -> None:
    """A code that must never stand in a close frame makes an empty one."""
    assert frames.close_frame(code, "reason") == b"\x88\x00"


def test_a_long_reason_is_cut_between_characters() -> None:
    """A reason is cut to the size of a control frame, and stays valid UTF-8."""
    frame = frames.close_frame(1008, "é" * 100)
    assert len(frame) - 2 <= 125
    assert frame[4:].decode() == "é" * 61


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_codes_a_peer_may_send(code: int) -> None:
    """Registered codes, and the codes of libraries and applications, are accepted."""
    assert frames.may_be_received(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_codes_a_peer_must_not_send(code: int) -> None:
    """Reserved codes, and codes outside every range, are refused."""
    assert not frames.may_be_received(code)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 63, 124, 125])
def test_short_text_is_unmasked(size: int) -> None:
    """A whole short text message is read without a parser, whatever its length."""
    payload = bytes(range(33, 33 + 90)) * 2
    assert frames.payload_of_short_text(client_frame(TEXT, payload[:size])) == payload[:size]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        client_frame(TEXT, b""),
        client_frame(TEXT, b"x" * 126),
        client_frame(TEXT, b"abc")[:-1],
        client_frame(TEXT, b"abc") + b"\x81",
        client_frame(TEXT, b"abc", fin=False),
        client_frame(TEXT, b"abc", rsv=4),
        client_frame(TEXT, b"abc", masked=False),
        client_frame(TEXT, "é".encode()),
        client_frame(2, b"abc"),
    ],
)
def test_all_else_is_left_to_the_parser(data: bytes) -> None:
    """Anything but one short, masked, unfragmented ASCII text is left to the parser."""
    assert frames.payload_of_short_text(data) is None


@given(data=st.binary(max_size=140), size=st.integers(0, 130), head=st.sampled_from([b"\x81", b"\x00", b"\x82"]))
def test_short_text_is_read_as_the_standard_says(data: bytes, size: int, head: bytes) -> None:
    """Of any bytes exactly the whole short texts are read, as section 5.3 unmasks them, zeros in front included."""
    frame = head + bytes((0x80 | size & 0x7F,)) + data
    unmasked = bytes(byte ^ frame[2 + at % 4] for at, byte in enumerate(frame[6:]))
    is_text = head == b"\x81" and 0 < size <= 125 and len(unmasked) == size and unmasked.isascii()
    assert frames.payload_of_short_text(frame) == (unmasked if is_text else None)


@given(payload=st.binary(min_size=1, max_size=125), mask=st.binary(min_size=4, max_size=4))
def test_short_text_under_any_mask(payload: bytes, mask: bytes) -> None:
    """The mask makes no difference: the same text is the same object."""
    text = bytes(byte & 0x7F for byte in payload)
    read = [frames.payload_of_short_text(_masked(text, key)) for key in (mask, bytes(4), mask[::-1])]
    assert read[0] == text
    assert read[0] is read[1] is read[2]


def test_few_short_texts_are_remembered() -> None:
    """Numbers may be chosen so that they share a hash: so few are remembered that it costs no time."""
    texts = [b"\x00" * (2 * number) + b"x" for number in range(40)]
    for text in texts:
        assert frames.payload_of_short_text(_masked(text, b"abcd")) == text
    assert frames._payload_of.cache_info().currsize <= 16


def _masked(text: bytes, mask: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(text))) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))


def test_utf8() -> None:
    """Text is checked as UTF-8: surrogates, overlong forms and cut characters are none."""
    assert frames.is_utf8("plain and ünïcode 🎉".encode())
    for wrong in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", "é".encode()[:1], b"\xf4\x90\x80\x80"):
        assert not frames.is_utf8(wrong)
