"""Open connections as operators see them: facts that stand from the begin, and measures that are taken when somebody
looks, and once at the end, for the row in the journal. Knows no protocol."""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from app.clock import now_ms


class ConnectionFacts(Struct, frozen=True, gc=False):
    """The facts of one connection. Lives as long as the connection; there are very many, so nothing is kept twice."""

    #: The (first) user; None: nobody knows.
    user: str | None
    device: str
    address: str
    user_agent: str
    #: The version of the transport's protocol, such as that of Engine.IO.
    version: str
    #: The protocol and cipher of TLS at this server.
    tls: str | None
    connected_at: int
    #: From the begin of the session to the wish to join, and from there to the answer of the site's backend.
    connect_ms: int | None = None
    authorise_ms: int | None = None


class Measures(Struct, frozen=True):
    """A connection at one moment. None is unknown."""

    transport: str | None = None
    #: The bytes of its socket, with heads and TLS, or the bodies of its requests and answers.
    bytes_read: int | None = None
    bytes_written: int | None = None
    #: The messages that were written to it.
    messages: int | None = None
    #: The messages of its replay, and how long it took until live messages could follow.
    replay: int | None = None
    sync_ms: int | None = None
    #: The bytes in this process that wait for the client.
    outbox_bytes: int = 0


class LiveConnection(Protocol):
    """A connection that is open, as its protocol lists it."""

    @property
    def facts(self) -> ConnectionFacts | None:
        """None: it is not in the site yet, or nobody keeps facts."""

    @property
    def live_id(self) -> str:
        """Tells it from the others of its site and protocol on this node."""

    def measures(self) -> Measures:
        """The measures of now. Costs a call to the system."""

    def disconnect(self, reason: str) -> None:
        """Ends it, so that the client may connect again."""


class LiveLister(Protocol):
    """A protocol whose connections can be listed."""

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The open connections of a site, in no order; none of a site that is not known."""


def row_of(protocol: str, facts: ConnectionFacts, measures: Measures, reason: str) -> dict[str, object]:
    """The row in the journal of a connection that ends now."""
    return {
        "user": facts.user,
        "device": facts.device,
        "address": facts.address,
        "user_agent": facts.user_agent or None,
        "protocol": protocol,
        "version": facts.version or None,
        "transport": measures.transport,
        "tls": facts.tls,
        "connected_at": facts.connected_at,
        "disconnected_at": now_ms(),
        "reason": reason,
        "connect_ms": facts.connect_ms,
        "authorise_ms": facts.authorise_ms,
        "sync_ms": measures.sync_ms,
        "bytes_read": measures.bytes_read,
        "bytes_written": measures.bytes_written,
        "messages": measures.messages,
        "replay": measures.replay,
    }
