"""The pages: nothing without a session, headers, forms of others, texts of strangers, the password asked again."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from msgspec import json
from sqlalchemy import insert

from app.console.pages.listed import PAGES
from app.console.protocol import NEEDS_SQL
from app.console.session_cookie import SESSION_COOKIE
from app.console.web import MAX_FORM_BYTES, MAX_LOGIN_BYTES
from app.journal.tables import log
from tests.console.visitor import PASSWORD, ConsoleNode, kept_session
from tests.support.valkey import Valkey

_SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/console"),
        ("GET", "/console/log"),
        ("GET", "/console/live/log"),
        ("GET", "/console/nothing"),
        ("POST", "/console/do/operators.add"),
        ("POST", "/console/do/nothing"),
        ("POST", "/console/logout"),
        ("PUT", "/console/log"),
    ],
)
async def test_nothing_without_a_session(node: ConsoleNode, method: str, path: str) -> None:
    """A stranger is led to the login, or refused, whether the page exists or not; of htmx's requests too."""
    client = node.client()
    for cookie in ("", f"{SESSION_COOKIE}=guessed", f"{SESSION_COOKIE}={'x' * 5000}"):
        answer = await client.request(method, path, headers={"cookie": cookie})
        assert answer.status_code == (303 if method == "GET" else 401)
        assert answer.headers.get("location", "/console/login").startswith("/console/login")
        part = await client.request(method, path, headers={"cookie": cookie, "hx-request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/console/login")
        for text in (answer.text, part.text):
            assert "shop" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": 'a="' + '\\"' * 30_000 + f'"; {SESSION_COOKIE}=x'},
        {"cookie": "a=b;" * 15_000},
        {"host": "["},
        {"origin": "http://["},
        {"origin": "\xff", "host": "\xff"},
    ],
    ids=lambda headers: " ".join(f"{name} {value[:8]!a}" for name, value in headers.items()),
)
async def test_heads_of_strangers(node: ConsoleNode, headers: dict[str, str]) -> None:
    """Headers that no browser sends cost little, and are refused as any other: a reader of cookies took seconds for
    quotes, and hosts and origins without an end raised."""
    client = node.client()
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    before = time.thread_time()
    assert (await client.get("/console/log?a=b", headers=raw)).status_code == 303
    assert (await client.get(f"/console/login?{'a&' * 30_000}", headers=raw)).status_code == 200
    answer = await client.post("/console/login", headers=raw, data={"name": "x"})
    assert answer.status_code == (403 if "origin" in headers else 401)
    assert time.thread_time() - before < 0.5


async def test_a_cookie_among_others(node: ConsoleNode) -> None:
    """The console's cookie is found behind others, in several headers too, and none of another name counts."""
    visitor = await node.visitor("ana")
    own = f"{SESSION_COOKIE}={visitor.client.cookies[SESSION_COOKIE]}"
    other = node.client()
    for lines, status in (
        ([f"a=1; {own};b"], 200),
        (["a=1", f" {own} ; b=2"], 200),
        ([f"x{own}"], 303),
        ([f'a="; {own}'], 200),
        ([SESSION_COOKIE], 303),
    ):
        answer = await other.get("/console/tokens", headers=[("cookie", line) for line in lines])
        assert answer.status_code == status, lines


async def test_headers(node: ConsoleNode) -> None:
    """Every answer has the strict policy, the login, files and refusals too, and none allows another origin."""
    visitor = await node.visitor("ana")
    for path in ("/console/login", "/console/static/console.js", "/console/static/none", "/console/log", "/console/x"):
        answer = await visitor.client.get(path, headers={"origin": "https://evil.example"})
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert [name for name in answer.headers if name.startswith("access-control")] == []
    assert (await visitor.get("/log")).headers["cache-control"] == "no-store"


async def test_pages_have_no_inline_code(node: ConsoleNode) -> None:
    """No page has a script, a style or a handler of its own in its text: the policy would stop it."""
    visitor = await node.visitor("ana")
    for page in PAGES:
        text = (await visitor.get(f"/{page.shows.partition('.')[0]}")).text
        assert re.findall(r"<script(?![^>]* src=)", text) == []
        assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", text) == []


async def test_forms_of_others(node: ConsoleNode) -> None:
    """A form without the login's token, with another login's, or of another origin, changes nothing."""
    visitor, other = await node.visitor("ana"), await node.visitor("ben")
    fields = {"name": "eve", "password": "a long password", "every_site": "true"}
    for csrf in ("", "guessed", "ß" * 43, await other.csrf()):
        answer = await visitor.client.post("/console/do/operators.add", data={"_csrf": csrf, **fields})
        assert answer.status_code == 403
    right = {"_csrf": await visitor.csrf(), **fields}
    for origin in ("https://evil.example", "null", "http://console.evil.example", "http://console:81"):
        answer = await visitor.client.post("/console/do/operators.add", data=right, headers={"origin": origin})
        assert answer.status_code == 403
    login = {"name": "ana", "password": PASSWORD}
    answer = await node.client().post("/console/login", data=login, headers={"origin": "https://evil.example"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert await node.operators.find("eve") is None
    answer = await visitor.client.post("/console/do/operators.add", data=right, headers={"origin": "http://console"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    assert await node.operators.find("eve") is not None


async def test_a_token_in_the_header(node: ConsoleNode) -> None:
    """The token of a form may come in a header instead."""
    visitor = await node.visitor("ana")
    headers = {"x-csrf-token": await visitor.csrf()}
    answer = await visitor.client.post("/console/do/tokens.add", data={"name": "t"}, headers=headers)
    assert "recado_" in answer.text


async def test_actions_are_posted(node: ConsoleNode) -> None:
    """A list is no action, and an action cannot be asked for by a link."""
    visitor = await node.visitor("ana")
    assert (await visitor.do("operators.list")).status_code == 404
    assert (await visitor.get("/do/operators.add")).status_code == 404


async def test_texts_of_strangers(node: ConsoleNode) -> None:
    """Script in any text of a row is shown as text, in the page and in its stream."""
    visitor = await node.visitor("ana")
    async with node.engine.begin() as sql:
        row = {"at": 1, "level": "error", "event": _SCRIPT, "node": _SCRIPT, "fields": json.encode([_SCRIPT]).decode()}
        await sql.execute(insert(log).values(**row))
    page = await visitor.client.get("/console/log", params={"event": _SCRIPT})
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>alert(1)" not in page.text
    assert "<img" not in page.text.partition("<main")[2]


async def test_the_password_is_asked_again(node: ConsoleNode, valkey: Valkey) -> None:
    """An action that hurts asks for a password that is five minutes old, and does nothing before. The right one goes
    on."""
    visitor = await node.visitor("ana")
    fields = {"name": "eve", "password": "a long password", "role": "viewer", "sites": ["shop", "news"]}
    key, session = kept_session(valkey)
    kept = json.decode(session)
    valkey.client.set(key, json.encode({**kept, "confirmed_ms": kept["confirmed_ms"] - 300_000}), keepttl=True)
    asked = await visitor.do("operators.add", **fields)
    assert (asked.status_code, "Your password, please" in asked.text) == (200, True)
    assert await node.operators.find("eve") is None
    assert (await visitor.do("operators.add", _password="wrong", **fields)).status_code == 401
    assert await node.operators.find("eve") is None
    assert (await visitor.do("operators.add", _password=PASSWORD, **fields)).status_code == 303
    found = await node.operators.find("eve")
    assert found is not None
    assert found.sites == ("shop", "news")
    assert (await visitor.do("operators.remove", name="eve")).status_code == 303


async def test_wrong_fields(node: ConsoleNode) -> None:
    """A form with a wrong field says which, changes nothing, and is written down without its secrets."""
    visitor = await node.visitor("ana")
    answer = await visitor.do("operators.add", name="eve", password="short")
    assert answer.status_code == 400
    assert "password: expected text of length &gt;= 10." in answer.text
    assert "role: expected one of admin, operator, viewer." in (
        await visitor.do("operators.add", name="eve", password="long enough!", role="king")
    ).text.replace("&#39;", "'")
    audit = (await visitor.get("/audit")).text
    assert "operators.add" in audit
    assert "long enough!" not in audit


async def test_long_bodies(node: ConsoleNode) -> None:
    """A form past its bound is refused, that of a stranger much earlier."""
    form = {"name": "a" * MAX_LOGIN_BYTES, "password": "b"}
    assert (await node.client().post("/console/login", data=form)).status_code == 413
    visitor = await node.visitor("ana")
    assert (await visitor.do("tokens.add", name="a" * MAX_FORM_BYTES)).status_code == 413
    fields: dict[str, Any] = {f"f{number}": "1" for number in range(1001)}
    assert (await visitor.do("tokens.add", **fields)).status_code == 400


async def test_done_is_said_once(node: ConsoleNode) -> None:
    """The page after an action says what was done; the next one does not."""
    visitor = await node.visitor("ana")
    await node.add("ben")
    answer = await visitor.do("operators.end_sessions", name="ben", _back="/console/operators")
    assert answer.headers["location"] == "/console/operators"
    said = "Done: End the sessions of an operator."
    assert [said in (await visitor.get("/operators")).text for _ in range(2)] == [True, False]


async def test_files(node: ConsoleNode) -> None:
    """Files are served by name alone."""
    client = node.client()
    assert (await client.get("/console/static/console.css")).headers["content-type"].startswith("text/css")
    for name in ("..%2fweb.py", "vendor/socket.io-4.js", "%00"):
        assert (await client.get(f"/console/static/{name}")).status_code == 404


async def test_without_sql(valkey: Valkey) -> None:
    """Without the journal's database every path says what is missing."""
    node = await ConsoleNode.start(valkey, "none")
    try:
        client = node.client()
        for path in ("/console", "/console/login", "/api/v1/log"):
            answer = await client.get(path)
            assert (answer.status_code, NEEDS_SQL in answer.text) == (503, True)
    finally:
        await node.close()
