"""SCRAM-SHA-256: the keys are those of PostgreSQL, the exchange that of RFC 7677, and nothing else raises."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.journal.database import open_database
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.scram import (
    Keys,
    ScramExchange,
    drawn_place,
    keys_of,
    login_key,
    login_of,
    login_text,
    made_up_keys,
)
from tests.support.postgres import Postgres

#: The example of RFC 7677, 3.
_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
_CLIENT_FIRST = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
_NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
_CLIENT_FINAL = f"c=biws,r={_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
_SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def keys_with(monkeypatch: pytest.MonkeyPatch, salt: bytes, password: str) -> Keys:
    """The keys of a password with a known salt."""
    monkeypatch.setattr("app.protocols.messenger.scram.secrets.token_bytes", lambda count: salt)
    return keys_of(password, 4096)


def test_the_example_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7677's example: the proof is right, and the server proves itself with the same bytes."""
    monkeypatch.setattr("scramp.core.token_hex", lambda: _NONCE.removeprefix("rOprNGfwEbeRWgbNEkqO"))
    exchange = ScramExchange("user", _CLIENT_FIRST, keys_with(monkeypatch, _SALT, "pencil"))
    assert exchange.server_first == f"r={_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.finish(_CLIENT_FINAL) == _SERVER_FINAL
    again = ScramExchange("user", _CLIENT_FIRST, keys_with(monkeypatch, _SALT, "pencil2"))
    assert again.finish(_CLIENT_FINAL) is None


async def test_the_keys_of_postgresql(monkeypatch: pytest.MonkeyPatch, shared_postgres: Postgres) -> None:
    """PostgreSQL makes the same keys of a password and a salt, also where SASLprep changes the password."""
    engine = open_database(shared_postgres.new_database())
    passwords = ["pencil", "\u2168 caf\u00e9", "a\u00a0b", "I\u00adX"]
    async with engine.begin() as sql:
        for number, password in enumerate(passwords):
            await sql.execute(text(f"CREATE ROLE chat_{number} PASSWORD '{password}'"))
            statement = text(f"SELECT rolpassword FROM pg_authid WHERE rolname = 'chat_{number}'")
            kept = (await sql.execute(statement)).scalar_one()
            found = re.fullmatch(r"SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):(.+)", kept)
            assert found
            salt, stored_key, server_key = map(base64.b64decode, found.groups())
            keys = keys_with(monkeypatch, salt, password)
            assert (keys.stored_key, keys.server_key) == (stored_key, server_key)
            await sql.execute(text(f"DROP ROLE chat_{number}"))
    await engine.dispose()


def proof_of(keys: Keys, client_key: bytes, first: str, server_first: str, without_proof: str) -> str:
    """The client's last message, for one who knows the client's key."""
    told = f"{first.removeprefix('n,,')},{server_first},{without_proof}".encode()
    signature = hmac.digest(keys.stored_key, told, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return f"{without_proof},p={base64.b64encode(proof).decode()}"


def test_made_up_keys() -> None:
    """Made-up keys are the same for a login, others for another one and at another site; their form is that of real
    keys, and they are made of no client's key that could be found."""
    keys, real = made_up_keys(b"s" * 32, "ann", 4096), keys_of("x", 4096)
    assert keys == made_up_keys(b"s" * 32, "ann", 4096)
    assert keys.salt != made_up_keys(b"s" * 32, "bob", 4096).salt
    assert keys.salt != made_up_keys(b"t" * 32, "ann", 4096).salt
    assert [len(part) for part in (keys.salt, keys.stored_key, keys.server_key)] == [16, 32, 32]
    assert [len(part) for part in (real.salt, real.stored_key, real.server_key)] == [16, 32, 32]
    for guess in (b"\0" * 32, keys.stored_key, hashlib.sha256(keys.salt).digest()):
        again = ScramExchange("ann", "n,,n=ann,r=abc", keys)
        nonce = again.server_first.split(",")[0]
        final = proof_of(keys, guess, "n,,n=ann,r=abc", again.server_first, f"c=biws,{nonce}")
        assert again.finish(final) is None


def test_the_secret_is_not_shown() -> None:
    """The repr of keys has none of their bytes."""
    assert repr(keys_of("x", 4096)) == "Keys(iterations=4096)"


@pytest.mark.parametrize("login", ["", " ", "a" * 65, "a\x07b", "\u200b", "\u0627a"])
def test_logins_that_nobody_has(login: str) -> None:
    """A login without characters, with too many, or with some that SASLprep refuses."""
    with pytest.raises(ChatRefusal):
        login_text(login)


def test_logins() -> None:
    """A login is shown as it was given, in NFC, and compared without case."""
    assert login_text("Jo\u0308rg M\u00fcller") == "J\u00f6rg M\u00fcller"
    assert login_key(login_text("STRASSE")) == login_key(login_text("stra\u00dfe"))
    assert login_of("n,,n=a=2Cb=3Dc,r=x") == "a,b=c"


@given(st.text(max_size=60))
def test_any_first_message(message: str) -> None:
    """Any text as the first message names a login in its form, or is refused."""
    for first in (message, f"n,,n={message},r=abc", f"n,,n=ann,r={message}"):
        try:
            login = login_of(first)
        except ChatRefusal:
            continue
        assert unicodedata.is_normalized("NFC", login)
        assert 1 <= len(login) <= 64


@given(st.text(max_size=80))
def test_any_last_message(message: str) -> None:
    """Any text as the proof is wrong."""
    keys = made_up_keys(b"s" * 32, "ann", 4096)
    exchange = ScramExchange("ann", "n,,n=ann,r=abc", keys)
    nonce = exchange.server_first.split(",")[0]
    assert exchange.finish(message) is None
    assert ScramExchange("ann", "n,,n=ann,r=abc", keys).finish(f"c=biws,{nonce},p={message}") is None


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_places_are_drawn_with_equal_chances(count: int) -> None:
    """Each place is drawn by as many logins as every other one, within what chance makes of it; none is beyond."""
    logins = 400 * count
    drawn = Counter(drawn_place(b"secret", f"login {number}", count) for number in range(logins))
    assert set(drawn) == set(range(1, count + 1))
    # Five and a half deviations of a share.
    assert all(abs(found - 400) < 110 for found in drawn.values())


def test_a_place_is_kept() -> None:
    """A login draws the same place each time; with one place more a share of the logins moves, and only to the new one.
    Another secret draws others. Without places nothing is drawn."""
    logins = [f"login {number}" for number in range(2_000)]
    before = [drawn_place(b"secret", login, 9) for login in logins]
    assert before == [drawn_place(b"secret", login, 9) for login in logins]
    after = [drawn_place(b"secret", login, 10) for login in logins]
    moved = [place for place, kept in zip(after, before, strict=True) if place != kept]
    assert set(moved) == {10}
    assert 130 < len(moved) < 270
    assert before != [drawn_place(b"other", login, 9) for login in logins]
    assert drawn_place(b"secret", "login", 0) == 0
