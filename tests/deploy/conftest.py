"""Two nodes for the proxies of deploy/, which trust the proxy's address and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import MESSENGER, make_users
from tests.support.deployment import Deployment
from tests.support.sites import load_sites
from tests.support.tenant import Tenant

#: A part of a file that is larger than what nginx takes by default.
PART_BYTES = 3_000_000


@pytest.fixture(scope="module")
def nodes(tenant: Tenant, new_database: Callable[[str], str]) -> Iterator[Deployment]:
    """Two nodes with queues, topics, channels and files."""
    database = new_database("sqlite")
    make_users(database, "team", ["ann"])
    sites: dict[str, dict[str, Any]] = load_sites(tenant) | {
        "news": {"apiKey": "news-key", "topics": {}, "channels": {}},
        "alone": {**load_sites(tenant)["one"], "limits": {"connections_per_address": 1}},
        "team": {"apiKey": "k", "messenger": {**MESSENGER, "files": True, "file_part": PART_BYTES}},
    }
    config = {"drain_timeout": 2, "trusted_proxies": ["127.0.0.1"]}
    deployment = Deployment(sites, config, environment={"DATABASE_URL": database}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a proxy's files."""
    return tmp_path / "proxy"
