"""The journal's writer alone: a million deliveries, from entries in Redis to rows in SQLite and PostgreSQL.

`python -m bench.journal [deliveries]` prints one row for each database and pattern. The entries are written before the
writer starts, so the figures are those of a writer that catches up; the last column is the lag of one that keeps up.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import ROOT, Child
from bench.usage import cpu_seconds
from tests.support.postgres import running_postgres
from tests.support.store import running_valkey
from tests.support.valkey import Valkey

_SITE = "shop"
_STREAM = f"recado:{{{_SITE}}}:fate"
_FAN_OUT = 1_000
#: Acks of one run of the script that applies them.
_ACKS_A_RUN = 500
_FIRST_SEQ = 3_000_000_000
#: A steady load: messages of this fan-out a second, for this time.
_STEADY_MESSAGES, _STEADY_SECONDS = 20, 10
#: Entries in flight while acks come late: each batch of acks meets rows that are in SQL.
_LATE_MESSAGES = 1_000


def main(deliveries: int) -> None:
    """Measure each database, and print the rows of the table."""
    with running_valkey() as valkey, running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        for kind in ("SQLite", "PostgreSQL"):
            for pattern in ("acks with their message", "acks after their message"):
                name = pattern.split()[1]
                path = Path(folder) / f"{name}.sqlite"
                url = f"sqlite:///{path}" if kind == "SQLite" else postgres.new_database()
                row = _measure(valkey, Path(folder), url, deliveries, is_late=name == "after")
                size = sum(file.stat().st_size for file in Path(folder).glob(f"{name}.sqlite*"))
                if kind == "PostgreSQL":
                    size = postgres.database_bytes(url)
                rows = deliveries + _STEADY_MESSAGES * _STEADY_SECONDS * _FAN_OUT
                print(f"| {kind} | {pattern} | {row} | {size / rows:.0f} |", flush=True)


def _measure(valkey: Valkey, folder: Path, url: str, deliveries: int, *, is_late: bool) -> str:
    valkey.client.flushall()
    valkey.client.zadd("recado:nodes", {"bench": 1})
    valkey.client.sadd("recado:sites:bench", _SITE)
    feed = Feed(valkey)
    messages = deliveries // _FAN_OUT
    feed.devices()
    if is_late:
        # In rounds: many messages, then their acks, which find the rows of the messages.
        for start in range(0, messages, _LATE_MESSAGES):
            numbers = range(start, min(start + _LATE_MESSAGES, messages))
            for number in numbers:
                feed.send(number)
            for number in numbers:
                feed.acks(number)
    else:
        for number in range(messages):
            feed.send(number)
            feed.acks(number)
    with _writer(valkey, folder, url) as writer:
        began, cpu = time.monotonic(), cpu_seconds(writer.pid)
        while feed.waiting():
            time.sleep(0.05)
        seconds, cpu = time.monotonic() - began, cpu_seconds(writer.pid) - cpu
        lag_ms = _steady(valkey, feed, messages)
    return f"{deliveries / seconds:,.0f} | {cpu / deliveries * 1e6:.1f} | {lag_ms}"


def _steady(valkey: Valkey, feed: Feed, first: int) -> int:
    """The greatest lag in ms under a steady load."""
    client: Any = valkey.client
    worst = 0
    for number in range(_STEADY_MESSAGES * _STEADY_SECONDS):
        began = time.monotonic()
        feed.send(first + number)
        feed.acks(first + number)
        worst = max(worst, int(client.hget("recado:journal", "lag_ms") or 0) if number > _STEADY_MESSAGES * 2 else 0)
        time.sleep(max(0.0, 1 / _STEADY_MESSAGES - (time.monotonic() - began)))
    return worst


@contextlib.contextmanager
def _writer(valkey: Valkey, folder: Path, url: str) -> Iterator[Child]:
    environment = {"REDIS_URL": valkey.url, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    os.environ.pop("SITE_NAME", None)
    writer = Child([sys.executable, "-m", "app", "journal"], folder / "writer.log", None, environment)
    try:
        writer.wait_for("journal begun", in_log=True)
        yield writer
    finally:
        writer.stop()


class Feed:
    """The entries that scripts would write. Lives for one measurement."""

    def __init__(self, valkey: Valkey) -> None:
        self._client: Any = valkey.client
        self._handles = [str(handle) for handle in range(1, _FAN_OUT + 1)]
        self._all = ",".join(self._handles)

    def devices(self) -> None:
        """Name the devices."""
        pipe = self._client.pipeline(transaction=False)
        for handle in self._handles:
            pipe.xadd(_STREAM, {"k": "device", "handle": handle, "user": f"user_{handle}", "device": "d", "at": 1})
        pipe.execute()

    def send(self, number: int) -> None:
        """A message to all devices."""
        now = int(time.time() * 1000)
        fields = {"k": "send", "seq": _FIRST_SEQ + number, "id": number + 1, "at": now, "event": "news", "size": 170}
        self._client.xadd(_STREAM, fields | {"rooms": json.dumps(["everyone"]), "opt": "", "to": self._all, "over": ""})

    def acks(self, number: int) -> None:
        """The acks of all devices, in runs."""
        now = int(time.time() * 1000)
        for start in range(0, _FAN_OUT, _ACKS_A_RUN):
            handles = ",".join(self._handles[start : start + _ACKS_A_RUN])
            self._client.xadd(_STREAM, {"k": "ack", "a": f"one {_FIRST_SEQ + number} {now} {now + 9} {handles}"})

    def waiting(self) -> int:
        """The entries that are not written."""
        return int(self._client.xlen(_STREAM))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
