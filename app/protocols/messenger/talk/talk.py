"""The conversations of one node: relays, receipts and events of all of its sites."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.message import Message
from app.core.ports import RoomsChange, Stored
from app.errors import RoomsChanged, StoreUnavailable
from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_members import place_of_core, rooms_as_of
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import is_beside
from app.protocols.messenger.talk.delivered import DeliveredNotes, ReceiptNet
from app.protocols.messenger.talk.events import Announcer, TalkEvents
from app.protocols.messenger.talk.journal_talk import JournalTalk
from app.protocols.messenger.talk.load_events import LoadEvents
from app.protocols.messenger.talk.redis_lease import RedisRelayLease
from app.protocols.messenger.talk.relay import Relay
from app.protocols.protocol import NodeServices

#: How often a connect reads its rooms again because they have changed meanwhile.
_TRIES = 20

#: Opens a connection with rooms, up to a number: see `Delivery.open` and `Connection.rooms_at`.
Opening = Callable[[Sequence[str], int], Awaitable[None]]


class TalkCore:
    """`RelayCore`: the core's delivery. Lives as long as the node."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def publish(self, message: Message) -> Stored:
        """Stores a message for its devices."""
        return await self._delivery.publish(message)

    async def change_rooms(self, site: Site, change: RoomsChange) -> int:
        """Moves the devices of a user."""
        return await self._delivery.follow_up.change_rooms(site, change)


class Talk:
    """The conversations of a node. Lives as long as the node: `add` serves a site, `close` ends all."""

    def __init__(self, services: NodeServices, sql: ChatSql, names: ChatNames, announcer: Announcer) -> None:
        self._services = services
        self._sql = sql
        self._names = names
        self._journal = JournalTalk(sql, names)
        self._lease = RedisRelayLease(services.redis, services.node)
        self._core = TalkCore(services.delivery)
        self._relays: dict[str, tuple[Relay, ReceiptNet]] = {}
        self.notes = DeliveredNotes(self._journal, self.wake, services.counts)
        self._load = LoadEvents(sql, services.delivery.follow_up)
        self._events = TalkEvents(sql, self.wake, announcer, services.config.max_body_bytes)
        services.delivery.on_acked = self.notes.acked
        services.hook_wakes.append(self._woken)

    def handlers(self) -> dict[str, Handler]:
        """The events by name."""
        return {**self._events.handlers(), **self._load.handlers()}

    def add(self, site: Site) -> None:
        """Serves one more site."""
        counts = self._services.counts
        relay = Relay(site, self._journal, self._lease, self._core, self._services.ids.next_id, counts)
        net = ReceiptNet(site, self._journal, self.wake, counts)
        self._relays[site.name] = (relay, net)
        relay.start()
        net.start(lambda: relay.is_mine)

    async def remove(self, site: str) -> None:
        """Serves a site no more. Idempotent."""
        if (served := self._relays.pop(site, None)) is not None:
            await asyncio.gather(*(one.close() for one in served))

    async def close(self) -> None:
        """Ends the relays, and gives their leases back."""
        await asyncio.gather(*(self.remove(site) for site in list(self._relays)))
        await self.notes.close()
        await self._events.close()

    def wake(self, site: Site) -> None:
        """A transaction has put rows into the outbox of a site. Returns at once."""
        if (served := self._relays.get(site.name)) is not None:
            served[0].wake()

    async def rooms_of(self, site: Site, user: int) -> tuple[list[str], int]:
        """The rooms of a user in the core, and the number up to which they hold the changes. Raises ChatUnavailable and
        StoreUnavailable."""
        at = await self._lease.rooms_at(site)
        async with self._sql.reading(site) as (sql, site_id):
            place = max(at, await place_of_core(sql, site_id))
            rooms = await rooms_as_of(sql, site_id, user, place)
        if is_beside(site):
            texts = await self._names.texts(site, [user], rooms)
            return [USER_PREFIX + texts.users[user], *texts.rooms.values()], place
        return [user_room(user), *map(shared_room, rooms)], place

    async def open(self, opening: Opening, site: Site, user: int) -> None:
        """Opens a connection in the core with the rooms of its user. Raises ChatUnavailable and StoreError."""
        for _ in range(_TRIES):
            rooms, place = await self.rooms_of(site, user)
            try:
                await opening(rooms, place)
            except RoomsChanged:
                continue
            return
        raise StoreUnavailable("The rooms of the user change all the time.")

    def entered(self, site: Site, handles: Iterable[bytes], user: int, device: str) -> None:
        """A connection is open: its acks make receipts."""
        self.notes.entered(site, handles, user, device)

    def _woken(self, site: str) -> None:
        if (served := self._relays.get(site)) is not None:
            served[0].woken()
