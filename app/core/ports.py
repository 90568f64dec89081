"""The ports of the core: its needs of the outside, with the guarantees of each adapter. The adapters are in `store`;
a protocol implements `AudienceListener`, or `Receiver` for its connections."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from app.config.settings import Site
from app.core.message import Audience, History, LiveMessage, Message, Waiting
from app.core.written import Written


class Stored(Struct, frozen=True):
    """The outcome of a send that was accepted."""

    seq: int
    #: The devices whose queue holds the message now; in a site without queues, the nodes that were told.
    recipients: int
    #: The devices whose queue ran over: the queue is dropped, and the device gets `_resync`.
    overflowed: int = 0
    #: The nodes that were told for the sake of an audience.
    audience_nodes: int = 0
    #: How often the message was handed to a node: once to each node with an addressed connection, and once to each node
    #: with an audience.
    tells: int = 0
    #: For the option `wait`: the connected devices whose queue holds the message.
    connected: Sequence[bytes] = ()
    #: The id of the message that an earlier request with the same idempotency key has stored, whose seq this is then;
    #: "": none has.
    earlier_id: str = ""


class Outcome(Struct, frozen=True):
    """The outcome of a send that has waited for acks."""

    stored: Stored
    acked: int
    #: The devices that are connected and have not acknowledged.
    waiting: int


class Withdrawn(Struct, frozen=True):
    """The outcome of a withdrawal."""

    #: The devices whose queue held the message.
    devices: int


class ConnectNotes(Struct, frozen=True):
    """More of a connection that is about to be registered. Its repr is without the note, which may be secret."""

    #: Kept beside the connection. If this node dies, the node that takes the connection out is given it.
    note: str = ""
    #: The program that has connected; it is kept with the device, as that of its newest connection.
    client: str = ""
    #: The number of the last change that its rooms hold, where a protocol changes the rooms of users; 0: none does.
    rooms_at: int = 0

    def __repr__(self) -> str:
        return f"ConnectNotes({self.client!r}, {self.rooms_at})"


NO_CONNECT_NOTES = ConnectNotes()


class RoomsChange(Struct, frozen=True):
    """A user joins rooms and leaves rooms, with all its devices."""

    user_room: str
    joins: Sequence[str] = ()
    leaves: Sequence[str] = ()
    #: Grows with each change of the site, where its protocol counts them; 0: it does not.
    number: int = 0
    #: The rooms that the user may be in after it; 0: any number. Past it nothing changes.
    most: int = 0


class Registered(Struct, frozen=True):
    """A device of a new connection, as the store knows it."""

    handle: bytes
    #: Whether its queue was dropped and no `_resync` is known to have arrived.
    is_lost: bool
    waiting: Waiting
    #: The ids of messages that were withdrawn while it was away.
    withdrawn: Sequence[str] = ()


class Registration(Struct, frozen=True):
    """The outcome of a connect. Messages up to `last_seq` are in `devices`, or behind them in the queues; live messages
    with a greater seq follow."""

    last_seq: int
    devices: list[Registered]


class Replayed(Struct, frozen=True):
    """The queue of one device behind a seq, at a later moment of its connection."""

    #: 'here'; 'resync': the queue was dropped; 'gone': the connection is not registered; 'lost': nor is the device.
    state: str
    waiting: Waiting
    #: With 'resync': the seq at which the queue was dropped.
    lost_seq: int = 0


class Replay(Struct, frozen=True):
    """The outcome of a replay. Live messages with a greater seq than `last_seq` follow."""

    last_seq: int
    devices: list[Replayed]


class AckGroup(Struct):
    """Acks of one message that arrived in a row."""

    #: Whether they came as the ack of a `_batch`, to which the rule of `resync` does not apply.
    is_batch: bool
    seq: int
    handles: list[bytes]
    #: Times of this node in ms since the epoch: when the message was written (0: not known), and of the first ack.
    written_ms: int = 0
    acked_ms: int = 0
    #: The places of the handles, which differ, among the recipients that this node was told: bits, the lowest of a byte
    #: first; b"" where they are not known.
    places: bytes = b""


class BuriedConnection(Struct, frozen=True):
    """A connection of a dead node that was taken out of Redis. Its repr is without the note, which is secret."""

    site: Site
    user_room: str
    #: The note that its protocol has left for this case, "" for none; see `ConnectNotes`.
    note: str
    #: The dead node's last beat.
    since: datetime

    def __repr__(self) -> str:
        return f"BuriedConnection({self.site.name!r})"


#: `Delivery.publish`, for a component that does nothing else with it.
Publish = Callable[[Message], Awaitable[Stored]]


class QueueStore(Protocol):
    """Devices and their queues. Every method is atomic, and raises StoreUnavailable when it may not have happened.

    Commands take effect in the order of the calls, not in that of the awaits. Nothing blocks. A command that was never
    sent, because there is no link, raises StoreAway: nothing has happened.
    """

    #: Whether there is a journal to write for.
    has_journal: bool

    def is_away(self, site: str) -> bool:
        """Whether there is no link to the Redis of the site of this name: every command would raise StoreAway."""

    def send(self, message: Message) -> Awaitable[Stored]:
        """Stores the message for every device in its rooms and tells the nodes of these devices: all or none.

        When it raises, the message is not stored, or (the connection broke at that moment) stored for all. Raises
        GuardRefused when the message has a guard that does not hold, and OtherRequest when another request had its
        idempotency key; then it is not stored.
        """

    def publish(self, message: Message) -> Awaitable[Stored]:
        """Tells the nodes with connections in the rooms; for sites without queues. At most once.

        Like `send` it checks the guard, tells the nodes that have joined one of the message's audiences, and adds the
        message to the history.
        """

    def connect(
        self, site: Site, connection: int, device_id: str, rooms: Sequence[str], notes: ConnectNotes = NO_CONNECT_NOTES
    ) -> Awaitable[Registration]:
        """Registers a connection of this node for its user's devices and answers the first part of their queues.

        Raises RoomsChanged when a later change of rooms than `notes` names was applied; nothing is registered then.
        """

    def change_rooms(self, site: Site, change: RoomsChange) -> Awaitable[int]:
        """Moves all devices of a user, connected or away, and answers how many. A change whose number is not above that
        of the last change of the site was applied before, and does nothing. -1: the user would be in too many rooms."""

    def set_device_rooms(self, site: Site, user_room: str, device_id: str, rooms: Sequence[str]) -> Awaitable[int]:
        """Gives one device rooms beside those of its user, in place of those that it had from here, until its next
        connect. The names are those of no other rooms. 0: nobody knows the device."""

    def disconnect(self, site: Site, connection: int, devices: Sequence[tuple[bytes, int]]) -> Awaitable[list[bool]]:
        """Takes a connection out; a device without a connection lives `device_ttl` from now. Idempotent.

        `devices` are handles, each with the highest seq that was written to it.

        Answers for each handle, also when the command is repeated, whether this node is to report the end. It is not,
        when another node has taken this node for dead, and has taken the connection out and reported its end.
        """

    def withdraw(self, site: Site, connection: int, device_id: str, rooms: Sequence[str]) -> Awaitable[None]:
        """Takes out a connection whose `connect` failed: it may be registered all the same. Idempotent."""

    def replay(self, site: Site, connection: int, after: Sequence[tuple[bytes, int]]) -> Awaitable[Replay]:
        """The queues of the connection's devices, for each (handle, seq) behind the seq. Changes nothing."""

    def ack(self, site: Site, groups: Sequence[AckGroup]) -> Awaitable[list[bytes]]:
        """Removes exactly the acknowledged messages; answers the handles of the devices that need a `_resync`."""

    def note_written(self, site: Site, written: Sequence[Written]) -> Awaitable[None]:
        """Tells the journal, where there is one, of messages that wait for their acks."""

    def withdraw_message(self, site: Site, id: int, cursor: bytes) -> Awaitable[tuple[bytes, int] | None]:
        """Takes a message out of a part of the queues, b"0" begins; answers the next cursor, b"0" behind the last part,
        and how many queues had it. None when no queue holds a message of this id."""

    def stop_waiting(self, site: Site, seq: int) -> Awaitable[None]:
        """Nobody waits for the acks of a message any more."""

    def whisper(self, site: Site, rooms: Sequence[str], body: bytes) -> Awaitable[int]:
        """Hands an event to the connected devices in these rooms, without queue, ack and journal; answers how many they
        are. Rooms with very many devices hear nothing: 0."""

    def forget_device(self, site: Site, user: str, device_id: str, resync: bool) -> Awaitable[bool]:
        """Forgets a device and closes its connections, or with `resync` drops its queue; False when it is unknown."""

    def settle(self, site: Site, last_seq: int, handles: Sequence[bytes]) -> Awaitable[None]:
        """A `_resync` for losses up to `last_seq` has arrived: it need not be repeated."""

    def join(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """This node holds connections in these rooms from now on; for sites without queues."""

    def leave(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """This node holds no connection in these rooms any more."""

    def join_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """This node hears messages that are published to these names from now on; answers the site's last seq."""

    def leave_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """This node does not hear messages for these names any more."""

    def history(
        self, site: Site, protocol: str, after_seq: int, max_messages: int, max_bytes: int
    ) -> Awaitable[History]:
        """A page of the protocol's history behind a seq, whatever the names. Changes nothing."""


class SeatStore(Protocol):
    """The numbers of connections of each site on all nodes, each under a name. Each method is atomic, raises
    StoreUnavailable when it may not have happened, and takes effect in the order of the calls."""

    def take_seat(self, site: Site, bounds: Sequence[tuple[str, int]]) -> Awaitable[int]:
        """Counts one connection of this node under each name and answers 0. When a bound is reached, counts it under no
        name and answers the number (1, 2, ...) of the first such bound."""

    def give_seat(self, site: Site, names: Sequence[str]) -> Awaitable[None]:
        """Counts one connection of this node less under each name."""

    def set_seats(self, site: Site, counts: Mapping[str, int], is_first: bool) -> Awaitable[None]:
        """Sets the counts of this node. With `is_first` all its earlier counts are forgotten."""

    async def silence_seconds(self, site: Site) -> float:
        """How long ago the quietest of the nodes with counted connections has beaten; not atomic."""


class BusListener(Protocol):
    """Hears the bus on this node: plain calls, in the order in which Redis has published."""

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """A message for connections of this node. `counter` grows by one with each message of the site."""

    def bus_interrupted(self) -> None:
        """The node has subscribed again: messages that were published in between are missing."""


class AudienceListener(Protocol):
    """A protocol whose connections are audiences. Plain calls on the loop; nothing here blocks or raises."""

    def published(self, site: Site, message: LiveMessage) -> None:
        """A message for names that this node has joined, perhaps among others; each once, in the order of the seqs."""

    def missed(self, site: Site) -> None:
        """Messages that were published since the last call of `published` are lost, and in no history."""

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """The audience of a name in the site's `binds`; None when the site does not use the protocol."""


class Receiver(Protocol):
    """Writes to one connection in the words of its protocol, which gives it to the core. Nothing here blocks or
    raises."""

    def encode(self, message: LiveMessage) -> Any:
        """The message in the form that `send` takes; called once per message and class of receivers, which share it."""

    @property
    def send(self) -> Callable[[Any], None]:
        """Writes an encoded message to the connection."""

    def send_batch(self, batch_id: int, entries: Sequence[tuple[int, bytes]]) -> None:
        """Writes a `_batch` of messages, each with its seq, whose ack is to be reported with `batch_id`."""

    def send_withdrawn(self, id: str) -> None:
        """Writes that a message, which was written before, was withdrawn."""

    def send_whisper(self, body: bytes) -> None:
        """Writes an event that is kept nowhere, without an ack."""

    def send_resync(self, received: Callable[[], None], is_repeat: bool) -> None:
        """Writes a `_resync`; `received` is called when the client is known to have it, at most once. `is_repeat`: the
        same loss may have been told to an earlier connection."""

    def close(self, reason: str) -> None:
        """Ends the connection, so that the client connects again."""
