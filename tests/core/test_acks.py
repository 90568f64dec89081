"""Acks on their way to the store: collected together, in order, and kept while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from app.clock import now_ms
from app.config.settings import Site
from app.core import acks
from app.core.acks import FLUSH_AT, AckBuffer
from app.core.message import LiveMessage
from app.core.ports import AckGroup
from app.errors import StoreUnavailable
from app.observe.counts import SiteCounts
from tests.support.store import make_site
from tests.support.waiting import until

Group = tuple[bool, int, list[bytes]]


class AckStore:
    """The one method of the store that acks need; the test gives the answers. Lives for one test."""

    def __init__(self) -> None:
        #: The arguments of each call, and its answer.
        self.calls: list[list[Group]] = []
        self.answers: list[asyncio.Future[list[bytes]]] = []
        self.called = asyncio.Event()
        #: Whether there is no link.
        self.is_away_now = False
        self.has_journal = False

    def is_away(self, site: str) -> bool:
        """As `QueueStore.is_away`."""
        return self.is_away_now

    def ack(self, site: Site, groups: Sequence[AckGroup]) -> Awaitable[list[bytes]]:
        """As `QueueStore.ack`."""
        self.calls.append([(group.is_batch, group.seq, list(group.handles)) for group in groups])
        self.answers.append(asyncio.get_running_loop().create_future())
        self.called.set()
        return self.answers[-1]

    @property
    def handed_over(self) -> list[Group]:
        """All groups of all calls."""
        return [group for call in self.calls for group in call]


@pytest.fixture
async def store() -> AckStore:
    """A store that has answered nothing yet."""
    return AckStore()


@pytest.fixture
async def buffer(store: AckStore) -> AckBuffer:
    """The acks of one site."""
    return AckBuffer(make_site(), store, lambda handle: None)  # type: ignore[arg-type]  # acks need no more of it


async def test_acks_of_one_message_travel_as_one_group(store: AckStore, buffer: AckBuffer) -> None:
    """Acks that follow one another for the same message are one group; the order of arrival is kept."""
    for seq, handle in ((5, b"1"), (5, b"2"), (6, b"1"), (5, b"3")):
        buffer.add(seq, handle)
    buffer.flush()
    assert store.calls == [[(False, 5, [b"1", b"2"]), (False, 6, [b"1"]), (False, 5, [b"3"])]]


async def test_batch_ack_is_no_part_of_a_messages_group(store: AckStore, buffer: AckBuffer) -> None:
    """The rule of resync does not apply to a batch: its acks stay apart from the acks of single messages."""
    buffer.add(5, b"1")
    buffer.add_batch([5, 6], b"2", 0)
    buffer.add(6, b"1")
    buffer.flush()
    assert store.calls == [[(False, 5, [b"1"]), (True, 5, [b"2"]), (True, 6, [b"2"]), (False, 6, [b"1"])]]


async def test_acks_leave_within_two_milliseconds(store: AckStore, buffer: AckBuffer) -> None:
    """The first ack starts a timer; later acks leave with it, without a call of `flush`."""
    loop = asyncio.get_running_loop()
    buffer.add(5, b"1")
    buffer.add(6, b"1")
    assert store.calls == []
    began_at = loop.time()
    async with asyncio.timeout(30):
        await store.called.wait()
    assert loop.time() - began_at >= acks.FLUSH_AFTER_SECONDS / 2
    assert store.calls == [[(False, 5, [b"1"]), (False, 6, [b"1"])]]


async def test_many_acks_do_not_wait(store: AckStore, buffer: AckBuffer) -> None:
    """The 512th ack flushes all of them at once; the next ack waits again."""
    for number in range(FLUSH_AT - 1):
        buffer.add(5, str(number).encode())
    assert store.calls == []
    buffer.add(5, b"last")
    assert len(store.calls) == 1
    assert len(store.handed_over[0][2]) == FLUSH_AT
    buffer.add(5, b"next")
    assert len(store.calls) == 1


async def test_large_batch_does_not_wait(store: AckStore, buffer: AckBuffer) -> None:
    """The ack of a batch counts for as many as it holds."""
    buffer.add(1, b"1")
    buffer.add_batch(list(range(2, 2 + FLUSH_AT)), b"1", 0)
    assert len(store.handed_over) == FLUSH_AT + 1


async def test_the_time_of_acks_is_counted_once(store: AckStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time from writing to ack is counted for each ack, also of a batch, and not again when Redis comes back; an
    ack of an unknown message has none."""
    counts = SiteCounts()
    buffer = AckBuffer(make_site(), store, lambda handle: None, counts)  # type: ignore[arg-type]  # acks need no more
    buffer.note_live(LiveMessage(5, "5", b"[]", [b"1", b"2"]))
    buffer.add(5, b"1")
    buffer.add(5, b"2")
    buffer.add_batch([6, 7], b"1", now_ms() - 100_000_000)
    buffer.add(8, b"1")
    buffer.flush()
    store.answers[0].set_exception(StoreUnavailable())
    await buffer.drain()
    store.is_away_now = True
    buffer.flush()
    assert sum(counts.ack_times.buckets) == 4
    assert counts.ack_times.buckets[-1] == 2


async def test_nothing_is_handed_over_for_nothing(store: AckStore, buffer: AckBuffer) -> None:
    """A flush without acks asks nothing of the store."""
    buffer.flush()
    await buffer.drain()
    assert store.calls == []


async def test_resync_is_called_for_each_answer(store: AckStore) -> None:
    """Each device that the store's answer names is told."""
    told: list[bytes] = []
    buffer = AckBuffer(make_site(), store, told.append)  # type: ignore[arg-type]  # acks need no more of it
    buffer.add(5, b"1")
    buffer.flush()
    store.answers[0].set_result([b"1", b"9"])
    await buffer.drain()
    assert told == [b"1", b"9"]


async def test_drain_waits_for_the_answer(store: AckStore, buffer: AckBuffer) -> None:
    """The collected acks have reached Redis when `drain` returns."""
    buffer.add(5, b"1")
    draining = asyncio.create_task(buffer.drain())
    await until(lambda: store.calls, "the acks to leave")
    assert not draining.done()
    store.answers[0].set_result([])
    await draining


@pytest.fixture
def fast_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept acks are retried at once."""
    monkeypatch.setattr(acks, "_RETRY_AFTER_SECONDS", 0.01)


def break_link(store: AckStore, count: int) -> None:
    """The link breaks while the last `count` calls are under way."""
    for answer in store.answers[-count:]:
        answer.set_exception(StoreUnavailable())
    store.calls.clear()


@pytest.mark.usefixtures("fast_retry")
async def test_acks_are_kept_while_redis_is_away(store: AckStore, buffer: AckBuffer) -> None:
    """Acks that Redis has not confirmed are retried until it does, in front of later acks."""
    buffer.add(5, b"1")
    buffer.flush()
    break_link(store, 1)
    buffer.add(6, b"1")
    await until(lambda: len(store.handed_over) == 2, "the acks to be tried again")
    break_link(store, len(store.answers) - 1)
    await until(lambda: len(store.handed_over) == 2, "another try")
    assert store.handed_over == [(False, 5, [b"1"]), (False, 6, [b"1"])]
    store.answers[-1].set_result([])
    await buffer.drain()
    assert len(store.handed_over) == 2


@pytest.mark.usefixtures("fast_retry")
async def test_acks_keep_their_order_when_several_flushes_fail(store: AckStore, buffer: AckBuffer) -> None:
    """Two flushes under way when the connection breaks: a message sent with resync=true must not look out of turn."""
    for seq in (5, 6, 7):
        buffer.add(seq, b"1")
        buffer.flush()
    break_link(store, 3)
    await until(lambda: len(store.handed_over) == 3, "all acks to be tried again")
    assert [seq for _, seq, _ in store.handed_over] == [5, 6, 7]


async def test_no_more_acks_are_kept_than_agreed(
    store: AckStore, buffer: AckBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long absence of Redis costs a bounded number of bytes: the oldest acks go, their messages come again."""
    monkeypatch.setattr(acks, "KEEP_AT_MOST", 10)
    monkeypatch.setattr(acks, "_RETRY_AFTER_SECONDS", 60)
    for seq in range(30):
        buffer.add(seq, b"1")
        buffer.flush()
    break_link(store, 30)
    # Flush behind the failures: they are put back in the next turn of the loop.
    await asyncio.sleep(0)
    buffer.flush()
    assert [seq for _, seq, _ in store.handed_over] == list(range(20, 30))


@pytest.mark.usefixtures("fast_retry")
async def test_nothing_is_built_without_a_link(store: AckStore, buffer: AckBuffer) -> None:
    """While there is no link no command is made of the acks; they go, in order, when there is one."""
    store.is_away_now = True
    for seq in range(FLUSH_AT + 1):
        buffer.add(seq, b"1")
    buffer.flush()
    assert store.calls == []
    store.is_away_now = False
    await asyncio.wait_for(store.called.wait(), 30)
    assert [seq for _, seq, _ in store.handed_over] == list(range(FLUSH_AT + 1))


async def test_no_more_acks_are_kept_without_a_link(
    store: AckStore, buffer: AckBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of kept acks holds for acks that were never tried."""
    monkeypatch.setattr(acks, "KEEP_AT_MOST", 10)
    store.is_away_now = True
    for seq in range(25):
        buffer.add(seq, b"1")
    buffer.flush()
    store.is_away_now = False
    buffer.flush()
    assert [seq for _, seq, _ in store.handed_over] == list(range(15, 25))


async def test_many_acks_go_in_parts(store: AckStore, buffer: AckBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command holds a bounded number of acks; a group that is longer is cut, and the order is kept."""
    monkeypatch.setattr(acks, "MOST_IN_COMMAND", 4)
    handles = [str(number).encode() for number in range(10)]
    for handle in handles:
        buffer.add(5, handle)
    buffer.add_batch([6, 7], b"1", 0)
    buffer.flush()
    assert [sum(len(handles) for _, _, handles in call) for call in store.calls] == [4, 4, 4]
    assert [handle for _, seq, group in store.handed_over if seq == 5 for handle in group] == handles
    assert store.handed_over[-2:] == [(True, 6, [b"1"]), (True, 7, [b"1"])]
