"""GET /devices, GET /devices/queue, DELETE /devices: what the devices of a user hold, from the queues alone."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from app.clock import rfc3339, rfc3339_or_none
from app.config.settings import Site
from app.core.follow_up import FollowUp
from app.protocols.receipts.page import Page
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.ports import (
    ALL_DEVICES,
    DEVICE_STATES,
    DeviceFacts,
    HandlePart,
    QueuedMessage,
    QueueReader,
    Scan,
    Steps,
)
from app.protocols.receipts.refusal import no_queues, unknown_device
from app.protocols.receipts.settings import DEVICES_A_PAGE, MAX_STEPS, MOST_QUEUES_SORTED, STATE_STEPS
from app.protocols.receipts.words import away_since_ms

#: A user and a device.
Names: TypeAlias = tuple[str, str]
#: The times of last acks in ms since the epoch.
LastAcks: TypeAlias = Callable[[Site, Iterable[Names]], Awaitable[Mapping[Names, int]]]
#: Whether a device is in one of DEVICE_STATES.
_TESTS: Mapping[str, Callable[[DeviceFacts], bool]] = {
    "connected": lambda device: bool(device.nodes),
    "away": lambda device: not device.nodes,
    "waiting": lambda device: device.messages > 0,
    "resync": lambda device: device.is_lost,
}


class _Chosen(Struct, frozen=True):
    """A device of a page, and its place: it is the `done`th handle of a part that begins at `begin`."""

    device: DeviceFacts
    part: HandlePart
    done: int
    begin: Scan


class QueuePlace(Struct, frozen=True):
    """The place of a device in a list by the length of queues."""

    bytes: int
    handle: int


class DeviceReceipts:
    """The questions about devices. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, queues: QueueReader, follow_up: FollowUp, last_acks: LastAcks) -> None:
        """`last_acks` knows when devices have acknowledged last, as far back as it looks."""
        self._queues = queues
        self._last_acks = last_acks
        self._follow_up = follow_up

    async def list_devices(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The devices of a user."""
        query.allow(("user", "limit", "cursor"))
        return await self._list(site, query, f"user:{query.required('user')}", None)

    async def list_all(self, site: Site, query: Parameters) -> dict[str, Any]:
        """The devices of a site, or of one of its users, that are in a state. A page looks at a bounded number of
        devices: one that finds few of them is short, and has a cursor."""
        query.allow(("user", "state", "order", "limit", "cursor"))
        user, state = query.text("user"), query.choice("state", DEVICE_STATES)
        if query.choice("order", ("queue",)) is not None:
            return await self._list_by_queue(site, query, user, state)
        return await self._list(site, query, ALL_DEVICES if user is None else f"user:{user}", state)

    async def _list(self, site: Site, query: Parameters, key: str, state: str | None) -> dict[str, Any]:
        limit, begin = min(query.limit(), DEVICES_A_PAGE), query.cursor(Scan) or Scan()
        _check_queues(site)
        chosen, following = await self._choose(site, key, begin, limit, state)
        page = Page(limit)
        for one, shown in zip(chosen, await self._shown(site, [one.device for one in chosen]), strict=True):
            page.add(shown)
            if page.is_full:
                following = one.part.rest(one.done, one.begin)
                break
        return {"devices": page.items, "cursor": query.next_cursor(following)}

    async def _list_by_queue(
        self, site: Site, query: Parameters, user: str | None, state: str | None
    ) -> dict[str, Any]:
        """The devices with the most waiting bytes first, of those whose bytes are counted: for others Redis has no
        order, and they are not listed."""
        limit, begin = min(query.limit(), DEVICES_A_PAGE), query.cursor(QueuePlace)
        _check_queues(site)
        counted = sorted(await self._queues.counted_queues(site, MOST_QUEUES_SORTED), reverse=True)
        places = [QueuePlace(*pair) for pair in counted if begin is None or pair < (begin.bytes, begin.handle)]
        chosen: list[DeviceFacts] = []
        steps, done = Steps(MAX_STEPS), 0
        while done < len(places) and len(chosen) < limit and not steps.are_used_up:
            part = [place.handle for place in places[done : done + limit - len(chosen)]]
            described = await self._queues.describe_devices(site, part, steps)
            done += len(described)
            for device in described:
                is_of_user = device is not None and user in (None, device.user)
                if device is not None and is_of_user and (state is None or _TESTS[state](device)):
                    chosen.append(device)
        following = places[done - 1] if 0 < done < len(places) else None
        return {"devices": await self._shown(site, chosen), "cursor": query.next_cursor(following)}

    async def _choose(
        self, site: Site, key: str, begin: Scan, limit: int, state: str | None
    ) -> tuple[list[_Chosen], Scan | None]:
        """The devices of a hash that are in the state, and where to go on; None: that was all."""
        chosen: list[_Chosen] = []
        looking, describing = Steps(MAX_STEPS if state is None else STATE_STEPS), Steps(MAX_STEPS)
        while True:
            wanted = limit - len(chosen)
            if state is None:
                part = await self._queues.handles(site, key, begin, wanted, looking)
            else:
                part = await self._queues.handles_in_state(site, key, state, begin, wanted, looking)
            done = 0
            for device in await self._queues.describe_devices(site, part.handles, describing):
                done += 1
                # It may have left the state meanwhile.
                if device is not None and (state is None or _TESTS[state](device)):
                    chosen.append(_Chosen(device, part, done, begin))
            following = part.rest(done, begin)
            if following is None or len(chosen) == limit or looking.are_used_up or describing.are_used_up:
                return chosen, following
            begin = following

    async def _shown(self, site: Site, devices: Sequence[DeviceFacts]) -> list[dict[str, Any]]:
        """Devices as answers show them."""
        users = list(dict.fromkeys(device.user for device in devices))
        rooms_of = dict(zip(users, await self._queues.user_rooms(site, users), strict=True))
        unknown = [(one.user, one.device) for one in devices if not one.acked_ms]
        acks = await self._last_acks(site, unknown) if unknown else {}
        return [_device(site, one, rooms_of[one.user], acks.get((one.user, one.device))) for one in devices]

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

    async def show(self, site: Site, user: str, device: str) -> dict[str, Any]:
        """One device, as the lists show it."""
        _check_queues(site)
        handle = await self._queues.find_device(site, user, device)
        described = await self._queues.describe_devices(site, [handle], Steps(MAX_STEPS)) if handle is not None else []
        if not described or described[0] is None:
            raise unknown_device()
        (shown,) = await self._shown(site, [described[0]])
        return shown

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
        "connected_since": rfc3339_or_none(connected),
        "away_since": rfc3339_or_none(away),
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
        "last_ack": rfc3339_or_none(device.acked_ms or acked_ms),
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


def seconds_or_none(ms: int | None) -> float | None:
    """A time span as answers show it."""
    return None if ms is None else ms / 1000
