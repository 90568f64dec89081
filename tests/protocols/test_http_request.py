"""The body, the key and the path of a request, as every protocol reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from app.errors import BadRequest
from app.protocols import http_request
from app.protocols.http_request import key_in, query_of, read_body, segments_of


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
