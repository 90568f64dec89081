"""The builder of Redis PUBLISH."""

from __future__ import annotations

import pytest

from app.core.limits import Limits
from app.errors import ConfigError
from app.observe.counts import Counts
from app.protocols.redis_publish.services import PublishServices
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.address import Address
from app.redis.client import Redis
from app.store.seats import RedisSeats
from tests.support.publish_node import publish_site
from tests.support.store import make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def test_sites_without_it_cost_nothing() -> None:
    """Without a site that has turned it on there is nothing to start, and no namespace."""
    redis = Redis(Address(), 1.0)
    services = PublishServices([make_site()], redis, "aa", Limits(RedisSeats(redis, "aa")), Counts())
    assert not services
    assert not services.application.accepts_namespace("/shop")
    await services.start()
    await services.drain()
    await services.close()


def test_url_that_is_wrong() -> None:
    """An error in the URL of an application's Redis names the site and not the URL."""
    redis = Redis(Address(), 1.0)
    site = publish_site(url="redis://:hush@127.0.0.1/one")
    with pytest.raises(ConfigError, match=r"^news\.redisPublish\.url: ") as caught:
        PublishServices([site], redis, "aa", Limits(RedisSeats(redis, "aa")), Counts())
    assert "hush" not in str(caught.value)


async def test_sites_that_are_added(redis: Redis, valkey: Valkey) -> None:
    """A site that is added is served in its namespaces; sites with the same URL share one link, which is started."""
    services = PublishServices([], redis, "aa", Limits(RedisSeats(redis, "aa")), Counts())
    await services.start()
    services.add(make_site())
    assert not services
    for name in ("one", "two"):
        settings = RedisPublish(prefix=name, url=valkey.url, route=f"/{name}-route")
        services.add(make_site(name, redis_publish=settings))
    services.add(make_site("own", redis_publish=RedisPublish(prefix="own")))
    namespaces = ("/one", "/one-route", "/two", "/two-route", "/own", "/shop")
    assert list(map(services.application.accepts_namespace, namespaces)) == [True] * 5 + [False]
    assert list(services.notices) == ["redisPublish.url of one", "redisPublish.url of two"]
    await until(lambda: all(is_linked() for is_linked in services.notices.values()), "the link")
    await until(lambda: all(site.lease.is_settled.is_set() for site in services._sites), "the leases")
    await services.drain()
    await services.close()
