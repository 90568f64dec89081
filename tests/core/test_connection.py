"""The order in which one connection gets its messages: live, held, in batches, after a gap, never behind its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.core import catch_up
from app.core.connection import Connection, ConnectionPhase
from app.core.message import LiveMessage, Waiting
from app.core.written import Batch
from tests.support.store import RecordingReceiver, make_site

SITE = make_site()
A, B = b"1", b"2"
NOTHING = Waiting([], False)


def live(seq: int) -> LiveMessage:
    """A message from the bus."""
    return LiveMessage(seq, str(seq), body(seq))


def body(seq: int) -> bytes:
    """The body of the message with this seq."""
    return f'["e",{seq}]'.encode()


def waiting(*seqs: int, has_more: bool = False) -> Waiting:
    """A part of a queue."""
    return Waiting([(seq, body(seq)) for seq in seqs], has_more)


class Acks:
    """Notes acks as (seqs, handle); batches as lists. Lives for one test."""

    def __init__(self) -> None:
        self.noted: list[tuple[int | list[int], bytes]] = []

    def add(self, seq: int, handle: bytes) -> None:
        """Note it."""
        self.noted.append((seq, handle))

    def add_batch(self, seqs: list[int], handle: bytes, written_ms: int) -> None:
        """Note it."""
        self.noted.append((seqs, handle))

    def note_written(self, batch: Batch) -> None:
        """Ignore it."""


def joining(receiver: RecordingReceiver, acks: Acks | None = None) -> Connection:
    """A connection that is not registered yet. When it wants the next part of its queue, the receiver notes it."""
    return Connection(SITE, 1, receiver, acks or Acks(), lambda connection: receiver.written.append(("next part",)))


def fetching(*handles: bytes, acks: Acks | None = None) -> tuple[Connection, RecordingReceiver]:
    """A connection that has just been registered for these devices."""
    receiver = RecordingReceiver()
    connection = joining(receiver, acks)
    connection.handles = handles or (A,)
    connection.fetch()
    return connection, receiver


def test_joining_connection_writes_nothing() -> None:
    """Before it is registered a connection gets no live message: the message comes with the queue."""
    receiver = RecordingReceiver()
    connection = joining(receiver)
    connection.deliver(live(5))
    assert (connection.phase, receiver.written) == (ConnectionPhase.JOINING, [])


def test_empty_queue_goes_live_with_what_was_held() -> None:
    """Messages behind the registration follow in order; messages that it covers are not written."""
    connection, receiver = fetching()
    for seq in (9, 10, 11, 12):
        connection.deliver(live(seq))
    connection.begin(10, [(A, NOTHING)])
    connection.deliver(live(13))
    assert (connection.phase, receiver.seqs, receiver.batches) == (ConnectionPhase.LIVE, [11, 12, 13], [])


def test_what_a_connection_has_written_is_counted() -> None:
    """Messages count live, held and in batches; those of batches are the replay. The time until it is live is known
    once it is live, and does not change behind a gap."""
    connection, _ = fetching()
    connection.deliver(live(9))
    assert connection.sync_ms < 0
    connection.begin(8, [(A, waiting(5, 6, 7))])
    connection.deliver(live(10))
    assert (connection.messages, connection.replay) == (5, 3)
    assert 0 <= connection.sync_ms < 60_000
    connection.sync_ms = 12
    connection.fetch()
    connection.refill(11, [waiting(11)])
    assert (connection.messages, connection.replay, connection.sync_ms) == (6, 3, 12)


def test_batch_comes_before_held_messages() -> None:
    """The queue goes out as one batch; messages that were published after the registration follow."""
    connection, receiver = fetching()
    connection.deliver(live(11))
    connection.begin(10, [(A, waiting(3, 7))])
    assert receiver.kinds == ["batch", "event"]
    assert receiver.bodies == [body(3), body(7), body(11)]


def test_live_message_is_written_once() -> None:
    """A message that comes twice, for two user rooms of one connection, is written once."""
    connection, receiver = fetching()
    connection.begin(0, [(A, NOTHING)])
    for seq in (4, 4, 3, 5):
        connection.deliver(live(seq))
    assert receiver.seqs == [4, 5]


def test_message_is_encoded_once_for_all_connections() -> None:
    """Connections with receivers of one class share one encoded message."""
    made: list[int] = []

    class Counting(RecordingReceiver):
        def encode(self, message: LiveMessage) -> tuple[int, bytes]:
            made.append(message.seq)
            return super().encode(message)

    class Other(Counting):
        pass

    receivers = [Counting(), Counting(), Other()]
    message = live(1)
    for receiver in receivers:
        connection = joining(receiver)
        connection.go_live(0)
        connection.deliver(message)
    assert made == [1, 1]
    assert [receiver.seqs for receiver in receivers] == [[1], [1], [1]]


def test_replay_in_parts_leaves_live_messages_to_the_queue() -> None:
    """No live message overtakes a part of the queue that is still to come: live messages wait in the queue."""
    connection, receiver = fetching()
    connection.begin(10, [(A, waiting(1, 2, has_more=True))])
    connection.deliver(live(11))
    assert (connection.phase, receiver.seqs) == (ConnectionPhase.REPLAYING, [])
    connection.fetch()
    assert connection.fetch_from() == [(A, 2)]
    connection.deliver(live(12))
    connection.continue_replay(11, [(A, waiting(3, 11))])
    assert connection.phase is ConnectionPhase.LIVE
    assert receiver.bodies == [body(1), body(2), body(3), body(11), body(12)]


def test_replay_of_two_devices_asks_for_each_behind_its_own_part() -> None:
    """Each user room of a connection has its own queue and batch; the connection waits for the longest queue."""
    connection, receiver = fetching(A, B)
    connection.begin(10, [(A, waiting(1, 2, has_more=True)), (B, waiting(2))])
    assert receiver.batches == [(1, [body(1), body(2)]), (2, [body(2)])]
    connection.fetch()
    assert connection.fetch_from() == [(A, 2), (B, 2)]
    connection.continue_replay(12, [(A, waiting(3)), (B, waiting(11))])
    assert connection.phase is ConnectionPhase.LIVE
    assert [bodies for _, bodies in receiver.batches[2:]] == [[body(3)], [body(11)]]


def test_ack_of_a_message_counts_for_each_device() -> None:
    """A message in the queues of both devices of a connection leaves both."""
    acks = Acks()
    connection, _ = fetching(A, B, acks=acks)
    connection.begin(0, [(A, NOTHING), (B, NOTHING)])
    connection.receive_ack(5)
    assert acks.noted == [(5, A), (5, B)]


def test_batch_is_taken_once_and_only_by_its_id() -> None:
    """The ack of a batch names exactly its messages, once; any other ack is that of a message."""
    acks = Acks()
    connection, receiver = fetching(acks=acks)
    connection.receive_ack(1)
    assert acks.noted.pop() == (1, A)
    connection.begin(10, [(A, waiting(3, 7))])
    connection.receive_ack(3)
    assert acks.noted.pop() == (3, A)
    connection.receive_ack(1)
    assert acks.noted.pop() == ([3, 7], A)
    connection.receive_ack(1)
    assert acks.noted == [(1, A)]
    assert receiver.kinds == ["batch"]


def test_ack_of_a_batch_asks_for_the_next_part_once() -> None:
    """While the next part is on its way, the ack of another batch that has more asks for nothing."""
    connection, receiver = fetching(A, B)
    connection.begin(10, [(A, waiting(1, has_more=True)), (B, waiting(2, has_more=True))])
    connection.receive_ack(1)
    connection.receive_ack(2)
    assert (receiver.kinds, connection.phase) == (["batch", "batch", "next part"], ConnectionPhase.FETCHING)


def test_refill_writes_what_a_gap_hid_in_order_and_once() -> None:
    """After a gap written messages are skipped; the hidden messages follow in order, then the held ones."""
    connection, receiver = fetching()
    connection.begin(10, [(A, NOTHING)])
    connection.deliver(live(11))
    connection.fetch()
    connection.deliver(live(15))
    connection.deliver(live(16))
    assert connection.fetch_from() == [(A, 11)]
    assert not connection.is_replaying_batches
    assert connection.refill(15, [waiting(11, 12, 14, 15)])
    assert receiver.seqs == [11, 12, 14, 15, 16]


def test_refill_of_two_devices_merges_their_queues() -> None:
    """The order of acceptance holds across the devices of a connection; a message in both queues is written once."""
    connection, receiver = fetching(A, B)
    connection.begin(0, [(A, NOTHING), (B, NOTHING)])
    connection.fetch()
    assert connection.refill(9, [waiting(2, 5, 9), waiting(3, 5, 7)])
    assert receiver.seqs == [2, 3, 5, 7, 9]


def test_refill_in_parts_never_overtakes() -> None:
    """Where the answer for one queue was cut off, later messages of the other queue wait for the next round."""
    connection, receiver = fetching(A, B)
    connection.begin(0, [(A, NOTHING), (B, NOTHING)])
    connection.fetch()
    assert not connection.refill(9, [waiting(2, 4, has_more=True), waiting(3, 8)])
    assert (receiver.seqs, connection.phase) == ([2, 3, 4], ConnectionPhase.FETCHING)
    assert connection.fetch_from() == [(A, 4), (B, 4)]
    assert connection.refill(9, [waiting(5, 6), waiting(8)])
    assert receiver.seqs == [2, 3, 4, 5, 6, 8]


def test_closed_connection_writes_nothing() -> None:
    """After its end a connection writes nothing, and no batch can be acknowledged."""
    acks = Acks()
    connection, receiver = fetching(acks=acks)
    connection.begin(10, [(A, waiting(3))])
    connection.close()
    connection.deliver(live(11))
    connection.receive_ack(1)
    assert acks.noted == [(1, A)]
    connection.fetch()
    assert (receiver.kinds, connection.phase) == (["batch"], ConnectionPhase.CLOSED)


def test_too_much_while_the_store_is_asked_is_left_to_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound no held message is written: the store is to be asked again, and its answer has all of them."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 2)
    connection, receiver = fetching()
    for seq in (11, 12, 13, 14):
        connection.deliver(live(seq))
    connection.begin(10, [(A, waiting(3))])
    assert (receiver.bodies, connection.phase, connection.epoch) == ([body(3)], ConnectionPhase.LIVE, -1)
    connection.fetch()
    connection.deliver(live(15))
    assert connection.fetch_from() == [(A, 10)]
    assert connection.refill(14, [waiting(11, 12, 13, 14)])
    assert receiver.bodies == [body(seq) for seq in (3, 11, 12, 13, 14, 15)]


def test_message_behind_a_gap_does_not_overtake_the_missing_ones() -> None:
    """The bus loses messages while the store is asked: a later one is not written before those of the next answer."""
    connection, receiver = fetching()
    connection.begin(10, [(A, NOTHING)])
    connection.fetch()
    connection.deliver(live(12))
    connection.miss()
    connection.deliver(live(15))
    assert connection.refill(11, [waiting(11)])
    assert (receiver.seqs, connection.epoch) == ([11], -1)
    connection.fetch()
    assert connection.refill(15, [waiting(11, 12, 13, 14, 15)])
    assert receiver.seqs == [11, 12, 13, 14, 15]


ENDS: list[Callable[[Connection], Any]] = [
    lambda connection: connection.begin(10, [(A, waiting(1)), (B, waiting(2))]),
    lambda connection: connection.begin(10, [(A, waiting(1, has_more=True)), (B, waiting(2, has_more=True))]),
    lambda connection: connection.begin(5, [(A, NOTHING), (B, NOTHING)]),
]


@pytest.mark.parametrize("begin", ENDS)
def test_client_that_goes_while_it_is_begun_stays_gone(begin: Callable[[Connection], Any]) -> None:
    """The first write may close a connection (its outbox is full): nothing follows, and it stays closed."""
    connection, receiver = fetching(A, B)
    connection.deliver(live(11))
    connection.deliver(live(12))
    receiver.on_write = lambda what: connection.close()
    begin(connection)
    assert connection.phase is ConnectionPhase.CLOSED
    assert len(receiver.written) == 1


def test_client_that_goes_while_it_is_refilled_stays_gone() -> None:
    """A write in the middle of a refill may close a connection: nothing follows, and it stays closed."""
    connection, receiver = fetching()
    connection.begin(0, [(A, NOTHING)])
    connection.fetch()
    receiver.on_write = lambda what: connection.close()
    connection.refill(9, [waiting(2, 5, 9)])
    assert (connection.phase, receiver.seqs) == (ConnectionPhase.CLOSED, [2])
