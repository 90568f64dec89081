"""The reading of events into drafts. Pure: what the answers say of mistakes is in test_endpoint.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.protocols.sites.pusher.events import MOST_EVENTS, read_event, read_events, read_info, room_of
from app.protocols.sites.pusher.settings import socket_id
from tests.protocols.sites.door import DECODED, PUSHED

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def body(**event: Any) -> bytes:
    """The body of an event."""
    return msgspec.json.encode({"name": "news", "data": "x", "channels": ["a"], **event})


@given(value=JSON)
def test_data_are_the_argument(value: Any) -> None:
    """Data reach the clients as they were sent; with `decode` their text is read as JSON, whatever it holds."""
    text = msgspec.json.encode(value).decode()
    for site, data, expected in ((PUSHED, value, value), (PUSHED, text, text), (DECODED, text, value)):
        (read,) = read_event(site, body(data=data))
        assert msgspec.json.decode(read.draft.sent.packed) == ["news", expected]


@pytest.mark.parametrize("text", ["", "[", "plain", "{}}", "\x00", '"', "[" * 40_000, "NaN", "1 2"])
def test_text_that_is_no_json_stays_text(text: str) -> None:
    """A client of Pusher takes it for text, too."""
    (read,) = read_event(DECODED, body(data=text))
    assert msgspec.json.decode(read.draft.sent.packed) == ["news", text]


def test_half_a_pair() -> None:
    """A text that was cut in the middle of a pair is read as a browser reads it."""
    for site in (PUSHED, DECODED):
        (read,) = read_event(site, b'{"name":"a","channel":"b","data":"\\ud800"}')
        assert b"\\ufffd" in read.draft.sent.packed or "\ufffd".encode() in read.draft.sent.packed


def test_channels_are_rooms() -> None:
    """A channel is the room of its name; the channel of a user is its user room, which only sites with users have."""
    (read,) = read_event(PUSHED, body(channels=["Private-a.1", "#server-to-user-7"], info="user_count"))
    assert read.draft.sent.rooms == ["Private-a.1", "user_7"]
    assert read.info == {"user_count"}
    assert room_of(PUSHED, "presence-a") == "presence-a"
    with pytest.raises(BadRequest, match="has no userRoomPrefix"):
        read_event(DECODED, body(channel="b", channels=["#server-to-user-7"]))


def test_the_device_that_has_sent() -> None:
    """A socket id names a device by its handle."""
    (read,) = read_event(PUSHED, body(socket_id=socket_id(b"12")))
    assert read.draft.but is not None
    assert read.draft.but.handle == "12"
    assert read_event(PUSHED, body(socket_id=""))[0].draft.but is None


def test_encrypted_channels_are_passed_through() -> None:
    """The server has no key to them: the data of the package reach the clients."""
    data = '{"nonce":"bm9uY2U=","ciphertext":"Y2lwaGVy"}'
    (read,) = read_event(PUSHED, body(channels=["private-encrypted-a"], data=data))
    assert msgspec.json.decode(read.draft.sent.packed) == ["news", data]


def test_batches_are_bounded() -> None:
    """A batch has more room than Pusher's, and a bound."""
    event = {"name": "n", "data": "x", "channel": "a"}
    assert len(read_events(PUSHED, msgspec.json.encode({"batch": [event] * MOST_EVENTS}))) == MOST_EVENTS
    for count in (0, MOST_EVENTS + 1):
        with pytest.raises(BadRequest, match=f"batch: expected 1 to {MOST_EVENTS} events, got {count}."):
            read_events(PUSHED, msgspec.json.encode({"batch": [event] * count}))
    wrong = msgspec.json.encode({"batch": [event, {**event, "name": ""}]})
    with pytest.raises(BadRequest, match=r"batch\[1\]: name: expected"):
        read_events(PUSHED, wrong)


def test_attributes() -> None:
    """Attributes that this server does not know are left out."""
    assert read_info(None) == read_info("") == read_info("cache") == frozenset()
    assert read_info(" user_count,subscription_count,user_count") == {"user_count", "subscription_count"}
