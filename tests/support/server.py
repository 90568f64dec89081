"""A real `python -m app serve` process with its configuration, Valkey and log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.processes import REPOSITORY, ChildProcess, descendants, kill
from tests.support.valkey import Valkey

# What in the environment of whoever runs the tests would configure the server.
_SETTINGS = re.compile(
    "APP_ENV|NODE_ENV|PORT|HOST|REDIS_URL|SITE_NAME|AUTH_URL|AUTH_SCHEME|API_KEY|USER_ROOM_PREFIX|UPDATE_USER_URL|"
    "PUBLIC_CHANNEL|DEVICE_TTL|RECADO_.*"
)


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without any setting of the server, and with `settings`."""
    environment = {key: value for key, value in os.environ.items() if not _SETTINGS.fullmatch(key)}
    return environment | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **settings}


class Server(ChildProcess):
    """The server's process; whoever starts it calls `end`."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        """Start `python -m app serve` in `directory`; returns when it listens."""
        command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", *arguments]
        super().__init__("server", command, directory, clean_environment(**environment))
        try:
            self.url = self._wait_listening()
        except AssertionError:
            self.end()
            raise

    def log(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the log lines from `start` on as values; a line that is no JSON object as {"raw": line}."""
        return [_log_line(line) for line in self.lines.snapshot()[start:]]

    def _wait_listening(self) -> str:
        def is_over(lines: list[str]) -> bool:
            return self.returncode is not None or any(_log_line(line).get("event") == "listening" for line in lines)

        lines = self.lines.wait_until(is_over, "the server to listen", 15)
        for line in map(_log_line, lines):
            if line.get("event") == "listening":
                return str(line["url"])
        raise AssertionError(f"the server ended with {self.returncode}: {lines}")


class Deployment:
    """A server with its Valkey in a directory of its own; whoever makes it calls `end`, which removes everything."""

    def __init__(
        self,
        sites: Mapping[str, Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
        is_embedded: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration, start Valkey (unless the server shall run its own) and the server."""
        # A short path: a unix socket's may have 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self.sites = sites
        self.valkey: Valkey | None = None
        self._environment = dict(environment or {})
        self._servers: list[Server] = []
        self._port = 0
        self._orphans: list[int] = []
        (self.directory / "sites.yml").write_text(yaml.safe_dump({name: dict(keys) for name, keys in sites.items()}))
        (self.directory / "config.yml").write_text(yaml.safe_dump({"production": dict(config or {})}))
        try:
            if not is_embedded:
                (self.directory / "valkey").mkdir()
                self.valkey = Valkey(self.directory / "valkey")
            self.start()
        except BaseException:
            self.end()
            raise
        self._http = httpx.Client(timeout=10, limits=httpx.Limits(max_keepalive_connections=20))

    @property
    def server(self) -> Server:
        """The server's process, the latest if there were several."""
        return self._servers[-1]

    @property
    def redis(self) -> Valkey:
        """The Valkey beside the server; an embedded one is the server's own."""
        assert self.valkey, "this deployment has an embedded Valkey"
        return self.valkey

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self.server.url

    def start(self) -> None:
        """Start the server, or start it again on the same configuration, data and port."""
        arguments = ["--port", str(self._port), "--config", "config.yml", "--sites", "sites.yml"]
        environment = self._environment | ({"REDIS_URL": self.valkey.url} if self.valkey else {})
        if not self.valkey:
            arguments += ["--data-dir", str(self.directory / "data")]
        self._servers.append(Server(self.directory, *arguments, **environment))
        self._port = int(self.url.rpartition(":")[2])

    def stop(self) -> int:
        """Ask the server to end as an operator does (SIGTERM) and return its exit status; 10 s are allowed."""
        self.server.signal(signal.SIGTERM)
        return self.server.wait(10)

    def kill(self) -> list[int]:
        """Kill the server alone, as a crash does, and return the processes it leaves behind; `end` kills those."""
        left = descendants(self.server.pid)
        self._orphans += left
        self.server.signal(signal.SIGKILL)
        self.server.wait()
        return left

    def end(self) -> None:
        """End every process and remove the directory."""
        for server in self._servers:
            server.end()
        for pid in self._orphans:
            kill(pid)
        if self.valkey:
            self.valkey.end()
        if hasattr(self, "_http"):
            self._http.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask the server anything."""
        return self._http.request(method, self.url + path, **request)

    def post(self, path: str = "/send", **request: Any) -> httpx.Response:
        """POST anything to the server."""
        return self.request("POST", path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        """GET a path of the server."""
        return self.request("GET", path, **request)

    def key(self, site: str) -> str:
        """Return the site's apiKey as text."""
        return str(self.sites[site]["apiKey"])

    def try_send(self, site: str, body: Mapping[str, Any], resync: bool = False, **request: Any) -> httpx.Response:
        """POST /send with this JSON body and the site's key; returns whatever the answer is."""
        query = {"site": site, "apiKey": self.key(site), "resync": "true" if resync else "false"}
        return self.post(params=query, json=dict(body), **request)

    def send(self, site: str, rooms: str | list[str], event: str, *args: Any, resync: bool = False) -> None:
        """Send an event and insist on `200 OK`."""
        answer = self.try_send(site, {"rooms": rooms, "event": event, "args": list(args)}, resync)
        assert (answer.status_code, answer.text) == (200, "OK")


def _log_line(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"raw": line}
    return value if isinstance(value, dict) else {"raw": line}
