"""Who else a message is for: a site may bind a channel or a topic to a room, and then they are one.

Pure look-ups; knows no protocol but by what it says of its audiences.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from app.core.address import addresses
from app.core.message import RESERVED_EVENTS, Message
from app.core.ports import AudienceListener
from app.settings import Site


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
    return replace(message, rooms=rooms, audiences=(*message.audiences, *audiences))


def _keys(site: Site, rooms: Sequence[str]) -> Sequence[str]:
    """The rooms in the form in which equal ones are equal."""
    return addresses(site, rooms) if site.has_queues else rooms
