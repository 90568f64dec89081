"""The redirect to https: the place it names, and requests that name none."""

from __future__ import annotations

from typing import Any

import pytest

from app.node.redirect import Redirect


async def ask(
    port: int = 443, method: str = "GET", kind: str = "http", **scope: Any
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The status, headers and body of the answer to a request for `/a?b`, unless `scope` says otherwise."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    asked = {"type": kind, "raw_path": b"/a", "query_string": b"b", "headers": [(b"host", b"example.com")], **scope}
    await Redirect(lambda: port)(asked if kind == "websocket" else asked | {"method": method}, None, send)  # type: ignore[arg-type]
    start, body = said
    assert start["type"] == ("websocket.http.response.start" if kind == "websocket" else "http.response.start")
    return start["status"], dict(start["headers"]), body["body"]


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [
        (b"example.com", 443, b"https://example.com/a?b"),
        (b"example.com:80", 443, b"https://example.com/a?b"),
        (b"example.com:80", 1337, b"https://example.com:1337/a?b"),
        (b"[::1]:80", 1337, b"https://[::1]:1337/a?b"),
        (b"192.0.2.1", 443, b"https://192.0.2.1/a?b"),
    ],
)
async def test_the_place(host: bytes, port: int, place: bytes) -> None:
    """The host stays, the port is that of HTTPS, and path and query stay as they are."""
    status, headers, _ = await ask(port, headers=[(b"host", host)])
    assert (status, headers[b"location"]) == (301, place)
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"a b")],
        [(b"host", b"user@example.com")],
        [(b"host", b"example.com/x")],
        [(b"host", b"a" * 300)],
        [(b"host", b"a"), (b"host", b"b")],
    ],
)
async def test_no_place(headers: list[tuple[bytes, bytes]]) -> None:
    """A request without one readable host is refused: nothing of it gets into an address."""
    status, answered, _ = await ask(headers=headers)
    assert status == 400
    assert b"location" not in answered


async def test_methods() -> None:
    """A read moves for good; any other method is kept. HEAD has no body, and an upgrade is answered like a read."""
    assert (await ask(method="POST"))[0] == 308
    status, _, body = await ask(method="HEAD")
    assert (status, body) == (301, b"")
    assert (await ask(kind="websocket"))[0] == 301
    assert (await ask(raw_path=b"http://evil/"))[0] == 400
    assert (await ask(query_string=b""))[1][b"location"] == b"https://example.com/a"
