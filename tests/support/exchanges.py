"""Recorded exchanges with a server that Recado replaces: played against a server, written to a file, and compared.

A file holds JSON: `note` (where the answers come from), `exchanges`, `differences`. An exchange is a list of steps:

    {"request": "POST /push", "json": ... | "text": "...", "answer": {"status", "type", "body"}}
    {"connect": "a", "path": "/", "subprotocols": [...], "answer": {"subprotocol"} | {"refused": status}}
    {"send": "a", "json": ... | "text": "..." | "hex": "..."}
    {"close": "a"}

`arrivals` of a step are the messages that arrived at each socket in its wake; `recado` says how many arrive from
Recado, where that is another number. Tokens and uuids differ from run to run,
so a file names them: `{token:<channel>}` (a second one of that channel: `{token:<channel>#2}`) and `{uuid:<socket>}`;
`{UUID:<socket>}` is the same in capitals.

`python -m tests.support.exchanges FILE HTTP_URL WS_URL` records: it plays the steps and writes the answers.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

#: The original looks into its outgoing queue every 50 ms.
_QUIET_SECONDS = 0.25
_TIMEOUT_SECONDS = 30.0
_NAME = re.compile(r"\{(?:token|uuid|UUID):[^}]+\}")

Step = dict[str, Any]


class Player:
    """Plays exchanges against one server; `close` ends its connections. Lives for one exchange."""

    def __init__(self, http_url: str, ws_url: str, headers: dict[str, str] | None = None) -> None:
        """`headers` go along with every request."""
        self._resources = ExitStack()
        self._http = self._resources.enter_context(
            httpx.Client(base_url=http_url, headers=headers, timeout=_TIMEOUT_SECONDS)
        )
        self._ws_url = ws_url
        self._sockets: dict[str, ClientConnection] = {}
        #: Name -> the value that this server gave.
        self._values: dict[str, str] = {}

    def close(self) -> None:
        """Close all sockets."""
        self._resources.close()

    def play(self, step: Step, expected: dict[str, int] | None = None) -> Step:
        """Do what a step says. Returns the step with the answers of this server. `expected` is the number of messages
        to await at each socket; None: all that arrive until it is quiet."""
        done = {key: value for key, value in step.items() if key not in ("answer", "arrivals")}
        if "request" in step:
            done["answer"] = self._request(step)
        elif "connect" in step:
            done["answer"] = self._connect(step)
        elif "send" in step:
            self._sockets[step["send"]].send(self._content(step))
        else:
            self._sockets.pop(step["close"]).close()
        arrivals = self._arrivals(None if "close" in step else expected)
        if arrivals:
            done["arrivals"] = arrivals
        return done

    def _request(self, step: Step) -> object:
        method, _, path = step["request"].partition(" ")
        try:
            answer = self._http.request(method, path, content=self._content(step))
        except httpx.TransportError:
            return "none"
        token = _token_in(answer.text)
        if token is not None:
            self._name(f"token:{token[0]}", token[1])
        return {
            "status": answer.status_code,
            "type": answer.headers.get("content-type"),
            "body": self._read(answer.text),
        }

    def _connect(self, step: Step) -> object:
        name, offered = step["connect"], [Subprotocol(one) for one in step.get("subprotocols", ())]
        try:
            socket = connect(self._ws_url + step["path"], subprotocols=offered or None, compression=None, proxy=None)
        except InvalidStatus as refusal:
            return {"refused": refusal.response.status_code}
        except (InvalidHandshake, InvalidMessage, EOFError, OSError):
            return {"refused": "none"}
        self._sockets[name] = self._resources.enter_context(socket)
        return {"subprotocol": socket.subprotocol}

    def _content(self, step: Step) -> Any:
        if "hex" in step:
            return bytes.fromhex(step["hex"])
        text = json.dumps(step["json"], ensure_ascii=False) if "json" in step else step.get("text", "")
        named = _NAME.sub(lambda match: self._value(match[0][1:-1]), text)
        return named.encode() if "request" in step else named

    def _value(self, name: str) -> str:
        """The named value; a server that did not give one is sent the name itself."""
        if name.startswith("UUID"):
            return self._values["uuid" + name[4:]].upper()
        return self._values.get(name, name)

    def _arrivals(self, expected: dict[str, int] | None) -> dict[str, list[Any]]:
        """The messages that arrive until it is quiet, or as many as are expected. A server hears of the end of a socket
        a little later than the client: an exchange that asks about it has another socket, on which this waits."""
        until = time.monotonic() + (_QUIET_SECONDS if expected is None else _TIMEOUT_SECONDS)
        found: dict[str, list[Any]] = {}
        for name, socket in self._sockets.items():
            wanted = expected.get(name, 0) if expected is not None else sys.maxsize
            for message in _received(socket, wanted, until):
                if "CLIENT_ACK" in message and f"uuid:{name}" not in self._values:
                    self._name(f"uuid:{name}", json.loads(message)["data"]["uuid"])
                found.setdefault(name, []).append(self._read(message))
        return found

    def late(self) -> dict[str, list[Any]]:
        """Messages that arrived beyond the expected ones."""
        return self._arrivals(None)

    def _name(self, name: str, value: str) -> None:
        number, numbered = 1, name
        while self._values.get(numbered, value) != value:
            number += 1
            numbered = f"{name}#{number}"
        self._values[numbered] = value

    def _read(self, text: str) -> Any:
        """The text as JSON where it is some, with names in the place of tokens and uuids."""
        for name, value in self._values.items():
            text = text.replace(value, f"{{{name}}}")
        try:
            return json.loads(text)
        except ValueError:
            return text


def _token_in(text: str) -> tuple[str, str] | None:
    """The channel and the token of an answer that creates a channel."""
    try:
        data = json.loads(text)["data"]
    except (ValueError, KeyError, TypeError):
        return None
    return (data["channel"], data["channelToken"]) if data.get("channelToken") else None


def _received(socket: ClientConnection, most: int, until: float) -> list[str]:
    found: list[str] = []
    while len(found) < most:
        try:
            found.append(str(socket.recv(max(0.01, until - time.monotonic()))))
        except (TimeoutError, ConnectionClosed):
            break
    return found


def expected_of(step: Step) -> dict[str, int]:
    """How many messages a recorded step brings to each socket of Recado."""
    numbers: dict[str, int] = step.get("recado", {name: len(found) for name, found in step.get("arrivals", {}).items()})
    return numbers


def differences(recorded: Any, ours: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields that differ: path -> (recorded, ours). A field that is absent is None."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        keys = [*recorded, *(key for key in ours if key not in recorded)]
        parts = [(key, recorded.get(key), ours.get(key)) for key in keys]
    elif isinstance(recorded, list) and isinstance(ours, list):
        length = max(len(recorded), len(ours))
        parts = [(str(i), _at(recorded, i), _at(ours, i)) for i in range(length)]
    else:
        return {} if recorded == ours and type(recorded) is type(ours) else {path: (recorded, ours)}
    found: dict[str, tuple[Any, Any]] = {}
    for key, left, right in parts:
        found |= differences(left, right, f"{path}.{key}" if path else key)
    return found


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def read_exchanges(file: Path) -> dict[str, Any]:
    """A file of exchanges."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def record(file: Path, http_url: str, ws_url: str) -> None:
    """Plays the steps of a file against the original, and writes its answers into the file."""
    content = read_exchanges(file)
    for exchange in content["exchanges"]:
        player = Player(http_url, ws_url)
        steps = [{key: value for key, value in step.items() if key != "arrivals"} for step in exchange["steps"]]
        exchange["steps"] = [player.play(step) for step in steps]
        player.close()
    write_exchanges(file, content)


def write_exchanges(file: Path, content: dict[str, Any]) -> None:
    """Writes a file of exchanges, one step a line."""
    exchanges = ",\n".join(
        f'  {{"name": {_line(exchange["name"])}, "steps": [\n'
        + ",\n".join(f"    {_line(step)}" for step in exchange["steps"])
        + "\n  ]}"
        for exchange in content["exchanges"]
    )
    listed = ",\n".join(f"  {_line(one)}" for one in content["differences"])
    note = _line(content["note"])
    file.write_text(f'{{"note": {note},\n"exchanges": [\n{exchanges}\n],\n"differences": [\n{listed}\n]}}\n')


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
