"""Redis as the rest of `store` sees it: scripts and commands on one link, watched, and made anew when it breaks."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.resources import files
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct

from app.errors import StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.store.link import Address, Link, Word

_WATCH_SECONDS = 0.2
_RECONNECT_SECONDS = (0.05, 0.1, 0.25, 0.5)
_OF_NO_SITE = ("beat", "lease")

_log = structlog.get_logger(__name__)


RunScript = Callable[..., Awaitable[Any]]


class Script(Struct, frozen=True):
    """A Lua script: its name, its text, and the digest by which Redis knows it."""

    name: str
    text: str
    digest: str


@cache
def load_scripts() -> dict[str, Script]:
    """The scripts in `lua/` by name; those of a site have `_shared.lua` in front."""
    folder = files("app.store") / "lua"
    shared = (folder / "_shared.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".lua")
        if not name.startswith("_"):
            text = file.read_text() if name in _OF_NO_SITE else shared + file.read_text()
            scripts[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


class Redis:
    """The commands of one node to one Redis. Lives as long as the node: `start` connects, `close` ends it.

    A command fails with StoreUnavailable at once while there is no link, and when none of the commands under way was
    answered for `timeout_seconds`; then the link is given up and made anew.
    """

    def __init__(self, address: Address, timeout_seconds: float, counts: Counts | None = None) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds
        self._scripts = load_scripts()
        self._counts = counts or Counts()
        #: Called with Redis's run id and a way to run scripts when a link is made anew, before anybody else gets it.
        self.on_reconnect: Callable[[str, RunScript], Awaitable[None]] | None = None
        self._link: Link | None = None
        self._clock_offset_ms = 0.0
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._broken = asyncio.Event()

    async def start(self) -> None:
        """Connects. Raises StoreUnavailable when Redis is away, StoreError when it refuses us."""
        await self._connect()
        self._tasks = [
            asyncio.create_task(self._keep_connected(), name="redis reconnect"),
            asyncio.create_task(self._watch(), name="redis watch"),
        ]

    async def close(self) -> None:
        """Ends the link; commands without an answer fail."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    @property
    def is_available(self) -> bool:
        """Whether there is a link."""
        return self._link is not None and self._link.is_open

    def deadline_ms(self) -> int:
        """When the caller of a command given now will have stopped waiting, on Redis's clock."""
        return int(asyncio.get_running_loop().time() * 1000 + self._clock_offset_ms + self.timeout_seconds * 1000)

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Gives a command; see `Link.command`."""
        if self._link is None:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(StoreUnavailable())
            future.exception()  # asyncio shall not complain if nobody waits for it
            return future
        return self._link.command(*words)

    def run(self, name: str, key: str, *arguments: Word) -> Awaitable[Any]:
        """Runs a script. The command is given now, not when the answer is awaited."""
        script = self._scripts[name]
        answer = self.command("EVALSHA", script.digest, 1, key, *arguments)
        return self._answer_of(answer, monotonic(), script, key, arguments)

    async def _answer_of(
        self, answer: "asyncio.Future[Any]", given_at: float, script: Script, key: str, arguments: tuple[Word, ...]
    ) -> Any:
        try:
            return await answer
        except StoreError as error:
            if "(LATE)" in str(error) and self._link is not None:
                # Maybe its clock has jumped against ours (the machine slept): the next deadlines shall be right.
                self._compare_clocks(self._link)
            if not str(error).startswith("NOSCRIPT"):
                raise
        finally:
            self._counts.redis_answered(script.name, monotonic() - given_at)
        # Somebody has emptied Redis's script cache; EVAL fills it again.
        return await self.command("EVAL", script.text, 1, key, *arguments)

    async def _connect(self) -> None:
        link = await Link.open(self.address, self.timeout_seconds, on_lost=self._link_lost)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answers = [link.command("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]
                await self._compare_clocks(link)
                await asyncio.gather(*answers)
                if self.on_reconnect is not None:
                    await self.on_reconnect(
                        _run_id_of(await link.command("INFO", "server")), partial(self._run_on, link)
                    )
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable(f"Redis at {self.address} does not answer") from error
        except BaseException:  # refused, or given up by who waits for it
            link.abort()
            raise
        if not link.is_open:
            # It broke behind the last answer, before anybody watched it.
            raise StoreUnavailable(f"Redis at {self.address} has closed the connection")
        self._link = link

    def _run_on(self, link: Link, name: str, key: str, *arguments: Word) -> "asyncio.Future[Any]":
        return link.command("EVALSHA", self._scripts[name].digest, 1, key, *arguments)

    def _compare_clocks(self, link: Link) -> "asyncio.Future[Any]":
        asked = link.command("TIME")
        asked.add_done_callback(self._note_time)
        return asked

    def _note_time(self, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled() and answer.exception() is None:
            seconds, microseconds = answer.result()
            now_ms = asyncio.get_running_loop().time() * 1000
            self._clock_offset_ms = int(seconds) * 1000 + int(microseconds) / 1000 - now_ms

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()
            if not self._closing:
                self._counts.redis_losses += 1
                _log.error("redis lost", address=str(self.address))

    async def _keep_connected(self) -> None:
        while True:
            await self._broken.wait()
            self._broken.clear()
            await retry(self._connect)
            _log.warning("redis is back", address=str(self.address))

    async def _watch(self) -> None:
        """Gives up a link on which nothing moves (Redis stopped, the network cut): one timer, not one a command."""
        loop = asyncio.get_running_loop()
        moved_at, answered = loop.time(), -1
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            link = self._link
            if link is None or not link.is_waiting or link.answered != answered:
                moved_at, answered = loop.time(), link.answered if link else -1
            elif loop.time() - moved_at > self.timeout_seconds - _WATCH_SECONDS:
                _log.error("redis does not answer", address=str(self.address), seconds=self.timeout_seconds)
                link.abort()


def _run_id_of(info: bytes) -> str:
    """Redis's id of this run of this process, from its INFO; a replica that takes over has its own."""
    lines = (line.partition(b":") for line in info.splitlines())
    return next((value.decode() for name, _, value in lines if name == b"run_id"), "")


async def retry(connect: Callable[[], Awaitable[None]]) -> None:
    """Tries to connect until it works, with growing pauses."""
    attempt = 0
    while True:
        try:
            await connect()
        except StoreError:
            await asyncio.sleep(_RECONNECT_SECONDS[min(attempt, len(_RECONNECT_SECONDS) - 1)])
            attempt += 1
        else:
            return
