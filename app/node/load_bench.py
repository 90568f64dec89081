"""The load test of one node: starts the child process of a run, reads its totals, and ends it at its deadline.

And that child process itself: `recado load-devices`, which reads its task from stdin and writes the totals to stdout.
"""

import asyncio
import contextlib
import pickle
import secrets
import signal
import sys
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct

from app.canary.wire import OwnPort, WireError
from app.config.settings import CANARY_SITE, Config
from app.errors import RecadoError, RequestRefused
from app.journal.database import open_database
from app.load.chat_device import ChatUserLogin
from app.load.chat_run import ChatLoadRun, ChatLoadTask
from app.load.operations import RunPath, load_operations
from app.load.plan import LoadPlan
from app.load.room_run import RoomRun
from app.load.run import LoadRun, LoadTask
from app.load.sql_runs import SqlRuns
from app.node.certificates import own_client, own_context
from app.node.own_program import own_program
from app.protocols.load_rooms import LoadLimits, LoadPlace, LoadRooms
from app.protocols.protocol import NodeServices
from app.redis.embedded import end_with_parent
from app.store.node_calls import CallRefused, NodeCalls, NodeSilent, arguments_of
from app.watched_tasks import start_logged

#: The bytes of the totals.
MAX_TOTALS_BYTES = 65_536
#: The time for connects and for the last receipts, beside the time of the plan.
_MORE_SECONDS = 40.0
#: The call that stops a run, by its number.
_STOP = "stop_load"

_log = structlog.get_logger(__name__)


class KeptRuns(Protocol):
    """The table of runs, as a run writes it."""

    async def begin(self, plan: LoadPlan, description: str, operator: str, node: str) -> int | None:
        """Keeps a run that begins."""

    async def end(self, id: int, state: str, totals: dict[str, Any]) -> None:
        """Keeps the end of a run."""


class Server(Struct, frozen=True):
    """The server that runs put a load on. Its repr has no secret."""

    node: str
    #: The key of the hidden site.
    key: str

    def __repr__(self) -> str:
        return f"Server({self.node!r})"


class LoadBench:
    """Lives as long as the node: `listens` when the port is open, `close` ends a run that is under way."""

    def __init__(
        self, server: Server | None, runs: KeptRuns, calls: NodeCalls, rooms: Sequence[LoadRooms] = ()
    ) -> None:
        """Without a `server` there is no hidden site, and no run begins. Other nodes stop runs through `calls`. `rooms`
        are those of messengers; there may be none."""
        self._rooms = rooms
        self._server = server
        self._calls = calls
        calls.handlers[_STOP] = self._stop_for_others
        self._runs = runs
        self._target: OwnPort | None = None
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._room_run: RoomRun | None = None
        self._id: int | None = None
        self._is_starting = False
        self._is_stopped = False

    def listens(self, target: OwnPort) -> None:
        """The node accepts connections here."""
        self._target = target

    async def start(self, plan: LoadPlan, description: str, operator: str) -> int:
        """Starts a run and returns its number. Raises RequestRefused."""
        if self._server is None or self._target is None:
            raise RequestRefused("The load test needs the server's own site: set canary to true.", "needs_canary", 409)
        if self._is_starting or self._task is not None:
            raise RequestRefused("A run is under way on this node.", "running", 409)
        self._is_starting = True
        try:
            id = await self._runs.begin(plan, description, operator, self._server.node)
        finally:
            self._is_starting = False
        if id is None:
            raise RequestRefused("There are too many runs: remove one first.", "too_many_runs", 409)
        self._id, self._is_stopped = id, False
        name = f"{id}-{secrets.token_hex(4)}"
        work = self._work_of(plan, name, self._target, self._server.key)
        self._task = start_logged(self._run(id, plan, name, work), "load run")
        return id

    async def _work_of(self, plan: LoadPlan, name: str, target: OwnPort, key: str) -> dict[str, Any]:
        """Does a run. Its totals."""
        place = (target.host, target.port, target.tls is not None, key)
        if not plan.site:
            return await self._totals(LoadTask(plan, name, *place))
        if not self._rooms:
            raise RequestRefused("site: expected the name of a site with a messenger.", "unknown_site", 404)
        if plan.room:
            self._room_run = RoomRun(plan, name, self._rooms[0])
            if self._is_stopped:
                self._room_run.stop()
            return await self._room_run.drive()
        seats = await self._rooms[0].seat(plan.site, plan.devices)
        users = [ChatUserLogin(*login) for login in seats.logins]
        limits = LoadLimits(plan.total, plan.seconds * 1000, int(_MORE_SECONDS * 1000))
        await self._rooms[0].begin(LoadPlace(plan.site, seats.room, name), limits)
        return await self._totals(ChatLoadTask(plan, name, plan.site, seats.room, users, *place))

    async def stop(self, id: int, node: str) -> bool:
        """Stops a run on the node that has it. False: it runs no more. Raises RequestRefused, StoreError."""
        if self._server is not None and node == self._server.node:
            return self._stop_here(id)
        try:
            return await self._calls.ask(node, _STOP, RunPath(id=id)) == b"true"
        except NodeSilent:
            raise RequestRefused("The node of the run does not answer.", "node_silent", 503) from None
        except CallRefused as refusal:
            raise RequestRefused(str(refusal), "node_refused", 409) from None

    async def _stop_for_others(self, given: Any) -> bool:
        return self._stop_here(arguments_of(given, RunPath).id)

    def _stop_here(self, id: int) -> bool:
        if self._id != id or self._task is None:
            return False
        self._is_stopped = True
        self._kill()
        return True

    async def close(self) -> None:
        """Ends the run under way."""
        if self._task is not None:
            self._is_stopped = True
            self._kill()
            await asyncio.wait([self._task], timeout=5)

    async def _run(self, id: int, plan: LoadPlan, name: str, work: Awaitable[dict[str, Any]]) -> None:
        state: str
        totals: dict[str, Any]
        state, totals = "failed", {"error": "no totals"}
        try:
            async with asyncio.timeout(plan.seconds + _MORE_SECONDS):
                totals = await work
            state = "failed" if "error" in totals else "done"
        except (OSError, TimeoutError, msgspec.DecodeError, RequestRefused) as error:
            totals = {"error": str(error) or "it did not end in time"}
        finally:
            self._kill()
            if self._is_stopped and (state != "done" or self._room_run is not None):
                state, totals = "stopped", {}
            self._task = self._id = self._room_run = None
        with contextlib.suppress(RecadoError):
            await self._runs.end(id, state, totals)
        _log.info("load run ended", run=id, state=state)
        if plan.site and self._rooms:
            await self._forget(LoadPlace(plan.site, plan.room, name))

    async def _forget(self, place: LoadPlace) -> None:
        """Deletes the messages of a run. While SQL is away nothing is deleted: a later run of the site does it."""
        with contextlib.suppress(RequestRefused):
            await self._rooms[0].end(place)
            await self._rooms[0].forget(place)

    async def _totals(self, task: LoadTask | ChatLoadTask) -> dict[str, Any]:
        self._process = process = await asyncio.create_subprocess_exec(
            *own_program("load-devices"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGKILL),
            limit=MAX_TOTALS_BYTES,
        )
        if self._is_stopped:
            self._kill()
        assert process.stdin is not None, "asked for above"
        assert process.stdout is not None, "asked for above"
        # The task has the key: it goes through stdin, not through a command line.
        process.stdin.write(pickle.dumps(task))
        process.stdin.close()
        line = await process.stdout.readline()
        await process.wait()
        return msgspec.json.decode(line or b'{"error": "the process has ended"}', type=dict[str, Any])

    def _kill(self) -> None:
        if self._room_run is not None:
            self._room_run.stop()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def open_bench(
    config: Config, calls: NodeCalls, offered: NodeServices, stack: contextlib.AsyncExitStack
) -> LoadBench | None:
    """The load test of a node, with its operations added to those offered; it closes with `stack`. None without a
    database."""
    if config.journal_url is None:
        return None
    engine = open_database(config.journal_url, connections=1)
    stack.push_async_callback(engine.dispose)
    runs = SqlRuns(engine)
    site = config.sites.get(CANARY_SITE)
    server = None if site is None else Server(calls.node, site.api_key)
    bench = LoadBench(server, runs, calls, offered.load_rooms)
    stack.push_async_callback(bench.close)
    offered.operations.extend(load_operations(runs, bench))
    return bench


def run_devices() -> int:
    """The child process. Returns its exit status: 0, or 1 with the reason in place of the totals."""
    task: LoadTask | ChatLoadTask = pickle.load(sys.stdin.buffer)
    tls = own_context(own_client(task.key)) if task.has_tls else None
    target = OwnPort(task.host, task.port, tls)
    outcome: dict[str, Any]
    try:
        run = LoadRun(task, target) if isinstance(task, LoadTask) else ChatLoadRun(task, target)
        outcome = asyncio.run(run.drive())
    except (WireError, OSError) as error:
        outcome = {"error": str(error) or "no answer in time"}
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    sys.stdout.flush()
    return 1 if "error" in outcome else 0
