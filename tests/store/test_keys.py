"""The names of keys: one Cluster slot for a site, no key shared between sites, and no key undocumented."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from redis.crc import key_slot

from app.store import keys
from tests.support.processes import REPOSITORY

APP = REPOSITORY / "app"
SCRIPTS = sorted(APP.rglob("lua"))


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


def names_in(table: Path) -> set[str]:
    """The first words of the keys that the docstring of a module documents."""
    text = ast.get_docstring(ast.parse(table.read_text())) or ""
    return set(re.findall(r"(?:^\| |, )(\w+)[:<\w> ,]*? \|", text, re.MULTILINE)) | set(re.findall(r"(\w+):<", text))


@pytest.mark.parametrize("folder", SCRIPTS, ids=lambda folder: folder.parent.name)
def test_every_key_of_the_scripts_is_documented(folder: Path) -> None:
    """The keys that scripts build are in the table of store/keys.py, or in that of the scripts' own protocol."""
    used = {name for script in folder.glob("*.lua") for name in re.findall(r"P \.\. '(\w+)", script.read_text())}
    own = folder.parent / "redis_keys.py"
    documented = names_in(APP / "store/keys.py") | (names_in(own) if own.exists() else set())
    assert used - documented == set()


def test_the_tables_are_found() -> None:
    """Every protocol whose scripts have keys of their own has a table, which documents one."""
    tables = [folder.parent / "redis_keys.py" for folder in SCRIPTS if folder.parent.parent.name == "protocols"]
    tables = [table for table in tables if table.exists()]
    assert tables
    assert [table for table in tables if not names_in(table)] == []
