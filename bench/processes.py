"""Child processes of a run: started on a chosen core, read line by line, always stopped, by their ids."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


class BenchError(Exception):
    """A run cannot go on; the text names the process and its error."""


class Child:
    """One child process. Lives until `stop()`, and dies with this process in every case."""

    def __init__(
        self, command: list[str], log: Path, core: int | None, environment: dict[str, str] | None = None
    ) -> None:
        self.name = log.stem
        self._log = log
        self._unread = b""
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C goes to the orchestrator only, which stops its children in order
                preexec_fn=_prepare(core),
            )
        self.pid = self._process.pid

    def stop(self) -> None:
        """Ask the process to end, then kill it; safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait_for(self, pattern: str, in_log: bool = False) -> re.Match[str]:
        """Return the match of `pattern` in a line of stdout (or in the log file), once it is there."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            text = self._log.read_text(errors="replace") if in_log else self.read_line(0.2)
            match = re.search(pattern, text)
            if match:
                return match
            if self._process.poll() is not None:
                break
            if in_log:
                time.sleep(0.05)
        raise BenchError(f"{self.name} did not start: {self.log_tail()}")

    def read_line(self, timeout_seconds: float) -> str:
        """Return the next line of stdout, or "" when none comes in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                return ""
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def write_line(self, line: str) -> None:
        """Send one line to stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def close_input(self) -> None:
        """Close the process's stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def log_tail(self) -> str:
        """Return the end of the process's stderr."""
        return self._log.read_text(errors="replace")[-2000:] or "(it wrote nothing to stderr)"


class GeneratorProcess:
    """The load generator of one peer; lives until `stop()`. Calls are synchronous."""

    def __init__(self, log: Path, core: int | None, module: str = "bench.generator") -> None:
        self._child = Child([sys.executable, "-m", module], log, core)
        self.pid = self._child.pid

    def call(self, do: str, timeout_seconds: float = 300.0, **arguments: Any) -> dict[str, Any]:
        """Run the generator's command `do`; raises BenchError with its complaint."""
        self.begin(do, **arguments)
        return self.finish(do, timeout_seconds)

    def begin(self, do: str, **arguments: Any) -> None:
        """Have the command run while others run elsewhere; `finish` has to follow."""
        self._child.write_line(json.dumps({"do": do, **arguments}))

    def finish(self, do: str, timeout_seconds: float = 300.0) -> dict[str, Any]:
        """Wait for the answer to `begin`; raises BenchError with its complaint."""
        line = self._child.read_line(timeout_seconds)
        if not line:
            raise BenchError(f"{self._child.name}: no answer to {do}: {self._child.log_tail()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self._child.name}: {do}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """End the process."""
        self._child.stop()


def _prepare(core: int | None) -> Callable[[], None]:
    """Return the function that the child runs before it becomes its program."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare
