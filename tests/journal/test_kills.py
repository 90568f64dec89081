"""Kills of the writer, of PostgreSQL and of Redis: the journal holds what was accepted, and nothing twice."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from app.journal.streams import Streams
from app.journal.writer import JournalWriter
from app.redis.client import Redis
from tests.support.fate_model import FateModel
from tests.support.fates import SITE, FateStream, new_writer, write_all
from tests.support.postgres import running_postgres
from tests.support.processes import ChildProcess, kill
from tests.support.server import clean_environment
from tests.support.store import linked, running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Killed(Exception):
    """Stands for SIGKILL: no code of the writer handles it."""


class Killer:
    """Ends a writer at its n-th step: a command to Redis, a statement, a commit. Lives as long as the test."""

    def __init__(self, engine: AsyncEngine, redis: Redis) -> None:
        """Count the steps of every writer on these two."""
        #: Steps until the kill; None: never.
        self.left: int | None = None
        self.steps = 0
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: self.step())
        event.listen(engine.sync_engine, "commit", lambda *_: self.step())
        command, run = redis.command, redis.run

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*words: Any) -> Any:
                self.step()
                return call(*words)

            return counting

        redis.command = counted(command)  # type: ignore[method-assign]
        redis.run = counted(run)  # type: ignore[method-assign]

    def step(self) -> None:
        """One step of the writer."""
        self.steps += 1
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left = None
                raise Killed


async def test_a_kill_between_any_two_steps(
    redis: Redis, engine: AsyncEngine, stream: FateStream, valkey: Valkey, chance: random.Random
) -> None:
    """A writer that ends at any step leaves a journal that the next one completes: none is missing or double."""
    model = FateModel(stream, chance)
    killer = Killer(engine, redis)
    kills = 0
    while True:
        for _ in range(chance.randint(3, 12)):
            model.step()
        killer.left = kills + 1
        writer = new_writer(redis, engine)
        try:
            await write_all(writer)
        except Killed:
            kills += 1
            valkey.client.delete("recado:journal:lease")
            continue
        if kills > 15:
            break
        kills += 1
    killer.left = None
    await write_all(new_writer(redis, engine))
    await model.check(engine)
    assert stream.length == 0


async def test_two_writers_at_once(
    redis: Redis, engine: AsyncEngine, stream: FateStream, chance: random.Random
) -> None:
    """A writer whose lease another one has taken meanwhile writes nothing more, and nothing twice."""
    model = FateModel(stream, chance)

    class Greedy(JournalWriter):
        """A writer that believes itself alone."""

        async def _hold_lease(self) -> bool:
            return True

    writers = [Greedy(redis, engine, Streams(redis, [SITE])) for _ in range(2)]
    for number in range(30):
        for _ in range(5):
            model.step()
        # Each has read what the other one writes.
        await writers[number % 2]._step()
        for one in writers:
            for place in one._streams:
                place.due_at = 0.0
    await write_all(new_writer(redis, engine))
    await model.check(engine)


async def test_kills_of_all_processes(
    tmp_path: Path, chance: random.Random, is_long: bool, tell: Callable[[str], None]
) -> None:
    """A writer's process, PostgreSQL and Redis are killed again and again: the journal is what the model says."""
    with running_valkey(is_durable=True) as valkey, running_postgres() as postgres:
        url = postgres.new_database()
        stream = FateStream(valkey)
        model = FateModel(stream, chance)
        environment = clean_environment(REDIS_URL=valkey.url, DATABASE_URL=url)
        valkey.client.zadd("recado:nodes", {"somewhere": 1})
        valkey.client.sadd("recado:sites:somewhere", SITE)
        command = [sys.executable, "-m", "app", "journal"]
        writer = ChildProcess("journal", command, tmp_path, environment)
        kills = 0
        try:
            for round in range(24 if is_long else 6):
                for _ in range(150):
                    model.step()
                await until(lambda: stream.length < 100, "the writer", 60)
                for _ in range(100):
                    model.step()
                if round % 3 == 0:
                    kill(writer.pid)
                    writer.end()
                    writer = ChildProcess("journal", command, tmp_path, environment)
                elif round % 3 == 1:
                    postgres.kill()
                    for _ in range(50):
                        model.step()
                    postgres.start()
                else:
                    valkey.kill()
                    valkey.start()
                kills += 1
            await until(lambda: stream.length == 0, "the last entries", 60)
        finally:
            writer.end()
        engine = open_database(url, is_writer=True)
        try:
            await model.check(engine)
        finally:
            await engine.dispose()
        tell(f"{kills} kills, {len(model.deliveries)} deliveries of {len(model.seqs)} messages")


async def test_redis_loses_its_newest_entries(tmp_path: Path, chance: random.Random) -> None:
    """A Redis that comes back with a stream from before, and with an earlier clock, has its new entries read."""
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    engine = open_database(url, is_writer=True)
    await upgrade_schema(engine)
    with running_valkey() as valkey:
        stream = FateStream(valkey)
        model = FateModel(stream, chance)
        async with linked(valkey) as redis:
            for _ in range(30):
                model.step()
            await write_all(new_writer(redis, engine))
            # The position is ahead of every entry of the new stream.
            client: Any = valkey.client
            client.delete(stream.key)
            stream.id = "5-*"
            for act in (model._send, model._ack, model._send, model._fate, model._ack, model._rows):
                act()
            await write_all(new_writer(redis, engine))
            assert stream.length == 0
            await model.check(engine)
    await engine.dispose()
