"""The page of tested clients (docs/tested-clients.md): the facts that passed tests show, by client and transport.

A test is marked `shows("<section>", "<fact>, <fact>")`. Its client and transport are its parameters, or the mark's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.clients import ClientKind
from tests.support.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "tested-clients.md"
SHOWN = "shown"
#: The sections in their order, with the page that describes each.
SECTIONS = {
    "Sites": "clients.md",
    "Redis PUBLISH": "redis-publish.md",
    "Channels": "channels.md",
    "Topics": "topics.md",
}
#: The facts in their order.
FACTS = (
    "connect",
    "events",
    "acknowledgement",
    "replay",
    "replay of 300 KB",
    "restart of the server",
)
_HEAD = """# Tested clients

The run of the tests writes this page (`scripts/test -m shows --write-clients`): a row stands here when its tests
passed. A later run fails when a row is missing, and a run of all tests also when no test shows a row any more. The
clients are real ones, with the options that the column "transport" names and their defaults otherwise. "polling, then
WebSocket" is the default of socket.io-client.

Chromium runs the bundles as a page loads them. [Which client](clients.md#which-client) says what to choose.
"""
_TRANSPORTS = {"polling": "polling", "websocket": "WebSocket", "default": "polling, then WebSocket"}

Row = tuple[str, str, str]
"""Section, client, transport."""
Rows = dict[Row, set[str]]


def shown_by(item: pytest.Item) -> list[str]:
    """List section, client, transport and facts that a passed test shows; empty for a test without the mark."""
    mark = item.get_closest_marker("shows")
    if mark is None:
        return []
    section, facts = mark.args
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    client, transport = _client_of(parameters, mark.kwargs)
    return [section, client, transport, facts]


def _client_of(parameters: Mapping[str, Any], given: Mapping[str, str]) -> tuple[str, str]:
    kind = parameters.get("kind")
    if isinstance(kind, ClientKind):
        return _library(kind), "polling, then WebSocket" if kind.upgrades else _TRANSPORTS[kind.transports[0]]
    if "version" in parameters:
        transport = parameters.get("transport") or given["transport"]
        return f"socket.io-client {parameters['version']} in Chromium", _TRANSPORTS.get(transport, transport)
    return given["client"], given["transport"]


def _library(kind: ClientKind) -> str:
    if kind.library == "python":
        return "python-socketio"
    package = json.loads((REPOSITORY / "tests/clients/package.json").read_text())
    version = package["dependencies"][f"socket.io-client-{kind.library}"].rpartition("@")[2]
    return f"socket.io-client {version} in Node"


def gather(shown: Iterable[list[str]]) -> Rows:
    """Join what the tests of a run show."""
    rows: Rows = {}
    for section, client, transport, facts in shown:
        rows.setdefault((section, client, transport), set()).update(facts.split(", "))
    return rows


def join(first: Rows, second: Rows) -> Rows:
    """The facts of both."""
    return {row: first.get(row, set()) | second.get(row, set()) for row in first.keys() | second.keys()}


def write_page(rows: Rows) -> str:
    """The page with these rows."""
    return _HEAD + "".join(_section(name, page, rows) for name, page in SECTIONS.items())


def _section(name: str, page: str, rows: Rows) -> str:
    lines = [f"| {client} | {transport} | {_join(facts)} |" for (_, client, transport), facts in _sorted(name, rows)]
    return "\n".join(
        [
            f"\n## {name}\n",
            f"See [{name}]({page}).\n",
            "| client | transport | tested |",
            "| --- | --- | --- |",
            *lines,
            "",
        ]
    )


def _sorted(name: str, rows: Rows) -> list[tuple[Row, set[str]]]:
    return sorted((entry for entry in rows.items() if entry[0][0] == name), key=lambda entry: _order(entry[0]))


def _order(row: Row) -> tuple[str, list[int], str]:
    """The place of a row: by the client's name, its place, and its version as a number."""
    _, client, transport = row
    version = re.search(r"\d+(\.\d+)+", client)
    place = client.partition(" in ")[2]
    numbers = [int(part) for part in version[0].split(".")] if version else []
    return client.partition(" ")[0] + place, numbers, transport


def _join(facts: set[str]) -> str:
    return ", ".join(sorted(facts, key=lambda fact: FACTS.index(fact)))


def read_page(text: str) -> Rows:
    """The rows of a page."""
    return gather(_entries(text))


def _entries(text: str) -> Iterator[list[str]]:
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| client |", "| ---")):
            client, transport, facts = (cell.strip() for cell in line.strip("|").split("|"))
            yield [section, client, transport, facts]


def differences(shown: Rows, page: Rows, is_whole: bool) -> list[str]:
    """List the facts that the page lacks; after a whole run also those that no test shows any more."""
    lacking = [f"lacks {row}: {fact}" for row, facts in shown.items() for fact in facts - page.get(row, set())]
    stale = [f"no test shows {row}: {fact}" for row, facts in page.items() for fact in facts - shown.get(row, set())]
    return sorted(lacking) + (sorted(stale) if is_whole else [])
