"""The messenger's side of Socket.IO: who connects, and the events of clients, each answered in its turn."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.live import LiveConnection, row_of
from app.errors import LimitReached, StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.chatter import Arrival, Chatter
from app.protocols.messenger.entrance import SESSION_VOID, STORE_AWAY, Entrance
from app.protocols.messenger.event_gate import WaitingEvent
from app.protocols.messenger.figures import MessengerCounts
from app.protocols.messenger.handlers import EntranceHandler, Handler, check_standing, read_event
from app.protocols.messenger.hello import read_hello
from app.protocols.messenger.settings import Messenger
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection
from app.watched_tasks import start_logged

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
        handlers: Mapping[str, Handler],
        counts: Counts,
    ) -> None:
        """`handlers` are the events by name, beside those of the entrance."""
        self._sites = sites
        self._delivery = delivery
        self._limits = limits
        self._entrance = entrance
        self._handlers = handlers
        self._counts = counts
        #: The open connections by site, logged in or not.
        self._chatters: dict[str, dict[Chatter, None]] = {}
        self._refused_origins = CountedLines(_log, "warning", "connect refused")
        self._impersonations = CountedLines(_log, "warning", "impersonation refused")

    def accepts_namespace(self, namespace: str) -> bool:
        """Accepts the sites with a messenger."""
        site = self._sites.get(namespace[1:])
        return site is not None and site.section(Messenger) is not None

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
        chatter = Chatter(connection, caller, _arrival_of(request))
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
        if chatter is None:
            return
        site = chatter.caller.site
        try:
            now = asyncio.get_running_loop().time()
            chatter.gate.count(now, site.require_section(Messenger).events_per_second)
            handler = self._handlers.get(event)
            if handler is None:
                raise ChatRefusal("bad_request", "Expected the name of an event.")
            waiting = WaitingEvent(event, handler, read_event(handler, args), ack_id)
        except ChatRefusal as refusal:
            self._send(chatter, ack_id, refusal.answer, refusal.code)
            return
        chatter.gate.waiting.append(waiting)
        if not chatter.gate.is_working:
            chatter.gate.is_working = True
            start_logged(self._handle_all(chatter), "messenger events")

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
        chatter.send = connection.send_encoded
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

    async def _handle_all(self, chatter: Chatter) -> None:
        """Handles the events of a connection, one after the other: their order is that of the client. Messages in a row
        are accepted together."""
        try:
            while chatter.gate.waiting:
                events = chatter.gate.take()
                if len(events) == 1:
                    await self._handle(chatter, events[0])
                else:
                    await asyncio.gather(*(self._handle(chatter, event) for event in events))
        finally:
            chatter.gate.is_working, chatter.gate.under_way = False, 0

    async def _handle(self, chatter: Chatter, event: WaitingEvent) -> None:
        answer, code = await self._answer(chatter, event)
        self._send(chatter, event.ack_id, answer, code)
        then, chatter.then = chatter.then, None
        if then is not None:
            await then()

    async def _answer(self, chatter: Chatter, event: WaitingEvent) -> tuple[dict[str, Any], str]:
        caller = chatter.caller
        try:
            check_standing(caller, event.handler)
            subject = chatter if isinstance(event.handler, EntranceHandler) else caller
            return {"ok": True, **(await event.handler.handle(subject, event.data) or {})}, "ok"
        except ChatRefusal as refusal:
            if refusal.code == "impersonation":
                self._impersonations.tell(site=caller.site.name, shown={"connection": caller.link.log_name})
            return refusal.answer, refusal.code
        except LimitReached as reached:
            return ChatRefusal("too_many", str(reached)).answer, "too_many"
        except StoreError:
            return ChatUnavailable().answer, "unavailable"
        except Exception:
            # Never a client that waits for its answer for ever.
            self._counts.faults["messenger"] += 1
            _log.exception("event failed", site=caller.site.name, event_name=event.name)
            return ChatUnavailable().answer, "failed"

    def _send(self, chatter: Chatter, ack_id: int | None, answer: dict[str, Any], code: str) -> None:
        self._counts.of(chatter.caller.site.name).part(MessengerCounts).events[code] += 1
        if ack_id is not None:
            chatter.link.send_ack_body(ack_id, msgspec.json.encode([answer]))


def _arrival_of(request: ConnectRequest) -> Arrival:
    version, at = str(request.engine_version), now_ms()
    return Arrival(request.client_address, request.user_agent, version, request.tls, at, request.waited_ms)
