"""Nobody learns which logins there are: a login that nobody has, one without a password, a disabled user and a wrong
password have the same answers after the same work, which is counted, not timed."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import event, select, update

from app.config.settings import Site
from app.observe.counts import Counts
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.journal_accounts import JournalAccounts
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_sites, chat_users
from app.protocols.messenger.journal_users import NewUser, add_user, set_password, update_user
from app.protocols.messenger.login_ports import Judgement
from app.protocols.messenger.logins import Logins
from app.protocols.messenger.scram import OWN_SCHEME, Keys, keys_of
from app.protocols.messenger.settings import Messenger
from tests.support.chat import ITERATIONS, Scram

KEYS = Keys(bytes(16), ITERATIONS, b"k" * 32, b"v" * 32)
LOGINS = ("here", "nobody", "disabled", "keyless", "Another Nobody")


class Throttle:
    """A throttle that lets everyone in, and keeps what it is asked. Implements `LoginThrottle`."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.asked: list[tuple[Any, ...]] = []

    async def judge(
        self, site: Site, key: str, address: str, *, is_known: bool, is_right: bool | None = None
    ) -> tuple[Judgement, int]:
        """Keep the question, without the login."""
        self.asked.append((site.name, address, is_known, is_right))
        return Judgement.FREE, 0


class Work:
    """The work of one login. Lives for it."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.statements: list[str] = []
        self.hashes: Counter[str] = Counter()

    def note_statement(self, *args: Any) -> None:
        """SQLAlchemy calls this with each statement."""
        self.statements.append(args[2])

    def note_call(self, frame: Any, kind: str, called: Any) -> None:
        """Python calls this with each call."""
        if kind == "c_call" and getattr(called, "__module__", "") in ("_hashlib", "_sha2", "_sha256", "_operator"):
            self.hashes[called.__name__] += 1


@contextlib.contextmanager
def counted(sql: ChatSql) -> Iterator[Work]:
    """Count the statements and the hashes of a block."""
    work, engines = Work(), (sql._reader.sync_engine, sql._writer.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", work.note_statement)
    sys.setprofile(work.note_call)
    try:
        yield work
    finally:
        sys.setprofile(None)
        for engine in engines:
            event.remove(engine, "before_cursor_execute", work.note_statement)


@pytest.fixture
async def full_site(sql: ChatSql, site: Site) -> Site:
    """A site with users of each kind."""
    async with sql.writing(site) as (connection, site_id):
        made = {}
        for login in ("here", "disabled", "keyless"):
            keys = None if login == "keyless" else keys_of("right", ITERATIONS)
            made[login] = (await add_user(connection, site_id, NewUser(login=login, keys=keys), "test")).id
        await update_user(connection, site_id, made["disabled"], {"is_disabled": True}, "test")
    return site


def caller_at(site: Site) -> ChatCaller:
    """A client at a site."""

    class Link:
        log_name = "c"

    return ChatCaller(site, Link(), "10.0.0.1", "d1")  # type: ignore[arg-type]


async def tried(sql: ChatSql, site: Site, login: str, password: str) -> tuple[Any, ...]:
    """The outcome of a login, with its work: all that a client or its clock may learn."""
    throttle, counts = Throttle(), Counts([site.name])
    logins, caller = Logins(JournalAccounts(sql), throttle, counts), caller_at(site)
    scram = Scram(login, password)
    with counted(sql) as work:
        attempt = await logins.begin(caller, scram.first)
        final = scram.final(attempt.exchange.server_first)
        with pytest.raises(ChatRefusal) as refused:
            await logins.prove(caller, attempt, {OWN_SCHEME: final})
    _, salt, iterations = attempt.exchange.server_first.split(",")
    shape = (len(attempt.exchange.server_first), len(salt), iterations)
    return refused.value.answer, shape, work.statements, work.hashes, throttle.asked


async def test_the_same_answers_after_the_same_work(sql: ChatSql, full_site: Site) -> None:
    """Each of these logins fails with the same answer, after the same statements and questions to the throttle and as
    many hashes. The right password of a disabled user, and any of a user without one, are wrong ones."""
    await tried(sql, full_site, "warm", "up")
    found = [await tried(sql, full_site, login, "wrong") for login in LOGINS]
    found.append(await tried(sql, full_site, "disabled", "right"))
    assert found[0][0]["error"]["code"] == "wrong_login"
    assert found[0][2]
    assert found[0][3]
    for one in found[1:]:
        assert one == found[0]


async def test_the_salt_of_a_login_stays(sql: ChatSql, full_site: Site, database_url: str) -> None:
    """The salt that a login gets is the same each time, on every node and however it is written; each login and each
    site has another one."""
    other = ChatSql.open(database_url)
    try:
        salts: dict[str, set[str]] = {}
        for login in (*LOGINS, "NOBODY", "noBODY"):
            for store in (sql, other, sql):
                logins = Logins(JournalAccounts(store), Throttle(), Counts([full_site.name]))
                attempt = await logins.begin(caller_at(full_site), Scram(login, "x").first)
                salts.setdefault(login.casefold(), set()).add(attempt.exchange.server_first.split(",")[1])
        assert [len(one) for one in salts.values()] == [1] * len(LOGINS)
        assert len(set.union(*salts.values())) == len(LOGINS)
        elsewhere = structs.replace(full_site, name="elsewhere")
        logins = Logins(JournalAccounts(sql), Throttle(), Counts(["elsewhere"]))
        attempt = await logins.begin(caller_at(elsewhere), Scram("nobody", "x").first)
        assert attempt.exchange.server_first.split(",")[1] not in salts["nobody"]
        assert len(base64.b64decode(attempt.exchange.server_first.split(",")[1][2:])) == 16
    finally:
        await other.close()


async def shown(sql: ChatSql, site: Site, logins: Sequence[str]) -> dict[str, tuple[bytes, int]]:
    """The salt and the iterations that a stranger gets for each login."""
    accounts, found = JournalAccounts(sql), {}
    for login in logins:
        keys = (await accounts.facts_of(site, login, "10.0.0.1")).keys
        found[login] = (keys.salt, keys.iterations)
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The logins whose answers differ."""
    return {login for login, answer in after.items() if answer != before[login]}


STRANGERS = [f"stranger {number}" for number in range(240)]
RARE, USUAL, OTHER = 1_000_000, 4_096, 12_345


async def test_iterations_tell_nobody(sql: ChatSql, site: Site) -> None:
    """Logins that nobody has show the iterations of users in the share in which users have them, a rare value included.
    They stay, and a share changes when users do: after another password or a new user they show what that user has. No
    salt changes, also not of a user who is disabled."""
    made = {}
    async with sql.writing(site) as (connection, site_id):
        # The draws follow from the secret: the shares are the same in each run of this test.
        await connection.execute(update(chat_sites).where(chat_sites.c.site_id == site_id).values(secret=b"s" * 32))
        for number in range(8):
            keys = structs.replace(KEYS, iterations=RARE if number == 3 else USUAL)
            made[number] = (await add_user(connection, site_id, NewUser(login=f"user {number}", keys=keys), "test")).id
        await add_user(connection, site_id, NewUser(login="keyless", keys=None), "test")
    sql = ChatSql(sql._reader, sql._writer)
    first = await shown(sql, site, STRANGERS)
    shares = Counter(iterations for _, iterations in first.values())
    assert set(shares) == {RARE, USUAL}
    # A user of eight, within three deviations.
    assert 15 <= shares[RARE] <= 45
    assert await shown(sql, site, STRANGERS) == first
    async with sql.writing(site) as (connection, site_id):
        keys = structs.replace(KEYS, iterations=OTHER)
        await set_password(connection, site_id, made[3], keys, must_change=False)
    second = await shown(sql, site, STRANGERS)
    assert changed(first, second) == {login for login, (_, iterations) in first.items() if iterations == RARE}
    assert {second[login][1] for login in changed(first, second)} == {OTHER}
    async with sql.writing(site) as (connection, site_id):
        keys = structs.replace(KEYS, iterations=RARE)
        await add_user(connection, site_id, NewUser(login="user 8", keys=keys), "test")
    third = await shown(sql, site, STRANGERS)
    assert {third[login][1] for login in changed(second, third)} == {RARE}
    assert 10 <= len(changed(second, third)) <= 45
    before = await shown(sql, site, ["user 8", "user 1"])
    async with sql.writing(site) as (connection, site_id):
        await update_user(connection, site_id, made[1], {"is_disabled": True}, "test")
    assert await shown(sql, site, ["user 8", "user 1"]) == before
    assert await shown(sql, site, STRANGERS) == third
    assert [third[login][0] for login in STRANGERS] == [first[login][0] for login in STRANGERS]


async def test_a_first_password_later(sql: ChatSql, site: Site) -> None:
    """A user whose first password is set later counts from then on. Before there is one, the setting is shown."""
    async with sql.writing(site) as (connection, site_id):
        ann = await add_user(connection, site_id, NewUser(login="ann", keys=None), "test")
    assert (await shown(sql, site, ["nobody"]))["nobody"][1] == ITERATIONS
    async with sql.writing(site) as (connection, site_id):
        for iterations in (OTHER, RARE):
            keys = structs.replace(KEYS, iterations=iterations)
            await set_password(connection, site_id, ann.id, keys, must_change=False)
        numbers = (await connection.execute(select(chat_users.c.keyed).where(chat_users.c.id == ann.id))).scalars()
        assert numbers.all() == [1]
    assert (await shown(sql, site, ["nobody"]))["nobody"][1] == RARE


def test_iterations_of_this_file(site: Site) -> None:
    """Users of these tests have the iterations of their site, as those have whose passwords the server has made."""
    assert site.require_section(Messenger).iterations == ITERATIONS
