"""Sites over the operators' API, on two real nodes with one database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.deployment import Deployment, Node
from tests.support.sites import load_sites
from tests.support.tenant import SECRET, Tenant
from tests.support.waiting import eventually

NAME, PASSWORD = "root", "correct horse battery"
_CSRF = re.compile(r'name="_csrf" value="([^"]+)"')


class ApiClient:
    """An operator's program at one node. Lives as long as the module."""

    def __init__(self, url: str, token: str) -> None:
        """It shows the token at each request."""
        self._client = httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {token}"}, timeout=60)

    def ask(self, method: str, path: str, status: int = 200, **sent: Any) -> Any:
        """The answer, which has this status."""
        answer = self._client.request(method, path, **sent)
        assert answer.status_code == status, answer.text
        return answer.json()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two nodes with a console each."""
    url = f"sqlite:///{tmp_path_factory.mktemp('console') / 'journal.sqlite'}"
    environment = {"DATABASE_URL": url, "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    server = Deployment(load_sites(tenant), environment=environment, nodes=2)
    yield server
    server.end()


def token_at(node: Node, name: str = NAME, password: str = PASSWORD) -> str:
    """A new token of an operator."""
    with httpx.Client(base_url=f"{node.url}/console", timeout=60) as browser:

        def logs_in() -> bool:
            return browser.post("/login", data={"name": name, "password": password}).status_code == 303

        eventually(logs_in, "the operator", 60, interval_seconds=0.5)
        found = _CSRF.search(browser.get("/tokens").text)
        assert found
        answer = browser.post("/do/tokens.add", data={"_csrf": found[1], "name": "test"})
    shown = re.search(r"recado_[\w-]+", answer.text)
    assert shown, answer.text
    return shown[0]


@pytest.fixture(scope="module")
def apis(deployment: Deployment) -> Iterator[list[ApiClient]]:
    """An administrator's program at each node."""
    token = token_at(deployment.nodes[0])
    clients = [ApiClient(node.url, token) for node in deployment.nodes]
    yield clients
    for client in clients:
        client.close()


def block_of(tenant: Tenant, name: str, **settings: Any) -> dict[str, Any]:
    """A block as it would stand in sites.yml."""
    return {"authUrl": f"{tenant.url}/{name}/rooms", "authScheme": "Token", "userRoomPrefix": "user_", **settings}


def status_at(node: Node, site: str, key: str) -> int:
    """The status of a message that is sent at one node."""
    body = {"rooms": "user_nobody", "event": "news"}
    return httpx.post(f"{node.url}/send", params={"site": site, "apiKey": key}, json=body).status_code


def wait_status(deployment: Deployment, site: str, key: str, status: int) -> None:
    """Wait until every node answers a message so."""
    eventually(lambda: {status_at(node, site, key) for node in deployment.nodes} == {status}, f"{status} at each node")


def test_the_life_of_a_site(
    deployment: Deployment, apis: list[ApiClient], tenant: Tenant, tell: Callable[[str], None]
) -> None:
    """A site that is added, tried, changed, given a second key and removed at one node is so at the other."""
    here, there = apis
    block = block_of(tenant, "shop")
    added = here.ask("POST", "/sites", json={"name": "shop", "block": block})
    key = added["apiKey"]
    wait_status(deployment, "shop", key, 200)
    shown = there.ask("GET", "/sites/shop")
    assert (shown["place"], shown["protocols"], shown["connections"]) == ("stored", ["rooms"], 0)
    assert [row["made_at"] is not None for row in shown["keys"]] == [True]

    user = tenant.user()
    tried = there.ask("POST", "/sites/shop/auth/try", json={"token": user.token})
    assert (tried["ok"], tried["rooms"], tried["refusal"]) == (True, [user.room], None)
    assert there.ask("POST", "/sites/shop/auth/try", json={"token": "none"})["refusal"] == "Authentication failed"
    tell(f"authUrl answered the trial after {tried['ms']} ms")

    text = shown["block"] + "limits: {rooms_per_send: 7}\n"
    changed = there.ask("PUT", "/sites/shop", json={"block": text, "version": shown["version"]})
    assert there.ask("PUT", "/sites/shop", 409, json={"block": text, "version": shown["version"]})["code"] == "changed"

    def limit_at(api: ApiClient) -> Any:
        limits = {row["name"]: row["most"] for row in api.ask("GET", "/sites/shop")["limits"]}
        return limits["rooms_per_send"]

    eventually(lambda: [limit_at(api) for api in apis] == [7, 7], "the limit at both nodes")
    assert changed["version"] > shown["version"]

    second = here.ask("POST", "/sites/shop/keys")["apiKey"]
    wait_status(deployment, "shop", second, 200)
    assert status_at(deployment.nodes[1], "shop", key) == 200
    keys = {row["name"]: row for row in there.ask("GET", "/sites/shop")["keys"]}
    assert len(keys) == 2
    revealed = there.ask("POST", "/sites/shop/keys/show")
    old = next(name.removeprefix("key ") for name, value in revealed.items() if value == key)
    eventually(
        lambda: all(row["used_at"] for row in there.ask("GET", "/sites/shop")["keys"]), "the last use of both keys"
    )
    there.ask("DELETE", f"/sites/shop/keys/{old}")
    wait_status(deployment, "shop", key, 401)
    here.ask("DELETE", "/sites/shop")
    wait_status(deployment, "shop", second, 401)
    for api in apis:
        assert api.ask("GET", "/sites/shop", 404)["code"] == "unknown_site"


def test_lists(apis: list[ApiClient], deployment: Deployment, tenant: Tenant) -> None:
    """The list has filters and pages, over sites of the file and of SQL."""
    here, _ = apis
    for name in ("list-a", "list-b", "list-c"):
        here.ask("POST", "/sites", json={"name": name, "block": block_of(tenant, name, apiKey=f"{SECRET}-of-{name}")})
        wait_status(deployment, name, f"{SECRET}-of-{name}", 200)
    first = here.ask("GET", "/sites", params={"name": "LIST-", "limit": 2})
    assert [row["name"] for row in first["items"]] == ["list-a", "list-b"]
    second = here.ask("GET", "/sites", params={"name": "LIST-", "limit": 2, "cursor": first["cursor"]})
    assert ([row["name"] for row in second["items"]], second["cursor"]) == (["list-c"], None)
    filed = here.ask("GET", "/sites", params={"place": "file"})["items"]
    assert {row["name"] for row in filed} == {"one", "two"}


def test_refused_changes(apis: list[ApiClient], tenant: Tenant) -> None:
    """Each refusal says what is wrong; a site of the file is read only here."""
    here, _ = apis
    block = block_of(tenant, "bad", device_ttl="x")
    refused = here.ask("POST", "/sites", 400, json={"name": "bad", "block": block})
    assert (refused["code"], refused["error"]) == ("bad_block", "bad.device_ttl: expected a whole number, got text")
    assert here.ask("POST", "/sites", 400, json={"name": "bad", "block": "a: &a 1\nb: *a"})["code"] == "bad_block"
    assert here.ask("POST", "/sites", 409, json={"name": "one", "block": block_of(tenant, "one")})["code"] == "in_file"
    for method, path in (("DELETE", ""), ("POST", "/keys"), ("PUT", "")):
        body = {"block": block_of(tenant, "one")} if method == "PUT" else {}
        assert here.ask(method, f"/sites/one{path}", 409, json=body)["code"] == "in_file"
    assert here.ask("POST", "/sites", 400, json={"name": "bad", "block": "x" * 70_000})["code"] == "bad_parameter"


def test_secrets_and_roles(deployment: Deployment, apis: list[ApiClient], tenant: Tenant) -> None:
    """Keys and other secrets are in no answer but that to the question for them, and in no audit; an operator of one
    site sees that site, and not how it is configured."""
    here, there = apis
    secret = "whsec_" + "B" * 32
    webhook = {"url": f"{tenant.url}/hooks", "secret": secret, "events": ["user.online"], "allow_private": True}
    block = block_of(tenant, "quiet", apiKey=f"{SECRET}-quiet-key", webhook=webhook)
    here.ask("POST", "/sites", json={"name": "quiet", "block": block})
    wait_status(deployment, "quiet", f"{SECRET}-quiet-key", 200)
    shown = there.ask("GET", "/sites/quiet")
    assert "secret: '***'" in shown["block"]
    assert shown["webhook"]["state"] == "on"
    here.ask("PUT", "/sites/quiet", json={"block": shown["block"] + "device_ttl: 60\n"})
    here.ask("POST", "/operators", json={"name": "ben", "password": PASSWORD, "role": "operator", "sites": ["quiet"]})
    program = ApiClient(deployment.nodes[1].url, token_at(deployment.nodes[1], "ben"))
    try:
        assert [row["name"] for row in program.ask("GET", "/sites")["items"]] == ["quiet"]
        assert program.ask("GET", "/sites/quiet")["block"] is None
        assert program.ask("GET", "/sites/one", 404)["code"] == "unknown_site"
        assert program.ask("POST", "/sites/quiet/keys/show", 403)["code"] == "forbidden"
    finally:
        program.close()
    for path in ("/sites", "/sites/quiet", "/audit?limit=200"):
        text = str(there.ask("GET", path))
        assert [secret in text, f"{SECRET}-quiet-key" in text] == [False, False], path


def test_reload(deployment: Deployment, apis: list[ApiClient]) -> None:
    """Both nodes read sites.yml again."""
    before = [reloads_of(node) for node in deployment.nodes]
    apis[1].ask("POST", "/reload")
    eventually(
        lambda: all(reloads_of(node) > count for node, count in zip(deployment.nodes, before, strict=True)),
        "both nodes to reload",
    )


def reloads_of(node: Node) -> int:
    """How often a node has read its files again."""
    return sum(line.get("event") == "configuration reloaded" for line in node.server.log())
