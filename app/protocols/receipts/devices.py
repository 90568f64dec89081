"""GET /devices, GET /devices/queue, DELETE /devices: what the devices of a user hold, from the queues alone."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from app.clock import rfc3339
from app.config.settings import Site
from app.core.follow_up import FollowUp
from app.protocols.receipts.page import Page
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.ports import DeviceFacts, QueuedMessage, QueueReader, Scan, Steps
from app.protocols.receipts.refusal import no_queues, unknown_device
from app.protocols.receipts.settings import MAX_STEPS
from app.protocols.receipts.words import away_since_ms

#: The times of last acks in ms since the epoch, by device.
LastAcks: TypeAlias = Callable[[Site, str], Awaitable[Mapping[str, int]]]


class DeviceReceipts:
    """The questions about devices. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, queues: QueueReader, follow_up: FollowUp, last_acks: LastAcks) -> None:
        """`last_acks` knows when the devices of a user have acknowledged last, as far back as it looks."""
        self._queues = queues
        self._last_acks = last_acks
        self._follow_up = follow_up

    async def list_devices(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The devices of a user."""
        query.allow(("user", "limit", "cursor"))
        user, page, begin = query.required("user"), Page(query.limit()), query.cursor(Scan) or Scan()
        _check_queues(site)
        steps = Steps(MAX_STEPS)
        part = await self._queues.handles(site, f"user:{user}", begin, query.limit(), steps)
        rooms = await self._queues.user_rooms(site, user) if part.handles else []
        acks = await self._last_acks(site, user) if part.handles else {}
        done = 0
        for device in await self._queues.describe_devices(site, part.handles, steps):
            if page.is_full:
                break
            done += 1
            if device is not None:
                page.add(_device(site, device, rooms, acks.get(device.device)))
        following = part.rest(done, begin)
        return {"devices": page.items, "cursor": query.next_cursor(following)}

    async def list_queue(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The messages in the queue of a device, oldest first."""
        query.allow(("user", "device", "limit", "cursor"))
        user, device = query.required("user"), query.required("device", may_be_empty=True)
        limit, after = query.limit(), query.cursor(int) or 0
        _check_queues(site)
        handle = await self._queues.find_device(site, user, device)
        if handle is None:
            raise unknown_device()
        part = await self._queues.queue(site, handle, after, limit)
        following = part.messages[-1].seq if part.has_more else None
        return {"messages": [_entry(one) for one in part.messages], "cursor": query.next_cursor(following)}

    async def forget(self, site: Site, query: Parameters) -> dict[str, Any]:
        """Forgets a device, or only what waits for it."""
        query.allow(("user", "device", "resync"))
        user, device = query.required("user"), query.required("device", may_be_empty=True)
        resync = query.flag("resync")
        _check_queues(site)
        count = await self._follow_up.forget_device(site, user, device, resync)
        if not count:
            raise unknown_device()
        return {"ok": True, "devices": count}


def _check_queues(site: Site) -> None:
    if not site.has_queues:
        raise no_queues()


def _device(site: Site, device: DeviceFacts, rooms: list[str], acked_ms: int | None) -> dict[str, Any]:
    client = device.client
    connected = client.connected_ms if client is not None and device.nodes else None
    away = None if device.nodes else away_since_ms(site, device)
    return {
        "user": device.user,
        "device": device.device,
        "state": "connected" if device.nodes else "away",
        "connected_since": time_or_none(connected),
        "away_since": time_or_none(away),
        "rooms": rooms if device.rooms is None else device.rooms,
        "node": device.nodes[0] if device.nodes else None,
        "nodes": device.nodes,
        "transport": client.transport if client else None,
        "client": {"engine": client.engine_version, "user_agent": client.user_agent} if client else None,
        "queue": {
            "messages": device.messages,
            "bytes": device.bytes,
            "oldest_seconds": seconds_or_none(device.oldest_age_ms),
        },
        "resync_due": device.is_lost,
        "last_ack": time_or_none(device.acked_ms or acked_ms),
    }


def _entry(message: QueuedMessage) -> dict[str, Any]:
    return {
        "id": None if message.id is None else str(message.id),
        "event": message.event,
        "bytes": message.bytes,
        "accepted_at": rfc3339(message.accepted_ms),
        "age_seconds": max(0, message.age_ms) / 1000,
        "options": message.options,
    }


def time_or_none(ms: int | None) -> str | None:
    """A time as answers show it."""
    return None if ms is None else rfc3339(ms)


def seconds_or_none(ms: int | None) -> float | None:
    """A time span as answers show it."""
    return None if ms is None else ms / 1000
