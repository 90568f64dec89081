"""Options of /send over two nodes: escalations under kills, answers that wait for acks, and idempotency."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from app.store.keys import prefix
from tests.support.background import BackgroundLoop
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET, HookReceiver, running_receiver
from tests.support.option_publisher import AcceptedSend, OptionPublisher, Wish
from tests.support.receipts import percentile
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.waiting import eventually
from tests.support.witness import REACHES_WITHIN_SECONDS, Witness, add_witness

SITE = "one"
#: A node that was killed may be the one that would tell of the site's overdue messages; another one does it then.
TOLD_WITHIN_SECONDS = 20.0
#: The promise is 5 ms for the median; the rest is slack for a busy machine.
ANSWERED_WITHIN_SECONDS = 0.025
EQUAL_SENDS = 100


@pytest.fixture
def receiver(background: BackgroundLoop) -> Iterator[HookReceiver]:
    """A receiver of webhooks."""
    with running_receiver(background) as receiver:
        yield receiver


@pytest.fixture
def cluster(tenant: Tenant, receiver: HookReceiver) -> Iterator[Deployment]:
    """Two nodes whose site tells of messages without an ack."""
    hook = {"url": receiver.url, "secret": SECRET, "events": ["message.unacknowledged"], "allow_private": True}
    sites = load_sites(tenant)
    deployment = Deployment({SITE: sites[SITE] | {"webhook": hook}}, nodes=2)
    yield deployment
    deployment.end()


class Escalations:
    """The events of the webhook, compared with the acks of the devices. Faults are sentences."""

    def __init__(self, receiver: HookReceiver, witnesses: Sequence[Witness]) -> None:
        """Compare once everything is told."""
        self._witnesses = witnesses
        self._certain = {witness: witness.certain_acks([]) for witness in witnesses}
        #: For each message the events by their seqs.
        self._events: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for event in receiver.accepted:
            self._events[int(event["id"])][event["seq"]] = event

    @property
    def count(self) -> int:
        """How many messages were told of."""
        return len(self._events)

    def faults(self, sent: AcceptedSend) -> Iterator[str]:
        """The mistakes of the webhook about one message."""
        events = self._events.get(sent.id, {})
        if len(events) > 1:
            yield f"{sent} was told of {len(events)} times"
        named = {user["user"] for event in events.values() for user in event["users"]}
        for room in {witness.room for witness in self._addressed(sent)}:
            certain, any_ack = self._acks_of(room, sent)
            due = sent.began_at + sent.wish.options["ack_within"]
            if room in named and certain + REACHES_WITHIN_SECONDS < due:
                yield f"{sent} was acknowledged by {room} at {certain}, and told of"
            if room not in named and any_ack > due + TOLD_WITHIN_SECONDS:
                yield f"{sent} was not acknowledged by {room}, and not told of"

    def _addressed(self, sent: AcceptedSend) -> list[Witness]:
        rooms = [witness.room for witness in self._witnesses]
        is_for_all = sent.wish.rooms[0] not in rooms
        return [witness for witness in self._witnesses if is_for_all or witness.room in sent.wish.rooms]

    def _acks_of(self, room: str, sent: AcceptedSend) -> tuple[float, float]:
        """The earliest certain ack by a device of a user, and the earliest one that may have counted."""
        of_user = [witness for witness in self._witnesses if witness.room == room]
        certain = [self._certain[witness].get(sent.number, float("inf")) for witness in of_user]
        tried = [ack.at for witness in of_user for ack in witness.acks if sent.number in ack.numbers]
        return min(certain), min(tried, default=float("inf"))


@pytest.mark.timeout(300)
def test_escalations_under_kills(
    cluster: Deployment,
    receiver: HookReceiver,
    tenant: Tenant,
    chance: random.Random,
    is_long: bool,
    tell: Callable[[str], None],
) -> None:
    """While nodes are killed: no user is told of whose ack had reached a node a second before, each message is told of
    at most once, and none without an ack is missing."""
    room = tenant.unique("room")

    def patience() -> float | None:
        return chance.choice((0.0, chance.uniform(0, 4), None))

    def node_url() -> str:
        return chance.choice([node.url for node in cluster.nodes if node.is_listed] or [cluster.nodes[0].url])

    def choose() -> Wish:
        rooms = (room if chance.random() < 0.3 else chance.choice(witnesses).room,)
        return Wish(rooms, {"ack_within": chance.randint(1, 3)})

    with Swarm(cluster, SITE) as swarm:
        users = [tenant.user(room) for _ in range(20)]
        witnesses = [
            add_witness(swarm, SITE, user, device, patience, node_url) for user in users for device in ("desk", "phone")
        ]
        publisher = OptionPublisher(swarm, SITE, cluster.key(SITE), node_url)
        swarm.board()
        kills = 0
        ends_at = time.monotonic() + (60 if is_long else 12)
        with publisher.publishing(choose, publishers=4, per_second=5):
            while time.monotonic() < ends_at:
                node = chance.choice(cluster.nodes)
                for act in (node.kill, node.start):
                    _wait_for_more(publisher, chance)
                    act()
                kills += 1
        _wait_until_told(cluster)
        escalations = Escalations(receiver, witnesses)
        found = [fault for sent in publisher.accepted.values() for fault in escalations.faults(sent)]
        tell(f"{len(found)} faults, {len(publisher.accepted)} messages, {escalations.count} told of, {kills} kills")
    assert found == [], "\n".join(found[:20])
    assert escalations.count > 20
    assert len(publisher.accepted) > escalations.count


def _wait_for_more(publisher: OptionPublisher, chance: random.Random) -> None:
    expected = publisher.begun + chance.randrange(5, 40)
    eventually(lambda: publisher.begun >= expected or publisher.is_stuck, "messages", 60)


def _wait_until_told(cluster: Deployment) -> None:
    client = cluster.redis.client
    start = prefix(SITE)

    def is_told() -> bool:
        is_due = client.zcard(start + "within") + client.zcard(start + "hook_posts")
        return not is_due and client.xlen(start + "hooks") == 0

    eventually(is_told, "the last events", TOLD_WITHIN_SECONDS + 10, 0.1)


@pytest.mark.alone
@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)], ids=["same node", "other node", "both nodes"])
def test_the_answer_follows_the_last_ack(
    cluster: Deployment,
    tenant: Tenant,
    chance: random.Random,
    places: tuple[int, ...],
    is_long: bool,
    tell: Callable[[str], None],
) -> None:
    """A send with `wait=all` is answered at once after the last ack, whichever nodes the devices are on."""
    room = tenant.unique("room")

    def patience() -> float | None:
        return chance.uniform(0, 0.02)

    with Swarm(cluster, SITE) as swarm:
        witnesses = [
            add_witness(swarm, SITE, tenant.user(room), "d1", patience, lambda place=place: cluster.nodes[place].url)  # type: ignore[misc]
            for place in places
        ]
        publisher = OptionPublisher(swarm, SITE, cluster.key(SITE), lambda: cluster.nodes[0].url)
        swarm.board()
        count = 500 if is_long else 100
        wish = Wish((room,), {"wait": "all", "timeout": 10})
        with publisher.publishing(lambda: wish, publishers=1, per_second=1000):
            eventually(lambda: len(publisher.accepted) >= count, "the answers", 60)
        last: dict[int, float] = defaultdict(float)
        for ack in (ack for witness in witnesses for ack in witness.acks):
            for number in ack.numbers:
                last[number] = max(last[number], ack.at)
        sends = publisher.accepted.values()
        assert {(sent.answer["acked"], sent.answer["waiting"]) for sent in sends} == {(len(places), 0)}
        delays = [sent.answered_at - last[sent.number] for sent in sends]
    median, high = percentile(delays, 50), percentile(delays, 95)
    tell(f"{len(delays)} answers, {median * 1000:.1f} ms after the last ack (median), {high * 1000:.1f} (p95)")
    assert 0 < median < ANSWERED_WITHIN_SECONDS


def test_equal_sends_at_once_store_one(
    cluster: Deployment, tenant: Tenant, background: BackgroundLoop, is_long: bool, tell: Callable[[str], None]
) -> None:
    """Of many equal sends with one idempotency key at once, over two nodes, one is stored, and all name it."""
    room = tenant.unique("room")
    rounds = 20 if is_long else 3
    with Swarm(cluster, SITE) as swarm:
        witness = add_witness(swarm, SITE, tenant.user(room), "d1", _prompt, lambda: cluster.url)
        swarm.board()
        ids: set[str] = set()
        for number in range(rounds):
            answers = background.run(_send_equal(cluster, room, number), 60)
            assert len({id for id, _ in answers}) == 1
            assert sorted(replayed for _, replayed in answers) == [False, *[True] * (EQUAL_SENDS - 1)]
            ids.add(answers[0][0])
        eventually(lambda: len(witness.acks) >= rounds, "the messages")
        assert [ack.numbers for ack in witness.acks] == [[number] for number in range(rounds)]
        tell(f"{rounds * EQUAL_SENDS} sends stored {len(ids)} messages")


def _prompt() -> float | None:
    return 0.0


async def _send_equal(cluster: Deployment, room: str, number: int) -> list[tuple[str, bool]]:
    """The id in each answer, and whether it says that it was stored before."""
    query = {"site": SITE, "apiKey": cluster.key(SITE)}
    body = {"rooms": [room], "event": "n", "args": [number]}
    headers = {"Idempotency-Key": f"key {room} {number}", "Accept": "application/json"}

    async def send(http: aiohttp.ClientSession, url: str) -> tuple[str, bool]:
        async with http.post(f"{url}/send", params=query, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            told = await answer.json()
            assert told["id"] == answer.headers["X-Message-Id"]
            return told["id"], answer.headers.get("Idempotent-Replayed") == "true"

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        urls = [cluster.nodes[place % 2].url for place in range(EQUAL_SENDS)]
        return await asyncio.gather(*(send(http, url) for url in urls))
