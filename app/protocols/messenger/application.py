"""The messenger's side of Socket.IO where it has users of its own: the connects of clients, and their ends."""

from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.live import LiveConnection, row_of
from app.errors import LimitReached, StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.chatter_events import ChatterEvents
from app.protocols.messenger.entrance import SESSION_VOID, STORE_AWAY, Entrance
from app.protocols.messenger.hello import arrival_of, read_hello
from app.protocols.messenger.settings import Messenger, is_beside
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection

ORIGIN_REFUSED = "Origin not allowed"

_log = structlog.get_logger(__name__)


class MessengerApplication:
    """The application that the Socket.IO server calls for messengers. Lives as long as the server."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        delivery: Delivery,
        limits: Limits,
        entrance: Entrance,
        events: ChatterEvents,
        counts: Counts,
    ) -> None:
        self._sites = sites
        self._delivery = delivery
        self._limits = limits
        self._entrance = entrance
        self._events = events
        self._counts = counts
        #: The open connections by site, logged in or not.
        self._chatters: dict[str, dict[Chatter, None]] = {}
        self._refused_origins = CountedLines(_log, "warning", "connect refused")

    def accepts_namespace(self, namespace: str) -> bool:
        """Accepts the sites with a messenger and no backend beside it."""
        site = self._sites.get(namespace[1:])
        return site is not None and site.section(Messenger) is not None and not is_beside(site)

    def claims(self, request: ConnectRequest) -> bool:
        """Every client that no application before this one has claimed."""
        return True

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Takes up the client's session, or lets a stranger log in. Raises ConnectRefused."""
        site = self._sites.get(request.namespace[1:])
        if site is None or self._delivery.is_away(site):
            # Removed since the session has asked, or away: the client comes again.
            connection.session.close(STORE_AWAY)
            return
        if not connection.session.allow_origins(site.origins):
            self._counts.of(site.name).connects["origin"] += 1
            self._refused_origins.tell(site=site.name, reason="origin", shown={"connection": connection.log_name})
            raise ConnectRefused(ORIGIN_REFUSED)
        hello = read_hello(request)
        # Until the client has logged in, its session has the bounds of one in no site.
        connection.holds_session = False
        caller = ChatCaller(site, connection, request.client_address, hello.device_id)
        caller.app, caller.machine = hello.app, hello.machine
        chatter = Chatter(connection, caller, arrival_of(request))
        connection.state = chatter
        self._chatters.setdefault(site.name, {})[chatter] = None
        try:
            await self._seat(chatter)
            if hello.session is None:
                connection.confirm()
                self._entrance.await_login(chatter)
            elif not await self._entrance.resume(chatter, hello.session):
                self._counts.of(site.name).connects["refused"] += 1
                raise ConnectRefused(SESSION_VOID)
        except LimitReached as reached:
            self._counts.of(site.name).connects["limited"] += 1
            raise ConnectRefused(str(reached)) from None
        except (StoreError, ChatUnavailable):
            self._counts.of(site.name).connects["unavailable"] += 1
            connection.session.close(STORE_AWAY)

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Puts an event into the client's row, or refuses it at once."""
        chatter: Chatter | None = connection.state
        if chatter is not None:
            self._events.receive(chatter, event, args, ack_id)

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Ignores the ack. The acks of a client that is in go straight to its connection."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Ends the connection. Messages that the device has not acknowledged wait for its next connection."""
        chatter: Chatter | None = connection.state
        connection.state = None
        if chatter is None:
            return
        site = chatter.caller.site.name
        chatter.is_closed = True
        chatter.gate.waiting.clear()
        self._chatters[site].pop(chatter, None)
        if chatter.facts is not None:
            self._counts.records.add(
                "connections", site, row_of("messenger", chatter.facts, chatter.measures(), reason)
            )
        self._entrance.leave(chatter)
        self._counts.of(site).closes[reason] += 1
        _log.info("disconnected", site=site, connection=connection.log_name, reason=reason)

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The open connections of a site; see `LiveLister`."""
        return iter(list(self._chatters.get(site, {})))

    async def _seat(self, chatter: Chatter) -> None:
        seat = await self._limits.connect(chatter.caller.site, chatter.caller.address)
        if chatter.is_closed:
            self._limits.disconnect(seat)
        else:
            chatter.seat = seat
