"""The process of a backend that exceeds its site's limit of sends; knows no scenario."""

from __future__ import annotations

import json
import sys

from bench.contenders import LIMITED_SENDS_PER_SECOND, LIMITED_SITE, Place, Running
from bench.processes import BenchError, Child

#: How many times its limit it sends.
EXCESS = 10
_STOP_SECONDS = 10.0


class FloodProcess:
    """One flood of one server; lives until `stop()`."""

    def __init__(self, place: Place, running: Running) -> None:
        """Start it, on the core that is not the server's; returns when the server has answered it."""
        endpoint = json.dumps(running.endpoint(LIMITED_SITE))
        command = [sys.executable, "-m", "bench.generator.flood", endpoint, str(EXCESS * LIMITED_SENDS_PER_SECOND)]
        self._child = Child(command, place.folder / f"{running.name}.flood.log", place.cores.others)
        self._child.wait_for("^flooding$")

    def end(self) -> None:
        """Stop the sending; raises BenchError when most sends were not refused: then nothing was measured."""
        self._child.close_input()
        answers = json.loads(self._child.read_line(_STOP_SECONDS) or "{}")
        if not answers or answers["others"] or answers["refused"] < answers["accepted"]:
            raise BenchError(f"the flood was answered {answers}: {self._child.log_tail()}")

    def stop(self) -> None:
        """End the process in any state; safe to call twice."""
        self._child.stop()
