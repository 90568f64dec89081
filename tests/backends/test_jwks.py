"""The cache of issuers' keys, whose backend rotates, hangs, fails and sends too much. The test moves the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from app.backends.figures import BackendCounts
from app.backends.jwks import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, REFRESH_SECONDS, UNKNOWN_SECONDS, JwksCache
from app.config.settings import Site
from app.errors import RecadoError
from app.observe.counts import Counts
from tests.backends.conftest import Backend, http_answer

TIMEOUT_SECONDS = 2.0
MakeSite = Callable[..., Site]


def read(body: bytes) -> str:
    """The set in an answer: its text."""
    if body.startswith(b"bad"):
        raise RecadoError("expected keys")
    return body.decode()


class World:
    """A cache with a clock that the test moves, and its backend. Lives for one test."""

    def __init__(self, backend: Backend, site: Site) -> None:
        self.now = 1000.0
        self.backend = backend
        self.site = site
        self.counts = Counts()
        self.cache = JwksCache(TIMEOUT_SECONDS, read, self.counts, lambda: self.now)

    async def keys(self, wanted: str = "") -> str | None:
        """The set; one without the wanted text does not suffice."""
        return await self.cache.keys(self.site, f"{self.backend.url}/jwks", lambda keys: wanted in keys)

    def answers(self, body: str, status: str = "200 OK") -> None:
        """The next answers of the backend."""
        self.backend.answer = http_answer(body.encode(), status)

    @property
    def reads(self) -> int:
        """The requests so far."""
        return len(self.backend.requests)

    async def has_ended(self) -> None:
        """Waits until no reading is under way."""
        while tasks := [entry.task for entry in self.cache._entries.values() if entry.task is not None]:
            await asyncio.wait(tasks)


@pytest.fixture
async def world(backend: Backend, make_site: MakeSite) -> AsyncIterator[World]:
    """A cache in front of the backend."""
    world = World(backend, make_site())
    world.answers("k1")
    yield world
    await world.cache.aclose()


async def test_one_reading_for_all(world: World) -> None:
    """Callers at the same moment share one request, and the later ones need none. A caller may leave."""
    world.backend.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(world.keys("k1")) for _ in range(50)]
    await world.backend.has_requests(1)
    tasks[0].cancel()
    world.backend.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1:] == ["k1"] * 49
    assert await world.keys("k1") == "k1"
    assert world.reads == 1
    (request,) = world.backend.requests
    assert (request.method, request.target) == ("GET", "/jwks")


async def test_an_unknown_key_has_it_read_again(world: World) -> None:
    """A rotated key is found at once; a flood of unknown ones costs one request in a minute."""
    await world.keys()
    world.answers("k1 k2")
    assert await world.keys("k2") == "k1 k2"
    for number in range(100):
        assert await world.keys(f"made up {number}") == "k1 k2"
    assert world.reads == 2
    world.now += UNKNOWN_SECONDS - 0.1
    await world.keys("k3")
    assert world.reads == 2
    world.now += 0.1
    world.answers("k3")
    assert await world.keys("k3") == "k3"
    assert world.reads == 3


async def test_an_old_set_is_renewed_beside(world: World) -> None:
    """After ten minutes a set is read again, while the old one serves: nobody waits."""
    await world.keys()
    world.now += REFRESH_SECONDS
    world.answers("k2")
    world.backend.gate = asyncio.Event()
    assert [await world.keys() for _ in range(3)] == ["k1"] * 3
    await world.backend.has_requests(2)
    world.backend.gate.set()
    await world.has_ended()
    assert await world.keys() == "k2"
    assert world.reads == 2


@pytest.mark.parametrize("body", ["bad", "k" * 1_000_001])
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error", "302 Found"])
async def test_a_failure_keeps_the_last_good_set(world: World, body: str, status: str) -> None:
    """An answer that cannot be used changes nothing; it is counted, and told in the log without a part of it."""
    await world.keys()
    world.answers(body, status)
    with capture_logs() as lines:
        assert await world.keys("k2") == "k1"
    assert [line["event"] for line in lines] == ["jwks not read"]
    assert "kkk" not in str(lines)
    assert world.counts.of("newsite").part(BackendCounts).jwks_reads == {"read": 1, "failed": 1}
    world.now += UNKNOWN_SECONDS + REFRESH_SECONDS
    world.answers("k2")
    assert await world.keys("k2") == "k2"


async def test_pauses_grow(world: World) -> None:
    """While there is no set, each failure doubles the pause, within which nobody is asked."""
    world.answers("", "500 Internal Server Error")
    pause = FIRST_PAUSE_SECONDS
    for expected in range(1, 10):
        assert [await world.keys() for _ in range(5)] == [None] * 5
        assert world.reads == expected
        world.now += pause - 0.01
        assert await world.keys() is None
        assert world.reads == expected
        world.now += 0.02
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    world.answers("k1")
    assert await world.keys() == "k1"


async def test_a_backend_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has a deadline for all of it, and the last good set serves meanwhile."""
    await world.keys()
    monkeypatch.setattr(world.cache._pools, "timeout_seconds", 0.05)
    world.backend.gate = asyncio.Event()
    assert await world.keys("k2") == "k1"
    world.now += REFRESH_SECONDS
    assert await world.keys() == "k1"
    await world.has_ended()
    assert world.counts.of("newsite").part(BackendCounts).jwks_reads["failed"] == 2


async def test_sites_are_apart(world: World, make_site: MakeSite) -> None:
    """Each site has its own set, also of one URL, and a site that is changed or removed keeps none that it has not."""
    url, other = f"{world.backend.url}/jwks", make_site("other")
    for site in (world.site, other):
        assert await world.cache.keys(site, url, lambda keys: True) == "k1"
    assert world.reads == 2
    world.cache.forget("newsite", frozenset([url]))
    assert await world.keys() == "k1"
    assert world.reads == 2
    world.cache.forget("newsite", frozenset(["http://127.0.0.1/another"]))
    world.cache.forget("other")
    assert world.cache._entries == {}
