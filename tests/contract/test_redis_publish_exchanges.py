"""Exchanges recorded from RedMessenger, replayed and compared field by field. Only the differences that
docs/moving/redmessenger.md lists are allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import NODE_KINDS, Client, ConnectCall
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.examples import text_of
from tests.support.waiting import eventually

RECORDED = json.loads((Path(__file__).parent / "exchanges" / "redmessenger.json").read_text())
EXCHANGES: list[dict[str, Any]] = RECORDED["exchanges"]
#: socket.io-client 1.x, as in the recording.
OLD_CLIENT = next(kind for kind in NODE_KINDS if kind.library == "1")
SITES = {"news": {"apiKey": "k", "redisPublish": {"route": "/rm", "queue_encoding": "uri"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[Deployment]:
    """One node with an empty Redis of its own."""
    deployment = Deployment(SITES)
    yield deployment
    deployment.end()


class Replay:
    """One exchange against this server. Lives for one test."""

    def __init__(self, server: Deployment, drivers: Drivers) -> None:
        self._server = server
        self._drivers = drivers
        self._redis: Any = server.redis.client
        self._clients: dict[str, Client] = {}
        self._users: dict[str, str] = {}
        self.run: dict[str, Callable[[dict[str, Any]], None]] = {
            "key": lambda step: self._redis.set(f"rm:users:{step['user']}:key", step["key"]),
            "members": lambda step: self._redis.sadd(f"rm:channels:{step['channel']}:subscribers", *step["users"]),
            "publish": self._publish,
            "list": self._list,
            "ttl": self._ttl,
            "join": self._join,
            "identify": self._identify,
            "events": self._events,
            "connected": self._connected,
            "leave": self._leave,
            "get": self._get,
        }

    def _publish(self, step: dict[str, Any]) -> None:
        heard = self._redis.publish(step["to"], step["payload"])
        # RedMessenger listens to all of `rm.*`, and does nothing with other channels.
        assert heard == (0 if step["to"].startswith("rm.others") else step["heard"])

    def _list(self, step: dict[str, Any]) -> None:
        key, expected = f"rm:users:{step['user']}:messages", step["entries"]
        eventually(lambda: self._redis.llen(key) == len(expected), f"{len(expected)} entries in {key}")
        entries = [json.loads(entry) for entry in self._redis.lrange(key, 0, -1)]
        # `bubble` of a waiting entry is always true here.
        assert [_timeless(entry) for entry in entries] == [
            {**_timeless(json.loads(entry)), "bubble": True} for entry in expected
        ]

    def _ttl(self, step: dict[str, Any]) -> None:
        assert abs(self._redis.ttl(f"rm:users:{step['user']}:messages") - step["seconds"]) <= 5

    def _join(self, step: dict[str, Any]) -> None:
        client = self._drivers.node.connect(ConnectCall(OLD_CLIENT, self._server.url, "rm"))
        client.wait_connected()
        self._clients[step["client"]] = client

    def _identify(self, step: dict[str, Any]) -> None:
        client, user = self._clients[step["client"]], step["identifier"].partition(":")[0]
        self._users[step["client"]] = user
        key = f"recado:{{rm:users:{user}:messages}}:connections"
        known, errors = self._redis.hkeys(key), len(self._errors(client))
        self._drivers.node.emit(client, "identifier", step["identifier"])
        eventually(
            lambda: self._redis.hkeys(key) != known or len(self._errors(client)) > errors, f"{client!r} to be answered"
        )

    def _events(self, step: dict[str, Any]) -> None:
        client, expected = self._clients[step["client"]], step["received"]
        if expected:
            client.wait_event("message", len(expected))
        received = [[event.name, *event.args] for event in client.events() if event.name != "error"]
        received = [[name, _timeless(message)] for name, message in received]
        wanted = [[name, _timeless(message)] for name, message in expected]
        if step["client"] == "7":
            # The connection in the place of the oldest gets `bubble` there; here the oldest that is left does.
            for one in (*received, *wanted):
                del one[1]["bubble"]
        assert received == wanted

    def _connected(self, step: dict[str, Any]) -> None:
        client = self._clients[step["client"]]
        if not step["is"]:
            client.wait_disconnected()
        assert ("disconnect" in [record.kind for record in client.records.snapshot()]) is (not step["is"])

    def _leave(self, step: dict[str, Any]) -> None:
        # A message that a client has is told until the node has a receipt of it. A client that leaves before that
        # gets it twice here, and not at RedMessenger.
        told = f"recado:{{rm:users:{self._users[step['client']]}:messages}}:told"
        eventually(lambda: not self._redis.exists(told), f"a receipt of all in {told}")
        user_keys = self._redis.keys("recado:*:connections")
        before = sum(map(self._redis.hlen, user_keys))
        self._clients.pop(step["client"]).disconnect()
        eventually(lambda: sum(map(self._redis.hlen, user_keys)) == before - 1, "the connection to be gone")

    def _get(self, step: dict[str, Any]) -> None:
        answer = httpx.get(f"{self._server.url}{step['path']}")
        seen = (answer.status_code, answer.headers["content-type"], answer.text)
        assert seen == (step["status"], step["content_type"], step["body"])

    def _errors(self, client: Client) -> list[Any]:
        return [event for event in client.events() if event.name == "error"]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.forget()


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange["name"])
def test_exchange(server: Deployment, drivers: Drivers, exchange: dict[str, Any]) -> None:
    """An application and its clients see what they saw at RedMessenger."""
    replay = Replay(server, drivers)
    for step in exchange["steps"]:
        replay.run[step["do"]](step)
    replay.close()


def test_the_differences_are_listed() -> None:
    """The page names each difference that the comparison allows."""
    page = " ".join(text_of("docs/moving/redmessenger.md").split())
    for words in (
        "A wrong key is answered with the event `error`",
        "`bubble` of a waiting entry is always true",
        "`bubble` is then true for the oldest that is left",
        "neither `rm.users.` nor `rm.channels.` answers 0",
    ):
        assert words in page


def _timeless(message: dict[str, Any]) -> dict[str, Any]:
    """The message without the moment; a moment is a number of milliseconds in both."""
    assert isinstance(message["timestamp"], int)
    assert message["timestamp"] > 1_700_000_000_000
    return {**message, "timestamp": None}
