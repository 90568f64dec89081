"""Redis as `store` sees it: scripts and commands on one link, which is watched and replaced when it breaks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Protocol

import structlog

from app.errors import StoreAway, StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.redis.address import Address
from app.redis.link import PASSING_ERRORS, Link, Word
from app.redis.patience import LOOK_SECONDS, Patience, ServerClock
from app.redis.scripts import Script, load_scripts, packed_scripts
from app.redis.server_check import ServerCheck, read_facts
from app.watched_tasks import start_watched

#: The time that a new link may take before its first command, in time-outs of a command.
_SETUP_TIMEOUTS = 3
_RECONNECT_SECONDS = (0.05, 0.1, 0.25, 0.5)
#: How often the place of a primary that can move is asked for while the link to it is fine.
_LOCATE_SECONDS = 1.0

#: Errors by which a server says that it is the wrong one to ask.
_ASTRAY = frozenset(("MOVED", "READONLY", "CLUSTERDOWN", "MASTERDOWN"))

_log = structlog.get_logger(__name__)

RunScript = Callable[..., Awaitable[Any]]


class Commands(Protocol):
    """The commands of one node to its Redis, whether that is one server or a Cluster: `Redis` and `RedisCluster`.

    Commands and scripts of one key take effect in the order of the calls. They fail with StoreUnavailable when they may
    not have happened, and at once while there is no link.
    """

    #: Called with Redis's run id and a way to run scripts when a new link stands, before any other caller can use it.
    #: In a Cluster the link leads to one of the primaries: there a script of a site that it does not hold answers 0.
    on_reconnect: Callable[[str, RunScript], Awaitable[None]] | None
    #: Called when `shards`, or the slots that they hold, have changed.
    on_shards_changed: Callable[[], None] | None
    timeout_seconds: float

    async def start(self) -> None:
        """Connects. Raises StoreUnavailable when Redis is away, StoreError when it refuses us."""

    async def close(self) -> None:
        """Ends the links; commands without an answer fail."""

    @property
    def is_available(self) -> bool:
        """Whether there is a link."""

    @property
    def is_sharded(self) -> bool:
        """Whether this is a Cluster."""

    @property
    def shards(self) -> "Sequence[Redis]":
        """The primaries."""

    def shard_of(self, key: str) -> "Redis | None":
        """The primary that holds a key; None while that is unknown."""

    def deadline_ms(self, key: str) -> int:
        """When the caller of a command given now will have stopped waiting, on the clock of the key's Redis."""

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Gives a command whose second word is its key."""

    def run(self, name: str, key: str, *arguments: Word) -> Awaitable[Any]:
        """Runs a script. The command is given now, not when the answer is awaited."""


class Locator(Protocol):
    """Finds a primary that can move. `Redis` closes it."""

    async def locate(self) -> Address:
        """The address of the primary now. Raises StoreUnavailable when no answer comes within the time-out."""

    def close(self) -> None:
        """Ends the search."""


class _PendingAnswer:
    """The future answer of a script. Lives until it is awaited.

    It is no coroutine: the caller may be cancelled before it awaits, and Python warns of a coroutine that is never
    awaited.
    """

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[Any]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()


class Redis:
    """The commands of one node to one primary. Lives as long as the node, in a Cluster as long as the server is a
    primary: `start` connects, `close` ends it.

    A command fails with StoreAway at once while there is no link. It fails with StoreUnavailable when none of the
    commands under way was answered for `timeout_seconds`; then the link is given up and made again.
    """

    def __init__(
        self,
        address: Address,
        timeout_seconds: float,
        counts: Counts | None = None,
        locator: Locator | None = None,
        is_sharded: bool = False,
        journal_backlog: int = 0,
    ) -> None:
        """`locator` finds the primary; without it the address never changes. `journal_backlog`: see `load_scripts`."""
        #: The address of the link, or of the last one.
        self.address = address
        self.timeout_seconds = timeout_seconds
        self.is_sharded = is_sharded
        self._locator = locator
        self.journal_backlog = journal_backlog
        self._scripts = load_scripts(is_sharded, journal_backlog)
        self._counts = counts or Counts()
        self.on_reconnect: Callable[[str, RunScript], Awaitable[None]] | None = None
        self.on_shards_changed: Callable[[], None] | None = None
        #: Called when the link is lost, and when an answer says that this is the wrong server to ask.
        self.on_astray: Callable[[], None] = lambda: None
        self._link: Link | None = None
        self._check = ServerCheck()
        self._clock = ServerClock()
        self._patience = Patience(lambda: self.timeout_seconds)
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._broken = asyncio.Event()

    async def start(self) -> None:
        """Connects. Raises StoreUnavailable when Redis is away, StoreError when it refuses us."""
        await self._connect()
        self.begin()

    def begin(self) -> None:
        """Connects in the background, with retry."""
        if self._link is None:
            self._broken.set()
        work = [(self._keep_connected(), "redis reconnect"), (self._watch(), "redis watch")]
        if self._locator is not None:
            work.append((self._follow(self._locator), "redis follow"))
        self._tasks = [start_watched(coroutine, name) for coroutine, name in work]

    async def close(self) -> None:
        """Ends the link; commands without an answer fail."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.give_up()
        if self._locator is not None:
            self._locator.close()

    @property
    def is_available(self) -> bool:
        """Whether there is a link."""
        return self._link is not None and self._link.is_open

    @property
    def shards(self) -> "Sequence[Redis]":
        """This primary."""
        return (self,)

    def shard_of(self, key: str) -> "Redis | None":
        """This primary, whatever the key."""
        return self

    def give_up(self) -> None:
        """Ends the link, so that a new one is made; commands without an answer fail."""
        if self._link is not None:
            self._link.abort()

    def refused(self, code: str) -> None:
        """Notes that an answer of this server was an error."""
        self._counts.redis_errors[code if code in PASSING_ERRORS or code == "NOSCRIPT" else "other"] += 1
        if code in _ASTRAY:
            self.on_astray()
        if code == "READONLY":
            # The server is a replica now. The next link to the same address may lead to the primary.
            self.give_up()

    def deadline_ms(self, key: str) -> int:
        """The time, on Redis's clock, when the caller of a command given now will have stopped waiting."""
        now, link = asyncio.get_running_loop().time(), self._link
        ends_at = self._patience.ends_at(now, link.answered if link else 0, link is not None and link.is_waiting)
        return self._clock.ms_at(ends_at)

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Gives a command; see `Link.command`."""
        if self._link is None:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(StoreAway())
            future.exception()  # so that asyncio does not complain when nobody awaits it
            return future
        return self._link.command(*words)

    def run(self, name: str, key: str, *arguments: Word) -> Awaitable[Any]:
        """Runs a script. The command is given now, not when the answer is awaited."""
        script = self._scripts[name]
        answer = self.command("EVALSHA", script.digest, 1, key, *arguments)
        return _PendingAnswer(partial(self._answer_of, answer, monotonic(), script))

    async def _answer_of(self, answer: "asyncio.Future[Any]", given_at: float, script: Script) -> Any:
        try:
            return await answer
        except StoreError as error:
            if "(LATE)" in str(error) and self._link is not None:
                # The clocks may have drifted apart (the machine slept): correct the next deadlines.
                self._clock.begin()
                self._compare_clocks(self._link)
            raise
        finally:
            self._counts.redis_answered(script.name, monotonic() - given_at)

    async def _connect(self) -> None:
        address = await self._locator.locate() if self._locator else self.address
        link = await Link.open(address, self.timeout_seconds, on_lost=self._link_lost)
        link.on_refusal = self.refused
        link.reload = packed_scripts(self.is_sharded, self.journal_backlog)
        try:
            # Several round trips and the text of all scripts: this takes longer than one command may.
            async with asyncio.timeout(_SETUP_TIMEOUTS * self.timeout_seconds) as limit:
                run_id = await self._check_server(link, address)
                answers = [link.command("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]
                # Behind the scripts: Redis takes long to load them.
                await asyncio.gather(*answers)
                self._clock.begin()
                await self._compare_clocks(link)
                tried = link.command("EVALSHA", self._scripts["rights"].digest, 0)
                await self._check.try_commands(tried, str(address))
                if self.on_reconnect is not None:
                    await self.on_reconnect(run_id, partial(self._run_in_setup, link, limit))
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable(f"Redis at {address} does not answer") from error
        except BaseException:  # Redis refused, or the caller was cancelled
            link.abort()
            raise
        if not link.is_open:
            # The link broke after the last answer, before the watch knew it.
            raise StoreUnavailable(f"Redis at {address} has closed the connection")
        self.address = address
        # Without this the silence of the last link would count, and new deadlines would lie in the past.
        self._patience.begin(asyncio.get_running_loop().time(), link.answered)
        self._link = link

    async def _check_server(self, link: Link, address: Address) -> str:
        """The run id of the server's process, which differs for a replica that takes over. Raises StoreError for a
        server of the wrong mode, StoreUnavailable for a replica."""
        facts = await read_facts(link.command)
        if facts.mode != ("cluster" if self.is_sharded else "standalone"):
            raise StoreError(f"Redis at {address} runs in {facts.mode} mode: expected another form of redis.url")
        if facts.role == "slave":
            raise StoreUnavailable(f"Redis at {address} is a replica")
        self._check.look_at(facts, str(address))
        return facts.run_id

    def _run_in_setup(
        self, link: Link, limit: asyncio.Timeout, name: str, key: str, *words: Word
    ) -> "asyncio.Future[Any]":
        """Runs a script on a new link. Each has the whole time: how many there are depends on sites and devices."""
        limit.reschedule(asyncio.get_running_loop().time() + _SETUP_TIMEOUTS * self.timeout_seconds)
        return self._run_on(link, name, key, *words)

    def _run_on(self, link: Link, name: str, key: str, *arguments: Word) -> "asyncio.Future[Any]":
        return link.command("EVALSHA", self._scripts[name].digest, 1, key, *arguments)

    def _compare_clocks(self, link: Link) -> "asyncio.Future[Any]":
        asked = link.command("TIME")
        asked.add_done_callback(partial(self._note_time, asyncio.get_running_loop().time()))
        return asked

    def _note_time(self, asked_at: float, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled() and answer.exception() is None:
            seconds, microseconds = answer.result()
            server_ms = int(seconds) * 1000 + int(microseconds) / 1000
            self._clock.note(server_ms, asked_at, asyncio.get_running_loop().time())

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()
            if not self._closing:
                self._counts.redis_losses += 1
                _log.error("redis lost", address=str(self.address))
                self.on_astray()

    async def _follow(self, locator: Locator) -> None:
        """Leaves a server that still answers but is no longer the primary: its new writes would be lost."""
        while True:
            await asyncio.sleep(_LOCATE_SECONDS)
            with contextlib.suppress(StoreError):
                if await locator.locate() != self.address and self._link is not None:
                    _log.warning("redis has moved", address=str(self.address))
                    self._link.abort()

    async def _keep_connected(self) -> None:
        while True:
            await self._broken.wait()
            self._broken.clear()
            await retry(self._connect)
            _log.warning("redis is back", address=str(self.address))

    async def _watch(self) -> None:
        """Gives up a link without progress (Redis stopped, the network cut). One timer serves all commands."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            link = self._link
            if link is None:
                continue
            if self._patience.is_over(asyncio.get_running_loop().time(), link.answered, link.is_waiting):
                _log.error("redis does not answer", address=str(self.address), seconds=self.timeout_seconds)
                link.abort()
            elif self._clock.is_doubtful and not link.is_waiting:
                self._compare_clocks(link)


async def retry(connect: Callable[[], Awaitable[None]], on_failure: Callable[[StoreError], None] | None = None) -> None:
    """Connects; after each failure it tries again, with growing pauses. `on_failure` is told the first error."""
    attempt = 0
    while True:
        try:
            await connect()
        except StoreError as error:
            if on_failure is not None and not attempt:
                on_failure(error)
            await asyncio.sleep(_RECONNECT_SECONDS[min(attempt, len(_RECONNECT_SECONDS) - 1)])
            attempt += 1
        else:
            return
