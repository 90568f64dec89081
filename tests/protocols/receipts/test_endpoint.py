"""The HTTP side of receipts: keys, methods, the bounds of a request, errors as text and as JSON with a code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import pytest
from starlette.routing import Route

from app.config.settings import Site
from app.observe.counts import Counts
from app.protocols.receipts.cursor import list_name
from app.protocols.receipts.endpoint import Gate, ReceiptEndpoint
from app.protocols.receipts.figures import ReceiptsCounts, UnknownAskers
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.settings import MAX_UNDER_WAY
from app.protocols.site_keys import ApiKeys
from tests.protocols.receipts.asking import KEY, OTHER_KEY, SITES, Backend
from tests.support.store import StoreNode
from tests.support.valkey import Valkey
from tests.support.waiting import until

PATHS = ("/messages", "/messages/5", "/devices", "/devices/queue", "/trace")


class Slow:
    """A handler that answers when the test says so."""

    def __init__(self) -> None:
        """Nobody has asked."""
        self.asked = 0
        self.may_answer = asyncio.Event()

    def was_asked(self, times: int) -> bool:
        """Whether so many requests have come."""
        return self.asked >= times

    async def __call__(self, site: Site, query: Parameters, path: Mapping[str, str]) -> dict[str, Any]:
        """Waits for the test."""
        self.asked += 1
        await self.may_answer.wait()
        return {"ok": True, "devices": 0}


@pytest.fixture
def counts() -> Counts:
    """The counts of a node."""
    return Counts()


@pytest.fixture
def gate(counts: Counts) -> Gate:
    """The gate of a node."""
    return Gate(ApiKeys(SITES, counts), counts)


@pytest.fixture
async def slow() -> Slow:
    """A handler without an answer."""
    return Slow()


@pytest.fixture
async def waiting(gate: Gate, slow: Slow) -> AsyncIterator[Backend]:
    """A tenant's backend that asks a slow handler."""
    backend = Backend([Route("/slow", ReceiptEndpoint(gate, {"GET": slow}))])
    yield backend
    await backend.close()


@pytest.mark.parametrize("path", PATHS)
async def test_keys(backend: Backend, path: str) -> None:
    """No site and no key are 400 in the words of /send; an unknown site and a wrong key are the same 401."""
    missing = await backend.ask(path, site="", text=True)
    assert (missing.status_code, missing.text) == (400, "Missing query param 'site' or 'apiKey'.")
    answers = [await backend.ask(path, key="wrong"), await backend.ask(path, site="nowhere")]
    answers.append(await backend.ask(path, key=OTHER_KEY))
    expected = {"ok": False, "error": "ApiKey invalid.", "code": "invalid_key"}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(401, expected)] * 3
    assert await backend.code(path, site="") == (400, "missing_key")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "TRACE"])
async def test_other_methods(backend: Backend, path: str, method: str) -> None:
    """A method that a path does not have is 405, with those that it has."""
    answer = await backend.ask(path, method)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    expected = "DELETE, GET" if path in ("/messages/5", "/devices") else "GET"
    assert answer.headers["allow"] == expected


async def test_key_in_query_and_bearer(backend: Backend) -> None:
    """The key stands where /send takes it."""
    for place in ({"params": {"apiKey": KEY}}, {"headers": {"authorization": f"Bearer {KEY}"}}):
        given: dict[str, Any] = {"params": {}, **place}
        given["params"] |= {"site": "shop", "user": "user_1"}
        assert (await backend.client.get("/devices", **given)).status_code == 200


async def test_errors_as_text(backend: Backend) -> None:
    """Without Accept an error is its text; an answer of GET is JSON in any case, and is not to be cached."""
    answer = await backend.ask("/devices", text=True)
    assert (answer.status_code, answer.text) == (400, "Missing query param 'user'.")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    answer = await backend.ask("/devices", text=True, user="user_1")
    assert (answer.headers["content-type"], answer.json()) == ("application/json", {"devices": [], "cursor": None})
    assert answer.headers["cache-control"] == "no-store"


async def test_requests_under_way(waiting: Backend, slow: Slow, counts: Counts) -> None:
    """A site has so many requests under way; a further one is 429 at once, and another site is not concerned."""
    asked = [asyncio.create_task(waiting.ask("/slow")) for _ in range(MAX_UNDER_WAY)]
    await until(lambda: slow.asked == MAX_UNDER_WAY, "the requests")
    refused = await waiting.ask("/slow")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "1"
    other = asyncio.create_task(waiting.ask("/slow", site="other", key=OTHER_KEY))
    await until(lambda: slow.asked == MAX_UNDER_WAY + 1, "the other site")
    slow.may_answer.set()
    assert {answer.status_code for answer in await asyncio.gather(*asked, other)} == {200}
    assert (await waiting.ask("/slow")).status_code == 200
    assert counts.of("shop").part(ReceiptsCounts).requests == {"answered": MAX_UNDER_WAY + 1, "limited": 1}


async def test_a_request_has_a_time(waiting: Backend, gate: Gate, slow: Slow) -> None:
    """A request that takes too long is 503, and its place is free again."""
    gate.turns.seconds = 0.01
    for _ in range(MAX_UNDER_WAY + 2):
        answer = await waiting.ask("/slow")
        assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")


async def test_a_caller_that_leaves(waiting: Backend, slow: Slow) -> None:
    """A cancelled request gives its place back."""
    for _ in range(MAX_UNDER_WAY + 2):
        before = slow.asked
        task = asyncio.create_task(waiting.ask("/slow"))
        await until(partial(slow.was_asked, before + 1), "the request")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    slow.may_answer.set()
    assert (await waiting.ask("/slow")).status_code == 200


async def test_redis_away(backend: Backend, node: StoreNode, valkey: Valkey) -> None:
    """While Redis is away the answer is 503 with Retry-After, at once."""
    await node.redis.close()
    questions: list[tuple[str, dict[str, Any]]] = [
        ("/devices", {"user": "u"}),
        ("/messages", {"state": "waiting"}),
        ("/messages/5", {}),
    ]
    for path, query in questions:
        answer = await backend.ask(path, **query)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"] == "1"
    assert (await backend.ask("/messages/5", "DELETE")).status_code == 503
    assert valkey.client.ping()


async def test_counts(backend: Backend, node: StoreNode) -> None:
    """Requests count by result; those without a key do not count in any site."""
    await backend.ask("/devices", user="user_1")
    await backend.ask("/devices")
    await backend.ask("/trace", user="user_1")
    await backend.ask("/devices", key="wrong")
    await backend.ask("/devices", "POST")
    assert node.counts.of("shop").part(ReceiptsCounts).requests == {"answered": 1, "refused": 2}
    assert node.counts.part(UnknownAskers).requests == 2


def test_the_name_of_a_list() -> None:
    """A cursor belongs to a path and to the filters, in whatever order these stand; key and limit are no part of it."""
    one = list_name("/messages", {"site": "a", "event": "b", "limit": "5", "apiKey": "k", "cursor": "c"})
    assert one == list_name("/messages", {"event": "b", "site": "a"})
    assert one != list_name("/messages", {"event": "b", "site": "a", "room": ""})
    assert one != list_name("/devices", {"event": "b", "site": "a"})
