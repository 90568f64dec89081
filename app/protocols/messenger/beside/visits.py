"""The clients that a site's backend has let in, as the messenger takes them; see `EventHandling`."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from app.config.settings import Site
from app.core.address import MAX_ROOMS
from app.core.connection import Connection
from app.errors import RequestRefused, StoreUnavailable
from app.protocols.handling import AdmittedClient, HandledClient, Opening
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.beside.backend_user import held_rooms, user_of_rooms
from app.protocols.messenger.beside.journal_visits import JournalVisits
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.chat_names import OWN_PREFIX, is_reserved
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.chatter_events import ChatterEvents
from app.protocols.messenger.entrance import DeviceOpener, Entrance, settings_for
from app.protocols.messenger.hello import arrival_of, is_clean_device, read_told
from app.protocols.messenger.login_ports import Entered
from app.protocols.messenger.settings import is_beside
from app.socketio.socket_connection import ConnectRefused


class Visits:
    """The visits at all sites of one node. Lives as long as the node."""

    def __init__(self, journal: JournalVisits, entrance: Entrance, talk: DeviceOpener, events: ChatterEvents) -> None:
        self._journal = journal
        self._entrance = entrance
        self._talk = talk
        self._events = events

    def serves(self, site: Site) -> bool:
        """Whether it is a site with a messenger beside its backend."""
        return is_beside(site)

    async def receive(self, client: AdmittedClient) -> HandledClient | None:
        """Takes a client; see `EventHandling`. One without a user, or with a deviceId that no database holds, only
        receives."""
        site, request = client.site, client.request
        told = read_told(request)
        caller = ChatCaller(site, client.link, request.client_address, client.device_id)
        caller.app, caller.machine = told.app, told.machine
        try:
            known = user_of_rooms(client.rooms, client.users, site.public_channel, is_fresh=client.is_fresh)
            if known is None or not is_clean_device(client.device_id):
                return None
            token, entered = await self._journal.arrive(caller, known, told.session)
            if not client.is_fresh:
                rooms = await self._journal.but_left(site, entered.user.id, client.rooms)
                client = structs.replace(client, rooms=rooms)
        except ChatUnavailable as error:
            raise StoreUnavailable(str(error)) from None
        except ChatRefusal as refusal:
            raise ConnectRefused(str(refusal)) from None
        chatter = Chatter(client.link, caller, arrival_of(request))
        self._entrance.identify(chatter, entered)
        return _HandledChatter(self._entrance, self._talk, self._events, chatter, (client, entered, token))

    def check(self, rooms: Sequence[str]) -> None:
        """Refuses names that are given here; see `EventHandling`."""
        if any(map(is_reserved, rooms)):
            raise RequestRefused(f"join: expected no room whose name begins with {OWN_PREFIX}.")

    async def move(self, site: Site, user: str, join: Sequence[str], leave: Sequence[str]) -> None:
        """Moves a user that the directory has; see `EventHandling`."""
        try:
            await self._journal.move(site, user.removeprefix(USER_PREFIX), held_rooms(join), held_rooms(leave))
        except ChatRefusal as error:
            raise StoreUnavailable(str(error)) from None

    async def revoke(self, site: Site, rooms: Sequence[str], device: str | None) -> None:
        """Ends sessions; see `EventHandling`."""
        try:
            await self._journal.revoke(site, rooms, device)
        except ChatUnavailable as error:
            raise StoreUnavailable(str(error)) from None


class _HandledChatter:
    """One client; `HandledClient`. Lives as long as its connection."""

    def __init__(
        self,
        entrance: Entrance,
        talk: DeviceOpener,
        events: ChatterEvents,
        chatter: Chatter,
        arrived: tuple[AdmittedClient, Entered, str],
    ) -> None:
        self._entrance = entrance
        self._talk = talk
        self._events = events
        self._chatter = chatter
        client, entered, token = arrived
        self._rooms: Sequence[str] = client.rooms
        self._is_fresh = client.is_fresh
        self.settings = _settings(client.site, entered, token, chatter.arrival.tls)

    @property
    def sync_ms(self) -> int | None:
        """The time of its first synchronisation; see `HandledClient`."""
        return self._chatter.caller.measure.first_ms

    async def open(self, opening: Opening) -> None:
        """Has its device opened; see `HandledClient`."""

        async def open_with(rooms: Sequence[str], rooms_at: int) -> None:
            # The rooms that the backend has just named are newer than those of the directory, which follows.
            here = [room for room in rooms if is_reserved(room) or not self._is_fresh]
            await opening(list(dict.fromkeys((*here, *self._rooms)))[:MAX_ROOMS], rooms_at)

        caller = self._chatter.caller
        try:
            await self._talk.open(open_with, caller.site, caller.me.id)
        except ChatUnavailable as error:
            raise StoreUnavailable(str(error)) from None

    def greeted(self) -> None:
        """Tells others that the user is here; see `HandledClient`."""
        self._entrance.join(self._chatter)

    def opened(self, connection: Connection) -> None:
        """The acks of its devices make receipts; see `HandledClient`."""
        caller = self._chatter.caller
        # They may be 10,000, and are needed no more.
        self._rooms = ()
        self._talk.entered(caller.site, connection.handles, caller.me.id, caller.device)

    def event_received(self, event: str, args: list[Any], ack_id: int | None) -> None:
        """Puts an event into the client's row; see `HandledClient`."""
        self._events.receive(self._chatter, event, args, ack_id)

    def left(self) -> None:
        """The connection is over; see `HandledClient`."""
        if not self._chatter.is_closed:
            self._chatter.is_closed = True
            self._chatter.gate.waiting.clear()
            self._entrance.leave(self._chatter)


def _settings(site: Site, entered: Entered, token: str, tls: str | None) -> Mapping[str, Any]:
    """The messenger's part of `_settings`."""
    settings = settings_for(site, entered, token, tls)
    return {**settings, "user": {**settings["user"], "id": entered.user.external}}
