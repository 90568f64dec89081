"""The whole examination: the address, the nodes, then all other checks at once, each with a deadline of its own."""

import asyncio
from collections.abc import Awaitable, Sequence

from msgspec import Struct

from app.doctor.finding import FAULT, OK, Finding
from app.doctor.http_wire import ProbeError
from app.doctor.nodes import look_at_nodes
from app.doctor.pages import look_at_clock, look_at_metrics, look_at_origins
from app.doctor.streams import look_at_streams
from app.doctor.target import ProbeTarget
from app.doctor.transports import (
    look_at_polling,
    look_at_silent_poll,
    look_at_silent_websocket,
    look_at_websocket,
)
from app.doctor.way_in import look_at_address, reason_of


class ExaminationOrder(Struct, frozen=True):
    """The server to look at, and the wishes of the caller. Lives as long as the command."""

    target: ProbeTarget
    #: Sites to ask for a stream.
    sites: Sequence[str] = ()
    #: The site to join, and the origin of its page.
    site: str | None = None
    origin: str | None = None
    #: The longest wait for a ping.
    wait_seconds: float = 30.0


async def examine(order: ExaminationOrder) -> list[Finding]:
    """The findings, in the order of the checks; at an address without a Recado only that one."""
    target = order.target
    address, greeting = await look_at_address(target)
    if greeting is None:
        return [address]
    # Alone: it counts on the turns of a balancer.
    nodes = await _outcome("nodes", look_at_nodes(target))
    checks = {
        "polling": look_at_polling(target),
        "websocket": look_at_websocket(target),
        "streams": look_at_streams(target, order.sites),
        "origins": look_at_origins(target, order.site, order.origin),
        "published": look_at_metrics(target),
        "clock": look_at_clock(target),
        "silent websocket": look_at_silent_websocket(target, greeting, order.wait_seconds),
        "silent poll": look_at_silent_poll(target, greeting, order.wait_seconds, has_good_nodes=nodes.state == OK),
    }
    found = await asyncio.gather(*(_outcome(name, check) for name, check in checks.items()))
    return [address, nodes, *found]


async def _outcome(name: str, check: Awaitable[Finding]) -> Finding:
    try:
        return await check
    except (ProbeError, OSError, TimeoutError) as error:
        return Finding(name, FAULT, f"no answer: {reason_of(error)}")
