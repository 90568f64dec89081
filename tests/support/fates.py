"""Entries of a site's stream in the form in which scripts write them, and a writer of the journal in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.streams import Streams, stream_of
from app.journal.writer import JournalWriter
from app.redis.client import Redis
from tests.support.valkey import Valkey

SITE = "shop"
#: The first seq of the tests' messages.
FIRST_SEQ = 3_000_000_000


class FateStream:
    """The stream of a site, written by hand. Lives as long as the test."""

    def __init__(self, valkey: Valkey | SimpleNamespace, site: str = SITE) -> None:
        """Write to the stream of this site."""
        self._client: Any = valkey.client
        self.site = site
        self.key = stream_of(site)
        #: Bounds the stream as the scripts do.
        self.backlog = 0
        #: The id of an entry; a test moves the clock by it.
        self.id = "*"

    def add(self, kind: str, **fields: object) -> str:
        """Add one entry; return its id."""
        words = {"k": kind, **{name: _text(value) for name, value in fields.items()}}
        bound = {"maxlen": self.backlog, "approximate": False} if self.backlog else {}
        return str(self._client.xadd(self.key, words, id=self.id, **bound).decode())

    def device(self, handle: int, user: str = "", device: str = "d") -> None:
        """A handle was given to a device."""
        self.add("device", handle=handle, user=user or f"user_{handle}", device=device, at=1)

    def send(self, seq: int, to: Sequence[int] = (), over: Sequence[int] = (), **fields: object) -> None:
        """A message was accepted."""
        given: dict[str, object] = {"seq": seq, "id": seq + 7, "at": 1_000 + seq, "event": "news", "size": 12}
        given |= {"rooms": ["room"], "opt": "", "to": handles(to), "over": handles(over)}
        self.add("send", **(given | fields))

    def more(self, seq: int, to: Sequence[int] = (), over: Sequence[int] = ()) -> None:
        """Further recipients of a message."""
        self.add("more", seq=seq, to=handles(to), over=handles(over))

    def ack(self, *lines: tuple[int, Sequence[int]], written: int = 0, acked: int = 5_000, kind: str = "one") -> None:
        """Devices have acknowledged messages: (seq, handles)."""
        self.add("ack", a="\n".join(f"{kind} {seq} {written} {acked} {handles(to)}" for seq, to in lines))

    def written(self, seq: int, to: Sequence[int], written: int = 4_000) -> None:
        """A message is on the wire without an ack."""
        self.add("written", w=f"{seq} {written} {handles(to)}")

    def fate(self, state: str, reason: str, *lines: tuple[int, Sequence[int]], at: int = 9_000) -> None:
        """Messages have left queues without an ack."""
        self.add("fate", state=state, reason=reason, at=at, d="\n".join(f"{seq} {handles(to)}" for seq, to in lines))

    def rows(self, table: str, *rows: dict[str, object]) -> None:
        """Rows of a node."""
        self.add("rows", table=table, rows=rows)

    @property
    def length(self) -> int:
        """The entries in the stream."""
        return int(self._client.xlen(self.key))


def handles(of: Sequence[int]) -> str:
    """Handles as an entry has them."""
    return ",".join(map(str, of))


def new_writer(redis: Redis, engine: AsyncEngine, *sites: str) -> JournalWriter:
    """A writer in this process; it is not started."""
    return JournalWriter(redis, engine, Streams(redis, sites or (SITE,)))


async def write_all(writer: JournalWriter) -> None:
    """Have a writer write what is in the streams."""
    writer.stop()
    await writer.run()


async def rows_of(engine: AsyncEngine, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, in order of its key."""
    key = list(table.primary_key.columns)
    async with engine.connect() as sql:
        return [dict(row._mapping) for row in await sql.execute(select(table).order_by(*key))]


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict | tuple) else str(value)
