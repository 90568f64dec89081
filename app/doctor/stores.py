"""Redis, for a doctor that has the configuration: what it does with messages that it should keep, and its clock."""

import asyncio
from time import time
from typing import Any

from app.doctor.advice import lines_for
from app.doctor.finding import FAULT, OK, WARNING, Finding, shown
from app.doctor.pages import ACCEPTED_SKEW_SECONDS
from app.errors import RecadoError
from app.redis.address import Location
from app.redis.client import Commands
from app.redis.state import PrimaryState, redis_state
from app.redis.topology import new_redis

#: A connection to each primary, its scripts, and three commands.
_WHOLE_SECONDS = 15.0
_ANSWER_SECONDS = 3.0


async def look_at_redis(location: Location) -> list[Finding]:
    """One finding for each lack of each primary, or one that says that all is well."""
    redis = new_redis(location, _ANSWER_SECONDS)
    try:
        async with asyncio.timeout(_WHOLE_SECONDS):
            await redis.start()
            states = await redis_state(redis)
            clocks = await _clocks(redis)
    except TimeoutError:
        return [Finding("redis", FAULT, "Redis does not answer in time")]
    except (RecadoError, OSError) as error:
        return [Finding("redis", FAULT, f"Redis: {shown(error)}")]
    finally:
        await redis.close()
    found = [finding for state in states for finding in _lacks_of(state)] + clocks
    return found or [Finding("redis", OK, f"keeps what it holds ({len(states)} primary servers)")]


def _lacks_of(state: PrimaryState) -> list[Finding]:
    at = f"Redis at {shown(state.address)}"
    if state.error:
        return [Finding("redis", FAULT, f"{at}: {shown(state.error)}")]
    found = []
    if not state.policy:
        found.append(Finding("redis", WARNING, f"{at} does not tell its policy: the login lacks +info"))
    elif state.policy != "noeviction":
        text = f"{at} evicts messages when it is full: maxmemory-policy is {shown(state.policy)}"
        found.append(Finding("redis", FAULT, text, lines_for("policy")))
    if not state.has_append_file:
        text = f"{at} writes no append-only file: a restart loses what came since its last snapshot"
        found.append(Finding("redis", WARNING, text, lines_for("append")))
    if not state.is_saved:
        found.append(Finding("redis", FAULT, f"{at} could not write to its disk: see its log"))
    return found


async def _clocks(redis: Commands) -> list[Finding]:
    answers: list[Any] = await asyncio.gather(*(shard.command("TIME") for shard in redis.shards))
    apart = max((abs(int(seconds) - time()) for seconds, _ in answers), default=0)
    if apart <= ACCEPTED_SKEW_SECONDS:
        return []
    text = f"the clocks of Redis and of this machine are {apart:.0f} s apart"
    return [Finding("redis clock", FAULT, text, lines_for("clock"))]
