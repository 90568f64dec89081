"""One serving process from its start to its exit: builds the node, serves it, drains it on SIGTERM."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial

import structlog
import uvloop
from msgspec import structs

from app.canary.site import new_key, with_canary
from app.config.settings import CANARY_SITE, Config, Site
from app.config.sources import Sources
from app.demo.site import DEMO, demo_site
from app.errors import ConfigError
from app.node.announcement import tell_listening
from app.node.build import Services, check_together
from app.node.certificates import own_client
from app.node.http_server import HttpServer
from app.node.port import listen
from app.node.reload import ConfigReader, Reload
from app.node.tls_keeper import TlsKeeper
from app.node.tls_ports import TlsPorts
from app.node.worker_slot import WorkerSlot, socket_directory
from app.protocols.protocol import ProtocolSpec
from app.socketio.bundle import missing_bundles
from app.watched_tasks import WatchedTasks

_COLLECT_AFTER_OBJECTS = 50_000
#: How long a thread that decodes a long body keeps the event loop waiting. Python's default is 5 ms.
_SWITCH_SECONDS = 0.0005

_log = structlog.get_logger(__name__)


def read_config(sources: Sources, specs: Sequence[ProtocolSpec]) -> Config:
    """The settings of a server that can start with them, on whatever machine. Raises ConfigError."""
    config = sources.load(specs)
    check_together(config)
    if sources.has_demo and config.tls.is_on:
        raise ConfigError("tls: expected none with --demo, whose site asks this server over HTTP")
    return config


def reader_of(sources: Sources, specs: Sequence[ProtocolSpec]) -> ConfigReader:
    """The reader for reloads."""

    def check(config: Config) -> None:
        for spec in specs:
            spec.check(config)

    return ConfigReader(lambda: read_config(sources, specs), check, sources.check_files)


def run(config: Config, specs: Sequence[ProtocolSpec], sources: Sources) -> None:
    """Runs the server until SIGTERM or SIGINT. Raises ConfigError or StoreError when it cannot start."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(config.host, config.port))
        further = [stack.enter_context(listen(config.host, *one)) for one in config.further_ports.items()]
        directory = stack.enter_context(socket_directory())
        redirect_fd = None
        if (redirect_port := config.tls.redirect_port) is not None:
            redirect_fd = stack.enter_context(listen(config.host, redirect_port, "tls.redirect_port")).fileno()
        slot = WorkerSlot(directory, further_fds=tuple(one.fileno() for one in further), redirect_fd=redirect_fd)
        ports = {"ports": list(config.further_ports)} if further else {}
        serve(specs, config, sources, listening, slot, lambda url: tell_listening(config, sources, url, **ports))


def serve(
    specs: Sequence[ProtocolSpec],
    config: Config,
    sources: Sources,
    bound: socket.socket,
    slot: WorkerSlot,
    on_listening: Callable[[str], None],
) -> None:
    """Runs one process on a socket. Calls `on_listening` with the URL once it serves. Ends and raises like `run`."""
    _raise_file_limit()
    _tune_collector()
    sys.setswitchinterval(_SWITCH_SECONDS)
    reader = reader_of(sources, specs)
    if config.canary:
        # Of several workers the supervisor has made the site: whichever answers knows its key.
        known = config.sites.get(CANARY_SITE)
        config, reader = _with_canary(config, reader, new_key() if known is None else known.api_key)
    if sources.has_demo:
        own = [demo_site(config, bound.getsockname()[1])]
        own += [site for spec in specs if (site := spec.demo_site(config)) is not None]
        config = _with_sites(config, own)
        load = reader.load
        reader = structs.replace(reader, load=lambda: _with_sites(load(), own))
        specs = (*specs, DEMO)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, bound, slot, on_listening, specs, reader))


def _with_canary(config: Config, reader: ConfigReader, key: str) -> tuple[Config, ConfigReader]:
    """The configuration with the hidden site of the canary, and its reader, which finds no change in it."""

    def add(config: Config) -> Config:
        return structs.replace(config, sites=with_canary(config.sites, key))

    load = reader.load
    return add(config), structs.replace(reader, load=lambda: add(load()))


def _with_sites(config: Config, own: Sequence[Site]) -> Config:
    """The configuration of a demo: with its sites, and webhooks may lead to this machine."""
    sites = {**config.sites, **{site.name: site for site in own}}
    return structs.replace(config, sites={name: _with_private_webhook(one) for name, one in sites.items()})


def _with_private_webhook(site: Site) -> Site:
    return structs.replace(site, webhook=structs.replace(site.webhook, allow_private=True))


async def _serve(
    config: Config,
    bound: socket.socket,
    slot: WorkerSlot,
    on_listening: Callable[[str], None],
    specs: Sequence[ProtocolSpec],
    reader: ConfigReader,
) -> None:
    tasks = WatchedTasks()
    with tasks.current():
        async with contextlib.AsyncExitStack() as stack:
            tls = _tls_of(config, slot)
            services = await Services.start(config, stack, slot, specs)
            reload = Reload(config, reader, services.served.apply)
            services.follow(reload.ask if slot.count == 1 else partial(_ask_supervisor, slot.number))
            if tls is not None:
                stack.push_async_callback(tls.keeper.close)
                tls.keeper.start(services.counts)
            server = HttpServer(services.dispatcher, config, services, reload, on_listening, tls)
            tasks.on_end = server.end_soon
            tasks.check()
            # The server closes these sockets; the owner of the descriptors closes its own.
            further = [_own_copy(fd) for fd in slot.further_fds]
            await server.serve(sockets=[bound, *further])
        tasks.check()


def _ask_supervisor(worker: int) -> None:
    """Has the supervisor read the files, which then asks every worker; one of them asks for all."""
    if worker == 0:
        os.kill(os.getppid(), signal.SIGHUP)


def _own_copy(fd: int) -> socket.socket:
    return socket.socket(fileno=os.dup(fd))


def _tls_of(config: Config, slot: WorkerSlot) -> TlsPorts | None:
    """The TLS of the ports, None without. Where clients need a certificate, the canary and the nodes have their own."""
    if not config.tls.is_on:
        return None
    canary = config.sites.get(CANARY_SITE)
    secrets = (canary and canary.api_key, config.cluster.secret) if config.tls.verify_clients else ()
    keeper = TlsKeeper(config.tls, [own_client(secret) for secret in secrets if secret])
    redirect = None if slot.redirect_fd is None else _own_copy(slot.redirect_fd)
    return TlsPorts(keeper, config.joining_per_address, redirect)


def tell_missing_bundles() -> None:
    """Logs each browser client that pages cannot get from this server."""
    for reason in missing_bundles():
        _log.warning("client bundle missing", reason=reason)


def tell_missing_journal(config: Config) -> None:
    """Logs that there is no journal, unless the settings say so themselves."""
    if config.journal_url is None and config.database_url is None:
        _log.info("journal off", expected="DATABASE_URL")


def _tune_collector() -> None:
    """Makes the cycle collector run rarely: it took 5 % of the time under load and found nothing. The few cycles of a
    closed connection can wait, and objects that exist from the start need no check."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 50)


def _raise_file_limit() -> None:
    """Raises the limit of open files: each connection is an open file, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
