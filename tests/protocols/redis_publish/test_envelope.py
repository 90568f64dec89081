"""Destinations, identifiers, entries and events as texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.protocols.redis_publish.envelope import (
    Destination,
    Envelopes,
    event_of,
    is_of_the_original,
    read_destination,
    read_identifier,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("users.a", Destination("users", "a")),
        ("users.a.b", Destination("users", "a.b")),
        ("users.a:b", None),
        ("channels.x: y", Destination("channels", "x: y")),
        ("users." + "x" * 512, Destination("users", "x" * 512)),
        ("users." + "x" * 513, None),
        ("users.", None),
        ("users", None),
        ("", None),
        ("others.a", None),
        ("users.a\nb", None),
        ("users.a\x7f", None),
    ],
)
def test_destination(text: str, expected: Destination | None) -> None:
    """Only `users.` and `channels.` with a name that fits in a key and in a line are destinations."""
    assert read_destination(text) == expected
    if expected is not None:
        assert str(expected) == text


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("u", ("u", "")),
        ("u:k", ("u", "k")),
        ("u:k:l:", ("u", "k:l:")),
        (":k", None),
        ("", None),
        (None, None),
        (1, None),
        ("a\rb:k", None),
        ("a\ud800:k", None),
        ("u:" + "k" * 1_025, None),
    ],
)
def test_identifier(argument: object, expected: tuple[str, str] | None) -> None:
    """The first colon ends the user. The rest is the key."""
    assert read_identifier(argument) == expected


def test_no_two_entries_are_equal() -> None:
    """Equal texts of one millisecond get different timestamps, and a later equal text does not get one of them."""
    envelopes = Envelopes()
    entries = [envelopes.seal("rm.users.u", at_ms, b"x") for at_ms in (5, 5, 5, 6, 7, 8, 20)]
    assert [json.loads(entry)["timestamp"] for entry in entries] == [5, 6, 7, 8, 9, 10, 20]
    assert json.loads(envelopes.seal("rm.users.u", 20, b"y"))["timestamp"] == 20
    assert json.loads(envelopes.seal("rm.users.v", 20, b"x"))["timestamp"] == 20


def test_event_has_the_bubble_of_its_connection() -> None:
    """Only `bubble` changes, for any source and payload."""
    source, payload = 'rm.users."bubble":true,', '{"bubble":true}'
    entry = Envelopes().seal(source, 5, payload.encode())
    for is_first in (True, False):
        name, message = json.loads(event_of(entry, is_first))
        assert name == "message"
        assert message == {"source": source, "timestamp": 5, "bubble": is_first, "payload": payload}
        assert list(message) == ["source", "timestamp", "bubble", "payload"]


def test_payload_in_encode_uri() -> None:
    """An entry with its payload in encodeURI is delivered decoded. Readers of JSON see the fields of RedMessenger."""
    payload = '100% "día"'
    entry = Envelopes().seal("rm.users.u", 5, payload.encode(), as_uri=True)
    assert list(json.loads(entry)) == ["source", "timestamp", "bubble", "payload"]
    assert json.loads(entry)["payload"] == "100%25%20%22d%C3%ADa%22"
    assert json.loads(event_of(entry, False))[1] == json.loads(entry) | {"payload": payload, "bubble": False}
    assert not is_of_the_original(entry)


@pytest.mark.parametrize(
    ("payload", "delivered", "is_evidence"),
    [("Hello", "Hello", True), ("a%20b%25", "a b%", True), ("a b%20c", "a b%20c", False), ("%", "%", False)],
)
@pytest.mark.parametrize("bubble", ["true", "false"])
def test_entry_of_the_original(payload: str, delivered: str, is_evidence: bool, bubble: str) -> None:
    """An entry of RedMessenger is decoded. Where it wrote the payload as it was, so it is delivered."""
    entry = f'{{"source":"rm.users.u","timestamp":5,"bubble":{bubble},"payload":"{payload}"}}'.encode()
    expected = {"source": "rm.users.u", "timestamp": 5, "bubble": True, "payload": delivered}
    assert json.loads(event_of(entry, True)) == ["message", expected]
    assert is_of_the_original(entry) is is_evidence


def test_own_entry_is_not_decoded() -> None:
    """A payload that looks encoded comes as it was published."""
    entry = Envelopes().seal("rm.users.u", 5, b"100%25")
    assert json.loads(event_of(entry, True))[1]["payload"] == "100%25"
    assert not is_of_the_original(entry)


_OURS = b'{"source":"s","timestamp":1,"bubble":true,"payload":"'


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (b"text", {"source": "", "timestamp": 0, "payload": "text"}),
        (b"[1]", {"source": "", "timestamp": 0, "payload": "[1]"}),
        (b"\xff", {"source": "", "timestamp": 0, "payload": "\ufffd"}),
        (b'{"payload":"p","source":"s","timestamp":3}', {"source": "s", "timestamp": 3, "payload": "p"}),
        (b'{"source":"s"}', {"source": "", "timestamp": 0, "payload": '{"source":"s"}'}),
        (
            b'{"payload":[1],"source":{"bubble":true},"timestamp":"now"}',
            {"source": {"bubble": True}, "timestamp": "now", "payload": [1]},
        ),
        (rb'{"payload":"a\ud83d"}', {"source": "", "timestamp": 0, "payload": "a\ufffd"}),
        (_OURS + b'\xff"}', {"source": "", "timestamp": 0, "payload": _OURS.decode() + '\ufffd"}'}),
        (_OURS + b'\n"}', {"source": "", "timestamp": 0, "payload": _OURS.decode() + '\n"}'}),
        (_OURS + b'","more":"x"}', {"source": "s", "timestamp": 1, "payload": ""}),
    ],
)
def test_entry_of_another_program(entry: bytes, expected: dict[str, object]) -> None:
    """An entry of another program becomes a message all the same."""
    assert json.loads(event_of(entry, False)) == ["message", {**expected, "bubble": False}]


@pytest.mark.parametrize("levels", [201, 990, 1_100, 100_000])
def test_deep_entry_is_a_text(levels: int) -> None:
    """JSON that no reader is expected to follow is passed on as a text, at any depth."""
    entry = b'{"payload":' + b"[" * levels + b"]" * levels + b"}"
    assert json.loads(event_of(entry, True))[1]["payload"] == entry.decode()


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.binary(max_size=60).map(_OURS.__add__))
@example(b'{"payload":1' + b"0" * 5_000 + b"}")
def test_any_entry_becomes_a_message(entry: bytes) -> None:
    """Any entry of a user's list becomes valid UTF-8 that begins as an event; no entry raises."""
    assert event_of(entry, False).decode().startswith('["message",{"source":')
