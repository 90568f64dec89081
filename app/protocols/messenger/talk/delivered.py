"""Receipts `delivered` from acks: the acks of this node at once, in batches, and below them a net, the acks of the
journal.

The node whose relay works holds the net.
"""

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.ports import AckGroup
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.talk.facts import AckedSeq
from app.protocols.messenger.talk.ports import ReceiptStore, WakeRelay
from app.watched_tasks import start_logged, start_watched

#: How long acks are collected, and how many of them one transaction notes.
COLLECT_SECONDS = 0.05
MOST_IN_BATCH = 500
#: Acks that wait; past it the oldest are left to the net.
MAX_WAITING = 100_000
#: Devices whose names are known, of all sites.
MAX_KNOWN = 200_000
#: The relay may not have told yet which message a seq is: an ack waits so often for it, and longer each time.
TRIES = 6
#: The net looks so often at so many sent messages.
NET_SECONDS = 5.0
NET_PAGE = 500

_log = structlog.get_logger(__name__)


class DeliveredNotes:
    """The acks of messengers' devices on this node. Lives as long as the node; `close` ends it."""

    def __init__(self, receipts: ReceiptStore, wake: WakeRelay, counts: Counts) -> None:
        """`wake` is called when there is something for the relay of a site."""
        self._receipts = receipts
        self._wake = wake
        self._faults = counts.faults
        #: The user and the deviceId of handles; the longest unused goes first.
        self._known: OrderedDict[tuple[str, bytes], tuple[int, str]] = OrderedDict()
        #: The sites of which a device was here: acks of all others cost nothing.
        self._sites: set[str] = set()
        #: The acks of each site that wait, with the number of tries.
        self._waiting: dict[str, dict[AckedSeq, int]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def entered(self, site: Site, handles: Iterable[bytes], user: int, device: str) -> None:
        """A connection of a user's device has these handles."""
        self._sites.add(site.name)
        for handle in handles:
            self._known[site.name, handle] = (user, device)
            self._known.move_to_end((site.name, handle))
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def acked(self, site: Site, groups: Sequence[AckGroup]) -> None:
        """The store has applied acks; see `Delivery.on_acked`."""
        if site.name not in self._sites:
            return
        waiting = self._waiting.setdefault(site.name, {})
        for group in groups:
            for handle in group.handles:
                if (known := self._known.get((site.name, handle))) is not None:
                    waiting[AckedSeq(group.seq, *known)] = 0
        while len(waiting) > MAX_WAITING:
            del waiting[next(iter(waiting))]
        if waiting and site.name not in self._tasks:
            self._tasks[site.name] = start_logged(self._keep_noting(site), f"receipts of {site.name}")

    async def close(self) -> None:
        """Ends it. The net of another node finds what waits."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_noting(self, site: Site) -> None:
        try:
            await self._note_all(site)
        finally:
            # In the turn that has seen nothing wait: an ack of the next one begins again.
            self._tasks.pop(site.name, None)

    async def _note_all(self, site: Site) -> None:
        pause = COLLECT_SECONDS
        while waiting := self._waiting.get(site.name):
            await asyncio.sleep(pause)
            part = dict(itertools.islice(waiting.items(), MOST_IN_BATCH))
            try:
                unknown = await self._receipts.note_delivered(site, list(part), now_ms())
            except ChatUnavailable:
                pause = min(2.0, pause * 2)
                continue
            except Exception:
                # The net finds them.
                self._faults["messenger receipts"] += 1
                _log.exception("receipts failed", site=site.name)
                unknown = set()
            for acked, tries in part.items():
                waiting.pop(acked, None)
                if acked in unknown and tries + 1 < TRIES:
                    waiting[acked] = tries + 1
            if len(unknown) < len(part):
                self._wake(site)
            least = min(waiting.values(), default=0)
            pause = COLLECT_SECONDS * 2**least


class ReceiptNet:
    """The net of one site on this node. Lives as long as its relay: `start` begins, `close` ends it."""

    def __init__(self, site: Site, receipts: ReceiptStore, wake: WakeRelay, counts: Counts) -> None:
        self._site = site
        self._receipts = receipts
        self._wake = wake
        self._faults = counts.faults
        self._behind = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, is_mine: Callable[[], bool]) -> None:
        """Looks as long as this node is the one whose relay works."""
        self._task = start_watched(self._keep_looking(is_mine), f"receipt net of {self._site.name}")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Notes the acks of one page. Raises ChatUnavailable."""
        page = await self._receipts.ack_page(self._site, self._behind, NET_PAGE, now_ms())
        if page.acks:
            await self._receipts.note_delivered(self._site, page.acks, now_ms())
            self._wake(self._site)
        if page.ended:
            await self._receipts.forget_seqs(self._site, page.ended)
        self._behind = page.seqs[-1] if len(page.seqs) == NET_PAGE else 0

    async def _keep_looking(self, is_mine: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(NET_SECONDS)
            if not is_mine():
                continue
            try:
                with contextlib.suppress(ChatUnavailable):
                    await self.look()
            except Exception:
                self._faults["messenger receipts"] += 1
                _log.exception("receipts failed", site=self._site.name)
