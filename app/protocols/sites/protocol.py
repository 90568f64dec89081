"""The protocol of sites: users over Socket.IO, POST /send, /disconnect and /rooms, GET /presence, DELETE /tickets, and
Pusher's HTTP API."""

from collections.abc import Iterator

from starlette.routing import Route

from app.backends.jwks import JwksCache
from app.backends.room_directory import HttpRoomDirectory
from app.backends.user_updates import HttpUserUpdates
from app.config.mistakes import Mistakes
from app.config.settings import Config, Site
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec, SiteEnding
from app.protocols.site_keys import ApiKeys
from app.protocols.sites.admission import QUERY_FIELDS, Admission
from app.protocols.sites.application import SitesApplication
from app.protocols.sites.disconnecting import Kicks, disconnect_operations, disconnect_routes
from app.protocols.sites.figures import METRICS
from app.protocols.sites.joining import RoomChanges, rooms_operations, rooms_routes
from app.protocols.sites.operations import send_operations
from app.protocols.sites.own_rooms import OwnRooms
from app.protocols.sites.page_client import page_client_routes
from app.protocols.sites.presence import RoomPresence
from app.protocols.sites.present_users import PresenceQuestions, presence_operations, presence_routes
from app.protocols.sites.pusher.apps import PusherApps
from app.protocols.sites.pusher.endpoint import PusherEndpoint, PusherParts
from app.protocols.sites.pusher.occupancy import Occupancy
from app.protocols.sites.pusher.settings import SECTION as PUSHER_SECTION
from app.protocols.sites.pusher.settings import check_apps
from app.protocols.sites.receiver import SiteReceiver
from app.protocols.sites.redis_presence import RedisPresence
from app.protocols.sites.redis_tickets import RedisTickets
from app.protocols.sites.redis_upgrades import RedisUpgrades
from app.protocols.sites.revocation import Revocation, revocation_routes, ticket_operations
from app.protocols.sites.send import BATCH_PATH, SendEndpoint
from app.protocols.sites.send_body import RESERVED_EVENTS
from app.protocols.sites.sender import Sender
from app.protocols.sites.settings import SECTION
from app.protocols.sites.tickets import Tickets
from app.protocols.sites.token_gate import TokenGate
from app.protocols.sites.token_keys import KeyUnusable, configured_keys, read_key_set
from app.protocols.sites.upgrades import Upgrades
from app.protocols.traced_endpoint import TracedEndpoint


class _NodeSites(NodeProtocol):
    """The sites of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        config, counts, delivery = services.config, services.counts, services.delivery
        self._handlings = services.handlings
        self._directory = HttpRoomDirectory(config.auth_timeout_seconds, counts)
        self._updates = HttpUserUpdates(config.auth_timeout_seconds, counts)
        tickets = Tickets(RedisTickets(services.redis), counts)
        self._sets = JwksCache(config.auth_timeout_seconds, read_key_set, counts)
        self._gate = TokenGate(self._sets, counts)
        admission = Admission(OwnRooms(self._directory), services.limits, tickets, self._gate)
        self._application = SitesApplication(
            config.sites, delivery, admission, self._updates, counts, services.handlings
        )
        revocation = Revocation(tickets, services.handlings)
        self._upgrades = Upgrades(RedisUpgrades(services.redis))
        self._application.on_connected = self._upgrades.connected
        self._presence = self._new_presence(services)
        delivery.on_buried = self._application.report_buried
        delivery.reserved_events = RESERVED_EVENTS
        self.namespaces = self._application
        self.query_fields = QUERY_FIELDS
        self._send = SendEndpoint(config.sites, delivery, services.ids, config.max_body_bytes, counts, services.reading)
        # The original's router took a slash at the end.
        endpoint = TracedEndpoint(self._send) if services.is_traced else self._send
        self.endpoints = dict.fromkeys(("/send", "/send/", BATCH_PATH, f"{BATCH_PATH}/"), endpoint)
        self._kicks = Kicks(services.calls, self._application.live, revocation, counts)
        live = self._application.live
        questions = PresenceQuestions(RedisPresence(services.redis, services.node))
        changes = RoomChanges(services.calls, delivery.follow_up, live, tickets, services.handlings)
        changes.on_moved = self._presence.moved
        sender = Sender(delivery, services.ids)
        self._apps = PusherApps(config.sites)
        occupancy = Occupancy(services.calls, config.sites, live)
        api = PusherParts(
            self._apps, sender, occupancy, self._kicks.end_user, services.reading, counts, config.max_body_bytes
        )
        self.routes = [
            Route("/apps/{rest:path}", PusherEndpoint(api)),
            *revocation_routes(config.sites, ApiKeys(config.sites, counts), revocation, counts.records),
            *disconnect_routes(config.sites, self._kicks, counts),
            *rooms_routes(config.sites, changes, counts),
            *presence_routes(config.sites, questions, counts),
            *page_client_routes(),
        ]
        services.operations.extend(ticket_operations(revocation))
        services.operations.extend(disconnect_operations(self._kicks))
        services.operations.extend(rooms_operations(changes))
        services.operations.extend(presence_operations(questions))
        services.operations.extend(send_operations(self._send, config.port))

    def _new_presence(self, services: NodeServices) -> RoomPresence:
        presence = RoomPresence(services.config.sites, RedisPresence(services.redis, services.node))
        self._application.presence = presence
        services.burials.append(presence.bury)
        services.presence_changes.append(presence.hear)
        services.delivery.on_interrupted.append(presence.interrupted)
        return presence

    def live(self, site: str) -> Iterator[SiteReceiver]:
        """Lists its connections of a site."""
        return self._application.live(site)

    async def start(self) -> None:
        """Begins to look for clients that change their transport, and turns presence on. Raises StoreUnavailable."""
        self._upgrades.start()
        await self._presence.start()

    async def add(self, site: Site) -> None:
        """Serves one more site as soon as `config.sites` has it."""
        self._application.add(site)
        self._apps.add(site)
        self._sets.forget(site.name, frozenset(one.jwks for one in site.jwt if one.jwks is not None))

    def built_from(self, site: Site) -> object:
        """The rooms of a connection, and the handling of its events, follow from these."""
        is_handled = any(one.serves(site) for one in self._handlings)
        return site.user_room_prefix, site.public_channel, is_handled

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Forgets how the site's backend was asked, and the keys of its tokens' issuers."""
        self._apps.forget(site.name)
        self._directory.forget(site.name)
        self._sets.forget(site.name)
        self._gate.forget(site.name)
        await self._presence.remove(site.name)

    async def close(self) -> None:
        """Closes the HTTP clients of sites' backends. The last user updates are sent by now."""
        await self._upgrades.close()
        await self._kicks.aclose()
        await self._presence.aclose()
        await self._application.aclose()
        await self._sets.aclose()
        await self._updates.aclose()
        await self._directory.aclose()


def _check(config: Config) -> None:
    """Raises ConfigError for keys that cannot be read, apps that cannot be told apart, and presence without users."""
    mistakes = Mistakes()
    with mistakes.noted():
        check_apps(config)
    for site in config.sites.values():
        for issuer in site.jwt:
            try:
                configured_keys(issuer)
            except KeyUnusable as error:
                mistakes.add(f"site {site.name!r}: jwt, issuer {issuer.issuer!r}: public_key: {error}")
        if site.presence is not None and not site.has_queues:
            mistakes.add(f"site {site.name!r}: presence: expected it beside userRoomPrefix, without which are no users")
    mistakes.raise_any()


SITES = ProtocolSpec(
    "sites", _NodeSites, section=SECTION, more_sections=(PUSHER_SECTION,), check_sites=_check, metrics=METRICS
)
