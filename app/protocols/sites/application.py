"""The sites' side of Socket.IO: admission, the first events of a new connection, the meaning of acks and disconnects.

Stands between the Socket.IO server (`socket_server`) and the core and speaks the contract. Each connection has its own
state; there is no other.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from typing import Any

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.address import is_user_room
from app.core.connection import Connection
from app.core.delivery import Delivery
from app.core.live import TICKET_TAKEN, ConnectionFacts, row_of
from app.core.ports import BuriedConnection
from app.errors import StoreError
from app.observe.counts import Counts
from app.protocols.handling import AdmittedClient, EventHandling, HandledClient
from app.protocols.http_request import shown_origin
from app.protocols.sites.admission import Admission, Guest, Refused, credentials_of, terms_of, wants_positions
from app.protocols.sites.greeting import Greetings
from app.protocols.sites.ports import UserUpdates
from app.protocols.sites.presence import RoomPresence
from app.protocols.sites.pusher.settings import PusherApp, socket_id
from app.protocols.sites.receiver import PositionReceiver, SiteReceiver
from app.protocols.sites.room_picture import STATE as PRESENCE_EVENT
from app.protocols.sites.ticket_renewal import TicketRenewals
from app.protocols.sites.token_expiry import EVENT as TOKEN_EVENT
from app.protocols.sites.token_expiry import TokenExpiries, TokenTerm
from app.protocols.sites.tokens import TokenIdentity
from app.protocols.sites.user_room import user_id_of_room
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection

STORE_AWAY = "message store not available"
_ROOT = "/"

_log = structlog.get_logger(__name__)


class SitesApplication:
    """The application of sites that the Socket.IO server calls. Lives as long as the server."""

    def __init__(
        self,
        sites: dict[str, Site],
        delivery: Delivery,
        admission: Admission,
        updates: UserUpdates,
        counts: Counts | None = None,
        handlings: Sequence[EventHandling] = (),
    ) -> None:
        """`handlings` may grow until the first client comes."""
        self._sites = sites
        self._handlings = handlings
        self._prefixes: dict[str, bytes] = {}
        for site in sites.values():
            self.add(site)
        self._delivery = delivery
        self._admission = admission
        self._renewals = TicketRenewals(admission.tickets)
        self._greetings = Greetings()
        self._counts = counts or Counts()
        self._expiries = TokenExpiries(admission.gate, self._counts)
        self._updates = updates
        #: Called with each client that has connected, and its connection.
        self.on_connected: Callable[[NamespaceConnection, Connection], None] = lambda client, connection: None
        #: Set once, before the first client comes; None: clients watch no rooms.
        self.presence: RoomPresence | None = None

    def add(self, site: Site) -> None:
        """Makes what all connections of a site share, before `sites` has the site."""
        self._prefixes[site.name] = f"42/{site.name},".encode()

    def accepts_namespace(self, namespace: str) -> bool:
        """Accepts sites and the root namespace, which every Socket.IO server has and in which nothing happens."""
        site = self._sites.get(namespace[1:])
        return namespace == _ROOT or (site is not None and site.has_rooms)

    def claims(self, request: ConnectRequest) -> bool:
        """A client that presents a token or a ticket belongs to the sites."""
        credentials = credentials_of(request)
        return bool(credentials.token or credentials.ticket)

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Admits a user whom the site's backend knows. Raises ConnectRefused with the contract's texts."""
        if request.namespace == _ROOT:
            connection.holds_session = False
            return
        site = self._sites.get(request.namespace[1:])
        if site is None:
            # Removed since the session has asked.
            raise ConnectRefused("Invalid namespace")
        if self._delivery.is_away(site):
            # Before authUrl is asked: its answer would be for nothing.
            self._refuse_while_away(connection, site)
            return
        began_ms = now_ms()
        try:
            guest = await self._admit(connection, site, request)
            authorise_ms = now_ms() - began_ms
            handled = await self._hand(connection, site, request, guest)
        except Refused as refusal:
            self._counts.of(site.name).connects[refusal.result] += 1
            self._record_refusal(site, request, refusal.reason)
            names = {"site": site.name, "connection": connection.log_name}
            _log.info("connect refused", **names, reason=refusal.reason, **_origins_of(refusal, request))
            raise
        except StoreError as error:
            self._give_up(connection, site, error)
            return
        if connection.is_closed:
            self._admission.leave(guest.seat)
            if handled is not None:
                handled.left()
            return
        receiver, opened = self._receiver_of(connection, site, request, guest)
        receiver.handled = handled

        def greet() -> None:
            connection.confirm()
            settings = self._settings_for(receiver, connection, site, guest)
            self._greetings.send(connection, site, settings if handled is None else {**settings, **handled.settings})
            if handled is not None:
                handled.greeted()
            self._watch_token(receiver, connection, site, guest.identity)
            if _is_reported(site):
                receiver.users, receiver.token = guest.users, guest.token
                self._report(site, guest.users, guest.token, connected=True, at=datetime.now(UTC))
            self._counts.of(site.name).connects["accepted"] += 1
            if receiver.connection is not None:
                self.on_connected(connection, receiver.connection)
            receiver.facts = self._facts_of(guest, request, authorise_ms)
            names = {"site": site.name, "connection": connection.log_name, "device": guest.device_id}
            _log.info("connected", **names, rooms=len(guest.rooms), engine=request.engine_version)

        try:
            await self._open(opened, guest, handled, greet)
        except StoreError as error:
            self._give_up(connection, site, error)

    async def _hand(
        self, connection: NamespaceConnection, site: Site, request: ConnectRequest, guest: Guest
    ) -> HandledClient | None:
        """The client as the protocol that handles its events knows it; None: no protocol does. Raises Refused and
        StoreError, without a seat left behind."""
        handling = next((one for one in self._handlings if one.serves(site)), None)
        if handling is None or connection.is_closed:
            return None
        is_fresh = guest.ticket != TICKET_TAKEN
        client = AdmittedClient(site, connection, request, guest.device_id, guest.rooms, guest.users, is_fresh)
        try:
            return await handling.receive(client)
        except ConnectRefused as refusal:
            self._admission.leave(guest.seat)
            raise Refused(str(refusal)) from None
        except BaseException:
            self._admission.leave(guest.seat)
            raise

    async def _open(
        self, connection: Connection, guest: Guest, handled: HandledClient | None, greet: Callable[[], None]
    ) -> None:
        if handled is None:
            await self._delivery.open(connection, guest.device_id, guest.rooms, greet)
            return

        async def opening(rooms: Sequence[str], rooms_at: int) -> None:
            connection.rooms_at = rooms_at
            await self._delivery.open(connection, guest.device_id, rooms, greet)

        await handled.open(opening)
        handled.opened(connection)

    def _receiver_of(
        self, link: NamespaceConnection, site: Site, request: ConnectRequest, guest: Guest
    ) -> tuple[SiteReceiver, Connection]:
        """The writing end of an admitted client, and its connection in the core, which is not open yet."""
        # Without queues nothing is repeated.
        kind = PositionReceiver if site.has_queues and wants_positions(request) else SiteReceiver
        receiver = kind(link, self._prefixes[site.name], site.has_queues)
        connection = self._delivery.new_connection(site, receiver, _note_of(guest.token) if _is_reported(site) else "")
        connection.client = _client_of(link, request)
        receiver.connection, link.state = connection, receiver
        # The hot path: runs once for each delivery.
        link.ack_received = connection.receive_ack
        link.session.limit_outbox(site.outbox_limit_bytes)
        receiver.device_id, receiver.seat = guest.device_id, guest.seat
        # Most rooms are those of many: one text for all of them.
        receiver.rooms = tuple(map(sys.intern, guest.rooms))
        return receiver, connection

    def live(self, site: str) -> Iterator[SiteReceiver]:
        """The open connections of a site; see `LiveLister`."""
        known = self._delivery.hub.sites.get(site)
        connections = () if known is None else known.all_of_site()
        receivers = (connection.receiver for connection in connections)
        return (receiver for receiver in receivers if isinstance(receiver, SiteReceiver))

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Clients of a site only receive, but for a new token, and for the events that another protocol handles. Any
        other event from a client is dropped; if it asks for an ack, it gets one."""
        receiver = connection.state
        if event == TOKEN_EVENT and isinstance(receiver, SiteReceiver) and receiver.term is not None:
            self._expiries.receive(receiver.term, args, partial(_answer, connection, ack_id))
        elif event == PRESENCE_EVENT and self._watch_room(connection, args, ack_id):
            return
        elif isinstance(receiver, SiteReceiver) and receiver.handled is not None:
            receiver.handled.event_received(event, args, ack_id)
        elif ack_id is not None:
            connection.send_ack(ack_id, [])

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Ignores the ack. The acks of an admitted client go straight to its connection, see `connect`."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Ends the connection. Messages that the device has not acknowledged wait for its next connection."""
        receiver: SiteReceiver | asyncio.Task[None] | None = connection.state
        connection.state = None
        if isinstance(receiver, asyncio.Task):
            # Nobody waits any more for the answer of the site's backend.
            receiver.cancel()
            return
        if receiver is None or receiver.connection is None:
            return
        if receiver.handled is not None:
            receiver.handled.left()
        site = receiver.connection.site
        if receiver.watches is not None and self.presence is not None:
            self.presence.left(receiver, site)
        users, token, now = receiver.users, receiver.token, datetime.now(UTC)

        def report(is_ours: list[bool]) -> None:
            self._report(site, list(compress(users, is_ours)), token, connected=False, at=now)

        if receiver.facts is not None:
            row = row_of("sites", receiver.facts, receiver.measures(), reason)
            self._counts.records.add("connections", site.name, row)
        self._delivery.close(receiver.connection, report if users else None)
        # Both refer to each other: the memory of a client that has left is to be free at once.
        receiver.connection = None
        self._admission.leave(receiver.seat)
        self._renewals.stop(receiver.renewal)
        self._expiries.stop(receiver.term)
        receiver.term = None
        self._counts.of(site.name).closes[reason] += 1
        _log.info(
            "disconnected", site=site.name, connection=connection.log_name, device=receiver.device_id, reason=reason
        )

    def _watch_room(self, connection: NamespaceConnection, args: list[Any], ack_id: int | None) -> bool:
        """Has a client watch a room, or watch it no more; False in a site without presence."""
        receiver = connection.state
        if self.presence is None or not isinstance(receiver, SiteReceiver) or receiver.connection is None:
            return False
        site = receiver.connection.site
        if site.presence is None:
            return False

        def answer(body: bytes) -> None:
            if ack_id is not None and not connection.is_closed:
                connection.send_ack_body(ack_id, b"[%b]" % body)

        self.presence.request(receiver, site, args, None if ack_id is None else answer)
        return True

    async def aclose(self) -> None:
        """Ends the checks of new tokens. The connections have ended by now."""
        await self._expiries.aclose()

    def _watch_token(
        self, receiver: SiteReceiver, connection: NamespaceConnection, site: Site, identity: TokenIdentity | None
    ) -> None:
        if identity is None or connection.is_closed:
            return

        def renewed(token: str, identity: TokenIdentity) -> None:
            if receiver.users:
                receiver.token = token
            terms = terms_of(identity)
            if receiver.renewal is not None and terms is not None:
                receiver.renewal.token_renewed(token, terms)

        receiver.term = TokenTerm(self._expiries, connection, site, identity, receiver.end, renewed)
        self._expiries.start(receiver.term)

    def _facts_of(self, guest: Guest, request: ConnectRequest, authorise_ms: int) -> ConnectionFacts | None:
        """The facts for pages and the row of the connection; None without a journal."""
        if not self._counts.records.is_kept:
            return None
        return ConnectionFacts(
            guest.users[0] if guest.users else None,
            guest.device_id,
            request.client_address,
            request.user_agent,
            str(request.engine_version),
            request.tls,
            now_ms(),
            request.waited_ms,
            authorise_ms,
            guest.ticket,
        )

    def _record_refusal(self, site: Site, request: ConnectRequest, reason: str) -> None:
        if self._counts.records.is_kept:
            about = {"address": request.client_address, "user_agent": request.user_agent or None}
            row = {"at": now_ms(), "protocol": "sites", "reason": reason, **about}
            self._counts.records.add("refusals", site.name, row)

    def _settings_for(
        self, receiver: SiteReceiver, connection: NamespaceConnection, site: Site, guest: Guest
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {"device_ttl": site.device_ttl_seconds}
        if isinstance(receiver, PositionReceiver):
            settings["positions"] = True
        handles = receiver.connection.handles if receiver.connection is not None else ()
        if handles and site.section(PusherApp) is not None:
            settings["socket_id"] = socket_id(handles[0])
        if guest.claims is not None:
            receiver.renewal = self._renewals.start(connection, site, guest.claims)
            ticket = receiver.renewal.next_ticket()
            if ticket is not None:
                settings["resume_ticket"] = ticket
        return settings

    async def _admit(self, connection: NamespaceConnection, site: Site, request: ConnectRequest) -> Guest:
        # A client that disconnects meanwhile gives up its place in the queue for authUrl: see `disconnected`.
        connection.state = asyncio.current_task()
        # The admission judges the origins so far; from here on no request of the session may tell another one.
        connection.session.allow_origins(site.origins)
        try:
            return await self._admission.admit(site, request)
        finally:
            connection.state = None

    def _give_up(self, connection: NamespaceConnection, site: Site, error: StoreError) -> None:
        """Closes the transport instead of refusing: clients reconnect after a close, but not after a refusal."""
        self._counts.of(site.name).connects["unavailable"] += 1
        _log.error("connect failed", site=site.name, connection=connection.log_name, reason=str(error))
        connection.session.close(STORE_AWAY)

    def _refuse_while_away(self, connection: NamespaceConnection, site: Site) -> None:
        self._counts.of(site.name).connects["unavailable"] += 1
        _log.info("connect refused", site=site.name, connection=connection.log_name, reason=STORE_AWAY)
        connection.session.close(STORE_AWAY)

    def report_buried(self, buried: BuriedConnection) -> None:
        """Reports the end of a connection whose node has died, because that node no longer can."""
        if buried.note:
            token = _token_of(buried.note)
            self._report(buried.site, [buried.user_room], token, connected=False, at=buried.since)

    def _report(self, site: Site, users: Sequence[str], token: str | None, *, connected: bool, at: datetime) -> None:
        for room in users:
            if is_user_room(site, room) and room != site.public_channel:
                user_id = user_id_of_room(site.user_room_prefix or "", room)
                self._updates.update_user(site, user_id, token, connected, at)


def _answer(connection: NamespaceConnection, ack_id: int | None, content: dict[str, Any]) -> None:
    """Answers an event whose client has asked for an ack, and is still there."""
    if ack_id is not None and not connection.is_closed:
        connection.send_ack(ack_id, [content])


def _origins_of(refusal: Refused, request: ConnectRequest) -> dict[str, list[str]]:
    """The origins that a refusal is about, for its log line."""
    return {"origins": [shown_origin(origin) for origin in request.origins]} if refusal.result == "origin" else {}


def _is_reported(site: Site) -> bool:
    """Whether the site's backend hears of clients that come and go."""
    return bool(site.update_user_url) and site.has_queues


def _client_of(connection: NamespaceConnection, request: ConnectRequest) -> str:
    """The client's program: its transport now, its version of Engine.IO, its user agent."""
    return f"{connection.transport} {request.engine_version} {request.user_agent}"


def _note_of(token: str | None) -> str:
    """The note beside a connection whose end is to be reported: the token, or the mark for "no token"."""
    return "-" if token is None else "=" + token


def _token_of(note: str) -> str | None:
    return note[1:] if note.startswith("=") else None
