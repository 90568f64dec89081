"""Streams over HTTP: whether a proxy passes their bytes on at once. Asks a site with topics, which needs no key."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from app.doctor.advice import lines_for
from app.doctor.finding import FAULT, OK, SKIPPED, Finding, shown
from app.doctor.http_wire import ProbeError, begun
from app.doctor.target import ProbeTarget
from app.doctor.way_in import reason_of

_BODY = b'{"ep": ["doctor"]}'
_NAME = "streams"


async def look_at_streams(target: ProbeTarget, sites: Sequence[str]) -> Finding:
    """Whether the first event of a stream arrives while the stream goes on, at the first of the sites that has any."""
    last = "name a site with topics: --site"
    for site in sites:
        status = await _try(target, f"/topics/{quote(site, safe='')}/")
        if isinstance(status, Finding):
            return status
        last = f"site {shown(site)} has no topics here ({status}); name one that has: --site"
    return Finding(_NAME, SKIPPED, f"not looked at: {last}")


async def _try(target: ProbeTarget, path: str) -> Finding | int:
    """The finding, or the status of an answer that is no stream."""
    held = "nothing of a stream arrived in time: a proxy collects the answer before it passes it on"
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    try:
        # A stream begins with an event, within milliseconds; a proxy that holds it back does so for a minute.
        async with asyncio.timeout(target.answer_seconds), begun(target, f"POST {path}", headers, _BODY) as exchange:
            page = await exchange.head()
            if page.status != 200:
                return page.status
            if not await exchange.first_bytes():
                return Finding(_NAME, FAULT, "a stream ended at once", lines_for("buffering"))
    except TimeoutError:
        return Finding(_NAME, FAULT, held, lines_for("buffering"))
    except (ProbeError, OSError) as error:
        return Finding(_NAME, FAULT, f"no stream: {reason_of(error)}", lines_for("buffering"))
    return Finding(_NAME, OK, "events arrive while a stream goes on")
