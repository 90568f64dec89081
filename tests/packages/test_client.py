"""The connections of the Python package's clients: those of a process, those that the caller brings, and their end."""

from __future__ import annotations

import os

import httpx
import pytest

from recado_client import AsyncClient, Client

URL = ("http://127.0.0.1:1", "shop", "key")


def answered(request: httpx.Request) -> httpx.Response:
    """The answer of a server that stores everything."""
    return httpx.Response(200, json={"ok": True, "id": "1", "recipients": 0})


def test_a_process_that_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has forked opens connections of its own, and leaves those of its parent open."""
    client = Client(*URL)
    parent = client._http()
    assert client._http() is parent
    monkeypatch.setattr(os, "getpid", lambda: -1)
    child = client._http()
    assert child is not parent
    client.close()
    assert (child.is_closed, parent.is_closed) == (True, False)
    parent.close()


async def test_connections_of_the_caller() -> None:
    """A client of httpx that the caller brings is used, and stays open."""
    with httpx.Client(transport=httpx.MockTransport(answered)) as http:
        with Client(*URL, http=http) as client:
            assert client.send("all", "news").id == "1"
        assert not http.is_closed
    async with httpx.AsyncClient(transport=httpx.MockTransport(answered)) as loop_http:
        async with AsyncClient(*URL, http=loop_http) as loop_client:
            assert (await loop_client.send("all", "news")).id == "1"
        assert not loop_http.is_closed


async def test_a_client_that_was_closed() -> None:
    """A client may be closed twice, and opens connections again when it is used again."""
    client, loop_client = Client(*URL), AsyncClient(*URL)
    first, loop_first = client._http(), loop_client._http()
    for _ in range(2):
        client.close()
        await loop_client.aclose()
    assert first.is_closed
    assert loop_first.is_closed
    assert not client._http().is_closed
    assert not loop_client._http().is_closed
    client.close()
    await loop_client.aclose()
