"""Who else a message is for: a site may bind a channel or a topic to a room, and then they are one.

Pure look-ups; knows no protocol but by what it says of its audiences.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from app.config.settings import Site
from app.core.address import addresses
from app.core.message import RESERVED_EVENTS, Audience, Message
from app.core.ports import AudienceListener


def extend(message: Message, listeners: Mapping[str, AudienceListener]) -> Message:
    """The message with the rooms its channels and topics are bound to, and the audiences bound to its rooms.

    `listeners` are the protocols by name. An event that clients would take for the server's own goes to no room.
    """
    site = message.site
    bound = [site.binds[name] for audience in message.audiences for name in audience.bound_names if name in site.binds]
    rooms = [*message.rooms, *bound] if message.event not in RESERVED_EVENTS else message.rooms
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
    """The names, and all others that are bound to a room that one of them is bound to."""
    rooms = set(_keys(site, [site.binds[name] for name in names if name in site.binds]))
    others = [name for name, room in site.binds.items() if not rooms.isdisjoint(_keys(site, [room]))]
    return list(dict.fromkeys((*names, *others)))


def _united(audiences: Sequence[Audience]) -> tuple[Audience, ...]:
    """Those of one protocol of which the same is said are one: a node hears a message once for each protocol."""
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
    """The rooms in the form in which equal ones are equal."""
    return addresses(site, rooms) if site.has_queues else rooms
