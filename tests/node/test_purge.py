"""A site that is in no sites.yml any more leaves nothing in Redis once it is purged."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.settings import CANARY_SITE, Config
from app.errors import RecadoError
from app.node.purge import PurgeRefused, check_purge, purge
from app.store.keys import NODES, node_sites
from tests.support.store import make_site
from tests.support.valkey import Valkey


def config_of(valkey: Valkey, *sites: str) -> Config:
    """The configuration of servers on this Redis with these sites."""
    return Config(redis_url=valkey.url, sites={name: make_site(name) for name in sites})


@pytest.mark.parametrize("name", ["old", "o*[a-z]?", "d\\ía", "^o"])
async def test_only_the_keys_of_the_site_go(valkey: Valkey, name: str) -> None:
    """All keys of the site are deleted, also very many, and none of a site with a similar name."""
    for number in range(2_500):
        valkey.client.set(f"recado:{{{name}}}:body:{number}", "x")
    others = {f"recado:{{{name}2}}:seq", "recado:{ol}:seq", "recado:{old:seq", "other"}
    for key in others:
        valkey.client.set(key, "x")
    assert await purge(config_of(valkey, "kept"), name) == 2_500
    assert set(valkey.dump()) == others
    assert await purge(config_of(valkey, "kept"), name) == 0


async def test_the_hidden_site_is_none(valkey: Valkey) -> None:
    """The site of the canary is not purged, and no purge says what Redis holds of it."""
    valkey.client.set(f"recado:{{{CANARY_SITE}}}:seq", "x")
    for run in (check_purge, purge):
        with pytest.raises(PurgeRefused, match="no such site"):
            await run(config_of(valkey), CANARY_SITE)
    assert set(valkey.dump()) == {f"recado:{{{CANARY_SITE}}}:seq"}


async def test_site_that_is_served_stays(valkey: Valkey) -> None:
    """A site of sites.yml, or of a node that lives, is not purged; one that only a dead node had is."""
    valkey.client.set("recado:{old}:seq", "x")
    with pytest.raises(PurgeRefused, match=r"is in sites\.yml"):
        await purge(config_of(valkey, "old"), "old")
    valkey.client.zadd(NODES, {"aa": 1, "~bb": 1})
    valkey.client.sadd(node_sites("aa"), "old")
    with pytest.raises(PurgeRefused, match="node aa still serves"):
        await purge(config_of(valkey), "old")
    valkey.client.srem(node_sites("aa"), "old")
    valkey.client.sadd(node_sites("~bb"), "old")
    assert await purge(config_of(valkey), "old") == 1


async def test_site_that_nothing_is_known_of(valkey: Valkey) -> None:
    """Before anybody is asked: a site of which Redis holds nothing was misspelt, and one that may not go is refused."""
    valkey.client.set("recado:{old}:seq", "x")
    await check_purge(config_of(valkey), "old")
    assert valkey.dump().keys() == {"recado:{old}:seq"}
    with pytest.raises(
        PurgeRefused, match=r"^no such site: 'odl' is not in sites\.yml, and Redis holds nothing of it$"
    ):
        await check_purge(config_of(valkey), "odl")
    with pytest.raises(PurgeRefused, match=r"is in sites\.yml"):
        await check_purge(config_of(valkey, "old"), "old")


async def test_embedded_server_that_does_not_run(tmp_path: Path) -> None:
    """The data of an embedded server can be reached while it runs."""
    with pytest.raises(RecadoError, match="no server runs there"):
        await purge(Config(data_dir=tmp_path), "old")
