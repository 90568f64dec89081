"""Logins at a provider of identities: the operator that it makes, and everything that is refused."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from html import unescape
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx import AsyncClient, Response
from sqlalchemy import select

from app.clock import now_ms
from app.config.settings import ConsoleSettings, OidcSettings
from app.console import oidc
from app.console.session import MAX_ADDRESS_FAILURES
from app.journal.tables import audit
from app.protocols.operations import Role
from tests.console.oidc_provider import CLIENT, Provider, running_provider
from tests.console.visitor import PASSWORD, ConsoleNode, Visitor
from tests.support.valkey import Valkey

Claims = dict[str, Any]
_CALLBACK = re.compile(r'content="0; url=([^"]+)"')
_STRANGE_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    """The provider of this module."""
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    """The provider, as it is at the begin of each test."""
    shared_provider.__dict__ = Provider(shared_provider.url).__dict__
    return shared_provider


def settings(provider: Provider, **more: Any) -> OidcSettings:
    """The settings of the console for this provider."""
    given = {
        "issuer": provider.url,
        "client_id": CLIENT[0],
        "client_secret": CLIENT[1],
        "public_url": "http://console",
        "role_claim": "groups",
        "sites_claim": "recado.sites",
        "roles": {"admins": "admin", "agents": "operator", "staff": "viewer"},
    }
    return OidcSettings(**given | more)


@pytest.fixture
async def node(valkey: Valkey, database: str, provider: Provider) -> AsyncIterator[ConsoleNode]:
    """A node with a console that knows the provider."""
    node = await ConsoleNode.start(valkey, database, console=ConsoleSettings(oidc=settings(provider)))
    yield node
    await node.close()


async def begin(client: AsyncClient, query: str = "next=/console/tokens") -> str:
    """Begin a login; the URL at the provider."""
    answer = await client.get(f"/console/oidc?{query}")
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def come_back(client: AsyncClient, url: str) -> Response:
    """Come back from the provider; the answer to the request that the page there leads to."""
    page = await client.get(url)
    led = _CALLBACK.search(page.text)
    return page if led is None else await client.get(unescape(led[1]))


async def log_in(
    node: ConsoleNode, provider: Provider, query: str = "next=/console/tokens"
) -> tuple[Visitor, Response]:
    """Log in with a new browser."""
    client = node.client()
    return Visitor(client, ""), await come_back(client, provider.authorize(await begin(client, query)))


async def test_an_operator_of_the_provider(node: ConsoleNode, provider: Provider) -> None:
    """The first login makes the operator, with a session as with a password; a later one takes over role and sites, and
    ends the earlier sessions. Nobody logs in with a password in its name."""
    visitor, answer = await log_in(node, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/tokens")
    assert (await visitor.get("/operators")).status_code == 200
    (found,) = await node.operators.list_operators()
    assert (found.name, found.role, found.sites, found.subject) == (
        "ana",
        Role.ADMIN,
        (),
        f"{provider.url} {provider.person['sub']}",
    )
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("recado_console="))
    assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
    provider.person |= {"groups": ["staff", "unknown"], "recado": {"sites": ["shop"]}, "preferred_username": "anna"}
    later, _ = await log_in(node, provider)
    assert (await visitor.get("/tokens")).status_code == 303
    assert (await later.get("/operators")).status_code == 403
    found = (await node.operators.list_operators())[0]
    assert (found.name, found.role, found.sites) == ("ana", Role.VIEWER, ("shop",))
    for password in ("", PASSWORD):
        assert (await Visitor(node.client(), "ana").log_in(password)).status_code == 401
    assert "Change your password" not in (await later.get("/tokens")).text
    assert (await later.do("account.password", password="a password of mine")).status_code == 409
    async with node.engine.connect() as sql:
        details = (await sql.execute(select(audit.c.action, audit.c.detail))).all()
    assert ("login", "at the provider") in map(tuple, details)


def spoiled(**changes: Any) -> Callable[[Claims], Claims]:
    """Makes claims with these changes; None takes one away."""

    def spoil(claims: Claims) -> Claims:
        return {name: value for name, value in (claims | changes).items() if value is not None}

    return spoil


def unsigned(claims: Claims) -> str:
    """A token that nobody has signed."""
    return jwt.encode(claims, "", "none")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": "of another login"}, "another login"),
        ({"nonce": None}, "another login"),
        ({"aud": "another client"}, "for somebody else"),
        ({"aud": [CLIENT[0], "another"]}, "for somebody else"),
        ({"azp": "another client"}, "for somebody else"),
        ({"iss": "https://evil.example"}, "claims are wrong"),
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "claims are wrong"),
        ({"iat": 4_000_000_000}, "claims are wrong"),
        ({"sub": None}, "claims are wrong"),
        ({"sub": "x" * 300}, "names nobody"),
        ({"groups": ["unknown"]}, "no role"),
        ({"groups": {"admins": True}}, "no role"),
        ({"preferred_username": None}, "no name"),
        ({"preferred_username": "<script>"}, "no name"),
    ],
)
async def test_wrong_claims(node: ConsoleNode, provider: Provider, changes: Claims, reason: str) -> None:
    """A token with a wrong claim lets nobody in, and makes no operator."""
    provider.spoil = spoiled(**changes)
    visitor, answer = await log_in(node, provider)
    assert (answer.status_code in (401, 403), reason in answer.text) == (True, True), answer.text
    assert (await visitor.get("/tokens")).status_code == 303
    assert await node.operators.list_operators() == []


async def test_wrong_signatures(node: ConsoleNode, provider: Provider) -> None:
    """A token counts with a signature of the provider's key alone: not unsigned, not with the public key as a secret,
    not of another key, not cut or changed."""
    public = provider.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def with_secret(claims: Claims) -> str:
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "first"}, claims)]
        text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        return (text + b"." + base64.urlsafe_b64encode(hmac.digest(public, text, "sha256")).rstrip(b"=")).decode()

    def changed(claims: Claims) -> str:
        head, _, mark = provider.sign(claims).split(".")
        other = provider.sign(claims | {"groups": ["admins"], "sub": "another"}).split(".")[1]
        return f"{head}.{other}.{mark}"

    tokens: list[Callable[[Claims], str]] = [
        unsigned,
        with_secret,
        changed,
        lambda claims: provider.sign(claims, key=_STRANGE_KEY),
        lambda claims: provider.sign(claims).rpartition(".")[0] + ".",
        lambda claims: "x" * 40_000,
        lambda claims: "a.b.c",
        lambda claims: "",
    ]
    for number, spoil in enumerate(tokens):
        provider.spoil = spoil
        visitor, answer = await log_in(node, provider)
        assert answer.status_code == 401, number
        assert (await visitor.get("/tokens")).status_code == 303
    assert await node.operators.list_operators() == []


async def test_a_login_belongs_to_its_browser(node: ConsoleNode, provider: Provider) -> None:
    """Another state, another browser, another issuer, a login that has been used or that is old: none lets in."""
    client = node.client()
    back = provider.authorize(await begin(client))
    for url, status in (
        (re.sub("state=[^&]+", "state=another", back), 403),
        (re.sub("state=[^&]+&", "", back), 403),
        (re.sub("code=[^&]+&", "", back), 400),
        (re.sub("iss=[^&]+", "iss=https%3A%2F%2Fevil.example", back), 400),
        (f"{back}&error=access_denied", 403),
        ("/console/oidc/finish?code=1&state=", 403),
    ):
        assert (await come_back(client, url)).status_code == status, url
    assert (await come_back(node.client(), back)).status_code == 403
    assert (await come_back(client, back)).status_code == 303
    replayed = Visitor(client, "")
    assert (await replayed.get("/tokens")).status_code == 200
    assert (await come_back(client, back)).status_code == 403


async def test_a_used_code(node: ConsoleNode, provider: Provider) -> None:
    """A login is finished once, even if the browser has kept its cookie; and a code is of one login."""
    client = node.client()
    back = provider.authorize(await begin(client))
    kept = client.cookies["recado_console_oidc"]
    assert (await come_back(client, back)).status_code == 303
    headers = {"cookie": f"recado_console_oidc={kept}"}
    stranger = node.client()
    led = _CALLBACK.search((await stranger.get(back)).text)
    assert led
    again = await stranger.get(unescape(led[1]), headers=headers)
    assert (again.status_code, "has been used" in again.text) == (403, True)
    other = node.client()
    url = provider.authorize(await begin(other))
    code = re.search("code=([^&]+)", back)
    assert code
    assert (await come_back(other, re.sub("code=[^&]+", f"code={code[1]}", url))).status_code == 401


async def test_an_old_login(node: ConsoleNode, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that began too long ago, or later than now, is begun again."""
    client = node.client()
    back = provider.authorize(await begin(client))
    for ms in (1_000 * oidc.FLOW_SECONDS, -60_000):
        monkeypatch.setattr(oidc, "now_ms", lambda ms=ms: now_ms() + ms)
        assert (await come_back(client, back)).status_code == 403


async def test_names_that_are_taken(node: ConsoleNode, provider: Provider) -> None:
    """Nobody becomes an operator who has a password here, or another person of the provider, by its name; a disabled
    operator stays out."""
    await node.add("ana")
    assert (await log_in(node, provider))[1].status_code == 409
    provider.person["preferred_username"] = "ben"
    assert (await log_in(node, provider))[1].status_code == 303
    provider.person["sub"] = "another"
    assert (await log_in(node, provider))[1].status_code == 409
    provider.person |= {"sub": "248289761001"}
    await node.operators.change("ben", ends_sessions=True, is_disabled=True)
    assert (await log_in(node, provider))[1].status_code == 403


async def test_what_hurts_asks_the_provider_again(node: ConsoleNode, provider: Provider) -> None:
    """An operator without a password proves again at the provider who it is: it must have been asked just now, and be
    the same person."""
    provider.auth_time = time.time() - 3_600
    visitor, _ = await log_in(node, provider)
    asked = await visitor.do("tokens.add", name="mine", _back="/console/tokens")
    link = re.search(r'href="(/console/oidc\?again=1[^"]+)"', asked.text)
    assert link
    assert "_password" not in asked.text
    query = unescape(link[1]).partition("?")[2]

    async def prove() -> Response:
        url = await begin(visitor.client, query)
        assert {"prompt=login", "max_age=0"} <= set(url.partition("?")[2].split("&"))
        return await come_back(visitor.client, provider.authorize(url))

    assert (await prove()).status_code == 401
    provider.spoil = spoiled(auth_time=None)
    assert (await prove()).status_code == 401
    provider.spoil, provider.auth_time = spoiled(sub="another"), None
    assert (await prove()).status_code == 403
    assert "recado_" not in (await visitor.do("tokens.add", name="mine")).text.replace("recado_console", "")
    provider.spoil = spoiled()
    assert (await prove()).headers["location"] == "/console/tokens"
    assert "not asked again" in (await visitor.get("/tokens")).text
    assert re.search(r"recado_[\w-]{40}", (await visitor.do("tokens.add", name="mine")).text)


async def test_a_stranger_proves_nothing(node: ConsoleNode, provider: Provider) -> None:
    """Without a session there is nothing to prove again."""
    answer = await node.client().get("/console/oidc?again=1")
    assert answer.status_code == 401


async def test_new_keys(node: ConsoleNode, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are read once, and again for one that is not known, but not at each token."""
    monkeypatch.setattr(oidc, "_AGAIN_SECONDS", 0.0)
    for _ in range(3):
        await log_in(node, provider)
    assert provider.requests.count("/keys") == 1
    provider.key, provider.key_id = _STRANGE_KEY, "second"
    assert (await log_in(node, provider))[1].status_code == 303
    assert provider.requests.count("/keys") == 2
    monkeypatch.setattr(oidc, "_AGAIN_SECONDS", 60.0)
    provider.key_id = "third"
    assert (await log_in(node, provider))[1].status_code == 401
    assert provider.requests.count("/keys") == 2


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/.well-known/openid-configuration", 500, b"{}"),
        ("/.well-known/openid-configuration", 200, b"[" * 100_000),
        ("/.well-known/openid-configuration", 200, b'{"issuer": "https://evil.example"}'),
        ("/.well-known/openid-configuration", 302, b"http://127.0.0.1:9/"),
        ("/.well-known/openid-configuration", 200, b" " * 300_000),
        ("/keys", 200, b'{"keys": 5}'),
        ("/keys", 200, b"\xff"),
    ],
)
async def test_a_provider_that_does_not_answer(
    node: ConsoleNode, provider: Provider, path: str, status: int, body: bytes
) -> None:
    """A login says that the provider is away; a password lets in all the same. The provider is not asked each time."""
    provider.answers[path] = (status, body)
    for _ in range(3):
        answer = await node.client().get("/console/oidc")
        assert (answer.status_code, "does not answer as it should" in answer.text) == (503, True)
    assert provider.requests.count(path) == 1
    await node.add("ben")
    assert (await Visitor(node.client(), "ben").log_in()).status_code == 303


@pytest.mark.parametrize(
    ("status", "body"), [(302, b"/token"), (200, b"{}"), (200, b'{"id_token": 5}'), (500, b"x"), (400, b"{}")]
)
async def test_a_code_that_is_not_redeemed(node: ConsoleNode, provider: Provider, status: int, body: bytes) -> None:
    """Any other answer of the provider to a code lets nobody in."""
    provider.answers["/token"] = (status, body)
    answer = (await log_in(node, provider))[1]
    assert (answer.status_code, "begin it again" in answer.text) == (401, True)


async def test_strangers_are_counted(node: ConsoleNode, provider: Provider, valkey: Valkey) -> None:
    """Begun logins leave nothing in Redis. A login that comes back wrong counts as a failure of its address, and past
    the bound the provider is not asked any more; a right one does not count."""
    before = len(valkey.client.keys("*"))
    for _ in range(MAX_ADDRESS_FAILURES + 1):
        assert (await log_in(node, provider))[1].status_code == 303
    provider.answers["/token"] = (400, b"{}")
    for _ in range(MAX_ADDRESS_FAILURES):
        await log_in(node, provider)
    asked = provider.requests.count("/token")
    client = node.client()
    for _ in range(20):
        await begin(client)
    assert len(valkey.client.keys("*")) - before < 5 * MAX_ADDRESS_FAILURES
    keys = len(valkey.client.keys("*"))
    for _ in range(20):
        assert (await log_in(node, provider))[1].status_code == 429
    assert provider.requests.count("/token") == asked
    assert len(valkey.client.keys("*")) <= keys + 20


async def test_no_provider(valkey: Valkey, database: str) -> None:
    """A console without a provider has no such pages."""
    node = await ConsoleNode.start(valkey, database)
    client = node.client()
    assert "/console/oidc" not in (await client.get("/console/login")).text
    assert (await client.get("/console/oidc/finish")).headers["location"].startswith("/console/login")
    await node.close()


async def test_a_public_client(valkey: Valkey, database: str, provider: Provider) -> None:
    """A client without a secret names itself in the form; an address that the provider has not verified is no name."""
    own = settings(provider, client_secret=None, name_claim="email", default_role="viewer", role_claim=None, roles={})
    provider.answers["/token"] = (400, b"{}")
    node = await ConsoleNode.start(valkey, database, console=ConsoleSettings(oidc=own))
    assert (await log_in(node, provider))[1].status_code == 401
    del provider.answers["/token"]
    provider.person |= {"email": "ana@example.com", "email_verified": "true"}
    provider.redeems_without_secret = True
    assert (await log_in(node, provider))[1].status_code == 403
    provider.person |= {"email_verified": True}
    assert (await log_in(node, provider))[1].status_code == 303
    (found,) = await node.operators.list_operators()
    assert (found.name, found.role, found.caller.sites) == ("ana@example.com", Role.VIEWER, frozenset())
    await node.close()
