"""The site of the demo: when there is one, and that no settings make another one like it."""

from __future__ import annotations

import msgspec
import pytest

from app.config.settings import Config, Site
from app.protocols.messenger.demo import demo_site, is_demo
from app.protocols.messenger.settings import Messenger, MessengerKeys

_WITH_SQL = Config(database_url="sqlite:////tmp/journal.sqlite")


def test_the_demo_has_a_site() -> None:
    """With a database there is a site whose users are known; without one, or where its name is taken, there is none."""
    site = demo_site(_WITH_SQL)
    assert site is not None
    assert is_demo(site)
    assert demo_site(Config(database_url="none")) is None
    taken = msgspec.structs.replace(_WITH_SQL, sites={site.name: Site(name=site.name, api_key="k")})
    assert demo_site(taken) is None


def test_no_settings_make_a_demo() -> None:
    """The users of the demo, whose passwords are public, come into no other site: no key turns that on."""
    with pytest.raises(msgspec.ValidationError, match="is_demo"):
        msgspec.convert({"is_demo": True}, MessengerKeys)
    sections: dict[type[msgspec.Struct], msgspec.Struct] = {Messenger: Messenger()}
    assert not is_demo(Site(name="shop", api_key="k", sections=sections))
