"""The body, the key and the path of a request, as every protocol reads them."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.config.settings import Site
from app.errors import BadRequest
from app.protocols import http_request
from app.protocols.http_request import key_in, query_of, read_body, segments_of
from app.protocols.topics.exchange import Exchange
from app.socketio.engine_request import parse_query


class Body:
    """A request whose body arrives in parts. Lives for one test."""

    def __init__(self, *parts: bytes, is_cut: bool = False) -> None:
        self._parts: Iterator[bytes] = iter(parts)
        self._left = len(parts)
        self._is_cut = is_cut

    async def receive(self) -> dict[str, Any]:
        """Returns the next part, or the caller's disconnect."""
        if self._is_cut and not self._left:
            return {"type": "http.disconnect"}
        self._left -= 1
        more_body = bool(self._left) or self._is_cut
        return {"type": "http.request", "body": next(self._parts), "more_body": more_body}


async def test_body_in_parts_is_one() -> None:
    """The parts are joined in their order."""
    assert await read_body({}, Body(b"a", b"bc", b"").receive, 3) == b"abc"


async def test_body_over_its_bound_is_refused() -> None:
    """A body over its bound gets 413, by its announced length and by its counted length."""
    for headers, body in (({b"content-length": b"4"}, Body(b"")), ({}, Body(b"ab", b"cd"))):
        with pytest.raises(BadRequest, match="at most 3 bytes") as refusal:
            await read_body(headers, body.receive, 3)
        assert refusal.value.status == 413


async def test_body_that_breaks_off_is_refused() -> None:
    """A body that breaks off gets 400, because the missing part is unknown."""
    with pytest.raises(BadRequest, match="broke off") as refusal:
        await read_body({}, Body(b"{", is_cut=True).receive, 10)
    assert refusal.value.status == 400


async def test_body_that_trickles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that trickles gets 408 after the time-out, for any length."""
    monkeypatch.setattr(http_request, "BODY_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(BadRequest, match="within") as refusal:
        await read_body({}, asyncio.Event().wait, 10)  # type: ignore[arg-type]  # never answers
    assert refusal.value.status == 408


@pytest.mark.parametrize(
    ("encoding", "compress"), [(b"gzip", gzip.compress), (b"X-GZIP", gzip.compress), (b"deflate", zlib.compress)]
)
async def test_compressed_body_is_inflated(encoding: bytes, compress: Callable[[bytes], bytes]) -> None:
    """A body in one of the encodings that Node's body-parser knows is read as the text that was compressed."""
    headers = {b"content-encoding": encoding}
    body = await read_body(headers, Body(compress(b"abc")).receive, 100, may_be_compressed=True)
    assert body == b"abc"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "reason"),
    [
        (b"gzip", gzip.compress(b"a" * 101, mtime=0), 413, "at most 100 bytes"),
        (b"gzip", gzip.compress(b"a", mtime=0)[:-1], 400, "one whole compressed body"),
        (b"gzip", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), 400, "one whole compressed body"),
        (b"gzip", b"", 400, "one whole compressed body"),
        (b"gzip", b"{}", 400, "as Content-Encoding says"),
        (b"br", b"{}", 415, "expected gzip, deflate or none"),
        (b"gzip, gzip", b"{}", 415, "expected gzip, deflate or none"),
    ],
)
async def test_compressed_body_that_is_refused(encoding: bytes, body: bytes, status: int, reason: str) -> None:
    """A body is bounded by what it becomes, and each mistake is named."""
    with pytest.raises(BadRequest, match=reason) as refusal:
        await read_body({b"content-encoding": encoding}, Body(body).receive, 100, may_be_compressed=True)
    assert refusal.value.status == status


async def test_callers_without_a_key_send_no_compressed_body() -> None:
    """A few bytes from a stranger must not become a large body."""
    with pytest.raises(BadRequest, match="Content-Encoding: expected none") as refusal:
        await read_body({b"content-encoding": b"gzip"}, Body(gzip.compress(b"a")).receive, 100)
    assert refusal.value.status == 415


async def test_byte_order_mark_is_no_part_of_the_body() -> None:
    """Editors on Windows put it in front of JSON; Node's body-parser takes it off."""
    assert await read_body({}, Body(b"\xef\xbb\xbf{}").receive, 10) == b"{}"
    assert await read_body({b"content-encoding": b"identity"}, Body(b"{}").receive, 10) == b"{}"


def test_first_of_equal_parameters_counts() -> None:
    """Every door has the same rule, so that no two of them read different values out of one query."""
    query = b"apiKey=first&x=1&apiKey=second"
    scope = {"query_string": query, "method": "GET", "headers": []}
    assert query_of(scope)["apiKey"] == "first"
    assert Exchange(Site(name="s", api_key="k"), scope, Body().receive, no_answer).query["apiKey"] == "first"
    assert parse_query(query)["apiKey"] == "first"


async def no_answer(_: object) -> None:
    """Nothing is sent in these tests."""


@pytest.mark.parametrize(
    ("query", "headers", "key"),
    [
        (b"apiKey=k", {}, "k"),
        (b"", {b"x-api-key": b"k"}, "k"),
        (b"", {b"authorization": b"bearer k"}, "k"),
        (b"apiKey=", {b"x-api-key": b"k"}, "k"),
        (b"", {b"authorization": b"Basic k"}, ""),
        (b"", {}, ""),
    ],
)
def test_key_may_stand_in_three_places(query: bytes, headers: dict[bytes, bytes], key: str) -> None:
    """The key is read from the query, from X-API-Key, or from a bearer token, and from no other place."""
    assert key_in(query_of({"query_string": query}), headers) == key


def test_segments_are_decoded_one_by_one() -> None:
    """An encoded slash is part of its segment. A server without a raw path gives no way to tell the two apart."""
    assert segments_of({"raw_path": b"/channels/a%2Fb/push", "path": "/channels/a/b/push"}) == [
        "channels",
        "a/b",
        "push",
    ]
    assert segments_of({"raw_path": b"/channels/%C3%A9/?x=/", "path": ""}) == ["channels", "é"]
    assert segments_of({"path": "/channels/é"}) == ["channels", "é"]
