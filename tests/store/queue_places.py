"""Where the queue machine's sites are: on one Valkey, or on the shards of a Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.redis.address import read_redis_url
from app.redis.client import Commands, Redis
from app.redis.topology import new_redis
from app.store.keys import bus_channel, prefix, shard_channel
from tests.store.queue_keys import Store, read_store
from tests.support.store import address_of
from tests.support.topologies import ValkeyCluster
from tests.support.valkey import Valkey

#: More entries than one run of the machine writes.
JOURNAL_BACKLOG = 100_000


class OneValkey:
    """A place with all sites on one server. Lives for the test."""

    def __init__(self, valkey: Valkey) -> None:
        """Made once; each run empties the server."""
        self._valkey = valkey

    def redis(self) -> Commands:
        """The commands of a node, not connected yet."""
        return Redis(address_of(self._valkey), 5.0, journal_backlog=JOURNAL_BACKLOG)

    def clear(self) -> None:
        """Forget everything."""
        self._valkey.client.flushall()

    def read(self) -> Store:
        """Every key with all that it holds."""
        return read_store(self._valkey.client)

    def subscribe(self, nodes: Sequence[str], sites: Sequence[str]) -> dict[str, Any]:
        """The bus messages of all sites, in one subscription."""
        client: Any = self._valkey.client
        bus = client.pubsub(ignore_subscribe_messages=True)
        bus.subscribe(*map(bus_channel, nodes))
        for _ in nodes:
            bus.get_message(timeout=30)
        return dict.fromkeys(sites, bus)


class ThreePrimaries:
    """A place with sites on different shards of a Cluster. Lives for the test."""

    def __init__(self, cluster: ValkeyCluster) -> None:
        """Made once; each run empties the Cluster."""
        self._cluster = cluster

    def redis(self) -> Commands:
        """The commands of a node, not connected yet."""
        return new_redis(read_redis_url(self._cluster.url), 5.0, journal_backlog=JOURNAL_BACKLOG)

    def clear(self) -> None:
        """Forget everything."""
        self._cluster.flush()

    def read(self) -> Store:
        """Every key of all shards with its whole value."""
        stores = [read_store(self._cluster.servers[port].client) for port in self._cluster.ports]
        return {key: value for store in stores for key, value in store.items()}

    def subscribe(self, nodes: Sequence[str], sites: Sequence[str]) -> dict[str, Any]:
        """The bus messages of each site, at its primary."""
        return {site: self._subscribe(nodes, site) for site in sites}

    def _subscribe(self, nodes: Sequence[str], site: str) -> Any:
        client: Any = self._cluster.primary_of(prefix(site)).client
        bus = client.pubsub(ignore_subscribe_messages=True)
        for node in nodes:
            bus.ssubscribe(shard_channel(node, site))
            bus.get_message(timeout=30)
        return bus
