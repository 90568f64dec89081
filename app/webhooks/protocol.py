"""The webhooks of a node: a sender for each site that has one, and the door to them."""

import asyncio
import contextlib
from collections.abc import Iterable

from app.backends.hook_poster import POST_SECONDS, HookPoster
from app.config.settings import Site
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec, SiteEnding
from app.protocols.site_keys import ApiKeys
from app.watched_tasks import start_logged
from app.webhooks.door import webhook_routes
from app.webhooks.figures import METRICS
from app.webhooks.hook_site import HookSite
from app.webhooks.operations import webhook_operations
from app.webhooks.redis_outbox import HookOutbox
from app.webhooks.site_sender import SiteSender

#: The time for POSTs under way when their site changes.
_FINISH_SECONDS = 2.0


class NodeWebhooks(NodeProtocol):
    """The webhooks of one node. Lives as long as the node."""

    settle_seconds = POST_SECONDS / 2

    def __init__(self, services: NodeServices) -> None:
        self._services = services
        self._poster = HookPoster()
        self._hooked: dict[str, HookSite] = {}
        #: The sites that had a webhook and were removed, perhaps to be added again.
        self._turned_off: set[str] = set()
        self._make(services.config.sites.values())
        keys = ApiKeys(services.config.sites, services.counts)
        self.routes = webhook_routes(services.config.sites, keys, self._hooked)
        services.operations.extend(webhook_operations(self._hooked))
        services.hook_wakes.append(self._wake)

    async def start(self) -> None:
        """Tells Redis of which events each site wants to hear, before the first device connects. Raises
        StoreUnavailable."""
        await asyncio.gather(*(found.outbox.set_up() for found in self._hooked.values()))
        for found in self._hooked.values():
            found.sender.start()

    async def add(self, site: Site) -> None:
        """Sends the events of one more site. Its first beat sets it up: this does not wait for Redis."""
        for found in self._make([site]):
            found.sender.start()
        was_on = site.name in self._turned_off
        self._turned_off.discard(site.name)
        if was_on and site.name not in self._hooked:
            # Scripts need to gather no more events. Without this they stop an hour later.
            start_logged(HookOutbox(self._services.redis, self._services.node, site).turn_off(), "webhook turned off")

    def built_from(self, site: Site) -> object:
        """The sender follows from it."""
        return site.webhook

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Ends the sender of a site: lets POSTs under way end, as another node would send them again."""
        found = self._hooked.pop(site.name, None)
        if found is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await found.sender.finish()
        await found.close()
        self._turned_off.add(site.name)

    async def settle(self) -> None:
        """Lets POSTs under way end: another node would send them again."""
        await asyncio.gather(*(found.sender.finish() for found in self._hooked.values()))

    async def close(self) -> None:
        """Ends the senders; other nodes take over."""
        await asyncio.gather(*(found.close() for found in self._hooked.values()))

    def _make(self, sites: Iterable[Site]) -> list[HookSite]:
        made = []
        for site in sites:
            if site.webhook.url is not None:
                outbox = HookOutbox(self._services.redis, self._services.node, site)
                sender = SiteSender(site, outbox, self._poster, self._services.counts)
                self._hooked[site.name] = HookSite(site, outbox, sender)
                made.append(self._hooked[site.name])
        return made

    def _wake(self, site: str) -> None:
        if site in self._hooked:
            self._hooked[site].sender.wake()


WEBHOOKS = ProtocolSpec("webhooks", NodeWebhooks, metrics=METRICS)
