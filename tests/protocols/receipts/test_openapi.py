"""The OpenAPI page: a valid document, true to the code, and a description by which a stranger can use a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app.journal.states import STATES
from app.protocols.receipts.openapi import openapi_page
from app.protocols.receipts.settings import DEFAULT_LIMIT, MAX_CURSOR_BYTES, MAX_LIMIT
from app.protocols.sites.send_body import RESERVED_EVENTS
from tests.protocols.receipts.asking import KEY, Backend
from tests.support.deployment import Deployment
from tests.support.waiting import eventually

PAGE: dict[str, Any] = json.loads(openapi_page())
OPERATIONS = [(path, method) for path, methods in PAGE["paths"].items() for method in methods]
_SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
SITES: dict[str, dict[str, Any]] = {
    "shop": {
        "authUrl": "http://127.0.0.1:9/rooms",
        "apiKey": KEY,
        "userRoomPrefix": "user_",
        "webhook": {
            "url": "http://127.0.0.1:9/events",
            "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "events": ["message.unacknowledged", "message.acknowledged"],
        },
    },
    "other": {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": KEY, "userRoomPrefix": "user_"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A real server with a journal."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    deployment = Deployment(SITES, environment={"DATABASE_URL": f"sqlite:///{file}"})
    query = {"site": "shop", "apiKey": KEY}
    eventually(lambda: deployment.get("/messages", params=query).status_code == 200, "the journal to begin", 60)
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def described(server: Deployment) -> Any:
    """The page as the server gives it, for the site `shop`."""
    page = server.get("/openapi.json").json()
    for path in page["paths"].values():
        for operation in path.values():
            operation["parameters"] = [_own_site(one) for one in operation["parameters"]]
    schema = schemathesis.openapi.from_dict(page)
    schema.config.update(base_url=server.url)
    return schema


def _own_site(parameter: dict[str, Any]) -> dict[str, Any]:
    """The parameter; `site` with the one value that the key is for."""
    if parameter.get("$ref", "").endswith("/Site"):
        return {"name": "site", "in": "query", "required": True, "schema": {"type": "string", "enum": ["shop"]}}
    return parameter


def test_the_page_is_openapi() -> None:
    """The page is valid by the schema of OpenAPI 3.1, and so is each schema in it by JSON Schema 2020-12."""
    jsonschema_rs.validator_for(OPENAPI_31).validate(PAGE)
    for schema in PAGE["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere() -> None:
    """Each `$ref` names a part of the page, and each part is used."""
    text = json.dumps(PAGE)
    for kind, parts in PAGE["components"].items():
        if kind == "securitySchemes":
            continue
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, name
    for node in _walk(PAGE):
        if "$ref" in node:
            _, _, kind, name = node["$ref"].split("/")
            assert name in PAGE["components"][kind]


def test_the_page_is_true_to_the_code() -> None:
    """Figures, states and reserved events are those of the code."""
    parameters, schemas = PAGE["components"]["parameters"], PAGE["components"]["schemas"]
    limit = parameters["Limit"]["schema"]
    assert (limit["maximum"], limit["default"]) == (MAX_LIMIT, DEFAULT_LIMIT)
    assert parameters["Cursor"]["schema"]["maxLength"] == MAX_CURSOR_BYTES
    assert schemas["Delivery"]["properties"]["state"]["enum"] == list(STATES)
    assert set(schemas["Message"]["properties"]["event"]["not"]["enum"]) == RESERVED_EVENTS


async def test_the_page_is_open(backend: Backend) -> None:
    """Anybody gets the page, without a key."""
    answer = await backend.client.get("/openapi.json")
    assert (answer.status_code, answer.json()) == (200, PAGE)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_a_stranger_can_use_it(described: Any, path: str, method: str, mode: GenerationMode) -> None:
    """Requests made from the page alone are answered as it says, and wrong ones are refused as it says."""

    @_SETTINGS
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            # Only answers have cursors, and a key that was used goes with one request alone.
            case.query.pop("cursor", None)
            case.headers.pop("Idempotency-Key", None)
        # A request without a key is 400 by the contract, where that check expects 401. Each message of a batch is
        # refused by itself.
        excluded = [ignored_auth, *([negative_data_rejection] if path == "/send/batch" else [])]
        case.call_and_validate(headers={"X-API-Key": KEY}, timeout=10, excluded_checks=excluded)

    ask()


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _walk(part)
