"""The comparison of three accounts of the same messages: those of the journal, of the queues, and of the devices."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from app.journal.database import open_database
from app.journal.states import Fate, reason_text
from app.journal.tables import deliveries, devices, messages
from app.store.keys import prefix
from tests.support.landing import land
from tests.support.option_publisher import AcceptedSend, OptionPublisher
from tests.support.valkey import Valkey
from tests.support.witness import REACHES_WITHIN_SECONDS, Downtime, Witness

#: The states of a message that is still in its queue.
_UNFINISHED = (Fate.WAITING, Fate.WRITTEN)

Name = tuple[str, str]
"""User room and device id."""


class JournalMessage(NamedTuple):
    """The row of a message."""

    seq: int
    id: int
    addressed: int
    options: Mapping[str, Any]
    counts: Mapping[Fate, int]


class JournalDelivery(NamedTuple):
    """The row of a delivery."""

    seq: int
    device: Name
    state: Fate
    reason: str
    ended_at: float
    written_at: float


class JournalRows(NamedTuple):
    """The messages and deliveries of the journal."""

    messages: Sequence[JournalMessage]
    deliveries: Sequence[JournalDelivery]


async def read_journal(url: str) -> JournalRows:
    """All messages and deliveries of a database with one site."""
    engine = open_database(url)
    counters = [messages.c[state.column] for state in Fate]
    of_message = select(messages.c.seq, messages.c.id, messages.c.addressed, messages.c.options, *counters).order_by(
        messages.c.seq
    )
    columns = [deliveries.c[name] for name in ("seq", "state", "reason", "ended_at", "written_at")]
    of_delivery = select(devices.c.user, devices.c.device, *columns).join(
        devices, devices.c.id == deliveries.c.device_id
    )
    async with engine.connect() as sql:
        sent = [
            JournalMessage(seq, id, addressed, json.loads(options or "{}"), dict(zip(Fate, counts, strict=True)))
            for seq, id, addressed, options, *counts in await sql.execute(of_message)
        ]
        ends = [
            JournalDelivery(
                seq, (user, device), Fate(state), reason_text(reason), (ended or 0) / 1000, (written_at or 0) / 1000
            )
            for user, device, seq, state, reason, ended, written_at in await sql.execute(of_delivery)
        ]
    await engine.dispose()
    return JournalRows(sent, ends)


def queues_of(valkey: Valkey, site: str) -> dict[Name, list[int]]:
    """The seqs in the queue of each device."""
    client: Any = valkey.client
    start = prefix(site)
    land(client, site)
    found = {}
    for handle in client.hvals(start + "devices"):
        user, device = client.hmget(f"{start}device:{handle.decode()}", "user", "device")
        waiting = client.lrange(f"{start}queue:{handle.decode()}", 0, -1)
        found[user.decode(), json.loads(device) if device[:1] == b'"' else device.decode()] = [int(s) for s in waiting]
    return found


class FateProof:
    """Compares once, when nothing moves any more. Faults are sentences."""

    def __init__(
        self,
        journal: JournalRows,
        queues: Mapping[Name, Sequence[int]],
        witnesses: Sequence[Witness],
        publisher: OptionPublisher,
        downtimes: Sequence[Downtime],
    ) -> None:
        """`downtimes` are those of Redis."""
        self._journal = journal
        self._queues = queues
        self._publisher = publisher
        self._witnesses = {(one.room, one.identity.device): one for one in witnesses}
        self._certain = {name: one.certain_acks(downtimes) for name, one in self._witnesses.items()}
        self._tried = {
            name: {number for ack in one.acks for number in ack.numbers} for name, one in self._witnesses.items()
        }
        seqs = {message.id: message.seq for message in journal.messages}
        self._by_seq = {seqs[sent.id]: sent for sent in publisher.accepted.values() if sent.id in seqs}
        options = {message.seq: message.options for message in journal.messages}
        #: (device, key of collapse) -> the newest seq with that key.
        self._newest: dict[tuple[Name, str], int] = defaultdict(int)
        #: (seq, user) whose message a device has acknowledged.
        self._acked_by: set[tuple[int, str]] = set()
        for one in journal.deliveries:
            # Of the journal: a message whose answer was lost on its way replaces older ones, too.
            if key := options[one.seq].get("collapse"):
                self._newest[one.device, key] = max(self._newest[one.device, key], one.seq)
            if one.state is Fate.ACKED:
                self._acked_by.add((one.seq, one.device[0]))

    def contradictions(self) -> list[str]:
        """Everything in which the accounts differ."""
        return [*self._of_messages(), *self._of_queues(), *self._of_deliveries()]

    def story(self) -> str:
        """The figures of the comparison."""
        states = Counter(f"{one.state.word} {one.reason}".strip() for one in self._journal.deliveries)
        acks = sum(map(len, self._certain.values()))
        told = [self._was_told(one) for one in self._journal.deliveries if self._is_to_tell(one)]
        publisher = self._publisher
        return (
            f"{len(self._journal.deliveries)} deliveries of {len(self._journal.messages)} messages: {dict(states)}; "
            f"{acks} certain acks; {sum(told)} of {len(told)} withdrawals told; {len(publisher.accepted)} accepted, "
            f"{len(publisher.refused)} refused, {len(publisher.unknown)} without an answer"
        )

    def _is_to_tell(self, one: JournalDelivery) -> bool:
        """Whether a device that is here has a message without an ack that was withdrawn from it."""
        witness, sent = self._witnesses[one.device], self._by_seq.get(one.seq)
        if one.state not in (Fate.WITHDRAWN, Fate.SETTLED) or sent is None or not witness.returns:
            return False
        return sent.number in witness.received and sent.number not in self._tried[one.device]

    def _was_told(self, one: JournalDelivery) -> bool:
        return str(self._by_seq[one.seq].id) in self._witnesses[one.device].withdrawn

    def _of_messages(self) -> Iterator[str]:
        known = {message.id for message in self._journal.messages}
        for sent in self._publisher.accepted.values():
            if sent.id not in known:
                yield f"{sent} is not in the journal"
        counts = Counter((one.seq, one.state) for one in self._journal.deliveries)
        for message in self._journal.messages:
            found = {state: counts[message.seq, state] for state in Fate}
            if message.counts != found or message.addressed != sum(found.values()):
                yield f"{message} counts otherwise than its deliveries: {found}"
            sent_as = self._by_seq.get(message.seq)
            if sent_as and sent_as.answer["recipients"] != message.addressed:
                yield f"{message} has other recipients than its answer {sent_as.answer}"
            if sent_as and sent_as.wish.options != message.options:
                yield f"{message} has other options than its request {sent_as.wish.options}"

    def _of_queues(self) -> Iterator[str]:
        waiting = {(one.seq, one.device) for one in self._journal.deliveries if one.state in _UNFINISHED}
        queued = {(seq, name) for name, seqs in self._queues.items() for seq in seqs}
        yield from (f"{one} waits in the journal, and is in no queue" for one in waiting - queued)
        yield from (f"{one} is in a queue, and does not wait in the journal" for one in queued - waiting)

    def _of_deliveries(self) -> Iterator[str]:
        for one in self._journal.deliveries:
            sent = self._by_seq.get(one.seq)
            if sent and (fault := self._fault_of(one, sent)):
                yield f"{one}, number {sent.number} with {dict(sent.wish.options)}: {fault}"

    def _fault_of(self, one: JournalDelivery, sent: AcceptedSend) -> str:
        witness, options = self._witnesses[one.device], sent.wish.options
        certain_at = self._certain[one.device].get(sent.number)
        if one.state is Fate.ACKED:
            if sent.number not in witness.received:
                return "the device has never got it"
            return "" if sent.number in self._tried[one.device] else "the device has never acknowledged it"
        if certain_at is not None and (one.state in _UNFINISHED or one.ended_at > certain_at + REACHES_WITHIN_SECONDS):
            return f"the device has acknowledged it before, at {certain_at}"
        if one.state is Fate.WRITTEN and sent.number not in witness.received and not witness.ended_near(one.written_at):
            return "it is written, and the device has never got it"
        if one.state is Fate.EXPIRED and one.ended_at < sent.began_at + options.get("ttl", 1e9):
            return "it has expired too early"
        if one.state is Fate.REPLACED and self._newest[one.device, options.get("collapse", "")] <= one.seq:
            return "no newer one has its key"
        if one.state is Fate.SETTLED and not (
            options.get("settle") == "user" and (one.seq, one.device[0]) in self._acked_by
        ):
            return "no device of the user has acknowledged it"
        if one.state is Fate.WITHDRAWN and sent.number not in self._publisher.withdrawals:
            return "nobody has withdrawn it"
        if one.state is Fate.RESYNCED and witness.receipts.resyncs == 0 and witness.returns:
            return "the device was never told to resync"
        return ""
