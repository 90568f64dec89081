"""Imported forms of passwords: one proof counts for each attempt, and no answer tells whose password was imported."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.journal_accounts import JournalAccounts
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_sites
from app.protocols.messenger.journal_users import NewUser, add_user, set_password
from app.protocols.messenger.login_ports import Candidate, LoginAttempt
from app.protocols.messenger.scram import ScramExchange, keys_of
from tests.support.chat import ITERATIONS, Scram

FORM, FORMED = "old", "the form of a password"


def attempt_of(scheme: str, password: str) -> tuple[LoginAttempt, Scram]:
    """An attempt at a user with keys of this scheme, and the client, which has a password."""
    own = Scram("ann", password)
    keys = keys_of(FORMED if scheme == FORM else "secret", ITERATIONS)
    user = ChatUser(id=1, login="ann", name="", sign="", icon="", is_admin=False, is_disabled=False, must_change=False)
    candidate = Candidate(user, keys, False, scheme)
    return LoginAttempt("ann", ScramExchange("ann", own.first, keys), candidate, [FORM]), own


@pytest.mark.parametrize(
    ("scheme", "password", "is_right"),
    [("scram", "secret", True), ("scram", "wrong", False), (FORM, FORMED, True), (FORM, "wrong", False)],
)
def test_a_client_of_one_form(scheme: str, password: str, is_right: bool) -> None:
    """A client that sends one proof alone logs in with the password, or with the form that it has made itself."""
    attempt, own = attempt_of(scheme, password)
    answer = attempt.finish({"scram": own.final(attempt.exchange.server_first)})
    assert (answer is not None) == is_right


@pytest.mark.parametrize("scheme", ["scram", FORM])
def test_an_attempt_is_one_guess(scheme: str) -> None:
    """Of two proofs that of the user's form counts: a second guess in the other place is not looked at."""
    attempt, right = attempt_of(scheme, "secret" if scheme == "scram" else FORMED)
    final = right.final(attempt.exchange.server_first)
    other = FORM if scheme == "scram" else "scram"
    assert attempt.finish({other: final, scheme: final[:-8] + "AAAAAAA="}) is None


async def test_what_a_site_tells(sql: ChatSql, site: Site) -> None:
    """The forms are those of the site, whoever asks; another password of a user is in no imported form."""
    accounts = JournalAccounts(sql)
    assert (await accounts.facts_of(site, "bob", "10.0.0.1")).forms == []
    keys: Any = keys_of("x", ITERATIONS)
    async with sql.writing(site) as (connection, site_id):
        await connection.execute(update(chat_sites).where(chat_sites.c.site_id == site_id).values(forms=FORM))
        ann = await add_user(connection, site_id, NewUser(login="ann", keys=keys, scheme=FORM), "test")
        with pytest.raises(ChatRefusal):
            await add_user(connection, site_id, NewUser(login="ANN", keys=keys), "test")
    assert (await accounts.facts_of(site, "bob", "10.0.0.1")).forms == [FORM]
    before = (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate
    async with sql.writing(site) as (connection, site_id):
        await set_password(connection, site_id, ann.id, keys, must_change=False)
    after = (await accounts.facts_of(site, "ann", "10.0.0.1")).candidate
    assert before is not None
    assert after is not None
    assert (before.scheme, after.scheme) == (FORM, "scram")
