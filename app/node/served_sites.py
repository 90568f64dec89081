"""The sites that a node serves, while it serves: one more, one with other settings, one less.

Knows the parts of a node by their `add` and `remove` only, and nothing of the place where settings come from.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog
from msgspec import Struct

from app.config.changes import Changes, become
from app.config.settings import Config, Site
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.observe.counts import Counts
from app.protocols.protocol import SITE_CHANGED, SITE_REMOVED, NodeProtocol, SiteEnding
from app.store.bus import Bus
from app.store.originals import Originals
from app.store.sampler import QueueSampler

#: The time for the last acks of a site that is removed.
_SETTLE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class SiteChores(Protocol):
    """The node among the others, as far as its sites concern it. Lives as long as the node."""

    async def add(self, sites: Sequence[Site]) -> None:
        """Takes care of more sites. Returns when Redis knows that this node has them."""

    async def remove(self, site: str) -> None:
        """Takes care of a site no more. Returns when Redis knows that."""


class SocketClients(Protocol):
    """The Socket.IO clients of the node. Lives as long as the node."""

    async def leave(self, application: Any, namespaces: Collection[str], reason: str, *, is_final: bool) -> None:
        """Takes the clients of an application out of these namespaces."""

    def paused(self, namespaces: Collection[str]) -> AbstractContextManager[None]:
        """Within this, clients that connect to one of the namespaces come again in a moment."""


class SiteParts(Struct, frozen=True):
    """The parts of a node that know its sites. Lives as long as the node."""

    config: Config
    delivery: Delivery
    bus: Bus
    node: SiteChores
    sampler: QueueSampler
    originals: Originals
    limits: Limits
    counts: Counts
    clients: SocketClients
    protocols: Mapping[str, NodeProtocol]


class ServedSites:
    """The changes of the sites of one node, one at a time. Lives as long as the node."""

    def __init__(self, parts: SiteParts, changed: Callable[[], None]) -> None:
        """`changed` is called after each change, for what is made of all sites together."""
        self._parts = parts
        self._changed = changed
        self._turn = asyncio.Lock()

    async def add(self, sites: Sequence[Site]) -> None:
        """Serves more sites. Returns when every protocol serves them: not before Redis has been told of them."""
        async with self._turn:
            await self._add(sites)

    async def apply(self, changes: Changes) -> None:
        """Serves the sites as the files have them by now."""
        for name in changes.gone:
            await self.remove(name)
        for site in changes.changed:
            await self.change(site)
        await self.add(changes.added)

    async def change(self, site: Site) -> None:
        """Serves a site with these settings from now on. Connections end only where a part was built from a setting
        that is another one now; their clients connect again by themselves."""
        async with self._turn:
            served = self._parts.config.sites[site.name]
            built = [one for one in self._protocols if one.built_from(served) != one.built_from(site)]
            namespaces = {name for one in built for name in (*one.namespaces_of(served), *one.namespaces_of(site))}
            with self._parts.clients.paused(namespaces):
                await self._end(built, served, SITE_CHANGED)
                had_queues = served.has_queues
                become(served, site)
                for protocol in built:
                    await protocol.add(served)
                if had_queues is not served.has_queues:
                    await self._look_after([served])
            self._changed()
        _log.info("site changed", site=site.name, built=len(built))

    async def remove(self, name: str) -> None:
        """Serves a site no more: closes its connections. Returns when Redis knows that this node has it no longer."""
        async with self._turn:
            site = self._parts.config.sites.pop(name, None)
            if site is None:
                return
            await self._end(self._protocols, site, SITE_REMOVED)
            self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await self._parts.delivery.settle(site)
            parts = self._parts
            await parts.limits.forget(name)
            parts.sampler.remove(name)
            parts.bus.remove(name)
            await parts.node.remove(name)
            parts.counts.forget(name)
        _log.info("site removed", site=name)

    @property
    def _protocols(self) -> list[NodeProtocol]:
        return list(self._parts.protocols.values())

    async def _add(self, sites: Sequence[Site]) -> None:
        parts = self._parts
        for site in sites:
            parts.delivery.add(site)
            await asyncio.sleep(0)
        await parts.bus.add(sites)
        await self._look_after(sites)
        for site in sites:
            for protocol in self._protocols:
                await protocol.add(site)
            # All parts of the node share this mapping. Last, because it makes the site known to them.
            parts.config.sites[site.name] = site
            await asyncio.sleep(0)
        self._changed()

    async def _look_after(self, sites: Sequence[Site]) -> None:
        """Has the chores of a node done for these sites."""
        for site in sites:
            self._parts.sampler.remove(site.name)
        self._parts.sampler.add(sites)
        await self._parts.node.add(sites)
        await self._parts.originals.add(sites)

    async def _end(self, protocols: Iterable[NodeProtocol], site: Site, ending: SiteEnding) -> None:
        """Ends the connections of a site in these protocols. A protocol that fails keeps no other from it."""
        for protocol in protocols:
            try:
                if protocol.namespaces is not None:
                    await self._parts.clients.leave(
                        protocol.namespaces,
                        protocol.namespaces_of(site),
                        ending.reason,
                        is_final=not ending.comes_back,
                    )
                await protocol.remove(site, ending)
            except Exception:
                self._parts.counts.faults["site end"] += 1
                _log.exception("a site was not ended", site=site.name)
