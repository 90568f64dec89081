"""`LoginThrottle` on Redis, where every node finds the failures; see `redis_keys.py` and `lua/chat_judge.lua`."""

from app.config.settings import Site
from app.core.network import network_of
from app.digests import digest
from app.protocols.messenger.login_ports import Judgement
from app.protocols.messenger.settings import Messenger
from app.redis.client import Commands
from app.store.keys import prefix

_JUDGEMENTS = (Judgement.FREE, Judgement.BLOCKED, Judgement.NOW_BLOCKED)


class RedisThrottle:
    """The failures of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def judge(
        self, site: Site, key: str, address: str, *, is_known: bool, is_right: bool | None = None
    ) -> tuple[Judgement, int]:
        """Judges a login; see `LoginThrottle`."""
        settings = site.require_section(Messenger)
        said = "" if is_right is None else "right" if is_right else "wrong"
        bounds = (settings.fail_count, settings.fail_window_seconds * 1000, settings.block_seconds * 1000)
        of_whom = (login_mark(key), digest(f"address {network_of(address)}").hex())
        number, left_ms = await self._redis.run(
            "chat_judge", prefix(site.name), *of_whom, "1" if is_known else "0", said, *bounds
        )
        return _JUDGEMENTS[number], -(-int(left_ms) // 1000)


def login_mark(key: str) -> str:
    """A login in the names of keys."""
    return digest(f"login {key}").hex()
