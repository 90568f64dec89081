"""The clients of a backend, while the database is away, and those that are nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Struct

from app.config.settings import Site
from app.errors import RequestRefused, StoreUnavailable
from app.protocols.handling import AdmittedClient, HandledClient
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.beside.visits import Visits
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.settings import Messenger
from app.socketio.socket_connection import ConnectRefused, ConnectRequest

SECTIONS: dict[type[Struct], Struct] = {Messenger: Messenger()}
SITE = Site(name="club", api_key="k", user_room_prefix=USER_PREFIX, auth_url="http://backend", sections=SECTIONS)


class Book:
    """A journal that fails. Lives for the test."""

    def __init__(self, error: Exception) -> None:
        """Fail so."""
        self.error = error

    async def arrive(self, *given: Any) -> Any:
        """Fail."""
        raise self.error

    revoke = move = arrive


def visits(error: Exception) -> Visits:
    """The visits with such a journal."""
    none: Any = None
    book: Any = Book(error)
    return Visits(book, none, none, none)


async def receive(error: Exception, rooms: Sequence[str] = ("user_7",), device: str = "d1") -> HandledClient | None:
    """A client with these rooms comes."""
    told = {"session": 5, "app": {"name": ""}, "device": "none"}
    request = ConnectRequest("/club", 4, "10.0.0.1", "agent", (), told, {}, {})
    users = [room for room in rooms if room.startswith(USER_PREFIX)]
    return await visits(error).receive(AdmittedClient(SITE, None, request, device, rooms, users, is_fresh=True))


async def test_the_database_is_away() -> None:
    """A client comes again, as when Redis is away; so does an order of the backend."""
    with pytest.raises(StoreUnavailable):
        await receive(ChatUnavailable())
    with pytest.raises(StoreUnavailable):
        await visits(ChatUnavailable()).revoke(SITE, [], None)
    with pytest.raises(StoreUnavailable):
        await visits(ChatUnavailable()).move(SITE, "user_7", ["a"], [])


async def test_a_user_that_is_refused() -> None:
    """The client is told why; odd words about its program and its session are passed over."""
    with pytest.raises(ConnectRefused, match="too many users"):
        await receive(ChatRefusal("too_many", "too many users"))
    with pytest.raises(ConnectRefused, match="messenger_"):
        await receive(AssertionError(), ["user_7", "messenger_room_1"])
    with pytest.raises(RequestRefused, match="messenger_"):
        visits(AssertionError()).check(["a", "Messenger_b"])


@pytest.mark.parametrize(("rooms", "device"), [(["all"], "d1"), (["user_7"], "d\x00"), (["user_7"], "d" * 257)])
async def test_clients_that_only_receive(rooms: Sequence[str], device: str) -> None:
    """A client without a user, or with a deviceId that no database holds, is on the site as before."""
    assert await receive(AssertionError(), rooms, device) is None
