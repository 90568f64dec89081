"""`PresenceStore` on Redis; the keys are in `app/store/keys.py`, and the rules in `app/store/lua/_inside.lua`."""

import asyncio
from collections.abc import Sequence

from app.config.settings import Site
from app.errors import StoreAway
from app.protocols.sites.presence_store import BeatAnswer, PresentUsers
from app.protocols.sites.room_picture import PresenceChange, RoomSnapshot
from app.redis.client import Commands
from app.store.keys import prefix
from app.surrogates import decode_text, encode_text

#: The time without any beat after which scripts take no care of presence any more; users are known for twice the time.
_EXPIRY_MS = 3_600_000
#: The users whose grace one run ends, the devices that one run looks at, and the rooms that one run leaves.
_USERS_A_RUN = 200
_DEVICES_A_RUN = 500
_ROOMS_A_RUN = 500


class RedisPresence:
    """The presence of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self._node = node
        #: The time for scripts in milliseconds since the epoch; "" means Redis's own clock. Tests set it.
        self.now_ms: int | str = ""

    async def beat(self, site: Site) -> BeatAnswer:
        """Ends graces that are over; see `PresenceStore`."""
        if site.presence is None:
            await self._redis.command("UNLINK", prefix(site.name) + "presence")
            return BeatAnswer(False, None)
        bounds = (round(site.presence.grace_seconds * 1000), site.presence.members, _EXPIRY_MS, _USERS_A_RUN)
        was_off, next_ms = await self._redis.run("presence_beat", prefix(site.name), self.now_ms, *bounds)
        cursor = b"0"
        while was_off:
            words = (self.now_ms, cursor, _DEVICES_A_RUN)
            cursor = await self._redis.run("presence_reconcile", prefix(site.name), *words)
            if cursor == b"0":
                break
        return BeatAnswer(was_off == 1, None if next_ms < 0 else next_ms / 1000)

    async def watch(self, site: Site, room: str) -> RoomSnapshot:
        """Reads a room and hears its changes from now on; see `PresenceStore`."""
        name, public = encode_text(room), site.public_channel or ""
        cursor, rest = b"0", []
        while True:
            words = (self.now_ms, self._node, name, cursor, _DEVICES_A_RUN, public)
            cursor, *rest = await self._redis.run("presence_watch", prefix(site.name), *words)
            if rest:
                break
            if cursor == b"off":
                await self.beat(site)
                if site.presence is None:
                    raise StoreAway
                cursor = b"0"
        version, count, most, *words = rest
        members = {decode_text(user): int(since) for user, since in zip(words[::2], words[1::2], strict=True)}
        return RoomSnapshot(int(version), count, most, members if count <= most else None)

    async def count(self, site: Site, room: str) -> tuple[int, int, bool]:
        """The number of users in a watched room; see `PresenceStore`."""
        version, count, is_quiet = await self._redis.run("presence_count", prefix(site.name), encode_text(room))
        return int(version), count, is_quiet == 1

    async def unwatch(self, site: Site, rooms: Sequence[str]) -> None:
        """Hears no changes of rooms any more; see `PresenceStore`."""
        for first in range(0, len(rooms), _ROOMS_A_RUN):
            names = map(encode_text, rooms[first : first + _ROOMS_A_RUN])
            await self._redis.run("presence_unwatch", prefix(site.name), self._node, *names)

    async def bury(self, site: Site, node: str) -> None:
        """Takes out what a dead node has watched; see `PresenceStore`."""
        while await self._redis.run("presence_bury", prefix(site.name), node, _ROOMS_A_RUN):
            pass

    async def is_inside(self, site: Site, room: str, users: Sequence[str]) -> bool:
        """Whether one of the users is in a watched room; see `PresenceStore`."""
        key = f"{prefix(site.name)}inside:{room}"
        found = await asyncio.gather(*(self._redis.command("HEXISTS", encode_text(key), encode_text(u)) for u in users))
        return any(found)

    async def present_users(self, site: Site, room: str) -> PresentUsers:
        """The users of a room; see `PresenceStore`."""
        found, name, cursor = PresentUsers(), encode_text(room), b"0"
        while True:
            words = (self.now_ms, name, cursor, _DEVICES_A_RUN, site.public_channel or "")
            cursor, *rest = await self._redis.run("presence_page", prefix(site.name), *words)
            for user, since, handle in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
                found.add(decode_text(user), int(since), handle)
            if cursor == b"0":
                return found


def read_change(data: bytes) -> tuple[str, str, PresenceChange]:
    """A change as `_inside.lua` publishes it: its site, its room and the change."""
    site, version, count, since, length, body = data.split(b"\n", 5)
    room, user = body[: int(length)], body[int(length) :]
    return site.decode(), decode_text(room), PresenceChange(int(version), int(count), int(since), decode_text(user))
