"""The process that writes the journal: its work, and its keeper beside a server, which starts it and starts it again.

It is a process of its own, so that its work never takes the time of a node's event loop. Its end does not end the
server.
"""

import asyncio
import contextlib
import pickle
import signal
import sys
from urllib.parse import quote

import structlog
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import NO_DATABASE, Config
from app.errors import ConfigError, StoreUnavailable
from app.journal.database import JournalUnavailable, open_database
from app.journal.prune import prune
from app.journal.schema import upgrade_schema
from app.journal.streams import Streams
from app.journal.writer import JournalWriter
from app.node.location import running_redis
from app.node.own_program import own_program
from app.node.signals import ignore_hangup, obeyed_signals
from app.observe.log import configure_logging
from app.redis.address import Address, Location
from app.redis.client import Commands
from app.redis.embedded import end_with_parent
from app.redis.topology import new_redis
from app.watched_tasks import WatchedTasks, start_watched

#: The pauses between two starts of a writer that ends; after this time of work they begin again.
_RESTART_SECONDS = (0.2, 1.0, 3.0, 10.0)
_SETTLED_SECONDS = 30.0
#: The time for the last batch, and then for the end of the process.
_LAST_SECONDS = 5.0
_END_SECONDS = 3.0
_RETRY_SECONDS = 1.0
_PRUNE_SECONDS = 600.0

_log = structlog.get_logger(__name__)


class JournalProcess:
    """The writer beside a server. Lives as long as the server: `start` begins, `stop` ends it after its last batch."""

    def __init__(self, config: Config, location: Location) -> None:
        """`location` is the Redis of the server, which may be its own."""
        self._config = writer_config(config, location)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Starts the process, unless there is no journal."""
        if self._config.journal_url is not None:
            self._keeper = start_watched(self._keep_running(), "journal writer", may_return=True)

    async def stop(self) -> None:
        """Ends the process once it has written what the streams hold."""
        self._stop.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        _, running = await asyncio.wait([self._keeper], timeout=_LAST_SECONDS + _END_SECONDS)
        if running:
            self._signal(signal.SIGKILL)
            await asyncio.wait(running)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        ends = 0
        while not self._stop.is_set():
            began = loop.time()
            status = await self._run_once()
            if self._stop.is_set():
                return
            ends = 0 if loop.time() - began > _SETTLED_SECONDS else ends
            pause = _RESTART_SECONDS[min(ends, len(_RESTART_SECONDS) - 1)]
            ends += 1
            _log.error("journal writer ended", status=status, restart_seconds=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _run_once(self) -> int | None:
        """Runs the process to its end, and returns its status; None: it could not be started."""
        try:
            self._process = await self._spawn()
        except OSError as error:
            # E.g. no memory for another process at this moment: no reason to end the server.
            _log.error("journal writer not started", reason=str(error))
            return None
        if self._stop.is_set():
            self._signal(signal.SIGTERM)
        return await self._process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *own_program("journal-writer"),
            stdin=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal reaches the server alone, which ends the writer last.
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
        assert process.stdin is not None, "asked for above"
        # The URLs have passwords, and others may read a command line or an environment.
        with contextlib.suppress(ConnectionError):
            process.stdin.write(pickle.dumps(self._config))
            await process.stdin.drain()
        process.stdin.close()
        return process


def writer_config(config: Config, location: Location) -> Config:
    """The settings of a writer beside a server: the URLs of the server's own Redis and of the file beside it, and no
    sites, whose names it finds in Redis."""
    redis_url = config.redis_url
    if redis_url is None:
        assert isinstance(location, Address), "the embedded server has a socket"
        redis_url = f"unix://{quote(str(location.path))}"
    return structs.replace(config, redis_url=redis_url, database_url=config.journal_url or NO_DATABASE, sites={})


def work_for_server() -> None:
    """Writes for the server that has started this process, and wrote the settings to stdin. Ends at SIGTERM."""
    config: Config = pickle.load(sys.stdin.buffer)
    ignore_hangup()
    configure_logging(config.log_level, config.log_format)
    asyncio.run(write_journal(config))


async def write_journal(config: Config) -> None:
    """Writes the journal until SIGTERM or SIGINT. Waits for Redis and for SQL. Raises RecadoError for settings that
    cannot work, and when a task has ended unasked."""
    if config.journal_url is None:
        raise ConfigError("database_url: is missing, expected postgresql:// or sqlite:///path")
    engine = open_database(config.journal_url, is_writer=True)
    redis = new_redis(running_redis(config), config.redis_timeout_seconds)
    tasks = WatchedTasks()
    stopped = asyncio.Event()
    try:
        with obeyed_signals(lambda _: stopped.set(), lambda: None), tasks.current():
            if await _reach(redis, engine, stopped):
                writer = JournalWriter(redis, engine, Streams(redis, config.sites))
                await _run(writer, engine, config, stopped, tasks)
    finally:
        await redis.close()
        await engine.dispose()
    tasks.check()


async def _run(
    writer: JournalWriter, engine: AsyncEngine, config: Config, stopped: asyncio.Event, tasks: WatchedTasks
) -> None:
    tasks.on_end = lambda _: stopped.set()
    pruner = start_watched(_keep_pruning(writer, engine, config), "journal prune")
    work = start_watched(writer.run(_LAST_SECONDS), "journal", may_return=True)
    try:
        await stopped.wait()
        writer.stop()
        await asyncio.wait([work])
    finally:
        pruner.cancel()
        await asyncio.gather(pruner, return_exceptions=True)


async def _reach(redis: Commands, engine: AsyncEngine, stopped: asyncio.Event) -> bool:
    """Connects to Redis and brings the tables to the newest version, with retry. False: stopped before."""
    told = ""
    is_connected = False
    while not stopped.is_set():
        try:
            if not is_connected:
                await redis.start()
                is_connected = True
            before, after = await upgrade_schema(engine)
        except (StoreUnavailable, JournalUnavailable) as error:
            if told != str(error):
                told = str(error)
                _log.error("journal not begun", reason=told)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), _RETRY_SECONDS)
        else:
            _log.info("journal begun", database=engine.dialect.name, tables=after, tables_before=before)
            return True
    return False


async def _keep_pruning(writer: JournalWriter, engine: AsyncEngine, config: Config) -> None:
    while True:
        await asyncio.sleep(_PRUNE_SECONDS)
        if not writer.is_in_charge:
            continue
        try:
            if deleted := await prune(engine, config.journal):
                _log.info("journal pruned", **deleted)
        except JournalUnavailable as error:
            _log.error("journal not pruned", reason=str(error))
