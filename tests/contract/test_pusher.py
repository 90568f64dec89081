"""Backends of Pusher send to a site: the packages for Python and Node unchanged, and PHP and Ruby by the same rules."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
from nacl.secret import SecretBox

from tests.support.clients import Client
from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.processes import REPOSITORY
from tests.support.tenant import SECRET, Tenant

SITE = "pushed"
FOLDER = REPOSITORY / "tests" / "clients"
BACKENDS = {
    "python": [sys.executable, "pusher/backend.py"],
    "node": ["node", "pusher/backend.js"],
    "php": ["php", "pusher/backend.php"],
    "ruby": ["ruby", "pusher/backend.rb"],
}
each_backend = pytest.mark.parametrize("language", BACKENDS)
MASTER_KEY = base64.b64encode(b"k" * 32).decode()


def order(
    deployment: Deployment, language: str, *calls: list[Any], secret: str = f"{SECRET}-2"
) -> list[dict[str, Any]]:
    """Let a backend make these calls; return their outcomes."""
    url = urlsplit(deployment.url)
    app = {"app_id": 4242, "key": "pusher", "secret": secret, "host": url.hostname, "port": url.port}
    given = json.dumps({**app, "master_key": MASTER_KEY, "calls": calls})
    ran = subprocess.run(
        BACKENDS[language], cwd=FOLDER, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    outcomes: list[dict[str, Any]] = json.loads(ran.stdout)
    return outcomes


def argument(client: Client, event: str) -> Any:
    """The argument of an event, as a client of Pusher would read it."""
    (data,) = client.wait_event(event).args
    return json.loads(data)


@each_backend
def test_a_backend_sends(tenant: Tenant, deployment: Deployment, connect: Connector, language: str) -> None:
    """Events and batches reach the clients in the channels and no others, also what is sent to a user; a device that is
    away gets them at its return. Nothing but the address of the server differs from Pusher."""
    room, other = tenant.unique("private-orders."), tenant.unique("private-orders.")
    one, two = tenant.user(room), tenant.user(other)
    here, there = connect(SITE, one), connect(SITE, two)
    away = connect(SITE, one, device="away")
    away.disconnect()
    batch = [{"channel": room, "name": f"batch{number}", "data": {"n": number}} for number in range(3)]
    outcomes = order(
        deployment,
        language,
        ["trigger", [room], "placed", {"id": 1, "text": "día 😀"}, {}],
        ["trigger", [room, other], "both", {"id": 2}, {}],
        ["batch", batch],
        ["to_user", two.id, "yours", {"id": 3}],
    )
    assert [one.get("value") for one in outcomes] == [{}] * 4
    assert argument(here, "placed") == {"id": 1, "text": "día 😀"}
    assert argument(here, "both") == argument(there, "both") == {"id": 2}
    assert [argument(here, f"batch{number}") for number in range(3)] == [{"n": number} for number in range(3)]
    assert argument(there, "yours") == {"id": 3}
    back = connect(SITE, one, device="away")
    waited = back.wait_event("_batch").args[0]
    assert [entry[0] for entry in waited] == ["placed", "both", "batch0", "batch1", "batch2"]
    connect.fence(SITE, room, here)
    assert [name for name in here.names() if not name.startswith("fence")] == [entry[0] for entry in waited]


@each_backend
def test_a_backend_asks(tenant: Tenant, deployment: Deployment, connect: Connector, language: str) -> None:
    """The channels with connections on any node, one of them, and its users; then the connections of a user end."""
    room = tenant.unique("presence-chat")
    user, friend = tenant.user(room), tenant.user(room)
    clients = [connect(SITE, user), connect(SITE, user, device="d2"), connect(SITE, friend)]
    info = "user_count,subscription_count"
    listed, shown, empty, users = order(
        deployment,
        language,
        ["channels", {"filter_by_prefix": room, "info": info}],
        ["channel", room, {"info": info}],
        ["channel", f"{room}-empty", {"info": "subscription_count"}],
        ["users", room],
    )
    facts = {"user_count": 2, "subscription_count": 3}
    assert listed == {"value": {"channels": {room: facts}}}
    assert shown == {"value": {"occupied": True, **facts}}
    assert empty == {"value": {"occupied": False, "subscription_count": 0}}
    assert users == {"value": {"users": [{"id": id} for id in sorted((user.id, friend.id))]}}
    (ended,) = order(deployment, language, ["terminate", user.id])
    if language == "python":
        # The package leaves `/apps/<id>` out of this path; Pusher's own server knows no such path either.
        assert ended["error"] == "PusherBadStatus"
        assert ended["text"].startswith("404")
    else:
        assert ended == {"value": {}}
        for client in clients[:2]:
            assert client.wait_event("_closed").args == [{"reason": "disconnected"}]


@each_backend
def test_the_sender_is_left_out(tenant: Tenant, deployment: Deployment, connect: Connector, language: str) -> None:
    """`socket_id` from `_settings` leaves out the device that has asked the backend."""
    room = tenant.unique("room")
    asking, other = connect(SITE, tenant.user(room)), connect(SITE, tenant.user(room))
    (settings,) = next(event.args for event in asking.events() if event.name == "_settings")
    (sent,) = order(deployment, language, ["trigger", [room], "moved", {"x": 1}, {"socket_id": settings["socket_id"]}])
    assert sent == {"value": {}}
    assert argument(other, "moved") == {"x": 1}
    connect.fence(SITE, room, asking, other)
    assert "moved" not in asking.names()


@each_backend
def test_a_backend_is_refused(deployment: Deployment, language: str) -> None:
    """A wrong secret is 401, and a mistake in the request 400: the packages raise their own errors."""
    (unsigned,) = order(deployment, language, ["channels", {}], secret="wrong")
    (mistaken,) = order(deployment, language, ["channel", "room", {"info": "user_count"}])
    assert unsigned["text"].startswith("Authentication failed")
    assert mistaken["text"].startswith("info: expected user_count of a channel that begins with presence-")
    if language == "python":
        assert (unsigned["error"], mistaken["error"]) == ("PusherBadAuth", "PusherBadRequest")
    else:
        assert (unsigned["status"], mistaken["status"]) == (401, 400)


@pytest.mark.parametrize("language", ["python", "node", "php"])
def test_encrypted_channels(tenant: Tenant, deployment: Deployment, connect: Connector, language: str) -> None:
    """The packages encrypt, and the server passes through what it cannot read. (Ruby needs one more gem for it.)"""
    room = tenant.unique("private-encrypted-")
    client = connect(SITE, tenant.user(room))
    (sent,) = order(deployment, language, ["trigger", [room], "sealed", {"secret": 1}, {}])
    assert sent == {"value": {}}
    data = argument(client, "sealed")
    key = hashlib.sha256(room.encode() + base64.b64decode(MASTER_KEY)).digest()
    opened = SecretBox(key).decrypt(base64.b64decode(data["ciphertext"]), base64.b64decode(data["nonce"]))
    assert json.loads(opened) in ({"secret": 1}, '{"secret": 1}')
