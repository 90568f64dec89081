"""The login: cookies, throttle, ends of sessions, and nothing that leads elsewhere."""

from __future__ import annotations

import asyncio
import gc
import re
from http.cookies import Morsel, SimpleCookie

import pytest
from httpx import Response

from app.console.session import FAILURE_SECONDS, IDLE_SECONDS, MAX_FAILURES
from app.console.session_cookie import SESSION_COOKIE, own_path
from app.errors import RequestRefused
from tests.console.visitor import PASSWORD, ConsoleNode, Visitor, kept_session
from tests.support.valkey import Valkey


def cookie_of(answer: Response) -> Morsel[str]:
    """The cookie that an answer sets."""
    return SimpleCookie(answer.headers["set-cookie"])[SESSION_COOKIE]


async def test_a_login(node: ConsoleNode) -> None:
    """The right password leads to the first page, with a cookie for the console alone that no script reads."""
    await node.add("ana")
    visitor = Visitor(node.client(), "ana")
    answer = await visitor.log_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookie = cookie_of(answer)
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/console")
    assert (cookie["secure"], cookie["domain"], cookie["max-age"]) == ("", "", "")
    assert (await visitor.get("/operators")).status_code == 200


async def test_the_cookie_is_secure_under_tls(node: ConsoleNode) -> None:
    """Over https the cookie goes over https alone."""
    await node.add("ana")
    assert cookie_of(await Visitor(node.client(scheme="https"), "ana").log_in())["secure"] is True


async def test_a_login_makes_a_new_session(node: ConsoleNode) -> None:
    """A value that somebody has put into the browser is no session, neither before nor after the login; and a second
    login ends the first one."""
    await node.add("ana")
    visitor = Visitor(node.client(), "ana")
    visitor.client.cookies.set(SESSION_COOKIE, "planted", domain="console", path="/console")
    first = cookie_of(await visitor.log_in()).value
    assert first != "planted"
    second = cookie_of(await visitor.log_in()).value
    other = node.client()
    for value, status in (("planted", 303), (first, 303), (second, 200)):
        answer = await other.get("/console/tokens", headers={"cookie": f"{SESSION_COOKIE}={value}"})
        assert answer.status_code == status, value


async def test_redis_has_no_value_of_a_cookie(node: ConsoleNode, valkey: Valkey) -> None:
    """A copy of Redis logs nobody in: neither key nor content holds the cookie's value."""
    await node.add("ana")
    value = cookie_of(await Visitor(node.client(), "ana").log_in()).value.encode()
    key, kept = kept_session(valkey)
    assert value not in key + kept
    assert 0 < valkey.client.ttl(key) <= IDLE_SECONDS


@pytest.mark.parametrize(("name", "password"), [("ana", "wrong"), ("nobody", PASSWORD), ("", ""), ("a\0b", "x")])
async def test_a_wrong_login(node: ConsoleNode, name: str, password: str) -> None:
    """A wrong password and an unknown name are answered alike."""
    await node.add("ana")
    answer = await Visitor(node.client(), name).log_in(password)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_wrong_login_leaves_nothing(node: ConsoleNode) -> None:
    """The refusal and the frames with the password are free at once, without a collection."""
    await node.add("ana")
    visitor = Visitor(node.client(), "ana")
    gc.collect()
    before = [one for one in gc.get_objects() if type(one) is RequestRefused]
    gc.disable()
    try:
        assert (await visitor.log_in("wrong")).status_code == 401
        left = [one for one in gc.get_objects() if type(one) is RequestRefused and one.__traceback__]
        assert [one for one in left if not any(one is other for other in before)] == []
    finally:
        gc.enable()


async def test_failures_block(node: ConsoleNode, valkey: Valkey) -> None:
    """After five failures the right password is refused too, for this name from this address, for 15 minutes."""
    await node.add("ana")
    visitor = Visitor(node.client(), "ana")
    failed = [(await visitor.log_in("wrong")).status_code for _ in range(MAX_FAILURES)]
    assert failed == [401] * MAX_FAILURES
    assert (await visitor.log_in()).status_code == 429
    keys = valkey.client.keys("recado:console:failures:*")
    assert len(keys) == 2
    for key in keys:
        assert FAILURE_SECONDS - 60 < valkey.client.ttl(key) <= FAILURE_SECONDS
    assert (await Visitor(node.client("192.0.2.8"), "ana").log_in()).status_code == 303
    valkey.client.delete(*keys)
    assert (await visitor.log_in()).status_code == 303


async def test_failures_of_many_names_block(node: ConsoleNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that tries many names is refused before a password is checked; one that logs in rightly is not, and
    another address neither."""
    monkeypatch.setattr("app.console.entry.MAX_ADDRESS_FAILURES", 3)
    await node.add("ana")
    for _ in range(5):
        assert (await Visitor(node.client(), "ana").log_in()).status_code == 303
    failed = [(await Visitor(node.client(), f"name{number}").log_in("wrong")).status_code for number in range(4)]
    assert failed == [401, 401, 401, 429]
    assert (await Visitor(node.client(), "ana").log_in()).status_code == 429
    assert (await Visitor(node.client("192.0.2.8"), "ana").log_in()).status_code == 303
    assert all(valkey.client.ttl(key) > 0 for key in valkey.client.keys("recado:console:failures:*"))


async def test_refused_addresses_leave_no_keys(
    node: ConsoleNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address past its failures is refused whatever names it makes up, and Redis keeps nothing of these."""
    for module in ("entry", "redis_sessions"):
        monkeypatch.setattr(f"app.console.{module}.MAX_ADDRESS_FAILURES", 3)
    failed = [(await Visitor(node.client(), f"name{number}").log_in("wrong")).status_code for number in range(20)]
    assert failed == [401] * 3 + [429] * 17
    assert len(valkey.client.keys("recado:console:failures:*")) == 4


async def test_failures_at_once_block(node: ConsoleNode) -> None:
    """Tries at the same moment are no way around: five are checked, the others are refused."""
    await node.add("ana")
    visitors = [Visitor(node.client(), "ana") for _ in range(3 * MAX_FAILURES)]
    answers = await asyncio.gather(*(visitor.log_in("wrong") for visitor in visitors))
    assert sorted(answer.status_code for answer in answers) == [401] * MAX_FAILURES + [429] * (2 * MAX_FAILURES)


async def test_a_right_login_forgets_failures(node: ConsoleNode) -> None:
    """Failures before a right login do not count on."""
    await node.add("ana")
    visitor = Visitor(node.client(), "ana")
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            assert (await visitor.log_in("wrong")).status_code == 401
        assert (await visitor.log_in()).status_code == 303


async def test_log_out(node: ConsoleNode) -> None:
    """After a logout the cookie counts no more."""
    visitor = await node.visitor("ana")
    value = visitor.client.cookies[SESSION_COOKIE]
    answer = await visitor.client.post("/console/logout", data={"_csrf": await visitor.csrf()})
    assert answer.headers["location"] == "/console/login"
    headers = {"cookie": f"{SESSION_COOKIE}={value}"}
    assert (await node.client().get("/console/tokens", headers=headers)).status_code == 303


@pytest.mark.parametrize(
    "change",
    [{"is_disabled": True}, {"role": "viewer"}, {"sites": ["shop"]}, {"password": "another password"}, {}, None],
)
async def test_changes_end_sessions(node: ConsoleNode, change: dict[str, object] | None) -> None:
    """A change of an operator, or its removal, ends its sessions at once. {}: only its sessions are ended."""
    visitor, admin = await node.visitor("ben", "operator"), await node.visitor("ana")
    action = "operators.remove" if change is None else "operators.change" if change else "operators.end_sessions"
    answer = await admin.do(action, name="ben", **(change or {}))
    assert answer.status_code == 303, answer.text
    assert (await visitor.get("/tokens")).status_code == 303
    assert (await admin.get("/tokens")).status_code == 200


async def test_a_session_lasts_12_hours(node: ConsoleNode, valkey: Valkey) -> None:
    """A session that began 12 hours ago is over, however busy it is."""
    visitor = await node.visitor("ana")
    key, session = kept_session(valkey)
    kept = session.decode()
    began = int(re.search(r'"began_ms":(\d+)', kept)[1])  # type: ignore[index]
    for hours, status in ((11, 200), (12, 303)):
        valkey.client.set(key, kept.replace(str(began), str(began - hours * 3_600_000)), ex=60)
        assert (await visitor.get("/tokens")).status_code == status


async def test_a_disabled_operator(node: ConsoleNode) -> None:
    """A disabled operator cannot log in, and learns no reason."""
    admin = await node.visitor("ana")
    await node.add("ben")
    await admin.do("operators.change", name="ben", is_disabled="true")
    answer = await Visitor(node.client(), "ben").log_in()
    assert (answer.status_code, "Name or password is wrong." in answer.text) == (401, True)


@pytest.mark.parametrize(
    ("text", "led_to"),
    [
        ("/console/log?level=error", "/console/log?level=error"),
        ("/console", "/console"),
        ("", "/console"),
        ("//evil.example", "/console"),
        ("https://evil.example/console/", "/console"),
        ("/console/../evil", "/console"),
        ("/console/\\evil.example", "/console"),
        ("/console\\@evil.example", "/console"),
        ("/consoleevil", "/console"),
        ("/console/\r\nSet-Cookie: a=b", "/console"),
        ("javascript:alert(1)", "/console"),
        ("/console/login?next=/console/login", "/console"),
        ("/console/oidc?again=1", "/console"),
    ],
)
async def test_next_leads_to_own_pages(node: ConsoleNode, text: str, led_to: str) -> None:
    """`next` leads to a page of the console, or is passed over."""
    assert own_path(text) == led_to
    await node.add("ana")
    client = node.client()
    form = {"name": "ana", "password": PASSWORD, "next": text}
    assert (await client.post("/console/login", data=form)).headers["location"] == led_to


async def test_the_way_back(node: ConsoleNode) -> None:
    """Somebody who asks for a page without a login gets there after it."""
    await node.add("ana")
    client = node.client()
    answer = await client.get("/console/log", params={"level": "error"})
    assert answer.headers["location"] == "/console/login?next=%2Fconsole%2Flog%3Flevel%3Derror"
    page = (await client.get(answer.headers["location"])).text
    assert 'name="next" value="/console/log?level=error"' in page


async def test_a_login_counts_on_every_node(node: ConsoleNode, valkey: Valkey, database: str) -> None:
    """A login on one node is one on the others, and its end too; so are failures."""
    other = await ConsoleNode.start(valkey, database)
    try:
        visitor = await node.visitor("ana")
        cookie = {"cookie": f"{SESSION_COOKIE}={visitor.client.cookies[SESSION_COOKIE]}"}
        client = other.client()
        assert (await client.get("/console/tokens", headers=cookie)).status_code == 200
        await visitor.client.post("/console/logout", data={"_csrf": await visitor.csrf()})
        assert (await client.get("/console/tokens", headers=cookie)).status_code == 303
        for number in range(MAX_FAILURES):
            await Visitor((node, other)[number % 2].client(), "ana").log_in("wrong")
        assert (await Visitor(client, "ana").log_in()).status_code == 429
    finally:
        await other.close()
