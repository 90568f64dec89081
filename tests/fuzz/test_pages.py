"""Requests to the console, the operators' API, receipts, webhooks, tickets and the demo that nobody should send: what
stands in the head, too, which no other fuzzer of this folder tries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import strategies as st

from app.config.settings import Config, HookEvent, WebhookSettings
from app.console.entry import TOKEN_PREFIX
from app.console.operators import ROLES
from app.console.sql_operators import SqlOperators
from app.demo.site import DEMO
from app.digests import digest
from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from app.protocols.listed import PROTOCOLS
from tests.fuzz.conftest import MAX_BYTES, Fuzz
from tests.support.fuzz_inputs import Large, json_texts, mutated, texts, values
from tests.support.fuzzing import FuzzedNode, fuzzed_node
from tests.support.store import make_site
from tests.support.valkey import Valkey

TOKEN = TOKEN_PREFIX + "of-the-fuzzer"
EVENTS: tuple[HookEvent, ...] = ("user.online", "user.offline")
#: About as long as a head may be.
LONG = 60_000
PATHS = [
    "/console",
    "/console/login",
    "/console/logout",
    "/console/log",
    "/console/live/log",
    "/console/static/look.css",
    "/console/do/operators.add",
    "/api/openapi.json",
    "/api/v1/sites",
    "/api/v1/log",
    "/api/v1/nodes",
    "/api/v1/sites/shop/messages",
    "/api/v1/operators",
    "/messages",
    "/messages/1",
    "/devices",
    "/trace",
    "/webhooks",
    "/webhooks/retry",
    "/webhooks/test",
    "/tickets",
    "/send",
    "/send/batch",
    "/demo",
    "/demo/auth",
    "/demo/events",
    "/demo/none.js",
    "/healthz",
]
ODD_PATHS = [
    "/console/%2F",
    "/api/v1/%ed%a0%80",
    "/api/v1/sites/%2F/messages",
    "/console//",
    "//",
    "/%ff",
    "/console/..",
]
METHODS = ["GET", "GET", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]
KEYS = ["", "site=shop&apiKey=secret&", "site=shop&apiKey=secret&", "site=shop&apiKey=x&"]
NAMES = [
    "site",
    "user",
    "room",
    "device",
    "limit",
    "cursor",
    "since",
    "id",
    "next",
    "settle",
    "at",
    "name",
    "password",
    "_csrf",
]
SHORT_HEADERS = [
    (b"authorization", f"Bearer {TOKEN}".encode()),
    (b"authorization", b"Bearer " + TOKEN_PREFIX.encode() + b"x"),
    (b"authorization", b"Basic \xff"),
    (b"cookie", b"recado_console=x; a=b"),
    (b"cookie", b'recado_console="\\"; ;=;a'),
    (b"origin", b"http://["),
    (b"origin", b"\xff\xff"),
    (b"host", b"["),
    (b"host", b"\xff:99999999999"),
    (b"hx-request", b"true"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"content-encoding", b"gzip"),
    (b"range", b"bytes=-1,0-,5-2"),
    (b"if-modified-since", b"Mon Mon"),
    (b"idempotency-key", b"\xff"),
    (b"x-csrf-token", b"\xff"),
    (b"content-length", b"5"),
]
LARGE_HEADERS = [
    (b"cookie", Large(b'a="' + b'\\"' * (LONG // 2) + b'"')),
    (b"cookie", Large(b"a=b;" * (LONG // 4))),
    (b"authorization", Large(b"Bearer " + b"x" * LONG)),
    (b"origin", Large(b"http://" + b"[" * LONG)),
    (b"range", Large(b"bytes=" + b"0-1," * (LONG // 4) + b"9-")),
    (b"if-none-match", Large(b'"a",' * (LONG // 4))),
    (b"webhook-signature", Large(b"v1,x " * (LONG // 5))),
    (b"accept", Large(b"a," * (LONG // 2))),
]
LARGE_QUERIES = [Large(b"a&" * (LONG // 2)), Large(b"a=%41&" * (LONG // 6)), Large(b"site=" + b"%41" * (LONG // 3))]
BODIES = [
    b'{"rooms":["a"],"event":"e","args":[1]}',
    b"name=ana&password=x&next=%2Fconsole%2Flog",
    b'{"name":"x","role":"viewer","sites":["shop"]}',
    b"rooms%5B%5D=a&event=e",
]
LARGE_BODIES = [
    Large(b"[" * 90_000),
    Large(b'{"a":' * 18_000),
    Large(b"a&" * 45_000),
    Large(b'{"rooms":[' + b"{}," * 30_000 + b"1]}"),
    Large(b'"\\ud800' * 12_000),
]

_shapes = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=4).map(
    lambda value: json.dumps(value).encode()
)
_bodies = st.one_of(st.just(b""), mutated(BODIES), _shapes, json_texts.map(str.encode), st.sampled_from(LARGE_BODIES))
_pairs = st.lists(st.tuples(st.sampled_from(NAMES), texts), max_size=4).map(
    lambda pairs: "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs)
)
_queries = st.one_of(_pairs, _pairs, _pairs, st.sampled_from(LARGE_QUERIES).map(lambda query: query.decode()))
_headers = st.lists(st.sampled_from(SHORT_HEADERS) | st.sampled_from(LARGE_HEADERS), max_size=4)
_paths = st.sampled_from(PATHS) | st.sampled_from(PATHS) | st.sampled_from(ODD_PATHS)
_requests = st.tuples(st.sampled_from(METHODS), _paths, st.sampled_from(KEYS), _queries, _headers, _bodies)


@pytest.fixture
def node(valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FuzzedNode]:
    """A node with a console, and with an operator whose token is TOKEN."""
    # A check of a password costs the least that there is.
    monkeypatch.setattr("app.console.passwords._MEMORY_KIB", 8)
    monkeypatch.setattr("app.console.passwords._PASSES", 1)
    database = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    asyncio.run(_add_operator(database))
    webhook = WebhookSettings(url="http://127.0.0.1:9/hook", secrets=("whsec_" + "A" * 32,), events=EVENTS)
    config = Config(
        redis_url=valkey.url,
        database_url=database,
        sites={"shop": make_site("shop", auth_url=None, webhook=webhook)},
        max_body_bytes=MAX_BYTES,
        redis_timeout_seconds=30.0,
    )
    with fuzzed_node(config, (*PROTOCOLS, DEMO)) as node:
        yield node


async def _add_operator(database: str) -> None:
    engine = open_database(database, is_writer=True)
    await upgrade_schema(engine)
    operators = SqlOperators(engine)
    assert await operators.add("ana", "none", ROLES["viewer"], None)
    ana = await operators.find("ana")
    assert ana is not None
    assert await operators.add_token(ana.id, "fuzz", digest(TOKEN))
    await engine.dispose()


@pytest.mark.timeout(3600)
def test_pages(node: FuzzedNode, run: Fuzz) -> None:
    """A request is carried out or refused, whatever stands in its head."""

    def check(requests: list[tuple[str, str, str, str, list[tuple[bytes, bytes]], bytes]]) -> None:
        async def scenario() -> None:
            for method, path, key, query, headers, body in requests:
                await node.http(method, f"{path}?{key}{query}", body, headers, may_be_busy=True)

        node.attempt(scenario, len(requests))

    run(st.lists(_requests, min_size=1, max_size=5), check)
    assert node.statuses[503] <= node.inputs / 100
    assert {200, 303, 400, 401, 404, 405} <= node.statuses.keys()
