"""Processes of the product without the time to load it: one that has loaded it forks another for each start. Loading is
most of a server's start, and a run of the tests starts hundreds. Tests of commands start real ones."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

_MOST_REQUEST_BYTES = 1 << 17
#: The command, and what it loads when it opens a database.
_LOADED = ("app.cli", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite")

_ROOT = Path(__file__).parents[2]
_LOCK = threading.Lock()


class ForkedProcess:
    """One process that was forked, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int, pipes: tuple[int, int, int]) -> None:
        """`status` is the end of a pipe on which the exit status comes; `pipes` are stdin, stdout and stderr."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] = os.fdopen(pipes[0], "wb")
        self.stdout: IO[bytes] = os.fdopen(pipes[1], "rb")
        self.stderr: IO[bytes] = os.fdopen(pipes[2], "rb")
        self._status = status
        # A test of many clients has more open files than `select` takes.
        self._poll = select.poll()
        self._poll.register(status, select.POLLIN)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status; None while the process runs."""
        self._await(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit status, awaited; subprocess.TimeoutExpired when the process still runs."""
        self._await(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("forked process", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, if it still runs."""
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float) -> None:
        if self.returncode is None and self._poll.poll(timeout * 1000):
            with self._lock:
                if self.returncode is None:
                    told = os.read(self._status, 16)
                    assert told, "the process that forks has ended"
                    os.close(self._status)
                    self.returncode = int(told)


class Forks:
    """The process that has loaded the product. It ends with the process that starts it."""

    def __init__(self) -> None:
        """Start it; it loads the product while the first request waits."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            command = [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())]
            # A forked process gets an environment of its own.
            environment = os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL
            )

    def start(self, module: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> ForkedProcess:
        """Start `python -m module` with these arguments."""
        request = json.dumps([module, list(arguments), str(cwd), dict(environment)]).encode()
        stdin, stdout, stderr, status = os.pipe(), os.pipe(), os.pipe(), os.pipe()
        theirs = [stdin[0], stdout[1], stderr[1], status[1]]
        try:
            with self._lock:
                socket.send_fds(self._socket, [request], theirs)
                answer = self._socket.recv(16)
        finally:
            for fd in theirs:
                os.close(fd)
        assert answer, "the process that forks has ended"
        return ForkedProcess(int(answer), status[0], (stdin[1], stdout[0], stderr[0]))

    def end(self) -> None:
        """End it; the processes that it has forked go on."""
        self._socket.close()
        self._process.wait()


def forks() -> Forks:
    """The process of this run that has loaded the product; several threads may ask at once."""
    with _LOCK:
        return _start_forks()


@functools.cache
def _start_forks() -> Forks:
    started = Forks()
    atexit.register(started.end)
    return started


def run_command(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout_seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `python -m app` with these arguments to its end, and return its output and exit status."""
    process = forks().start("app", arguments, cwd, environment)
    process.stdin.close()
    with process.stdout, process.stderr, ThreadPoolExecutor(2) as pool:
        out, err = (pool.submit(stream.read) for stream in (process.stdout, process.stderr))
        try:
            status = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, status, out.result().decode(), err.result().decode())


def _serve(requests: socket.socket) -> tuple[str, list[str]] | None:
    """Fork a process for each request. Returns in each forked process the module that it runs, with its arguments, and
    in this process None, when the tests have ended."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell_ended(running)
        if requests not in ready:
            continue
        request, fds, _, _ = socket.recv_fds(requests, _MOST_REQUEST_BYTES, 4)
        if not request:
            return None
        module, arguments, cwd, environment = json.loads(request)
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            for one in (requests, woken, waker):
                one.close()
            _become(fds, [*running.values()], cwd, environment)
            return module, arguments
        running[pid] = fds[3]
        for fd in fds[:3]:
            os.close(fd)
        requests.send(str(pid).encode())


def _tell_ended(running: dict[int, int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            fd = running.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(fd, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(fd)


def _become(fds: Sequence[int], others: Sequence[int], cwd: str, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, fd in enumerate(fds[:3]):
        os.dup2(fd, target)
    for fd in (*fds, *others):
        os.close(fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)


def _main() -> None:
    for module in _LOADED:
        importlib.import_module(module)
    # A collection in a forked process would copy the memory of the loaded modules.
    gc.freeze()
    if work := _serve(socket.socket(fileno=int(sys.argv[1]))):
        module, sys.argv[1:] = work
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
