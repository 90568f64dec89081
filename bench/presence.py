"""The price of presence for Redis: connects, ends and sends without it, with it, and in rooms that a node watches.

`python -m bench.presence` prints CPU microseconds of Redis for each, and their ratios. The three take turns, so that a
busy machine is the same for all.
"""

import asyncio
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from app.config.settings import PresenceSettings, Site
from app.core.message import Message
from app.protocols.sites.redis_presence import RedisPresence
from app.redis.client import Commands
from app.redis.embedded import EmbeddedValkey
from app.redis.topology import new_redis
from app.store.queues import RedisQueues

_NODE = "aa"
_USERS, _ROOMS, _ROUNDS = 1_000, 10, 9
_AT_ONCE = 50
_FORMS = ("off", "on", "watched")


def _site(form: str) -> Site:
    presence = None if form == "off" else PresenceSettings(members=1_000)
    return Site(name=form, api_key="k", auth_url="http://127.0.0.1/", user_room_prefix="user_", presence=presence)


async def _cpu_us(redis: Commands) -> float:
    """The CPU time of Redis so far."""
    lines = (await redis.command("INFO", "cpu")).decode().splitlines()
    figures = dict(line.split(":") for line in lines if ":" in line)
    return 1e6 * (float(figures["used_cpu_user"]) + float(figures["used_cpu_sys"]))


async def _round(redis: Commands, queues: RedisQueues, site: Site, number: int) -> dict[str, float]:
    """The microseconds of one connect, one send to a user, and one end."""
    rooms = [f"room-{one}" for one in range(_ROOMS)]
    users = [(number * _USERS + one, f"user_{one}") for one in range(_USERS)]
    handles: dict[int, bytes] = {}

    async def connect(id: int, user: str) -> None:
        handles[id] = (await queues.connect(site, id, "d", [user, *rooms])).devices[0].handle

    async def send(id: int, user: str) -> None:
        body = b'["news",{"id":3}]'
        await queues.send(Message(site=site, id=id, event="news", body=body, rooms=(user,)))

    async def end(id: int, user: str) -> None:
        await queues.disconnect(site, id, [(handles[id], 0)])

    spent: dict[str, float] = {}
    for name, work in (("connect", connect), ("send", send), ("end", end)):
        before = await _cpu_us(redis)
        for first in range(0, _USERS, _AT_ONCE):
            await asyncio.gather(*(work(*one) for one in users[first : first + _AT_ONCE]))
        spent[name] = (await _cpu_us(redis) - before) / _USERS
    return spent


async def _measure(folder: Path) -> dict[str, dict[str, float]]:
    embedded = EmbeddedValkey(folder)
    await embedded.start()
    redis = new_redis(embedded.address, 10.0)
    await redis.start()
    found: dict[str, dict[str, list[float]]] = {form: defaultdict(list) for form in _FORMS}
    try:
        queues, presence = RedisQueues(redis, _NODE, 1_000_000), RedisPresence(redis, _NODE)
        sites = {form: _site(form) for form in _FORMS}
        await presence.beat(sites["on"])
        await presence.beat(sites["watched"])
        for room in range(_ROOMS):
            await presence.watch(sites["watched"], f"room-{room}")
        for number in range(_ROUNDS):
            # Each form is the first one in turn.
            for form in [*_FORMS, *_FORMS][number % len(_FORMS) :][: len(_FORMS)]:
                for name, spent in (await _round(redis, queues, sites[form], number)).items():
                    found[form][name].append(spent)
    finally:
        await redis.close()
        await embedded.stop()
    return {form: {name: statistics.median(spent) for name, spent in all.items()} for form, all in found.items()}


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory(prefix="recado-") as folder:
        found = asyncio.run(_measure(Path(folder)))
    print(f"CPU µs of Redis, median of {_ROUNDS} turns; {_USERS} users in {_ROOMS} rooms each")
    for name in ("connect", "send", "end"):
        off = found["off"][name]
        cells = (f"{form} {found[form][name]:6.1f} ({found[form][name] / off:.2f})" for form in _FORMS)
        print(f"{name:8}", "   ".join(cells))


if __name__ == "__main__":
    main()
