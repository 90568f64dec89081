"""One run with real clients: those in a messenger's room that take part send messages, and the database is asked for
the totals."""

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic
from typing import Any

from app.errors import RequestRefused
from app.load.plan import MAX_DELIVERIES, MAX_MESSAGES, LoadPlan
from app.load.tally import per_second, spread
from app.protocols.load_rooms import LoadLimits, LoadPlace, LoadProgress, LoadRooms

_LOOK_SECONDS = 1.0
#: A run in which nothing changes for this time has ended.
_SILENT_SECONDS = 4.0


class RoomRun:
    """Lives as long as `drive`."""

    def __init__(self, plan: LoadPlan, run: str, rooms: LoadRooms) -> None:
        self._plan = plan
        self._place = LoadPlace(plan.site, plan.room, run)
        self._rooms = rooms
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Ends it early."""
        self._stopped.set()

    async def drive(self) -> dict[str, Any]:
        """The totals. The clients are told of the end. Raises RequestRefused."""
        listeners = await self._rooms.listeners(self._plan.site, self._plan.room)
        messages = messages_of_each(self._plan, listeners)
        nodes = await self._rooms.nodes(self._plan.site)
        ms = self._plan.seconds * 1000
        await self._rooms.begin(self._place, LoadLimits(messages * listeners, ms, ms))
        try:
            await self._rooms.call(self._place, messages)
            progress, seconds = await self._until_done(self._place)
        finally:
            with contextlib.suppress(RequestRefused):
                await self._rooms.end(self._place)
                await self._rooms.call(self._place, 0)
        times = await self._rooms.times(self._place, MAX_MESSAGES)
        return room_totals(progress, nodes, seconds, times.delivery, times.store)

    async def _until_done(self, place: LoadPlace) -> tuple[LoadProgress, float]:
        began = changed_at = monotonic()
        known = LoadProgress(0, 0, 0)
        while monotonic() < began + self._plan.seconds and monotonic() < changed_at + _SILENT_SECONDS:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._stopped.wait()
                break
            progress = await self._rooms.progress(place)
            if progress != known:
                known, changed_at = progress, monotonic()
        return known, changed_at - began


def messages_of_each(plan: LoadPlan, listeners: int) -> int:
    """How many messages a client is asked for, so that a run with all that listen is bounded. Raises RequestRefused."""
    if not listeners:
        raise RequestRefused("No device in the room is connected.", "nobody_there", 409)
    most = min(MAX_MESSAGES // listeners, MAX_DELIVERIES // listeners**2)
    if not most:
        raise RequestRefused("There are too many connected devices in the room.", "too_large", 409)
    return min(plan.messages, most)


def room_totals(
    progress: LoadProgress, nodes: int, seconds: float, delivery: Sequence[tuple[int, int]], store: Sequence[float]
) -> dict[str, Any]:
    """The totals in the form of every run. A delivery is known by its receipt."""
    counts = {
        "received": progress.messages,
        "stored": progress.messages,
        "forwarded": progress.messages * nodes,
        "sent": progress.receipts,
        "receipts_received": progress.receipts,
        "receipts_stored": progress.receipts,
        "receipts_told": progress.receipts,
    }
    counts["operations"] = sum(counts.values())
    took = [ms / 1000 for ms, count in delivery for _ in range(count)]
    return {
        "seconds": round(seconds, 3),
        "clients": progress.devices,
        "refused": 0,
        "lost": 0,
        "counts": counts,
        "per_second": per_second(counts, seconds),
        "delivery_ms": spread(took),
        "store_ms": spread([ms / 1000 for ms in store]),
        "notify_ms": None,
    }
