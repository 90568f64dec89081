"""The limits of a site, an address, a user and a connection; the same for every protocol.

Counts connections on all nodes through the port `SeatStore`. The script that stores a message counts the sends.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from itertools import islice

import structlog

from app.config.settings import Site
from app.core.errands import Errands
from app.core.message import Message
from app.core.network import network_of
from app.core.ports import SeatStore
from app.core.seat import NO_SEAT, Seat
from app.core.seat_row import SeatRow
from app.errors import LimitReached, StoreAway, StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.watched_tasks import start_logged

#: How long a connect waits for counts that are being restored.
_PATIENCE_SECONDS = 2.0
_PART = 500
_TEXTS = {
    "connections": "Too many connections",
    "connections_per_address": "Too many connections from this address",
    "connections_per_user": "Too many connections of this user",
}

#: A count of a connection: the limit, its name in Redis, and the most that are allowed.
_Bound = tuple[str, str, int]

_log = structlog.get_logger(__name__)


class Limits:
    """The limits of all sites on one node. Lives as long as the node, which calls `close`."""

    def __init__(self, store: SeatStore, counts: Counts | None = None, errands: Errands | None = None) -> None:
        self._store = store
        self._errands = errands or Errands()
        self._counts = counts or Counts()
        self._ledgers: dict[str, _Ledger] = {}

    async def connect(self, site: Site, address: str = "", users: Sequence[str] = (), rooms: int = 0) -> Seat:
        """Counts a connection of these users from this address that asks for so many rooms; "" is an unknown address.

        Call it before anything is registered, and give the seat to `disconnect`. When a limit is reached, it waits
        before it raises LimitReached with the text for the client: 2.5 s, and up to 10 s while a node that holds seats
        seems dead. Raises StoreUnavailable when Redis is away. Then, and when cancelled, nothing is counted.
        """
        self.check_rooms(site, rooms)
        return await self._take(site, _bounds(site, address, users))

    async def connect_user(self, site: Site, user: str) -> Seat:
        """Counts a connection that has a seat already for the user that it has turned out to be; as `connect`."""
        return await self._take(site, _bounds_of_users(site, [user]))

    async def _take(self, site: Site, bounds: list[_Bound]) -> Seat:
        if not bounds:
            return NO_SEAT
        ledger = self._ledgers.get(site.name)
        if ledger is None:
            ledger = self._ledgers[site.name] = _Ledger(site, self._store, self._errands)
        reached = await ledger.take([(name, maximum) for _, name, maximum in bounds])
        if reached:
            limit = bounds[reached - 1][0]
            raise self._refused(site, LimitReached(_TEXTS[limit], limit))
        return Seat(site.name, [name for _, name, _ in bounds])

    def disconnect(self, seat: Seat) -> None:
        """The connection is gone. Idempotent, returns at once, never raises."""
        names, seat.names = seat.names, ()
        if names and (ledger := self._ledgers.get(seat.site)) is not None:
            ledger.give(names)

    def check_rooms(self, site: Site, rooms: int) -> None:
        """Raises LimitReached when a connection may not have so many rooms."""
        most = site.limits.rooms_per_connection
        if most and rooms > most:
            raise self._refused(site, LimitReached(f"Too many rooms: expected at most {most}", "rooms_per_connection"))

    def restore(self) -> None:
        """Sets the counts of this node again: Redis may have them wrong (it was away, or has buried the node)."""
        for ledger in self._ledgers.values():
            ledger.restore()

    async def forget(self, site: str) -> None:
        """Counts no connection of a site any more, which is served no longer."""
        ledger = self._ledgers.pop(site, None)
        if ledger is not None:
            await ledger.close()

    async def close(self) -> None:
        """Ends the tasks. The counts leave Redis with the node."""
        for ledger in self._ledgers.values():
            await ledger.close()

    def _refused(self, site: Site, error: LimitReached) -> LimitReached:
        self._counts.of(site.name).limited[error.limit] += 1
        return error


class _Ledger:
    """The connections of one site on this node that are counted in Redis. Lives as long as the limits.

    After a command that failed, or whose caller was cancelled, the counts in Redis are unknown. Then no seat is taken
    until no other command is under way and Redis has been given the real counts of this node.
    """

    def __init__(self, site: Site, store: SeatStore, errands: Errands) -> None:
        self._errands = errands
        self._site = site
        self._store = store
        self._row = SeatRow(lambda: store.silence_seconds(site))
        self._held: Counter[str] = Counter()
        self._asking = 0
        self._nobody_asks = asyncio.Event()
        self._nobody_asks.set()
        self._restoring: asyncio.Task[None] | None = None
        self._giving: set[asyncio.Task[None]] = set()

    async def take(self, bounds: Sequence[tuple[str, int]]) -> int:
        """0, or the number of the bound that is reached, also after a wait."""
        reached = await self._ask(bounds)
        return await self._row.wait(lambda: self._ask(bounds), reached) if reached else 0

    async def _ask(self, bounds: Sequence[tuple[str, int]]) -> int:
        await self._until_right()
        self._asking += 1
        self._nobody_asks.clear()
        try:
            reached = await self._store.take_seat(self._site, bounds)
        except StoreAway:
            # Nothing was sent: the counts in Redis are as they were.
            raise
        except BaseException:
            self.restore()
            raise
        finally:
            self._asking -= 1
            if not self._asking:
                self._nobody_asks.set()
        if not reached:
            self._held.update(name for name, _ in bounds)
        return reached

    def give(self, names: Sequence[str]) -> None:
        """Takes the names out here at once, in Redis soon."""
        self._held.subtract(names)
        for name in names:
            if not self._held[name]:
                del self._held[name]
        # Call the store here, not in the task: the next client finds the place free.
        task = asyncio.ensure_future(self._given(self._store.give_seat(self._site, names)))
        self._giving.add(task)
        task.add_done_callback(self._giving.discard)

    def restore(self) -> None:
        """Gives Redis the counts of this node, with retries until Redis has taken them."""
        if self._restoring is None:
            self._restoring = start_logged(self._restore(), "restore seats")

    async def close(self) -> None:
        """Ends the tasks."""
        await self._row.close()
        tasks = [*self._giving, *([self._restoring] if self._restoring else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_right(self) -> None:
        while self._restoring is not None:
            await asyncio.wait([self._restoring], timeout=_PATIENCE_SECONDS)
            if self._restoring is not None:
                raise StoreUnavailable

    async def _given(self, answer: Awaitable[None]) -> None:
        try:
            await answer
        except StoreError:
            self.restore()

    async def _restore(self) -> None:
        try:
            await self._errands.until_stored(self._tell, self._site.name)
        except StoreError as error:
            _log.error("seats not restored", site=self._site.name, reason=str(error))
        finally:
            self._restoring = None

    async def _tell(self) -> None:
        """Tells Redis the counts when no command is under way.

        In parts. A seat that is given back meanwhile is not in a later part, or its command follows that part."""
        await self._nobody_asks.wait()
        names = iter(list(self._held))
        is_first = True
        while (part := list(islice(names, _PART))) or is_first:
            counts = {name: self._held[name] for name in part if self._held[name]}
            await self._store.set_seats(self._site, counts, is_first)
            is_first = False


def check_message(message: Message) -> None:
    """Raises LimitReached when the message is longer, or addresses more rooms, than its site may send."""
    most_rooms = message.site.limits.rooms_per_send
    if most_rooms and len(message.rooms) > most_rooms:
        text = f"Rooms: expected at most {most_rooms} in one message, got {len(message.rooms)}."
        raise LimitReached(text, "rooms_per_send", status=413)
    most = message.site.limits.message_bytes
    size = len(message.body)
    if most and size > most:
        text = f"Message: expected at most {most} bytes as JSON, got {size}."
        raise LimitReached(text, "message_bytes", status=413)


def _bounds_of_users(site: Site, users: Sequence[str]) -> list[_Bound]:
    most = site.limits.connections_per_user
    return [("connections_per_user", f"user:{user}", most) for user in users] if most else []


def _bounds(site: Site, address: str, users: Sequence[str]) -> list[_Bound]:
    limits = site.limits
    found = _bounds_of_users(site, users)
    if limits.connections_per_address and address:
        found.append(("connections_per_address", f"address:{network_of(address)}", limits.connections_per_address))
    if limits.connections:
        found.append(("connections", "all", limits.connections))
    return found
