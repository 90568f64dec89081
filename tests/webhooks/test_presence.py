"""Users that come and go, against a model: any order of connects, ends, burials and beats tells each change once."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.config.settings import HookEvent, Site, WebhookSettings
from app.redis.client import Redis
from app.store.keys import prefix
from app.store.queues import RedisQueues
from app.webhooks.redis_outbox import HookOutbox
from tests.support.store import address_of, make_site
from tests.support.valkey import Valkey

NODES = ("aa", "bb")
USERS = ("user_1", "user_2", "Public")
DEVICES = ("d", "e")
GRACE_MS = 5_000
BEGIN = 1_800_000_000_000


def site_of(*events: HookEvent, device_ttl_seconds: int = 20) -> Site:
    """A site whose webhook wants these events."""
    webhook = WebhookSettings(url="http://127.0.0.1/", secrets=("whsec_",), events=events)
    return make_site(webhook=webhook, public_channel="Public", device_ttl_seconds=device_ttl_seconds)


class UserModel:
    """One user: the connections of its devices, and what the backend was told."""

    def __init__(self) -> None:
        """Begins unknown."""
        self.connections: set[tuple[str, str, int]] = set()
        self.came: int | None = None
        self.due: int | None = None

    @property
    def devices(self) -> int:
        """The devices with a connection."""
        return len({device for device, _, _ in self.connections})


Told = tuple[str, str, int, int]


class PresenceMachine(RuleBasedStateMachine):
    """The scripts of one site beside the model."""

    server: ClassVar[Valkey]
    site: ClassVar[Site]

    def __init__(self) -> None:
        """Begin with an empty Redis."""
        super().__init__()
        self.server.client.flushall()
        self.runner = asyncio.Runner()
        self.redis = Redis(address_of(self.server), 5.0)
        self.run(self.redis.start())
        self.queues = {node: RedisQueues(self.redis, node, 1_000_000) for node in NODES}
        self.outbox = HookOutbox(self.redis, "aa", self.site)
        self.run(self.outbox.set_up())
        self.users: dict[str, UserModel] = defaultdict(UserModel)
        self.told: list[Told] = []
        self.handles: dict[tuple[str, str, str, int], bytes] = {}
        self.numbers = 0
        self.move(BEGIN)

    def run(self, work: Awaitable[Any]) -> Any:
        """The answer of a store."""

        async def wait() -> Any:
            return await work

        return self.runner.run(wait())

    def move(self, now: int) -> None:
        """Set the clock of all scripts."""
        self.now = now
        self.outbox.now_ms = now
        for queues in self.queues.values():
            queues.now_ms = now

    @rule(user=st.sampled_from(USERS), device=st.sampled_from(DEVICES), node=st.sampled_from(NODES))
    def connect(self, user: str, device: str, node: str) -> None:
        """A device connects to a node."""
        self.numbers += 1
        registration = self.run(self.queues[node].connect(self.site, self.numbers, device, [user]))
        self.handles[user, device, node, self.numbers] = registration.devices[0].handle
        model = self.users[user]
        model.connections.add((device, node, self.numbers))
        if user == "Public":
            return
        if model.due is not None and model.due <= self.now:
            self.tell_offline(user, model)
        model.due = None
        if model.came is None:
            model.came = self.now
            self.told.append(("user.online", user, self.now, model.devices))

    @rule(data=st.data(), is_withdrawn=st.booleans())
    def disconnect(self, data: st.DataObject, is_withdrawn: bool) -> None:
        """A connection ends, or its registration is taken back."""
        if not self.handles:
            return
        user, device, node, number = data.draw(st.sampled_from(sorted(self.handles)))
        handle = self.handles.pop((user, device, node, number))
        queues = self.queues[node]
        if is_withdrawn:
            self.run(queues.withdraw(self.site, number, device, [user]))
        else:
            self.run(queues.disconnect(self.site, number, [(handle, 0)]))
        self.end(user, (device, node, number), self.now)

    @rule(node=st.sampled_from(NODES), ago=st.sampled_from((0, 7_000)), at_most=st.integers(1, 3))
    def bury(self, node: str, ago: int, at_most: int) -> None:
        """A node has died: its connections ended with its last beat."""
        has_more = True
        while has_more:
            has_more, _ = self.run(self.queues["aa"].bury(self.site, node, self.now - ago, at_most))
        for key in [key for key in self.handles if key[2] == node]:
            del self.handles[key]
            self.end(key[0], key[1:], self.now - ago)

    @rule(ms=st.sampled_from((1, 1_000, 4_999, 5_000, 25_000)))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.move(self.now + ms)

    @rule()
    def beat(self) -> None:
        """The node with the lease beats, and tells of users that are gone."""
        self.run(self.outbox.beat(60_000))
        due = [(model.due, user) for user, model in self.users.items() if model.due is not None]
        for at, user in sorted(due):
            if at <= self.now:
                self.tell_offline(user, self.users[user])

    @rule()
    def expire(self) -> None:
        """Devices past their time are forgotten; that tells nothing."""
        while self.run(self.queues["aa"].expire(self.site))[0]:
            pass

    def end(self, user: str, connection: tuple[str, str, int], when: int) -> None:
        """The model's end of a connection."""
        model = self.users[user]
        if connection not in model.connections:
            return
        model.connections.remove(connection)
        if model.came is not None and not model.connections and model.due is None:
            model.due = when + GRACE_MS

    def tell_offline(self, user: str, model: UserModel) -> None:
        """The model's event."""
        assert model.due is not None
        assert model.came is not None
        self.told.append(("user.offline", user, max(model.due - GRACE_MS, model.came), 0))
        model.due = model.came = None

    @invariant()
    def the_outbox_agrees(self) -> None:
        """The outbox has exactly the events of the model, each kind after the other, with seqs that grow by one."""
        if not hasattr(self, "told"):
            return
        found, seqs = told_in(self.server, self.site)
        assert found == [told for told in self.told if told[0] in self.site.webhook.events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else not found
        for user in USERS:
            kinds = [told[0] for told in self.told if told[1] == user]
            assert all(one != other for one, other in pairwise(kinds))

    def teardown(self) -> None:
        """Ends the link."""
        self.run(self.redis.close())
        self.runner.close()


def told_in(server: Valkey, site: Site) -> tuple[list[Told], list[int]]:
    """The events of the outbox, and their seqs."""
    client: Any = server.client
    found, seqs = [], []
    for _, fields in client.xrange(prefix(site.name) + "hooks"):
        data = json.loads(fields[b"data"])
        assert fields[b"user"].decode() == data["user"]
        found.append((fields[b"type"].decode(), data["user"], int(fields[b"at"]), data["devices"]))
        seqs.append(int(fields[b"seq"]))
    return found, seqs


@pytest.mark.parametrize(
    "site",
    [
        site_of("user.online", "user.offline"),
        # A device is forgotten before its user counts as offline.
        site_of("user.online", "user.offline", device_ttl_seconds=3),
        site_of("user.offline"),
    ],
    ids=["both", "short-lived devices", "offline only"],
)
def test_presence_in_any_order(valkey: Valkey, site: Site) -> None:
    """In any order of connects, ends, burials and beats every change is told, and no kind twice in a row for a user."""
    PresenceMachine.server, PresenceMachine.site = valkey, site
    run_state_machine_as_test(
        PresenceMachine,
        settings=settings(
            max_examples=int(os.environ.get("RECADO_MACHINE_RUNS", "60")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
