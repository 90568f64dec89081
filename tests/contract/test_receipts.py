"""Receipts over HTTP and by command, for real clients on two nodes with a journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app import cli
from tests.support.clients import ACK_ALL, ACK_NONE, PYTHON_KINDS, UPGRADE, ClientKind
from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

Recado = Callable[..., Result]
SITE = "alpha"


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two nodes with a journal."""
    sites = {name: contract_sites(tenant)[name] for name in (SITE, "beta")}
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    server = Deployment(sites, environment={"DATABASE_URL": f"sqlite:///{file}"}, nodes=2)
    query = {"site": SITE, "apiKey": server.key(SITE)}
    eventually(lambda: server.nodes[0].get("/messages", params=query).status_code == 200, "the journal to begin", 60)
    yield server
    server.end()


@pytest.fixture
def ask(deployment: Deployment) -> Callable[..., dict[str, Any]]:
    """Asks a node with the site's key; the JSON of an answer with status 200."""

    def get(path: str, node: int = 0, **query: str) -> dict[str, Any]:
        headers = {"x-api-key": deployment.key(SITE), "accept": "application/json"}
        answer = deployment.nodes[node].get(path, params={"site": SITE, **query}, headers=headers)
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()
        return value

    return get


@pytest.fixture
def recado(deployment: Deployment) -> Recado:
    """Runs a command against the first node."""

    def run(*words: str) -> Result:
        server = ("--site", SITE, "--url", deployment.nodes[0].url, "--api-key", deployment.key(SITE))
        return CliRunner().invoke(cli.recado, [*words, *server])

    return run


def send(deployment: Deployment, rooms: str | list[str], **options: Any) -> str:
    """Sends a message; its id."""
    answer = deployment.nodes[1].try_send(SITE, {"rooms": rooms, "event": "news", "args": [1], **options})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-message-id"])


def test_a_message_and_its_devices(
    deployment: Deployment, drivers: Any, tenant: Tenant, ask: Any, recado: Recado
) -> None:
    """A device that has acknowledged is `acked` with the time that it took, a silent one has it written, and both nodes
    say the same. The commands show it; a withdrawal takes the message back."""
    user = tenant.user()
    connector = Connector(deployment.nodes[0], drivers)
    connector(SITE, user, PYTHON_KINDS[0], device="phone", ack=ACK_ALL)
    silent = connector(SITE, user, PYTHON_KINDS[0], device="tablet", ack=ACK_NONE)
    id = send(deployment, user.room)
    silent.wait_event("news")

    def states(node: int) -> dict[str, str]:
        return {one["device"]: one["state"] for one in ask(f"/messages/{id}", node)["devices"]}

    eventually(lambda: states(0) == states(1) == {"phone": "acked", "tablet": "written"}, "the ack", 60)
    answer = ask(f"/messages/{id}")
    phone = next(one for one in answer["devices"] if one["device"] == "phone")
    assert 0 <= phone["ms"] < 10_000
    assert answer["summary"]["addressed"] == answer["summary"]["acked"] + answer["summary"]["written"] == 2
    found = {one["device"]: one for one in ask("/devices", user=user.room)["devices"]}
    assert found["tablet"]["transport"] == "websocket"
    assert found["tablet"]["client"]["engine"] == 4
    assert found["tablet"]["client"]["user_agent"]
    assert (found["phone"]["queue"]["messages"], found["tablet"]["queue"]["messages"]) == (0, 1)
    assert found["tablet"]["node"]
    (entry,) = ask("/devices/queue", user=user.room, device="tablet")["messages"]
    assert entry["id"] == id

    shown = recado("messages", id)
    assert shown.exit_code == 0, shown.output
    assert "phone" in shown.output
    assert "1 written, 1 acked" in shown.output
    listed = recado("messages", "--user", user.room, "--since", "1h")
    assert id in listed.output
    assert "tablet" in recado("devices", "--user", user.room).output
    assert id in recado("devices", "--user", user.room, "--device", "tablet").output
    story = recado("trace", user.room).output
    assert f"message {id} (news) acknowledged after" in story
    assert "still written: not acknowledged yet" in story
    lines = json.loads(recado("trace", user.room, "--json").stdout)
    assert [line["kind"] for line in lines["lines"]].count("accepted") == 2

    headers = {"x-api-key": deployment.key(SITE), "accept": "application/json"}
    answered = deployment.nodes[1].request("DELETE", f"/messages/{id}", params={"site": SITE}, headers=headers)
    assert answered.json() == {"ok": True, "id": id, "devices": 1}
    eventually(lambda: states(0) == {"phone": "acked", "tablet": "withdrawn"}, "the withdrawal", 60)
    assert "withdrawn" in recado("trace", user.room).output
    connector.close()


def test_a_client_that_upgrades(deployment: Deployment, drivers: Any, tenant: Tenant, ask: Any) -> None:
    """A client that begins by polling and goes over to a WebSocket is shown with the WebSocket soon."""
    user = tenant.user()
    connector = Connector(deployment.nodes[0], drivers)
    connector(SITE, user, ClientKind("4", UPGRADE))

    def transport() -> str:
        (device,) = ask("/devices", user=user.room)["devices"]
        return str(device["transport"])

    eventually(lambda: transport() == "websocket", "the upgrade", 60)
    other = tenant.user()
    connector(SITE, other, PYTHON_KINDS[1])
    assert ask("/devices", user=other.room)["devices"][0]["transport"] == "polling"
    connector.close()


def test_other_sites_see_nothing(deployment: Deployment, tenant: Tenant) -> None:
    """With the key of another site a message is unknown, and its user has neither devices nor a story."""
    user = tenant.user()
    id = send(deployment, [user.room, "everybody"])
    headers = {"x-api-key": deployment.key("beta"), "accept": "application/json"}

    def get(path: str, **query: str) -> Any:
        return deployment.nodes[0].get(path, params={"site": "beta", **query}, headers=headers)

    assert (get(f"/messages/{id}").status_code, get(f"/messages/{id}").json()["code"]) == (404, "unknown_message")
    assert get("/messages").json() == {"messages": [], "cursor": None}
    assert get("/devices", user=user.room).json()["devices"] == []
    assert get("/trace", user=user.room).json()["lines"] == []
    wrong = deployment.nodes[0].get("/messages", params={"site": SITE}, headers=headers)
    assert wrong.status_code == 401


def test_a_command_that_fails(recado: Recado, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A failure is one line on stderr: a refusal in the server's words, a server that is not there, a key that is not
    known."""
    unknown = recado("messages", "12345")
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "recado: the server answered 404: No message of this site has this id.\n",
    )
    assert recado("trace", "user_1", "--since", "yesterday").stderr.startswith(
        "recado: the server answered 400: since:"
    )
    runner = CliRunner()
    away = runner.invoke(
        cli.recado, ["devices", "--site", "x", "--user", "u", "--url", "http://127.0.0.1:9", "--api-key", "k"]
    )
    assert away.stderr == "recado: no answer from http://127.0.0.1:9: connection failed\n"
    monkeypatch.chdir(tmp_path)
    keyless = runner.invoke(cli.recado, ["messages", "--site", "x"])
    assert keyless.stderr.startswith("recado: site 'x' is not configured here")
