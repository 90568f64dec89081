"""Open connections as operators see them: facts that stand from the begin, and measures that are taken when somebody
looks, and once at the end, for the row in the journal. Knows no protocol."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct

from app.clock import now_ms

#: See `ConnectionFacts.ticket`.
TICKET_TAKEN = "taken"
#: The rows of one answer.
MOST_LIVE_ROWS = 200
_LOOKED_AT_A_TURN = 500

#: The place of a connection in a list of all nodes: when it began, then node, protocol, site and id.
LivePlace: TypeAlias = tuple[int, str, str, str, str]


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
    #: The end of the resume ticket that it brought: `TICKET_TAKEN`, or the reason of a refusal; None: it brought none.
    ticket: str | None = None


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


class LiveQuestion(Struct, frozen=True):
    """The connections that somebody wants to see, in the order of their begin."""

    limit: int
    #: None: of every site, of every user, of every protocol.
    site: str | None = None
    user: str | None = None
    #: The place of the last one of the page before.
    behind: LivePlace | None = None
    protocol: str | None = None
    is_oldest_first: bool = False

    def wants(self, facts: ConnectionFacts, place: LivePlace) -> bool:
        """Whether a connection is on this page or a later one."""
        if self.user not in (None, facts.user):
            return False
        return self.behind is None or (place > self.behind if self.is_oldest_first else place < self.behind)


class LiveRow(Struct, frozen=True):
    """An open connection on its way to a page."""

    node: str
    site: str
    protocol: str
    id: str
    facts: ConnectionFacts
    measures: Measures

    @property
    def place(self) -> LivePlace:
        """Its place among all of all nodes."""
        return self.facts.connected_at, self.node, self.protocol, self.site, self.id


class _Page:
    """The rows of one answer so far, those that are further behind already left out. Lives as long as the answer."""

    def __init__(self, question: LiveQuestion) -> None:
        self._limit = max(1, min(question.limit, MOST_LIVE_ROWS))
        self._is_oldest_first = question.is_oldest_first
        self._kept: list[tuple[LivePlace, LiveConnection]] = []
        #: The begin of the last one of a full page: most of many connections are behind it.
        self._last_at: int | None = None

    def is_behind(self, at: int) -> bool:
        """Whether a connection with this begin comes behind a full page."""
        if self._last_at is None:
            return False
        return at > self._last_at if self._is_oldest_first else at < self._last_at

    def add(self, place: LivePlace, one: LiveConnection) -> None:
        """Keeps a connection."""
        self._kept.append((place, one))
        if len(self._kept) >= 2 * self._limit:
            self._last_at = self.rows()[-1][0][0]

    def rows(self) -> list[tuple[LivePlace, LiveConnection]]:
        """The first ones, in order."""
        # No two have one place, so connections are never compared.
        self._kept.sort(key=lambda found: found[0], reverse=not self._is_oldest_first)
        del self._kept[self._limit :]
        return self._kept


async def live_rows(
    listers: Mapping[str, LiveLister], sites: Iterable[str], question: LiveQuestion, node: str
) -> list[LiveRow]:
    """The first connections of this node that the question is for, at most its limit and MOST_LIVE_ROWS. Others have
    their turn in between."""
    page = _Page(question)
    looked_at = 0
    for site in [question.site] if question.site is not None else list(sites):
        for protocol, lister in listers.items():
            if question.protocol not in (None, protocol):
                continue
            for one in lister.live(site):
                looked_at += 1
                if looked_at % _LOOKED_AT_A_TURN == 0:
                    await asyncio.sleep(0)
                facts = one.facts
                if facts is None or page.is_behind(facts.connected_at):
                    continue
                place = (facts.connected_at, node, protocol, site, one.live_id)
                if question.wants(facts, place):
                    page.add(place, one)
    return [_row(place, one) for place, one in page.rows() if one.facts is not None]


async def disconnect(lister: LiveLister, site: str, id: str, reason: str) -> bool:
    """Ends one connection; False: it is not there any more."""
    for number, one in enumerate(lister.live(site), 1):
        if one.live_id == id:
            one.disconnect(reason)
            return True
        if number % _LOOKED_AT_A_TURN == 0:
            await asyncio.sleep(0)
    return False


def _row(place: LivePlace, one: LiveConnection) -> LiveRow:
    assert one.facts is not None, "only connections with facts are listed"
    _, node, protocol, site, id = place
    return LiveRow(node, site, protocol, id, one.facts, one.measures())


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
        "ticket": facts.ticket,
        "sync_ms": measures.sync_ms,
        "bytes_read": measures.bytes_read,
        "bytes_written": measures.bytes_written,
        "messages": measures.messages,
        "replay": measures.replay,
    }
