"""POST /disconnect: a site's backend, or an operator, ends the connections of a user, of a device or of a room.

Every node ends its own; the answer has their number.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import structlog
from msgspec import Meta, Struct
from starlette.routing import BaseRoute

from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES, is_user_room
from app.core.draining import close_in_steps, leave_seconds
from app.errors import RequestRefused
from app.observe.counts import Counts
from app.protocols.operations import Call, Inputs, Operation, Role
from app.protocols.protocol import NodeAsking
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.orders import Done, RoomName, order_route
from app.protocols.sites.revocation import Revocation
from app.protocols.sites.settings import ResumeTicket
from app.protocols.turns import Turns, look_in_turns
from app.watched_tasks import start_logged

PATH = "/disconnect"
OPERATION = "connections.kick"
#: The characters of a request's text.
MAX_KICK_TEXT = 500
#: The requests of one site under way on one node: each looks at every connection of the site.
MOST_KICKS = 4
_KICK_SECONDS = 5.0
#: The connections that one turn of the event loop ends.
_ENDED_AT_ONCE = 64
_VERB = "sites.kick"
_DEFAULT_TEXT = "disconnected"

_log = structlog.get_logger(__name__)

_Text = Annotated[str, Meta(max_length=MAX_KICK_TEXT)]


class KickInputs(Inputs, frozen=True, kw_only=True):
    """The connections to end: those that all given fields name."""

    #: The user room.
    user: RoomName | None = None
    device: Annotated[str, Meta(max_length=MAX_ROOM_BYTES)] | None = None
    room: RoomName | None = None
    #: The reason that the clients get.
    text: _Text = _DEFAULT_TEXT
    #: Whether the clients are to come back at once.
    reconnect: bool = False


class KickTarget(Protocol):
    """A connection of a site, as this module sees it."""

    device_id: str
    rooms: Sequence[str]

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""

    def kick(self, text: str, *, comes_back: bool) -> None:
        """Tells the client the text and ends the connection."""


class Kick(Struct, frozen=True):
    """The order to a node."""

    site: str
    inputs: KickInputs


class Kicks:
    """The ends of connections, asked for here and obeyed here. Lives as long as the node."""

    def __init__(
        self, crew: NodeAsking, live: Callable[[str], Iterator[KickTarget]], revocation: Revocation, counts: Counts
    ) -> None:
        self._crew = crew
        self._live = live
        self._revocation = revocation
        self._counts = counts
        self._turns = Turns(MOST_KICKS, _KICK_SECONDS, "a site")
        self._ending: set[asyncio.Task[None]] = set()
        crew.handlers[_VERB] = self.obey

    async def kick(self, site: Site, inputs: KickInputs) -> tuple[int, int]:
        """How many connections are ended on all nodes, and how many nodes have not answered. Raises RequestRefused,
        StoreError. A second request does no harm."""
        _check(site, inputs)
        async with self._turns.turn(site.name):
            # First: a client that comes back at once would be admitted by its ticket. (Of a user its room says enough.)
            rooms = [room for room in (inputs.user or inputs.room,) if room is not None]
            await self._revocation.revoke_tickets(site, rooms)
            answers, silent = await self._crew.ask_all(_VERB, Kick(site.name, inputs))
            # Last: the end of a session closes its connections, too, without the reason of this order.
            await self._revocation.revoke_sessions(site, rooms, inputs.device)
        ended = sum(count for count in answers.values() if isinstance(count, int))
        _log.info("connections ended", site=site.name, count=ended, silent=len(silent))
        return ended, len(silent)

    async def end_user(self, site: Site, user_room: str) -> int:
        """Ends the connections of a user; answers how many nodes have not answered. Raises what `kick` raises."""
        _, silent = await self.kick(site, KickInputs(user=user_room))
        return silent

    async def obey(self, given: Any) -> int:
        """Another node, or this one, has asked: how many connections of this node are being ended."""
        kick: Kick = msgspec.convert(given, Kick)
        live = look_in_turns(self._live(kick.site))
        found = [receiver async for receiver in live if _is_meant(receiver, kick.inputs)]
        self._counts.of(kick.site).part(SitesCounts).kicked += len(found)
        if len(found) <= _ENDED_AT_ONCE:
            for receiver in found:
                _end(receiver, kick.inputs)
        else:
            task = start_logged(_end_in_steps(found, kick.inputs), "kick")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        return len(found)

    async def aclose(self) -> None:
        """Ends the work under way."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)


def disconnect_routes(sites: Mapping[str, Site], kicks: Kicks, counts: Counts) -> list[BaseRoute]:
    """Returns the route for the node's builder. `sites` may change. Each request stands in the audit."""

    async def kick(site: Site, inputs: KickInputs) -> Done:
        ended, silent = await kicks.kick(site, inputs)
        return Done({"disconnected": ended}, silent)

    return [order_route(PATH, OPERATION, KickInputs, kick, sites, counts)]


def disconnect_operations(kicks: Kicks) -> list[Operation]:
    """The same for operators."""

    async def kick(call: Call) -> dict[str, Any]:
        ended, silent = await kicks.kick(call.known_site, call.given)
        return {"ok": not silent, "disconnected": ended, "silent_nodes": silent}

    summary, path = "End the connections of a user, a device or a room", "/sites/{site}/disconnect"
    return [Operation(OPERATION, summary, "POST", path, Role.OPERATOR, kick, KickInputs, True, tells=True)]


def _check(site: Site, inputs: KickInputs) -> None:
    """Raises RequestRefused."""
    if inputs.user is None and inputs.device is None and inputs.room is None:
        raise RequestRefused("Expected one of user, device and room.")
    if inputs.user is not None and not is_user_room(site, inputs.user):
        raise RequestRefused("user: expected a user room of this site, which begins with its userRoomPrefix.")
    if inputs.user is None and inputs.room is None and site.section(ResumeTicket) is not None:
        # Tickets are revoked by room.
        raise RequestRefused("user: expected it beside device, because this site has resume tickets.")


def _is_meant(receiver: KickTarget, inputs: KickInputs) -> bool:
    if inputs.device is not None and receiver.device_id != inputs.device:
        return False
    if inputs.user is not None and inputs.user not in receiver.rooms:
        return False
    return inputs.room is None or inputs.room.lower() in map(str.lower, receiver.rooms)


def _end(receiver: KickTarget, inputs: KickInputs) -> None:
    receiver.kick(inputs.text, comes_back=inputs.reconnect)


async def _end_in_steps(found: list[KickTarget], inputs: KickInputs) -> None:
    """Ends many, spread over a time by their number: they do not all come back at once."""

    def those_left() -> list[KickTarget]:
        return [receiver for receiver in found if not receiver.is_over]

    await close_in_steps(those_left, lambda receiver: _end(receiver, inputs), leave_seconds(len(found)))
