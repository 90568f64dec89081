"""Redis PUBLISH over Socket.IO: admission, `identifier`, and the meaning of acks and disconnects."""

import asyncio
import hmac
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from msgspec import Struct

from app.clock import now_ms
from app.config.settings import Site
from app.core.limits import Limits
from app.core.live import ConnectionFacts, LiveConnection, row_of
from app.core.seat import Seat
from app.errors import LimitReached, StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.redis_publish.envelope import Identifier, read_identifier
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.guesses import Guesses
from app.protocols.redis_publish.mailbox_ports import Mailboxes
from app.protocols.redis_publish.mailroom import Mailroom
from app.protocols.redis_publish.ports import ClientConnection, JoinRequest
from app.protocols.redis_publish.recipient import Recipient
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.redis_publish.visitor import Visitor
from app.surrogates import encode_text
from app.transport.refusals import TOO_MANY_GUESSES, refused

WRONG_FORM = 'identifier: expected "<uid>" or "<uid>:<key>"'
WRONG_KEY = "identifier: wrong user id or key"
TOO_MANY_USERS = "identifier: this connection has as many users as it may have"
TOO_MANY_WRONG_KEYS = "identifier: too many wrong keys from this address, try again later"
FAULT = "internal error"
STORE_AWAY = "message store not available"
ORIGIN_REFUSED = "Origin not allowed"

_log = structlog.get_logger(__name__)


class PublishSite(Struct, frozen=True):
    """The part of one site in this protocol. Lives as long as the node."""

    site: Site
    settings: RedisPublish
    mailboxes: Mailboxes
    mailroom: Mailroom


class RedisPublishApplication:
    """The application that the Socket.IO server calls for this protocol's namespaces. Lives as long as the server."""

    def __init__(self, sites: Iterable[PublishSite], limits: Limits, counts: Counts | None = None) -> None:
        self._sites: dict[str, PublishSite] = {}
        for site in sites:
            self.add(site)
        self._limits = limits
        self._guesses = Guesses()
        #: The open connections by site.
        self._visitors: dict[str, dict[Visitor, None]] = {}
        self._counts = counts or Counts()
        self._numbers = itertools.count(1)
        self._refused_origins = CountedLines(_log, "warning", "connect refused")
        self._refusals = CountedLines(_log, "info", "identification refused")
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, site: PublishSite) -> None:
        """Serves one more site."""
        self._sites[f"/{site.site.name}"] = site
        if site.settings.route is not None:
            self._sites[site.settings.route] = site

    def remove(self, site: PublishSite) -> None:
        """Serves a site no more."""
        for namespace in (f"/{site.site.name}", site.settings.route):
            if namespace is not None:
                self._sites.pop(namespace, None)

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether a site is served in this namespace."""
        return namespace in self._sites

    def claims(self, request: JoinRequest) -> bool:
        """Every client that no application before this one has claimed."""
        return True

    async def connect(self, connection: ClientConnection, request: JoinRequest) -> None:
        """Admits every client from the site's origins; the client then identifies itself with `identifier`."""
        served = self._sites.get(request.namespace)
        if served is None:
            # Removed since the session has asked.
            connection.session.close(STORE_AWAY)
            return
        site = served.site
        if not connection.session.allow_origins(site.origins):
            self._counts.of(site.name).connects["origin"] += 1
            self._refused_origins.tell(site=site.name, reason="origin", shown={"connection": connection.log_name})
            connection.refuse(ORIGIN_REFUSED)
            return
        if connection.is_closed:
            return
        if served.mailroom.errands.is_away(site.name):
            self._close_while_away(served, connection)
            return
        # Until the client has identified itself, its session has the bounds and the deadline of one in no site.
        connection.holds_session = False
        seat = await self._seat_for(served, connection, request.client_address)
        if seat is None:
            return
        visitor = Visitor(connection, request.client_address, seat)
        if self._counts.records.is_kept:
            agent, version = request.user_agent, str(request.engine_version)
            known = ("", request.client_address, agent, version, request.tls, now_ms(), request.waited_ms)
            visitor.begin = ConnectionFacts(None, *known)
        connection.state = (served, visitor)
        self._visitors.setdefault(site.name, {})[visitor] = None
        counts = self._counts.of(site.name)
        counts.connections += 1
        counts.connects["accepted"] += 1
        connection.confirm()

    async def _seat_for(self, served: PublishSite, connection: ClientConnection, address: str) -> Seat | None:
        """A seat of the site for a client that nobody knows yet; None: the client is refused, or gone."""
        site = served.site
        try:
            seat = await self._limits.connect(site, address)
        except LimitReached as reached:
            self._counts.of(site.name).connects["limited"] += 1
            connection.refuse(str(reached))
            return None
        except StoreError:
            self._close_while_away(served, connection)
            return None
        if connection.is_closed:
            self._limits.disconnect(seat)
            return None
        return seat

    def _close_while_away(self, served: PublishSite, connection: ClientConnection) -> None:
        self._counts_of(served)["unavailable"] += 1
        connection.session.close(STORE_AWAY)

    def event_received(self, connection: ClientConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Handles `identifier`. Any other event is dropped; if it asks for an ack, it gets one."""
        if event == "identifier" and connection.state is not None:
            served, visitor = connection.state
            if visitor.is_full:
                connection.send_event("error", [TOO_MANY_USERS])
                return
            visitor.identifiers.append((read_identifier(args[0] if args else None), ack_id))
            if not visitor.is_identifying:
                visitor.is_identifying = True
                task = asyncio.ensure_future(self._identify_all(served, visitor))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        elif ack_id is not None:
            connection.send_ack(ack_id, [])

    def ack_received(self, connection: ClientConnection, ack_id: int) -> None:
        """The client has a message, in a site with `ack: true`."""
        if connection.state is not None:
            served, visitor = connection.state
            for recipient in list(visitor.recipients.values()):
                served.mailroom.receive_ack(recipient, ack_id)

    def disconnected(self, connection: ClientConnection, reason: str) -> None:
        """Ends the connection. Messages without a receipt from the client wait for its next connection."""
        if connection.state is None:
            return
        served, visitor = connection.state
        connection.state = None
        self._visitors[served.site.name].pop(visitor, None)
        if (facts := visitor.facts) is not None:
            row = row_of("redis_publish", facts, visitor.measures(), reason)
            self._counts.records.add("connections", served.site.name, row)
        for recipient in visitor.close():
            served.mailroom.close(recipient)
        self._limits.disconnect(visitor.seat)
        counts = self._counts.of(served.site.name)
        counts.connections -= 1
        counts.closes[reason] += 1
        _log.info("disconnected", site=served.site.name, connection=connection.log_name, reason=reason)

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The open connections of a site; see `LiveLister`."""
        return iter(list(self._visitors.get(site, {})))

    async def _identify_all(self, served: PublishSite, visitor: Visitor) -> None:
        """Looks at the client's identifiers, one after the other."""
        while visitor.identifiers:
            identifier, ack_id = visitor.identifiers.popleft()
            if visitor.has_tries:
                await self._identify(served, visitor, identifier, ack_id)
        visitor.is_identifying = False

    async def _identify(
        self, served: PublishSite, visitor: Visitor, identifier: Identifier | None, ack_id: int | None
    ) -> None:
        connection = visitor.connection
        if not self._guesses.may_guess(served.site.name, visitor.address):
            self._turn_away(served, visitor)
            return
        try:
            user = await self._user_of(served, identifier)
            if visitor.is_closed:
                return
            if user is not None:
                await self._admit(served, visitor, user, ack_id)
                return
            is_wrong_key = identifier is not None
            if is_wrong_key:
                self._guesses.count_wrong(served.site.name, visitor.address)
            self._refuse(served, visitor, WRONG_KEY if is_wrong_key else WRONG_FORM)
        except LimitReached as reached:
            self._refuse(served, visitor, str(reached))
        except StoreError as error:
            _log.error(
                "identification failed", site=served.site.name, connection=connection.log_name, reason=str(error)
            )
            self._close_while_away(served, connection)
        except Exception:
            # Never a connected client that hears nothing: it reconnects.
            _log.exception("identification failed", site=served.site.name, connection=connection.log_name)
            connection.session.close(FAULT)

    async def _admit(self, served: PublishSite, visitor: Visitor, user: str, ack_id: int | None) -> None:
        connection = visitor.connection
        if user in visitor.recipients:
            # It hears of this user already: a second recipient would write every message twice.
            if ack_id is not None:
                connection.send_ack(ack_id, [])
            return
        seat = await self._limits.connect_user(served.site, user)
        if visitor.is_closed:
            # The client has gone.
            self._limits.disconnect(seat)
            return
        visitor.seat = visitor.seat.joined_by(seat)
        connection.hold_session()
        connection.session.limit_outbox(served.site.outbox_limit_bytes)
        if ack_id is not None:
            connection.send_ack(ack_id, [])
        most = served.site.queue_limit.messages
        recipient = Recipient(connection, next(self._numbers), served.settings.ack, most, visitor.ack_ids)
        visitor.recipients[user] = recipient
        await served.mailroom.open(recipient, user)
        self._counts_of(served)["accepted"] += 1
        _log.info("identified", site=served.site.name, connection=connection.log_name)

    async def _user_of(self, served: PublishSite, identifier: Identifier | None) -> str | None:
        """The user that the client has proved to be; None without a proof."""
        if identifier is None:
            return None
        user, key = identifier
        if not served.settings.secure:
            return user
        expected = await served.mailboxes.key_of(user)
        # The comparison takes the same time for a user without a key and for a wrong key.
        is_right = hmac.compare_digest(expected or b"", encode_text(key))
        return user if is_right and expected else None

    def _turn_away(self, served: PublishSite, visitor: Visitor) -> None:
        """Closes the transport of a client whose address has guessed too often; an honest client comes back."""
        self._counts_of(served)["braked"] += 1
        refused[TOO_MANY_GUESSES] += 1
        visitor.connection.send_event("error", [TOO_MANY_WRONG_KEYS])
        visitor.connection.session.close("too many wrong keys")

    def _refuse(self, served: PublishSite, visitor: Visitor, reason: str) -> None:
        visitor.tries += 1
        self._counts_of(served)["refused"] += 1
        self._refusals.tell(site=served.site.name, reason=reason, shown={"connection": visitor.connection.log_name})
        visitor.connection.send_event("error", [reason])
        if not visitor.has_tries:
            visitor.connection.disconnect()

    def _counts_of(self, served: PublishSite) -> Any:
        return self._counts.of(served.site.name).part(RedisPublishCounts).identifications
