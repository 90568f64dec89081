"""`recado serve --workers N`: a supervisor that owns the port and the embedded Valkey, and N processes that serve.

Knows processes, not their work. A worker is `recado worker`: it reads its `Task` from stdin, writes one line to stdout
when it serves or when it cannot, and ends when the supervisor ends, for whatever reason.
"""

import asyncio
import contextlib
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from urllib.parse import quote

import structlog
from msgspec import Struct, structs

from app.canary.site import new_key, with_canary
from app.config.changes import Changes
from app.config.settings import NO_DATABASE, Config, url_on_loopback
from app.config.sources import Sources
from app.errors import ConfigError, RecadoError, StoreUnavailable
from app.node.journal_process import JournalProcess
from app.node.port import SharedPort
from app.node.reload import ConfigReader, Reload
from app.node.signals import ignore_hangup, obeyed_signals
from app.node.worker_slot import WorkerSlot, socket_directory
from app.observe.log import configure_logging
from app.redis.address import Location, read_redis_url
from app.redis.embedded import EmbeddedValkey, end_with_parent
from app.watched_tasks import WatchedTasks

#: The death of a worker that has served for this time does not count as a failed start.
_SETTLED_SECONDS = 10.0
_MAX_DEATHS_AT_START = 5
_FIRST_PAUSE_SECONDS = 0.1
#: The pause between starts of a worker that finds no Redis. A missing Redis is no reason to end the other workers.
_UNAVAILABLE_PAUSE_SECONDS = 1.0
#: The pause before a kill, after the time that a worker has for ending by itself.
_KILL_AFTER_SECONDS = 5.0

_LISTENING = b"listening"
#: Exit status of a worker that cannot serve -> the error that the supervisor raises with the worker's line.
_FAILURES: dict[int, type[RecadoError]] = {1: RecadoError, 2: ConfigError, 75: StoreUnavailable}

_log = structlog.get_logger(__name__)


#: Runs one process: its settings and where they come from, its socket, its slot, and the call once it serves.
Serve = Callable[[Config, Sources, socket.socket, WorkerSlot, Callable[[str], None]], None]


class Task(Struct, frozen=True):
    """The instructions of a worker. Lives as long as the worker."""

    config: Config
    sources: Sources
    slot: WorkerSlot
    #: An inherited socket on the port. It does not listen yet.
    bound_fd: int


class Restarts:
    """The time at which one worker is started again after its death. Lives as long as the supervisor."""

    def __init__(self) -> None:
        #: Deaths in a row, each soon after a start.
        self.deaths = 0

    def died(self, served_seconds: float) -> float | None:
        """Notes a death after this time of service. Returns the seconds before the next start; None to give up."""
        if served_seconds >= _SETTLED_SECONDS:
            self.deaths = 0
        self.deaths += 1
        return _FIRST_PAUSE_SECONDS * 2 ** (self.deaths - 1) if self.deaths < _MAX_DEATHS_AT_START else None


class Worker:
    """One process, from its start to its end; the supervisor ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._began_at: float | None = None
        #: The reason why it cannot serve, in the worker's own words.
        self._reason = ""

    @classmethod
    async def start(cls, task: Task, bound: socket.socket) -> "Worker":
        """Starts a process and sends it its task."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(bound.fileno(), *task.slot.fds),
            # Ctrl-C in a terminal reaches the supervisor alone, which forwards it.
            start_new_session=True,
            # SIGINT ends the worker at once: the supervisor's successor needs the port.
            preexec_fn=end_with_parent(signal.SIGINT),
        )
        assert process.stdin is not None, "asked for above"
        # The task has secrets, and others may read a command line or an environment: it goes through stdin.
        with contextlib.suppress(ConnectionError):
            process.stdin.write(pickle.dumps(task))
            await process.stdin.drain()
        process.stdin.close()
        return cls(process)

    async def serve(self, serves: asyncio.Event) -> int:
        """Waits for the process to end and returns its exit status. `serves` is set while the process serves."""
        assert self._process.stdout is not None, "asked for in `start`"
        async for line in self._process.stdout:
            if line.startswith(_LISTENING):
                self._began_at = asyncio.get_running_loop().time()
                serves.set()
            else:
                self._reason = line.decode(errors="replace").strip()
        status = await self._process.wait()
        serves.clear()
        return status

    @property
    def served_seconds(self) -> float:
        """The time since the process began to serve; 0 before that."""
        return asyncio.get_running_loop().time() - self._began_at if self._began_at is not None else 0.0

    def failure(self, status: int) -> RecadoError:
        """Returns the error that its exit status stands for, with a text of one line."""
        if self._reason and status in _FAILURES:
            return _FAILURES[status](self._reason)
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        return RecadoError(f"a worker ended with {cause} before it served, see what it logged")

    def signal(self, number: int) -> None:
        """Forwards a signal of the operator."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the process."""
        if self._process.returncode is None:
            self._process.kill()


class FurtherPorts(Struct, frozen=True):
    """The ports beside the one that all have. Lives as long as the command."""

    shared: Sequence[SharedPort] = ()
    #: The port that redirects to https.
    redirect: SharedPort | None = None

    def slot(self, directory: str, number: int, count: int, stack: contextlib.ExitStack) -> WorkerSlot:
        """The slot of a worker, with a socket on each port; they close with `stack`."""
        fds = tuple(stack.enter_context(port.open()).fileno() for port in self.shared)
        redirect_fd = None if self.redirect is None else stack.enter_context(self.redirect.open()).fileno()
        return WorkerSlot(directory, number, count, fds, redirect_fd)


class Supervisor:
    """Runs the workers until it is told to stop. Lives as long as the command."""

    def __init__(
        self, config: Config, sources: Sources, port: SharedPort, directory: str, further: "FurtherPorts"
    ) -> None:
        """The workers listen for each other in the folder `directory`; `further` are the ports beside `port`."""
        self._config = config
        # The URLs may be those of the supervisor's own Valkey and of the file beside it, which no file names.
        given = {**sources.given, "redis_url": config.redis_url, "database_url": config.database_url}
        self._sources = structs.replace(sources, given=given)
        # One key for all: the kernel gives a request on the port to any of the workers.
        self._canary_key = new_key()
        self._port = port
        self._further = further
        self._directory = directory
        self._workers: dict[int, Worker] = {}
        self._serves = [asyncio.Event() for _ in range(config.workers)]
        self._has_served = False
        self._stop = asyncio.Event()
        self._stop_signal: int = signal.SIGTERM

    async def run(self, running: Config, reader: ConfigReader) -> None:
        """Returns when all workers have ended after SIGTERM or SIGINT. Raises RecadoError when the workers cannot be
        kept running. `running` are the settings that the files held at the start, for reloads."""
        self._reload = Reload(running, reader, self._pass_on)
        with obeyed_signals(self._obey, self._reload.ask):
            stopped = asyncio.create_task(self._stop.wait())
            keepers = [asyncio.create_task(self._keep(number)) for number in range(self._config.workers)]
            announced = asyncio.create_task(self._announce())
            try:
                await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            finally:
                announced.cancel()
                self._reload.stop()
                self._stop.set()
                await self._end(keepers)
                await asyncio.gather(stopped, announced, return_exceptions=True)
            outcomes = await asyncio.gather(*keepers, return_exceptions=True)
            for failure in filter(None, outcomes):
                raise failure

    def _obey(self, number: int) -> None:
        if self._stop.is_set():
            # A second signal means: end without waiting.
            self._signal(number)
        self._stop_signal = number
        self._stop.set()

    async def _pass_on(self, changes: Changes) -> None:
        """Has every worker read the configuration. One that starts later begins with the sites of the files."""
        for name in changes.gone:
            self._config.sites.pop(name, None)
        self._config.sites.update({site.name: site for site in (*changes.changed, *changes.added)})
        await asyncio.gather(*(self._reload_worker(number) for number in range(len(self._serves))))

    async def _reload_worker(self, number: int) -> None:
        # A worker that does not serve yet would not hear the signal, and may have begun with the older sites.
        await self._serves[number].wait()
        self._workers[number].signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ends the workers as SIGTERM does."""
        self._stop.set()

    def _signal(self, number: int) -> None:
        for worker in self._workers.values():
            worker.signal(number)

    async def _announce(self) -> None:
        for serves in self._serves:
            await serves.wait()
        self._has_served = True
        ports = {"ports": [port.number for port in self._further.shared]} if self._further.shared else {}
        url = url_on_loopback(self._config, self._port.number)
        _log.info("listening", url=url, workers=self._config.workers, **ports)

    async def _keep(self, number: int) -> None:
        """Runs a worker, and restarts it when it dies, until the supervisor stops. Raises RecadoError to give up."""
        restarts = Restarts()
        while not self._stop.is_set():
            with self._port.open() as bound, contextlib.ExitStack() as stack:
                slot = self._further.slot(self._directory, number, self._config.workers, stack)
                worker = await Worker.start(Task(self._worker_config(), self._sources, slot, bound.fileno()), bound)
            self._workers[number] = worker
            if self._stop.is_set():
                worker.signal(self._stop_signal)
            status = await worker.serve(self._serves[number])
            if self._stop.is_set():
                return
            pause_seconds = self._pause_after(worker, status, restarts)
            _log.error("worker ended", worker=number, status=status, restart_seconds=pause_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_seconds)

    def _worker_config(self) -> Config:
        """The settings of a worker, with the hidden site of the canary."""
        sites = with_canary(self._config.sites, self._canary_key)
        return structs.replace(self._config, sites=sites) if self._config.canary else self._config

    def _pause_after(self, worker: Worker, status: int, restarts: Restarts) -> float:
        failure = worker.failure(status)
        if not self._has_served:
            raise failure
        if isinstance(failure, StoreUnavailable):
            return _UNAVAILABLE_PAUSE_SECONDS
        pause_seconds = restarts.died(worker.served_seconds)
        if pause_seconds is None:
            raise RecadoError(f"a worker died {restarts.deaths} times in a row soon after its start: {failure}")
        return pause_seconds

    async def _end(self, keepers: list["asyncio.Task[None]"]) -> None:
        self._signal(self._stop_signal)
        seconds = self._config.drain_timeout_seconds + self._config.shutdown_timeout_seconds + _KILL_AFTER_SECONDS
        _, running = await asyncio.wait(keepers, timeout=seconds)
        for worker in self._workers.values():
            worker.kill()
        if running:
            await asyncio.wait(running)


def supervise(config: Config, sources: Sources, reader: ConfigReader) -> None:
    """Runs the workers until SIGTERM or SIGINT. Raises ConfigError or RecadoError when they cannot be run."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(SharedPort(config.host, config.port))
        shared = [stack.enter_context(SharedPort(config.host, *one)) for one in config.further_ports.items()]
        redirect = None
        if (redirect_port := config.tls.redirect_port) is not None:
            redirect = stack.enter_context(SharedPort(config.host, redirect_port, "tls.redirect_port"))
        further = FurtherPorts(shared, redirect)
        directory = stack.enter_context(socket_directory())
        asyncio.run(_supervise(config, reader, lambda own: Supervisor(own, sources, port, directory, further)))


async def _supervise(config: Config, reader: ConfigReader, new_supervisor: Callable[[Config], Supervisor]) -> None:
    tasks = WatchedTasks()
    if config.redis_url:
        with tasks.current():
            await _supervise_on(read_redis_url(config.redis_url), config, reader, new_supervisor(config), tasks)
        return
    with tasks.current():
        valkey = EmbeddedValkey(config.data_dir)
        try:
            await valkey.start()
            url = f"unix://{quote(str(valkey.address.path))}"
            own = structs.replace(config, redis_url=url, database_url=config.journal_url or NO_DATABASE)
            await _supervise_on(valkey.address, config, reader, new_supervisor(own), tasks)
        finally:
            await valkey.stop()


async def _supervise_on(
    location: Location, config: Config, reader: ConfigReader, supervisor: "Supervisor", tasks: WatchedTasks
) -> None:
    """Runs the workers, and the one writer of the journal beside them, which ends after them."""
    tasks.on_end = lambda name: supervisor.stop()
    journal = JournalProcess(config, location)
    journal.start()
    try:
        await supervisor.run(config, reader)
    finally:
        await journal.stop()
    tasks.check()


def work(serve: Serve) -> int:
    """Serves as the `Task` on stdin says, until SIGTERM. Returns the exit status: 0, or a key of `_FAILURES`."""
    task: Task = pickle.load(sys.stdin.buffer)
    ignore_hangup()
    configure_logging(task.config.log_level, task.config.log_format)
    structlog.contextvars.bind_contextvars(worker=task.slot.number)
    try:
        with socket.socket(fileno=task.bound_fd) as bound:
            serve(task.config, task.sources, bound, task.slot, lambda _: _tell(_LISTENING.decode()))
    except RecadoError as error:
        _tell(" ".join(str(error).split()))
        return next((status for status, kind in _FAILURES.items() if type(error) is kind), 1)
    return 0


def _tell(line: str) -> None:
    """Writes a line to the supervisor."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
