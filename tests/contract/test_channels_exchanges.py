"""Recorded exchanges with WS-PushServer, replayed against Recado on two ports and compared field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support.channels import KEY, channels_site
from tests.support.deployment import Deployment
from tests.support.examples import text_of
from tests.support.exchanges import Player, differences, expected_of, read_exchanges
from tests.support.ports import free_port
from tests.support.waiting import eventually

RECORDED = read_exchanges(Path(__file__).parent / "exchanges" / "ws-pushserver.json")
EXCHANGES: list[dict[str, Any]] = RECORDED["exchanges"]
#: {"where": pattern of exchange/step/field, "original", "recado": values or "*", "documented": words of the page}.
LISTED: list[dict[str, Any]] = RECORDED["differences"]
PAGE = "docs/moving/ws-pushserver.md"

Found = dict[str, tuple[Any, Any]]


class TwoPorts:
    """A server that listens as WS-PushServer does, on a port for HTTP and one for WebSockets. Lives for the module."""

    def __init__(self) -> None:
        """Start it."""
        self.http_port, self.ws_port = free_port(), free_port()
        mount = {"site": "shop", "http_port": self.http_port, "ws_port": self.ws_port}
        sites = {"shop": channels_site(channels={"open_create": True})}
        self.deployment = Deployment(sites, {"log_level": "debug", "mounts": {"channels": mount}})

    def replay(self, exchange: dict[str, Any]) -> Found:
        """Play one exchange; return exchange/step/field -> (recorded, ours), where they differ."""
        player = Player(f"http://127.0.0.1:{self.http_port}", f"ws://127.0.0.1:{self.ws_port}", {"X-API-Key": KEY})
        found: Found = {}
        try:
            for number, step in enumerate(exchange["steps"]):
                ours = player.play(step, expected_of(step))
                found |= {f"{exchange['name']}/{number}/{path}": both for path, both in differences(step, ours).items()}
            late = player.late()
            found |= {f"{exchange['name']}/late/{name}": (None, arrived) for name, arrived in late.items()}
        finally:
            player.close()
        return found


@pytest.fixture(scope="module")
def two_ports() -> Iterator[TwoPorts]:
    """A server on two ports."""
    server = TwoPorts()
    yield server
    server.deployment.end()


def is_listed(where: str, both: tuple[Any, Any], listed: dict[str, Any]) -> bool:
    """Whether a found difference is this one of the list."""
    if not any(fnmatchcase(where, pattern) for pattern in listed["where"]):
        return False
    return all(listed[side] in ("*", value) for side, value in zip(("original", "recado"), both, strict=True))


def test_every_exchange_is_the_same(two_ports: TwoPorts) -> None:
    """Each answer and each message has the recorded fields, but for the listed differences; the list names no other."""
    found: Found = {}
    for exchange in EXCHANGES:
        found |= two_ports.replay(exchange)
        # The next exchange finds no subscriber of this one.
        player = Player(f"http://127.0.0.1:{two_ports.http_port}", "", {"X-API-Key": KEY})
        eventually(lambda player=player: _is_quiet(player), "the subscribers to leave")  # type: ignore[misc]
        player.close()
    other = {
        where: both for where, both in found.items() if not any(is_listed(where, both, listed) for listed in LISTED)
    }
    assert other == {}, json.dumps(other, indent=1, ensure_ascii=False)
    unused = [listed for listed in LISTED if not any(is_listed(where, both, listed) for where, both in found.items())]
    assert unused == []


def _is_quiet(player: Player) -> bool:
    answer = player.play({"request": "GET /sysadmin"})["answer"]
    return bool(answer["body"]["data"]["clientsAmount"] == 0)


def test_every_listed_difference_is_documented() -> None:
    """The page for those who move over says each difference."""
    page = " ".join(text_of(PAGE).split())
    assert [listed["documented"] for listed in LISTED if listed["documented"] not in page] == []
