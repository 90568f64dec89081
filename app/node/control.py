"""This node as operators see it and steer it: its facts, its open connections, its end, its log level.

Knows no page. Other nodes, and this one, ask it over the bus.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Literal

import structlog
from msgspec import Struct

from app.clock import now_ms
from app.config.settings import CANARY_SITE, LogLevel
from app.core.live import LiveLister, LiveQuestion, LiveRow, disconnect, live_rows
from app.node.supervisor_door import Wish, ask_supervisor
from app.node.tls_figures import TlsFigures
from app.node.worker_slot import WorkerSlot
from app.observe.counts import Counts
from app.observe.health import Health
from app.observe.log import log_level, set_log_level
from app.observe.process import DurationsWindow, cpu_seconds, memory_bytes
from app.observe.versions import versions
from app.redis.client import Commands
from app.store.node_calls import CallRefused, NodeCalls, arguments_of
from app.store.node_facts import FactsWriter, NodeFacts, ShownCertificate

#: The reason that a client is told, and that its row has.
ENDED_BY_OPERATOR = "ended by an operator"
#: A node that is told to end has answered by then.
_END_AFTER_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class NodeParts(Struct, frozen=True):
    """The parts of a node that this module shows. Lives as long as the node."""

    redis: Commands
    node: str
    counts: Counts
    health: Health
    slot: WorkerSlot
    #: The protocols by name.
    listers: Mapping[str, LiveLister]
    calls: NodeCalls


class LeavingConnection(Struct, frozen=True):
    """A connection that an operator ends."""

    site: str
    protocol: str
    id: str


class End(Struct, frozen=True):
    """How a node ends: its connections are told to leave in steps, or at once; another process follows, or none."""

    how: Literal["drain", "now", "restart"]


class NewLevel(Struct, frozen=True):
    """The log level from now on."""

    level: LogLevel


class Control:
    """Lives as long as the node: `start` begins to show and to obey, `close` ends it."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self.calls = parts.calls
        handlers: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "connections": self._connections,
            "disconnect": self._disconnect,
            "end": self._end,
            "log_level": self._log_level,
            "workers": self._workers,
        }
        self.calls.handlers.update(handlers)
        self._facts = FactsWriter(parts.redis, parts.node, self._gather)
        self._lag = DurationsWindow(parts.counts.loop_lag_seconds)
        self._started_at = now_ms()
        self._looked_at, self._cpu_seconds = monotonic(), cpu_seconds()
        self._ending: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins."""
        self._facts.start()

    async def close(self) -> None:
        """The node is shown no more."""
        if self._ending is not None:
            self._ending.cancel()
        await self._facts.close()
        await self.calls.close()

    def _gather(self) -> NodeFacts:
        parts = self._parts
        now, cpu = monotonic(), cpu_seconds()
        share = (cpu - self._cpu_seconds) / max(0.001, now - self._looked_at)
        self._looked_at, self._cpu_seconds = now, cpu
        lag_ms, longest_lag_ms = self._lag.look()
        return NodeFacts(
            node=parts.node,
            at=now_ms(),
            started_at=self._started_at,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker=parts.slot.number,
            workers=parts.slot.count,
            is_supervised=parts.slot.count > 1,
            state=_state_of(parts.health),
            log_level=log_level(),
            cpu=round(share, 3),
            memory_bytes=memory_bytes(),
            lag_ms=lag_ms,
            longest_lag_ms=longest_lag_ms,
            sessions=parts.counts.sessions(),
            connections=sum(site.connections for site in list(parts.counts.sites.values())),
            versions=versions(),
            certificate=_certificate_of(parts.counts),
        )

    # Calls

    async def _connections(self, given: Any) -> list[LiveRow]:
        parts = self._parts
        sites = [name for name in parts.counts.sites if name != CANARY_SITE]
        return await live_rows(parts.listers, sites, arguments_of(given, LiveQuestion), parts.node)

    async def _disconnect(self, given: Any) -> bool:
        wanted = arguments_of(given, LeavingConnection)
        lister = self._parts.listers.get(wanted.protocol)
        if lister is None or wanted.site == CANARY_SITE:
            return False
        return await disconnect(lister, wanted.site, wanted.id, ENDED_BY_OPERATOR)

    async def _log_level(self, given: Any) -> LogLevel:
        level: LogLevel = arguments_of(given, NewLevel).level
        before = log_level()
        set_log_level(level)
        _log.warning("log level changed", before=before, level=level)
        return level

    async def _end(self, given: Any) -> str:
        how = arguments_of(given, End).how
        slot = self._parts.slot
        _log.warning("end asked for", how=how)
        if slot.count > 1:
            verb: Literal["restart", "stop"] = "restart" if how == "restart" else "stop"
            return await self._ask_supervisor(Wish(verb, slot.number, at_once=how == "now"))
        if how == "restart":
            raise CallRefused("this server is one process, and nothing starts it again: end it instead")
        number = signal.SIGINT if how == "now" else signal.SIGTERM
        # The answer leaves before the signal arrives.
        loop = asyncio.get_running_loop()
        self._ending = loop.call_later(_END_AFTER_SECONDS, os.kill, os.getpid(), number)
        return "ends"

    async def _workers(self, given: Any) -> str:
        return await self._ask_supervisor(arguments_of(given, Wish))

    async def _ask_supervisor(self, wish: Wish) -> str:
        slot = self._parts.slot
        if slot.count < 2:
            raise CallRefused("this server is one process: start it with --workers to change their number")
        return await ask_supervisor(slot.directory, wish)


def _certificate_of(counts: Counts) -> ShownCertificate | None:
    facts = counts.part(TlsFigures).certificate
    if facts is None:
        return None
    times = (round(time.timestamp() * 1000) for time in (facts.valid_from, facts.valid_until))
    return ShownCertificate(facts.subject, facts.issuer, list(facts.names), *times)


def _state_of(health: Health) -> str:
    checks = health.check()
    if not checks["accepting"]:
        return "draining"
    return "ready" if all(checks.values()) else "not ready"
