"""The apps of a node, while its sites change."""

from __future__ import annotations

import pytest

from app.config.changes import become
from app.config.settings import Site
from app.protocols.sites.pusher.apps import PusherApps
from app.protocols.sites.pusher.settings import PusherApp
from app.protocols.sites.pusher.signature import NotSigned, signed_request
from app.transport.query import fields_of
from tests.protocols.sites.pusher.signing import signed_query
from tests.support.store import make_site

PATH = "/apps/1/channels"


def site(name: str, app_id: str, key: str = "k", secret: str = "s") -> Site:
    """A site that is an app."""
    return make_site(name, pusher=PusherApp(app_id=app_id, key=key, secret=secret))


def found(apps: PusherApps, app_id: str, key: str = "k", secret: str = "s") -> str | None:
    """The name of the site for which a request counts."""
    fields = fields_of(signed_query("GET", PATH, key=key, secret=secret).encode())
    try:
        return apps.site_of(app_id, signed_request("GET", [PATH], fields)).name
    except NotSigned:
        return None


def test_sites_come_change_and_go() -> None:
    """An app is known from the moment its site is served, by its newest id and keys, and no longer."""
    one = site("one", "1")
    sites = {"one": one, "plain": make_site("plain")}
    apps = PusherApps(sites)
    assert [found(apps, id) for id in ("1", "2", "", "plain")] == ["one", None, None, None]
    two = site("two", "2", "k2", "s2")
    apps.add(two)
    # `sites` has a new site when every part knows it.
    assert found(apps, "2", "k2", "s2") is None
    sites["two"] = two
    assert found(apps, "2", "k2", "s2") == "two"
    become(one, site("one", "4"))
    apps.add(one)
    assert [found(apps, "1"), found(apps, "4")] == [None, "one"]
    become(one, site("one", "3", secret="other"))
    apps.add(one)
    assert [found(apps, "4"), found(apps, "3"), found(apps, "3", secret="other")] == [None, None, "one"]
    become(two, make_site("two"))
    apps.add(two)
    assert found(apps, "2", "k2", "s2") is None
    del sites["one"]
    apps.forget("one")
    assert found(apps, "3", secret="other") is None


def test_the_time_is_checked_behind_the_signature() -> None:
    """A caller without the secret is not told that its time is wrong."""
    apps = PusherApps({"one": site("one", "1")}, clock_ms=lambda: 0)
    for secret, text in (("s", "auth_timestamp"), ("wrong", "Authentication failed")):
        fields = fields_of(signed_query("GET", PATH, key="k", secret=secret).encode())
        with pytest.raises(NotSigned, match=text):
            apps.site_of("1", signed_request("GET", [PATH], fields))
