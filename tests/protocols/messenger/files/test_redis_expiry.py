"""The rounds that remove unfinished uploads: each by one node."""

from __future__ import annotations

import asyncio

from app.config.settings import Site
from app.protocols.messenger.files.ports import FilesUnavailable
from app.protocols.messenger.files.redis_expiry import FileExpiry
from app.protocols.messenger.files.redis_keys import files_round_key
from app.redis.client import Redis
from tests.support.waiting import until

SITES = [Site(name=name, api_key="k") for name in ("shop", "news")]


class Removals:
    """Uploads that count their rounds. Lives for one test."""

    def __init__(self) -> None:
        self.rounds: list[str] = []
        self.error: Exception | None = None

    async def expire(self, site: Site) -> int:
        """Count a round."""
        self.rounds.append(site.name)
        if self.error is not None:
            raise self.error
        return 1


async def test_one_node_a_round(redis: Redis) -> None:
    """Of several nodes one removes the uploads of a site; after the time of its lease another does, also when it was
    killed. A site that fails keeps no other from its round."""
    removals = Removals()
    removals.error = FilesUnavailable("no")
    nodes = [FileExpiry(redis, name, removals.expire, lambda: SITES) for name in ("a", "b", "c")]
    await asyncio.gather(*(node.go_round() for node in nodes))
    assert sorted(removals.rounds) == ["news", "shop"]
    assert 0 < await redis.command("PTTL", files_round_key("shop")) < 300_000
    await redis.command("DEL", files_round_key("shop"))
    await nodes[2].go_round()
    assert sorted(removals.rounds) == ["news", "shop", "shop"]


async def test_rounds_go_on(redis: Redis) -> None:
    """A node goes round again and again until it ends."""
    removals = Removals()
    expiry = FileExpiry(redis, "a", removals.expire, lambda: SITES, 0.01)
    expiry.start()
    await until(lambda: len(removals.rounds) == 2, "the first round")
    await redis.command("DEL", *(files_round_key(site.name) for site in SITES))
    await until(lambda: len(removals.rounds) == 4, "another round")
    await expiry.close()
