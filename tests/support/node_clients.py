"""Real socket.io-clients 1.7 to 4.8 in one Node process, driven by JSON lines (tests/clients/driver.js)."""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.clients import AckPolicy, Client, ConnectCall, Record
from tests.support.processes import REPOSITORY, ChildProcess

_DIRECTORY = REPOSITORY / "tests" / "clients"


def install_clients() -> None:
    """Install the pinned libraries with npm, unless the installed ones are newer than the lock file."""
    lock = _DIRECTORY / "package-lock.json"
    installed = _DIRECTORY / "node_modules" / ".package-lock.json"
    # One process of a run installs; the others wait for it.
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run(["npm", "ci", "--silent"], cwd=_DIRECTORY, check=True, timeout=300)


class NodeClients(ChildProcess):
    """The Node process; lives for the test session, `end` stops it with every client in it."""

    def __init__(self, trusted: Path | None = None) -> None:
        """Start Node; its clients trust these certificates too."""
        self._clients: dict[str, Client] = {}
        self._numbers = itertools.count()
        self._writing = threading.Lock()
        install_clients()
        environment = None if trusted is None else {**os.environ, "NODE_EXTRA_CA_CERTS": str(trusted)}
        super().__init__("node clients", ["node", "driver.js"], _DIRECTORY, environment)

    def connect(self, call: ConnectCall) -> Client:
        """Begin to connect a client over a transport connection of its own; does not wait."""
        options = self._options(call) | {
            "transports": list(call.kind.transports),
            "forceNew": True,
            "reconnection": call.reconnects,
            "reconnectionDelay": 50,
            "reconnectionDelayMax": 200,
        }
        return self._connect(call, {"version": int(call.kind.library), "url": call.url, "options": options})

    def share(self, client: Client, call: ConnectCall) -> Client:
        """Begin to connect another namespace over the transport connection of `client`; does not wait."""
        options = self._options(call)
        if call.query:
            # 1.x expects the packet's query as text.
            options["query"] = urlencode(call.query, quote_via=quote)
        where = {"share": client.name, "namespace": call.namespace, "options": options}
        return self._connect(call, {"version": int(call.kind.library), **where})

    def ack(self, name: str, index: int, args: Sequence[Any]) -> None:
        """Call the kept ack callback of an event."""
        self.command("ack", name, index=index, args=list(args))

    def disconnect(self, name: str) -> None:
        """Leave the namespace; the library closes the transport when it carries no other namespace."""
        self.command("disconnect", name)

    def leave_at(self, client: Client, event: str, count: int) -> None:
        """Let the client leave the namespace inside its listener, at the call with number `count` for this event."""
        self.command("leave_at", client.name, event=event, count=count)

    def drop(self, client: Client) -> None:
        """Cut the client's WebSocket without a close frame."""
        self.command("drop", client.name)

    def close(self, client: Client) -> None:
        """Close the transport with all its namespaces."""
        self.command("close", client.name)

    def emit(self, client: Client, event: str, *args: Any) -> None:
        """Send an event from the client to the server."""
        self.command("emit", client.name, event=event, args=list(args))

    def ask(self, name: str, event: str, args: Sequence[Any], number: int) -> None:
        """Send an event and record the arguments of its ack."""
        self.command("ask", name, event=event, args=list(args), number=number)

    def set_policy(self, client: Client, policy: AckPolicy) -> None:
        """Change the events that the client acknowledges from now on."""
        self.command("policy", client.name, ack=dataclasses.asdict(policy))

    def forget(self, name: str) -> None:
        """Close the client's connection and drop the client."""
        self.command("forget", name)
        self._clients.pop(name, None)

    def command(self, operation: str, client: str, **fields: Any) -> None:
        """Write one command line."""
        line = json.dumps({"op": operation, "client": client, **fields}).encode() + b"\n"
        with self._writing:
            self.stdin.write(line)
            self.stdin.flush()

    def stdout_line(self, line: str) -> None:
        """Add one record to its client."""
        details = json.loads(line)
        client = self._clients.get(details.pop("client"))
        if client:
            client.records.add(Record(details.pop("kind"), details))

    def _connect(self, call: ConnectCall, fields: dict[str, Any]) -> Client:
        name = f"{call.site}-{next(self._numbers)}"
        client = self._clients[name] = Client(name, call.kind, self)
        self.command("connect", name, ack=dataclasses.asdict(call.ack), again_ms=call.again_ms, **fields)
        return client

    def _options(self, call: ConnectCall) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if call.auth is not None:
            options["auth"] = dict(call.auth)
        if call.query_option is not None:
            options["query"] = dict(call.query_option)
        return options
