"""A reader between a real PostgreSQL and a server that answers as each test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog
from aiohttp import web

from app.backends.sender import RunningServer
from app.outbox import reader as reader_module
from app.outbox.failures import OutboxUnusable
from app.outbox.http_door import SendDoor
from app.outbox.pauses import Pauses
from app.outbox.reader import OutboxReader, ReaderOptions
from tests.outbox.conftest import Connect
from tests.support.outbox import send
from tests.support.waiting import until, until_answer

KEYS = {"shop": "k1", "news": "k2"}
SOON_SECONDS = 30.0
Respond = Callable[[str, str, Any], web.Response]


def failed(status: int, code: str = "") -> web.Response:
    """A refusal as the server writes it."""
    return web.json_response({"ok": False, "error": "a reason", "code": code}, status=status)


class Taker:
    """A server for messages. Lives for one test."""

    def __init__(self) -> None:
        #: Site, room and first argument of the messages that were answered 200; and of all requests.
        self.taken: list[tuple[str, str, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.respond: Respond = lambda *_: web.Response(text="OK")
        self.at_once = self.most_at_once = 0
        #: Answers wait for it.
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request."""
        body = json.loads(await request.read())
        message = (request.query["site"], body["rooms"][0], body["args"][0])
        self.asked.append(message)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        response = self.respond(*message)
        if response.status == 200:
            self.taken.append(message)
        return response


class Running:
    """Readers and their server. Lives for one test."""

    def __init__(self, dsn: str, url: str, taker: Taker, stack: AsyncExitStack) -> None:
        self.taker = taker
        self._dsn, self._url, self._stack = dsn, url, stack

    def read(self, in_flight: int = 4, keep_seconds: float = 3600) -> tuple[OutboxReader, asyncio.Task[None]]:
        """Start a reader."""
        options = ReaderOptions(self._dsn, "public", list(KEYS), in_flight, keep_seconds)
        door = SendDoor(RunningServer(self._url), KEYS)
        reader = OutboxReader(options, door)
        task = asyncio.create_task(reader.run())

        async def end() -> None:
            reader.end()
            self.taker.gate.set()
            await asyncio.gather(task, return_exceptions=True)
            door.close()

        self._stack.push_async_callback(end)
        return reader, task


@pytest.fixture
async def running(dsn: str) -> AsyncIterator[Running]:
    """Starts readers of the module's outbox."""
    taker, application = Taker(), web.Application()
    application.router.add_post("/send", taker.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with AsyncExitStack() as stack:
        yield Running(dsn, f"http://127.0.0.1:{runner.addresses[0][1]}", taker, stack)
    await runner.cleanup()


async def until_taken(running: Running, count: int) -> list[tuple[str, str, Any]]:
    """The messages that the server has taken, when there are as many."""
    taken = running.taker.taken
    await until(lambda: len(taken) >= count, f"{count} messages", SOON_SECONDS)
    return taken


async def test_messages_are_sent(tenant: Connect, running: Running) -> None:
    """Earlier messages and later ones arrive once; those of a room in their order, with several readers."""
    connection = await tenant()
    for number in range(20):
        await send(connection, ["a" if number % 2 else f"r{number}"], number)
    running.read()
    running.read()
    await until_taken(running, 20)
    for number in range(20, 40):
        await send(connection, ["a" if number % 2 else f"r{number}"], number)
    taken = await until_taken(running, 40)
    assert [number for _, room, number in taken if room == "a"] == list(range(1, 40, 2))
    assert sorted(number for _, _, number in taken) == list(range(40))


async def test_a_commit_wakes_the_reader(tenant: Connect, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sleeps needs no poll: a commit wakes it, one after the other."""
    monkeypatch.setattr(reader_module, "_POLL_SECONDS", 3600.0)
    connection = await tenant()
    running.read()
    sleeps = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
    for number in range(3):
        await until_answer(lambda: connection.fetchval(sleeps), "the reader to sleep", timeout_seconds=SOON_SECONDS)
        await send(connection, ["a"], number)
        await until_taken(running, number + 1)


async def test_requests_are_bounded(tenant: Connect, running: Running) -> None:
    """No more requests than allowed are under way, and as many as that."""
    connection = await tenant()
    for number in range(12):
        await send(connection, [f"r{number}"], number)
    running.taker.gate.clear()
    running.read(in_flight=3)
    await until(lambda: running.taker.at_once == 3, "three requests", SOON_SECONDS)
    running.taker.gate.set()
    await until_taken(running, 12)
    assert running.taker.most_at_once == 3


async def test_a_server_that_is_away_is_waited_for(tenant: Connect, running: Running) -> None:
    """503 holds everything: nothing is sent out of turn, nothing is lost, and the log tells begin and end once."""
    connection = await tenant()
    refusals = iter([failed(503) for _ in range(3)])
    running.taker.respond = lambda *_: next(refusals, web.Response(text="OK"))
    with structlog.testing.capture_logs() as logs:
        for number in range(4):
            await send(connection, ["a"], number)
        running.read(in_flight=1)
        taken = await until_taken(running, 4)
        await until(lambda: any(line["event"] == "outbox goes on" for line in logs), "the line", SOON_SECONDS)
    assert [number for _, _, number in taken] == [0, 1, 2, 3]
    assert [number for _, _, number in running.taker.asked] == [0, 0, 0, 0, 1, 2, 3]
    told = [(line["event"], line.get("reason")) for line in logs if line["event"] in ("outbox waits", "outbox goes on")]
    assert told == [("outbox waits", "503: a reason"), ("outbox goes on", None)]


async def test_a_site_with_a_limit_holds_itself_alone(tenant: Connect, running: Running) -> None:
    """429 or a wrong key holds the messages of that site; those of another one go on."""
    connection = await tenant()
    is_limited = True
    running.taker.respond = lambda site, *_: failed(429) if site == "shop" and is_limited else web.Response(text="OK")
    await send(connection, ["a"], 0)
    running.read(in_flight=1)
    await until(lambda: running.taker.asked, "the refusal", SOON_SECONDS)
    for number in range(5):
        await send(connection, ["a"], number, site="news")
    assert await until_taken(running, 5) == [("news", "a", number) for number in range(5)]
    is_limited = False
    assert (await until_taken(running, 6))[5] == ("shop", "a", 0)


async def test_a_refused_message_is_parked(tenant: Connect, running: Running) -> None:
    """400 sets one message aside, with its reason, and the next one of its room is sent."""
    connection = await tenant()
    running.taker.respond = lambda _, __, number: failed(400) if number == 1 else web.Response(text="OK")
    with structlog.testing.capture_logs() as logs:
        numbers = [await send(connection, ["a"], number) for number in range(3)]
        running.read()
        assert [number for _, _, number in await until_taken(running, 2)] == [0, 2]
        await until(lambda: any(line["event"] == "outbox message parked" for line in logs), "the line", SOON_SECONDS)
    (line,) = [line for line in logs if line["event"] == "outbox message parked"]
    assert (line["site"], line["id"], line["reason"]) == ("shop", numbers[1], "400: a reason")
    parked = await connection.fetch("SELECT id, reason FROM recado_outbox_place WHERE state = 2")
    assert [tuple(row) for row in parked] == [(numbers[1], "400: a reason")]


async def test_a_message_without_its_row_is_parked(tenant: Connect, running: Running) -> None:
    """A message whose row was deleted by hand is set aside, and the next one of its room is sent."""
    connection = await tenant()
    gone, _ = await send(connection, ["a"], 0), await send(connection, ["a"], 1)
    await connection.execute("DELETE FROM recado_outbox WHERE id = $1", gone)
    running.read()
    assert await until_taken(running, 1) == [("shop", "a", 1)]
    parked = "SELECT reason FROM recado_outbox_place WHERE state = 2"
    reason = await until_answer(lambda: connection.fetchval(parked), "the parked one", timeout_seconds=SOON_SECONDS)
    assert reason == "its row in recado_outbox is missing"


async def test_the_end_of_a_reader(tenant: Connect, running: Running) -> None:
    """A reader that is asked to end waits for the requests under way, stores their answers, and sends no more."""
    connection = await tenant()
    for number in range(10):
        await send(connection, [f"r{number}"], number)
    running.taker.gate.clear()
    reader, task = running.read(in_flight=2)
    await until(lambda: running.taker.at_once == 2, "two requests", SOON_SECONDS)
    reader.end()
    assert not task.done()
    running.taker.gate.set()
    await asyncio.wait_for(task, SOON_SECONDS)
    assert len(running.taker.taken) == 2
    assert await connection.fetchval("SELECT count(*) FROM recado_outbox_place WHERE state = 0") == 8


async def test_a_lost_database_is_waited_for(tenant: Connect, running: Running) -> None:
    """A reader whose connection ends with messages in hand connects again and sends them again, under the same keys."""
    connection = await tenant()
    await send(connection, ["a"], 0)
    running.taker.gate.clear()
    running.read()
    await until(lambda: running.taker.at_once == 1, "the request", SOON_SECONDS)
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'recado outbox'"
    assert await connection.fetchval(f"{ended} AND datname = current_database()") == 1
    running.taker.gate.set()
    assert await until_taken(running, 2) == [("shop", "a", 0)] * 2
    sent = "SELECT count(*) FROM recado_outbox_place WHERE state = 1"
    await until_answer(lambda: connection.fetchval(sent), "the result", timeout_seconds=SOON_SECONDS)


async def test_sent_messages_are_pruned(tenant: Connect, running: Running) -> None:
    """Messages that were sent go after the time that they are kept."""
    connection = await tenant()
    await send(connection, ["a"], 0)
    running.read(keep_seconds=0)
    is_empty = "SELECT NOT EXISTS (SELECT FROM recado_outbox UNION ALL SELECT FROM recado_outbox_place)"
    await until_answer(lambda: connection.fetchval(is_empty), "the tables to be empty", timeout_seconds=SOON_SECONDS)
    assert len(running.taker.taken) == 1


async def test_a_line_tells_what_was_done(tenant: Connect, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line tells what was sent, what waits and since when; another one names sites that nobody serves."""
    monkeypatch.setattr(reader_module, "_TELL_SECONDS", 0.0)
    connection = await tenant()
    await send(connection, ["a"], 0)
    await send(connection, ["a"], 1, site="elsewhere")
    with structlog.testing.capture_logs() as logs:
        running.read()
        await until(lambda: any(line.get("sent") for line in logs), "the line", SOON_SECONDS)
        await until(lambda: any("other sites" in line["event"] for line in logs), "the other line", SOON_SECONDS)
    line = next(line for line in logs if line.get("sent"))
    assert (line["sent"], line["parked"], line["replayed"], line["waiting"]) == (1, 0, 0, 1)
    assert next(line for line in logs if "other sites" in line["event"])["sites"] == ["elsewhere"]


async def test_a_reader_without_an_outbox_ends(tenant: Connect, running: Running) -> None:
    """An outbox of another version ends the reader."""
    connection = await tenant()
    await connection.execute("UPDATE recado_outbox_version SET version = 2")
    try:
        _, task = running.read()
        with pytest.raises(OutboxUnusable, match="has version 2"):
            await asyncio.wait_for(task, SOON_SECONDS)
    finally:
        await connection.execute("UPDATE recado_outbox_version SET version = 1")


def test_the_options_hide_the_dsn() -> None:
    """The text of the options has no DSN."""
    assert "hidden" not in repr(ReaderOptions("postgresql://u:hidden@h/d", "public", ["shop"], 1, 0))
    assert Pauses().seconds_left(0) is None
