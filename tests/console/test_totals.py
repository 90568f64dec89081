"""The page of totals: counts of this moment and of 30 days, the tables, and the removal of old rows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sqlalchemy import func, insert, select

from app.clock import now_ms
from app.console.pruning import Pruning
from app.journal.tables import log, samples
from app.redis.client import Redis
from tests.console.visitor import PASSWORD, ConsoleNode, bearer
from tests.support.waiting import until_answer


async def add_samples(node: ConsoleNode) -> None:
    """Two nodes with traffic, now and a day ago."""
    now = now_ms() // 10_000 * 10_000
    busy = {"connections": 2_000, "devices": 3_000, "queued": 40, "sends": 500, "deliveries": 9_000, "acks": 8_000}
    rows = [
        *((now, "aa", 10, busy), (now, "bb", 10, busy | {"connections": 500})),
        *((now - 86_400_000, "aa", 300, busy | {"sends": 600_000}), (now - 300_000, "aa", 300, busy)),
    ]
    names = ("at", "node", "seconds", "figures")
    async with node.engine.begin() as sql:
        await sql.execute(
            insert(samples), [dict(zip(names, (*row[:3], json.dumps(row[3])), strict=True)) for row in rows]
        )


async def test_totals(node: ConsoleNode) -> None:
    """Figures of this moment are those of all nodes, those of 30 days are sums, and the fastest interval is named."""
    await add_samples(node)
    ana = await node.visitor("ana")
    headers = bearer(await node.token("ana"))
    found = (await ana.client.get("/api/v1/totals", headers=headers)).json()
    assert found["now"] == {"sites": 2, "nodes": 2, "connections": 2_500, "devices": 3_000, "waiting": 40}
    assert found["month"] | {"messages": 600_500, "acks": 16_000, "refusals": 0} == found["month"]
    assert (found["top"]["messages"]["per_second"], found["top"]["messages"]["over_seconds"]) == (2_000, 300)
    assert (found["top"]["deliveries"]["per_second"], found["top"]["deliveries"]["over_seconds"]) == (1_800, 10)
    assert found["top"]["connects"] is None
    page = (await ana.get("/totals")).text
    assert all(text in page for text in ("2,500", "600,500", "message_rooms", "Delete old rows now"))


async def test_totals_of_nothing(node: ConsoleNode) -> None:
    """A server without samples has a page that says so. Others than administrators have none."""
    ana = await node.visitor("ana")
    assert "No samples yet" in (await ana.get("/totals")).text
    ben = await node.visitor("ben", "operator")
    assert "Totals" not in (await ben.get("/log")).text
    for path in ("/totals", "/database", "/database/pruning"):
        headers = bearer(await node.token("ben"))
        assert (await ben.client.get(f"/api/v1{path}", headers=headers)).status_code == 403


async def test_old_rows_are_deleted(node: ConsoleNode) -> None:
    """An administrator deletes them after his password; the page tells of it, and so does the audit."""
    async with node.engine.begin() as sql:
        rows = [{"at": at, "node": "aa", "level": "error", "event": "x"} for at in (1, 2, now_ms())]
        await sql.execute(insert(log), rows)
    ana = await node.visitor("ana")
    await ana.do("database.prune", _password=PASSWORD)

    async def is_done() -> bool:
        return "log 2" in (await ana.get("/totals")).text

    await until_answer(is_done, "the removal")
    async with node.engine.connect() as sql:
        assert (await sql.execute(select(func.count()).select_from(log))).scalar_one() == 1
    assert "database.prune" in (await ana.get("/audit")).text


async def test_one_at_a_time(node: ConsoleNode, redis: Redis) -> None:
    """While one is under way on any node, a further one is refused; the end of its node ends it, and says so."""
    begun = asyncio.Event()

    async def prune(tell: Any) -> None:
        tell("log", 7)
        begun.set()
        await asyncio.Event().wait()

    elsewhere = Pruning(redis, "bb", prune)
    operations = {operation.name: operation for operation in elsewhere.operations()}
    call: Any = type("Call", (), {"caller": type("Caller", (), {"name": "<script>ben"})})
    await operations["database.prune"].run(call)
    await begun.wait()
    ana = await node.visitor("ana")
    refused = await ana.do("database.prune", _password=PASSWORD)
    assert (refused.status_code, "being deleted already" in refused.text) == (409, True)
    assert "running" in (await ana.get("/totals")).text
    await elsewhere.close()
    page = (await ana.get("/totals")).text
    assert all(text in page for text in ("the server has ended", "log 7", "by &lt;script&gt;ben"))
    assert (await operations["database.pruning"].run(call))["running"] is None
