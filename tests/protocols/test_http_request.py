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
    """A request whose body comes in parts; lives for one test."""

    def __init__(self, *parts: bytes, is_cut: bool = False) -> None:
        self._parts: Iterator[bytes] = iter(parts)
        self._left = len(parts)
        self._is_cut = is_cut

    async def receive(self) -> dict[str, Any]:
        """The next part, or the caller's end."""
        if self._is_cut and not self._left:
            return {"type": "http.disconnect"}
        self._left -= 1
        more_body = bool(self._left) or self._is_cut
        return {"type": "http.request", "body": next(self._parts), "more_body": more_body}


async def test_body_in_parts_is_one() -> None:
    """The parts are put together in their order."""
    assert await read_body({}, Body(b"a", b"bc", b"").receive, 3) == b"abc"


async def test_body_over_its_bound_is_refused() -> None:
    """413, by its length as it is announced and as it is counted."""
    for headers, body in (({b"content-length": b"4"}, Body(b"")), ({}, Body(b"ab", b"cd"))):
        with pytest.raises(BadRequest, match="at most 3 bytes") as refusal:
            await read_body(headers, body.receive, 3)
        assert refusal.value.status == 413


async def test_body_that_breaks_off_is_refused() -> None:
    """400: what was to come is unknown."""
    with pytest.raises(BadRequest, match="broke off") as refusal:
        await read_body({}, Body(b"{", is_cut=True).receive, 10)
    assert refusal.value.status == 400


async def test_body_that_trickles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """408 after a time, however long the caller would go on."""
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
    """In the query, in X-API-Key, or as bearer token; nowhere else."""
    assert key_in(query_of({"query_string": query}), headers) == key


def test_segments_are_decoded_one_by_one() -> None:
    """An encoded slash is part of its segment; a server that gives no raw path leaves no way to tell."""
    assert segments_of({"raw_path": b"/channels/a%2Fb/push", "path": "/channels/a/b/push"}) == [
        "channels",
        "a/b",
        "push",
    ]
    assert segments_of({"raw_path": b"/channels/%C3%A9/?x=/", "path": ""}) == ["channels", "é"]
    assert segments_of({"path": "/channels/é"}) == ["channels", "é"]
