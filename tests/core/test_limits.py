"""The limits of a site: connections are counted over all nodes, exactly, and no count stays behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any

import pytest

from app.config.settings import Site, SiteLimits
from app.core.limits import Limits
from app.core.seat import Seat
from app.errors import LimitReached, StoreError, StoreUnavailable
from app.store.keys import prefix
from tests.support.store import StoreNode, make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until


def limited(**limits: Any) -> Site:
    """A site with these limits."""
    return make_site(limits=SiteLimits(**limits))


def seats_in(valkey: Valkey, site: Site) -> dict[str, int]:
    """The counts in Redis, over all nodes; a node without seats is not among them."""
    sums: Counter[str] = Counter()
    for key, held in valkey.dump().items():
        # None: the hash went away between its name and its content.
        if key.startswith(f"{prefix(site.name)}seats:") and held:
            sums.update({name: int(count) for name, count in held.items()})
    return dict(sums)


async def refusal(limits: Limits, site: Site, *arguments: Any) -> str:
    """The text of the refusal that must come."""
    with pytest.raises(LimitReached) as caught:
        await limits.connect(site, *arguments)
    return str(caught.value)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client waits at a limit that is reached; see test_seat_row.py."""
    monkeypatch.setattr("app.core.seat_row.PATIENCE_SECONDS", 0.0)


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """One node."""
    started = await StoreNode.start(valkey, [make_site()])
    yield started
    await started.close()


@pytest.fixture
async def other(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """Another node."""
    started = await StoreNode.start(valkey, [make_site()])
    yield started
    await started.close()


async def test_connections_of_a_site_are_counted_over_all_nodes(node: StoreNode, other: StoreNode) -> None:
    """One more than the limit is refused on any node; a connection that leaves makes room for one."""
    site = limited(connections=3)
    seats = [await limits.connect(site) for limits in (node.limits, other.limits, node.limits)]
    assert await refusal(node.limits, site) == "Too many connections"
    assert await refusal(other.limits, site) == "Too many connections"
    node.limits.disconnect(seats[0])
    await node.limits.connect(site)
    assert await refusal(other.limits, site) == "Too many connections"


async def test_many_at_once_are_counted_exactly(node: StoreNode, other: StoreNode, valkey: Valkey) -> None:
    """Of 5,000 connects at once exactly as many succeed as there are seats; when they end, all seats are free again."""
    site = limited(connections=1_000, connections_per_user=2)
    nodes = (node.limits, other.limits)
    # They are all to be counted, however slow the machine is.
    node.redis.timeout_seconds = other.redis.timeout_seconds = 60
    answers = await asyncio.gather(
        *(nodes[number % 2].connect(site, "", [f"user_{number % 2_500}"]) for number in range(5_000)),
        return_exceptions=True,
    )
    seats = [answer for answer in answers if isinstance(answer, Seat)]
    assert len(seats) == 1_000
    assert {str(answer) for answer in answers if not isinstance(answer, Seat)} == {"Too many connections"}
    assert seats_in(valkey, site)["all"] == 1_000
    for number, answer in enumerate(answers):
        if isinstance(answer, Seat):
            nodes[number % 2].disconnect(answer)
    await until(lambda: seats_in(valkey, site) == {}, "all seats to be given back")


@pytest.mark.parametrize(
    ("limits", "arguments", "text"),
    [
        ({"connections_per_user": 2}, ("", ["user_8"]), "Too many connections of this user"),
        ({"connections_per_address": 2}, ("192.0.2.7",), "Too many connections from this address"),
        ({"connections_per_address": 2}, ("2001:db8:1:2:3::4",), "Too many connections from this address"),
    ],
)
async def test_users_and_addresses(
    node: StoreNode, other: StoreNode, limits: dict[str, int], arguments: tuple[Any, ...], text: str
) -> None:
    """Each user and each address has a count of its own."""
    site = limited(**limits)
    seat = await node.limits.connect(site, *arguments)
    await other.limits.connect(site, *arguments)
    assert await refusal(node.limits, site, *arguments) == text
    await node.limits.connect(site, "192.0.2.8", ["user_9"])
    node.limits.disconnect(seat)
    await other.limits.connect(site, *arguments)


async def test_an_ipv6_network_is_one_address(node: StoreNode) -> None:
    """A customer has a whole /64; an IPv4 address mapped to IPv6 is that address; an unknown one is not counted."""
    site = limited(connections_per_address=1)
    await node.limits.connect(site, "2001:db8:1:2::1")
    await node.limits.connect(site, "2001:db8:1:3::1%eth0")
    assert "address" in await refusal(node.limits, site, "2001:db8:1:2:ffff::9")
    await node.limits.connect(site, "::ffff:192.0.2.7")
    assert "address" in await refusal(node.limits, site, "192.0.2.7")
    await node.limits.connect(site, "")
    await node.limits.connect(site, "")


async def test_a_refused_connection_is_counted_nowhere(node: StoreNode, valkey: Valkey) -> None:
    """A user over its limit takes no seat of the site."""
    site = limited(connections=5, connections_per_user=1)
    await node.limits.connect(site, "", ["user_8"])
    for _ in range(10):
        assert "user" in await refusal(node.limits, site, "", ["user_8"])
    assert seats_in(valkey, site) == {"all": 1, "user:user_8": 1}


async def test_a_seat_is_given_back_once(node: StoreNode, valkey: Valkey) -> None:
    """A seat that is given back twice frees no other seat."""
    site = limited(connections=5)
    seat = await node.limits.connect(site)
    await node.limits.connect(site)
    node.limits.disconnect(seat)
    node.limits.disconnect(seat)
    await node.redis.command("PING")
    assert seats_in(valkey, site) == {"all": 1}


async def test_no_limit_costs_nothing(node: StoreNode, valkey: Valkey) -> None:
    """A site without limits of connections leaves no trace in Redis, and needs none."""
    await node.redis.close()
    seat = await node.limits.connect(make_site(), "192.0.2.7", ["user_8"], 1_000)
    node.limits.disconnect(seat)
    node.limits.restore()


async def test_rooms(node: StoreNode) -> None:
    """A connection may have as many rooms as the limit, asked for at once or one after the other."""
    site = limited(rooms_per_connection=3)
    await node.limits.connect(site, rooms=3)
    node.limits.check_rooms(site, 3)
    assert await refusal(node.limits, site, "", [], 4) == "Too many rooms: expected at most 3"
    with pytest.raises(LimitReached) as caught:
        node.limits.check_rooms(site, 4)
    assert (caught.value.limit, caught.value.status) == ("rooms_per_connection", 429)


async def test_a_dead_node_gives_back(node: StoreNode, other: StoreNode, valkey: Valkey) -> None:
    """The seats of a dead node are free as soon as it is buried; the seats of other nodes stay."""
    site = limited(connections=2)
    await node.limits.connect(site)
    await other.limits.connect(site)
    await other.queues.bury(site, node.name, "")
    assert seats_in(valkey, site) == {"all": 1}
    await other.limits.connect(site)
    assert await refusal(other.limits, site) == "Too many connections"


async def test_a_node_that_was_taken_for_dead_counts_again(node: StoreNode, other: StoreNode, valkey: Valkey) -> None:
    """When it wakes up it tells Redis its seats, also those taken after its burial; none counts twice."""
    site = limited(connections=10, connections_per_user=9)
    seats = [await node.limits.connect(site, "", [f"user_{number}"]) for number in range(3)]
    await other.limits.connect(site)
    await other.queues.bury(site, node.name, "")
    node.limits.disconnect(seats[0])
    seats.append(await node.limits.connect(site, "", ["user_3"]))
    node.delivery.bus_interrupted()
    await until(lambda: seats_in(valkey, site).get("all") == 4, "what it holds")
    assert seats_in(valkey, site) == {"all": 4, "user:user_1": 1, "user:user_2": 1, "user:user_3": 1}
    for seat in seats:
        node.limits.disconnect(seat)
    await until(lambda: seats_in(valkey, site) == {"all": 1}, "what the other holds")


async def test_redis_without_its_newest_writes_is_told_anew(node: StoreNode, valkey: Valkey) -> None:
    """When Redis has lost everything, the node tells it its seats once it is back, in parts when they are many."""
    site = limited(connections=5_000, connections_per_user=1)
    await asyncio.gather(*(node.limits.connect(site, "", [f"user_{number}"]) for number in range(1_200)))
    before = seats_in(valkey, site)
    valkey.client.flushall()
    node.delivery.bus_interrupted()
    await until(lambda: seats_in(valkey, site) == before, "the counts of before")


class FailingStore:
    """Counts as a store does, fails where the test says so, and notes the last command. Lives for one test."""

    def __init__(self) -> None:
        self.errors: list[StoreError] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.known: dict[str, int] = {}

    async def take_seat(self, site: Site, bounds: Sequence[tuple[str, int]]) -> int:
        """Counts the seat, and may fail after that, as when the link breaks before the answer."""
        for name, _ in bounds:
            self.known[name] = self.known.get(name, 0) + 1
        await self._answer()
        return 0

    def give_seat(self, site: Site, names: Sequence[str]) -> Awaitable[None]:
        """Counts the seat out, or not: the caller does not know."""
        return self._answer()

    async def set_seats(self, site: Site, counts: Mapping[str, int], is_first: bool) -> None:
        """Takes the node's counts."""
        await self._answer()
        self.known = dict(counts) if is_first else self.known | dict(counts)

    async def silence_seconds(self, site: Site) -> float:
        """There are no other nodes."""
        return 0.0

    async def _answer(self) -> None:
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop(0)


async def test_a_connect_whose_answer_is_lost_is_counted_out() -> None:
    """Redis is told the node's seats as soon as it answers; a connect meanwhile waits for that."""
    store = FailingStore()
    limits = Limits(store)
    site = limited(connections=9)
    await limits.connect(site)
    store.errors = [StoreUnavailable(), StoreUnavailable()]
    with pytest.raises(StoreUnavailable):
        await limits.connect(site)
    assert store.known == {"all": 2}
    await limits.connect(site)
    # The count was restored to 1, and the new connect was counted on top.
    assert store.known == {"all": 2}
    await limits.close()


async def test_a_connect_that_is_cancelled_is_counted_out() -> None:
    """Redis may have counted the connect: it is told the node's seats."""
    store = FailingStore()
    limits = Limits(store)
    site = limited(connections=9)
    store.may_answer.clear()
    connect = asyncio.create_task(limits.connect(site))
    await until(lambda: store.known == {"all": 1}, "the connect to reach Redis")
    connect.cancel()
    store.may_answer.set()
    await until(lambda: store.known == {}, "Redis to be told")
    await limits.close()


async def test_a_seat_whose_return_is_lost_is_counted_out() -> None:
    """A seat that is given back while Redis is away is counted out when it is back."""
    store = FailingStore()
    limits = Limits(store)
    seat = await limits.connect(limited(connections=9))
    store.errors = [StoreUnavailable()]
    limits.disconnect(seat)
    await until(lambda: store.known == {}, "Redis to be told")
    await limits.close()


async def test_others_under_way_are_not_forgotten() -> None:
    """The counts are restored while no connect is under way: one that Redis takes meanwhile would be missing."""
    store = FailingStore()
    limits = Limits(store)
    site = limited(connections=9)
    store.may_answer.clear()
    under_way = asyncio.create_task(limits.connect(site))
    await until(lambda: store.known == {"all": 1}, "the connect to reach Redis")
    limits.restore()
    late = asyncio.create_task(limits.connect(site))
    store.may_answer.set()
    await under_way
    await late
    assert store.known == {"all": 2}
    await limits.close()


async def test_redis_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect meanwhile fails after a while, and does not wait for ever."""
    monkeypatch.setattr("app.core.limits._PATIENCE_SECONDS", 0.01)
    store = FailingStore()
    limits = Limits(store)
    site = limited(connections=9)
    store.errors = [StoreUnavailable() for _ in range(100)]
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await limits.connect(site)
    await limits.close()


async def test_message_bytes(node: StoreNode) -> None:
    """A longer message is refused before Redis sees it."""
    site = limited(message_bytes=20)
    await node.delivery.publish(make_message(site, ["user_1"], body=b'["e","1234567890"]'))
    with pytest.raises(LimitReached) as caught:
        await node.delivery.publish(make_message(site, ["user_1"], body=b'["e","12345678901234"]'))
    assert str(caught.value) == "Message: expected at most 20 bytes as JSON, got 22."
    assert (caught.value.limit, caught.value.status, caught.value.retry_after_seconds) == ("message_bytes", 413, None)
