"""The protocol of messengers: its namespaces, and its life on a node."""

import asyncio
from collections.abc import Iterator

from app.config.settings import Site
from app.core.live import LiveConnection
from app.protocols.messenger.application import MessengerApplication
from app.protocols.messenger.attendance import Attendance
from app.protocols.messenger.beside.events import events_beside
from app.protocols.messenger.beside.journal_visits import JournalVisits
from app.protocols.messenger.beside.visits import Visits
from app.protocols.messenger.browser_client import browser_client_routes
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.chatter_events import ChatterEvents, NumberIds, TextIds
from app.protocols.messenger.demo import demo_routes, demo_site, is_demo
from app.protocols.messenger.directory.calls import UserCalls
from app.protocols.messenger.directory.demo_people import fill_demo
from app.protocols.messenger.directory.directory import ChatDirectory
from app.protocols.messenger.directory.events import DirectoryEvents
from app.protocols.messenger.directory.journal_presence import JournalViewers
from app.protocols.messenger.directory.presence import ChatPresence
from app.protocols.messenger.directory.redis_online import RedisOnline
from app.protocols.messenger.directory.registration_events import RegistrationEvents
from app.protocols.messenger.directory.registration_news import RegistrationNews
from app.protocols.messenger.directory.synchronisation import Synchronisation
from app.protocols.messenger.entrance import Entrance
from app.protocols.messenger.figures import METRICS
from app.protocols.messenger.files.figures import METRICS as FILES_METRICS
from app.protocols.messenger.files.handlers import file_handlers
from app.protocols.messenger.files.services import NodeFiles
from app.protocols.messenger.first_admin import make_admin
from app.protocols.messenger.hello import QUERY_FIELDS
from app.protocols.messenger.journal_accounts import JournalAccounts
from app.protocols.messenger.journal_removal import forget_rows
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.load_rooms import ChatLoadRooms
from app.protocols.messenger.logins import Logins
from app.protocols.messenger.operations.changes import change_operations
from app.protocols.messenger.operations.made_passwords import FirstPasswords
from app.protocols.messenger.operations.parts import DirectoryParts
from app.protocols.messenger.operations.redis_blocks import RedisBlocks
from app.protocols.messenger.operations.rooms import room_operations
from app.protocols.messenger.operations.users import user_operations
from app.protocols.messenger.own_account import OwnAccount
from app.protocols.messenger.redis_throttle import RedisThrottle
from app.protocols.messenger.settings import SECTION, Messenger, check_sections, is_beside
from app.protocols.messenger.talk.announcer import CoreAnnouncer
from app.protocols.messenger.talk.talk import Talk
from app.protocols.messenger.void_sessions import VoidSessions
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec, SiteEnding
from app.watched_tasks import start_logged, start_watched


class _NodeMessenger(NodeProtocol):
    """The messengers of one node. Lives as long as the node."""

    query_fields = QUERY_FIELDS

    def __init__(self, services: NodeServices) -> None:
        self.routes = browser_client_routes()
        config, counts = services.config, services.counts
        if config.journal_url is None:
            # No site has a messenger, see `check_sections`.
            self._sql = None
            return
        self._sql = ChatSql.open(config.journal_url)
        self._making: asyncio.Task[None] | None = None
        self._has_tables = False
        self._sites = config.sites
        if any(map(is_demo, self._sites.values())):
            self.routes = [*self.routes, *demo_routes()]
        accounts = JournalAccounts(self._sql)
        logins = Logins(accounts, RedisThrottle(services.redis), counts)
        attendance: Attendance[Chatter] = Attendance()
        self._names = names = ChatNames(self._sql)
        announcer, online = CoreAnnouncer(services.delivery, names), RedisOnline(services.redis, names)
        calls = UserCalls(announcer, online)
        self._talk = Talk(services, self._sql, names, announcer)
        self._files = NodeFiles(services, self._sql, names)
        self.site_paths = {"files": self._files.endpoint}
        entrance = Entrance(services.delivery, services.limits, logins, attendance, self._talk, counts)
        self.directory = ChatDirectory(self._sql, calls, self._talk.wake)
        self._passwords = FirstPasswords()
        parts = DirectoryParts(self._sql, self.directory, online, RedisBlocks(services.redis), self._passwords)
        services.operations.extend([*user_operations(parts), *room_operations(parts), *change_operations(parts)])
        self._presence = ChatPresence(config.sites, online, JournalViewers(self._sql), calls, attendance.is_here)
        self._voids = VoidSessions(accounts, attendance, lambda: filter(_has_messenger, config.sites.values()))
        self._follow(services, entrance, attendance, RegistrationNews(self._sql))
        synchronisation = Synchronisation(self._sql, online, names, services.node, counts)
        entrance.on_left.append(lambda chatter: synchronisation.close(chatter.caller))
        handlers = {
            **entrance.handlers(),
            **self._talk.handlers(),
            **synchronisation.handlers(),
            **OwnAccount(entrance, logins).handlers(),
            **file_handlers(self._files.link),
            **RegistrationEvents(self.directory).handlers(),
            **DirectoryEvents(self.directory).handlers(),
        }
        events = ChatterEvents(handlers, NumberIds(), counts)
        self._application = MessengerApplication(
            config.sites, services.delivery, services.limits, entrance, events, counts
        )
        beside = ChatterEvents(events_beside(handlers), TextIds(names), counts)
        services.handlings.append(Visits(JournalVisits(self._sql, self.directory), entrance, self._talk, beside))
        self.namespaces = self._application
        services.load_rooms.append(self._load_rooms(services, self._sql))

    def _load_rooms(self, services: NodeServices, sql: ChatSql) -> ChatLoadRooms:
        def connections(site: str) -> int:
            return sum(1 for _ in self._application.live(site))

        return ChatLoadRooms(services.config.sites, sql, self.directory, services.delivery, services.calls, connections)

    def _follow(
        self, services: NodeServices, entrance: Entrance, attendance: Attendance[Chatter], news: RegistrationNews
    ) -> None:
        presence = self._presence
        entrance.on_joined.append(presence.joined)
        entrance.on_joined.append(news.joined)
        entrance.on_left.append(presence.left)
        services.burials.append(presence.bury)

        def restore() -> None:
            for site in attendance.sites:
                presence.restore(site, attendance.users(site))

        services.delivery.on_interrupted.append(restore)

    def live(self, site: str) -> Iterator[LiveConnection]:
        """Lists its connections of a site."""
        return self._application.live(site) if self._sql is not None else iter(())

    async def start(self) -> None:
        """Makes the tables, as soon as SQL answers; until then events are answered `unavailable`."""
        self._begin()
        for site in filter(_has_messenger, self._sites.values() if self._sql is not None else ()):
            self._talk.add(site)

    async def add(self, site: Site) -> None:
        """Serves one more site as soon as `config.sites` has it."""
        if site.section(Messenger) is not None:
            self._begin()
            self._talk.add(site)
            if self._has_tables:
                start_logged(make_admin(self.directory, self._passwords, site), "messenger admin")

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Hands the site's outbox to another node. (The clients have left.)"""
        if self._sql is not None:
            await self._talk.remove(site.name)
            if not ending.comes_back:
                self._names.clear()

    async def forget(self, site: str) -> bool:
        """Removes some files and rows of the site, files first: their rows tell where they are. Raises
        ChatUnavailable and FilesUnavailable."""
        if self._sql is None or not await self._sql.has_met(site):
            return True
        gone = Site(name=site, api_key="")
        if not await self._files.forget(gone):
            return False
        async with self._sql.writing(gone) as (sql, site_id):
            return await forget_rows(sql, site_id)

    def _begin(self) -> None:
        if self._sql is not None and self._making is None and any(map(_has_messenger, self._sites.values())):
            self._presence.start()
            self._voids.start()
            self._files.start()
            self._making = start_watched(self._make(self._sql), "messenger tables", may_return=True)

    async def _make(self, sql: ChatSql) -> None:
        await sql.make_tables()
        self._has_tables = True
        for site in filter(_has_messenger, list(self._sites.values())):
            await make_admin(self.directory, self._passwords, site)
        for site in filter(is_demo, self._sites.values()):
            await fill_demo(self.directory, site)

    def built_from(self, site: Site) -> object:
        """The rooms of a connection follow from whether the site has a messenger, and whether beside a backend."""
        return site.section(Messenger) is not None, is_beside(site)

    async def close(self) -> None:
        """Ends the connections to SQL."""
        if self._sql is not None:
            if self._making is not None:
                self._making.cancel()
            await self._voids.close()
            await self._presence.close()
            await self._files.close()
            await self._talk.close()
            await self._sql.close()


def _has_messenger(site: Site) -> bool:
    return site.section(Messenger) is not None


MESSENGER = ProtocolSpec(
    "messenger",
    _NodeMessenger,
    section=SECTION,
    check_sites=check_sections,
    demo_site=demo_site,
    metrics=(*METRICS, *FILES_METRICS),
)
