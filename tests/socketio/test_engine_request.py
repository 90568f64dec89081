"""Reading requests and refusing them."""

from __future__ import annotations

import json
import sys
from urllib.parse import urlencode

import pytest

from app.socketio.engine_request import (
    Handshake,
    KeptFields,
    Refusal,
    parse_query,
    wait_for_disconnect,
)
from tests.transport.receiving import chunk, receiving


@pytest.mark.parametrize(
    ("query_string", "values"),
    [
        (b"", {}),
        (b"EIO=4&transport=polling", {"EIO": "4", "transport": "polling"}),
        (b"a=1&a=2", {"a": "1"}),
        (b"token=a%20b+c%2C&empty=", {"token": "a b c,", "empty": ""}),
        (b"x=%ff\xff&=&&", {"x": "\ufffd\ufffd", "": ""}),
    ],
)
def test_query(query_string: bytes, values: dict[str, str]) -> None:
    """Of a repeated name the first value counts, bad bytes are no error."""
    assert parse_query(query_string) == values


def test_handshake_keeps_no_header() -> None:
    """A session outlives its request: it keeps none of the headers."""
    cookie = b"c" * 1000
    scope = {"query_string": b"", "headers": [(b"cookie", cookie), (b"origin", b"https://a.example")]}
    before = sys.getrefcount(cookie)
    handshake = Handshake.of(scope)
    assert handshake.client_address == ""
    del scope
    assert sys.getrefcount(cookie) < before


def test_query_with_many_fields() -> None:
    """Of a query of thousands of fields only the first are read: it costs little, however often it is asked for."""
    handshake = Handshake(b"token=1&" + b"&".join(b"a%d=" % number for number in range(20_000)), "")
    assert len(handshake.query) == 64
    assert handshake.query["token"] == "1"


def test_session_keeps_what_is_read_of_a_query() -> None:
    """Of a query of 64 KB a session keeps the fields that somebody reads, each a byte longer than it may be at most."""
    value = "é" * 10_000
    query = urlencode({"EIO": "4", "deviceId": "d", "token": value, "other": "x" * 20_000}).encode()
    kept = Handshake(query, "192.0.2.1").keep(KeptFields({"token": 100, "deviceId": 100, "meta": 100}))
    assert kept.client_address == "192.0.2.1"
    assert kept.query.keys() == {"token", "deviceId"}
    assert kept.query["deviceId"] == "d"
    assert 100 < len(kept.query["token"].encode()) < 110
    assert sys.getsizeof(kept._query) < 200
    exact = Handshake(b"token=%C3%A9a", "").keep(KeptFields({"token": 3}))
    assert exact.query == {"token": "éa"}


def test_handshake_hides_secrets() -> None:
    """Neither the query nor the headers are in a handshake's repr."""
    scope = {"query_string": b"token=s3cret", "headers": [(b"cookie", b"s3cret")], "client": ("192.0.2.1", 5)}
    handshake = Handshake.of(scope)
    assert handshake.client_address == "192.0.2.1"
    assert "s3cret" not in repr(handshake)
    assert Handshake.of({"headers": []}).client_address == ""


def test_handshake_keeps_the_user_agent() -> None:
    """A session knows the begin of its user agent; equal ones share their memory."""
    scopes = [{"headers": [(b"host", b"a"), (b"user-agent", b"Mozilla/5.0 " + b"x" * 9_000)]} for _ in range(2)]
    first, second = map(Handshake.of, scopes)
    assert first.user_agent == ("Mozilla/5.0 " + "x" * 9_000)[:256]
    assert first.user_agent is second.user_agent
    assert Handshake.of({"headers": []}).user_agent == ""


async def test_wait_for_disconnect() -> None:
    """The rest of the request is skipped until the client goes."""
    await wait_for_disconnect(receiving(chunk(b"", more_body=False), {"type": "http.disconnect"}))


@pytest.mark.parametrize("refusal", Refusal)
def test_refusals_are_the_protocols(refusal: Refusal) -> None:
    """Each refusal is a client error, or that of a server that ends, with a JSON body of code and message."""
    assert 400 <= refusal.status < 500 or refusal is Refusal.DRAINING
    assert bool(refusal.headers) is (refusal in (Refusal.DRAINING, Refusal.TOO_MANY_SESSIONS))
    assert set(json.loads(refusal.body)) == {"code", "message"}


@pytest.mark.parametrize("name", [b"token", b"%74oken", b"to%6ben"])
def test_a_kept_field_is_found_in_any_spelling(name: bytes) -> None:
    """A session keeps a field whose name is written with percent signs; a query without any costs no reading."""
    fields = KeptFields({"token": 100})
    assert Handshake(b"EIO=4&" + name + b"=1", "").keep(fields).query == {"token": "1"}
    assert not fields.may_be_in(b"EIO=4&transport=websocket")
    assert Handshake(b"EIO=4&transport=websocket", "").keep(fields).query == {}
