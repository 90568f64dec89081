"""Builds everything and owns its life: starts in order, drains on SIGTERM, closes in reverse. The only module that
knows all the others."""

import asyncio
import contextlib
import gc
import resource
import socket
from collections.abc import Callable
from importlib import metadata

import structlog
import uvloop
from msgspec import structs

from app.backends.peers import HttpPeers
from app.backends.room_directory import HttpRoomDirectory
from app.backends.user_updates import HttpUserUpdates
from app.config.settings import Config
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.ports import Place
from app.demo.site import demo_routes, demo_site
from app.ids import FlakeIds
from app.node.dispatch import AsgiApp, Dispatcher
from app.node.http_server import Drainable, HttpServer
from app.node.port import listen
from app.node.worker_slot import WorkerSlot, socket_directory
from app.observe.counts import Counts
from app.observe.fleet import FETCH_TIMEOUT_SECONDS, Fleet
from app.observe.health import Health
from app.observe.loop_lag import LoopLag
from app.observe.metrics import Metrics
from app.observe.pages import OWN_METRICS_PATH, observe_routes
from app.protocols.channels.redis_channels import RedisChannels
from app.protocols.channels.server import ChannelsServer, ChannelsSettings
from app.protocols.redis_publish.services import PublishServices
from app.protocols.sites.admission import Admission
from app.protocols.sites.application import SitesApplication
from app.protocols.sites.redis_tickets import RedisTickets
from app.protocols.sites.revocation import revocation_routes
from app.protocols.sites.send import SendEndpoint
from app.protocols.sites.tickets import Tickets
from app.protocols.topics.http_bind_directory import HttpBindDirectory
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.server import TopicsParts, TopicsServer
from app.redis.address import Location, read_redis_url
from app.redis.client import Commands
from app.redis.embedded import EmbeddedValkey
from app.redis.topology import new_redis
from app.socketio.bundle import bundle_routes
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.session_router import NodeRouting, SessionRouter, sid_prefix
from app.socketio.socket_server import EngineSettings, SocketServer
from app.store.bus import Bus
from app.store.nodes import Node, new_node_id
from app.store.places import RedisPlaces
from app.store.queues import RedisQueues
from app.store.sampler import QueueSampler
from app.store.seats import RedisSeats
from app.transport.outbox import closings
from app.transport.peer_socket import PeerSocket

_COLLECT_AFTER_OBJECTS = 50_000

_log = structlog.get_logger(__name__)


def run(config: Config, demo: bool = False) -> None:
    """Runs the server until SIGTERM or SIGINT. Raises ConfigError or StoreError when it cannot start."""
    with listen(config.host, config.port) as listening, socket_directory() as directory:
        serve(config, demo, listening, WorkerSlot(directory), lambda url: _log.info("listening", url=url))


def serve(
    config: Config, demo: bool, bound: socket.socket, seat: WorkerSlot, on_listening: Callable[[str], None]
) -> None:
    """Runs one process on a socket; `on_listening` is told the URL once it serves. Ends and raises like `run`."""
    _raise_file_limit()
    _tune_collector()
    if demo:
        own = demo_site(config, bound.getsockname()[1])
        config = structs.replace(config, sites={**config.sites, "demo": own})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, demo, bound, seat, on_listening))


async def _serve(
    config: Config, demo: bool, bound: socket.socket, seat: WorkerSlot, on_listening: Callable[[str], None]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        services = await Services.start(config, stack, seat)
        observed = observe_routes(services.fleet, services.health)
        revocation = revocation_routes(config.sites, services.tickets)
        routes = [*bundle_routes(), *observed, *revocation, *(demo_routes() if demo else [])]
        application = Dispatcher(services.send, services.sessions, routes, services.doors)
        application.mount(config.mounts)
        server = HttpServer(application, config, services, on_listening)
        await server.serve(sockets=[bound])


class Services:
    """What one node consists of. Lives from `start` until the exit stack that it was started on is left."""

    def __init__(self, config: Config, redis: Commands, counts: Counts, seat: WorkerSlot) -> None:
        """Makes the parts; nothing runs yet. Raises ConfigError for keys and URLs that cannot be read."""
        self.redis = redis
        self.peer_socket = PeerSocket(seat.socket_of(seat.number))
        node = new_node_id()
        sites = config.sites.values()
        # Moved to the place that is leased before the first message is accepted.
        self._ids = FlakeIds(0, 0)
        queues = RedisQueues(redis, node, config.max_body_bytes)
        self.delivery = Delivery(sites, queues, counts)
        self.bus = Bus(redis, node, self.delivery, counts.probe_seconds, sites)
        self.bus.on_seq = queues.note_seq
        self._directory = HttpRoomDirectory(config.auth_timeout_seconds, counts)
        self._bind_directory = HttpBindDirectory(config.auth_timeout_seconds)
        self._updates = HttpUserUpdates(config.auth_timeout_seconds, counts)
        self.limits = Limits(RedisSeats(redis, node), counts)
        self.delivery.on_interrupted.append(self.limits.restore)
        self.tickets = Tickets(RedisTickets(redis), counts)
        admission = Admission(self._directory, self.limits, self.tickets)
        application = SitesApplication(config.sites, self.delivery, admission, self._updates, counts)
        on_taken_for_dead, on_buried = self.delivery.bus_interrupted, application.report_buried
        self.node = Node(redis, queues, node, sites, on_taken_for_dead, on_buried)
        self._publish = PublishServices(sites, redis, node, self.limits, counts)
        router = NamespaceRouter(application, self._publish.application) if self._publish else application
        self.socket_server = SocketServer(router, _engine_settings(config, node))
        self._places = RedisPlaces(redis, node, Place(self.peer_socket.path, config.cluster.url))
        # Longer than any poll waits: a session that hears nothing for so long is over.
        self._peers = HttpPeers((config.ping_interval_ms + config.ping_timeout_ms) / 1000 + 5)
        cluster = NodeRouting(node, self._places, self._peers, config.cluster.secret, counts.passed_requests)
        self.sessions = SessionRouter(self.socket_server, cluster)
        self.send = SendEndpoint(config.sites, self.delivery, self._ids, config.max_body_bytes, counts)
        channels, channels_settings = RedisChannels(redis, node), _channels_settings(config, counts)
        self.channels = ChannelsServer(config.sites, self.delivery, channels, self._ids, self.limits, channels_settings)
        self.topics = TopicsServer(config.sites, self._topics_parts(RedisTopics(redis, node), config, counts))
        self.node.burials.append(self.topics.hub.bury)
        #: The protocols with paths of their own, by name.
        self.doors: dict[str, AsgiApp] = {"channels": self.channels, "topics": self.topics}
        #: The protocols whose connections have to be told when this node ends.
        self.drainables: list[Drainable] = [self.socket_server, self.channels, self.topics]
        self._sampler = QueueSampler(redis, sites, counts)
        self._loop_lag = LoopLag(counts.loop_lag_seconds)
        self.health = Health({"redis": lambda: self.redis.is_available, "bus": lambda: self.bus.is_hearing})
        self.fleet = self._fleet(Metrics(counts, self.health, node, _version(), _label(seat)), seat)
        counts.sessions = lambda: len(self.socket_server.eio.sockets)
        counts.transport_closings = closings

    @classmethod
    async def start(cls, config: Config, stack: contextlib.AsyncExitStack, seat: WorkerSlot) -> "Services":
        """Starts everything in order; leaving `stack` closes it in reverse."""
        counts = Counts(config.sites)
        redis = new_redis(await _redis_location(config, stack), config.redis_timeout_seconds, counts)
        await redis.start()
        stack.push_async_callback(redis.close)
        services = cls(config, redis, counts, seat)
        await services._start(config, stack)
        return services

    async def _start(self, config: Config, stack: contextlib.AsyncExitStack) -> None:
        # Closed behind the node, which reports what it may have left.
        for adapter in (self._updates, self._directory, self._bind_directory):
            stack.push_async_callback(adapter.aclose)
        stack.push_async_callback(self.node.close)
        await self.node.start()
        await self.node.lease_ids(self._ids, config.datacenter, config.worker)
        stack.push_async_callback(self.limits.close)
        for part in (self.bus, self._publish, self.topics, self._places):
            stack.push_async_callback(part.close)
            await part.start()
        stack.push_async_callback(self._peers.aclose)
        self._sampler.start()
        stack.push_async_callback(self._sampler.close)
        self._loop_lag.start()
        stack.callback(self._loop_lag.close)

    def _fleet(self, metrics: Metrics, seat: WorkerSlot) -> Fleet:
        return Fleet(
            metrics,
            seat.number,
            seat.count,
            lambda number: self._peers.fetch(seat.socket_of(number), OWN_METRICS_PATH, FETCH_TIMEOUT_SECONDS),
        )

    def _topics_parts(self, store: RedisTopics, config: Config, counts: Counts) -> TopicsParts:
        bounds = (counts, self.node.id, config.max_body_bytes)
        return TopicsParts(self.delivery, store, self._bind_directory, self.limits, self._ids, *bounds)

    async def drain(self, seconds: float) -> None:
        """Tells every connection to leave, spread over the time; returns when acks and ends have reached Redis."""
        await asyncio.gather(*(protocol.drain(seconds) for protocol in self.drainables))
        await self._publish.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.redis.timeout_seconds):
                await self.delivery.drain()
                await self.channels.close()
                await self.topics.hub.drained()

    async def release(self) -> None:
        """Has other nodes answer the polls that wait here for them; until it is cancelled."""
        await self.sessions.release_polls()


def _version() -> str:
    try:
        return metadata.version("recado")
    except metadata.PackageNotFoundError:
        # Run from a checkout that was not installed.
        return "unknown"


async def _redis_location(config: Config, stack: contextlib.AsyncExitStack) -> Location:
    if config.redis_url:
        return read_redis_url(config.redis_url)
    embedded = EmbeddedValkey(config.data_dir)
    stack.push_async_callback(embedded.stop)
    await embedded.start()
    return embedded.address


def _engine_settings(config: Config, node: str) -> EngineSettings:
    return EngineSettings(
        ping_interval_seconds=config.ping_interval_ms / 1000,
        ping_timeout_seconds=config.ping_timeout_ms / 1000,
        max_payload_bytes=config.max_payload_bytes,
        max_outbox_bytes=config.outbox_limit_bytes,
        sid_prefix=sid_prefix(node),
    )


def _channels_settings(config: Config, counts: Counts) -> ChannelsSettings:
    return ChannelsSettings(
        ping_interval_seconds=config.ping_interval_ms / 1000,
        ping_timeout_seconds=config.ping_timeout_ms / 1000,
        max_body_bytes=config.max_body_bytes,
        max_payload_bytes=config.max_payload_bytes,
        counts=counts,
    )


def _label(seat: WorkerSlot) -> str | None:
    """What tells the figures of this process from those of its siblings."""
    return str(seat.number) if seat.count > 1 else None


def _tune_collector() -> None:
    """The cycle collector took 5 % of the time under load and found nothing: a closed connection's few cycles can
    wait, and what is there from the start need never be looked at."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 50)


def _raise_file_limit() -> None:
    """Each connection is an open file, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
