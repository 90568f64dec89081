"""The names of keys: one Cluster slot for a site, no key shared between sites, and no key undocumented."""

from __future__ import annotations

import re

import pytest
from redis.crc import key_slot

from app.redis.scripts import load_scripts
from app.store import keys


@pytest.mark.parametrize("site", ["shop", "a:b", "söz", "x y"])
def test_keys_of_a_site_share_a_slot(site: str) -> None:
    """The site is the hash tag: a Cluster keeps every key with the prefix on one shard."""
    slots = {key_slot((keys.prefix(site) + key).encode()) for key in ("seq", "queue:1", "room:{other}", "user:a}b")}
    assert slots == {key_slot(site.encode())}


def test_prefixes_of_sites_do_not_overlap() -> None:
    """No site's prefix is the beginning of another's key."""
    assert not keys.prefix("shop:x").startswith(keys.prefix("shop"))
    assert not keys.prefix("shop").startswith(keys.prefix("sho"))


def test_names_outside_of_sites() -> None:
    """A node's channel and a worker's lease are told apart by their names."""
    assert keys.bus_channel("ab12") == "recado:bus:ab12"
    assert keys.worker_lease(3, 31) == "recado:worker:3:31"


def test_every_key_of_the_scripts_is_documented() -> None:
    """Every name that scripts append to the prefix is in the table of keys.py."""
    used = {name for script in load_scripts().values() for name in re.findall(r"P \.\. '(\w+)", script.text)}
    documented = set(re.findall(r"(?:^\| |, )(\w+)[:<\w> ,]*? \|", keys.__doc__ or "", re.MULTILINE))
    documented |= set(re.findall(r"(\w+):<", keys.__doc__ or ""))
    assert used - documented == set()
