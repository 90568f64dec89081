"""A model of a site's messages and their fates: random entries for its stream, and the rows that follow from them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.states import Fate, reason_number
from app.journal.tables import connections, deliveries, devices, message_rooms, messages
from tests.support.fates import FIRST_SEQ, FateStream, rows_of

_FATES = (("expired", "ttl"), ("replaced", "collapse"), ("settled", "settle"), ("withdrawn", "withdrawn"))


class FateModel:
    """The truth beside a stream. Lives as long as the test."""

    def __init__(self, stream: FateStream, chance: random.Random) -> None:
        """Begin without devices and messages."""
        self._stream = stream
        self._chance = chance
        #: (seq, user) -> (state, reason, written at, acked at)
        self.deliveries: dict[tuple[int, str], tuple[int, int, int | None, int | None]] = {}
        self.seqs: list[int] = []
        self.connections = 0
        self._handles = 0
        self._now = 1_000_000

    def step(self) -> None:
        """Write a random entry."""
        acts = [self._device, self._send, self._send, self._more, self._ack, self._ack, self._ack, self._written]
        acts += [self._fate, self._rows]
        if self._chance.random() < 0.02:
            acts = [self._lost]
        self._chance.choice(acts)()

    async def check(self, engine: AsyncEngine) -> None:
        """Compare everything with the database."""
        names = {row["id"]: row["user"] for row in await rows_of(engine, devices)}
        found = {
            (row["seq"], names[row["device_id"]]): (row["state"], row["reason"], row["written_at"], row["acked_at"])
            for row in await rows_of(engine, deliveries)
        }
        wrong = {key: (found.get(key), self.deliveries.get(key)) for key in found.keys() | self.deliveries.keys()}
        assert not (wrong := {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}), wrong
        sent = await rows_of(engine, messages)
        assert [row["seq"] for row in sent] == self.seqs
        counts = Counter((seq, state) for (seq, _), (state, *_) in self.deliveries.items())
        for row in sent:
            wanted = {state.column: counts[row["seq"], state] for state in Fate}
            assert {name: row[name] for name in wanted} == wanted, row
            assert row["addressed"] == sum(wanted.values())
        assert [row["seq"] for row in await rows_of(engine, message_rooms)] == self.seqs
        nodes = [row["node"] for row in await rows_of(engine, connections)]
        assert nodes == [f"n{number}" for number in range(1, self.connections + 1)]

    def _tick(self) -> int:
        self._now += self._chance.randrange(1, 50)
        return self._now

    def _some(self, most: int = 8) -> list[int]:
        known = range(1, self._handles + 1)
        return sorted(self._chance.sample(known, min(len(known), self._chance.randint(1, most))))

    def _device(self) -> None:
        self._handles += 1
        self._stream.device(self._handles)

    def _send(self) -> None:
        if not self._handles:
            self._device()
        seq = FIRST_SEQ + len(self.seqs) * 3
        to = self._some()
        over = [handle for handle in self._some(2) if handle not in to] if self._chance.random() < 0.1 else []
        self._stream.send(seq, to, over, at=self._tick())
        self.seqs.append(seq)
        self._wait(seq, to)
        for handle in over:
            self.deliveries[seq, f"user_{handle}"] = (Fate.RESYNCED, reason_number("queue full"), None, None)

    def _more(self) -> None:
        if self.seqs:
            seq = self._chance.choice(self.seqs[-3:])
            to = self._some()
            self._stream.more(seq, to)
            self._wait(seq, to)

    def _wait(self, seq: int, to: list[int]) -> None:
        for handle in to:
            self.deliveries.setdefault((seq, f"user_{handle}"), (Fate.WAITING, 0, None, None))

    def _open(self) -> dict[int, list[int]]:
        """Some deliveries by seq; a few have their final state already."""
        keys = [
            key for key, (state, *_) in self.deliveries.items() if state < Fate.ACKED or self._chance.random() < 0.05
        ]
        chosen: dict[int, list[int]] = {}
        for seq, user in self._chance.sample(keys, min(len(keys), self._chance.randint(1, 12))):
            chosen.setdefault(seq, []).append(int(user.removeprefix("user_")))
        return chosen

    def _end(
        self, seq: int, handle: int, state: Fate, reason: int = 0, written: int = 0, acked: int | None = None
    ) -> None:
        now = self.deliveries[seq, f"user_{handle}"]
        if now[0] < Fate.ACKED:
            self.deliveries[seq, f"user_{handle}"] = (state, reason, written or now[2], acked)

    def _ack(self) -> None:
        chosen = self._open()
        acked = self._tick()
        written = self._chance.choice((0, acked - 7))
        if chosen:
            self._stream.ack(*chosen.items(), written=written, acked=acked, kind=self._chance.choice(("one", "batch")))
        for seq, to in chosen.items():
            for handle in to:
                self._end(seq, handle, Fate.ACKED, 0, written, acked)

    def _written(self) -> None:
        for seq, to in list(self._open().items())[:1]:
            at = self._tick()
            self._stream.written(seq, to, at)
            for handle in to:
                if self.deliveries[seq, f"user_{handle}"][0] < Fate.ACKED:
                    self.deliveries[seq, f"user_{handle}"] = (Fate.WRITTEN, 0, at, None)

    def _fate(self) -> None:
        chosen = self._open()
        word, reason = self._chance.choice(_FATES)
        if chosen:
            self._stream.fate(word, reason, *chosen.items(), at=self._tick())
        for seq, to in chosen.items():
            for handle in to:
                self._end(seq, handle, Fate[word.upper()], reason_number(reason))

    def _lost(self) -> None:
        if len(self.seqs) > 3:
            low, high = self.seqs[-3], self.seqs[-1] + 1
            self._stream.add("lost", **{"from": low, "to": high, "at": self._tick()})
            for seq, user in list(self.deliveries):
                if low < seq < high:
                    self._end(seq, int(user.removeprefix("user_")), Fate.RESYNCED, reason_number("redis lost data"))

    def _rows(self) -> None:
        rows: list[dict[str, Any]] = []
        for _ in range(self._chance.randint(1, 3)):
            self.connections += 1
            rows.append({"user": "user_1", "node": f"n{self.connections}", "disconnected_at": self._tick()})
        self._stream.rows("connections", *rows)
