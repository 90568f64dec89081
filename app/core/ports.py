"""What the core needs of the outside, and what each adapter guarantees. The adapters are in `store` and `backends`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from app.config.settings import Site
from app.core.message import Audience, History, LiveMessage, Message, Waiting


class Stored(Struct, frozen=True):
    """The outcome of a send that was accepted."""

    seq: int
    #: Devices whose queue holds the message now; for a site without queues, nodes that were told.
    recipients: int
    #: Devices whose queue ran over: it is dropped, and they get `_resync`.
    overflowed: int = 0
    #: Nodes that were told of it for the sake of an audience.
    audience_nodes: int = 0
    #: How often a node was handed it: once for each that holds an addressed connection, and for each with an audience.
    tells: int = 0


class Registered(Struct, frozen=True):
    """A device of a new connection, as the store knows it."""

    handle: bytes
    #: Whether its queue was dropped and no `_resync` is known to have arrived.
    is_lost: bool
    waiting: Waiting


class Registration(Struct, frozen=True):
    """The outcome of a connect: live messages with a greater seq follow, the ones up to it are in `devices`."""

    last_seq: int
    devices: list[Registered]


class Replayed(Struct, frozen=True):
    """What waits for one device behind a seq, at a later moment of its connection."""

    #: 'here'; 'resync': its queue was dropped; 'gone': the connection is not registered; 'lost': nor is the device.
    state: str
    waiting: Waiting
    #: Where 'resync': the seq at which it was dropped.
    lost_seq: int = 0


class Replay(Struct, frozen=True):
    """The outcome of a replay: live messages with a greater seq follow."""

    last_seq: int
    devices: list[Replayed]


class AckGroup(Struct):
    """Acks of one message that arrived one after the other."""

    #: Whether they came as the ack of a `_batch`, to which the rule of `resync` does not apply.
    is_batch: bool
    seq: int
    handles: list[bytes]


class BuriedConnection(Struct, frozen=True):
    """A connection of a dead node that was taken out of Redis. Its repr is without the note: that is secret."""

    site: Site
    user_room: str
    #: What its protocol wanted to know in this case, "" when nothing; see `QueueStore.connect`.
    note: str
    #: The dead node's last beat.
    since: datetime

    def __repr__(self) -> str:
        return f"BuriedConnection({self.site.name!r})"


class QueueStore(Protocol):
    """Devices and their queues. Every method is atomic, and raises StoreUnavailable when it may not have happened.

    Commands take effect in the order of the calls, not in that of the awaits. Nothing blocks.
    """

    def send(self, message: Message) -> Awaitable[Stored]:
        """Stores the message for every device that its rooms stand for and tells their nodes: all or none.

        When it raises, the message is not stored, or (the connection broke at that moment) stored for all. Raises
        GuardRefused when the message has a guard that does not hold; then it is not stored.
        """

    def publish(self, message: Message) -> Awaitable[Stored]:
        """Tells the nodes that hold connections in the rooms; for sites without queues. At most once.

        Like `send`, it heeds the guard, tells the nodes that joined one of the message's audiences, and keeps its
        history.
        """

    def connect(
        self, site: Site, connection: int, device_id: str, rooms: Sequence[str], note: str = ""
    ) -> Awaitable[Registration]:
        """Registers a connection of this node for its user's devices and answers the first part of what waits.

        `note` is kept beside the connection: who takes it out for this node, should it die, is given it.
        """

    def disconnect(self, site: Site, connection: int, handles: Sequence[bytes]) -> Awaitable[list[bool]]:
        """Takes a connection out; a device without one lives `device_ttl` from now. Repeating it changes nothing.

        Answers for each handle, also when it is repeated, whether the end is this node's to report: not so when
        another has taken this node for dead, taken the connection out and reported it.
        """

    def withdraw(self, site: Site, connection: int, device_id: str, rooms: Sequence[str]) -> Awaitable[None]:
        """Takes out a connection whose `connect` failed, so that nobody knows whether it is registered. Idempotent."""

    def replay(self, site: Site, connection: int, after: Sequence[tuple[bytes, int]]) -> Awaitable[Replay]:
        """What waits for the connection's devices, each (handle, seq) behind its seq. Changes nothing."""

    def ack(self, site: Site, groups: Sequence[AckGroup]) -> Awaitable[list[bytes]]:
        """Removes exactly the acknowledged messages; answers the handles of devices to be told `_resync`."""

    def settle(self, site: Site, last_seq: int, handles: Sequence[bytes]) -> Awaitable[None]:
        """A `_resync` for what was lost up to `last_seq` has arrived: it need not be repeated."""

    def join(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """This node holds connections in these rooms from now on; for sites without queues."""

    def leave(self, site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        """This node holds no connection in these rooms any more."""

    def join_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """This node hears what is published to these names from now on; answers the site's last seq."""

    def leave_audience(self, site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        """This node wants to hear of these names no more."""

    def history(
        self, site: Site, protocol: str, after_seq: int, max_messages: int, max_bytes: int
    ) -> Awaitable[History]:
        """What the protocol's history holds behind a seq, whatever its names. Changes nothing."""


class SeatStore(Protocol):
    """How many connections each site has on all nodes, by names of what is counted. Each method is atomic, raises
    StoreUnavailable when it may not have happened, and takes effect in the order of the calls."""

    def take_seat(self, site: Site, bounds: Sequence[tuple[str, int]]) -> Awaitable[int]:
        """Counts one connection of this node under each name; 0, or the number (1, 2, ...) of the first bound that is
        reached: then it is counted under none."""

    def give_seat(self, site: Site, names: Sequence[str]) -> Awaitable[None]:
        """Counts one connection of this node less under each name."""

    def set_seats(self, site: Site, counts: Mapping[str, int], is_first: bool) -> Awaitable[None]:
        """This node has so many; the first part of what it says makes everything forgotten that was known of it."""

    async def silence_seconds(self, site: Site) -> float:
        """For how long the quietest of the nodes with counted connections has given no sign of life; not atomic."""


class BusListener(Protocol):
    """Who hears the bus on this node: plain calls in the order in which Redis published."""

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """A message for connections of this node. `counter` grows by one for each one of the site."""

    def bus_interrupted(self) -> None:
        """The subscription was made anew: what was published meanwhile is missing."""


class AudienceListener(Protocol):
    """A protocol whose connections are audiences. Plain calls on the loop; nothing here blocks or raises."""

    def published(self, site: Site, message: LiveMessage) -> None:
        """A message for names that this node has joined (perhaps for more): each once, in the order of their seqs."""

    def missed(self, site: Site) -> None:
        """Something that was published since the last call of `published` is lost and in no history."""

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """The audience of a channel or topic that the site's `binds` name; None when the site has none of the kind."""


class Receiver(Protocol):
    """What a protocol gives the core for one connection: how to write to it. Nothing here blocks or raises."""

    def encode(self, message: LiveMessage) -> Any:
        """What `send` takes for this message; asked once per message and `encoding_key`."""

    @property
    def encoding_key(self) -> object:
        """Connections with an equal key share what `encode` makes."""

    @property
    def send(self) -> Callable[[Any], None]:
        """Writes an encoded message to the connection."""

    def send_batch(self, batch_id: int, bodies: Sequence[bytes]) -> None:
        """Writes a `_batch` whose ack is to be reported with `batch_id`."""

    def send_resync(self, received: Callable[[], None]) -> None:
        """Writes a `_resync`; `received` is called when the client is known to have it, at most once."""

    def close(self, reason: str) -> None:
        """Ends the connection, so that the client connects anew."""
