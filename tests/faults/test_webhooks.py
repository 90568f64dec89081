"""Webhooks of whole servers: the sending node is killed with SIGKILL while users come and go, and operators look."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app import cli
from app.store.keys import prefix
from tests.support.background import BackgroundLoop
from tests.support.clients import ACK_NONE
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment, Node
from tests.support.hook_receiver import SECRET, HookReceiver, running_receiver
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

#: A dead node is buried within 10 s, and another node sends within 6 s; the rest is slack for a busy machine.
TOLD_WITHIN_SECONDS = 20.0


@pytest.fixture
def receiver(background: BackgroundLoop) -> Iterator[HookReceiver]:
    """A receiver on the background loop."""
    with running_receiver(background) as receiver:
        yield receiver


@pytest.fixture
def cluster(tenant: Tenant, receiver: HookReceiver) -> Iterator[Deployment]:
    """Two nodes whose site alpha has a webhook."""
    sites = contract_sites(tenant)
    events = ["user.online", "user.offline", "device.resync", "message.acknowledged", "message.unacknowledged"]
    hook = {"url": receiver.url, "secret": SECRET, "events": events, "offline_grace": 0.5, "allow_private": True}
    deployment = Deployment({"alpha": sites["alpha"] | {"webhook": hook}, "plain": sites["plain"]}, nodes=2)
    yield deployment
    deployment.end()


def holder_of(cluster: Deployment) -> Node:
    """The node with the lease of alpha."""
    eventually(lambda: cluster.redis.client.exists(prefix("alpha") + "hook_lease"), "the lease")
    eventually(lambda: any(map(_has_taken_lease, cluster.nodes)), "the node that has it")
    return next(filter(_has_taken_lease, cluster.nodes))


def _has_taken_lease(node: Node) -> bool:
    return any(line.get("event") == "webhook lease taken" for line in node.server.log())


def kinds_of(receiver: HookReceiver, user: str) -> list[str]:
    """The types of a user's accepted events in the order of their seqs, each once."""
    events = {event["seq"]: event["type"] for event in receiver.accepted if event["user"] == user}
    return [events[seq] for seq in sorted(events)]


def test_the_sending_node_is_killed(
    cluster: Deployment, receiver: HookReceiver, drivers: Drivers, tenant: Tenant
) -> None:
    """After SIGKILL of the sending node its users are told as offline, no event is missing, and no kind comes twice
    in a row for a user."""
    sending = holder_of(cluster)
    (other,) = [node for node in cluster.nodes if node is not sending]
    mine, theirs = tenant.user(), tenant.user()
    Connector(sending, drivers)("alpha", mine)
    client = Connector(other, drivers)("alpha", theirs)
    online = ["user.online"]
    eventually(lambda: kinds_of(receiver, mine.room) == kinds_of(receiver, theirs.room) == online, "both to be told")
    sending.kill()
    client.disconnect()
    gone = ["user.online", "user.offline"]
    eventually(lambda: kinds_of(receiver, theirs.room) == gone, "the end of a connection", TOLD_WITHIN_SECONDS)
    eventually(lambda: kinds_of(receiver, mine.room) == gone, "the end of the node's connection", TOLD_WITHIN_SECONDS)
    Connector(other, drivers)("alpha", mine)
    eventually(lambda: kinds_of(receiver, mine.room) == [*gone, "user.online"], "the next connection")
    seqs = sorted(set(receiver.seqs))
    assert seqs == list(range(seqs[0], seqs[0] + 5))


def test_a_quick_return_tells_nothing(
    cluster: Deployment, receiver: HookReceiver, drivers: Drivers, tenant: Tenant
) -> None:
    """A user that comes back within the grace, on another node, has not been away."""
    user = tenant.user()
    first = Connector(cluster.nodes[0], drivers)("alpha", user)
    second = Connector(cluster.nodes[1], drivers)("alpha", user, device="other")
    first.disconnect()
    second.disconnect()
    third = Connector(cluster.nodes[0], drivers)("alpha", user)
    eventually(lambda: kinds_of(receiver, user.room) == ["user.online"], "the first connection")
    third.disconnect()
    eventually(lambda: kinds_of(receiver, user.room) == ["user.online", "user.offline"], "the last one")


def test_the_door(cluster: Deployment, receiver: HookReceiver, drivers: Drivers, tenant: Tenant) -> None:
    """With the site's key the webhook is shown, tested, and its posts are sent again; without it nothing is."""
    query = {"site": "alpha", "apiKey": cluster.key("alpha")}
    answer = cluster.post("/webhooks/test", params=query).json()
    assert answer["attempt"]["status"] == 200
    assert [event["type"] for _, events in receiver.posts for event in events] == ["webhook.test"]
    receiver.status = lambda number: 410
    Connector(cluster, drivers)("alpha", tenant.user())
    eventually(lambda: cluster.get("/webhooks", params=query).json()["state"] == "off", "410")
    shown = cluster.get("/webhooks", params=query).json()
    (parked,) = shown["parked"]
    assert [(one["outcome"], one["status"], one["answer"]) for one in shown["attempts"]] == [
        ("off", 410, "thanks"),
        ("test", 200, "thanks"),
    ]
    receiver.status = lambda number: 200
    assert cluster.post("/webhooks/retry", params=query | {"id": parked["id"]}).json() == {"ok": True, "retried": 1}
    eventually(lambda: "user.online" in [event["type"] for event in receiver.accepted], "the parked event")
    assert cluster.post("/webhooks/retry", params=query | {"id": "msg_none"}).status_code == 404
    since = {"since": "2026-11-27T10:00:00Z"}
    assert cluster.post("/webhooks/retry", params=query | since).json() == {"ok": True, "retried": 0}
    for wrong, status, code in (
        ({"since": "yesterday"}, 400, "bad_since"),
        ({"id": "m" * 65}, 400, "bad_id"),
        ({"apiKey": "wrong"}, 401, "wrong_key"),
        ({"site": "none"}, 401, "wrong_key"),
        ({"apiKey": ""}, 400, "missing_key"),
        ({"site": "plain", "apiKey": cluster.key("plain")}, 400, "no_webhook"),
    ):
        answer = cluster.post("/webhooks/retry", params=query | wrong)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_commands(cluster: Deployment, receiver: HookReceiver, drivers: Drivers, tenant: Tenant) -> None:
    """`recado webhooks` shows tables or JSON, sends parked POSTs again, and fails with the backend's answer."""

    def run(*words: str) -> Result:
        options = ["--site", "alpha", "--url", cluster.url, "--api-key", cluster.key("alpha")]
        return CliRunner().invoke(cli.recado, ["webhooks", *words, *options])

    assert run("list").output.startswith("webhook is on, 0 events wait, 0 were dropped")
    receiver.status, receiver.answer = lambda number: 410, b"gone\x1b[2J"
    Connector(cluster, drivers)("alpha", tenant.user())
    eventually(lambda: "webhook is off" in run("list").output, "410")
    lines = run("list").output.splitlines()
    assert any(line.split()[:5] == ["webhook", "parked_at", "tries", "events", "types"] for line in lines)
    assert any(" off " in line and " 410 " in line and line.endswith("gone\ufffd[2J") for line in lines)
    failed = run("test")
    assert (failed.exit_code, failed.stderr) == (1, "recado: the backend answered 410\n")
    receiver.status = lambda number: 200
    assert json.loads(run("test", "--json").output)["status"] == 200
    assert run("retry").output == "OK 1 POSTs are sent again\n"
    assert run("retry", "--since", "yesterday").stderr.startswith("recado: the server answered 400: since: expected")
    shown = json.loads(run("list", "--json").output)
    assert (shown["state"], shown["parked"]) == ("on", [])


def test_attempts_reach_the_journal(tenant: Tenant, receiver: HookReceiver, tmp_path: Path) -> None:
    """An attempt is a row of the journal's database, with the first 1 KB of the answer."""
    sites = contract_sites(tenant)
    hook = {"url": receiver.url, "secret": SECRET, "events": ["user.online"], "allow_private": True}
    database = tmp_path / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{database}"}
    deployment = Deployment({"alpha": sites["alpha"] | {"webhook": hook}}, environment=environment)
    try:
        receiver.answer = b"x" * 5_000
        query = {"site": "alpha", "apiKey": deployment.key("alpha")}
        assert deployment.post("/webhooks/test", params=query).json()["attempt"]["status"] == 200
        rows = eventually(lambda: _attempts_in(database), "the row")
        assert rows == [(200, "test", "webhook.test", 1024)]
    finally:
        deployment.end()


def _attempts_in(database: Path) -> list[tuple[int, str, str, int]]:
    if not database.exists():
        return []
    connection = sqlite3.connect(database)
    try:
        return list(connection.execute("SELECT status, outcome, types, length(answer) FROM webhook_attempts"))
    except sqlite3.OperationalError:
        # The writer has not made the tables yet.
        return []
    finally:
        connection.close()


def test_messages(cluster: Deployment, receiver: HookReceiver, drivers: Drivers, tenant: Tenant) -> None:
    """A message without an ack in time is told once, with its users, and its late ack too; an ack in time alone."""
    slow, quick = tenant.user(), tenant.user()
    held = Connector(cluster.nodes[0], drivers)("alpha", slow, ack=ACK_NONE)
    Connector(cluster.nodes[1], drivers)("alpha", quick)
    sent = {"rooms": [slow.room, quick.room], "event": "news", "args": [1], "ack_within": 1, "notify": "acked"}
    answer = cluster.try_send("alpha", sent)
    assert answer.status_code == 200, answer.text
    id_ = answer.headers["x-message-id"]
    (told,) = eventually(lambda: told_of(receiver, "message.unacknowledged"), "the escalation")
    assert (told["id"], told["event"]) == (id_, "news")
    (user,) = told["users"]
    assert user["user"] == slow.room
    assert [device["device"] for device in user["devices"]] == ["d1"]
    assert user["devices"][0]["reason"]
    held.ack(held.wait_event("news"))
    eventually(lambda: len(told_of(receiver, "message.acknowledged")) == 2, "both acks")
    acks = told_of(receiver, "message.acknowledged")
    late = {event["user"]: event.get("late", False) for event in acks}
    assert late == {quick.room: False, slow.room: True}
    assert {event["id"] for event in acks} == {id_}


def told_of(receiver: HookReceiver, kind: str) -> list[dict[str, Any]]:
    """The accepted events of a type, each once."""
    return list({event["seq"]: event for event in receiver.accepted if event["type"] == kind}.values())
