"""An operator of the console: asks the API, loads pages, and holds live pages open. Measures nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import secrets
import selectors
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from app.console.entry import TOKEN_PREFIX
from app.console.passwords import PasswordChecks
from app.console.sql_operators import SqlOperators
from app.digests import digest
from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from app.protocols.operations import Role
from bench.processes import BenchError

_SECONDS = 30.0


@dataclass(frozen=True)
class Credentials:
    """The login and the token of one operator."""

    name: str
    password: str
    token: str

    def write(self, file: Path) -> None:
        """Keep them for another part of the run."""
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Self:
        """The written ones."""
        return cls(**json.loads(file.read_text()))


def make_operator(url: str, name: str) -> Credentials:
    """An administrator in the database of a server that has not started yet."""
    made = Credentials(name, secrets.token_urlsafe(12), TOKEN_PREFIX + secrets.token_urlsafe(24))
    asyncio.run(_make(url, made))
    return made


async def _make(url: str, made: Credentials) -> None:
    engine, passwords = open_database(url, is_writer=True), PasswordChecks()
    try:
        await upgrade_schema(engine)
        operators = SqlOperators(engine)
        await operators.add(made.name, await passwords.hash(made.password), Role.ADMIN, None)
        found = await operators.find(made.name)
        assert found is not None, "added above"
        await operators.add_token(found.id, "bench", digest(made.token))
    finally:
        passwords.close()
        await engine.dispose()


class OperatorClient:
    """One browser and one program of an operator. Lives until `close`."""

    def __init__(self, address: tuple[str, int], credentials: Credentials) -> None:
        """Log in."""
        self._address = address
        self._token = credentials.token
        self._link = http.client.HTTPConnection(*address, timeout=_SECONDS)
        form = urllib.parse.urlencode({"name": credentials.name, "password": credentials.password})
        headers = {"content-type": "application/x-www-form-urlencoded"}
        self._link.request("POST", "/console/login", form, headers)
        answer = self._link.getresponse()
        answer.read()
        if answer.status != 303:
            raise BenchError(f"the login was answered {answer.status}")
        self._cookie = (answer.getheader("set-cookie") or "").partition(";")[0]

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def ask(self, path: str) -> dict[str, Any]:
        """The answer of the API."""
        answer: dict[str, Any] = json.loads(
            self._get("/api/v1" + path, {"authorization": f"Bearer {self._token}", "accept": "application/json"})
        )
        return answer

    def page(self, path: str) -> bytes:
        """A page."""
        return self._get("/console" + path, {"cookie": self._cookie, "accept": "text/html"})

    def open_live(self, path: str) -> socket.socket:
        """The stream of a page, whose head is read."""
        link = socket.create_connection(self._address, _SECONDS)
        head = f"GET /console/live{path} HTTP/1.1\r\nhost: bench\r\ncookie: {self._cookie}\r\n\r\n"
        link.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += link.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"the live page {path} was answered {answer[:200]!r}")
        return link

    def _get(self, path: str, headers: dict[str, str]) -> bytes:
        self._link.request("GET", path, headers=headers)
        answer = self._link.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise BenchError(f"{path} was answered {answer.status}: {body[:300]!r}")
        return body


class Viewers:
    """Streams that a thread reads. Lives until `close`; `bytes_read` and `events` tell whether anything came."""

    def __init__(self, links: Sequence[socket.socket]) -> None:
        """Begin to read."""
        self.bytes_read = 0
        self.events = 0
        self._links = links
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the streams."""
        self._is_over.set()
        self._thread.join()
        for link in self._links:
            link.close()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for link in self._links:
                selector.register(link, selectors.EVENT_READ)
            while not self._is_over.is_set():
                for key, _ in selector.select(0.2):
                    source: Any = key.fileobj
                    data = source.recv(1 << 20)
                    if not data:
                        selector.unregister(source)
                    self.bytes_read += len(data)
                    self.events += data.count(b"event: live")
