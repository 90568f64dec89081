"""POST /rooms: a site's backend, or an operator, lets a user join and leave rooms with all devices, connected or away.

The next connect is decided by authUrl, or by its token, as ever: its answer has to name the new rooms from then on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import structlog
from msgspec import Meta, Struct
from starlette.routing import BaseRoute

from app.config.settings import Site
from app.core.address import is_user_room
from app.core.ports import RoomsChange
from app.errors import RequestRefused
from app.observe.counts import Counts
from app.protocols.handling import EventHandling
from app.protocols.operations import Call, Inputs, Operation, Role
from app.protocols.protocol import NodeAsking
from app.protocols.sites.orders import Done, RoomName, order_route
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Tickets
from app.protocols.turns import Turns, look_in_turns

PATH = "/rooms"
OPERATION = "connections.rooms"
#: The rooms to join in one request, and those to leave.
MOST_CHANGED_ROOMS = 100
#: The requests of one site under way on one node: each looks at every connection of the site.
MOST_CHANGES = 4
_CHANGE_SECONDS = 5.0
_VERB = "sites.rooms"
_TOO_MANY = -1

_log = structlog.get_logger(__name__)

_Rooms = Annotated[tuple[RoomName, ...], Meta(max_length=MOST_CHANGED_ROOMS)]


class RoomsInputs(Inputs, frozen=True, kw_only=True):
    """A user, and the rooms to join and to leave."""

    #: The user room.
    user: RoomName
    join: _Rooms = ()
    leave: _Rooms = ()


class RoomsHolder(Protocol):
    """A connection of a site, as this module sees it."""

    rooms: Sequence[str]


class RoomsOrder(Struct, frozen=True):
    """The order to a node."""

    site: str
    inputs: RoomsInputs


class RoomsStore(Protocol):
    """The core, as this module sees it."""

    async def change_rooms(self, site: Site, change: RoomsChange) -> int:
        """See `FollowUp.change_rooms`."""


class RoomChanges:
    """The changes of rooms, asked for here and noted here. Lives as long as the node."""

    def __init__(
        self,
        crew: NodeAsking,
        store: RoomsStore,
        live: Callable[[str], Iterator[RoomsHolder]],
        tickets: Tickets,
        handlings: Sequence[EventHandling] = (),
    ) -> None:
        """`handlings` may grow."""
        #: Called with each connection whose rooms have changed, and its site.
        self.on_moved: Callable[[Any, str], None] = lambda holder, site: None
        self._crew = crew
        self._store = store
        self._live = live
        self._tickets = tickets
        self._handlings = handlings
        self._turns = Turns(MOST_CHANGES, _CHANGE_SECONDS, "a site")
        crew.handlers[_VERB] = self.note

    async def change(self, site: Site, inputs: RoomsInputs) -> tuple[int, int]:
        """How many devices of the user have joined and left, connected or away, and how many nodes have not answered.
        Raises RequestRefused, StoreError. A second request does no harm."""
        _check(site, inputs)
        handlings = [one for one in self._handlings if one.serves(site)]
        for handling in handlings:
            handling.check(inputs.join)
        async with self._turns.turn(site.name):
            if site.section(ResumeTicket) is not None:
                # First: a ticket would bring the old rooms back.
                await self._tickets.revoke(site, [inputs.user])
            most = site.limits.rooms_per_connection or 0
            devices = await self._store.change_rooms(
                site, RoomsChange(inputs.user, inputs.join, inputs.leave, most=most)
            )
            if devices == _TOO_MANY:
                raise RequestRefused(f"join: expected at most {most} rooms of a user, with those that it is in.")
            for handling in handlings:
                await handling.move(site, inputs.user, inputs.join, inputs.leave)
            _, silent = await self._crew.ask_all(_VERB, RoomsOrder(site.name, inputs))
        _log.info("rooms changed", site=site.name, devices=devices, silent=len(silent))
        return devices, len(silent)

    async def note(self, given: Any) -> int:
        """Another node, or this one, has asked: the connections of the user on this node name the new rooms."""
        order: RoomsOrder = msgspec.convert(given, RoomsOrder)
        inputs, found = order.inputs, 0
        async for holder in look_in_turns(self._live(order.site)):
            if inputs.user in holder.rooms:
                holder.rooms = _changed(holder.rooms, inputs)
                self.on_moved(holder, order.site)
                found += 1
        return found


def rooms_routes(sites: Mapping[str, Site], changes: RoomChanges, counts: Counts) -> list[BaseRoute]:
    """Returns the route for the node's builder. `sites` may change. Each request stands in the audit."""

    async def change(site: Site, inputs: RoomsInputs) -> Done:
        devices, silent = await changes.change(site, inputs)
        return Done({"devices": devices}, silent)

    return [order_route(PATH, OPERATION, RoomsInputs, change, sites, counts)]


def rooms_operations(changes: RoomChanges) -> list[Operation]:
    """The same for operators."""

    async def change(call: Call) -> dict[str, Any]:
        devices, silent = await changes.change(call.known_site, call.given)
        return {"ok": not silent, "devices": devices, "silent_nodes": silent}

    summary, path = "Let a user join and leave rooms", "/sites/{site}/user-rooms"
    return [Operation(OPERATION, summary, "POST", path, Role.OPERATOR, change, RoomsInputs, True, tells=True)]


def _check(site: Site, inputs: RoomsInputs) -> None:
    """Raises RequestRefused."""
    if not site.user_room_prefix:
        raise RequestRefused("This site has no users, because it has no userRoomPrefix.")
    if not inputs.user.startswith(site.user_room_prefix):
        raise RequestRefused("user: expected a user room of this site, which begins with its userRoomPrefix.")
    if not inputs.join and not inputs.leave:
        raise RequestRefused("Expected one of join and leave.")
    for name, rooms in (("join", inputs.join), ("leave", inputs.leave)):
        if any(is_user_room(site, room) for room in rooms):
            raise RequestRefused(f"{name}: expected rooms of many users, got a user room.")
    if {room.lower() for room in inputs.join} & {room.lower() for room in inputs.leave}:
        raise RequestRefused("leave: expected other rooms than in join.")


def _changed(rooms: Sequence[str], inputs: RoomsInputs) -> Sequence[str]:
    named = {room.lower() for room in (*inputs.join, *inputs.leave)}
    return (*(room for room in rooms if room.lower() not in named), *dict.fromkeys(inputs.join))
