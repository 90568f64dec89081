"""The hidden site's rooms come from its key; every other site's backend is asked."""

from __future__ import annotations

import pytest

from app.canary.site import with_canary
from app.config.settings import CANARY_SITE, Site
from app.errors import AuthRefused
from app.protocols.sites.own_rooms import OwnRooms
from tests.support.store import make_site

KEY = "the-key-of-the-canary"


class Asked:
    """A backend that notes the sites whose users it is asked for."""

    def __init__(self) -> None:
        self.sites: list[str] = []

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """Answers a room."""
        self.sites.append(site.name)
        return ["user_1"]


async def test_the_key_opens_one_room() -> None:
    """With the key a client gets the room that it names, and no backend is asked."""
    asked = Asked()
    hidden = with_canary({}, KEY)[CANARY_SITE]
    assert await OwnRooms(asked).fetch_rooms(hidden, KEY, "ab12") == ["canary_ab12"]
    for token, meta in ((None, "ab12"), ("", "ab12"), ("guessed", "ab12"), (KEY, None), (KEY, "")):
        with pytest.raises(AuthRefused, match="Invalid namespace"):
            await OwnRooms(asked).fetch_rooms(hidden, token, meta)
    assert asked.sites == []


async def test_other_sites_are_not_touched() -> None:
    """A tenant's backend decides about its users."""
    asked = Asked()
    assert await OwnRooms(asked).fetch_rooms(make_site("shop"), KEY, "ab12") == ["user_1"]
    assert asked.sites == ["shop"]
