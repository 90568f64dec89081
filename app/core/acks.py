"""Collects the acks of a site for a moment, so that one script run removes many messages; keeps them while Redis is
away."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.message import LiveMessage
from app.core.ports import AckGroup, QueueStore
from app.core.written import Batch, Written
from app.core.written_times import REPORT_AFTER_MS, WrittenTimes
from app.errors import StoreError
from app.observe.counts import SiteCounts

#: Acks are collected until either bound is reached; see ARCHITECTURE.md.
FLUSH_AFTER_SECONDS = 0.002
FLUSH_AT = 512
#: The most acks that are kept while Redis is away. Messages of dropped acks come again, as at-least-once allows.
KEEP_AT_MOST = 200_000
#: Acks in one command: some milliseconds of Redis's time.
MOST_IN_COMMAND = 4_096
_RETRY_AFTER_SECONDS = 0.25

_log = structlog.get_logger(__name__)


class AckBuffer:
    """The acks of one site on this node that Redis has not applied yet. Lives as long as the node; `drain` ends it."""

    def __init__(
        self,
        site: Site,
        store: QueueStore,
        resync: Callable[[bytes], None],
        counts: SiteCounts | None = None,
        was_written: Callable[[bytes, int], bool] = lambda handle, seq: True,
    ) -> None:
        """`resync` is called with the handle of each device whose ack was out of turn, so that it needs a `_resync`;
        `was_written`: see `WrittenTimes`."""
        self._site = site
        self._store = store
        self._resync = resync
        self._counts = counts or SiteCounts()
        self._groups: list[AckGroup] = []
        #: Groups of failed flushes, by the number of the flush, oldest first: they go before `_groups`.
        self._kept: dict[int, list[AckGroup]] = {}
        self._flushes = 0
        self._last: AckGroup | None = None
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Called with groups that the store has applied.
        self.on_applied: Callable[[Sequence[AckGroup]], None] = lambda groups: None
        self._written = WrittenTimes(was_written)
        self._reporting: asyncio.TimerHandle | None = None

    def note_live(self, message: LiveMessage) -> None:
        """A live message was handed to its connections on this node."""
        if message.recipients:
            self._written.note(message.seq, message.recipients)
            self._report_later()

    def note_written(self, batch: Batch) -> None:
        """Messages were written to one device: as a batch, or behind a gap."""
        self._written.note_batch(batch)
        self._report_later()

    def add(self, seq: int, handle: bytes) -> None:
        """One device has acknowledged one message. The hot path: once per delivery."""
        last = self._last
        if last is not None and last.seq == seq and not last.is_batch:
            last.handles.append(handle)
        else:
            self._open_group(AckGroup(False, seq, [handle], 0, now_ms()))
        self._count += 1
        if self._count == FLUSH_AT:
            self.flush()

    def add_batch(self, seqs: list[int], handle: bytes, written_ms: int) -> None:
        """One device has acknowledged a `_batch` with these messages, which was written at this time."""
        now = now_ms()
        for seq in seqs:
            self._open_group(AckGroup(True, seq, [handle], written_ms, now))
        self._count += len(seqs)
        if FLUSH_AT <= self._count < FLUSH_AT + len(seqs):
            self.flush()

    def flush(self) -> None:
        """Hands the collected acks to the store at once: a command that is called after this runs after them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._count:
            return
        if self._store.is_away(self._site.name):
            # Nothing is built for a store without a link.
            self._drop_excess()
            self._retry_later()
            return
        marked: list[AckGroup] = []
        for group in self._groups:
            marked.append(group)
            # In order: an ack out of turn calls for a `_resync`.
            if not group.is_batch and (others := self._written.mark(group)):
                marked.append(AckGroup(False, group.seq, others, group.written_ms, group.acked_ms))
        for group in marked:
            if group.written_ms:
                self._counts.ack_times.note(group.acked_ms - group.written_ms, len(group.handles))
        groups = [*itertools.chain.from_iterable(self._kept.values()), *marked]
        parts = [groups] if self._count <= MOST_IN_COMMAND else _parts_of(groups)
        self._groups, self._last, self._count = [], None, 0
        self._kept.clear()
        for part in parts:
            self._flushes += 1
            # Call the store here, not in the task: commands run in the order of the calls.
            applied = self._store.ack(self._site, part)
            task = asyncio.ensure_future(self._apply(self._flushes, part, applied))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Waits until the collected acks have reached Redis, or were put back because Redis is away."""
        self.flush()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _open_group(self, group: AckGroup) -> None:
        self._groups.append(group)
        self._last = group
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_SECONDS, self.flush)

    async def _apply(self, number: int, groups: list[AckGroup], applied: Awaitable[list[bytes]]) -> None:
        try:
            calls = await applied
        except StoreError as error:
            self._put_back(number, groups)
            _log.warning("acks kept", site=self._site.name, acks=self._count, reason=str(error))
            return
        self._counts.acks += _count_of(groups)
        for handle in calls:
            self._resync(handle)
        try:
            self.on_applied(groups)
        except Exception:
            # Nobody waits for this task; acks that come later go on.
            _log.exception("listener failed", site=self._site.name)

    def _put_back(self, number: int, groups: list[AckGroup]) -> None:
        # Several flushes fail at once when the link breaks. Keep their order: an ack out of turn calls for a `_resync`.
        self._kept = dict(sorted({**self._kept, number: groups}.items()))
        self._count += _count_of(groups)
        self._drop_excess()
        self._retry_later()

    def _drop_excess(self) -> None:
        """Drops the oldest acks past the bound."""
        if self._count <= KEEP_AT_MOST:
            return
        excess = self._count - KEEP_AT_MOST
        for kept in (*self._kept.values(), self._groups):
            dropped = 0
            while dropped < len(kept) and excess > 0:
                size = len(kept[dropped].handles)
                excess -= size
                self._count -= size
                self._counts.acks_dropped += size
                dropped += 1
            del kept[:dropped]
        if not self._groups:
            self._last = None

    def _report_later(self) -> None:
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(REPORT_AFTER_MS / 1000, self._report)

    def _report(self) -> None:
        """Tells the journal of messages that were written a while ago and wait for their acks."""
        self._reporting = None
        due = self._written.due(now_ms())
        if due and self._store.has_journal and not self._store.is_away(self._site.name):
            task = asyncio.ensure_future(self._tell(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not self._written.is_empty:
            self._report_later()

    async def _tell(self, written: Sequence[Written]) -> None:
        # A report that is lost costs a time in the journal, and no fate.
        with contextlib.suppress(StoreError):
            await self._store.note_written(self._site, written)

    def _retry_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_RETRY_AFTER_SECONDS, self.flush)


def _count_of(groups: Sequence[AckGroup]) -> int:
    return sum(len(group.handles) for group in groups)


def _parts_of(groups: Sequence[AckGroup]) -> Iterator[list[AckGroup]]:
    """The groups in parts of at most MOST_IN_COMMAND acks; a longer group is cut."""
    part: list[AckGroup] = []
    count = 0
    for group in groups:
        for start in range(0, len(group.handles), MOST_IN_COMMAND):
            handles = group.handles[start : start + MOST_IN_COMMAND]
            if count + len(handles) > MOST_IN_COMMAND:
                yield part
                part, count = [], 0
            places = group.places if len(handles) == len(group.handles) else b""
            part.append(AckGroup(group.is_batch, group.seq, handles, group.written_ms, group.acked_ms, places))
            count += len(handles)
    if part:
        yield part
