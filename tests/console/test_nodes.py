"""The pages of nodes and connections, and their API, on a node that answers over a real bus."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.core.live import ConnectionFacts
from app.journal.streams import stream_of
from app.node.control import Control, NodeParts
from app.node.operations import node_operations
from app.node.worker_slot import WorkerSlot
from app.observe.counts import Counts
from app.observe.health import Health
from app.observe.log import log_level, set_log_level
from app.redis.client import Redis
from app.store.keys import NODES
from app.store.node_calls import NodeCalls
from tests.console.visitor import ConsoleNode, Visitor, bearer
from tests.node.test_control import Lister, Open
from tests.support.fates import FateStream, new_writer, write_all
from tests.support.node_caller import NodeCaller, calling
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer


class World:
    """A console, and a node with open connections. Lives for one test."""

    def __init__(self, console: ConsoleNode, there: NodeCaller, control: Control, open_ones: list[Open]) -> None:
        self.console = console
        self.there = there
        self.control = control
        self.open_ones = open_ones

    async def admin(self) -> Visitor:
        """An administrator, logged in, once the node shows itself."""
        key = f"recado:facts:{self.there.name}"
        await until_answer(lambda: self.there.redis.command("GET", key), "the facts")
        return await self.console.visitor("ana")


@pytest.fixture
async def world(valkey: Valkey, database: str) -> AsyncIterator[World]:
    """The console's node asks, another one has connections of the site `shop`."""
    folder = tempfile.mkdtemp(prefix="recado-")
    open_ones = [Open(number, f"user_{number}") for number in range(1, 6)]
    open_ones[0].facts = ConnectionFacts("user_1", "<script>alert(1)</script>", "::1", "<b>agent", "4", None, 1)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(calling(valkey.url))
        there = await stack.enter_async_context(calling(valkey.url))
        counts = Counts(["shop", "news"])
        parts = NodeParts(
            there.redis,
            there.name,
            counts,
            Health({}),
            WorkerSlot(folder),
            {"sites": Lister(shop=open_ones)},
            NodeCalls(there.redis, there.name),
        )
        control = Control(parts)
        stack.push_async_callback(control.close)
        there.bus.on_call = control.calls.receive
        valkey.client.zadd(NODES, {there.name: 1})
        control.start()
        console = await ConsoleNode.start(valkey, database, node_operations(here.redis, here.calls))
        stack.push_async_callback(console.close)
        yield World(console, there, control, open_ones)
    shutil.rmtree(folder)


async def test_nodes_are_shown(world: World) -> None:
    """The pages have each node with its load and versions, Redis and the tables; the API has the same."""
    admin = await world.admin()
    for path, texts in (
        ("/nodes", (world.there.name, "ready", "Python")),
        ("/redis", ("noeviction", "Slow commands")),
    ):
        page = await admin.get(path)
        assert page.status_code == 200
        assert [text for text in texts if text not in page.text] == []
    headers = bearer(await world.console.token("ana"))
    client = world.console.client()
    (node,) = (await client.get("/api/v1/nodes", headers=headers)).json()["items"]
    assert (node["node"], node["state"], node["is_supervised"]) == (world.there.name, "ready", False)
    assert node["started_at"].endswith("Z")
    (redis,) = (await client.get("/api/v1/redis", headers=headers)).json()["items"]
    assert redis["memory_bytes"] > 100_000
    tables = (await client.get("/api/v1/database", headers=headers)).json()["tables"]
    assert "connections" in {table["name"] for table in tables}


async def test_commands_to_a_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log level and the end are asked of the node, and stand in the audit; a refusal has the node's words."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    admin, name, before = await world.admin(), world.there.name, log_level()
    try:
        assert (await admin.do("nodes.log_level", node=name, level="error")).status_code == 303
        assert log_level() == "error"
    finally:
        set_log_level(before)
    assert (await admin.do("nodes.end", node=name, how="drain")).status_code == 303
    await until(lambda: sent, "the signal")
    assert sent == [signal.SIGTERM]
    refused = await admin.do("nodes.workers", node=name, verb="roll")
    assert refused.status_code == 409
    assert "start it with --workers" in refused.text
    assert (await admin.do("nodes.end", node="abcdef", how="now")).status_code == 404
    for wrong in ({"node": "no such name"}, {"node": name, "how": "softly"}, {"node": name * 20}):
        assert (await admin.do("nodes.end", **wrong)).status_code == 400
    audit = (await admin.get("/audit")).text
    for text in ("nodes.log_level", "nodes.end", "nodes.workers", name):
        assert text in audit, text


async def test_a_node_that_does_not_answer(world: World, valkey: Valkey) -> None:
    """A node that is shown and silent is told of: in the list of connections, and as the answer to a command."""
    facts = valkey.client.get(f"recado:facts:{world.there.name}")
    assert isinstance(facts, bytes)
    valkey.client.zadd(NODES, {"ffffffffff": 2})
    valkey.client.set("recado:facts:ffffffffff", facts.replace(world.there.name.encode(), b"ffffffffff"))
    admin = await world.admin()
    page = (await admin.get("/sites/shop/connections")).text
    assert "ffffffffff</code> does not answer" in page
    assert "user_5" in page
    assert (await admin.do("nodes.end", node="ffffffffff", how="now")).status_code == 503


async def test_open_connections(world: World) -> None:
    """They are listed in pages, filtered by user, and every text of a client is escaped; one is ended."""
    admin = await world.admin()
    page = (await admin.get("/sites/shop/connections")).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>agent" not in page
    assert "user_2" not in (await admin.get("/sites/shop/connections?user=user_3")).text
    headers, client = bearer(await world.console.token("ana")), world.console.client()

    async def listed(**query: str) -> tuple[list[str], str | None]:
        answer = await client.get("/api/v1/sites/shop/connections", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return [row["user"] for row in answer.json()["items"]], answer.json()["cursor"]

    first, cursor = await listed(limit="2")
    assert first == ["user_5", "user_4"]
    second, cursor = await listed(limit="2", cursor=cursor or "")
    assert second == ["user_3", "user_2"]
    assert await listed(limit="2", cursor=cursor or "") == (["user_1"], None)
    oldest, cursor = await listed(limit="2", order="oldest")
    assert oldest == ["user_1", "user_2"]
    assert await listed(limit="9", order="oldest", cursor=cursor or "") == (["user_3", "user_4", "user_5"], None)
    assert await listed(protocol="channels") == ([], None)
    assert (await listed(node=world.there.name))[0] == (await listed())[0]
    assert await listed(node="abc") == ([], None)
    for cursor in ("nonsense", "e30=", "W10="):
        answer = await client.get("/api/v1/sites/shop/connections", params={"cursor": cursor}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")
    fields = {"site": "shop", "node": world.there.name, "protocol": "sites", "id": "3"}
    assert (await admin.do("connections.disconnect", **fields)).status_code == 303
    assert [one.live_id for one in world.open_ones if one.ended] == ["3"]
    assert (await admin.do("connections.disconnect", **fields | {"id": "77"})).status_code == 404


async def test_connections_of_all_sites(world: World, valkey: Valkey, redis: Redis) -> None:
    """An administrator lists those of all sites, open and ended, or of one, and ends one; nobody else may."""
    for site in ("shop", "news"):
        row = {"user": f"of_{site}", "disconnected_at": 5, "connected_at": 5, "node": "ab", "reason": f"why {site}"}
        FateStream(valkey, site).rows("connections", row)
    await write_all(new_writer(redis, world.console.engine, "shop", "news"))
    admin = await world.admin()
    page = (await admin.get("/connections")).text
    assert all(text in page for text in ("user_5", "of_shop", "of_news", 'name="site" value="shop"'))
    assert "user_5" in (await admin.get("/connections?site=shop&order=oldest")).text
    other = (await admin.get("/connections?site=news")).text
    assert "user_5" not in other
    assert "of_shop" not in other
    of_user = (await admin.get("/connections?user=of_shop")).text
    assert "why shop" in of_user
    assert "why news" not in of_user
    eve = await world.console.visitor("eve", "operator", ("shop",))
    assert (await eve.get("/connections")).status_code == 403
    headers, client = bearer(await world.console.token("eve")), world.console.client()
    for path in ("/api/v1/connections", "/api/v1/connections/ended"):
        assert (await client.get(path, headers=headers)).status_code == 403


async def test_connections_of_other_sites(world: World) -> None:
    """An operator of one site can neither list nor end connections of another, and sees no node."""
    await world.admin()
    ben = await world.console.visitor("ben", "operator", ("news",))
    assert (await ben.get("/sites/shop/connections")).status_code == 404
    fields = {"site": "shop", "node": world.there.name, "protocol": "sites", "id": "3"}
    assert (await ben.do("connections.disconnect", **fields)).status_code == 404
    # Under a site of its own it is another connection, which is not there.
    assert (await ben.do("connections.disconnect", **fields | {"site": "news"})).status_code == 404
    assert [one for one in world.open_ones if one.ended] == []
    own = (await ben.get("/sites/news/connections")).text
    assert "user_5" not in own
    assert (await ben.get("/nodes")).status_code == 403


async def test_ended_connections(world: World, valkey: Valkey, redis: Redis) -> None:
    """The last that have ended come from the journal, newest first, of this site and user."""
    for site in ("shop", "news"):
        stream = FateStream(valkey, site)
        assert stream.key == stream_of(site)
        for number in range(3):
            row = {"user": f"{site}_{number}", "disconnected_at": 1_000 * number, "connected_at": 5, "node": "ab"}
            stream.rows("connections", {**row, "reason": "<i>why", "bytes_read": 2_048})
    await write_all(new_writer(redis, world.console.engine, "shop", "news"))
    admin = await world.admin()
    headers, client = bearer(await world.console.token("ana")), world.console.client()
    answer = (await client.get("/api/v1/sites/shop/connections/ended", headers=headers)).json()
    assert [row["user"] for row in answer["items"]] == ["shop_2", "shop_1", "shop_0"]
    query = {"user": "shop_1", "most": "2"}
    answer = (await client.get("/api/v1/sites/shop/connections/ended", params=query, headers=headers)).json()
    assert [row["disconnected_at"] for row in answer["items"]] == ["1970-01-01T00:00:01.000Z"]
    page = (await admin.get("/sites/shop/connections")).text
    assert "&lt;i&gt;why" in page
    assert "2.0 KB" in page
    assert "news_1" not in page
