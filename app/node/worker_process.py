"""One worker as its supervisor sees it: a process, from its start to its end, and when it is started again.

Knows processes, not their work.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import socket

from msgspec import Struct

from app.config.settings import Config
from app.config.sources import Sources
from app.errors import ConfigError, RecadoError, StoreUnavailable
from app.node.own_program import own_program
from app.node.worker_slot import WorkerSlot
from app.redis.embedded import end_with_parent

#: The death of a worker that has served for this time does not count as a failed start.
_SETTLED_SECONDS = 10.0
_MAX_DEATHS_AT_START = 5
_FIRST_PAUSE_SECONDS = 0.1

LISTENING = b"listening"
#: Exit status of a worker that cannot serve -> the error that the supervisor raises with the worker's line.
FAILURES: dict[int, type[RecadoError]] = {1: RecadoError, 2: ConfigError, 75: StoreUnavailable}


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
            *own_program("worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(bound.fileno(), *task.slot.further_fds),
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
            if line.startswith(LISTENING):
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
        if self._reason and status in FAILURES:
            return FAILURES[status](self._reason)
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        return RecadoError(f"a worker ended with {cause} before it served, see what it logged")

    def signal(self, number: int) -> None:
        """Forwards a signal of the operator."""
        if self._process.returncode is None:
            # `send_signal` would reap a process that has just ended, for whose status the loop waits.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kills the process."""
        self.signal(signal.SIGKILL)
