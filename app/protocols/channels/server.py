"""The protocol `channels` as one ASGI application: publishers, subscribers and the browser client of every site.

    /channels/<site>                  WebSocket of a subscriber
    /channels/<site>/push, ...        publishers
    /channels/<site>/sysadmin         the site's channels, for its owner
    /channels/<site>/client.js        the browser client; js/pushserver.js is the same in the form of WS-PushServer's

The server is the core's audience listener for pushes and hands each one to the site's door.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any
from uuid import uuid4

import structlog
from msgspec import Struct, field

from app.clock import now_ms
from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.draining import leave_seconds
from app.core.limits import Limits
from app.core.live import ConnectionFacts, LiveConnection
from app.core.message import Audience, LiveMessage
from app.core.seat import NO_SEAT
from app.errors import LimitReached, StoreUnavailable
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.protocols.channels.channel_store import ChannelStore
from app.protocols.channels.detail import Detail, encode_detail
from app.protocols.channels.door import Door
from app.protocols.channels.opening import OpeningRequest
from app.protocols.channels.publishers import (
    PublisherEndpoint,
    Publishers,
    history_of,
    refuse_not_found,
    send_answer,
)
from app.protocols.channels.settings import Channels
from app.protocols.channels.sockets import Ending, Heartbeat, SubscriberSocket
from app.protocols.channels.subscriber import Subscriber
from app.protocols.channels.sysadmin import Sysadmin
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, is_mounted, query_of, segments_of
from app.transport.deadline_wheel import DeadlineWheel
from app.transport.listener import EXTENSION
from app.transport.tls_text import shared_tls_of
from app.transport.user_agent import user_agent_of

#: Path -> the files of the browser client that it answers.
_SCRIPTS = {"client.js": ("client.js",), "js/pushserver.js": ("client.js", "pushserver.js")}
_TICK_SECONDS = 0.25
_TICKS_PER_DEADLINE = 100
_SETTLE_SECONDS = 2.0

#: A subscriber's message names one channel, and subscribers need no credentials.
MAX_ACTION_BYTES = 65_536

_log = structlog.get_logger(__name__)


class ChannelsSettings(Struct, frozen=True):
    """The server's settings for WebSockets and bodies, and its counters."""

    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_body_bytes: int = 1_000_000
    #: The longest message of a subscriber.
    max_payload_bytes: int = 1_000_000
    counts: Counts = field(default_factory=Counts)
    #: The threads that read long bodies; None: threads of its own.
    reading: FairPool | None = None


class ChannelsServer:
    """Lives as long as the node; `drain` ends its connections, `close` waits for their last commands to Redis."""

    def __init__(
        self,
        sites: dict[str, Site],
        delivery: Delivery,
        store: ChannelStore,
        ids: FlakeIds,
        limits: Limits,
        settings: ChannelsSettings,
    ) -> None:
        """Serves the sites that have channels."""
        self._settings = settings
        self._limits = limits
        self._errands = delivery.new_errands()
        self._audiences = delivery.audiences("channels", self)
        self._sites: dict[str, Site] = {}
        self.doors: dict[str, Door] = {}
        self._store = store
        delivery.on_interrupted.append(self._restore_counts)
        publishers = Publishers(delivery, store, ids, self._errands, settings.reading)
        self._sysadmin = Sysadmin({}, store)
        self._publishers = PublisherEndpoint(publishers, self._sysadmin, settings.max_body_bytes, settings.counts)
        shortest = min(settings.ping_interval_seconds, settings.ping_timeout_seconds)
        wheel = DeadlineWheel(min(_TICK_SECONDS, shortest / _TICKS_PER_DEADLINE))
        self._heartbeat = Heartbeat(wheel, settings.ping_interval_seconds, settings.ping_timeout_seconds)
        for site in sites.values():
            self.add(site)

    def add(self, site: Site) -> None:
        """Serves one more site, if it has channels."""
        if not site.section(Channels):
            return
        counts, records = self._settings.counts.of(site.name), self._settings.counts.records
        door = self.doors[site.name] = Door(site, self._audiences, self._store, self._limits, counts, records)
        self._sysadmin.add(site, door.board)
        self._sites[site.name] = site

    async def remove(self, site: Site, ending: Ending) -> None:
        """Closes the subscribers of a site, and serves it no more."""
        if self._sites.pop(site.name, None) is None:
            return
        door = self.doors[site.name]
        await door.drain(leave_seconds(len(door.board.subscribers)), ending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                await door.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or WebSocket below `/channels/`."""
        _, name, *rest = [*segments_of(scope), ""]
        path = "/".join(rest).rstrip("/")
        site = self._sites.get(name)
        if scope["type"] == "websocket":
            await self._serve_websocket(site if not path or is_mounted(scope) else None, scope)
        elif site is None:
            await send_answer(send, refuse_not_found())
        elif path in _SCRIPTS and (scope["method"] in ("GET", "HEAD") or is_mounted(scope)):
            await _send_client(_SCRIPTS[path], scope, send)
        else:
            await self._publishers(site, path, scope, receive, send)

    async def drain(self, seconds: float) -> None:
        """Closes all connections, spread over this time, so that subscribers connect to other nodes."""
        await asyncio.gather(*(door.drain(seconds) for door in self.doors.values()))

    async def close(self) -> None:
        """Waits until all pending writes have reached Redis. Called at the end, with a time-out."""
        for door in list(self.doors.values()):
            await door.close()
        await self._errands.drain()

    async def bury(self, site: Site, node: str) -> None:
        """Takes the subscribers of a dead node out of the count. Raises StoreUnavailable. See `Node.burials`."""
        if site.name in self._sites:
            await self._store.note_subscribers(site, 0, node)

    def _restore_counts(self) -> None:
        for door in self.doors.values():
            door.headcount.restore()

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The open subscribers of a site; see `LiveLister`."""
        door = self.doors.get(site)
        return iter(() if door is None else list(door.board.subscribers.values()))

    # Called by the core

    def published(self, site: Site, message: LiveMessage) -> None:
        """A push or the deletion of a channel, for all nodes with subscribers."""
        door = self.doors.get(site.name)
        if door is not None:
            door.board.published(message)

    def missed(self, site: Site) -> None:
        """Messages are lost for good."""
        door = self.doors.get(site.name)
        if door is not None:
            door.missed()

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """The subscribers of a bound channel. A channel of that name need not exist: subscribing checks that."""
        if site.section(Channels) is None:
            return None
        return Audience("channels", [name], encode_detail(Detail()), history_of(site), [name])

    # WebSockets

    async def _serve_websocket(self, site: Site | None, scope: Scope) -> None:
        socket: Any = scope["extensions"][EXTENSION]["connection"]
        if site is None:
            socket.reject(404)
            return
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
        if origin and site.origins is not None and origin not in site.origins:
            # A client that is no browser sends no origin and is allowed.
            self.doors[site.name].refuse_origin(origin)
            socket.reject(403)
            return
        reached: LimitReached | None = None
        seat = NO_SEAT
        try:
            seat = await self._limits.connect(site, _address_of(scope))
        except LimitReached as error:
            # Without the frames: this one holds it.
            reached = error.with_traceback(None)
        except StoreUnavailable:
            socket.reject(503, headers=[(b"retry-after", b"1")])
            return
        if self._sites.get(site.name) is not site:
            self._limits.disconnect(seat)
            socket.reject(503, headers=[(b"retry-after", b"1")])
            return
        door = self.doors[site.name]
        is_readme = site.require_section(Channels).acks == "readme"
        subscriber = Subscriber(str(uuid4()), door, self._heartbeat, seat, says_only_connected=is_readme)
        socket.accept(
            subscriber,
            max_message_bytes=min(MAX_ACTION_BYTES, self._settings.max_payload_bytes),
            max_outbox_bytes=site.outbox_limit_bytes,
            subprotocol=_subprotocol_of(scope),
        )
        if self._settings.counts.records.is_kept:
            agent = user_agent_of(scope["headers"])
            tls = shared_tls_of(scope)
            subscriber.facts = ConnectionFacts(None, "", _address_of(scope), agent, "", tls, now_ms())
        _begin(door, subscriber, socket, scope, reached)


def _begin(
    door: Door, subscriber: Subscriber, socket: SubscriberSocket, scope: Scope, reached: LimitReached | None
) -> None:
    subscriber.attach(socket)
    if reached is None:
        door.open(subscriber, OpeningRequest.of(query_of(scope)))
    else:
        door.turn_away(subscriber, reached)


def _address_of(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else ""


def _subprotocol_of(scope: Scope) -> str | None:
    """The first subprotocol that the client offers; the server treats all alike. A browser ends the connection when the
    answer names none of them (RFC 6455, 4.1 and 4.2.2)."""
    return next(filter(None, scope.get("subprotocols", ())), None)


async def _send_client(names: Sequence[str], scope: Scope, send: Send) -> None:
    folder = files("app.protocols.channels")
    script = b"".join(folder.joinpath(name).read_bytes() for name in names)
    headers = [
        (b"content-type", b"text/javascript; charset=utf-8"),
        (b"content-length", str(len(script)).encode()),
        (b"cache-control", b"public, max-age=3600"),
        (b"access-control-allow-origin", b"*"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else script})
