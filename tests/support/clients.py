"""A test's view of a client, whichever library is behind it: connect, record in order, acknowledge, leave."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import pytest

from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS, Recording


@dataclass(frozen=True)
class ClientKind:
    """A client library (socket.io-client's major version, or "python") and the
    transports that it is configured with."""

    library: str
    transports: tuple[str, ...]

    @property
    def has_auth(self) -> bool:
        """Whether it sends a CONNECT payload (`auth`); the others repeat the query in the CONNECT packet."""
        return self.library not in ("1", "2")

    @property
    def upgrades(self) -> bool:
        """Whether it starts with polling and upgrades to a WebSocket."""
        return len(self.transports) > 1

    def __str__(self) -> str:
        """Return the name used in test ids."""
        names = {"1": "1.7", "2": "2.5", "3": "3.1", "4": "4.8"}
        transport = "upgrade" if self.upgrades else self.transports[0]
        return f"{names.get(self.library, self.library)}-{transport}"


WEBSOCKET = ("websocket",)
POLLING = ("polling",)
UPGRADE = ("polling", "websocket")

NODE_LIBRARIES = ("1", "2", "3", "4")
NODE_KINDS = tuple(ClientKind(library, way) for library in NODE_LIBRARIES for way in (WEBSOCKET, POLLING, UPGRADE))
PYTHON_KINDS = (ClientKind("python", WEBSOCKET), ClientKind("python", POLLING))
ALL_KINDS = NODE_KINDS + PYTHON_KINDS
# One kind of each library, for facts that do not depend on the transport.
ONE_OF_EACH = tuple(ClientKind(library, WEBSOCKET) for library in (*NODE_LIBRARIES, "python"))
MODERN = ClientKind("4", WEBSOCKET)

every_client = pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
every_node_client = pytest.mark.parametrize("kind", NODE_KINDS, ids=str)
each_library = pytest.mark.parametrize("kind", ONE_OF_EACH, ids=str)


@dataclass(frozen=True)
class AckPolicy:
    """The events that a client acknowledges by itself; the callbacks of the others are kept for `Client.ack`."""

    mode: str
    events: tuple[str, ...] = ()
    #: The delay before acks are sent; Node clients only.
    delay_ms: int = 0

    def acknowledges(self, event: str) -> bool:
        """Whether this event is acknowledged on arrival."""
        return {
            "all": True,
            "none": False,
            "only": event in self.events,
            "except": event not in self.events,
        }[self.mode]


ACK_ALL = AckPolicy("all")
ACK_NONE = AckPolicy("none")


def ack_only(*events: str) -> AckPolicy:
    """Acknowledge only these events."""
    return AckPolicy("only", events)


def ack_except(*events: str) -> AckPolicy:
    """Acknowledge every event but these."""
    return AckPolicy("except", events)


@dataclass(frozen=True)
class Record:
    """One thing that happened to a client.

    Kinds: connect, upgrade, event, acked (a delayed ack was sent), answer (an event was acknowledged), refused,
    disconnect, closed, transport_error, fault.
    """

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One event as the client's listener received it; `index` names its ack callback."""

    name: str
    args: list[Any]
    index: int
    wants_ack: bool


@dataclass(frozen=True)
class ConnectCall:
    """The options of one connect: address, place of the credentials, events to acknowledge."""

    kind: ClientKind
    base_url: str
    site: str
    query: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, Any] | None = None
    #: The `query` option of io(), which 1.x and 2.x clients also send in the CONNECT packet.
    query_option: Mapping[str, str] | None = None
    ack: AckPolicy = ACK_ALL
    #: Whether the library reconnects by itself when the connection is lost.
    reconnects: bool = False
    #: The delay after which a refused page connects again, as docs/clients.md says; 0: it does not.
    again_ms: int = 0

    @property
    def namespace(self) -> str:
        """The site as a namespace."""
        return f"/{self.site}"

    @property
    def url(self) -> str:
        """The URL as a page gives it to io()."""
        return f"{self.base_url}{self.namespace}" + (f"?{urlencode(self.query, quote_via=quote)}" if self.query else "")


class ClientDriver(Protocol):
    """Carries out a client's operations; one implementation per library."""

    def ack(self, name: str, index: int, args: Sequence[Any]) -> None:
        """Call the kept ack callback of an event."""

    def ask(self, name: str, event: str, args: Sequence[Any], number: int) -> None:
        """Send an event and record the arguments of its ack as `answer` with this number."""

    def disconnect(self, name: str) -> None:
        """Leave the namespace as the library does it."""

    def forget(self, name: str) -> None:
        """Close the client's connection and drop the client."""


class Client:
    """One connection of one device. The `connect` fixture makes it and closes it when the test ends."""

    def __init__(self, name: str, kind: ClientKind, driver: ClientDriver) -> None:
        """Start with an empty record."""
        self.name = name
        self.kind = kind
        self.records: Recording[Record] = Recording()
        self._driver = driver
        self._asked = itertools.count(1)

    def __repr__(self) -> str:
        """Name the client and its library."""
        return f"<client {self.name} {self.kind}>"

    def wait_connected(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Record:
        """Block until CONNECT was answered, and the upgrade is done if this
        kind upgrades; return the connect record."""
        self._wait("an answer to CONNECT", ("connect", "refused"), timeout_seconds)
        if refusals := self.refusals():
            raise AssertionError(f"{self!r} was refused: {refusals[0]!r}")
        if self.kind.upgrades and self.kind.library != "python":
            self._wait("the upgrade", ("upgrade",), timeout_seconds)
        return self._wait("connect", ("connect",), timeout_seconds)

    def wait_refused(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Any:
        """Block until the namespace was refused; return the text that the library gave the page."""
        record = self._wait("a refusal", ("refused", "connect"), timeout_seconds)
        assert record.kind == "refused", f"{self!r} was not refused"
        return record.details["text"]

    def wait_disconnected(self, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Record:
        """Block until the client has noticed that it is disconnected."""
        return self._wait("disconnect", ("disconnect", "closed"), timeout_seconds)

    def wait_event(self, name: str, nth: int = 1, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Event:
        """Block until the `nth` event of this name arrived; return it."""
        record = self.records.wait_for(
            lambda seen: seen.kind == "event" and seen.details["event"] == name,
            f"event {name!r} number {nth} at {self!r}",
            timeout_seconds,
            nth,
        )
        return _event(record)

    def events(self) -> list[Event]:
        """List the events so far, in order."""
        return [_event(record) for record in self.records.snapshot() if record.kind == "event"]

    def names(self) -> list[str]:
        """List the names of the events so far, in order, without `_settings`."""
        return [event.name for event in self.events() if event.name != "_settings"]

    def refusals(self) -> list[Any]:
        """List the texts of the refusals so far."""
        return [record.details["text"] for record in self.records.snapshot() if record.kind == "refused"]

    def ack(self, event: Event, *args: Any) -> None:
        """Acknowledge an event whose callback was kept."""
        self._driver.ack(self.name, event.index, args)

    def begin_ask(self, event: str, *args: Any) -> int:
        """Send an event that asks for an ack; return the number of its answer."""
        number = next(self._asked)
        self._driver.ask(self.name, event, args, number)
        return number

    def wait_answer(self, number: int, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Any:
        """Block until an event was acknowledged; return the ack's only argument."""
        record = self.records.wait_for(
            lambda seen: seen.kind == "answer" and seen.details["number"] == number,
            f"answer {number} at {self!r}",
            timeout_seconds,
        )
        (answer,) = record.details["answer"]
        return answer

    def ask(self, event: str, *args: Any, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Any:
        """Send an event and return what its ack says."""
        return self.wait_answer(self.begin_ask(event, *args), timeout_seconds)

    def disconnect(self) -> None:
        """Leave, and block until the transport is closed: acks given before that have been sent by then.

        (The library's own `disconnect` event fires while 1.x and 2.x may still hold them back.)
        """
        self._driver.disconnect(self.name)
        self._wait("the end of the transport", ("closed",), DEFAULT_TIMEOUT_SECONDS)

    def forget(self) -> None:
        """Close the connection, whatever its state; the client must not be used afterwards."""
        self._driver.forget(self.name)

    def _wait(self, what: str, kinds: tuple[str, ...], timeout_seconds: float) -> Record:
        return self.records.wait_for(lambda record: record.kind in kinds, f"{what} at {self!r}", timeout_seconds)


def _event(record: Record) -> Event:
    details = record.details
    return Event(details["event"], details["args"], details["index"], details["wants_ack"])
