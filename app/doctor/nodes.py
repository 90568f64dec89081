"""The nodes behind one address: whether each serves the sessions of the others."""

import asyncio
from contextlib import AsyncExitStack

from app.doctor.advice import lines_for
from app.doctor.engine_guest import refusal_code, visiting
from app.doctor.finding import FAULT, OK, WARNING, Finding
from app.doctor.target import ProbeTarget

#: Requests of one session, each over a connection of its own: a balancer gives them to several nodes.
_TRIES = 8
_SESSIONS = 6
#: A packet that means nothing.
_NOOP = "6"


async def look_at_nodes(target: ProbeTarget) -> Finding:
    """Whether a session's requests are answered wherever they arrive."""
    async with asyncio.timeout(4 * target.answer_seconds), AsyncExitStack() as sessions:
        # One after the other and with nothing between them: a balancer that takes turns gives them to all nodes.
        guests = [await sessions.enter_async_context(visiting(target)) for _ in range(_SESSIONS)]
        pages = [await guests[0].post(_NOOP) for _ in range(_TRIES)]
    names = {guest.greeting.node for guest in guests}
    strange = sum(refusal_code(page) == 1 for page in pages)
    others = sum(page.status != 200 for page in pages) - strange
    if strange:
        text = (
            f"{strange} of {_TRIES} requests of one session met a node that does not know it ({len(names)} seen). "
            "The nodes have no common secret, no URL for each other, another Redis, or clocks more than 30 s apart"
        )
        return Finding("nodes", FAULT, text, lines_for("nodes"))
    if others:
        return Finding("nodes", WARNING, f"{others} of {_TRIES} requests of one session failed", lines_for("no node"))
    seen = "one node was seen" if len(names) == 1 else f"{len(names)} nodes were seen, and each serves all sessions"
    return Finding("nodes", OK, seen)
