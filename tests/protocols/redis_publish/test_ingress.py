"""The ingress, from an application's messages to mailboxes that record letters or fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from types import SimpleNamespace
from typing import cast

import pytest

from app.config.settings import SiteLimits
from app.errors import StoreError, StoreUnavailable, WrongType
from app.protocols.redis_publish import ingress as ingress_module
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.ingress import Ingress
from app.protocols.redis_publish.mailbox_ports import Letter, LetterOutcome, Mailboxes, StreamEntry
from app.protocols.redis_publish.settings import RedisPublish
from tests.support.publish_node import publish_site
from tests.support.waiting import until


class FakeMailboxes:
    """Records deliveries, and fails as often as the test says."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, str, str]] = []
        self.until_ms: list[int] = []
        self.channels: dict[str, list[list[str]]] = {}
        self.failures: list[StoreError] = []
        self.wrong_channels: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, user: str, letter: Letter, until_ms: int) -> LetterOutcome:
        """Records user, payload and stream id."""
        await self.gate.wait()
        self.until_ms.append(until_ms)
        if self.failures:
            raise self.failures.pop(0)
        self.delivered.append((user, json.loads(letter.entry)["payload"], letter.stream_id))
        return LetterOutcome("queued", 0)

    async def members(self, channel: str) -> AsyncIterator[list[str]]:
        """The members that the test sets, in parts."""
        if channel in self.wrong_channels:
            raise WrongType("WRONGTYPE")
        for part in self.channels.get(channel, []):
            await asyncio.sleep(0)
            yield part


class FakeStream:
    """Returns the entries of the test, and keeps the unacknowledged ones."""

    def __init__(self) -> None:
        self.unread: list[StreamEntry] = []
        self.pending: list[StreamEntry] = []
        self.acknowledged: list[str] = []
        self.is_stopped = asyncio.Event()

    async def claim(self) -> list[StreamEntry]:
        """Returns the pending entries."""
        return list(self.pending)

    async def read(self) -> list[StreamEntry]:
        """Returns new entries, or nothing after a moment."""
        if not self.unread:
            try:
                await asyncio.wait_for(self.is_stopped.wait(), 0.01)
            except TimeoutError:
                return []
        read, self.unread = self.unread, []
        self.pending += read
        return read

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Removes the entries."""
        self.acknowledged += ids
        self.pending = [entry for entry in self.pending if entry.id not in ids]

    async def stop(self) -> None:
        """Wakes `read`."""
        self.is_stopped.set()

    def add(self, id_: str, to: str, payload: str, **fields: str) -> None:
        """Adds an entry that no node has read."""
        encoded = {name.encode(): value.encode() for name, value in fields.items()}
        self.unread.append(StreamEntry(id_, {b"to": to.encode(), b"payload": payload.encode(), **encoded}))


class Case:
    """An ingress with its fakes. Lives for one test."""

    def __init__(self, max_payload_bytes: int = 1_000, message_bytes: int = 0) -> None:
        self.mailboxes = FakeMailboxes()
        self.stream = FakeStream()
        self.counts = RedisPublishCounts()
        site = publish_site(limits=SiteLimits(message_bytes=message_bytes))
        settings = RedisPublish(max_payload_bytes=max_payload_bytes)
        mailboxes = cast(Mailboxes, self.mailboxes)
        self.encoding = SimpleNamespace(is_uri=False)
        self.ingress = Ingress(site, settings, mailboxes, self.stream, self.encoding, self.counts)

    def own(self, gap_ms: int = 0) -> None:
        """Gives the lease to this node."""
        self.ingress.lease_renewed(77, monotonic() + 60)
        self.ingress.lease_taken(gap_ms)

    async def delivered(self, count: int) -> list[tuple[str, str, str]]:
        """Waits for this number of deliveries and returns them."""
        await until(lambda: len(self.mailboxes.delivered) >= count, f"{count} letters")
        return self.mailboxes.delivered


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    """An ingress with the default settings, which loses its lease at the end."""
    case = Case()
    yield case
    await case.ingress.lease_lost()


async def test_order_of_users_and_channels(case: Case) -> None:
    """Letters are delivered in the order of the PUBLISHes, a channel's to each member, with the end of the lease."""
    case.own()
    case.mailboxes.channels["c"] = [["a", "b"], ["c", "not\na name"]]
    for number in range(4):
        case.ingress.message_published("users.a", f"d{number}".encode())
        case.ingress.message_published("channels.c", f"c{number}".encode())
    delivered = await case.delivered(16)
    assert [payload for user, payload, _ in delivered if user == "a"] == [f"{k}{n}" for n in range(4) for k in "dc"]
    assert [payload for user, payload, _ in delivered if user == "c"] == ["c0", "c1", "c2", "c3"]
    assert set(case.mailboxes.until_ms) == {77}
    await until(lambda: case.counts.outcomes["queued"] == 16, "all to be counted")
    assert case.counts.received["publish"] == 8


@pytest.mark.parametrize("destination", ["users.", "others.a", "users", "users.a\nb", "users.a:b"])
async def test_no_destination(case: Case, destination: str) -> None:
    """A message without a valid destination is refused and counted."""
    case.own()
    case.ingress.message_published(destination, b"x")
    case.ingress.message_published("users.a", b"y")
    assert await case.delivered(1) == [("a", "y", "")]
    assert case.counts.outcomes["refused"] == 1


@pytest.mark.parametrize(("max_payload", "message_bytes"), [(10, 0), (10, 20), (20, 10)])
async def test_too_long(max_payload: int, message_bytes: int) -> None:
    """The smaller of max_payload and the site's message_bytes applies, for both forms."""
    case = Case(max_payload, message_bytes)
    case.own()
    for size in (10, 11):
        case.ingress.message_published("users.a", b"x" * size)
        case.stream.add(f"{size}-0", "users.a", "y" * size)
    delivered = await case.delivered(2)
    assert sorted(payload for _, payload, _ in delivered) == ["x" * 10, "y" * 10]
    await until(lambda: case.stream.acknowledged == ["10-0", "11-0"], "both to be acknowledged")
    assert case.counts.outcomes["refused"] == 2
    await case.ingress.lease_lost()


async def test_published_messages_that_fail_are_lost(case: Case) -> None:
    """PUBLISH promises at most one delivery: a failed message is counted as lost, and the rest are delivered."""
    case.mailboxes.failures = [StoreUnavailable(), StoreError("OTHER")]
    case.own(gap_ms=1_500)
    for number in range(4):
        case.ingress.message_published("users.a", str(number).encode())
    assert [payload for _, payload, _ in await case.delivered(2)] == ["2", "3"]
    await until(lambda: case.counts.outcomes["lost"] == 2, "both to be counted")
    assert (case.counts.lease_gaps, case.counts.lease_gap_seconds) == (1, 1.5)


async def test_stream_entries_that_fail_are_read_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that could not be delivered is not acknowledged. It is claimed and delivered, with its id."""
    monkeypatch.setattr(ingress_module, "_RETRY_SECONDS", 0.01)
    case.mailboxes.failures = [StoreUnavailable()]
    case.stream.add("5-0", "users.a", "first")
    case.stream.add("5-1", "users.a", "second", id="mine")
    case.own()
    await until(lambda: case.stream.acknowledged == ["5-0", "5-1"], "both to be acknowledged")
    assert case.mailboxes.delivered[-2:] == [("a", "first", "5-0"), ("a", "second", "5-1")]
    assert case.counts.claimed == 2
    assert case.counts.received["stream"] == 2


async def test_keys_of_a_wrong_type_are_refused(case: Case) -> None:
    """A channel or list of a wrong type blocks nothing: its messages are refused, and the rest are delivered."""
    case.mailboxes.wrong_channels = {"bad"}
    case.mailboxes.failures = [WrongType("WRONGTYPE")]
    for number, to in enumerate(("channels.bad", "users.bad", "users.a")):
        case.stream.add(f"5-{number}", to, to)
    case.own()
    await until(lambda: case.stream.acknowledged == ["5-0", "5-1", "5-2"], "all to be acknowledged")
    case.mailboxes.failures = [WrongType("WRONGTYPE")]
    for to in ("channels.bad", "users.bad", "users.a"):
        case.ingress.message_published(to, b"published")
    assert await case.delivered(2) == [("a", "users.a", "5-2"), ("a", "published", "")]
    await until(lambda: case.counts.outcomes["queued"] == 2, "both to be counted")
    assert (case.counts.outcomes["refused"], case.counts.outcomes["lost"]) == (4, 0)


async def test_stream_is_not_read_after_the_lease(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has slept past its lease reads nothing until the lease is renewed."""
    monkeypatch.setattr(ingress_module, "_RETRY_SECONDS", 0.01)
    looks: list[float] = []

    def clock() -> float:
        looks.append(monotonic())
        return looks[-1]

    monkeypatch.setattr(ingress_module, "monotonic", clock)
    case.ingress.lease_renewed(77, monotonic() - 1)
    case.ingress.lease_taken(0)
    case.stream.add("5-0", "users.a", "x")
    await until(lambda: len(looks) > 3, "the node to look several times whether the lease is its own")
    assert case.stream.unread
    case.ingress.lease_renewed(78, monotonic() + 60)
    assert await case.delivered(1) == [("a", "x", "5-0")]


async def test_what_is_heard_before_the_lease(case: Case) -> None:
    """A message heard before the lease is buffered, and delivered when the lease is taken, unless another node delivers
    it."""
    case.ingress.message_published("users.a", b"theirs")
    case.ingress.forget_published()
    case.ingress.message_published("users.a", b"ours")
    assert case.mailboxes.delivered == []
    case.own()
    assert await case.delivered(1) == [("a", "ours", "")]


async def test_end_of_the_lease(case: Case) -> None:
    """Messages that were heard are delivered before `lease_lost` returns. Messages that cannot be delivered in time are
    counted as lost."""
    case.own()
    case.ingress.message_published("users.a", b"heard")
    await case.ingress.lease_lost()
    assert case.mailboxes.delivered == [("a", "heard", "")]
    case.own()
    case.mailboxes.gate.clear()
    case.ingress.message_published("users.a", b"stuck")
    await asyncio.sleep(0)
    case.ingress.message_published("users.a", b"behind")
    await case.ingress.lease_lost()
    assert case.counts.outcomes["lost"] >= 1
    assert case.counts.holds_lease == 0


async def test_backlog_is_bounded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis does not answer, the backlog does not grow without bound."""
    monkeypatch.setattr(ingress_module, "MAX_BACKLOG_BYTES", 10_000)
    case.mailboxes.gate.clear()
    for _ in range(1_000):
        case.ingress.message_published("users.a", b"x" * 100)
    assert 900 < case.counts.outcomes["lost"] < 1_000
