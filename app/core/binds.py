"""Binds: a site may bind the name of an audience to a room; a message for either of them reaches both.

Pure look-ups; knows a protocol only by the audiences that it makes of a bound name.
"""

from collections.abc import Mapping, Sequence, Set

from msgspec.structs import replace

from app.config.settings import Site
from app.core.address import addresses, room_names
from app.core.message import Audience, Message
from app.core.ports import AudienceListener


def extend(
    message: Message, listeners: Mapping[str, AudienceListener], reserved_events: Set[str] = frozenset()
) -> Message:
    """The message with the rooms that its audiences are bound to, and the audiences that are bound to its rooms.

    `listeners` are the protocols by name. A message with one of the `reserved_events` goes to no bound room: the
    clients there would take it for the server's own.
    """
    site = message.site
    bound = [site.binds[name] for audience in message.audiences for name in audience.bound_names if name in site.binds]
    rooms = [*message.rooms, *bound] if message.event not in reserved_events else message.rooms
    addressed = set(_keys(site, rooms))
    told = {(audience.protocol, name) for audience in message.audiences for name in audience.bound_names}
    audiences = [
        audience
        for name, room in site.binds.items()
        if not addressed.isdisjoint(_keys(site, [room]))
        for protocol, listener in listeners.items()
        if (protocol, name) not in told
        if (audience := listener.audience_of(site, name)) is not None
    ]
    return replace(message, rooms=rooms, audiences=_united((*message.audiences, *audiences)))


def bound_together(site: Site, names: Sequence[str]) -> list[str]:
    """The names, and all other names that are bound to the same rooms."""
    rooms = set(_keys(site, [site.binds[name] for name in names if name in site.binds]))
    others = [name for name, room in site.binds.items() if not rooms.isdisjoint(_keys(site, [room]))]
    return list(dict.fromkeys((*names, *others)))


def _united(audiences: Sequence[Audience]) -> tuple[Audience, ...]:
    """Joins audiences of one protocol with the same detail: a node hears a message once for each of them."""
    united: dict[tuple[str, bytes], Audience] = {}
    for audience in audiences:
        key = (audience.protocol, audience.detail)
        known = united.get(key)
        united[key] = audience if known is None else _union(known, audience)
    return tuple(united.values())


def _union(one: Audience, other: Audience) -> Audience:
    names = tuple(dict.fromkeys((*one.names, *other.names)))
    return replace(one, names=names, bound_names=tuple(dict.fromkeys((*one.bound_names, *other.bound_names))))


def _keys(site: Site, rooms: Sequence[str]) -> Sequence[str]:
    """The rooms in a form that compares as the site compares rooms."""
    return addresses(site, rooms) if site.has_queues else room_names(rooms)
