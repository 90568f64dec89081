"""Bodies of POST /send: JSON and forms become rooms, event and the text for clients, or a reason."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.protocols.sites.send_body import MAX_CONTAINERS, RESERVED_EVENTS, SendBody, read_send_body

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def read_json(**keys: Any) -> SendBody:
    """Reads a JSON body with these keys."""
    return read_send_body(JSON, json.dumps({"rooms": ["r"], "event": "e"} | keys).encode())


def read_args(text: str) -> bytes:
    """The packed arguments of a body with this text as `args`."""
    return read_send_body(JSON, f'{{"rooms":["r"],"event":"e","args":{text}}}'.encode()).packed


def test_json_body() -> None:
    """Rooms, event and arguments are read. Unknown keys are left out."""
    body = b'{"rooms": ["a", "b"], "event": "news", "args": [1, {"x": null}], "more": {"rooms": 1}}'
    assert read_send_body(JSON, body) == SendBody(["a", "b"], "news", b'["news",1, {"x": null}]')


@pytest.mark.parametrize(
    ("args", "packed"),
    [
        ("[]", '["e"]'),
        ("[ ]", '["e"]'),
        ("null", '["e",null]'),
        ("[null]", '["e",null]'),
        ('"text"', '["e","text"]'),
        ("7", '["e",7]'),
        ("false", '["e",false]'),
        ("{}", '["e",{}]'),
        ('{"a":[1]}', '["e",{"a":[1]}]'),
        ("[[]]", '["e",[]]'),
        ("[[1],[2]]", '["e",[1],[2]]'),
        (" [ 1 , 2 ] ", '["e",1 , 2]'),
        ("[1.0, 1e3, 12345678901234567890, -0.10]", '["e",1.0, 1e3, 12345678901234567890, -0.10]'),
        ('["ü😀\\u00fc\\n"]', '["e","ü😀\\u00fc\\n"]'),
        ('["]"]', '["e","]"]'),
    ],
)
def test_arguments_are_kept_as_they_were_sent(args: str, packed: str) -> None:
    """A list is the arguments; any other value is the only argument. Numbers and escapes keep their spelling."""
    assert read_args(args).decode() == packed


def test_half_of_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """JSON.stringify in Node escapes a text that was cut in the middle of an emoji; all the rest stays as it was."""
    assert read_args(r'["cut \ud83d", "\ud83d\ude00", "\\ud83d"]') == rb'["e","cut \ufffd", "\ud83d\ude00", "\\ud83d"]'
    body = rb'{"rooms":["r\udc00"],"event":"e\ud83d!"}'
    assert read_send_body(JSON, body) == SendBody(["r\ufffd"], "e\ufffd!", '["e\ufffd!",null]'.encode())


def test_left_out_arguments() -> None:
    """Without `args` there is one argument, null."""
    assert read_json().packed == b'["e",null]'


def test_event_names_are_escaped() -> None:
    """The packet is JSON for any name of an event."""
    for event in ('say "hi"', "a\\b", "new\nline", "ü", "\u2028", "connected"):
        sent = read_json(event=event, args=[1])
        assert json.loads(sent.packed) == [event, 1]
        assert sent.event == event


def test_one_room() -> None:
    """A single room may stand without a list, also with an empty name. An empty list is a list."""
    assert read_json(rooms="r").rooms == ["r"]
    assert read_json(rooms="").rooms == [""]
    assert read_json(rooms=[]).rooms == []


def test_rooms_that_are_numbers() -> None:
    """A room that is a number is its text, as in JavaScript."""
    assert read_json(rooms=[5, "a", 1.5]).rooms == ["5", "a", "1.5"]
    assert read_json(rooms=5).rooms == ["5"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Body: expected JSON"),
        (b"{", "Body: expected JSON"),
        (b"{}x", "Body: expected JSON"),
        (b"nonsense", "Body: expected JSON"),
        (b"[]", "Body: Expected `object`"),
        (b"null", "Body: Expected `object`"),
        (b'{"event":"e"}', "rooms: expected"),
        (b'{"rooms":null,"event":"e"}', "rooms: expected"),
        (b'{"rooms":["r"]}', "event: expected"),
        (b'{"rooms":["r"],"event":null}', "event: expected"),
        (b'{"rooms":["r"],"event":""}', "event: expected"),
        (b'{"rooms":true,"event":"e"}', "Body: rooms: Expected"),
        (b'{"rooms":["r",[5]],"event":"e"}', r"Body: rooms\[1\]: Expected `int | float | str`"),
        (b'{"rooms":{"a":"r"},"event":"e"}', "Body: rooms: Expected"),
        (b'{"rooms":["r"],"event":5}', "Body: event: Expected"),
        (b'{"rooms":["r"],"event":["e"]}', "Body: event: Expected"),
        (b'{"rooms":["r"],"event":"e","args":[}', "Body: expected JSON"),
        (b'{"rooms":["r"],"event":"e","args":[NaN]}', "Body: expected JSON"),
        (b'{"rooms":["r"],"event":"\xff"}', "Body: expected JSON in UTF-8"),
        (b'{"rooms":["r"],"event":"e","args":["\xc3"]}', "Body: expected JSON in UTF-8"),
        (b"[" * 100_000, "Body: "),
        (b'{"rooms":["r"],"event":"e","args":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (
            b'{"rooms":["r"],"event":"e","args":' + b"[" * 201 + b"]" * 201 + b"}",
            "args: nested too deeply, .* 200 levels",
        ),
    ],
)
def test_bad_json(body: bytes, reason: str) -> None:
    """The reason names the mistake and the expected value."""
    with pytest.raises(BadRequest, match=reason) as caught:
        read_send_body(JSON, body)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("event", sorted(RESERVED_EVENTS))
def test_reserved_events(event: str) -> None:
    """The server's own events cannot be sent, neither as JSON nor as a form."""
    with pytest.raises(BadRequest, match=f"event: {event} is reserved"):
        read_json(event=event)
    with pytest.raises(BadRequest, match=f"event: {event} is reserved"):
        read_send_body(FORM, f"rooms[]=r&event={event}".encode())


@pytest.mark.parametrize("content_type", ["", JSON, "Application/JSON; charset=utf-8", " application/vnd.x+json"])
def test_content_types_of_json(content_type: str) -> None:
    """JSON is accepted by its usual content types, and without one."""
    assert read_send_body(content_type, b'{"rooms":"r","event":"e"}').rooms == ["r"]


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "json", "application/xml"])
def test_other_content_types(content_type: str) -> None:
    """Any other content type is refused with the expected ones."""
    with pytest.raises(BadRequest, match="Content-Type: expected application/json or"):
        read_send_body(content_type, b'{"rooms":"r","event":"e"}')


@pytest.mark.parametrize(
    ("form", "rooms", "packed"),
    [
        ("rooms[]=a&rooms[]=b&event=e&args[]=1&args[]=x", ["a", "b"], ["e", "1", "x"]),
        ("rooms[0]=a&rooms[1]=b&event=e&args[0]=x&args[1][id]=1", ["a", "b"], ["e", "x", {"id": "1"}]),
        ("rooms=a&event=e", ["a"], ["e", None]),
        ("rooms=a&event=e&args=x", ["a"], ["e", "x"]),
        ("rooms=a&event=e&args=", ["a"], ["e", ""]),
        ("rooms=a&event=e&args[id]=1&args[tags][]=x&args[tags][]=y", ["a"], ["e", {"id": "1", "tags": ["x", "y"]}]),
        ("rooms=a&event=e&args[0][0]=x", ["a"], ["e", ["x"]]),
        ("rooms%5B%5D=a%26b&event=a+b&args%5B%5D=%C3%BC%F0%9F%98%80", ["a&b"], ["a b", "ü😀"]),
        ("event=e&rooms[]=a&other[x]=1&args[]=%22", ["a"], ["e", '"']),
    ],
)
def test_form(form: str, rooms: list[str], packed: list[object]) -> None:
    """Bracketed keys make lists and objects. All values are texts."""
    sent = read_send_body(f"{FORM}; charset=UTF-8", form.encode())
    assert (sent.rooms, json.loads(sent.packed)) == (rooms, packed)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (b"", "rooms: expected"),
        (b"event=e", "rooms: expected"),
        (b"rooms[]=a", "event: expected"),
        (b"rooms[]=a&event=", "event: expected"),
        (b"rooms[x]=a&event=e", "rooms to be a text or a list"),
        (b"rooms[][x]=a&event=e", "rooms to be a text or a list"),
        (b"rooms[]=a&event[]=e", "event a text"),
        (b'{"rooms":["a"],"event":"e"}', "looks like JSON"),
        (b"rooms[]=a&event=\xff", "in UTF-8"),
        (b"rooms[]=a&event=%ff", "in UTF-8"),
    ],
)
def test_bad_form(form: bytes, reason: str) -> None:
    """The reason names the mistake and the expected value."""
    with pytest.raises(BadRequest, match=reason):
        read_send_body(FORM, form)


bodies = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='{}[]":,\\ru0d8 roomsevnta1.-e', max_size=200).map(str.encode),
    st.text(alphabet="rooms[]event=&args%0cé+1", max_size=200).map(str.encode),
    st.lists(st.tuples(st.sampled_from(["rooms", "event", "args"]), st.text(max_size=8), st.text(max_size=8))).map(
        lambda fields: "&".join(f"{name}[{quote(key)}]={quote(value)}" for name, key, value in fields).encode()
    ),
)


@given(st.sampled_from([JSON, FORM, ""]), bodies)
def test_random_bytes_are_refused_or_understood(content_type: str, body: bytes) -> None:
    """Any bytes give either a reason or a packet that is valid JSON and begins with the event."""
    with suppress(BadRequest):
        sent = read_send_body(content_type, body)
        assert json.loads(sent.packed)[0] == sent.event


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.text(min_size=1), st.lists(json_values, max_size=4), st.booleans())
def test_any_arguments_arrive_as_sent(event: str, args: list[object], is_ascii: bool) -> None:
    """Every JSON value reaches the client as the backend wrote it, with or without escapes."""
    body = json.dumps({"args": args, "rooms": [], "event": event}, ensure_ascii=is_ascii).encode()
    if event not in RESERVED_EVENTS:
        assert json.loads(read_send_body(JSON, body).packed) == [event, *args]


def test_containers_are_bounded() -> None:
    """The lists and objects of a message are counted before their nesting is looked at."""
    args = "[" + ",".join(["{}"] * (MAX_CONTAINERS - 1)) + "]"
    assert read_args(args).startswith(b'["e",{},')
    with pytest.raises(BadRequest, match=f"^args: expected at most {MAX_CONTAINERS} lists and objects.$"):
        read_args("[[]," + args[1:])
