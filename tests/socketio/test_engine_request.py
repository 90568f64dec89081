"""Reading requests and refusing them."""

from __future__ import annotations

import json
import sys

import pytest

from app.socketio.engine_request import (
    Handshake,
    Headers,
    Refusal,
    cross_origin_headers,
    origin_of,
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


def test_origin() -> None:
    """The Origin header is found, or there is none."""
    assert origin_of([(b"host", b"x"), (b"origin", b"https://a.example")]) == "https://a.example"
    assert origin_of([(b"host", b"x")]) is None


def test_handshake_keeps_no_header() -> None:
    """A session outlives its request: of the headers only the origin is kept."""
    cookie = b"c" * 1000
    scope = {"query_string": b"", "headers": [(b"cookie", cookie), (b"origin", b"https://a.example")]}
    before = sys.getrefcount(cookie)
    handshake = Handshake.of(scope)
    assert handshake.origin == "https://a.example"
    del scope
    assert sys.getrefcount(cookie) < before


def test_handshake_hides_secrets() -> None:
    """Neither the query nor the headers are in a handshake's repr."""
    scope = {"query_string": b"token=s3cret", "headers": [(b"cookie", b"s3cret")], "client": ("192.0.2.1", 5)}
    handshake = Handshake.of(scope)
    assert handshake.client_address == "192.0.2.1"
    assert "s3cret" not in repr(handshake)
    assert Handshake.of({"headers": []}).client_address == ""


async def test_wait_for_disconnect() -> None:
    """The rest of the request is skipped until the client goes."""
    await wait_for_disconnect(receiving(chunk(b"", more_body=False), {"type": "http.disconnect"}))


@pytest.mark.parametrize("refusal", Refusal)
def test_refusals_are_the_protocols(refusal: Refusal) -> None:
    """Each refusal is a client error, or that of a server that ends, with a JSON body of code and message."""
    assert 400 <= refusal.status < 500 or refusal is Refusal.DRAINING
    assert bool(refusal.headers) is (refusal is Refusal.DRAINING)
    assert set(json.loads(refusal.body)) == {"code", "message"}


CORS_ORIGIN = b"access-control-allow-origin"
CREDENTIALS = (b"access-control-allow-credentials", b"true")
METHODS = (b"access-control-allow-methods", b"OPTIONS, GET, POST")
VARY = (b"vary", b"origin")


@pytest.mark.parametrize(
    ("method", "origin", "headers"),
    [
        ("GET", b"https://a", [(CORS_ORIGIN, b"https://a"), CREDENTIALS, VARY]),
        ("OPTIONS", b"https://a", [(CORS_ORIGIN, b"https://a"), METHODS, CREDENTIALS, VARY]),
        ("GET", b"https://b", [CREDENTIALS, VARY]),
        ("OPTIONS", b"https://b", [METHODS, CREDENTIALS, VARY]),
        ("GET", None, []),
    ],
)
def test_cross_origin_headers(method: str, origin: bytes | None, headers: Headers) -> None:
    """The answers of python-engineio's server, in its order: a page of an origin that is not listed reads nothing."""
    scope = {"method": method, "headers": [] if origin is None else [(b"origin", origin)]}
    assert cross_origin_headers(scope, ["https://a"]) == headers
    expected = headers if origin is None or headers[0][1] == origin else [(CORS_ORIGIN, origin), *headers]
    assert cross_origin_headers(scope, None) == expected


def test_cross_origin_headers_that_a_page_asks_for() -> None:
    """The headers that a preflight names are allowed, in front of the credentials."""
    scope = {"method": "GET", "headers": [(b"origin", b"https://a"), (b"access-control-request-headers", b"x-a")]}
    allowed = (b"access-control-allow-headers", b"x-a")
    assert cross_origin_headers(scope, None) == [(CORS_ORIGIN, b"https://a"), allowed, CREDENTIALS, VARY]
