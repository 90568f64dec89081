"""The relay of one site: hands the rows of the outbox to the core in their order. One node at a time does it.

    waiting ──beat takes the lease──▶ handing on ──a beat finds another holder, or none came in time──▶ waiting

A row is deleted after the core has it. A relay that is killed in between repeats it, and the core knows it again: a
message by its idempotency key, a change of rooms by its number.
"""

import asyncio
import contextlib
from time import monotonic

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.message import ExceptDevice, Message
from app.core.options import Once
from app.core.ports import RoomsChange
from app.digests import digest
from app.errors import LimitReached, OtherRequest, RoomsChanged, StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.talk.facts import OutboxRow, SentRow
from app.protocols.messenger.talk.ports import NextId, OutboxStore, RelayCore, RelayLease
from app.watched_tasks import start_logged, start_watched

#: The beats of each node. Another node takes over when the last one was killed, within the lease and one beat.
BEAT_SECONDS = 1.0
LEASE_SECONDS = 4.0
#: The rows of one look at the outbox.
ROWS_A_LOOK = 200
#: The pause after an error of the core or of SQL.
RETRY_SECONDS = 0.25
#: For how long the core knows a message again. A relay tells it before that when a row is gone.
_ONCE_SECONDS = 86_400
#: A refusal with this status stays one.
_TOO_LARGE = 413

_log = structlog.get_logger(__name__)


class Relay:
    """The relay of one site on one node. Lives as long as the node serves the site: `start` begins, `close` ends it."""

    def __init__(
        self, site: Site, outbox: OutboxStore, lease: RelayLease, core: RelayCore, next_id: NextId, counts: Counts
    ) -> None:
        self._site = site
        self._outbox = outbox
        self._lease = lease
        self._core = core
        self._next_id = next_id
        self._faults = counts.faults
        #: This node hands rows on until then; 0: it does not.
        self._lease_until = 0.0
        self._beat_at = 0.0
        #: The rows that the core has, while SQL does not know it: up to this number, with their messages and keys.
        self._handed = 0
        self._sent: list[SentRow] = []
        self._keys: list[str] = []
        self._woken = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_mine(self) -> bool:
        """Whether this node hands rows on now."""
        return monotonic() < self._lease_until

    def start(self) -> None:
        """Begins to beat, and to hand rows on while this node has the lease."""
        self._task = start_watched(self._keep_handing(), f"relay of {self._site.name}")

    async def close(self) -> None:
        """Ends it, and gives the lease back."""
        tasks = [task for task in (self._task, self._waking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lease_until:
            self._lease_until = 0.0
            with contextlib.suppress(StoreError):
                await self._lease.beat(self._site, 0)

    def wake(self) -> None:
        """The outbox has rows: wakes the relay that works, here or on another node. Returns at once."""
        if self.is_mine:
            self._woken.set()
        elif self._waking is None or self._waking.done():
            self._waking = start_logged(self._wake_other(), f"wake relay of {self._site.name}")

    def woken(self) -> None:
        """Another node has rows for this one."""
        self._woken.set()

    async def _wake_other(self) -> None:
        with contextlib.suppress(StoreError):
            await self._lease.wake(self._site)

    async def _keep_handing(self) -> None:
        while True:
            self._woken.clear()
            try:
                until = await self._turn()
            except (StoreError, ChatUnavailable) as error:
                _log.info("messenger relay waits", site=self._site.name, reason=str(error))
                until = monotonic() + RETRY_SECONDS
            except Exception:
                # An error of the server itself costs this site a pause, and no other site anything.
                self._faults["messenger relay"] += 1
                _log.exception("messenger relay failed", site=self._site.name)
                until = monotonic() + BEAT_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until - monotonic())):
                    await self._woken.wait()

    async def _turn(self) -> float:
        """Does what is due. Answers when the next turn is, on the monotonic clock, unless it is woken."""
        if monotonic() >= self._beat_at:
            await self._beat()
        while self.is_mine:
            rows = await self._outbox.rows(self._site, ROWS_A_LOOK)
            pause = await self._hand_on(rows)
            if not self.is_mine:
                # Another relay repeats these rows, and the core knows them again.
                self._forget()
                return monotonic() + RETRY_SECONDS
            await self._finish()
            if pause or len(rows) < ROWS_A_LOOK:
                return min(self._beat_at, monotonic() + pause) if pause else self._beat_at
        return self._beat_at

    async def _beat(self) -> None:
        asked_at = monotonic()
        is_mine = await self._lease.beat(self._site, int(LEASE_SECONDS * 1000))
        if is_mine and not self._lease_until:
            _log.info("messenger relay takes over", site=self._site.name)
        # Commands that are given at the end of this time are refused by Redis before another relay has the lease.
        self._lease_until = asked_at + LEASE_SECONDS / 2 if is_mine else 0.0
        self._beat_at = asked_at + BEAT_SECONDS

    async def _hand_on(self, rows: list[OutboxRow]) -> float:
        """Hands rows on, as far as the core takes them. Answers how long to wait before the rest; 0: there is none."""
        for row in rows:
            if row.id <= self._handed:
                continue
            if monotonic() >= self._beat_at:
                await self._beat()
            if not self.is_mine:
                return RETRY_SECONDS
            try:
                await self._hand(row)
            except (OtherRequest, RoomsChanged, LimitReached, StoreError) as error:
                pause = self._pause_after(row, error)
                if pause:
                    return pause
            self._handed = row.id
        return 0.0

    def _pause_after(self, row: OutboxRow, error: Exception) -> float:
        """How long a row waits that the core has not taken; 0: it will never take it, and the rows behind it go on."""
        if isinstance(error, StoreUnavailable):
            return RETRY_SECONDS
        if isinstance(error, LimitReached) and error.status != _TOO_LARGE:
            return float(error.retry_after_seconds or BEAT_SECONDS)
        self._faults["messenger row"] += 1
        _log.error("messenger row left out", site=self._site.name, row=row.id, kind=row.kind, reason=str(error))
        return 0.0

    async def _hand(self, row: OutboxRow) -> None:
        if row.kind == "join":
            await self._core.change_rooms(self._site, RoomsChange(row.body, row.rooms, (), row.id))
        elif row.kind == "leave":
            await self._core.change_rooms(self._site, RoomsChange(row.body, (), row.rooms, row.id))
        else:
            await self._send(row)

    async def _send(self, row: OutboxRow) -> None:
        key = digest(f"chat:{row.id}").hex()
        event = row.body[2 : row.body.index('"', 2)]
        but = ExceptDevice(row.but_user, row.but_device or "") if row.but_user is not None else None
        once = Once(key, key, _ONCE_SECONDS)
        body = row.body.encode()
        stored = await self._core.publish(
            Message(self._site, self._next_id(), row.rooms, event, body, once=once, but=but)
        )
        self._keys.append(key)
        if row.message_id is not None and stored.seq:
            self._sent.append(SentRow(stored.seq, row.message_id, now_ms()))

    async def _finish(self) -> None:
        """Deletes the rows that the core has. Until that has happened no later look hands them on again."""
        if not self._handed:
            return
        await self._outbox.finish(self._site, self._handed, self._sent)
        keys = self._keys
        self._forget()
        if keys and self.is_mine:
            with contextlib.suppress(StoreError):
                await self._lease.settle(self._site, keys)

    def _forget(self) -> None:
        self._handed, self._sent, self._keys = 0, [], []
