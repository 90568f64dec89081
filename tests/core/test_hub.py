"""The connections of a node: look-ups by device and room, messages kept during a registration, counters."""

from __future__ import annotations

from contextlib import ExitStack
from typing import cast
from unittest.mock import Mock

import pytest

from app.core import catch_up
from app.core.connection import AckCollector, Connection, ConnectionPhase
from app.core.hub import REMEMBERED_MS, Departed, SiteConnections
from app.core.message import LiveMessage, Waiting
from tests.support.store import RecordingReceiver, make_site

SITE = make_site()
PLAIN = make_site("plain", user_room_prefix=None)
A, B = b"1", b"2"
NOTHING = Waiting([], False)


def joining(receiver: RecordingReceiver) -> Connection:
    """A connection that is not registered yet; no test here acknowledges anything."""
    return Connection(SITE, 1, receiver, cast(AckCollector, Mock()), lambda connection: None)


class Place:
    """The connections of a site, and those of them that were to be told `_resync`. Lives for one test."""

    def __init__(self) -> None:
        self.resynced: list[Connection] = []
        self.connections = SiteConnections(SITE, lambda connection, seq: self.resynced.append(connection))

    def connection(self, *handles: bytes) -> tuple[Connection, RecordingReceiver]:
        """A connection whose registration was answered, and that is to be added."""
        receiver = RecordingReceiver()
        connection = joining(receiver)
        connection.handles = handles
        connection.fetch()
        return connection, receiver

    def live(self, *handles: bytes) -> tuple[Connection, RecordingReceiver]:
        """A connection that is added and live."""
        connection, receiver = self.connection(*handles)
        self.connections.add(connection)
        connection.go_live(0)
        return connection, receiver

    def tell(self, seq: int, *handles: bytes, resync: tuple[bytes, ...] = ()) -> None:
        """A message from the bus."""
        self.connections.deliver(LiveMessage(seq, "", b"", handles, resync))


def test_message_reaches_the_addressed_devices_alone() -> None:
    """Every connection of an addressed device gets the message, no other does."""
    place = Place()
    (_, first), (_, second), (_, other) = place.live(A), place.live(A), place.live(B)
    place.tell(1, A, b"77")
    place.tell(2, B)
    assert (first.seqs, second.seqs, other.seqs) == ([1], [1], [2])


class CountingReceiver(RecordingReceiver):
    """One that counts what it encodes. Lives as long as its connection."""

    encoded = 0

    def encode(self, message: LiveMessage) -> tuple[int, bytes]:
        """The same."""
        type(self).encoded += 1
        return super().encode(message)


class OtherReceiver(CountingReceiver):
    """One of another class, which counts by itself."""

    encoded = 0


def test_message_is_encoded_once_for_a_class_of_receivers() -> None:
    """Receivers of one class share an encoding, receivers of another class have their own."""
    place = Place()
    receivers = [CountingReceiver(), OtherReceiver(), CountingReceiver(), OtherReceiver()]
    for handle, receiver in zip((A, A, B, B), receivers, strict=True):
        connection, _ = place.live(handle)
        connection.receiver = receiver
    for seq in (1, 2):
        place.tell(seq, A, B)
    assert [receiver.seqs for receiver in receivers] == [[1, 2]] * 4
    assert (CountingReceiver.encoded, OtherReceiver.encoded) == (2, 2)
    assert [connection.messages for connection in place.connections] == [2] * 4


def test_connection_that_fetches_holds_what_others_get() -> None:
    """A message is held for a connection whose queue is being read, also when it is encoded for another one already."""
    place = Place()
    (_, live), (fetching, late) = place.live(A), place.connection(A)
    place.connections.add(fetching)
    place.tell(1, A)
    assert (live.seqs, late.seqs) == ([1], [])
    fetching.go_live(0)
    assert late.seqs == [1]


def test_connection_of_two_devices_gets_a_message_once() -> None:
    """A user in two user rooms gets one copy over one connection."""
    place = Place()
    _, receiver = place.live(A, B)
    place.tell(1, A, B)
    assert receiver.seqs == [1]


def test_removed_connection_leaves_the_others() -> None:
    """One connection of a device ends and the other stays; after the last one the device is unknown here."""
    place = Place()
    (gone, first), (last, second) = place.live(A, B), place.live(A)
    assert place.connections.connections_of(A) == (gone, last)
    place.connections.remove(gone)
    place.connections.remove(gone)
    place.tell(1, A, B)
    assert (first.seqs, second.seqs) == ([], [1])
    place.connections.remove(last)
    assert place.connections.connections_of(A) == ()
    assert list(place.connections) == []


def test_message_behind_a_departure_is_not_written() -> None:
    """A message that was written before its device left counts as written, a later one does not."""
    place = Place()
    leaving, _ = place.live(A)
    place.tell(1, A)
    place.connections.remove(leaving)
    place.tell(2, A)
    assert [place.connections.has_written(A, seq) for seq in (1, 2)] == [True, False]
    place.live(A)
    assert [place.connections.has_written(A, seq) for seq in (1, 2)] == [True, False]


def test_departed_devices_are_forgotten() -> None:
    """A device that left a while ago is forgotten when another one leaves."""
    departed = Departed()
    departed.note(A, 5, 1_000)
    departed.note(A, 3, 1_001)
    assert departed.had(A, 5)
    departed.note(B, 7, 1_002 + REMEMBERED_MS)
    assert [departed.had(A, 5), departed.had(B, 7), departed.had(B, 8)] == [False, True, False]


def test_each_connection_is_listed_once() -> None:
    """A connection of several devices is one connection."""
    place = Place()
    (first, _), (second, _) = place.live(A, B), place.live(B)
    assert list(place.connections) == [first, second]


def test_message_faster_than_the_registration_is_kept() -> None:
    """The bus may bring a message before the store's answer: the connection gets it behind what the answer covers."""
    place = Place()
    with place.connections.strays.kept():
        place.tell(5, A)
        place.tell(6, A)
        place.tell(7, B)
        connection, receiver = place.connection(A)
        place.connections.add(connection)
    connection.begin(5, [(A, NOTHING)])
    assert receiver.seqs == [6]


def test_second_connection_of_a_device_misses_nothing() -> None:
    """Messages are kept also for a device with a connection here: that one may be dead without anyone knowing."""
    place = Place()
    place.live(A)
    with place.connections.strays.kept():
        place.tell(5, A)
        connection, receiver = place.connection(A)
        place.connections.add(connection)
    connection.begin(4, [(A, NOTHING)])
    assert receiver.seqs == [5]


def test_dropped_queue_faster_than_the_registration_is_told() -> None:
    """A queue that ran over while its device was being registered calls for a `_resync`, like any other."""
    place = Place()
    with place.connections.strays.kept():
        place.tell(5, resync=(A,))
        place.tell(6, A)
        assert place.connections.add(place.connection(A)[0])
        assert not place.connections.add(place.connection(B)[0])


def test_message_is_kept_no_longer_than_registrations_need_it() -> None:
    """A message from before a registration is not kept for it, however they overlap; without one none is kept."""
    place = Place()
    strays = place.connections.strays
    place.tell(1, A)
    assert list(strays) == []
    with ExitStack() as later:
        with strays.kept():
            place.tell(2, A)
            later.enter_context(strays.kept())
            place.tell(3, A)
            assert [message.seq for message in strays] == [2, 3]
        assert [message.seq for message in strays] == [3]
        with strays.kept():
            place.tell(4, A)
        assert [message.seq for message in strays] == [3, 4]
    assert list(strays) == []


@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
def test_too_much_during_a_registration_is_a_gap_of_those_under_way(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Past the bound nothing is kept for the registrations under way; a later one misses nothing, and the connections
    that are registered need no other answer of the store."""
    monkeypatch.setattr(catch_up, bound, 3)
    place = Place()
    strays = place.connections.strays
    with strays.kept() as first, strays.kept() as second:
        for seq in range(1, 5):
            place.connections.deliver(LiveMessage(seq, "", b"x", [A]))
        assert list(strays) == []
        with strays.kept() as third:
            place.tell(5, A)
            assert [message.seq for message in strays] == [5]
        assert (first.has_gap, second.has_gap, third.has_gap) == (True, True, False)
        assert place.connections.epoch == 0
    assert list(strays) == []


def test_gap_on_the_bus_is_one_of_the_registrations_under_way() -> None:
    """A message behind the gap is not written to them before the missing ones."""
    place = Place()
    with place.connections.strays.kept() as registration:
        place.tell(5, A)
        place.connections.miss()
        assert registration.has_gap
        assert list(place.connections.strays) == []
    assert place.connections.epoch == 1


def test_dropped_queue_is_told_to_every_connection() -> None:
    """All connections of a device whose queue ran over are to be told `_resync`."""
    place = Place()
    (first, _), (second, _), _ = place.live(A), place.live(A), place.live(B)
    place.tell(1, resync=(A, b"77"))
    assert place.resynced == [first, second]


def test_client_that_goes_while_it_is_written_to() -> None:
    """A write may close one connection of a device: its other connections get the message all the same."""
    place = Place()
    (gone, first), (_, second) = place.live(A), place.live(A)

    def go(what: object) -> None:
        gone.close()
        place.connections.remove(gone)

    first.on_write = go
    place.tell(1, A)
    place.tell(2, A)
    assert (first.seqs, second.seqs) == ([1], [1, 2])


def test_counter_shows_a_gap() -> None:
    """The first counter may be any number; then each counter is one more, or a message is missing."""
    connections = SiteConnections(SITE, lambda connection, seq: None)
    assert [connections.count(counter) for counter in (7, 8, 9, 11, 12, 1, 2)] == [
        True,
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    connections.forget_counter()
    assert connections.count(40)
    assert not connections.count(40)


def enter(connections: SiteConnections, *rooms: str) -> tuple[Connection, RecordingReceiver]:
    """A live connection in these rooms."""
    receiver = RecordingReceiver()
    connection = joining(receiver)
    connection.rooms = rooms
    connections.enter_rooms(connection)
    connection.go_live(0)
    return connection, receiver


def test_rooms_of_a_site_without_queues() -> None:
    """A message goes once to each connection in any of its rooms, and to nobody else."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    _, both = enter(connections, "a", "b")
    _, one = enter(connections, "b")
    _, none = enter(connections, "c", "A")
    connections.deliver(LiveMessage(1, "", b"", rooms=["a", "b", "x"]))
    connections.deliver(LiveMessage(2, "", b"", rooms=["a"]))
    connections.deliver(LiveMessage(3, "", b"", rooms=[]))
    assert (both.seqs, one.seqs, none.seqs) == ([1, 2], [1], [])


def test_rooms_are_deserted_by_the_last() -> None:
    """Leaving answers the rooms that have no connection on this node any more."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    first, _ = enter(connections, "a", "b")
    second, receiver = enter(connections, "b", "c")
    assert sorted(connections.rooms) == ["a", "b", "c"]
    assert connections.leave_rooms(first) == ["a"]
    assert connections.leave_rooms(first) == []
    connections.deliver(LiveMessage(1, "", b"", rooms=["a", "b"]))
    assert receiver.seqs == [1]
    assert connections.leave_rooms(second) == ["b", "c"]
    assert list(connections.rooms) == []


def test_room_is_not_heard_before_the_connection_is_live() -> None:
    """While a connection joins its rooms nothing is written to it: it has not been greeted."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    receiver = RecordingReceiver()
    connection = joining(receiver)
    connection.rooms = ("a",)
    connections.enter_rooms(connection)
    connections.deliver(LiveMessage(1, "", b"", rooms=["a"]))
    assert (connection.phase, receiver.written) == (ConnectionPhase.JOINING, [])


def test_member_that_goes_while_the_room_is_written_to() -> None:
    """A write may close one member of a room: the other members get the message."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    gone, first = enter(connections, "a")
    _, second = enter(connections, "a")

    def go(what: object) -> None:
        gone.close()
        connections.leave_rooms(gone)

    first.on_write = go
    connections.deliver(LiveMessage(1, "", b"", rooms=["a"]))
    connections.deliver(LiveMessage(2, "", b"", rooms=["a"]))
    assert (first.seqs, second.seqs) == ([1], [1, 2])


def test_restart_takes_messages_that_count_anew() -> None:
    """After Redis has lost its data seqs may be lower: a connection in rooms does not take them for old messages."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    _, receiver = enter(connections, "a")
    connections.deliver(LiveMessage(100, "", b"", rooms=["a"]))
    connections.restart()
    connections.deliver(LiveMessage(7, "", b"", rooms=["a"]))
    assert receiver.seqs == [100, 7]


class FailingReceiver(RecordingReceiver):
    """A receiver with a mistake. Lives for one test."""

    def send(self, packet: object) -> None:
        """Fail."""
        raise ValueError


def test_a_receiver_that_fails_hurts_itself_alone() -> None:
    """The other recipients get the message; the client of the failing one has to connect again, counted."""
    place = Place()
    (_, before), (failing, _), (_, behind) = place.live(A), place.live(A), place.live(A)
    failing.receiver = FailingReceiver()
    place.tell(1, A)
    assert (before.seqs, behind.seqs) == ([1], [1])
    assert place.connections.faults == {"receiver": 1}


def test_a_member_that_fails_hurts_itself_alone() -> None:
    """The same in a room of a site without queues."""
    connections = SiteConnections(PLAIN, lambda connection, seq: None)
    receivers = [RecordingReceiver(), FailingReceiver(), RecordingReceiver()]
    for receiver in receivers:
        connection = joining(receiver)
        connection.rooms = ("r",)
        connections.enter_rooms(connection)
        connection.go_live(0)
    message = LiveMessage(1, "", b"")
    message.rooms = ["r"]
    connections.deliver(message)
    assert [receiver.seqs for receiver in receivers] == [[1], [], [1]]
