"""The browser bundle of socket.io-client, by version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from app.socketio import bundle
from app.socketio.bundle import BUNDLE_PATH, bundle_routes, missing_bundles


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the bundles, still empty."""
    monkeypatch.setattr(bundle, "files", lambda package: tmp_path)
    directory = tmp_path / "static" / "vendor"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
async def client(vendor: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A browser."""
    async with browser() as client:
        yield client


def browser(**options: int) -> httpx.AsyncClient:
    """A browser of a server with these options of the routes."""
    transport = httpx.ASGITransport(Starlette(routes=bundle_routes(**options)))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def install(vendor: Path, *versions: str) -> None:
    """Install bundles that hold their version."""
    for name in versions:
        (vendor / f"socket.io-{name}.js").write_text(f"bundle {name} ü")


@pytest.mark.parametrize(("query", "version"), [("", "4"), ("?v=4", "4"), ("?v=2", "2"), ("?v=1", "1")])
async def test_bundle_by_version(client: httpx.AsyncClient, vendor: Path, query: str, version: str) -> None:
    """4.x is the default, 1.x and 2.x for old pages; as a script that any page may load and keep for an hour."""
    install(vendor, "1", "2", "4")
    answer = await client.get(BUNDLE_PATH + query)
    assert (answer.status_code, answer.text) == (200, f"bundle {version} ü")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "public, max-age=3600"


@pytest.mark.parametrize("version", ["3", "", "..%2F..%2Fserver.py", "4.8"])
async def test_unknown_version(client: httpx.AsyncClient, version: str) -> None:
    """Another version is not there, and the versions that are, are named."""
    answer = await client.get(f"{BUNDLE_PATH}?v={version}")
    assert (answer.status_code, answer.text) == (404, "v: expected 1, 2 or 4.")


async def test_default_of_the_server(vendor: Path) -> None:
    """The server's setting names the bundle without `v`, and `v` wins over it."""
    install(vendor, "1", "2", "4")
    async with browser(default=1) as client:
        answers = [(await client.get(BUNDLE_PATH + query)).text for query in ("", "?v=4")]
    assert answers == ["bundle 1 ü", "bundle 4 ü"]


def test_missing_bundles(vendor: Path) -> None:
    """Each bundle that is not installed is named, with the way to get it."""
    install(vendor, "2")
    assert missing_bundles() == [
        f"/socket.io/socket.io.js?v={version} answers 404: run scripts/fetch-clients (needs npm)" for version in "14"
    ]
    install(vendor, "1", "4")
    assert missing_bundles() == []


async def test_bundle_that_was_not_fetched(client: httpx.AsyncClient) -> None:
    """Without the bundles the answer says how to get them."""
    answer = await client.get(BUNDLE_PATH)
    assert answer.status_code == 404
    assert "scripts/fetch-clients" in answer.text
