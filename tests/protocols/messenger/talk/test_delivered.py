"""The acks of messengers' devices on one node: collected, noted, and never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from app.config.settings import Site
from app.core.ports import AckGroup
from app.observe.counts import Counts
from app.protocols.messenger.talk.delivered import DeliveredNotes
from app.protocols.messenger.talk.facts import AckedSeq, AckPage
from tests.support.store import make_site
from tests.support.waiting import until

SITE = make_site("team")


class Noted:
    """Receipts that are only kept. Implements `ReceiptStore`."""

    def __init__(self) -> None:
        self.acks: list[AckedSeq] = []
        self.calls = 0
        #: Called at the end of the first note.
        self.then: Callable[[], None] = lambda: None

    async def note_delivered(self, site: Site, acked: Sequence[AckedSeq], now: int) -> set[AckedSeq]:
        """Keeps the acks."""
        self.acks += acked
        self.calls += 1
        if self.calls == 1:
            asyncio.get_running_loop().call_soon(self.then)
        return set()

    async def ack_page(self, site: Site, behind: int, most: int, now: int) -> AckPage:
        """There is none."""
        return AckPage([], [], [])

    async def forget_seqs(self, site: Site, seqs: Sequence[int]) -> None:
        """Does nothing."""


async def test_an_ack_behind_the_last_one() -> None:
    """An ack that comes in the turn in which the ones before have just been noted is noted too."""
    noted = Noted()
    notes = DeliveredNotes(noted, lambda site: None, Counts([SITE.name]))
    notes.entered(SITE, [b"1"], 7, "phone")
    acks = [[AckGroup(is_batch=False, seq=seq, handles=[b"1"])] for seq in (1, 2)]
    noted.then = lambda: notes.acked(SITE, acks[1])
    notes.acked(SITE, acks[0])
    await until(lambda: len(noted.acks) == 2, "the second ack")
    assert [one.seq for one in noted.acks] == [1, 2]
    await notes.close()


async def test_acks_of_sites_without_a_messenger() -> None:
    """They cost nothing: nothing is kept of them, and no task begins."""
    noted = Noted()
    notes = DeliveredNotes(noted, lambda site: None, Counts([SITE.name]))
    notes.acked(SITE, [AckGroup(is_batch=False, seq=1, handles=[b"1"])])
    assert (notes._waiting, notes._tasks) == ({}, {})
    await notes.close()
