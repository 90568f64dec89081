"""A page of the documentation in Node: its scripts and a real socket.io-client, driven by tests/clients/page.js."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.node_clients import install_clients
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import Recording

_DIRECTORY = REPOSITORY / "tests" / "clients"


@dataclass(frozen=True)
class Script:
    """One script of a page: its text, and the URL it was loaded from, if any."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class Call:
    """A call of a function that the page leaves to its reader, of `console.log` ("log"), or of `report`."""

    name: str
    args: list[Any]


class NodePage(ChildProcess):
    """One page from its load until `end`."""

    def __init__(self, scripts: Sequence[Script], version: int = 4, values: Mapping[str, Any] | None = None) -> None:
        """Run the scripts in their order with socket.io-client `version` and the global `values`."""
        self.calls: Recording[Call] = Recording()
        install_clients()
        written = [{"source": script.source, "text": script.text} for script in scripts]
        page = json.dumps({"version": version, "scripts": written, "values": dict(values or {})})
        super().__init__("page", ["node", "page.js", page], _DIRECTORY)

    def stdout_line(self, line: str) -> None:
        """Add one record."""
        self.calls.add(Call(**json.loads(line)))

    def wait_call(self, name: str, nth: int = 1) -> list[Any]:
        """Block until the function was called `nth` times; return the arguments of that call."""
        return self.calls.wait_for(lambda call: call.name == name, f"call {nth} of {name}", nth=nth).args

    def names(self) -> list[str]:
        """The names of the called functions, in order."""
        return [call.name for call in self.calls.snapshot()]
