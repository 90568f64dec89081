"""Stored sites in each protocol: a changed section ends what was built from the old one, and the new one works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.background import BackgroundLoop
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET as HOOK_SECRET
from tests.support.hook_receiver import HookReceiver, running_receiver
from tests.support.operating import Operator
from tests.support.publish import Application, wait_payloads
from tests.support.sites import load_sites
from tests.support.tenant import SECRET, Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of the node."""
    return f"sqlite:///{tmp_path_factory.mktemp('stored') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, database_url: str) -> Iterator[Deployment]:
    """One node."""
    server = Deployment(load_sites(tenant), environment={"DATABASE_URL": database_url})
    yield server
    server.end()


@pytest.fixture(scope="module")
def operator(deployment: Deployment, database_url: str) -> Operator:
    """An operator of this database."""
    return Operator(database_url, deployment.redis.url)


def serve(deployment: Deployment, operator: Operator, name: str, block: dict[str, Any], *, is_new: bool) -> None:
    """Add or change a site, and wait until the node serves it so."""
    deployment.sites = {**deployment.sites, name: block}
    before = len(changes_of(deployment, name))
    (operator.add if is_new else operator.change)(name, block)
    if is_new:
        query = {"site": name, "apiKey": block["apiKey"]}
        url = f"{deployment.url}/messages"
        eventually(lambda: httpx.get(url, params=query).status_code != 401, f"{name} to be served")
    else:
        eventually(lambda: len(changes_of(deployment, name)) > before, f"{name} to change")


def changes_of(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """The changes of a site, as the log tells them."""
    return [line for line in deployment.server.log() if (line.get("event"), line.get("site")) == ("site changed", name)]


def test_topics(deployment: Deployment, operator: Operator) -> None:
    """Streams end when the site's topics change, begin again under the new rules, and end with the site."""
    block: dict[str, Any] = {"apiKey": f"{SECRET}-of-topics", "topics": {"open_status": False}}
    serve(deployment, operator, "weather", block, is_new=True)
    backend = TopicBackend(deployment, "weather")
    with backend.subscribe("sun") as stream:
        assert stream.greeting
        block["topics"] = {"open_status": True}
        serve(deployment, operator, "weather", block, is_new=False)
        assert stream.ended.wait(30)
    assert httpx.get(f"{deployment.url}/topics/weather/connections").status_code == 200
    with backend.subscribe("sun") as stream:
        backend.emit("sun", "news", "bright")
        stream.wait_type("news")
        # A limit is no part of what was built: the stream stays.
        block["limits"] = {"message_bytes": 10_000}
        serve(deployment, operator, "weather", block, is_new=False)
        backend.emit("sun", "news", "brighter")
        stream.wait_type("news", 2)
        operator.remove("weather")
        assert stream.ended.wait(30)
    eventually(lambda: backend.ask("GET", "/connections").status_code == 404, "nothing of the site")


def test_redis_publish(deployment: Deployment, operator: Operator, drivers: Drivers) -> None:
    """A site of Redis PUBLISH is served, gets a second namespace, and leaves its prefix to another site."""
    block: dict[str, Any] = {"apiKey": f"{SECRET}-of-mail", "redisPublish": {"prefix": "mail"}}
    serve(deployment, operator, "mail", block, is_new=True)
    application = Application(deployment.redis.client, drivers, "mail", "mail")
    user = application.user()
    page = application.connect(deployment, user)
    application.publish(user, '"one"')
    wait_payloads(page, ['"one"'])
    application.wait_received(user)
    block["redisPublish"] = {"prefix": "mail", "route": "/second"}
    serve(deployment, operator, "mail", block, is_new=False)
    page.wait_disconnected()
    assert httpx.get(f"{deployment.url}/second").status_code == 200
    page = application.connect(deployment, user)
    application.publish(user, '"two"')
    wait_payloads(page, ['"two"'])
    application.wait_received(user)
    operator.remove("mail")
    page.wait_disconnected()
    eventually(lambda: httpx.get(f"{deployment.url}/second").status_code == 404, "the route to go")

    heir = {"apiKey": f"{SECRET}-of-heir", "redisPublish": {"prefix": "mail"}}
    serve(deployment, operator, "heir", heir, is_new=True)
    inherited = Application(deployment.redis.client, drivers, "heir", "mail")
    someone = inherited.user()
    page = inherited.connect(deployment, someone)
    inherited.publish(someone, '"three"')
    wait_payloads(page, ['"three"'])
    inherited.close()
    application.close()


@pytest.fixture
def receivers(background: BackgroundLoop) -> Iterator[tuple[HookReceiver, HookReceiver]]:
    """Two receivers of webhooks."""
    with running_receiver(background) as one, running_receiver(background) as other:
        yield one, other


def test_webhooks(
    deployment: Deployment,
    operator: Operator,
    drivers: Drivers,
    tenant: Tenant,
    receivers: tuple[HookReceiver, HookReceiver],
) -> None:
    """Events go to the webhook that the site has: to another one after a change, nowhere without one. Clients stay."""
    one, other = receivers
    block: dict[str, Any] = {
        "authUrl": f"{tenant.url}/shop/rooms",
        "authScheme": "Token",
        "apiKey": f"{SECRET}-of-hooks",
        "userRoomPrefix": "user_",
        "webhook": hook_of(one),
    }
    serve(deployment, operator, "hooked", block, is_new=True)
    connector = Connector(deployment, drivers)
    try:
        staying = tenant.user()
        client = connector("hooked", staying)
        eventually(lambda: rooms_of(one) == [staying.room], "the first user")
        block["webhook"] = hook_of(other)
        serve(deployment, operator, "hooked", block, is_new=False)
        second = tenant.user()
        connector("hooked", second)
        eventually(lambda: rooms_of(other) == [second.room], "the second user at the other receiver")
        del block["webhook"]
        serve(deployment, operator, "hooked", block, is_new=False)
        valkey = deployment.redis.client
        eventually(lambda: not valkey.exists("recado:{hooked}:hook_events"), "scripts to gather no more events")
        third = tenant.user()
        connector("hooked", third)
        connector.fence("hooked", staying.room, client)
        assert (rooms_of(one), rooms_of(other)) == ([staying.room], [second.room])
        assert [record.kind for record in client.records.snapshot() if record.kind in ("disconnect", "closed")] == []
    finally:
        connector.close()


def hook_of(receiver: HookReceiver) -> dict[str, Any]:
    """A webhook for users that come."""
    return {"url": receiver.url, "secret": HOOK_SECRET, "events": ["user.online"], "allow_private": True}


def rooms_of(receiver: HookReceiver) -> list[str]:
    """The users of the events that a receiver has accepted."""
    return [event["user"] for event in receiver.accepted]
