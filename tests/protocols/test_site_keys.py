"""The keys of sites at HTTP doors, and the queries that are kept read."""

from __future__ import annotations

import pytest
from msgspec import structs

from app.config.changes import become
from app.config.settings import Site
from app.digests import digest
from app.errors import BadRequest
from app.observe.counts import Counts
from app.protocols import site_keys
from app.protocols.site_keys import ApiKeys
from tests.support.store import make_site

QUERY = b"site=shop&apiKey=first-secret&resync=true"


@pytest.fixture
def site() -> Site:
    """A site, which tests may change."""
    return make_site("shop", api_key="first-secret")


def test_query_is_read_once(site: Site) -> None:
    """A query with the right key is read once; each use of the key is noted."""
    counts = Counts()
    keys = ApiKeys({"shop": site}, counts)
    query, caller = keys.caller_of(QUERY, {})
    assert (dict(query), caller) == ({"site": "shop", "apiKey": "first-secret", "resync": "true"}, site)
    counts.key_uses.clear()
    again, caller = keys.caller_of(QUERY, {})
    assert again is query
    assert caller is site
    assert list(counts.key_uses) == [("shop", digest("first-secret"))]


def test_changed_key_is_refused(site: Site) -> None:
    """A kept query shows nothing once its site has another key, keeps the key among others, or is gone."""
    sites = {"shop": site}
    keys = ApiKeys(sites, Counts())
    keys.caller_of(QUERY, {})
    become(site, structs.replace(site, api_key="next-secret", further_keys=("first-secret",)))
    keys.caller_of(QUERY, {})
    become(site, structs.replace(site, further_keys=()))
    with pytest.raises(BadRequest):
        keys.caller_of(QUERY, {})
    become(site, structs.replace(site, api_key="first-secret"))
    keys.caller_of(QUERY, {})
    # The other keys stay the same value.
    become(site, structs.replace(site, api_key="last-secret"))
    with pytest.raises(BadRequest):
        keys.caller_of(QUERY, {})
    become(site, structs.replace(site, api_key="first-secret"))
    del sites["shop"]
    with pytest.raises(BadRequest):
        keys.caller_of(QUERY, {})


def test_wrong_keys_are_not_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers do not fill the store of queries, which is emptied past its bound; a key in a header belongs to its
    request alone."""
    monkeypatch.setattr(site_keys, "MOST_KEPT_QUERIES", 2)
    keys = ApiKeys({"shop": site}, Counts())
    for _ in range(2):
        with pytest.raises(BadRequest):
            keys.caller_of(b"site=shop&apiKey=wrong", {})
    keys.caller_of(b"site=shop", {b"x-api-key": b"first-secret"})
    with pytest.raises(BadRequest):
        keys.caller_of(b"site=shop", {})
    first, _ = keys.caller_of(QUERY, {})
    for number in range(2):
        keys.caller_of(QUERY + b"&n=%d" % number, {})
    assert keys.caller_of(QUERY, {})[0] is not first
