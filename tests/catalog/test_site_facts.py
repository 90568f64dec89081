"""The facts that nodes tell of their sites: in Redis, and nothing of nodes that are gone."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from app.catalog.site_facts import SiteFacts, key_uses, on_nodes
from app.catalog.stored_site import key_name
from app.digests import digest
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


async def test_removed_keys_are_taken_away(redis: Redis, valkey: Valkey) -> None:
    """The last use of a key that the site no longer has is taken away, also when it was told late."""
    counts, old, new = Counts(), "the old key", "the new key"
    sites = {SITE.name: structs.replace(SITE, api_key=new, further_keys=(old,))}
    facts = SiteFacts(redis, "aa", sites, counts)

    async def used(*keys: str) -> set[str]:
        counts.key_uses.update({(SITE.name, digest(key)): 1 for key in keys})
        await facts.tell()
        return set(await key_uses(redis, SITE.name))

    assert await used(old, new) == {key_name(old), key_name(new)}
    sites[SITE.name] = structs.replace(SITE, api_key=new, further_keys=())
    assert await used() == {key_name(new)}
    assert await used(old) == {key_name(new)}
    del sites[SITE.name]
    assert await used(old) == {key_name(new)}
