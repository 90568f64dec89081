"""A server of S3 for tests, in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator

import httpx

from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.waiting import eventually

_numbers = itertools.count(1)
_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}


class S3Server:
    """One server, whose buckets are gone with it. Lives as long as the fixture that started it."""

    def __init__(self) -> None:
        """Start the process; return when it answers."""
        self.port = free_port()
        code = "import sys; from moto.server import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = ChildProcess("s3", command, REPOSITORY, {**os.environ, **_KEYS})
        eventually(self._answers, "S3 to answer", 60)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds it."""
        return {**_KEYS, "AWS_ENDPOINT_URL": self.url}

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"bucket-{next(_numbers)}"
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return name

    def _answers(self) -> bool:
        assert self.process.returncode is None, "the server of S3 has ended"
        try:
            return httpx.get(self.url).is_success
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        """Stop the process."""
        self.process.end()


@contextlib.contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server for the length of a `with`."""
    server = S3Server()
    try:
        yield server
    finally:
        server.end()
