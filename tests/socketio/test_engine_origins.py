"""The origins of a session's requests, and the headers for pages of other origins."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from app.socketio.engine_origins import (
    allow_origins,
    cross_origin_headers,
    hear_origin,
    origin_of,
    origin_of_request,
)
from app.socketio.engine_request import Headers

CORS_ORIGIN = b"access-control-allow-origin"
CREDENTIALS = (b"access-control-allow-credentials", b"true")
METHODS = (b"access-control-allow-methods", b"OPTIONS, GET, POST")
VARY = (b"vary", b"origin")
GOOD, EVIL = "https://good.example", "https://evil.example"


class Session:
    """A session as the judge of its origins sees it."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.origins: tuple[str, ...] = ()
        self.allowed_origins: Collection[str] | None = None


def test_origin() -> None:
    """Only browsers send the Origin header."""
    assert origin_of([(b"host", b"x"), (b"origin", b"https://a.example")]) == "https://a.example"
    assert origin_of([(b"host", b"x")]) is None


@pytest.mark.parametrize(
    ("headers", "query", "origin"),
    [
        ([(b"origin", b"https://a.example")], {"j": "0"}, "https://a.example"),
        ([(b"referer", b"https://A.example:8443/page?x#y")], {"j": "0"}, "https://a.example:8443"),
        ([(b"referer", b"https://a.example/")], {}, None),
        ([(b"referer", b"http://[::1")], {"j": "0"}, "null"),
        ([], {"j": "0"}, None),
    ],
)
def test_origin_of_a_request(headers: Headers, query: dict[str, str], origin: str | None) -> None:
    """Browsers send no Origin with a JSONP script, but a Referer; for other requests a Referer says nothing."""
    assert origin_of_request({"headers": headers}, query) == origin


def test_a_session_without_an_origin_learns_it() -> None:
    """A session that was opened without an origin is judged by the origin of what it posts."""
    session = Session()
    assert hear_origin(session, None)
    assert hear_origin(session, EVIL)
    assert not allow_origins(session, [GOOD])
    assert allow_origins(session, None)


def test_every_origin_counts() -> None:
    """One request from a page that is allowed does not let the page in that is not."""
    session = Session()
    assert hear_origin(session, GOOD)
    assert hear_origin(session, EVIL)
    assert not allow_origins(session, [GOOD])


def test_no_other_origin_after_the_join() -> None:
    """Once the session has joined a site, a request of another origin is refused; of several sites all must agree."""
    session = Session()
    assert hear_origin(session, GOOD)
    assert allow_origins(session, [GOOD, "https://also.example"])
    assert not hear_origin(session, EVIL)
    assert hear_origin(session, "https://also.example")
    assert hear_origin(session, None)
    assert allow_origins(session, [GOOD, "https://also.example", EVIL])
    assert not hear_origin(session, EVIL)


def test_origins_are_bounded() -> None:
    """A session that tells one origin after the other is refused."""
    session = Session()
    assert [hear_origin(session, f"https://{number}.example") for number in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("method", "origin", "headers"),
    [
        ("GET", b"https://a", [VARY, (CORS_ORIGIN, b"https://a"), CREDENTIALS]),
        ("OPTIONS", b"https://a", [VARY, (CORS_ORIGIN, b"https://a"), CREDENTIALS, METHODS]),
        ("GET", b"https://b", [VARY]),
        ("OPTIONS", b"https://b", [VARY]),
        ("GET", None, []),
    ],
)
def test_cross_origin_headers(method: str, origin: bytes | None, headers: Headers) -> None:
    """A page of an origin that is not listed reads nothing, and is told nothing."""
    scope = {"method": method, "headers": [] if origin is None else [(b"origin", origin)]}
    assert cross_origin_headers(scope, ["https://a"]) == headers
    if origin is not None:
        assert cross_origin_headers(scope, None)[1:3] == [(CORS_ORIGIN, origin), CREDENTIALS]


def test_cross_origin_headers_that_a_page_asks_for() -> None:
    """The headers that a preflight names are allowed."""
    scope = {"method": "GET", "headers": [(b"origin", b"https://a"), (b"access-control-request-headers", b"x-a")]}
    allowed = (b"access-control-allow-headers", b"x-a")
    assert cross_origin_headers(scope, None) == [VARY, (CORS_ORIGIN, b"https://a"), CREDENTIALS, allowed]
