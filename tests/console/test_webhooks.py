"""Webhooks as operators see them: every attempt, parked posts, tests; over pages and API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert

from app.backends.hook_poster import HookPoster
from app.clock import rfc3339
from app.journal.tables import sites, webhook_attempts
from app.webhooks import operations
from app.webhooks.hook_site import HookSite
from app.webhooks.operations import webhook_operations
from app.webhooks.redis_outbox import HookOutbox
from app.webhooks.site_sender import SiteSender
from tests.console.visitor import SITES, ConsoleNode, bearer
from tests.support.hook_receiver import HookReceiver
from tests.support.store import StoreNode
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.webhooks.conftest import hooked_site, receiver

__all__ = ["receiver"]

SCRIPT = "<script>alert(1)</script>"
PAGE = "/sites/shop/webhooks"


@pytest.fixture
async def hook(valkey: Valkey, receiver: HookReceiver) -> AsyncIterator[HookSite]:
    """The webhook of shop, which sends."""
    site = hooked_site(receiver)
    store = await StoreNode.start(valkey, [site])
    outbox = HookOutbox(store.redis, store.name, site)
    hook = HookSite(site, outbox, SiteSender(site, outbox, HookPoster(), store.counts))
    await outbox.set_up()
    hook.sender.start()
    yield hook
    await hook.close()
    await store.close()


@pytest.fixture
async def node(valkey: Valkey, database: str, hook: HookSite) -> AsyncIterator[ConsoleNode]:
    """A node whose console knows the webhook."""
    store = await StoreNode.start(valkey, list(SITES.values()))
    node = await ConsoleNode.begin(store, database, webhook_operations({"shop": hook}))
    yield node
    await node.close()


async def add_attempts(node: ConsoleNode, count: int, **values: Any) -> None:
    """Write attempts of shop, and one of news, into the journal."""
    row = {"site_id": 1, "webhook_id": "msg_1", "attempt": 1, "events": 2, "types": "user.online", "ms": 7}
    row |= {"status": 500, "answer": "no", "error": None, "outcome": "retry", "node": "aa", "users": None, **values}
    async with node.engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}, {"id": 2, "name": "news"}])
        await sql.execute(insert(webhook_attempts), [{**row, "at": number} for number in range(count)])
        await sql.execute(insert(webhook_attempts), [{**row, "site_id": 2, "at": 99, "answer": "of news"}])


async def test_every_attempt(node: ConsoleNode) -> None:
    """The list has the attempts of the site, newest first, page by page, and those that pass a filter."""
    await add_attempts(node, 5)
    await node.visitor("ana")
    client, headers = node.client(), bearer(await node.token("ana"))
    path, found, query = f"/api/v1{PAGE}", [], {"limit": "2"}
    while True:
        answer = (await client.get(path, params=query, headers=headers)).json()
        found += answer["items"]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    assert [row["at"] for row in found] == [rfc3339(number) for number in (4, 3, 2, 1, 0)]
    assert {row["site"] for row in found} == {"shop"}
    assert [found[0][name] for name in ("status", "ms", "answer", "outcome")] == [500, 7, "no", "retry"]
    for name, value, count in (("outcome", "retry", 5), ("outcome", "delivered", 0), ("webhook_id", "msg_2", 0)):
        answer = (await client.get(path, params={name: value}, headers=headers)).json()
        assert len(answer["items"]) == count


async def test_texts_are_no_markup(node: ConsoleNode) -> None:
    """Answers, errors and types are a stranger's texts: the page shows them as text."""
    await add_attempts(node, 1, answer=SCRIPT, types=SCRIPT, webhook_id=SCRIPT, outcome=SCRIPT)
    visitor = await node.visitor("ana")
    page = await visitor.get(PAGE)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;alert") >= 4


async def test_a_test(node: ConsoleNode, receiver: HookReceiver) -> None:
    """A test is sent at once; the page tells the answer, as text."""
    receiver.answer = SCRIPT.encode()
    visitor = await node.visitor("ana")
    page = await visitor.do("webhooks.test", site="shop")
    assert "The receiver answered 200 after" in page.text
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
    assert [event["type"] for _, events in receiver.posts for event in events] == ["webhook.test"]


async def test_a_receiver_that_does_not_answer(
    node: ConsoleNode, hook: HookSite, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that takes long is told of, a second one is refused meanwhile, and its attempt is listed at its end."""
    monkeypatch.setattr(operations, "_TEST_SECONDS", 0.05)
    receiver.gate.clear()
    visitor = await node.visitor("ana")
    assert "No answer within 8 s." in (await visitor.do("webhooks.test", site="shop")).text
    busy = await visitor.do("webhooks.test", site="shop")
    assert (busy.status_code, "A test of this webhook is under way." in busy.text) == (429, True)
    receiver.gate.set()
    assert hook._test is not None
    await hook._test
    (attempt,) = (await hook.outbox.overview(5))["attempts"]
    assert (attempt["outcome"], attempt["status"]) == ("test", 200)


async def test_sent_again(node: ConsoleNode, hook: HookSite, receiver: HookReceiver) -> None:
    """A parked POST is shown, and sent again; the webhook is on again. A POST that is not parked is refused."""
    receiver.status = lambda number: 410
    store = node.store
    registration = await store.queues.connect(hook.site, 1, "d", ["user_1"])
    assert registration.devices
    hook.sender.wake()
    await until(lambda: bool(receiver.posts), "the POST")
    visitor = await node.visitor("ana")

    sender = hook.sender
    assert isinstance(sender, SiteSender)
    await until(lambda: sender._is_off, "410", 60)
    (parked,) = (await hook.outbox.overview(5))["parked"]
    page = (await visitor.get(PAGE)).text
    assert "The receiver answered 410" in page
    assert parked["id"] in page
    receiver.status = lambda number: 200
    assert (await visitor.do("webhooks.replay", site="shop", id="msg_none")).status_code == 404
    assert (await visitor.do("webhooks.replay", site="shop", id=parked["id"])).status_code == 303
    await until(lambda: bool(receiver.accepted), "the parked event", 60)
    since = {"site": "shop", "since": "2026-11-27T10:00Z"}
    refused = await visitor.do("webhooks.replay_since", **since)
    assert (refused.status_code, "No POST was parked since then." in refused.text) == (404, True)


async def test_a_site_without_webhook(node: ConsoleNode) -> None:
    """The page says what to do, and actions are refused."""
    visitor = await node.visitor("ana")
    page = await visitor.get("/sites/news/webhooks")
    assert "This site has no webhook." in page.text
    assert "webhooks.test" not in page.text
    assert (await visitor.do("webhooks.replay", site="news", id="msg_1")).status_code == 409
    assert (await visitor.do("webhooks.test", site="news")).status_code == 409


async def test_viewers_only_look(node: ConsoleNode) -> None:
    """A viewer sees the page without its actions."""
    visitor = await node.visitor("vera", "viewer", ("shop",))
    page = await visitor.get(PAGE)
    assert page.status_code == 200
    assert "/do/webhooks" not in page.text
    assert (await visitor.get("/sites/news/webhooks")).status_code == 404
