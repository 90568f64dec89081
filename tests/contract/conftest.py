"""Checks that hold for every module of the contract suite: the server's log names no secret and shows no failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ChildProcess
from tests.support.server import Server
from tests.support.sites import NUMERIC_KEY
from tests.support.tenant import SECRET


@pytest.fixture(scope="module", autouse=True)
def clean_log() -> Iterator[None]:
    """Check after each module that no server has logged a token, an apiKey, a traceback or an error."""
    starts = {server: len(server.lines) for server in _servers()}
    yield
    for server in _servers():
        start = starts.get(server, 0)
        lines = server.lines.snapshot()[start:]
        assert not [line for line in lines if SECRET in line or str(NUMERIC_KEY) in line], "a secret in the log"
        assert not [line for line in lines if "Traceback" in line], "a traceback in the log"
        values = server.log(start)
        errors = [line for line in values if line.get("level") in ("error", "critical")]
        # The site "unreachable" has no backend, so its breaker rightly opens; whether
        # it does depends on the order of the tests.
        assert not [line for line in errors if line.get("site") != "unreachable"], "an error in the log"
        assert not [line for line in values if "raw" in line], "a log line that is no JSON object"


def _servers() -> list[Server]:
    return [process for process in ChildProcess.started if isinstance(process, Server)]
