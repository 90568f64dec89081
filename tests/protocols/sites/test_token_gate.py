"""The check of tokens without authUrl, and the admission of their clients. On a real Valkey, without a network."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from jwt.utils import base64url_encode
from structlog.testing import capture_logs

from app.config.settings import JwtIssuer, Site
from app.errors import AuthRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.token_gate import MOST_CHECKS_A_TURN, NO_KEYS, TokenGate
from app.protocols.sites.token_keys import KeySet, TokenKey, read_key_set
from app.protocols.sites.tokens import TokenRefused
from tests.protocols.sites.door import Door, received
from tests.support.issuer import (
    EC_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    TOKEN_SECRET,
    claims_of,
    jwk_of,
    jwks_of,
    pem_of,
    signed,
    token_of,
)
from tests.support.store import make_site

REFUSED = '44/alone,{"message":"Authentication failed"}'


class Sets:
    """The sets that the test gives, one after the other, when one does not suffice. Lives for one test."""

    def __init__(self, *bodies: bytes) -> None:
        self.left = [read_key_set(body) for body in bodies]
        self.reads = 0

    async def keys(self, site: Site, url: str, suffices: Callable[[KeySet], bool]) -> KeySet | None:
        """See `KeySource`."""
        if len(self.left) > 1 and not suffices(self.left[0]):
            self.left.pop(0)
            self.reads += 1
        return self.left[0] if self.left else None


def gate_of(*bodies: bytes) -> TokenGate:
    """A gate with these sets, whose counts are its own."""
    return TokenGate(Sets(*bodies), Counts())


def site_of(*issuers: JwtIssuer) -> Site:
    """A site with these issuers."""
    return make_site("shop", jwt=issuers)


def results(gate: TokenGate) -> dict[str, int]:
    """The counted results."""
    return dict(gate._counts.of("shop").part(SitesCounts).tokens)


SECRET = JwtIssuer(issuer=ISSUER, secrets=("old" * 20, TOKEN_SECRET))
SET = JwtIssuer(issuer=ISSUER, jwks="http://127.0.0.1/jwks")


async def test_the_issuer_decides() -> None:
    """A token is checked with the keys of its issuer alone; one of no issuer, and any other text, is for authUrl."""
    other = JwtIssuer(issuer="other", public_keys=(pem_of(RSA_KEY),))
    gate, site = gate_of(), site_of(SECRET, other)
    found = await gate.identify(site, token_of("8", "news"))
    assert found is not None
    assert (found.issuer, found.rooms) == (ISSUER, ["news", "user_8"])
    second = await gate.identify(site, signed(claims_of(iss="other"), RSA_KEY, "RS256"))
    assert second is not None
    assert second.issuer == "other"
    for token in (None, "", "12345", token_of(iss="third"), token_of(iss=["other"]), token_of(iss=5)):
        assert await gate.identify(site, token) is None
    assert await gate.identify(make_site(), token_of()) is None
    with pytest.raises(TokenRefused, match="no key of the issuer"):
        await gate.identify(site, signed(claims_of(), RSA_KEY, "RS256"))
    with pytest.raises(TokenRefused, match="no key of the issuer"):
        await gate.identify(site, token_of(iss="other"))
    assert results(gate) == {"accepted": 2, "invalid": 2}


async def test_forged_tokens() -> None:
    """The attacks on tokens: no signature, the public key as a secret, another key, a cut or changed signature, and a
    header with an extension."""
    issuer = JwtIssuer(issuer=ISSUER, public_keys=(pem_of(RSA_KEY),))
    gate, site = gate_of(), site_of(issuer)
    good = signed(claims_of(), RSA_KEY, "RS256")
    parts = good.split(".")
    confused = jwt_with_hmac(claims_of(), pem_of(RSA_KEY).encode())
    forged = [
        signed(claims_of(), None, "none"),
        confused,
        signed(claims_of(), OTHER_RSA_KEY, "RS256"),
        signed(claims_of(), TOKEN_SECRET),
        ".".join([*parts[:2], ""]),
        ".".join([*parts[:2], parts[2][:-8]]),
        ".".join([parts[0], signed(claims_of("9")).split(".")[1], parts[2]]),
        signed(claims_of(), RSA_KEY, "RS256", crit=["b64"], b64=True),
    ]
    for token in forged:
        with pytest.raises(TokenRefused):
            await gate.identify(site, token)
    assert await gate.identify(site, good) is not None
    assert results(gate) == {"accepted": 1, "invalid": len(forged)}


def jwt_with_hmac(claims: dict[str, Any], secret: bytes) -> str:
    """A token that is signed with a public key as its secret, which the library itself refuses to do."""
    head, _, _ = signed(claims, "x" * 64).rpartition(".")
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64url_encode(signature).decode()}"


async def test_keys_of_a_set() -> None:
    """A key that is not in the set has it read again; a token that names no key is tried with all, also with newer
    ones; without any set the client is told to come again."""
    old, new = jwks_of(jwk_of(RSA_KEY, "a")), jwks_of(jwk_of(EC_KEY, "b"), jwk_of(OTHER_RSA_KEY, "c"))
    gate, site = gate_of(old, new), site_of(SET)
    assert await gate.identify(site, signed(claims_of(), RSA_KEY, "RS256", kid="a"))
    assert await gate.identify(site, signed(claims_of(), EC_KEY, "ES256", kid="b"))
    assert await gate.identify(site, signed(claims_of(), OTHER_RSA_KEY, "RS256"))
    with pytest.raises(TokenRefused):
        await gate.identify(site, signed(claims_of(), RSA_KEY, "RS256", kid="a"))
    gate = gate_of(old, new)
    assert await gate.identify(site, signed(claims_of(), OTHER_RSA_KEY, "RS256"))
    gate = gate_of(old, new)
    for token in (signed(claims_of(), TOKEN_SECRET), signed(claims_of(), None, "none")):
        with pytest.raises(TokenRefused):
            await gate.identify(site, token)
    # A token that no set could have signed does not have one read: an unknown key of a rotation is not kept waiting.
    assert await gate.identify(site, signed(claims_of(), RSA_KEY, "RS256", kid="a"))
    empty = gate_of()
    with pytest.raises(AuthRefused, match=NO_KEYS):
        await empty.identify(site, signed(claims_of(), RSA_KEY, "RS256", kid="a"))
    assert results(empty) == {"no keys": 1}


async def test_expired_tokens_cost_no_check() -> None:
    """A token that has expired is refused before its key is looked for."""
    gate = gate_of()
    with pytest.raises(TokenRefused, match="expired"):
        await gate.identify(site_of(SET), signed(claims_of(seconds=-60), RSA_KEY, "RS256", kid="a"))
    assert results(gate) == {"expired": 1}


async def test_other_settings_have_other_keys() -> None:
    """When an operator changes the keys of a site, the next token is checked with the new ones."""
    gate, site = gate_of(), site_of(JwtIssuer(issuer=ISSUER, secrets=("old" * 20,)))
    with pytest.raises(TokenRefused):
        await gate.identify(site, token_of())
    assert await gate.identify(site_of(SECRET), token_of()) is not None
    gate.forget("shop")
    assert gate._configured == {}


async def test_a_flood_is_spread_over_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tokens at once are checked a few in a turn of the event loop, whichever keys they try."""
    gate, site, turn, turns = gate_of(), site_of(SECRET), 0, list[int]()
    verifies = TokenKey.verifies

    def noted(key: TokenKey, *args: Any) -> bool:
        turns.append(turn)
        return verifies(key, *args)

    monkeypatch.setattr(TokenKey, "verifies", noted)
    token = token_of()
    tasks = [asyncio.ensure_future(gate.identify(site, token)) for _ in range(100)]
    while not all(task.done() for task in tasks):
        turn += 1
        await asyncio.sleep(0)
    assert len(turns) == 200
    assert max(turns.count(one) for one in set(turns)) <= MOST_CHECKS_A_TURN


async def answers(door: Door, packet: str, count: int = 2, version: int = 4) -> Sequence[str]:
    """The server's packets to a new client."""
    client = await door.client(version)
    await client.send(packet.encode())
    return await received(client, count)


@pytest.mark.parametrize("version", [3, 4])
async def test_a_site_without_auth_url(door: Door, version: int) -> None:
    """A client with a token gets in, a client without a valid one is refused as for a 401, and the log has the reason
    without the token."""
    token = token_of("8", "news")
    connected, settings = await answers(door, f"40/alone?token={token}", version=version)
    assert connected.startswith("40/alone")
    assert "_settings" in settings
    expected = REFUSED if version == 4 else '44/alone,"Authentication failed"'
    with capture_logs() as lines:
        for wrong in (token_of(seconds=-99), token_of(iss="x"), "12345", token[:-3] + "AAA"):
            assert await answers(door, f"40/alone?token={wrong}", 1, version) == [expected]
        assert await answers(door, "40/alone", 1, version) == [expected]
    reasons = [line["reason"] for line in lines if line["event"] == "connect refused"]
    assert [reason.removeprefix("Authentication failed: ") for reason in reasons] == [
        "the token has expired",
        "there is no token of an issuer of this site",
        "there is no token of an issuer of this site",
        "no key of the issuer has made the signature of the token",
        "no token",
    ]
    assert token.split(".")[1][:20] not in str(lines)
    assert door.directory.asked == []


async def test_beside_auth_url(door: Door) -> None:
    """A token of the issuer is checked here, any other token by authUrl; a bad one of the issuer is not tried there."""
    await answers(door, f'40/beside,{{"token":"{token_of("8")}"}}')
    assert door.directory.asked == []
    await answers(door, '40/beside,{"token":"t"}')
    await answers(door, f'40/beside,{{"token":"{token_of(iss="x")}"}}')
    assert len(door.directory.asked) == 2
    (refusal,) = await answers(door, f'40/beside,{{"token":"{token_of(seconds=-99)}"}}', 1)
    assert refusal == '44/beside,{"message":"Authentication failed"}'
    assert len(door.directory.asked) == 2
    assert [one[1] for one in door.updates.reported] == ["8", "1", "1"]


async def test_the_checks_of_auth_url_count(door: Door) -> None:
    """A user needs a room of its own, and the claim for rooms has to be a list."""
    (refusal,) = await answers(door, f'40/alone,{{"token":"{token_of(None, "news")}"}}', 1)
    assert refusal == '44/alone,{"message":"User is missing a private room"}'
    (refusal,) = await answers(door, f'40/alone,{{"token":"{signed(claims_of() | {"rooms": 5})}"}}', 1)
    assert refusal == REFUSED
    connected, _ = await answers(door, f'40/open,{{"token":"{token_of(None, "news")}"}}')
    assert connected.startswith("40/open")
    (refusal,) = await answers(door, f'40/listed,{{"token":"{signed(claims_of(), RSA_KEY, "RS256")}"}}', 1)
    assert json.loads(refusal.partition(",")[2]) == {"message": NO_KEYS}
