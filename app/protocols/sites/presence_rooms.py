"""The rooms of a site that have presence: those of its setting `presence`, but for user rooms. Pure."""

from app.config.settings import Site
from app.core.address import is_user_room


def has_presence(site: Site, room: str) -> bool:
    """Whether users in a room are told of. User rooms belong to one user each; rooms are compared without case."""
    if site.presence is None or is_user_room(site, room):
        return False
    return any(_matches(pattern.lower(), room.lower()) for pattern in site.presence.rooms)


def _matches(pattern: str, text: str) -> bool:
    """Whether the text matches, in a time that grows with both lengths alone."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == first
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
