"""The pages of nodes and connections in Chromium, on two real nodes with real clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.console.test_pages import NAME, PASSWORD, can_log_in, go, log_in, violations, wait_for
from tests.support.browser import Browser, Page
from tests.support.clients import WEBSOCKET, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

SITE = "alpha"


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a journal and an administrator, of one test: it ends one of them."""
    environment = {"DATABASE_URL": "sqlite:///journal.sqlite"}
    environment |= {"RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    server = Deployment({SITE: contract_sites(tenant)[SITE]}, environment=environment, nodes=2)
    eventually(lambda: can_log_in(server.nodes[0].url), "the operator", 60, interval_seconds=0.5)
    yield server
    server.end()


@pytest.fixture
def page(deployment: Deployment, browser: Browser) -> Iterator[Page]:
    """The first node's console, as an administrator sees it."""
    page = browser.open(deployment.nodes[0].url + "/console/nodes", width=1280, height=800)
    log_in(page)
    yield page
    page.close()


def test_a_node_is_drained_and_goes(deployment: Deployment, page: Page, drivers: Drivers, tenant: Tenant) -> None:
    """The other node is ended on the page; its client is told to leave, and its row disappears without a load."""
    wait_for(page, "document.querySelectorAll('tbody tr').length === 2", "both nodes")
    connector = Connector(deployment.nodes[1], drivers)
    client = connector(SITE, tenant.user(), ClientKind("4", WEBSOCKET))
    pid = deployment.nodes[1].server.pid
    row = f"[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('pid {pid}'))"
    page.evaluate(f"{row}.querySelector('details').open = true")
    assert violations(page) == []
    page.evaluate(f"[...{row}.querySelectorAll('button')].find((one) => one.innerText === 'Drain and end').click()")
    wait_for(page, "document.querySelector('[role=status]')?.innerText.includes('Done')", "the answer")
    page.evaluate("window.isSame = true")
    assert deployment.nodes[1].server.wait(30) == 0
    client.wait_disconnected()
    wait_for(page, "document.querySelectorAll('tbody tr').length === 1", "the row to go")
    assert page.evaluate("window.isSame") is True
    assert page.complaints() == []
    connector.close()


def test_a_connection_is_ended(deployment: Deployment, page: Page, drivers: Drivers, tenant: Tenant) -> None:
    """Connections of both nodes are listed; one is ended with a click, and stands below with the reason."""
    users = [tenant.user(), tenant.user()]
    connectors = [Connector(node, drivers) for node in deployment.nodes]
    clients = [one(SITE, user, ClientKind("4", WEBSOCKET)) for one, user in zip(connectors, users, strict=True)]
    go(page, f"/console/sites/{SITE}/connections")
    wait_for(page, "document.querySelectorAll('tr[id^=open-]').length === 2", "both connections")
    text = page.evaluate("document.querySelector('main').innerText")
    assert [user.room for user in users if user.room not in text] == []
    mine = f"[...document.querySelectorAll('tr[id^=open-]')].find((row) => row.innerText.includes('{users[1].room}'))"
    page.evaluate(f"{mine}.querySelector('button').click()")
    clients[1].wait_disconnected()
    ended = f"[...document.querySelectorAll('tr[id^=ended-]')].some((row) => row.innerText.includes('{users[1].room}'))"

    def is_listed() -> bool:
        go(page, f"/console/sites/{SITE}/connections")
        return bool(page.evaluate(ended))

    eventually(is_listed, "the row of its end", 60, interval_seconds=0.5)
    assert "ended by an operator" in page.evaluate("document.querySelector('main').innerText")
    assert violations(page) == []
    assert page.complaints() == []
    for connector in connectors:
        connector.close()
