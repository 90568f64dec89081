"""Each fault of a proxy or a node is named, with the line that mends it; a healthy way in has none."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import recado
from app.commands.doctor import lines_of
from app.doctor.examination import ExaminationOrder, examine
from app.doctor.finding import FAULT, OK, SKIPPED, WARNING, Finding, LineToChange
from app.doctor.stores import look_at_redis
from app.doctor.target import read_target
from app.redis.address import read_redis_url
from tests.doctor.conftest import PING_SECONDS, Front
from tests.support.deployment import Deployment
from tests.support.ports import HOST, free_port
from tests.support.proxies import NAMES, running_proxy
from tests.support.server import Server, clean_environment
from tests.support.sites import ORIGIN
from tests.support.store import running_valkey
from tests.support.valkey import Valkey

#: In the tests only the node's own lateness can end a wait.
_WAIT_SECONDS = 60.0
#: As long as a busy machine may need.
_ANSWER_SECONDS = 30.0


def look(
    url: str,
    wait_seconds: float = 0,
    site: str | None = None,
    origin: str | None = None,
    answer_seconds: float = _ANSWER_SECONDS,
) -> dict[str, Finding]:
    """The findings by their check. Without a wait nothing takes longer than an answer."""
    target = read_target(url, ssl.create_default_context(), answer_seconds)
    found = asyncio.run(examine(ExaminationOrder(target, ["news"], site, origin, wait_seconds)))
    return {finding.check: finding for finding in found}


def faults(found: Mapping[str, Finding]) -> dict[str, list[str]]:
    """The lines to change, by the check that has found a fault."""
    return {
        name: [f"{change.where}: {change.line}" for change in finding.change]
        for name, finding in found.items()
        if finding.state == FAULT
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_healthy_proxy(front: Front, name: str) -> None:
    """The files of deploy/ have no fault: packets, upgrades, streams and silence come through, on both nodes."""
    with front(name) as proxy:
        found = look(proxy.url, _WAIT_SECONDS)
    assert {name: finding.text for name, finding in found.items() if finding.state not in (OK, SKIPPED)} == {}
    assert {name for name, finding in found.items() if finding.state == SKIPPED} <= {"clock"}
    # By chance Caddy may give all of a few sessions to one node.
    assert name == "caddy" or found["nodes"].text == "2 nodes were seen, and each serves all sessions"
    assert found["silent poll"].text == f"a poll may be silent until its ping, {PING_SECONDS} s"


def test_a_node_itself(nodes: Deployment) -> None:
    """A node without a proxy has no fault; its figures are open to everybody, which is a warning."""
    found = look(nodes.nodes[0].url)
    assert faults(found) == {}
    assert found["published"].state == WARNING
    assert found["clock"].state == SKIPPED
    assert found["silent websocket"].state == SKIPPED


@pytest.mark.parametrize(
    "dropped", ["proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection $connection_header;"]
)
def test_a_dropped_upgrade(front: Front, dropped: str) -> None:
    """A proxy that does not pass the headers of an upgrade on."""
    with front(changes={dropped: ""}) as proxy:
        found = look(proxy.url)
    assert list(faults(found)) == ["websocket"]
    assert f"nginx: {dropped}" in faults(found)["websocket"]


def test_a_buffered_stream(front: Front) -> None:
    """A proxy that collects a stream: it does not obey the header that asks it not to, and speaks HTTP/1.0."""
    buffering = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"
    with front(changes={"proxy_buffering off;": buffering, "proxy_http_version 1.1;": ""}) as proxy:
        # This one comes to nothing: the time is waited out.
        found = look(proxy.url, answer_seconds=3)
    assert "nginx: proxy_buffering off;" in faults(found)["streams"]


def test_a_short_timeout_of_nginx(front: Front) -> None:
    """A proxy whose time-out is shorter than the time between pings cuts WebSockets and polls."""
    with front(changes={"proxy_read_timeout 75s;": "proxy_read_timeout 1s;"}) as proxy:
        found = look(proxy.url, _WAIT_SECONDS)
    assert list(faults(found)) == ["silent websocket", "silent poll"]
    for lines in faults(found).values():
        assert "nginx: proxy_read_timeout 75s;" in lines


def test_a_short_timeout_of_haproxy(front: Front) -> None:
    """The same of HAProxy, whose time-out for WebSockets is one of its own."""
    short = {"timeout server 75s": "timeout server 1s", "timeout tunnel 75s": "timeout tunnel 1s"}
    with front("haproxy", short) as proxy:
        found = look(proxy.url, _WAIT_SECONDS)
    assert list(faults(found)) == ["silent websocket", "silent poll"]
    assert "haproxy: timeout tunnel 75s" in faults(found)["silent websocket"]


def test_a_redirect(front: Front) -> None:
    """An address that leads to https."""
    with front() as proxy:
        found = look(proxy.plain_url)
    (address,) = found.values()
    assert address.state == FAULT
    assert "redirects (308) to https://127.0.0.1" in address.text
    assert [change.where for change in address.change] == ["the page"]


def test_a_path_in_front(front: Front) -> None:
    """A page's address has a path in front that the proxy passes on as it is."""
    with front() as proxy:
        found = look(f"{proxy.url}/push/")
    (address,) = found.values()
    assert address.state == FAULT
    assert f"a Recado answers at {proxy.url}, and not below /push" in address.text
    assert address.change


def test_another_path(front: Front) -> None:
    """A proxy that serves Recado below a path: with it there is no fault, and without it no Recado."""
    below = {"location / {": "location /push/ {", "proxy_pass http://recado;\n        }\n\n        # A sub":
             "proxy_pass http://recado/;\n        }\n\n        # A sub"}  # fmt: skip
    with front(changes=below) as proxy:
        found = look(f"{proxy.url}/push")
        wrong = look(proxy.url)
    assert set(faults(found)) <= {"streams"}
    assert found["websocket"].state == OK
    assert "is no Recado: it answers 404 (Server: nginx)" in wrong["address"].text


def test_no_recado(front: Front) -> None:
    """Another server, one that answers no HTTP, and no server at all."""
    with front(
        changes={"location / {\n            proxy_pass http://recado;": 'location / {\n return 200 "hello";'}
    ) as proxy:
        assert "is no Recado: it answers 200" in look(proxy.url)["address"].text
    assert "nothing listens there" in look(proxy.url)["address"].text


def test_a_proxy_without_nodes(front: Front) -> None:
    """A proxy that reaches no node."""
    with front(has_nodes=False) as proxy:
        found = look(proxy.url)
    assert "the proxy answers 502: it reaches no node" in found["address"].text
    assert "nginx: server 10.0.0.1:1337 max_fails=0;" in faults(found)["address"]


def test_a_header_too_many(front: Front) -> None:
    """A proxy that allows pages a second time."""
    twice = "location / {\n add_header Access-Control-Allow-Origin * always;"
    with front(changes={"location / {": twice}) as proxy:
        found = look(proxy.url)
    assert list(faults(found)) == ["origins"]
    assert "2 values of Access-Control-Allow-Origin" in found["origins"].text


def test_a_header_too_few(front: Front) -> None:
    """A proxy that takes the header away."""
    gone = "location / {\n proxy_hide_header Access-Control-Allow-Origin;"
    with front(changes={"location / {": gone}) as proxy:
        found = look(proxy.url)
    assert list(faults(found)) == ["origins"]
    assert "there is none" in found["origins"].text


def test_a_cache(front: Front) -> None:
    """A proxy that gives two clients one answer."""
    changes = {
        "location / {": "location / { proxy_buffering on; proxy_cache all; proxy_cache_valid 200 60s;"
        "proxy_ignore_headers Cache-Control Vary X-Accel-Buffering;",
        "map $http_upgrade": "proxy_cache_path cache keys_zone=all:1m;\n map $http_upgrade",
    }
    with front(changes=changes) as proxy:
        found = look(proxy.url)
    assert "a cache keeps answers" in found["polling"].text
    assert "nginx: proxy_cache off;" in faults(found)["polling"]


def test_another_type(front: Front) -> None:
    """A proxy that changes the type of answers."""
    changed = "location / {\n proxy_hide_header Content-Type; add_header Content-Type text/html always;"
    with front(changes={"location / {": changed}) as proxy:
        found = look(proxy.url)
    assert "text/html in place of text/plain" in found["polling"].text
    assert faults(found)["polling"]


def test_published_figures(front: Front) -> None:
    """A proxy that passes /metrics on: a warning, with the line."""
    with front(changes={"return 404;": "proxy_pass http://recado;"}) as proxy:
        found = look(proxy.url)
    assert faults(found) == {}
    assert found["published"].state == WARNING
    assert "location /metrics { return 404; }" in [change.line for change in found["published"].change]


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of two nodes on one Redis, as if on machines of their own, each with a secret of its own."""
    (tmp_path / "sites.yml").write_text("news: {apiKey: news-key, topics: {}}")
    with running_valkey() as valkey, ExitStack() as ends:
        urls = []
        for secret in ("the one", "another"):
            port = free_port()
            url = f"http://{HOST}:{port}"
            cluster = {"RECADO_NODE_URL": url, "RECADO_CLUSTER_SECRET": secret}
            node = Server(tmp_path, "--port", str(port), REDIS_URL=valkey.url, **cluster)
            ends.callback(node.end)
            urls.append(url)
        # Without the socket files, by which nodes of one machine find each other.
        for key in valkey.client.keys("recado:place:*"):
            Path(json.loads(valkey.client.get(key) or b"")["socket"]).unlink()
        yield urls


def test_nodes_without_a_common_secret(strangers: list[str], tmp_path: Path) -> None:
    """Two nodes on two machines with two secrets: a session's requests fail at the other node."""
    with running_proxy("nginx", strangers, tmp_path / "nginx") as proxy:
        found = look(proxy.url)
    assert "The nodes have no common secret" in found["nodes"].text
    assert "environment: RECADO_CLUSTER_SECRET=...   # the same on all nodes" in faults(found)["nodes"]
    assert faults(found).keys() <= {"nodes", "origins", "polling"}


@pytest.mark.parametrize(
    ("site", "origin", "state", "text"),
    [
        ("narrow", ORIGIN, OK, f"site narrow takes pages of {ORIGIN}"),
        ("narrow", "https://evil.example", FAULT, "site narrow refuses pages of https://evil.example"),
        ("narrow", None, OK, "site narrow takes only pages that it lists; try one with --origin"),
        ("nowhere", None, FAULT, "there is no site nowhere at this address"),
    ],
)
def test_origins_of_a_site(nodes: Deployment, site: str, origin: str | None, state: str, text: str) -> None:
    """A page's origin is tried at the site, and a site that is not there is named."""
    found = look(nodes.nodes[0].url, site=site, origin=origin)["origins"]
    assert (found.state, found.text) == (state, text)
    assert bool(found.change) == (origin == "https://evil.example")


async def test_redis_that_evicts(valkey: Valkey) -> None:
    """A Redis that evicts, and one without an append-only file, are named with their lines; a good one is well."""
    location = read_redis_url(valkey.url)
    valkey.client.config_set("appendonly", "yes")
    (well,) = await look_at_redis(location)
    assert (well.state, well.text) == (OK, "keeps what it holds (1 primary servers)")
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    valkey.client.config_set("appendonly", "no")
    try:
        evicts, loses = await look_at_redis(location)
    finally:
        valkey.client.config_set("maxmemory-policy", "noeviction")
    assert (evicts.state, evicts.change[0].line) == (FAULT, "maxmemory-policy noeviction")
    assert (loses.state, loses.change[0].line) == (WARNING, "appendonly yes")
    away = await look_at_redis(read_redis_url("redis://:hidden@127.0.0.1:9"))
    assert [finding.state for finding in away] == [FAULT]
    assert "hidden" not in str(away)


def test_the_command(nodes: Deployment) -> None:
    """The command looks at the way in and at Redis, and ends with 1 when something is wrong. No key is shown."""
    asked = ("--site", "narrow", "--origin", "https://evil.example", "--json", "--wait", "0", "--timeout", "30")
    run = [sys.executable, "-m", "app", "doctor", nodes.nodes[0].url, *asked]
    environment = clean_environment(REDIS_URL=nodes.redis.url)
    ended = subprocess.run(run, cwd=nodes.directory, env=environment, capture_output=True, text=True, timeout=100)
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["ok"], told["url"]) == (1, False, nodes.nodes[0].url)
    (fault,) = [finding for finding in told["findings"] if finding["state"] == "fault"]
    assert fault["change"] == [{"where": "sites.yml", "line": "narrow: {origins: [..., https://evil.example]}"}]
    assert told["findings"][-1]["text"] == "keeps what it holds (1 primary servers)"
    keys = [str(site["apiKey"]) for site in nodes.sites.values()]
    assert [key for key in keys if key in ended.stdout + ended.stderr] == []


def test_the_words_of_the_command() -> None:
    """A fault has its lines below it, and the last line counts the faults."""
    well = Finding("nodes", OK, "one node was seen")
    fault = Finding("websocket", FAULT, "no WebSocket", (LineToChange("nginx", "proxy_http_version 1.1;"),))
    assert list(lines_of([well])) == ["OK   nodes  one node was seen", "all is well"]
    assert list(lines_of([well, fault])) == [
        "OK   nodes      one node was seen",
        "BAD  websocket  no WebSocket",
        "       nginx: proxy_http_version 1.1;",
        "1 to mend",
    ]


@pytest.mark.parametrize(
    "arguments", [("http://user:hidden@127.0.0.1",), ("ftp://127.0.0.1",), ("http://h", "--origin", "shop")], ids=str
)
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a login, one of another kind, or an origin that is none ends with 2; a password is not repeated."""
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(recado, ["doctor", *arguments], env={"RECADO_CONFIG": None, "RECADO_SITES": None})
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "expected http:// or https://" in ended.stderr
    assert "hidden" not in ended.stderr
