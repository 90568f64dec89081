"""Accounts in both databases: who may log in, sessions and their ends, devices and networks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import func, select

from app.config.settings import Site
from app.protocols.messenger import journal_accounts, journal_machines
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.caller import ChatCaller, ChatUser, ClientApp
from app.protocols.messenger.journal_accounts import JournalAccounts
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_devices, chat_networks, chat_sessions
from app.protocols.messenger.journal_users import NewUser, add_user, set_password, update_user
from app.protocols.messenger.login_ports import Entered
from app.protocols.messenger.scram import keys_of

KEYS = keys_of("x", 4096)


async def new_user(sql: ChatSql, site: Site, login: str = "ann") -> ChatUser:
    """A user."""
    async with sql.writing(site) as (connection, site_id):
        return await add_user(connection, site_id, NewUser(login=login, keys=KEYS), "test")


def caller_at(site: Site, device: str = "d1", app: ClientApp | None = None) -> ChatCaller:
    """A client at a site."""
    caller = ChatCaller(site, None, "10.0.0.1", device)  # type: ignore[arg-type]
    caller.app = app
    return caller


async def entered(
    sql: ChatSql, site: Site, token: bytes, device: str = "d1", network: str = "10.0.0.1", app: ClientApp | None = None
) -> Entered:
    """A login of ann."""
    accounts = JournalAccounts(sql)
    candidate = (await accounts.facts_of(site, "ann", network)).candidate
    assert candidate is not None
    found = await accounts.enter(caller_at(site, device, app), candidate, token, network)
    assert found is not None
    return found


async def counted(sql: ChatSql, site: Site, table: Any) -> int:
    """The rows of a table."""
    async with sql.reading(site) as (connection, _):
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def test_who_may_log_in(sql: ChatSql, site: Site) -> None:
    """A user is found by the compared login, at its own site, until it is disabled."""
    user = await new_user(sql, site, "Ann")
    accounts = JournalAccounts(sql)
    candidate = (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate
    assert candidate is not None
    assert (candidate.user, candidate.keys, candidate.is_known) == (user, KEYS, False)
    assert (await accounts.facts_of(site, "bob", "10.0.0.1")).candidate is None
    assert (await accounts.facts_of(structs.replace(site, name="other"), "ann", "10.0.0.1")).candidate is None
    async with sql.writing(site) as (connection, site_id):
        await update_user(connection, site_id, user.id, {"is_disabled": True}, "test")
    assert (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate is None


async def test_a_taken_login(sql: ChatSql, site: Site) -> None:
    """No second user of a site has the same login in another case; another site may have it."""
    await new_user(sql, site)
    with pytest.raises(ChatRefusal):
        await new_user(sql, site, "ANN")
    await new_user(sql, Site(name="other", api_key="k"), "ANN")


async def test_a_session(sql: ChatSql, site: Site) -> None:
    """A login begins a session, which its device alone takes up again; it knows the user from this network from then
    on."""
    await new_user(sql, site)
    first = await entered(sql, site, b"t1", app=ClientApp("notes"))
    accounts = JournalAccounts(sql)
    again = await accounts.resume(caller_at(site, app=ClientApp("notes")), b"t1")
    assert again == first
    assert first.rooms == ["user_1"]
    assert await accounts.resume(caller_at(site, "d2"), b"t1") is None
    assert await accounts.resume(caller_at(Site(name="other", api_key="k")), b"t1") is None
    assert await accounts.resume(caller_at(site), b"t2") is None
    candidate = (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate
    assert candidate is not None
    assert candidate.is_known
    newer = await accounts.resume(caller_at(site, app=ClientApp("notes", version="2")), b"t1")
    assert newer is not None
    assert newer.app_id != first.app_id


async def test_the_end_of_a_session(sql: ChatSql, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session ends after its time, by another password, and when its user is disabled."""
    user = await new_user(sql, site)
    accounts = JournalAccounts(sql)
    for number, end in enumerate(("time", "password", "disabled")):
        token = f"t{number}".encode()
        found = await entered(sql, site, token)
        assert await accounts.living(site, [token, b"?"]) == {token}
        with monkeypatch.context() as patch:
            if end == "time":
                patch.setattr(journal_accounts, "now_ms", lambda at=found.expires_at: at)
            async with sql.writing(site) as (connection, site_id):
                if end == "password":
                    await set_password(connection, site_id, user.id, KEYS, must_change=False)
                elif end == "disabled":
                    await update_user(connection, site_id, user.id, {"is_disabled": True}, "test")
            assert await accounts.living(site, [token]) == set(), end
            assert await accounts.resume(caller_at(site), token) is None, end


async def test_a_user_who_changes_during_the_login(sql: ChatSql, site: Site) -> None:
    """No session begins for a proof of a password that was changed before, or for a user who was disabled."""
    user = await new_user(sql, site)
    accounts = JournalAccounts(sql)
    candidate = (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate
    assert candidate is not None
    async with sql.writing(site) as (connection, site_id):
        await set_password(connection, site_id, user.id, keys_of("y", 4096), must_change=True)
    assert await accounts.enter(caller_at(site), candidate, b"t", "10.0.0.1") is None


async def test_a_renewed_session(sql: ChatSql, site: Site) -> None:
    """A new session stands beside the old one, for the same device; of a void one none is made."""
    await new_user(sql, site)
    found = await entered(sql, site, b"t1")
    accounts, caller = JournalAccounts(sql), caller_at(site)
    caller.session = b"t1"
    ends = await accounts.renew(caller, b"t2")
    assert ends is not None
    assert ends >= found.expires_at
    assert await accounts.living(site, [b"t1", b"t2"]) == {b"t1", b"t2"}
    caller.session = b"void"
    assert await accounts.renew(caller, b"t3") is None


async def test_bounded_lists(sql: ChatSql, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many sessions, devices and networks of a user the oldest go."""
    for name in ("MAX_SESSIONS_OF_USER", "MAX_NETWORKS_OF_USER"):
        monkeypatch.setattr(journal_accounts, name, 3)
    monkeypatch.setattr(journal_machines, "MAX_DEVICES_OF_USER", 3)
    times = iter(range(1_000, 2_000))
    for module in (journal_accounts, journal_machines):
        monkeypatch.setattr(module, "now_ms", lambda: next(times))
    await new_user(sql, site)
    for number in range(6):
        await entered(sql, site, b"t%d" % number, f"d{number}", f"10.0.0.{number}")
    accounts = JournalAccounts(sql)
    assert await accounts.living(site, [b"t%d" % number for number in range(6)]) == {b"t3", b"t4", b"t5"}
    assert [await counted(sql, site, table) for table in (chat_sessions, chat_devices, chat_networks)] == [3, 3, 3]


async def test_the_secret_of_a_site(database_url: str, sql: ChatSql, site: Site) -> None:
    """Every node has the same secret of a site, whichever asks first; another site has another."""
    other = ChatSql.open(database_url)
    try:
        found = await asyncio.gather(*(one.secret_of(site) for one in (sql, other, sql, other)))
        assert len({*found}) == 1
        assert len(found[0]) == 32
        assert await sql.secret_of(Site(name="other", api_key="k")) != found[0]
    finally:
        await other.close()
