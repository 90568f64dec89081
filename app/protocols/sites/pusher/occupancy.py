"""The connections in the rooms of a site on all nodes, as Pusher shows channels: how many, and of which users.

Each node looks at its own connections when it is asked. Rooms of single users are no channels.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from app.config.settings import Site
from app.core.address import is_user_room
from app.errors import RequestRefused
from app.protocols.turns import Turns, look_in_turns

#: The channels of one answer, and the users that a node names in one.
MOST_LISTED_CHANNELS = 10_000
MOST_LISTED_USERS = 10_000
#: The questions of one site under way on one node: each looks at every connection of the site.
MOST_CHANNEL_QUESTIONS = 4
_QUESTION_SECONDS = 5.0
#: A connection counts as one more in its turn of the event loop for so many rooms: 10,000 rooms take some 7 ms.
_ROOMS_LIKE_A_CONNECTION = 20
_VERB = "sites.channels"
_TOO_MANY = "too many"


class RoomMember(Protocol):
    """A connection of a site, as this module sees it."""

    rooms: Sequence[str]


class AskedNodes(Protocol):
    """Questions between nodes, as this module sees them."""

    handlers: dict[str, Callable[[Any], Awaitable[Any]]]

    async def ask_all(self, verb: str, given: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """See `NodeAsking`."""


class ChannelsQuestion(Struct, frozen=True):
    """The question to a node."""

    site: str
    #: In lower case; None: every room that begins with the prefix.
    rooms: list[str] | None = None
    prefix: str = ""
    #: Whether the users are named.
    with_users: bool = False


class ChannelFacts(Struct):
    """The connections in one room."""

    name: str
    subscriptions: int = 0
    users: set[str] = msgspec.field(default_factory=set)

    def add(self, other: "ChannelFacts") -> None:
        """Adds those on another node."""
        self.subscriptions += other.subscriptions
        self.users |= other.users


_Found = dict[str, ChannelFacts]


class Occupancy:
    """The questions about rooms, asked for here and answered here. Lives as long as the node."""

    def __init__(
        self, crew: AskedNodes, sites: Mapping[str, Site], live: Callable[[str], Iterator[RoomMember]]
    ) -> None:
        """`sites` may change."""
        self._crew = crew
        self._sites = sites
        self._live = live
        self._turns = Turns(MOST_CHANNEL_QUESTIONS, _QUESTION_SECONDS, "a site")
        crew.handlers[_VERB] = self.answer

    async def ask(
        self, site: Site, rooms: Sequence[str] | None, prefix: str = "", *, with_users: bool = False
    ) -> _Found:
        """The rooms with connections, by their name in lower case. Raises RequestRefused, StoreError."""
        names = None if rooms is None else [room.lower() for room in rooms]
        question = ChannelsQuestion(site.name, names, prefix.lower(), with_users)
        async with self._turns.turn(site.name):
            answers, silent = await self._crew.ask_all(_VERB, question)
        if silent:
            raise RequestRefused("Not every node has answered, try again.", "silent_node", 503)
        if _TOO_MANY in answers.values():
            most = f"{MOST_LISTED_CHANNELS} channels and {MOST_LISTED_USERS} users"
            raise RequestRefused(f"Expected at most {most} on one node: ask for fewer.")
        found: _Found = {}
        for answer in answers.values():
            for room, facts in msgspec.convert(answer, _Found).items():
                found.setdefault(room, ChannelFacts(facts.name)).add(facts)
        return found

    async def answer(self, given: Any) -> _Found | str:
        """Another node, or this one, has asked: the rooms on this node."""
        question: ChannelsQuestion = msgspec.convert(given, ChannelsQuestion)
        site = self._sites.get(question.site)
        if site is None:
            return _Found()
        try:
            # The node that asks has given up by then, and may ask again.
            async with asyncio.timeout(self._turns.seconds):
                return await self._look(site, question)
        except TimeoutError:
            return _TOO_MANY

    async def _look(self, site: Site, question: ChannelsQuestion) -> _Found | str:
        found, named = _Found(), 0
        wanted = None if question.rooms is None else frozenset(question.rooms)
        async for member in look_in_turns(self._live(site.name), _size_of):
            users = _users_of(site, member.rooms) if question.with_users else ()
            for room in _rooms_of(site, member.rooms, wanted, question.prefix):
                facts = found.setdefault(room.lower(), ChannelFacts(room))
                facts.subscriptions += 1
                named -= len(facts.users)
                facts.users.update(users)
                named += len(facts.users)
            if len(found) > MOST_LISTED_CHANNELS or named > MOST_LISTED_USERS:
                return _TOO_MANY
        return found


def _size_of(member: RoomMember) -> int:
    return 1 + len(member.rooms) // _ROOMS_LIKE_A_CONNECTION


def _rooms_of(site: Site, rooms: Sequence[str], wanted: frozenset[str] | None, prefix: str) -> Iterator[str]:
    """The rooms of a connection that are asked for, each once. The room of a user is found by its name alone."""
    seen: set[str] = set()
    for room in rooms:
        lower = room.lower()
        is_meant = lower in wanted if wanted is not None else _is_channel(site, room) and lower.startswith(prefix)
        if is_meant and lower not in seen:
            seen.add(lower)
            yield room


def _is_channel(site: Site, room: str) -> bool:
    return room == site.public_channel or not is_user_room(site, room)


def _users_of(site: Site, rooms: Sequence[str]) -> list[str]:
    """The users of a connection, as Pusher's ids: the user rooms behind the prefix."""
    prefix = site.user_room_prefix
    return [room.removeprefix(prefix) for room in rooms if prefix and room.startswith(prefix)]
