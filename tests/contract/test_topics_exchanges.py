"""Recorded exchanges with es-web-notify, replayed against Recado at its own paths and compared field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import Deployment
from tests.support.examples import text_of
from tests.support.streamed_exchanges import TopicPlayer, differences, expected_of
from tests.support.tenant import SECRET

RECORDED = json.loads((Path(__file__).parent / "exchanges" / "es-web-notify.json").read_text())
EXCHANGES: list[dict[str, Any]] = RECORDED["exchanges"]
#: {"where": patterns of exchange/step/field, "original", "recado": values or "*", "documented": words of the page}.
LISTED: list[dict[str, Any]] = RECORDED["differences"]
PAGE = "docs/topics.md"
KEY = f"{SECRET}-key-old"

Found = dict[str, tuple[Any, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Deployment]:
    """A site at the paths of es-web-notify, with the settings of the recording."""
    topics = {"open_status": True, "reserved_under_hash": True, "connection_timeout": 10, "max_alive_count": 2}
    deployment = Deployment({"old": {"apiKey": KEY, "topics": topics}}, {"mounts": {"topics": "old"}})
    yield deployment
    deployment.end()


def replay(server: Deployment, exchange: dict[str, Any]) -> Found:
    """Play one exchange; return exchange/step/field -> (recorded, ours), where they differ."""
    player = TopicPlayer(server.url, KEY)
    found: Found = {}
    try:
        for number, step in enumerate(exchange["steps"]):
            ours = player.play(step, expected_of(step))
            found |= {f"{exchange['name']}/{number}/{path}": both for path, both in differences(step, ours).items()}
        found |= {f"{exchange['name']}/late/{name}": (None, arrived) for name, arrived in player.late().items()}
    finally:
        player.close()
    return found


def is_listed(where: str, both: tuple[Any, Any], listed: dict[str, Any]) -> bool:
    """Whether a found difference is this one of the list."""
    if not any(fnmatchcase(where, pattern) for pattern in listed["where"]):
        return False
    return all(listed[side] in ("*", value) for side, value in zip(("original", "recado"), both, strict=True))


def test_every_exchange_is_the_same(server: Deployment) -> None:
    """Each answer and each event has the recorded fields, but for the listed differences; the list names no other."""
    found: Found = {}
    for exchange in EXCHANGES:
        found |= replay(server, exchange)
    other = {
        where: both for where, both in found.items() if not any(is_listed(where, both, listed) for listed in LISTED)
    }
    assert other == {}, json.dumps(other, indent=1, ensure_ascii=False)
    unused = [listed for listed in LISTED if not any(is_listed(where, both, listed) for where, both in found.items())]
    assert unused == []


def test_every_listed_difference_is_documented() -> None:
    """The page says each difference."""
    page = " ".join(text_of(PAGE).split())
    assert [listed["documented"] for listed in LISTED if listed["documented"] not in page] == []
