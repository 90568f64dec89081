"""Makes the commands for a location of Redis: one server, a primary behind Sentinels, or a Cluster."""

from app.observe.counts import Counts
from app.redis.address import ClusterSeeds, Location, SentinelGroup
from app.redis.client import Commands, Redis
from app.redis.cluster import RedisCluster
from app.redis.sentinel import Sentinels


def new_redis(
    location: Location, timeout_seconds: float, counts: Counts | None = None, journal_backlog: int = 0
) -> Commands:
    """The commands of one node; they are not connected yet. `journal_backlog`: see `load_scripts`."""
    if isinstance(location, ClusterSeeds):
        return RedisCluster(location, timeout_seconds, counts, journal_backlog)
    if isinstance(location, SentinelGroup):
        return Redis(
            location.login,
            timeout_seconds,
            counts,
            Sentinels(location, timeout_seconds),
            journal_backlog=journal_backlog,
        )
    return Redis(location, timeout_seconds, counts, journal_backlog=journal_backlog)
