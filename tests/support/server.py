"""A real `python -m app serve` process and its log."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import REPOSITORY, ChildProcess, ForkedCommand

# Variables in the environment of the test run that would configure the server.
_SETTINGS = re.compile(
    "APP_ENV|NODE_ENV|PORT|HOST|REDIS_URL|SITE_NAME|AUTH_URL|AUTH_SCHEME|API_KEY|USER_ROOM_PREFIX|UPDATE_USER_URL|"
    "PUBLIC_CHANNEL|DEVICE_TTL|DATABASE_URL|RECADO_.*"
)


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without the server's variables, plus `settings`."""
    environment = {key: value for key, value in os.environ.items() if not _SETTINGS.fullmatch(key)}
    # A test that needs the journal names its database: each writer is one more process.
    ours = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "DATABASE_URL": "none", "RECADO_CANARY": "false"}
    return environment | ours | settings


class Server(ChildProcess):
    """The server's process. The code that starts it calls `end`."""

    #: With SIGINT all connections are told to leave at once.
    end_signal = signal.SIGINT

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        """Start `python -m app serve` in `directory`; return when it listens. TEST_MODULE names another module."""
        module = environment.pop("TEST_MODULE", "app")
        command = [sys.executable, "-m", module, "serve", "--host", "127.0.0.1", *arguments]
        super().__init__("server", command, directory, clean_environment(**environment))
        try:
            self.url = self._wait_listening()
        except AssertionError:
            self.end()
            raise

    def log(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the log lines from `start` on, decoded; a line that is no JSON object becomes {"raw": line}."""
        return [_log_line(line) for line in self.lines.snapshot()[start:]]

    def _wait_listening(self) -> str:
        def is_over(lines: list[str]) -> bool:
            return self.returncode is not None or any(_log_line(line).get("event") == "listening" for line in lines)

        lines = self.lines.wait_until(is_over, "the server to listen", 100)
        for line in map(_log_line, lines):
            if line.get("event") == "listening":
                return str(line["url"])
        raise AssertionError(f"the server ended with {self.returncode}: {lines}")


class ForkedServer(ForkedCommand, Server):
    """A server that listens in a tenth of the time."""


def _log_line(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"raw": line}
    return value if isinstance(value, dict) else {"raw": line}
