"""The newest samples, in both databases."""

from __future__ import annotations

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.newest import newest_samples
from app.journal.tables import samples, sites


async def test_newest_samples(engine: AsyncEngine) -> None:
    """Of each node, and of each site on a node, the newest short sample since a time."""
    async with engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}])
        rows = [
            (10_000, "n1", 10, None, '{"acks":1}'),
            (20_000, "n1", 10, None, '{"acks":2}'),
            (20_000, "n1", 10, 1, '{"acks":3}'),
            (10_000, "n2", 10, 1, '{"acks":4}'),
            (20_000, "n3", 300, None, '{"acks":5}'),
            (9_000, "n4", 10, None, '{"acks":6}'),
        ]
        names = ("at", "node", "seconds", "site_id", "figures")
        await sql.execute(insert(samples), [dict(zip(names, row, strict=True)) for row in rows])
    found = await newest_samples(engine, 10_000)
    shown = {(one.node, one.site): (one.at, one.figures["acks"]) for one in found}
    assert shown == {("n1", None): (20_000, 2), ("n1", "shop"): (20_000, 3), ("n2", "shop"): (10_000, 4)}
