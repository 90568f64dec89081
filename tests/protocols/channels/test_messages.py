"""The messages of the contract, byte by byte, and the error for each kind of mistake."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from app.protocols.channels import messages
from app.protocols.channels.detail import MARK, Detail, decode_detail, encode_detail
from app.protocols.channels.messages import (
    BAD_JSON,
    INVALID_MESSAGE,
    MAX_RECIPIENTS,
    ClientAction,
    LongPushAction,
    Malformed,
    PingAction,
    Push,
    PushAction,
    decode,
    read_recipients,
)
from app.transport.frames import text_frame

ACTION: dict[str, Any] = {"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": "news"}}


def test_every_key_is_written() -> None:
    """The messages equal the original's, in its order of keys, nulls among them."""
    assert messages.client_ack("u", ["a", "b"]) == (
        b'{"messageType":"CLIENT_ACK","code":200,"message":"Connected","data":{"uuid":"u","subscribedChannels":["a","b"]}}'
    )
    assert messages.server_ack("OK", "a") == (
        b'{"messageType":"SERVER_ACK","code":200,"message":"OK","data":{"channel":"a","channelToken":null}}'
    )
    assert messages.error(404, "Not found") == (
        b'{"messageType":"ERROR","code":404,"message":"Not found","data":{"errorDetails":null}}'
    )


def test_what_is_beyond_the_original_comes_behind_it() -> None:
    """Keys beyond the original come at the end of a CLIENT_ACK's data."""
    ack = json.loads(messages.client_ack("u", [], {"secret": "s", "missed": True}))
    assert list(ack["data"]) == ["uuid", "subscribedChannels", "secret", "missed"]


@pytest.mark.parametrize("channels", [["a"], ["a", 'quote"and\\'], ["é" * 100], [str(n) for n in range(5_000)]])
@pytest.mark.parametrize("text", ["", "x", 'a "b"\n\x00é😀', "x" * 200, "x" * 70_000])
def test_a_push_is_one_frame_of_two_parts(channels: list[str], text: str) -> None:
    """The subscriber's own part and the shared part form the frame of the whole message, whatever their lengths."""
    whole = {
        "messageType": "CLIENT_PUSH",
        "code": 200,
        "message": "Push Message",
        "data": {"uuid": "u", "subscribedChannels": channels, "pushMessage": {"channel": channels[0], "message": text}},
    }
    expected = text_frame(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode())
    frame = Push(1, channels[0], text).frame(messages.push_prefix("u", channels))
    # json writes U+0000 as \u0000 in both, so the texts are equal byte by byte.
    assert frame == expected


def test_prefixes_of_several_lengths_in_turns() -> None:
    """The cached head always fits the prefix, whatever the lengths of successive prefixes."""
    push = Push(1, "a", "x" * 60)
    prefixes = [messages.push_prefix("u", ["a"] * count) for count in (1, 2, 1, 1, 30, 2, 1)]
    alone = [Push(1, "a", "x" * 60).frame(prefix) for prefix in prefixes]
    assert [push.frame(prefix) for prefix in prefixes] == alone


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (messages.pack("news", 'a "b"\n'), 'a "b"\n'),
        (b'["news","one"]', "one"),
        (b'["news", "one", "two"]', '["one","two"]'),
        (b'["news", {"a": 1.50} ]', '[{"a": 1.50}]'),
        (b'["news",null]', "[null]"),
        (b'["news"]', "[]"),
    ],
)
def test_what_is_pushed_of_a_message(body: bytes, text: str) -> None:
    """The text of a push is the only argument if that is text; else the JSON
    text of the arguments, as they were sent."""
    assert messages.pushed_text(body) == text


def test_a_good_action() -> None:
    """Names of any script, unknown keys, and an absent uuid are accepted."""
    assert decode(json.dumps(ACTION).encode(), ClientAction).data.channel == "news"
    more = ACTION | {"uuid": "u", "more": {"a": [1]}, "data": {"channel": "новости", "x": None}}
    action = decode(json.dumps(more, ensure_ascii=False).encode(), ClientAction)
    assert (action.uuid, action.data.channel) == ("u", "новости")
    ping = {"messageType": "SERVER_ACTION", "action": "PING_CHANNEL", "data": {"channel": "a", "channelToken": None}}
    assert decode(json.dumps(ping).encode(), PingAction).data.channel_token is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"x",
        b'{"a":1}x',
        b'{"a":}',
        b"\xff",
        b'"\xff"',
        b"[" * 100_000,
        b'{"messageType":5,',
        b'{"a":"\\ud800"}',
    ],
)
def test_what_is_no_json(payload: bytes) -> None:
    """A syntax error is reported as Bad JSON, also when a wrong shape precedes it."""
    with pytest.raises(Malformed, match=r"^Bad JSON$") as refusal:
        decode(payload, ClientAction)
    assert refusal.value.details


@pytest.mark.parametrize("half", [r"\ud800", r"\udc00", r"\ud800\u0041"])
def test_half_a_surrogate_pair(half: str) -> None:
    """Half of a surrogate pair is no character, and the error says so."""
    with pytest.raises(Malformed, match=r"^Bad JSON$") as refusal:
        decode(json.dumps(ACTION).replace("news", half).encode(), ClientAction)
    assert "surrogate" in refusal.value.details


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"messageType": "SERVER_ACTION"}, "messageType"),
        ({"action": "PUSH"}, "action"),
        ({"action": 5}, "action"),
        ({"data": None}, "data"),
        ({"data": {}}, "channel"),
        ({"data": {"channel": 5}}, "data.channel"),
        ({"data": {"channel": ""}}, "1 to 1000 bytes"),
        ({"data": {"channel": "é" * 501}}, "1 to 1000 bytes"),
        ({"uuid": 5}, "uuid"),
    ],
)
def test_what_has_another_shape(change: dict[str, Any], details: str) -> None:
    """Another shape is reported as Invalid message, with the key and the expected value."""
    with pytest.raises(Malformed, match=r"^Invalid message$") as refusal:
        decode(json.dumps(ACTION | change).encode(), ClientAction)
    assert details in refusal.value.details


def test_no_secret_in_what_is_said_of_a_mistake() -> None:
    """The details of a refusal name the key and never its value."""
    data = {"channel": "a", "channelToken": "s3cr3t", "recipients": 5, "message": "m"}
    action = {"messageType": "SERVER_ACTION", "action": "PUSH_MESSAGE", "data": data}
    with pytest.raises(Malformed) as refusal:
        decode(json.dumps(action).encode(), PushAction)
    assert "s3cr3t" not in refusal.value.details


@pytest.mark.parametrize(
    "detail", [Detail(), Detail(recipients=["a\nb"]), Detail(deleted="00ff"), Detail(is_mark=True)]
)
def test_details_travel(detail: Detail) -> None:
    """An encoded detail decodes to the same value, and is one line."""
    text = encode_detail(detail)
    assert b"\n" not in text
    assert decode_detail(text) == detail


def test_the_least_is_said() -> None:
    """The detail of a push for all is empty, and `null` decodes to the same detail."""
    assert encode_detail(Detail()) == b"{}"
    assert decode_detail(b"null") == Detail()
    assert decode_detail(MARK).is_mark


#: One of the uuids that subscribers have.
UUID = "01234567-89ab-4def-8123-456789abcdef"


def push_to(recipients: list[str]) -> bytes:
    """The body of a push to these uuids."""
    data = {"channel": "c", "channelToken": "t", "recipients": recipients, "message": "m"}
    return json.dumps({"messageType": "SERVER_ACTION", "action": "PUSH_MESSAGE", "data": data}).encode()


@pytest.mark.parametrize("recipients", [[UUID] * (MAX_RECIPIENTS + 1), ["u" * 36]])
def test_recipients_are_bounded(recipients: list[str]) -> None:
    """They travel to every node and stand in the history: their number has a bound, and each is a uuid."""
    with pytest.raises(Malformed, match=INVALID_MESSAGE) as refusal:
        decode(push_to(recipients), PushAction)
    assert "data.recipients" in refusal.value.details
    assert decode(push_to([UUID] * MAX_RECIPIENTS), PushAction)


@pytest.mark.parametrize(
    ("recipients", "text"),
    [
        (json.dumps([UUID] * (MAX_RECIPIENTS + 1)), INVALID_MESSAGE),
        (json.dumps(["u" * 36]), INVALID_MESSAGE),
        ("5", INVALID_MESSAGE),
        ("[" * 5_000 + "]" * 5_000, BAD_JSON),
        (r'["\ud800"]', BAD_JSON),
    ],
)
def test_recipients_of_a_long_push(recipients: str, text: str) -> None:
    """They are read later than the rest, with the same bounds and the same words."""
    with pytest.raises(Malformed, match=text) as refusal:
        read_recipients(recipients.encode())
    assert refusal.value.details.startswith("data.recipients")
    action = decode(push_to([UUID] * MAX_RECIPIENTS), LongPushAction)
    assert read_recipients(bytes(action.data.recipients)) == [UUID] * MAX_RECIPIENTS


def test_long_text_of_the_wrong_shape_costs_little() -> None:
    """No objects are built of what is refused anyway: a list of half a million items costs some milliseconds."""
    for payload in (b"[" + b"0," * 499_999 + b"0]", b"[" + b"0," * 499_999 + b"]"):
        tracemalloc.start()
        with pytest.raises(Malformed):
            decode(payload, ClientAction)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(payload)
