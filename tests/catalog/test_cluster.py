"""The copy of stored sites, and the removal of a site's keys, on a Cluster."""

from __future__ import annotations

from app.catalog.redis_copy import RedisCopy
from app.catalog.stored_site import StoredSite
from app.redis.address import read_redis_url
from app.redis.topology import new_redis
from app.store.keys import NODES, node_sites, prefix
from app.store.purging import delete_keys, node_with
from tests.support.topologies import valkey_cluster


async def test_copy_and_purge_on_a_cluster() -> None:
    """The copy lies on one shard; a site's keys go from the shard of the site, once no living node serves it, with the
    remains of dead nodes."""
    with valkey_cluster() as cluster:
        redis = new_redis(read_redis_url(cluster.url), 5.0)
        await redis.start()
        try:
            copy = RedisCopy(redis)
            sites = [
                StoredSite(name=f"site{number}", block={}, version=number, created_at=1, changed_at=1)
                for number in range(1, 4)
            ]
            await copy.replace(sites)
            assert (await copy.marks()).version == 3
            assert await copy.read(["site3", "none", "site1"]) == [sites[2], sites[0]]
            for number in range(1, 4):
                for key in ("seq", "body:1"):
                    await redis.command("SET", prefix(f"site{number}") + key, "x")
            await redis.command("ZADD", NODES, 1, "living", 1, "~dead")
            await redis.command("SADD", node_sites("living"), "site1")
            await redis.command("SADD", node_sites("dead"), "site2")
            assert await node_with(redis, "site1") == "living"
            assert await node_with(redis, "site2") is None
            assert await delete_keys(redis, "site2") == 2
            assert await delete_keys(redis, "site2") == 0
            left = [await redis.command("EXISTS", prefix(f"site{number}") + "seq") for number in range(1, 4)]
            assert left == [1, 0, 1]
            assert await redis.command("ZRANGE", NODES, 0, -1) == [b"living"]
        finally:
            await redis.close()
