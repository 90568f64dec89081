"""SIGHUP: the sites are served as the files have them by now, and nobody else notices."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from msgspec import structs
from structlog.testing import capture_logs

from app.config.changes import Changes
from app.config.settings import Config
from app.config.sources import Sources
from app.errors import ConfigError
from app.node.reload import ConfigReader, Reload
from app.node.run import reader_of
from app.protocols.listed import PROTOCOLS
from app.protocols.redis_publish.settings import RedisPublish
from tests.support.channels import KEY, Publisher, Subscription, channels_site
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.processes import descendants, kill
from tests.support.publish import Application, wait_payloads
from tests.support.server import Server
from tests.support.sites import load_sites
from tests.support.store import make_site
from tests.support.tenant import Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually, until

Sites = Mapping[str, Mapping[str, Any]]


@pytest.fixture
def workers() -> int:
    """How many processes the server has, unless the test says otherwise."""
    return 1


@pytest.fixture
def deployment(workers: int, tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own."""
    server = Deployment(load_sites(tenant), {"workers": workers})
    yield server
    server.end()


@pytest.fixture
def connect(deployment: Deployment, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients."""
    connector = Connector(deployment, drivers)
    yield connector
    connector.close()


def with_fresh(tenant: Tenant) -> dict[str, Any]:
    """The sites of the server, and two new ones: one for three protocols, one for the fourth."""
    fresh = channels_site(authUrl=f"{tenant.url}/fresh/rooms", authScheme="Token", userRoomPrefix="user_", topics={})
    pushed = {"apiKey": KEY, "redisPublish": {"prefix": "late"}}
    return {**load_sites(tenant), "fresh": fresh, "pushed": pushed}


def log_of(deployment: Deployment, event: str) -> list[dict[str, Any]]:
    """The log lines of this event."""
    return [line for line in deployment.nodes[0].server.log() if line.get("event") == event]


def hang_up(deployment: Deployment, sites: str | Sites, event: str = "configuration reloaded", lines: int = 1) -> None:
    """Writes sites.yml, sends SIGHUP, and waits for so many more lines of the event."""
    text = sites if isinstance(sites, str) else yaml.safe_dump(dict(sites))
    (deployment.directory / "sites.yml").write_text(text)
    if not isinstance(sites, str):
        deployment.sites = sites
    before = len(log_of(deployment, event))
    deployment.nodes[0].server.signal(signal.SIGHUP)
    eventually(lambda: len(log_of(deployment, event)) == before + lines, event)


def send_alone(url: str, site: str, key: str) -> int:
    """The status of a message that is sent on a connection of its own, so that any worker may get it."""
    query = {"site": site, "apiKey": key}
    return httpx.post(f"{url}/send", params=query, json={"rooms": "user_nobody", "event": "news"}).status_code


def serve_all(deployment: Deployment, workers: int, since: int = 0) -> None:
    """Waits until each worker has taken a message for the new site, and requires that none refuses one."""

    def have_served() -> bool:
        assert send_alone(deployment.url, "fresh", KEY) == 200
        lines = [line for line in log_of(deployment, "message stored")[since:] if line["site"] == "fresh"]
        return {line["worker"] for line in lines} == set(range(workers))

    eventually(have_served, "all workers to serve the site")


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_new_sites_are_served(
    workers: int, deployment: Deployment, connect: Connector, drivers: Drivers, tenant: Tenant
) -> None:
    """After SIGHUP every protocol serves the sites that are new, and older connections live on and hear."""
    user = tenant.user()
    old = connect("one", user)
    hang_up(deployment, with_fresh(tenant), lines=1 if workers == 1 else workers + 1)
    assert log_of(deployment, "configuration reloaded")[0]["added"] == ["fresh", "pushed"]
    assert log_of(deployment, "restart to apply") == []
    if workers > 1:
        serve_all(deployment, workers)

    client = connect("fresh", user)
    for site in ("fresh", "one"):
        deployment.send(site, user.room, "still")
    client.wait_event("still")
    old.wait_event("still")
    assert [record.kind for record in old.records.snapshot() if record.kind in ("disconnect", "closed")] == []

    publisher = Publisher(deployment, "fresh")
    publisher.create("scores")
    with Subscription(deployment.url, "fresh").subscribe("scores") as subscriber:
        publisher.push("scores", "1:0")
        assert subscriber.pushed() == [("scores", "1:0")]

    backend = TopicBackend(deployment, "fresh")
    with backend.subscribe("weather") as stream:
        assert stream.greeting
        backend.emit("weather", "news", "sun")
        stream.wait_type("news")
        assert backend.ask("GET", "/connections").status_code == 200

    application = Application(deployment.redis.client, drivers, "pushed", "late")
    someone = application.user()
    page = application.connect(deployment, someone)
    application.publish(someone, '"paid"')
    wait_payloads(page, ['"paid"'])
    application.close()
    assert deployment.nodes[0].stop() == 0


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_broken_files_change_nothing(workers: int, deployment: Deployment, connect: Connector, tenant: Tenant) -> None:
    """A reload of files with mistakes is one log line with all of them. The next SIGHUP finds them corrected."""
    user = tenant.user()
    old = connect("one", user)
    broken = "fresh: {apiKey: secret-of-the-site, authUrl: nowhere}\nother: {apikey: x}"
    hang_up(deployment, broken, "configuration not reloaded")
    [line] = log_of(deployment, "configuration not reloaded")
    assert [mistake.split(": ")[1] for mistake in line["mistakes"]] == ["fresh.authUrl", "other.apikey"]
    assert "secret-of-the-site" not in str(line)
    assert send_alone(deployment.url, "fresh", "secret-of-the-site") == 401
    deployment.send("one", user.room, "still")
    old.wait_event("still")
    hang_up(deployment, with_fresh(tenant), lines=1 if workers == 1 else 3)
    assert send_alone(deployment.url, "fresh", KEY) == 200
    assert len(log_of(deployment, "configuration not reloaded")) == 1


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_sites_change_with_the_file(workers: int, deployment: Deployment, connect: Connector, tenant: Tenant) -> None:
    """A site with another key is served with that one and its clients stay; the clients of a site that is gone leave;
    other settings of the server wait for a restart."""
    user = tenant.user()
    gone, kept = connect("one", user), connect("two", user)
    sites = with_fresh(tenant)
    del sites["one"]
    old_key = deployment.key("two")
    sites["two"] = {**sites["two"], "apiKey": "another-key-of-the-site"}
    settings = {"production": {"drain_timeout": 0.5, "workers": workers, "io": {"pingInterval": 7000}}}
    (deployment.directory / "config.yml").write_text(yaml.safe_dump(settings))
    old = deployment.key("one")
    hang_up(deployment, sites, lines=1 if workers == 1 else workers + 1)
    line = log_of(deployment, "configuration reloaded")[-1]
    assert (line["added"], line["changed"], line["removed"]) == (["fresh", "pushed"], ["two"], ["one"])
    assert log_of(deployment, "restart to apply")[0]["settings"] == ["io.pingInterval"]
    gone.wait_disconnected()
    for _ in range(4):
        assert send_alone(deployment.url, "one", old) == 401
        assert send_alone(deployment.url, "two", old_key) == 401
        assert send_alone(deployment.url, "fresh", KEY) == 200
    deployment.send("two", user.room, "still")
    kept.wait_event("still")
    assert [record.kind for record in kept.records.snapshot() if record.kind in ("disconnect", "closed")] == []


@pytest.mark.parametrize("workers", [2], ids=["two workers"])
def test_worker_that_starts_later(workers: int, deployment: Deployment, tenant: Tenant) -> None:
    """A worker that is started after the reload serves the new sites too."""
    hang_up(deployment, with_fresh(tenant), lines=3)
    kill(descendants(deployment.nodes[0].server.pid)[0])
    eventually(lambda: log_of(deployment, "worker ended"), "the supervisor to see it")
    since = len(log_of(deployment, "message stored"))
    eventually(lambda: httpx.get(f"{deployment.url}/readyz").status_code == 200, "the port")
    serve_all(deployment, workers, since)


def test_demo_stays(tmp_path: Path) -> None:
    """The site of the demo is in no file, and stays."""
    server = Server(tmp_path, "--port", "0", "--demo")
    try:
        (tmp_path / "sites.yml").write_text(yaml.safe_dump({"fresh": channels_site()}))
        server.signal(signal.SIGHUP)
        server.lines.wait_for(lambda line: "configuration reloaded" in line, "the reload")
        assert not [line for line in server.log() if line.get("event") == "restart to apply"]
        assert {send_alone(server.url, *site) for site in (("demo", "demo"), ("fresh", KEY))} == {200}
    finally:
        server.end()


# The parts


class Files:
    """A configuration that a test changes. Lives for one test."""

    def __init__(self) -> None:
        self.config = Config(sites={"shop": make_site()})
        self.running = structs.replace(self.config, sites=dict(self.config.sites))
        self.added: list[str] = []
        #: Set while `add` may return.
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.checked: list[list[str]] = []
        self.mistake = ""
        self.reload = Reload(self.running, ConfigReader(self.load, self.check), self.apply)

    def load(self) -> Config:
        """Read them."""
        if self.mistake:
            raise ConfigError(self.mistake)
        return self.config

    def check(self, config: Config) -> None:
        """Note the sites that are to run together."""
        self.checked.append(list(config.sites))

    async def apply(self, changes: Changes) -> None:
        """Serve the sites."""
        await self.may_end.wait()
        self.added.append(" ".join(site.name for site in changes.added))
        self.running.sites.update({site.name: site for site in changes.added})

    def write(self, *names: str) -> None:
        """Hold these sites from now on."""
        self.config = structs.replace(self.config, sites={name: make_site(name) for name in names})


async def test_one_more_after_the_one_under_way() -> None:
    """However often SIGHUP arrives during a reload, one more reload follows it."""
    files = Files()
    files.may_end.clear()
    files.write("shop", "second")
    files.reload.ask()
    await until(lambda: files.checked, "the first reload")
    files.write("shop", "second", "third")
    for _ in range(5):
        files.reload.ask()
    files.may_end.set()
    await until(lambda: len(files.added) == 2, "the other reload")
    assert files.added == ["second", "third"]
    files.reload.ask()
    await until(lambda: len(files.added) == 3, "a reload after those")
    assert files.added[2] == ""


async def test_stored_sites_are_checked_with_those_of_the_files() -> None:
    """A site that an operator has stored goes on: it is checked together with the sites of the files."""
    files = Files()
    files.running.sites["stored"] = structs.replace(make_site("stored"), is_stored=True)
    files.write("second")
    files.reload.ask()
    await until(lambda: files.added, "the reload")
    assert files.checked == [["second", "stored"]]


def test_new_site_in_the_place_of_another() -> None:
    """A new site may deliver the PUBLISHes of a site that was taken out, and not those of a stored one."""
    old, new = make_site("old", redis_publish=RedisPublish()), make_site("new", redis_publish=RedisPublish())
    reader = structs.replace(
        reader_of(Sources(), PROTOCOLS), load=lambda: Config(sites={"new": new}), confirm=lambda changes: None
    )
    with pytest.raises(ConfigError, match=r"^old\.redisPublish\.prefix: expected another than that of 'new'"):
        reader.changes(Config(sites={"old": structs.replace(old, is_stored=True)}))
    changes = reader.changes(Config(sites={"old": old}))
    assert changes.names == {"added": ["new"], "removed": ["old"]}


def test_missing_file_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there while it is copied does not mean that all sites, or all settings, are gone; an empty one
    does, and so does one that never was."""
    monkeypatch.chdir(tmp_path)
    sites, config = tmp_path / "sites.yml", tmp_path / "config.yml"
    sites.write_text("shop: {authUrl: 'http://127.0.0.1/', apiKey: key}\n")
    config.write_text("production: {port: 4004}\n")
    reader = reader_of(Sources(), PROTOCOLS)
    running = reader.load()
    sites.unlink()
    with pytest.raises(ConfigError, match=r"^sites\.yml: no such file"):
        reader.changes(running)
    sites.write_text("")
    assert reader.changes(running).gone == ["shop"]
    config.unlink()
    with pytest.raises(ConfigError, match=r"^config\.yml: no such file"):
        reader.changes(structs.replace(running, sites={}))
    sites.unlink()
    assert reader.changes(Config()).names == {"added": []}


async def test_mistakes_end_no_reloads() -> None:
    """After a reload that found mistakes, the next one is as any other."""
    files = Files()
    files.mistake = "sites.yml: one\nsites.yml: two"
    with capture_logs() as logs:
        files.reload.ask()
        await until(lambda: logs, "the line")
    assert [(line["event"], line["mistakes"]) for line in logs] == [
        ("configuration not reloaded", ["sites.yml: one", "sites.yml: two"])
    ]
    assert files.added == []
    files.mistake = ""
    files.write("shop", "second")
    files.reload.ask()
    await until(lambda: files.added == ["second"], "the reload")


async def test_none_during_the_drain() -> None:
    """The begin of the drain ends the reload that is under way, and no other begins."""
    files = Files()
    files.may_end.clear()
    files.reload.ask()
    await until(lambda: files.checked, "the reload")
    files.reload.stop()
    files.reload.ask()
    files.may_end.set()
    await until(lambda: files.reload._task is None, "its end")
    files.reload.ask()
    assert (files.reload._task, files.added) == (None, [])
