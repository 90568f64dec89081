"""The facts that nodes tell of their sites: in Redis, and nothing of nodes that are gone."""

from __future__ import annotations

from typing import Any

from app.catalog.site_facts import SiteFacts, on_nodes
from app.observe.counts import Counts
from app.redis.client import Redis
from app.store.keys import NODES, prefix
from tests.support.store import make_site
from tests.support.valkey import Valkey

SITE = make_site("shop")


def connected() -> Counts:
    """The counts of a node with a connection."""
    counts = Counts()
    counts.of(SITE.name).connections = 1
    return counts


async def test_dead_nodes_are_taken_away(redis: Redis, valkey: Valkey) -> None:
    """A node that begins to tell of a site takes away what dead nodes have told of it."""
    client: Any = valkey.client
    for node in ("aa", "bb"):
        client.zadd(NODES, {node: 1})
        await SiteFacts(redis, node, {SITE.name: SITE}, connected()).tell()
    assert (await on_nodes(redis, SITE.name)).keys() == {"aa", "bb"}
    client.zrem(NODES, "aa", "bb")
    client.zadd(NODES, {"cc": 1})
    await SiteFacts(redis, "cc", {SITE.name: SITE}, connected()).tell()
    assert client.hkeys(prefix(SITE.name) + "on_nodes") == [b"cc"]
