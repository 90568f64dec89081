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
from pathlib import Path
from urllib.parse import quote

import structlog
from msgspec import Struct, structs

from app.canary.site import new_key, with_canary
from app.config.changes import Changes
from app.config.settings import NO_DATABASE, Config, url_on_loopback
from app.config.sources import Sources
from app.errors import RecadoError, StoreUnavailable
from app.node.announcement import tell_listening
from app.node.crew import LEAST_WORKERS, Crew
from app.node.journal_process import JournalProcess
from app.node.port import SharedPort
from app.node.reload import ConfigReader, Reload
from app.node.signals import ignore_hangup, obeyed_signals
from app.node.supervisor_door import SupervisorDoor, Wish, WishRefused
from app.node.worker_process import FAILURES, LISTENING, Restarts, Task, Worker
from app.node.worker_slot import WorkerSlot, socket_directory, workers_file
from app.observe.log import configure_logging, name_process
from app.redis.address import Location, read_redis_url
from app.redis.embedded import EmbeddedValkey
from app.watched_tasks import WatchedTasks, start_logged

#: The pause between starts of a worker that finds no Redis. A missing Redis is no reason to end the other workers.
_UNAVAILABLE_PAUSE_SECONDS = 1.0
#: The pause before a kill, after the time that a worker has for ending by itself.
_KILL_AFTER_SECONDS = 5.0
#: A worker that is restarted serves by then, or a rolling restart ends.
_START_SECONDS = 60.0

_log = structlog.get_logger(__name__)


#: Runs one process: its settings and where they come from, its socket, its slot, and the call once it serves.
Serve = Callable[[Config, Sources, socket.socket, WorkerSlot, Callable[[str], None]], None]


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
        self._crew = Crew(config.workers)
        self._door = SupervisorDoor(directory, self._take)
        self._workers: dict[int, Worker] = {}
        self._serves: dict[int, asyncio.Event] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        #: The workers that end because they are to begin again.
        self._restarting: set[int] = set()
        self._has_served = False
        self._stop = asyncio.Event()
        self._stop_signal: int = signal.SIGTERM

    async def run(self, running: Config, reader: ConfigReader) -> None:
        """Returns when all workers have ended after SIGTERM or SIGINT. Raises RecadoError when the workers cannot be
        kept running. `running` are the settings that the files held at the start, for reloads."""
        self._reload = Reload(running, reader, self._pass_on)
        with obeyed_signals(self._obey, self._reload.ask):
            await self._door.start()
            for number in range(self._config.workers):
                self._begin(number)
            self._note_crew()
            announced = asyncio.create_task(self._announce())
            try:
                await self._stop.wait()
            finally:
                announced.cancel()
                self._reload.stop()
                self._stop.set()
                await self._door.close()
                await self._end(list(self._keepers.values()))
                await asyncio.gather(announced, return_exceptions=True)
            outcomes = await asyncio.gather(*self._keepers.values(), return_exceptions=True)
            for failure in filter(None, outcomes):
                raise failure

    def _begin(self, number: int) -> None:
        """Keeps a worker running from now on."""
        self._serves.setdefault(number, asyncio.Event())
        before = self._keepers.get(number)
        keeper = self._keepers[number] = asyncio.create_task(self._keep(number, before))
        keeper.add_done_callback(self._keeper_ended)

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        """One worker that cannot be kept running ends all."""
        if not keeper.cancelled() and keeper.exception() is not None:
            self._stop.set()

    def _note_crew(self) -> None:
        """Tells the workers how many they are."""
        path = Path(workers_file(self._directory))
        new = path.with_suffix(".new")
        new.write_text(" ".join(map(str, sorted(self._crew.wanted))))
        new.replace(path)

    # Wishes of operators

    def _take(self, wish: Wish) -> str:
        """Begins what a wish asks for; see `SupervisorDoor`."""
        if self._stop.is_set():
            raise WishRefused("the server ends")
        steps = self._crew.take(wish)
        _log.warning("workers change", verb=wish.verb, number=wish.number, workers=sorted(self._crew.wanted))
        self._note_crew()
        for number in steps.starts:
            self._begin(number)
        for number in steps.stops:
            self._end_worker(number, at_once=wish.at_once)
        if steps.is_roll:
            start_logged(self._roll(steps.restarts), "rolling restart")
        else:
            for number in steps.restarts:
                self._restart(number, at_once=wish.at_once)
        return f"{len(self._crew.wanted)} workers"

    def _restart(self, number: int, *, at_once: bool = False) -> None:
        self._restarting.add(number)
        # Set again by the next process.
        self._serves[number].clear()
        self._end_worker(number, at_once=at_once)

    def _end_worker(self, number: int, *, at_once: bool) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            worker.signal(signal.SIGINT if at_once else signal.SIGTERM)
            asyncio.get_running_loop().call_later(self._end_seconds, worker.kill)

    async def _roll(self, numbers: Sequence[int]) -> None:
        """Restarts workers one after the other: each serves before the next one ends."""
        try:
            for number in numbers:
                if number not in self._crew.wanted or self._stop.is_set():
                    continue
                self._restart(number)
                async with asyncio.timeout(self._end_seconds + _START_SECONDS):
                    await self._serves[number].wait()
            _log.info("workers restarted", workers=list(numbers))
        except TimeoutError:
            _log.error("rolling restart given up", worker=number)
        finally:
            self._crew.is_rolling = False

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
        await asyncio.gather(*map(self._reload_worker, sorted(self._crew.wanted)))

    async def _reload_worker(self, number: int) -> None:
        # A worker that does not serve yet would not hear the signal, and may have begun with the older sites.
        serves = asyncio.ensure_future(self._serves[number].wait())
        # A worker that is stopped meanwhile will not serve.
        await asyncio.wait([serves, self._keepers[number]], return_when=asyncio.FIRST_COMPLETED)
        serves.cancel()
        if self._serves[number].is_set():
            self._workers[number].signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ends the workers as SIGTERM does."""
        self._stop.set()

    def _signal(self, number: int) -> None:
        for worker in self._workers.values():
            worker.signal(number)

    async def _announce(self) -> None:
        for serves in list(self._serves.values()):
            await serves.wait()
        self._has_served = True
        ports = {"ports": [port.number for port in self._further.shared]} if self._further.shared else {}
        url = url_on_loopback(self._config, self._port.number)
        tell_listening(self._config, self._sources, url, workers=self._config.workers, **ports)

    async def _keep(self, number: int, before: "asyncio.Task[None] | None" = None) -> None:
        """Runs a worker, and restarts it when it dies, until the supervisor stops or wants it no more. The earlier one
        of its number ends first. Raises RecadoError to give up."""
        if before is not None:
            await asyncio.wait([before])
        restarts = Restarts()
        while not self._stop.is_set() and number in self._crew.wanted:
            with self._port.open() as bound, contextlib.ExitStack() as stack:
                count = max(LEAST_WORKERS, len(self._crew.wanted))
                slot = self._further.slot(self._directory, number, count, stack)
                worker = await Worker.start(Task(self._worker_config(), self._sources, slot, bound.fileno()), bound)
            self._workers[number] = worker
            if self._stop.is_set():
                worker.signal(self._stop_signal)
            status = await worker.serve(self._serves[number])
            if self._stop.is_set() or number not in self._crew.wanted:
                return
            if number in self._restarting:
                self._restarting.discard(number)
                continue
            pause_seconds = self._pause_after(worker, status, restarts)
            _log.error("worker ended", worker=number, status=status, restart_seconds=pause_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_seconds)

    @property
    def _end_seconds(self) -> float:
        """The time after which a worker that is to end is killed."""
        config = self._config
        return config.drain_timeout_seconds + config.shutdown_timeout_seconds + _KILL_AFTER_SECONDS

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
        _, running = await asyncio.wait(keepers, timeout=self._end_seconds)
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
    """Serves as the `Task` on stdin says, until SIGTERM. Returns the exit status: 0, or a key of `FAILURES`."""
    task: Task = pickle.load(sys.stdin.buffer)
    ignore_hangup()
    configure_logging(task.config.log_level, task.config.log_format)
    name_process(worker=task.slot.number)
    try:
        with socket.socket(fileno=task.bound_fd) as bound:
            serve(task.config, task.sources, bound, task.slot, lambda _: _tell(LISTENING.decode()))
    except RecadoError as error:
        _tell(" ".join(str(error).split()))
        return next((status for status, kind in FAILURES.items() if type(error) is kind), 1)
    return 0


def _tell(line: str) -> None:
    """Writes a line to the supervisor."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
