"""The way into a messenger: `login` and `proof`, sessions taken up again, and the device that is opened in the core.

connected ──login──▶ attempt ──proof──▶ user ──open──▶ in the core, `_settings`
    └──────────────── session ───────────┘   └ must change: `_settings`, and only `password` is heard
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.connection import Connection
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.live import ConnectionFacts
from app.errors import LimitReached, StoreError
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.attendance import Attendance
from app.protocols.messenger.bounds import LOGIN_SECONDS, MAX_EVENT_BYTES, MAX_EVENTS_WAITING, MAX_LOGIN_EVENTS
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.handlers import EntranceHandler, Handler, Standing
from app.protocols.messenger.login_ports import Entered
from app.protocols.messenger.logins import LoginData, Logins, ProofData
from app.protocols.messenger.settings import Messenger
from app.transport.deadline_wheel import DeadlineWheel
from app.watched_tasks import start_logged

STORE_AWAY = "message store not available"
LOGIN_LATE = "not logged in in time"
SESSION_VOID = "session_void"
TOO_MANY_LOGINS = "too many logins"
_TICK_SECONDS = 0.25
#: The share of a session's life after which a connected client gets another one.
_RENEWED_AFTER = 0.5

_log = structlog.get_logger(__name__)


class DeviceOpener(Protocol):
    """Knows the rooms of users as the core does; see `Talk`."""

    async def open(self, opening: Callable[[Sequence[str], int], Awaitable[None]], site: Site, user: int) -> None:
        """Has a connection opened with the rooms of its user. Raises ChatUnavailable and StoreError."""

    def entered(self, site: Site, handles: Iterable[bytes], user: int, device: str) -> None:
        """A connection of the user's device is open."""


class Entrance:
    """The entrance of all sites on one node. Lives as long as the node."""

    def __init__(
        self,
        delivery: Delivery,
        limits: Limits,
        logins: Logins,
        attendance: Attendance[Chatter],
        opener: DeviceOpener,
        counts: Counts,
    ) -> None:
        self._delivery = delivery
        self._opener = opener
        self._limits = limits
        self._logins = logins
        self._attendance = attendance
        self._counts = counts
        self._wheel = DeadlineWheel(_TICK_SECONDS)
        #: Called with each client that is in, and with each that was and has left.
        self.on_joined: list[Callable[[Chatter], None]] = []
        self.on_left: list[Callable[[Chatter], None]] = []

    def handlers(self) -> dict[str, Handler]:
        """The events of a client that logs in."""
        return {
            "login": EntranceHandler(LoginData, self.log_in, Standing.STRANGER),
            "proof": EntranceHandler(ProofData, self.prove, Standing.STRANGER),
        }

    def await_login(self, chatter: Chatter) -> None:
        """Gives a stranger its time to log in."""
        self._schedule(chatter, self._close_late, LOGIN_SECONDS)

    async def log_in(self, chatter: Chatter, data: LoginData) -> dict[str, Any]:
        """`login`: the server's first message."""
        chatter.attempt = None
        chatter.login_began(now_ms())
        chatter.logins += 1
        if chatter.logins > MAX_LOGIN_EVENTS:
            chatter.close(TOO_MANY_LOGINS)
            raise ChatRefusal("too_many", f"Expected at most {MAX_LOGIN_EVENTS} logins of a connection.")
        chatter.attempt = await self._logins.begin(chatter.caller, data.data)
        forms = {"forms": chatter.attempt.forms} if chatter.attempt.forms else {}
        return {"data": chatter.attempt.exchange.server_first, **forms}

    async def prove(self, chatter: Chatter, data: ProofData) -> dict[str, Any]:
        """`proof`: the server's last message, and the user's session."""
        attempt, chatter.attempt = chatter.attempt, None
        caller = chatter.caller
        if attempt is None or caller.user is not None:
            raise ChatRefusal("bad_request", "Expected a login before its proof.")
        answer, candidate = await self._logins.prove(caller, attempt, data.proofs)
        await self._take_seat(chatter, candidate.user.room)
        token, entered = await self._logins.enter(caller, candidate)
        chatter.then = partial(self.open, chatter, entered, token)
        self.identify(chatter, entered)
        return {
            "data": answer,
            "user": entered.user.shown,
            "session": token,
            "must_change_password": entered.user.must_change,
            "limits": limits_of(caller.site),
            "connection": {"tls": tls_of(chatter.arrival.tls)},
        }

    async def resume(self, chatter: Chatter, token: str) -> bool:
        """Takes a session up again; False: it is void. Raises ChatUnavailable, LimitReached and StoreError."""
        chatter.login_began(now_ms())
        entered = await self._logins.resume(chatter.caller, token)
        if entered is None:
            return False
        await self._limits_user(chatter, entered.user.room)
        if chatter.is_closed:
            return True
        self.identify(chatter, entered)
        await self.open(chatter, entered, token)
        return True

    async def open(self, chatter: Chatter, entered: Entered, token: str) -> None:
        """Opens the device in the core; the client hears `_settings` first. One that is to set another password gets
        `_settings` alone."""
        link, site = chatter.link, chatter.caller.site
        if chatter.is_closed:
            return
        greet = partial(self._greet, chatter, entered, token)
        if entered.user.must_change:
            greet()
            return
        chatter.connection = self._delivery.new_connection(site, chatter)
        chatter.connection.client = f"{link.transport} {link.engine_version} {chatter.arrival.user_agent}"
        # The hot path: runs once for each delivery.
        link.ack_received = chatter.connection.receive_ack
        link.session.limit_outbox(site.outbox_limit_bytes)
        try:
            await self._open_device(chatter, chatter.connection, entered.user.id, greet)
        except (StoreError, ChatUnavailable) as error:
            _log.error("connect failed", site=site.name, connection=link.log_name, reason=str(error))
            chatter.close(STORE_AWAY)

    async def _open_device(
        self, chatter: Chatter, connection: Connection, user: int, greet: Callable[[], None]
    ) -> None:
        site, device = chatter.caller.site, chatter.device_id

        async def open_with(rooms: Sequence[str], rooms_at: int) -> None:
            connection.rooms_at = rooms_at
            await self._delivery.open(connection, device, rooms, greet)

        await self._opener.open(open_with, site, user)
        self._opener.entered(site, connection.handles, user, device)

    def leave(self, chatter: Chatter) -> None:
        """The connection is over."""
        self._wheel.cancel(chatter)
        if self._attendance.has(chatter):
            self._attendance.leave(chatter)
            for listener in self.on_left:
                listener(chatter)
        if chatter.connection is not None:
            self._delivery.close(chatter.connection)
            chatter.connection = None
        self._limits.disconnect(chatter.seat)

    def identify(self, chatter: Chatter, entered: Entered) -> None:
        """Knows who the client is, and by which session."""
        caller = chatter.caller
        caller.user, caller.device_id, caller.app_id = entered.user, entered.device_id, entered.app_id
        caller.session = entered.session
        chatter.authorised(now_ms())
        self._schedule_renewal(chatter, entered.expires_at)

    def _greet(self, chatter: Chatter, entered: Entered, token: str) -> None:
        link, site = chatter.link, chatter.caller.site
        link.confirm()
        link.hold_session()
        link.send_event("_settings", [settings_for(site, entered, token, chatter.arrival.tls)])
        if not self._attendance.has(chatter):
            self._counts.of(site.name).connects["accepted"] += 1
        chatter.facts = self._facts_of(chatter)
        self.join(chatter)
        _log.info("connected", site=site.name, connection=link.log_name, rooms=len(entered.rooms))

    def join(self, chatter: Chatter) -> None:
        """The client has its `_settings`: it is here, and others hear of it."""
        self._attendance.join(chatter)
        if not chatter.caller.me.must_change:
            for listener in self.on_joined:
                listener(chatter)

    async def _take_seat(self, chatter: Chatter, room: str) -> None:
        try:
            await self._limits_user(chatter, room)
        except LimitReached as reached:
            raise ChatRefusal("too_many", str(reached)) from None

    async def _limits_user(self, chatter: Chatter, room: str) -> None:
        seat = await self._limits.connect_user(chatter.caller.site, room)
        if chatter.is_closed:
            self._limits.disconnect(seat)
        else:
            chatter.seat = chatter.seat.joined_by(seat)

    def _facts_of(self, chatter: Chatter) -> ConnectionFacts | None:
        if not self._counts.records.is_kept:
            return None
        at, caller = chatter.arrival, chatter.caller
        known = (caller.me.room, caller.device, caller.address, at.user_agent, at.version, at.tls, at.connected_at)
        return ConnectionFacts(*known, at.waited_ms, chatter.authorise_ms)

    def _close_late(self, chatter: Chatter) -> None:
        self._counts.of(chatter.caller.site.name).closes[LOGIN_LATE] += 1
        chatter.close(LOGIN_LATE)

    def _schedule_renewal(self, chatter: Chatter, expires_at: int) -> None:
        """Half of a session's life after its begin the client gets another; at once where that is over."""
        whole_ms = chatter.caller.site.require_section(Messenger).session_ttl_seconds * 1000
        left_seconds = max(0.0, expires_at - whole_ms * _RENEWED_AFTER - now_ms()) / 1000
        self._schedule(chatter, self._begin_renewal, left_seconds)

    def _schedule(self, chatter: Chatter, act: Callable[[Chatter], None], seconds: float) -> None:
        """Has something done with a connection, unless it is over by now: nobody would cancel that."""
        if not chatter.is_closed:
            chatter.on_deadline = act
            self._wheel.schedule(chatter, asyncio.get_running_loop().time() + seconds)

    def _begin_renewal(self, chatter: Chatter) -> None:
        start_logged(self._renew(chatter), "renew a session")

    async def _renew(self, chatter: Chatter) -> None:
        try:
            renewed = await self._logins.renew(chatter.caller)
        except ChatRefusal:
            # The database is away; the session lasts for half of its life yet.
            self._schedule(chatter, self._begin_renewal, LOGIN_SECONDS)
            return
        if chatter.is_closed:
            return
        if renewed is None:
            chatter.close(SESSION_VOID)
            return
        token, expires_at = renewed
        chatter.link.send_event("_session", [{"session": token}])
        self._schedule_renewal(chatter, expires_at)


def settings_for(site: Site, entered: Entered, token: str, tls: str | None) -> dict[str, Any]:
    """The arguments of `_settings`."""
    return {
        "device_ttl": site.device_ttl_seconds,
        "session": token,
        "user": entered.user.shown,
        "must_change_password": entered.user.must_change,
        "limits": limits_of(site),
        "connection": {"tls": tls_of(tls)},
    }


def limits_of(site: Site) -> Mapping[str, Any]:
    """The bounds that a client is to know."""
    settings = site.require_section(Messenger)
    return {
        "event_bytes": MAX_EVENT_BYTES,
        "events_waiting": MAX_EVENTS_WAITING,
        "events_per_second": settings.events_per_second,
        "iterations": settings.iterations,
        "session_ttl": settings.session_ttl_seconds,
        "files": settings.files is not False,
        "file_part": settings.file_part_bytes,
        "file_max": settings.file_max_bytes,
    }


def tls_of(text: str | None) -> dict[str, str] | None:
    """The protocol and cipher of TLS at this server, as clients see it."""
    protocol, _, cipher = (text or "").partition(" ")
    return {"protocol": protocol, "cipher": cipher} if protocol else None
