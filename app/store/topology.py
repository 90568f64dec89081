"""From where Redis is to the commands that reach it: one server, a primary behind Sentinels, or a Cluster."""

from app.observe.counts import Counts
from app.store.address import ClusterSeeds, Location, SentinelGroup
from app.store.cluster import Cluster
from app.store.redis import Commands, Redis
from app.store.sentinel import Sentinels


def new_redis(location: Location, timeout_seconds: float, counts: Counts | None = None) -> Commands:
    """The commands of one node, not connected yet."""
    if isinstance(location, ClusterSeeds):
        return Cluster(location, timeout_seconds, counts)
    if isinstance(location, SentinelGroup):
        return Redis(location.login, timeout_seconds, counts, Sentinels(location, timeout_seconds))
    return Redis(location, timeout_seconds, counts)
