"""A viewer of one site at every page and list: nothing of another site is shown, whatever is asked for."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import insert

from app.clock import now_ms
from app.console.pages.listed import PAGES
from app.journal.tables import audit, connections, log, refusals, samples, sites, webhook_attempts
from tests.console.visitor import SITES, ConsoleNode, bearer

#: It stands in every row of the other site, and of the nodes.
MARK = "s3cr3t"
_QUERIES = ("", "site=news", "span=month", "site=shop&site=news")


async def add_rows(node: ConsoleNode) -> None:
    """Rows of the other site, and of whole nodes, in every table."""
    now = now_ms()
    at, figures = now // 10_000 * 10_000, json.dumps({"connections": 7_777_777})
    rows: list[tuple[Any, dict[str, Any]]] = [
        (connections, {"user": MARK, "disconnected_at": now, "node": MARK}),
        (refusals, {"at": now, "user": MARK, "reason": MARK}),
        (webhook_attempts, {"at": now, "webhook_id": MARK, "outcome": "retry"}),
        (log, {"at": now, "node": MARK, "level": "error", "event": MARK}),
        (audit, {"at": now, "operator": MARK, "action": MARK}),
        *((samples, {"at": at, "node": MARK, "seconds": seconds, "figures": figures}) for seconds in (10, 300)),
    ]
    async with node.engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}, {"id": 2, "name": "news"}])
        for table, row in rows:
            await sql.execute(insert(table).values(site_id=2, **row))
            if table.c.site_id.nullable:
                await sql.execute(insert(table).values(site_id=None, **row))


async def test_a_viewer_of_one_site(node: ConsoleNode) -> None:
    """No page, live part or list shows a name, a row or a figure of the other site, or of a node."""
    await add_rows(node)
    viewer = await node.visitor("ben", "viewer", ("shop",))
    headers = bearer(await node.token("ben"))
    description = (await viewer.client.get("/api/openapi.json")).json()
    lists = [path.removeprefix("/api/v1") for path, methods in description["paths"].items() if "get" in methods]
    assert len(lists) > 8
    assert PAGES
    for path in [one.replace("{site}", site) for one in lists for site in SITES]:
        for query in _QUERIES:
            answers = (
                await viewer.get(f"{path}?{query}"),
                await viewer.client.get(f"/api/v1{path}?{query}", headers=headers),
            )
            for answer in answers:
                shown = answer.text.replace("/sites/news", "").replace("site=news", "")
                leaks = [mark for mark in (MARK, "7,777,777", "7777777", "news") if mark in shown]
                assert leaks == [], (path, query, answer.status_code)
