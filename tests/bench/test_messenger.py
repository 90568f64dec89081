"""The measurements of a messenger, small, on one server: each tells what it has seen, and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bench.messenger import measure, row_of
from bench.messenger_files import transfer
from bench.messenger_node import ChatNode, make_room, running_database, serving
from bench.messenger_sync import fill, synchronise
from tests.support.store import running_valkey

_FILLED = 3_000
_LOGINS = ["user1", "user2", "user3"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatNode]:
    """A server with users and a room that has messages."""
    folder = tmp_path_factory.mktemp("node")
    with running_valkey() as valkey, running_database("sqlite", folder) as (url, _):
        assert make_room(url, len(_LOGINS)) == _LOGINS
        asyncio.run(fill(url, _FILLED))
        with serving(folder, valkey, url) as running:
            yield running


def test_the_load_test(node: ChatNode) -> None:
    """Three users send twenty messages each: in one process each message is eleven operations, and none is lost."""
    totals, spent = measure(node, _LOGINS, 20, {"sql": [], "redis": []})
    assert (totals["counts"]["operations"], totals["lost"], totals["refused"]) == (660, 0, 0)
    assert row_of("sqlite", 1, totals, spent).startswith("| sqlite | 1 | ")


def test_the_synchronisation(node: ChatNode) -> None:
    """A user gets every message once, in parts that are no longer than it asks for."""
    found = asyncio.run(synchronise(node, _LOGINS[1]))
    assert found.messages >= _FILLED
    assert found.parts > 2
    assert found.largest_bytes <= 262_144


def test_a_file(node: ChatNode) -> None:
    """A file goes up and comes down as it was; both directions have a row."""
    upload, download = transfer(node, _LOGINS[0], 9_000_000)
    assert (upload.split(" | ")[:2], download.split(" | ")[:2]) == (["upload", "8"], ["download", "8"])
