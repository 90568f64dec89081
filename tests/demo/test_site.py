"""The demo's site and its routes, on a server with --demo."""

from __future__ import annotations

import httpx
import pytest
from msgspec import structs

from app.config.settings import Config
from app.demo.site import demo_site
from tests.demo.conftest import DemoServer
from tests.support.deployment import Deployment


def ask(demo: DemoServer, path: str, **headers: str) -> httpx.Response:
    """GET a path of the server."""
    return httpx.get(demo.url + path, headers=headers)


@pytest.mark.parametrize(
    ("host", "own_host"),
    [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "[::1]"), ("fd00::1", "[fd00::1]")],
)
def test_auth_url_is_this_process(host: str, own_host: str) -> None:
    """The demo's authUrl is an address at which the server reaches itself, whatever the server listens on."""
    site = demo_site(structs.replace(Config(), host=host, device_ttl_seconds=7), 8080)
    assert (site.auth_url, site.device_ttl_seconds) == (f"http://{own_host}:8080/demo/auth", 7)


@pytest.mark.parametrize("path", ["/demo", "/demo/main.js", "/demo/style.css", "/demo/icon.svg"])
def test_files_carry_the_policy(demo: DemoServer, path: str) -> None:
    """The page and its files may load nothing from elsewhere, are revalidated
    each time, and answer 304 if unchanged."""
    answer = ask(demo, path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == "default-src 'self'; frame-ancestors 'none'"
    assert answer.headers["cache-control"] == "no-cache"
    assert ask(demo, path, **{"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/", "/demo/"])
def test_other_addresses_lead_to_the_page(demo: DemoServer, path: str) -> None:
    """A visitor of the server's root, or of the page's path with a slash, is redirected to the page."""
    assert ask(demo, path).headers["location"] == "/demo"


@pytest.mark.parametrize("path", ["/demo/nothing", "/demo/..%2Fsite.py", "/demo/%2e%2e/site.py"])
def test_nothing_else_is_served(demo: DemoServer, path: str) -> None:
    """A path outside the page's files is not found, and one that leads out of their folder neither."""
    assert ask(demo, path).status_code == 404


def test_auth_knows_three_users(demo: DemoServer) -> None:
    """The authUrl answers a demo user's rooms, and 401 for any other token."""
    assert ask(demo, "/demo/auth", Authorization="Bearer bob").json() == ["user_bob", "lobby"]
    for headers in ({"Authorization": "Bearer mallory"}, {}):
        assert ask(demo, "/demo/auth", **headers).status_code == 401


def test_off_without_the_option() -> None:
    """A server without --demo has no page and no site `demo`."""
    deployment = Deployment({}, is_embedded=True)
    try:
        assert deployment.get("/demo").status_code == 404
        sent = deployment.post(params={"site": "demo", "apiKey": "demo"}, json={"rooms": "lobby", "event": "hello"})
        assert sent.status_code == 401
    finally:
        deployment.end()
