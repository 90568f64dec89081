"""The builder of a node: makes every part, starts the parts in order, and closes them in reverse. It is the only module
that knows all layers. It knows protocols only as entries of a list."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections import ChainMap
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from starlette.routing import BaseRoute

from app.backends import figures as backend_figures
from app.backends.auth_trial import try_auth
from app.backends.peers import HttpPeers
from app.canary import figures as canary_figures
from app.canary.canary import Canary, Subject
from app.catalog.catalog import Catalog
from app.catalog.follower import CatalogFollower, Serving
from app.catalog.operations import SiteBook, site_operations
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_facts import SiteFacts
from app.catalog.site_rules import SiteRules
from app.catalog.sql_sites import SqlSites
from app.config.settings import CANARY_SITE, Config, Site
from app.console.protocol import CONSOLE
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.traced_listener import TracedListener
from app.errors import ConfigError
from app.ids import FlakeIds
from app.journal import figures as journal_figures
from app.journal.database import read_database_url
from app.journal.figures import WriterWatch
from app.journal.recorder import Recorder
from app.node import tls_figures
from app.node.certificates import peer_context
from app.node.control import Control, NodeParts
from app.node.dispatch import Dispatcher
from app.node.journal_process import JournalProcess
from app.node.load_bench import LoadBench, open_bench
from app.node.operations import node_operations
from app.node.port import own_port_of
from app.node.purge import purge_stored
from app.node.served_sites import ServedSites, SiteParts
from app.node.worker_slot import WorkerSlot
from app.observe import figures
from app.observe.counts import Counts
from app.observe.fleet import FETCH_TIMEOUT_SECONDS, Fleet
from app.observe.health import Health
from app.observe.loop_lag import LoopLag
from app.observe.metric import Metric
from app.observe.metrics import Metrics, NodeInfo
from app.observe.pages import OWN_METRICS_PATH, observe_routes
from app.observe.versions import versions
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec
from app.protocols.reading import new_reading_pool
from app.redis.address import Location, read_redis_url
from app.redis.client import Commands
from app.redis.embedded import EmbeddedValkey
from app.redis.topology import new_redis
from app.socketio.bundle import bundle_routes
from app.socketio.engine_ports import EngineSettings
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.newcomers import Newcomers
from app.socketio.ports import Place
from app.socketio.repeats import FREE, Repeats
from app.socketio.session_router import NodeRouting, SessionRouter, sid_prefix
from app.socketio.socket_server import SocketServer
from app.store.node_calls import NodeCalls
from app.store.nodes import Node, new_node_id
from app.store.originals import Originals
from app.store.places import RedisPlaces
from app.store.sampler import QueueSampler
from app.store.seats import RedisSeats
from app.store.traced import new_bus, new_queues
from app.tracing import figures as tracing_figures
from app.tracing.load import check_tracing_packages, open_tracing
from app.transport.outbox import closings
from app.transport.peer_socket import PeerSocket
from app.transport.refusals import refused
from app.watched_tasks import current_tasks
from app.webhooks.protocol import WEBHOOKS
from app.webhooks.redis_outbox import HookOutbox


class Services:
    """The parts of one node. Lives from `start` until the exit stack that `start` used is left."""

    _follower: CatalogFollower
    _bench: LoadBench | None = None

    def __init__(
        self, config: Config, redis: Commands, counts: Counts, slot: WorkerSlot, specs: Sequence[ProtocolSpec]
    ) -> None:
        """Makes the parts without starting any. Raises ConfigError for keys and URLs that cannot be read."""
        specs = (*specs, WEBHOOKS, *([CONSOLE] if config.console.is_on else []))
        self.redis, self.counts = redis, counts
        self._config = config
        self.peer_socket = PeerSocket(slot.socket_of(slot.number))
        self.node_id = node = new_node_id()
        sites = config.sites.values()
        self._ids = FlakeIds(0, 0)  # they move to the leased place before the first message is accepted
        self._tracing = tracing = open_tracing(config, node, counts)
        queues = new_queues(redis, node, config.max_body_bytes, config.journal_url is not None, tracing)
        self.delivery = Delivery(sites, queues, counts)
        listener = self.delivery if tracing is None else TracedListener(self.delivery, tracing)
        self.bus = new_bus(redis, node, listener, counts, sites, tracing)
        self.bus.on_seq = queues.note_seq
        self.bus.faults = counts.faults
        self.limits = Limits(RedisSeats(redis, node), counts, self.delivery.new_errands())
        self.delivery.on_interrupted.append(self.limits.restore)
        self._node = Node(
            redis, queues, node, sites, self.delivery.bus_interrupted, lambda buried: self.delivery.on_buried(buried)
        )
        self._reading, self._calls = new_reading_pool(), NodeCalls(redis, node)
        parts = (redis, self.delivery, self.limits, self._ids, counts, self._node.burials)
        more = (self._reading, self._calls, self.bus.hook_wakes, self.bus.presence_changes)
        self._offered = offered = NodeServices(config, node, *parts, *more, is_traced=tracing is not None)
        self.protocols = {spec.name: spec.open(offered) for spec in specs}
        applications = [p.namespaces for p in self.protocols.values() if p.namespaces is not None]
        self.socket_server = SocketServer(
            NamespaceRouter(applications),
            _engine_settings(config, node),
            newcomers=Newcomers(config.joining_per_address),
            repeats=Repeats(FREE if config.joining_per_address else math.inf),
            query_fields=dict(ChainMap(*(dict(p.query_fields) for p in self.protocols.values()))),
        )
        self._places = RedisPlaces(redis, node, Place(self.peer_socket.path, config.cluster.url))
        # The time-out is longer than any poll waits: a session that hears nothing for this time is over.
        peer_tls = peer_context(config)
        self._peers = HttpPeers((config.ping_interval_ms + config.ping_timeout_ms) / 1000 + 5, peer_tls)
        routing = NodeRouting(node, self._places, self._peers, config.cluster.secret, counts.passed_requests, peer_tls)
        self.sessions = SessionRouter(self.socket_server, routing)
        self._originals = Originals(redis, sites)
        self._sampler = QueueSampler(redis, config.tenants, counts, queues.touched)
        self._loop_lag = LoopLag(counts.loop_lag_seconds)
        self._journal = (Recorder(redis, node, counts, config.journal.backlog), WriterWatch(redis, counts))
        self._canary = _new_canary(config, node, counts, self.delivery)
        self.health = Health(self._checks(), self._notices())
        self._control = self._new_control(offered, slot)
        info = NodeInfo(node, versions().get("recado", "unknown"))
        self._fleet = self._new_fleet(Metrics(_metrics_of(specs), counts, self.health, info, _label(slot)), slot)
        self.dispatcher = self._new_dispatcher(config, specs)
        self.served = self._new_served(counts)
        self._share_counts(counts)

    def _share_counts(self, counts: Counts) -> None:
        """Counts what others count already."""
        counts.sessions = lambda: len(self.socket_server.engine.sessions)
        counts.transport_closings = closings
        counts.refused = refused

    @classmethod
    async def start(
        cls,
        config: Config,
        stack: contextlib.AsyncExitStack,
        slot: WorkerSlot,
        specs: Sequence[ProtocolSpec],
    ) -> "Services":
        """Starts every part in order. Leaving `stack` closes the parts in reverse."""
        counts = Counts(config.sites)
        location = await _redis_location(config, stack)
        if slot.count == 1:
            # Of several workers the supervisor keeps it. It ends after everything that still writes to Redis.
            journal = JournalProcess(config, location)
            stack.push_async_callback(journal.stop)
            journal.start()
        backlog = config.journal.backlog if config.journal_url is not None else 0
        redis = new_redis(location, config.redis_timeout_seconds, counts, journal_backlog=backlog)
        await redis.start()
        stack.push_async_callback(redis.close)
        rows = SqlSites.open(config.journal_url) if config.journal_url is not None else None
        copy, rules = RedisCopy(redis), SiteRules(config, specs)
        follower = CatalogFollower(config, rows, copy, rules)
        stack.push_async_callback(follower.close)
        # Every part is then made with the stored sites as with those of sites.yml.
        await follower.load()
        services = cls(config, redis, counts, slot, specs)
        services._follower = follower
        if rows is not None:
            catalog = Catalog(rows, copy, rules)
            sections = [section for spec in specs for section in spec.sections]
            book = SiteBook(config, redis, catalog, copy, rules, sections, services._hook_state, try_auth)
            services._offered.operations.extend(site_operations(book))
        services._bench = open_bench(config, services._control.calls, services._offered, stack)
        await services._start(config, stack)
        facts = SiteFacts(redis, services.node_id, config.sites, counts)
        stack.push_async_callback(facts.close)
        facts.start()
        return services

    async def _hook_state(self, site: Site) -> dict[str, Any]:
        shown = await HookOutbox(self.redis, self.node_id, site).overview(1)
        return {name: shown[name] for name in ("state", "waiting", "dropped")}

    def follow(self, reload: Callable[[], None]) -> None:
        """Begins to follow the changes of stored sites; `reload` reads the files again."""
        served, purge = self.served, partial(purge_stored, self.redis, list(self.protocols.values()))
        self._follower.start(Serving(self.node_id, served.add, served.change, served.remove, purge, reload))

    async def _start(self, config: Config, stack: contextlib.AsyncExitStack) -> None:
        stack.callback(self._reading.close)
        if self._tracing is not None:
            stack.push_async_callback(self._tracing.close)
        if config.journal_url is not None:
            for part in self._journal:
                # They end behind everything that ends connections.
                stack.push_async_callback(part.close)
                part.start()
        # The stack closes protocols after the node, whose close may still report disconnected users to them.
        for protocol in self.protocols.values():
            stack.push_async_callback(protocol.close)
        stack.push_async_callback(self._node.close)
        await self._node.start()
        await self._node.lease_ids(self._ids, config.datacenter, config.worker)
        stack.push_async_callback(self.limits.close)
        stack.push_async_callback(self.bus.close)
        await self.bus.start()
        stack.push_async_callback(self._originals.close)
        # Before the first device connects.
        await self._originals.start()
        for protocol in self.protocols.values():
            await protocol.start()
        stack.push_async_callback(self._places.close)
        await self._places.start()
        stack.push_async_callback(self._peers.aclose)
        self._sampler.start()
        stack.push_async_callback(self._sampler.close)
        self._loop_lag.start()
        stack.callback(self._loop_lag.close)
        self._control.start()
        stack.push_async_callback(self._control.close)

    def _sites_changed(self) -> None:
        """Makes what is made of all sites together."""
        self.health.set_notices(self._notices())
        self.dispatcher.serve_pages(self._pages())
        engine = self.socket_server.engine
        engine.settings = replace(engine.settings, readable_origins=_readable_origins(self._config))

    def _checks(self) -> dict[str, Callable[[], bool]]:
        tasks = current_tasks()
        return {
            "redis": lambda: self.redis.is_available,
            "bus": lambda: self.bus.is_hearing,
            "tasks": lambda: tasks.are_whole,
        }

    def _notices(self) -> dict[str, Callable[[], bool]]:
        own = {} if self._canary is None else {"canary": lambda canary=self._canary: canary.is_well}
        return own | dict(chain.from_iterable(protocol.notices.items() for protocol in self.protocols.values()))

    def _pages(self) -> list[BaseRoute]:
        own = [*bundle_routes(self._config.client_bundle), *observe_routes(self._fleet, self.health)]
        return [*own, *chain.from_iterable(one.routes for one in self.protocols.values())]

    def _new_served(self, counts: Counts) -> ServedSites:
        chores = (self.delivery, self.bus, self._node, self._sampler, self._originals, self.limits, counts)
        return ServedSites(SiteParts(self._config, *chores, self.socket_server, self.protocols), self._sites_changed)

    def _new_control(self, offered: NodeServices, slot: WorkerSlot) -> Control:
        parts = NodeParts(self.redis, offered.node, offered.counts, self.health, slot, self.protocols, self._calls)
        control = Control(parts)
        self.bus.on_call = control.calls.receive
        offered.operations.extend(node_operations(self.redis, control.calls))
        return control

    def _new_fleet(self, metrics: Metrics, slot: WorkerSlot) -> Fleet:
        return Fleet(
            metrics,
            slot.number,
            slot.siblings,
            lambda number: self._peers.fetch(slot.socket_of(number), OWN_METRICS_PATH, FETCH_TIMEOUT_SECONDS),
        )

    def _new_dispatcher(self, config: Config, specs: Sequence[ProtocolSpec]) -> Dispatcher:
        protocols = self.protocols.values()
        port = config.port
        served = {name: one for name, one in self.protocols.items() if one.port in (None, port)}
        applications = {
            path: one.application
            for name, one in served.items()
            for path in (name, *one.more_paths)
            if one.application is not None
        }
        endpoints = dict(chain.from_iterable(one.endpoints.items() for one in protocols))
        dispatcher = Dispatcher(self.sessions, endpoints, applications, self._pages())
        for one in protocols:
            dispatcher.serve_sites(one.site_paths)
            if one.port is not None and one.port != port and one.application is not None:
                dispatcher.serve_port(one.port, one.application)
        for spec in specs:
            if spec.name in config.mounts:
                ports = [port for port in config.mount_ports.get(spec.name, ()) if port != config.port]
                dispatcher.mount(spec.name, config.mounts[spec.name], spec.mounts, ports)
        return dispatcher

    def listens(self, bound: socket.socket, tls: ssl.SSLContext | None) -> None:
        """The node accepts connections on this socket; with `tls` a client of its own reaches it."""
        own_port = own_port_of(bound, tls)
        if self._canary is not None:
            self._canary.start(own_port)
        if self._bench is not None:
            self._bench.listens(own_port)

    async def drain(self, seconds: float) -> None:
        """Tells every connection to leave, spread over the time. Returns when all acks and disconnects have reached
        Redis."""
        if self._canary is not None:
            await self._canary.close()
        await asyncio.gather(
            self.socket_server.drain(seconds), *(protocol.drain(seconds) for protocol in self.protocols.values())
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.redis.timeout_seconds):
                await self.delivery.drain()
        await asyncio.gather(*map(self._settle, self.protocols.values()))

    async def _settle(self, protocol: NodeProtocol) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(protocol.settle_seconds or self.redis.timeout_seconds):
                await protocol.settle()

    async def release(self) -> None:
        """Makes other nodes answer the polls that wait here for their sessions, until it is cancelled."""
        await self.sessions.release_polls()


def _metrics_of(specs: Sequence[ProtocolSpec]) -> Iterable[Metric]:
    of_parts = (backend_figures, journal_figures, canary_figures, tls_figures, tracing_figures)
    own = (figures.METRICS, *(part.METRICS for part in of_parts))
    return chain(*own, *(spec.metrics for spec in specs))


def check_together(config: Config) -> None:
    """Raises ConfigError for settings that no server can start with, on whatever machine."""
    if config.redis_url:
        read_redis_url(config.redis_url)
    if config.journal_url is not None:
        read_database_url(config.journal_url)
    check_tracing_packages(config)
    if config.workers > 1 and config.worker is not None:
        raise ConfigError("flakeid.worker: expected none with several workers, each of which leases its own")


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
        readable_origins=_readable_origins(config),
    )


def _new_canary(config: Config, node: str, counts: Counts, delivery: Delivery) -> Canary | None:
    site = config.sites.get(CANARY_SITE)
    if site is None:
        return None

    def forget(user_room: str, device: str) -> Awaitable[object]:
        return delivery.follow_up.forget_device(site, user_room, device, resync=False)

    return Canary(Subject(node, sid_prefix(node), site.api_key, forget), counts)


def _readable_origins(config: Config) -> frozenset[str] | None:
    """The origins of all sites; None when a site has no `origins`, so that pages of any origin may be its own."""
    origins = [site.origins for site in config.sites.values()]
    if not origins or None in origins:
        return None
    return frozenset(chain.from_iterable(filter(None, origins)))


def _label(slot: WorkerSlot) -> str | None:
    """The label that distinguishes the figures of this process from the figures of its siblings; None without any."""
    return str(slot.number) if slot.count > 1 else None
