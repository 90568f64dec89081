"""Child processes that are always ended, by pid; their stderr is kept for the report of a failed test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar

from tests.support.forks import ForkedProcess, forks
from tests.support.waiting import Recording

REPOSITORY = Path(__file__).resolve().parents[2]


class ChildProcess:
    """One process from its start to its end. The code that starts it calls `end`, which is idempotent."""

    #: All processes that have not been ended, so that a failing test can show their output.
    started: ClassVar[list[ChildProcess]] = []
    #: The signal that asks the process to end.
    end_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self, name: str, command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the command; its stdout and stderr lines are collected in `lines`."""
        self.name = name
        self.lines: Recording[str] = Recording()
        self._process = self.launch(command, cwd, environment)
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self.stdin: IO[bytes] = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read, args=(stream, receive), daemon=True)
            for stream, receive in ((self._process.stdout, self.stdout_line), (self._process.stderr, self.stderr_line))
        ]
        for reader in self._readers:
            reader.start()
        ChildProcess.started.append(self)

    def launch(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        """Start the command with pipes; a subclass may start its process in another way."""
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while the process runs."""
        return self._process.poll()

    def stdout_line(self, line: str) -> None:
        """Take one line of stdout; subclasses that speak over stdout override this."""
        self.lines.add(line)

    def stderr_line(self, line: str) -> None:
        """Take one line of stderr."""
        self.lines.add(line)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_seconds: float = 30.0) -> int:
        """Block until the process has ended and its output is read; AssertionError when it does not end in time."""
        try:
            status = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {timeout_seconds} s") from None
        # A grandchild may hold the pipe open for longer: the reader threads are daemons, so a bounded wait is enough.
        for reader in self._readers:
            reader.join(1)
        self._close_stdin()
        return status

    def end(self, timeout_seconds: float = 10.0) -> None:
        """End the process and all its descendants: first by a signal, then by SIGKILL."""
        if self in ChildProcess.started:
            ChildProcess.started.remove(self)
        family = descendants(self.pid)
        self.signal(signal.SIGCONT)
        self.signal(self.end_signal)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout_seconds)
        for pid in family:
            kill(pid)
        for reader in self._readers:
            reader.join(1)
        self._close_stdin()

    def _close_stdin(self) -> None:
        # Closing flushes the pipe, which fails when the process is gone.
        with contextlib.suppress(OSError):
            self.stdin.close()

    def _read(self, stream: IO[bytes], receive: object) -> None:
        assert callable(receive)
        with stream:
            for line in stream:
                receive(line.decode("utf-8", "replace").rstrip("\n"))


class ForkedCommand(ChildProcess):
    """A command of the product whose process was forked from one that has loaded it."""

    def launch(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None) -> ForkedProcess:
        """Fork the process; `command` begins with Python, `-m` and the module."""
        _, _, module, *arguments = command
        return forks().start(module, arguments, cwd, environment or {})


def descendants(pid: int) -> list[int]:
    """List the process ids below `pid`, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def writers_of(process: ChildProcess) -> list[int]:
    """The process ids of the journal's writers that run beneath a process."""
    return [pid for pid in descendants(process.pid) if _command(pid)[-3:] == [b"-m", b"app", b"journal-writer"]]


def is_running(pid: int) -> bool:
    """Whether a process of this id runs (a zombie does not)."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    # State, parent and more of /proc/PID/stat. The name before them may have any character.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
    return []


def _command(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return []


def resident_bytes(pid: int) -> int:
    """The resident memory of a process in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def kill(pid: int) -> None:
    """Kill a process by id; a process that no longer exists is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
