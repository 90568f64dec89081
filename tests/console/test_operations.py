"""Each role at each operation, over pages and API: the table is made from the operations themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest
from httpx import URL
from msgspec import json
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app.catalog.operations import site_operations
from app.console.desk import MAX_UNDER_WAY
from app.console.openapi import describe
from app.console.operators import Operator
from app.console.pages.audit import audit_operations
from app.console.pages.connections import connection_operations
from app.console.pages.log import log_operations
from app.console.pages.nodes import database_operations
from app.console.pages.operators import operator_operations
from app.console.pages.overview import overview_operations
from app.console.pages.tokens import account_operations
from app.console.pages.totals import total_operations
from app.console.pages.transfers import transfer_operations
from app.console.pages.webhooks import attempt_operations
from app.console.pruning import Pruning
from app.console.sql_operators import SqlOperators
from app.load.operations import load_operations
from app.node.operations import node_operations
from app.protocols.messenger.operations.changes import change_operations
from app.protocols.messenger.operations.rooms import room_operations
from app.protocols.messenger.operations.users import user_operations
from app.protocols.operations import Call, Inputs, ListInputs, Operation, Role
from app.protocols.receipts.operations import Questions, receipt_operations
from app.protocols.sites.disconnecting import disconnect_operations
from app.protocols.sites.joining import rooms_operations
from app.protocols.sites.operations import send_operations
from app.protocols.sites.revocation import ticket_operations
from app.webhooks.operations import webhook_operations
from tests.console.visitor import ADDRESS, ConsoleNode, bearer
from tests.support.store import make_site
from tests.support.valkey import Valkey


class ThingPath(Inputs, frozen=True, kw_only=True):
    """A thing of a site, for an operation of the test's own."""

    id: int


async def _answer(call: Call) -> dict[str, Any]:
    return {"ok": True, "site": call.site.name if call.site else None, "caller": call.caller.name}


_OF_SITE = [
    Operation("things.list", "List things", "GET", "/sites/{site}/things", Role.VIEWER, _answer, ListInputs),
    Operation("things.drop", "Drop a thing", "DELETE", "/sites/{site}/things/{id}", Role.OPERATOR, _answer, ThingPath),
    Operation("things.wipe", "Wipe", "POST", "/sites/{site}/wipe", Role.ADMIN, _answer, hurts=True),
]
_NOTHING: Any = None
_NO_QUESTIONS = Questions(*([_NOTHING] * len(Questions.__struct_fields__)))
_OF_NODES = [*node_operations(_NOTHING, _NOTHING), *ticket_operations(_NOTHING), *load_operations(_NOTHING, _NOTHING)]
_OF_NODES += [*disconnect_operations(_NOTHING), *rooms_operations(_NOTHING)]
_SITES = site_operations(_NOTHING)
_SEND = send_operations(_NOTHING, 1337)
_WEBHOOKS = webhook_operations({})
_DIRECTORY = [*user_operations(_NOTHING), *room_operations(_NOTHING), *change_operations(_NOTHING)]
#: Operations of other parts of a node than the console.
_OFFERED = [*receipt_operations(_NO_QUESTIONS), *_SITES, *_OF_NODES, *_SEND, *_WEBHOOKS, *_DIRECTORY, *_OF_SITE]
OPERATIONS = [
    *connection_operations(_NOTHING),
    *database_operations(_NOTHING),
    *overview_operations(_NOTHING),
    *total_operations(_NOTHING),
    *Pruning(_NOTHING, "ab", _NOTHING).operations(),
    *attempt_operations(_NOTHING),
    *log_operations(_NOTHING),
    *transfer_operations(_NOTHING),
    *audit_operations(_NOTHING),
    *operator_operations(_NOTHING, _NOTHING),
    *account_operations(_NOTHING, _NOTHING),
    *_OFFERED,
]
ROLES = list(Role)


@pytest.fixture
async def node(valkey: Valkey, database: str) -> AsyncIterator[ConsoleNode]:
    """A node with operations of the test's own."""
    node = await ConsoleNode.start(valkey, database, _OFFERED)
    yield node
    await node.close()


def path_of(operation: Operation, site: str = "shop") -> str:
    """The path of an operation, filled in."""
    values = {"name": "nobody", "id": 5, "key": "0", "node": "ab", "protocol": "sites", "user": 7, "room": 8}
    return "/api/v1" + operation.path.format(site=site, **values)


def test_the_table_is_whole() -> None:
    """The operations here are those of a node."""
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS) > 10


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name.lower())
async def test_each_role_on_each_operation(node: ConsoleNode, role: Role) -> None:
    """A role that does not suffice is refused before anything of the request is read; one that suffices is refused
    only for its parameters, which are wrong here. Pages and API agree."""
    visitor = await node.visitor("ben", role.name.lower())
    headers = bearer(await node.token("ben"))
    for operation in OPERATIONS:
        wrong = {"no_such_parameter": "1"}
        sent: dict[str, Any] = {"json": wrong} if operation.is_action else {"params": wrong}
        answer = await visitor.client.request(operation.method, path_of(operation), headers=headers, **sent)
        expected = (400, "bad_parameter") if role >= operation.role else (403, "forbidden")
        assert (answer.status_code, answer.json()["code"]) == expected, operation.name
        if operation.is_action:
            fields = {
                "site": "shop",
                "name": "nobody",
                "id": "5",
                "key": "0",
                "node": "ab",
                "protocol": "sites",
                "user": "7",
                "room": "8",
            } | wrong
            known = {name: value for name, value in fields.items() if name in (*operation.path_names, *wrong)}
            page = await visitor.do(operation.name, **known)
            assert page.status_code == expected[0], operation.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_no_operation_without_a_token(node: ConsoleNode, operation: Operation) -> None:
    """Without a token, with a wrong one, with a removed one, or with the cookie of a login, nothing is answered."""
    visitor = await node.visitor("ana")
    token = await node.token("ana")
    await visitor.do("tokens.remove", id=1)
    cookie = {"cookie": f"recado_console={visitor.client.cookies['recado_console']}"}
    for headers in ({}, bearer("recado_guessed"), bearer(""), bearer(token), {"authorization": "Basic YTpi"}, cookie):
        answer = await node.client().request(operation.method, path_of(operation), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("operation", _OF_SITE[:2], ids=lambda operation: operation.name)
async def test_sites_of_others(node: ConsoleNode, operation: Operation) -> None:
    """An operator of one site cannot tell another's from one that does not exist, over the API and over pages."""
    visitor = await node.visitor("ben", "operator", ("shop",))
    headers = bearer(await node.token("ben"))
    answers = {}
    for site in ("shop", "news", "none", "~canary"):
        answer = await visitor.client.request(operation.method, path_of(operation, site), headers=headers)
        answers[site] = (answer.status_code, answer.text)
    assert answers["shop"][0] == 200
    assert answers["news"] == answers["none"] == answers["~canary"]
    assert answers["news"][0] == 404
    if operation.is_action:
        done = [(await visitor.do(operation.name, site=site, id=5)).status_code for site in answers]
        assert done == [303, 404, 404, 404]
    assert "news" not in (await visitor.get("/tokens")).text


async def test_a_site_without_the_thing(node: ConsoleNode) -> None:
    """An operation about something that a site does not have is refused there, over the API and over pages."""
    visitor = await node.visitor("ana")
    headers = bearer(await node.token("ana"))
    answer = await visitor.client.get("/api/v1/sites/shop/users", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "The site has nothing of the kind.")
    assert (await visitor.do("users.disable", site="shop", user=7)).status_code == 404


async def test_other_sites_rows(node: ConsoleNode) -> None:
    """The log refuses an unknown site and a site of others alike."""
    await node.visitor("ben", "operator", ("shop",))
    headers = bearer(await node.token("ben"))
    refused = [
        (await node.client().get("/api/v1/log", params={"site": site}, headers=headers)) for site in ("news", "none")
    ]
    assert [answer.status_code for answer in refused] == [404, 404]
    assert refused[0].text == refused[1].text
    assert (await node.client().get("/api/v1/log", headers=headers)).json() == {"items": [], "cursor": None}


async def test_an_operation_over_the_api(node: ConsoleNode) -> None:
    """Path, query and body reach the operation; the answer is its JSON."""
    await node.visitor("ana")
    client, headers = node.client(), bearer(await node.token("ana"))
    expected = {"ok": True, "site": "news", "caller": "ana"}
    assert (await client.get("/api/v1/sites/news/things", params={"limit": "5"}, headers=headers)).json() == expected
    assert (await client.delete("/api/v1/sites/news/things/7", headers=headers)).json() == expected
    for path, params, text in (
        ("/api/v1/sites/news/things", {"limit": "0"}, "limit: expected a whole number >= 1."),
        ("/api/v1/sites/news/things", {"cursor": ""}, "cursor: expected text that is not empty."),
        ("/api/v1/sites/news/things", {"x": "1"}, "x: expected no such parameter."),
    ):
        answer = await client.get(path, params=params, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, text)
    answer = await client.request("DELETE", "/api/v1/sites/news/things/7", content=b"[1]", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "Body: expected a JSON object.")
    assert (await client.get("/api/v1/nothing", headers=headers)).json()["code"] == "unknown_path"


async def test_actions_are_written_down(node: ConsoleNode) -> None:
    """The audit has each action with site, target, operator and outcome, and no list."""
    visitor = await node.visitor("ana")
    headers = bearer(await node.token("ana"))
    client = node.client()
    await client.delete("/api/v1/sites/news/things/7", headers=headers)
    await client.get("/api/v1/sites/news/things", headers=headers)
    await visitor.do("operators.remove", name="nobody")
    rows = (await client.get("/api/v1/audit", headers=headers)).json()["items"]
    logins = [row for row in rows if row["action"] == "login"]
    assert [(row["operator"], row["target"]) for row in logins] == [("ana", ADDRESS)] * 2
    rows = [row for row in rows if row not in logins]
    shown = [(row["operator"], row["action"], row["target"], json.decode(row["detail"])) for row in rows]
    refused = {"name": "nobody", "refused": "There is no such operator."}
    assert shown == [
        ("ana", "operators.remove", "nobody", refused),
        ("ana", "things.drop", "7", {"site": "news", "id": "7"}),
        ("ana", "tokens.add", "", {"name": "test"}),
    ]
    only = await client.get("/api/v1/audit", params={"action": "things.drop", "operator": "ana"}, headers=headers)
    assert [row["target"] for row in only.json()["items"]] == ["7"]


async def test_the_description_is_openapi(node: ConsoleNode) -> None:
    """The page is OpenAPI 3.1, names every operation once, and anybody gets it."""
    page = (await node.client().get("/api/openapi.json")).json()
    jsonschema_rs.validator_for(OPENAPI_31).validate(page)
    described = [one["operationId"] for methods in page["paths"].values() for one in methods.values()]
    assert sorted(described) == sorted(operation.name for operation in OPERATIONS)
    text = str(page)
    for name in page["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text


def test_parameters_are_described() -> None:
    """A list's parameters are those of its query, an action's those of path and body."""
    page = describe(OPERATIONS)
    listed = page["paths"]["/api/v1/sites/{site}/things"]["get"]["parameters"]
    assert [(one["name"], one["in"], one["required"]) for one in listed] == [
        ("site", "path", True),
        ("limit", "query", False),
        ("cursor", "query", False),
    ]
    change = page["paths"]["/api/v1/operators/{name}"]["patch"]
    assert [one["name"] for one in change["parameters"]] == ["name"]
    body = change["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(body) == {"role", "sites", "every_site", "is_disabled", "password"}


@pytest.mark.parametrize("site", ["a/b", "a%2Fb", "söz & x", "a+b", "do"])
async def test_names_of_sites(valkey: Valkey, database: str, site: str) -> None:
    """The path of a site leads to it, also with a slash in the name."""
    node = await ConsoleNode.start(valkey, database, _OF_SITE)
    try:
        node.sites[site] = make_site(site)
        await node.add("ana")
        headers = bearer(await node.token("ana"))
        path = f"/api/v1/sites/{quote(site, safe='')}/things"
        client = node.client()
        answer = await client.send(client.build_request("GET", URL(f"http://console{path}"), headers=headers))
        assert answer.json() == {"ok": True, "site": site, "caller": "ana"}
    finally:
        await node.close()


async def test_strangers_with_tokens_keep_nobody_out(node: ConsoleNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address has so many questions for its tokens under way, further ones are refused at once, and an operator at
    another address is answered."""
    await node.add("ana")
    headers = bearer(await node.token("ana"))
    held, let_go = asyncio.Event(), asyncio.Event()
    find_token = SqlOperators.find_token

    async def find(self: SqlOperators, token: bytes) -> Operator | None:
        found = await find_token(self, token)
        if found is None:
            held.set()
            await let_go.wait()
        return found

    monkeypatch.setattr(SqlOperators, "find_token", find)
    stranger = node.client("192.0.2.66")
    guesses = [asyncio.ensure_future(stranger.get("/api/v1/log", headers=bearer(f"recado_{n}"))) for n in range(20)]
    await held.wait()
    assert (await node.client().get("/api/v1/log", headers=headers)).status_code == 200
    refused, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    assert {guess.result().status_code for guess in refused} == {429}
    let_go.set()
    answers = [answer.status_code for answer in await asyncio.gather(*guesses)]
    assert sorted(answers) == [401] * MAX_UNDER_WAY + [429] * (20 - MAX_UNDER_WAY)
