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

from app.load.plan import LoadPlan
from app.load.tally import Tally
from tests.console.test_pages import NAME, PASSWORD, can_log_in, go, log_in, wait_for
from tests.contract.test_messenger_account import keys
from tests.support.browser import Browser, Page
from tests.support.channels import Subscription
from tests.support.chat import MESSENGER, Chatting, make_users
from tests.support.clients import ACK_NONE, PYTHON_KINDS
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET
from tests.support.processes import REPOSITORY
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

_FOLDER = REPOSITORY / "docs/images"
_SHOP = "/console/sites/shop"
_TEAM = "/console/sites/team"
#: Nobody answers there: what the site's webhook tells is to be sent again.
_HOOK = {"url": "http://127.0.0.1:9/events", "secret": SECRET, "events": ["user.online"], "allow_private": True}
#: The smallest picture that can hold a page.
_LEAST_BYTES = 10_000
#: Name of the picture -> path, the text that the page waits for, and the size of the window.
PICTURES = {
    "console-overview": ("/console/overview", "Sites now", (1280, 960)),
    "console-sites": ("/console/sites", "shop", (1280, 400)),
    "console-site": (_SHOP, "authUrl", (1280, 900)),
    "console-nodes": ("/console/nodes", "ready", (1280, 640)),
    "console-stores": ("/console/redis", "noeviction", (1280, 400)),
    "console-totals": ("/console/totals", "webhook_attempts", (1280, 1000)),
    "console-connections": (f"{_SHOP}/connections", "channels", (1280, 640)),
    "console-messages": (f"{_SHOP}/messages", "invoice", (1280, 640)),
    "console-message": (f"{_SHOP}/messages/MESSAGE", "not acknowledged", (1280, 640)),
    "console-devices": (f"{_SHOP}/devices", "tablet", (1280, 480)),
    "console-device": (f"{_SHOP}/devices/queue?user=user_7&device=tablet", "invoice", (1280, 640)),
    "console-trace": (f"{_SHOP}/trace?user=user_7", "invoice", (1280, 640)),
    "console-send": (f"{_SHOP}/send", "Arguments", (1280, 900)),
    "console-users": (f"{_TEAM}/users", "Registrations that wait", (1280, 900)),
    "console-user": (f"{_TEAM}/users/1", "Lunch", (1280, 1100)),
    "console-rooms": (f"{_TEAM}/rooms", "Lunch", (1280, 860)),
    "console-room": (f"{_TEAM}/rooms/1", "anna", (1280, 1100)),
    "console-changes": (f"{_TEAM}/changes", "Lunch", (1280, 640)),
    "console-users-phone": (f"{_TEAM}/users", "Registrations that wait", (375, 740)),
    "console-webhooks": (f"{_SHOP}/webhooks", "connection failed", (1280, 720)),
    "console-load": ("/console/load", "before the update", (1280, 640)),
    "console-load-compare": ("/console/load/1/compare?other=2", "delivery ms: p99", (1280, 560)),
    "console-log": ("/console/log", "console login refused", (1280, 640)),
    "console-operators": ("/console/operators", "ben", (1280, 800)),
    "console-audit": ("/console/audit", "operators.add", (1280, 640)),
    "console-account": ("/console/tokens", "Make a token", (1280, 800)),
    "console-phone": ("/console/log", "console login refused", (375, 740)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tenant: Tenant) -> Iterator[Deployment]:
    """A server with a site, a journal and an administrator."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    shop = contract_sites(tenant)["alpha"] | {"channels": {}, "webhook": _HOOK}
    team = {"apiKey": "key of team", "messenger": MESSENGER | {"registration": "open"}}
    make_users(environment["DATABASE_URL"], "team", ["anna"], is_admin=True)
    make_users(environment["DATABASE_URL"], "team", ["ben", "cleo"])
    deployment = Deployment({"shop": shop, "team": team}, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 60, interval_seconds=0.5)
    add_samples(file)
    add_runs(file)
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def message(server: Deployment, drivers: Drivers, tenant: Tenant) -> Iterator[str]:
    """Something has happened: a login was refused, clients came, and one of them takes no messages. The id of one."""
    httpx.post(f"{server.url}/console/login", data={"name": "nobody", "password": "wrong"})
    connect, user = Connector(server, drivers), tenant.user("orders", room="user_7")
    phone = connect("shop", user, PYTHON_KINDS[0], device="phone")
    connect("shop", user, PYTHON_KINDS[0], device="tablet", ack=ACK_NONE)
    for event, room in (("greeting", "user_7"), ("order", "orders"), ("invoice", "user_7")):
        answer = server.try_send("shop", {"rooms": room, "event": event, "args": [{"number": 1}]})
        phone.wait_event(event)
    chatting = Chatting(server, drivers, "team")
    begin_talk(chatting)
    with Subscription(server.url, "shop"), Subscription(server.url, "shop"):
        yield str(answer.headers["x-message-id"])
    connect.close()
    chatting.close()


def begin_talk(chatting: Chatting) -> None:
    """Users of the messenger come, one of them makes a room, and a stranger registers."""
    anna = chatting.login("anna", "phone", app={"name": "notes", "version": "2.1"})
    chatting.login("ben", "laptop", app={"name": "notes", "version": "2.0"})
    room = {"name": "Lunch", "description": "Who eats where", "members": [2, 3]}
    assert anna.ask("room_create", room)["ok"]
    assert anna.ask("room_create", {"name": "News", "kind": "channel", "members": [2]})["ok"]
    assert anna.ask("profile", {"name": "Anna A.", "sign": "in the lab until five"})["ok"]
    assert anna.ask("contact", {"user": 2, "name": "Benny"})["ok"]
    stranger = chatting.stranger("new")
    assert stranger.ask("register", {"login": "dora", "name": "Dora D.", **keys("of dora")})["ok"]


def add_runs(file: Path) -> None:
    """Write two runs of the load test."""
    now = int(time.time() * 1000)
    with closing(sqlite3.connect(file, timeout=20)) as sql:
        for id, (note, ms) in enumerate((("before the update", 9), ("after the update", 6)), 1):
            plan = LoadPlan(devices=10, messages=20)
            tally = Tally(plan, nodes=1)
            for number in range(plan.total):
                tally.begin(number, number / 100)
                tally.accepted(number, plan.devices, number / 100 + ms / 4000)
                for device in range(plan.devices):
                    tally.arrived(device, number, number / 100 + (ms + device / 2) / 1000)
            tally.receipts = tally.receipts_stored = tally.stored
            begun = now - (3 - id) * 3_600_000
            row = (
                id,
                begun,
                begun + 2_000,
                NAME,
                "3f1c",
                note,
                '{"devices": 10, "messages": 20, "seconds": 60}',
                "done",
            )
            names = "id, started_at, ended_at, operator, node, description, plan, state, totals"
            places = ", ".join("?" * 9)
            sql.execute(f"INSERT INTO load_runs ({names}) VALUES ({places})", (*row, json.dumps(tally.totals(2.0))))
        sql.commit()


def add_samples(file: Path) -> None:
    """Write an hour of samples, and a bit of the next one, as nodes with some traffic would."""
    now = int(time.time()) // 10 * 10
    with closing(sqlite3.connect(file, timeout=20)) as sql:
        sql.execute("INSERT OR IGNORE INTO sites (name) VALUES ('shop')")
        ((site,),) = sql.execute("SELECT id FROM sites WHERE name = 'shop'").fetchall()
        times = [(at, 10) for at in range(now - 3_590, now + 300, 10)]
        times += [(at, 300) for at in range(now // 300 * 300 - 86_400, now, 300)]
        for at, seconds in times:
            busy = (2 + math.sin(at / 400) + 0.2 * math.sin(at / 30)) * seconds / 10
            acks = [0, 0, int(900 * busy), int(700 * busy), int(200 * busy), 40, 5, 1, *[0] * 10]
            figures = {
                "connections": int(20_000 * busy / seconds),
                "devices": 6_000,
                "queued": int(3_000 * busy / seconds),
                "connects": int(20 * busy),
                "sends": int(200 * busy),
                "stored": int(2_000 * busy),
                "deliveries": int(1_900 * busy),
                "acks": sum(acks),
                "ack_ms": acks,
                "refusals": at % 70 // 10,
            }
            for site_id in (None, site):
                row = (at * 1000, "front-1", seconds, json.dumps(figures), site_id)
                sql.execute("INSERT INTO samples (at, node, seconds, figures, site_id) VALUES (?, ?, ?, ?, ?)", row)
        sql.commit()


@pytest.fixture(scope="module")
def page(server: Deployment, message: str, browser: Browser) -> Iterator[Page]:
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
def test_pictures(page: Page, message: str, name: str, pytestconfig: pytest.Config) -> None:
    """Each page can be shown in the documentation, which has its picture."""
    path, text, size = PICTURES[name]
    page.resize(*size)
    go(page, path.replace("MESSAGE", message))
    eventually(lambda: text in page.evaluate("document.querySelector('main').innerText"), text, 20)
    picture = page.picture()
    assert len(picture) > _LEAST_BYTES
    file = _FOLDER / f"{name}.png"
    if pytestconfig.option.write_pictures:
        file.write_bytes(picture)
    assert file.exists()
    assert f"images/{name}.png" in (REPOSITORY / "docs/console.md").read_text()
