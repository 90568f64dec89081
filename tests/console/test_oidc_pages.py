"""A login at a provider in Chromium, on a real server: the provider is another site, and cookies of the console are
strict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.oidc_provider import CLIENT, Provider, running_provider
from tests.console.test_pages import NAME, PASSWORD, SITES, can_log_in, violations, wait_for
from tests.support.browser import Browser
from tests.support.deployment import Deployment
from tests.support.ports import free_port
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A provider under another name than the console's."""
    with running_provider("localhost") as provider:
        yield provider


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[str]:
    """The URL of a console that knows the provider."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    oidc: dict[str, Any] = {
        "issuer": provider.url,
        "client_id": CLIENT[0],
        "client_secret": CLIENT[1],
        "public_url": url,
    }
    oidc |= {"role_claim": "groups", "roles": {"admins": "admin"}}
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    deployment = Deployment(SITES, {"console": {"port": port, "oidc": oidc}}, environment=environment)
    # The tables are there.
    eventually(lambda: can_log_in(url), "the operator", 60, interval_seconds=0.5)
    yield url
    deployment.end()


def test_a_login_at_the_provider(browser: Browser, url: str, provider: Provider) -> None:
    """A browser is led to the provider and back to the page that it has asked for; before what hurts, once more."""
    provider.auth_time = time.time() - 3_600
    page = browser.open(f"{url}/console/tokens")
    name = f"Log in at {provider.url.removeprefix('http://')}"
    wait_for(page, "document.querySelector('a.button') !== null", "the login")
    assert violations(page) == []
    page.click(page.find("link", name))
    wait_for(page, "location.pathname === '/console/tokens' && document.querySelector('nav') !== null", "the page")
    assert "ana" in page.evaluate("document.querySelector('.who').innerText")
    page.fill(page.find("textbox", "What it is for"), "mine")
    page.click(page.find("button", "Make"))
    wait_for(page, "document.querySelector('h1').innerText === 'Is it you?'", "the question")
    assert violations(page) == []
    provider.auth_time = None
    page.click(page.find("link", "Log in again"))
    wait_for(page, "document.querySelector('[role=status]')?.innerText.includes('not asked again')", "the answer")
    page.fill(page.find("textbox", "What it is for"), "mine")
    page.click(page.find("button", "Make"))
    wait_for(page, "document.querySelector('main').innerText.includes('recado_')", "the token")
    assert page.complaints() == []
    page.close()
