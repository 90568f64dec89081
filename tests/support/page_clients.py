"""The client of sites for pages in one Node process, driven by JSON lines (tests/clients_js/driver.mjs)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.node_clients import install_clients
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import Recording

_DIRECTORY = REPOSITORY / "tests" / "clients_js"
_SECONDS = 30.0


@dataclass(frozen=True)
class Note:
    """One thing that a client reports: that a handler began or has handled, a token was asked for, and so on."""

    kind: str
    details: Mapping[str, Any]


class PageClient:
    """One client in the process. Lives until `close`."""

    def __init__(self, name: str, clients: PageClients) -> None:
        """It has reported nothing yet."""
        self.name = name
        self.notes: Recording[Note] = Recording()
        self._clients = clients

    def wait(self, kind: str, nth: int = 1, **details: Any) -> Mapping[str, Any]:
        """Block until it has reported this `nth` times; return the report."""

        def matches(note: Note) -> bool:
            return note.kind == kind and details.items() <= note.details.items()

        return self.notes.wait_for(matches, f"{nth} x {kind} {details}", _SECONDS, nth).details

    def seen(self, kind: str, key: str) -> list[Any]:
        """List a detail of all reports of a kind, in order."""
        return [note.details[key] for note in self.notes.snapshot() if note.kind == kind]

    def wait_handled(self, *args: Any) -> list[Any]:
        """Block until a message with these arguments was handled; list the arguments of all handled messages."""
        self.wait("handled", args=list(args))
        return self.seen("handled", "args")

    def do(self, operation: str, **fields: Any) -> None:
        """Have it do something: `release`, `drop`, `away`, `back`, `close`."""
        self._clients.command(operation, name=self.name, **fields)


@dataclass
class Behaviour:
    """How a client is made, and what its functions do; see the driver."""

    tokens: Sequence[str]
    plans: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reloads: Sequence[str] | None = None
    failures: bool = False
    events: Sequence[str] = ("news",)
    options: Mapping[str, Any] = field(default_factory=dict)


class PageClients(ChildProcess):
    """The Node process. The code that starts it calls `end`."""

    def __init__(self) -> None:
        """Start it."""
        self._clients: dict[str, PageClient] = {}
        self._writing = threading.Lock()
        self.unhandled: list[str] = []
        install_clients()
        super().__init__("page clients", ["node", "driver.mjs"], _DIRECTORY)

    def connect(self, url: str, behaviour: Behaviour) -> PageClient:
        """Connect a client; does not wait."""
        name = f"client-{len(self._clients)}"
        client = self._clients[name] = PageClient(name, self)
        options = {"deviceId": name, "least": 40, "most": 400, **behaviour.options}
        given = {key: value for key, value in options.items() if value is not None}
        self.command("connect", name=name, url=url, **{**vars(behaviour), "options": given})
        return client

    def command(self, operation: str, **fields: Any) -> None:
        """Write one command line."""
        with self._writing:
            self.stdin.write(json.dumps({"op": operation, **fields}).encode() + b"\n")
            self.stdin.flush()

    def stdout_line(self, line: str) -> None:
        """Add one report to its client."""
        details = json.loads(line)
        client, kind = details.pop("client"), details.pop("kind")
        if client:
            self._clients[client].notes.add(Note(kind, details))
        else:
            self.unhandled.append(details["error"])
