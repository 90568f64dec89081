"""The newest sample of each node, and of each site: the figures of this moment."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import translated
from app.journal.tables import samples, sites

#: The rows that are looked at, newest first.
MOST_SAMPLES = 5_000
_ANSWER_SECONDS = 5.0
_SHORT_SECONDS = 10


class NewestSample(Struct, frozen=True):
    """The newest sample of a node, or of a site on a node."""

    at: int
    node: str
    #: None: the whole node.
    site: str | None
    #: See `samples.py`.
    figures: Mapping[str, Any]


async def newest_samples(engine: AsyncEngine, since: int) -> Sequence[NewestSample]:
    """The newest samples since a time, one for each node, and for each site and node. Raises JournalUnavailable."""
    statement = select(samples.c.at, samples.c.node, sites.c.name, samples.c.figures)
    statement = statement.outerjoin(sites, sites.c.id == samples.c.site_id)
    statement = statement.where(samples.c.seconds == _SHORT_SECONDS, samples.c.at >= since)
    found: dict[tuple[str, str | None], NewestSample] = {}
    with translated():
        async with asyncio.timeout(_ANSWER_SECONDS), engine.connect() as sql:
            rows = await sql.execute(statement.order_by(samples.c.at.desc()).limit(MOST_SAMPLES))
            for at, node, site, figures in rows:
                if (node, site) not in found:
                    found[node, site] = NewestSample(at, node, site, msgspec.json.decode(figures))
    return list(found.values())
