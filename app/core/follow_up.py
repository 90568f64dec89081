"""The wishes of a sender beside the sending itself: to wait for acks, to withdraw a message, to forget a device,
to change the rooms of a user, to tell something that is kept nowhere.

A node that waits for acks hears of them on the bus.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from app.config.settings import Site
from app.core.errands import Errands
from app.core.message import LiveMessage, Message
from app.core.options import WAIT_SECONDS
from app.core.ports import Outcome, Publish, QueueStore, RoomsChange, Withdrawn

#: The answers that come before the message's own are kept for so many devices.
_MOST_EARLY = 100_000


class Waiter:
    """One request that waits. Lives until its answer."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        #: The devices that count; None: the message is not stored yet.
        self._devices: frozenset[bytes] | None = None
        self._acked: set[bytes] = set()
        self._left: set[bytes] = set()

    @property
    def acked(self) -> int:
        """How many devices have acknowledged."""
        return len(self._acked & (self._devices or frozenset()))

    @property
    def missing(self) -> int:
        """How many devices are connected and have not acknowledged."""
        return len((self._devices or frozenset()) - self._acked - self._left)

    def note(self, notice: str, handles: Iterable[bytes]) -> None:
        """Devices have acknowledged ('acked'), or have left or lost the message."""
        if len(self._acked) + len(self._left) < _MOST_EARLY:
            (self._acked if notice == "acked" else self._left).update(handles)
        self._changed.set()

    async def until(self, devices: Sequence[bytes], wish: str, timeout_seconds: float) -> None:
        """Waits for the acks of these devices: of one ('any') or of each ('all'); no longer than the time-out."""
        self._devices = frozenset(devices)
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.missing and not (wish == "any" and self.acked):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return


class FollowUp:
    """Lives as long as the node."""

    def __init__(self, publish: Publish, store: QueueStore, errands: Errands) -> None:
        self._publish = publish
        self._store = store
        self._errands = errands
        #: The waiting requests of this node, by the id of their message.
        self._waiters: dict[str, Waiter] = {}

    async def publish_and_wait(self, message: Message) -> Outcome:
        """Publishes a message with the option `wait`, and waits as it says; see `Delivery.publish`.

        A caller that is cancelled costs nothing further."""
        options, id = message.options, str(message.id)
        waiter = self._waiters[id] = Waiter()
        stored = None
        try:
            stored = await self._publish(message)
            if not stored.earlier_id:
                await waiter.until(stored.connected, options.wait or "all", options.timeout or WAIT_SECONDS)
            return Outcome(stored, waiter.acked, waiter.missing)
        finally:
            del self._waiters[id]
            if stored is not None and waiter.missing:
                stop = partial(self._store.stop_waiting, message.site, stored.seq)
                self._errands.start(self._errands.until_stored(stop, message.site.name))

    def note(self, message: LiveMessage) -> None:
        """From the bus: devices have acknowledged an earlier message ('acked'), or will not ('left')."""
        if waiter := self._waiters.get(message.id):
            waiter.note(message.notice, message.recipients)

    async def withdraw(self, site: Site, message_id: int) -> Withdrawn | None:
        """Takes a message out of every queue that holds it; None when none does. Clients that have it get `_withdraw`.
        Raises StoreUnavailable: then it may be in some of the queues."""
        cursor, devices = b"0", 0
        while (answer := await self._store.withdraw_message(site, message_id, cursor)) is not None:
            cursor, taken = answer
            devices += taken
            if cursor == b"0":
                return Withdrawn(devices)
        return None

    async def forget_device(self, site: Site, user_room: str, device_id: str, resync: bool) -> int:
        """Forgets a device and closes its connections, or with `resync` drops its queue and sends `_resync`. Answers
        how many devices it was."""
        return int(await self._store.forget_device(site, user_room, device_id, resync))

    async def change_rooms(self, site: Site, change: RoomsChange) -> int:
        """Lets a user join and leave rooms with all its devices, which it answers the number of; they get messages of
        the rooms, or none any more, from then on. -1: the user would be in too many rooms, and nothing has changed. For
        sites with queues. Raises StoreUnavailable."""
        return await self._store.change_rooms(site, change)

    async def set_device_rooms(self, site: Site, user_room: str, device_id: str, rooms: Sequence[str]) -> bool:
        """Gives one device rooms that its user is not in, in place of those that it had from here, until its next
        connect. False: nobody knows the device. For sites with queues. Raises StoreUnavailable."""
        return bool(await self._store.set_device_rooms(site, user_room, device_id, rooms))

    async def whisper(self, site: Site, rooms: Sequence[str], body: bytes) -> int:
        """Hands an event to the connected devices in these rooms; it is kept nowhere. For sites with queues. Raises
        StoreUnavailable."""
        return await self._store.whisper(site, rooms, body)
