"""The pictures of the pages in docs/images: each is taken in every run, and written with `--write-pictures`."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.console.test_pages import NAME, PASSWORD, can_log_in, go, log_in, wait_for
from tests.support.browser import Browser, Page
from tests.support.channels import Subscription
from tests.support.deployment import Deployment
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

_FOLDER = REPOSITORY / "docs/images"
_SHOP = {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": "key of the shop", "userRoomPrefix": "user_"}
_SITES = {"shop": {**_SHOP, "channels": {}}}
#: The smallest picture that can hold a page.
_LEAST_BYTES = 10_000
#: Name of the picture -> path, the text that the page waits for, and the size of the window.
PICTURES = {
    "console-overview": ("/console/overview", "Sites now", (1280, 960)),
    "console-nodes": ("/console/nodes", "ready", (1280, 640)),
    "console-stores": ("/console/redis", "deliveries", (1280, 800)),
    "console-connections": ("/console/sites/shop/connections", "channels", (1280, 640)),
    "console-log": ("/console/log", "console login refused", (1280, 640)),
    "console-operators": ("/console/operators", "ben", (1280, 800)),
    "console-audit": ("/console/audit", "operators.add", (1280, 640)),
    "console-account": ("/console/tokens", "Make a token", (1280, 800)),
    "console-phone": ("/console/log", "console login refused", (375, 740)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server on which something has happened."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    deployment = Deployment(_SITES, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 20, interval_seconds=0.5)
    httpx.post(f"{deployment.url}/console/login", data={"name": "nobody", "password": "wrong"})
    add_samples(file)
    with Subscription(deployment.url, "shop"), Subscription(deployment.url, "shop"):
        yield deployment
    deployment.end()


def add_samples(file: Path) -> None:
    """Write an hour of samples, and a bit of the next one, as nodes with some traffic would."""
    now = int(time.time()) // 10 * 10
    with closing(sqlite3.connect(file, timeout=20)) as sql:
        sql.execute("INSERT OR IGNORE INTO sites (name) VALUES ('shop')")
        ((site,),) = sql.execute("SELECT id FROM sites WHERE name = 'shop'").fetchall()
        for at in range(now - 3_590, now + 300, 10):
            busy = 2 + math.sin(at / 400) + 0.2 * math.sin(at / 30)
            acks = [0, 0, int(900 * busy), int(700 * busy), int(200 * busy), 40, 5, 1, *[0] * 10]
            figures = {
                "connections": int(2_000 * busy),
                "devices": 6_000,
                "queued": int(300 * busy),
                "connects": int(20 * busy),
                "sends": int(200 * busy),
                "stored": int(2_000 * busy),
                "deliveries": int(1_900 * busy),
                "acks": sum(acks),
                "ack_ms": acks,
                "refusals": at % 70 // 10,
            }
            for site_id in (None, site):
                row = (at * 1000, "front-1", 10, json.dumps(figures), site_id)
                sql.execute("INSERT INTO samples (at, node, seconds, figures, site_id) VALUES (?, ?, ?, ?, ?)", row)
        sql.commit()


@pytest.fixture(scope="module")
def page(server: Deployment, browser: Browser) -> Iterator[Page]:
    """A page of an operator who has added another one."""
    page = browser.open(f"{server.url}/console/operators")
    log_in(page)
    form = page.find("region", "Add an operator")
    page.fill(page.find("textbox", "Name", form), "ben")
    page.fill(page.find("textbox", "Password, at least 10 characters", form), "bens own password")
    page.click(page.find("button", "Add", form))
    wait_for(page, "document.querySelector('#operator-ben') !== null", "the operator")
    yield page
    page.close()


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(page: Page, name: str, pytestconfig: pytest.Config) -> None:
    """Each page can be shown in the documentation, which has its picture."""
    path, text, size = PICTURES[name]
    page.resize(*size)
    go(page, path)
    eventually(lambda: text in page.evaluate("document.querySelector('main').innerText"), text, 20)
    picture = page.picture()
    assert len(picture) > _LEAST_BYTES
    file = _FOLDER / f"{name}.png"
    if pytestconfig.option.write_pictures:
        file.write_bytes(picture)
    assert file.exists()
    assert f"images/{name}.png" in (REPOSITORY / "docs/console.md").read_text()
