"""The parts and claims of tokens that a site checks by itself."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from app.config.settings import JwtIssuer
from app.protocols.sites.tokens import MAX_TOKEN_BYTES, TokenIdentity, TokenRefused, judge, read_token
from tests.support.issuer import ISSUER, claims_of, signed, token_of
from tests.support.store import make_site

NOW_MS = 1_800_000_000_000
NOW = NOW_MS // 1000
SITE = make_site("shop", public_channel="public")
PLAIN = make_site("plain", user_room_prefix=None)
SOME = JwtIssuer(issuer=ISSUER, secrets=("s",))


def judged(issuer: JwtIssuer = SOME, site: Any = SITE, **claims: Any) -> TokenIdentity:
    """The client of a token with these claims, which is valid for 60 s."""
    return judge(site, issuer, {"sub": "8", "exp": NOW + 60, **claims}, NOW_MS)


def reason(issuer: JwtIssuer = SOME, **claims: Any) -> str:
    """The reason of a refusal, with its result."""
    with pytest.raises(TokenRefused) as refusal:
        judged(issuer, **claims)
    return f"{refusal.value.result}: {refusal.value}"


def part(value: object) -> str:
    """A part of a token."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def test_the_parts_of_a_token() -> None:
    """A token is taken apart into header, claims and signature; neither repr shows anything of them."""
    token = signed(claims_of("8", "news"), kid="k1")
    read = read_token(token)
    assert read is not None
    assert (read.header.alg, read.header.kid, read.issuer) == ("HS256", "k1", ISSUER)
    assert read.claims["rooms"] == ["news"]
    assert read.signed + b"." == token[: token.rindex(".") + 1].encode()
    assert "news" not in repr(read)


HEAD = part({"alg": "HS256"})


@pytest.mark.parametrize(
    "text",
    [
        *("", "12345", "a.b", "a.b.c.d", ".."),
        f"{HEAD}.{part([])}.x",
        f"{part({})}.{part({})}.x",
        f"{part({'alg': 5})}.{part({})}.x",
        f"{HEAD}.{part(b'[' * 4_000)}.x",
        *(f"{HEAD}.{part(one)}.x" for one in (b'{"a":' * 1_000, b"\xff", b'{"a":"\\ud800"}')),
        f"{HEAD}=.{part({})}.x",
        f"{HEAD}.{part({})}.+/",
        f"{HEAD}.{part({})}.ä",
        f"{HEAD}.{part({'a': 'x' * MAX_TOKEN_BYTES})}.x",
    ],
)
def test_texts_that_are_no_tokens(text: str) -> None:
    """Any other text is no token, whatever is in it, and nothing is raised."""
    assert read_token(text) is None


def test_rooms_and_user() -> None:
    """The rooms are those of their claim, and the user room that of the user's, where no room of the token is one."""
    assert judged(rooms=["news", 5]).rooms == ["news", "5", "user_8"]
    assert judged().rooms == ["user_8"]
    assert judged(sub=8, rooms="news").rooms == ["news", "user_8"]
    assert judged(rooms=["user_3", "public", "user_3"]).rooms == ["user_3", "public"]
    assert judged(rooms=["public"]).rooms == ["public", "user_8"]
    assert judged(sub=None, rooms=["news"]).rooms == judged(sub=["8"], rooms=["news"]).rooms == ["news"]
    assert judged(sub=True).rooms == judged(sub="").rooms == []
    assert judged(site=PLAIN, rooms=["news"]).rooms == ["news"]
    assert judged(sub=8).user == "8"


def test_other_claims() -> None:
    """The claims may have other names, also of a field within a claim; the whole name comes first."""
    issuer = JwtIssuer(issuer=ISSUER, rooms_claim="realm.roles", user_claim="uid")
    assert judged(issuer, uid="3", realm={"roles": ["a"]}).rooms == ["a", "user_3"]
    assert judged(issuer, **{"realm.roles": ["b"], "realm": {"roles": ["a"]}}).rooms == ["b"]
    assert judged(issuer, realm=["roles"]).rooms == []


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": None}, "incomplete: the token has no time of expiry (exp)"),
        ({"exp": "soon"}, "malformed: expected a number of seconds in the claim exp"),
        ({"exp": True}, "malformed: expected a number of seconds in the claim exp"),
        ({"exp": NOW - 10}, "expired: the token has expired"),
        ({"exp": -(10**300)}, "expired: the token has expired"),
        ({"nbf": NOW + 11}, "early: the token is of a later time (nbf)"),
        ({"iat": 10**300}, "early: the token is of a later time (iat)"),
        ({"aud": "other"}, "foreign: the token names an audience (aud), and the site's settings none"),
        ({"rooms": {"a": 1}}, "malformed: expected an array of rooms in the claim rooms"),
        ({"rooms": [["a"]]}, "malformed: expected an array of rooms in the claim rooms"),
        (
            {"rooms": ["r"] + [f"{n}" for n in range(10_000)]},
            "malformed: expected at most 10000 rooms of 1000 bytes each",
        ),
        ({"sub": "ä" * 600}, "malformed: expected at most 10000 rooms of 1000 bytes each"),
    ],
)
def test_claims_that_do_not_count(claims: dict[str, Any], expected: str) -> None:
    """Each has its reason, and no reason shows a part of the token."""
    assert reason(**claims) == expected


def test_audiences() -> None:
    """A token names one of the site's audiences, alone or in a list."""
    issuer = JwtIssuer(issuer=ISSUER, audience=("push", "all"))
    assert judged(issuer, aud="push").user == judged(issuer, aud=["x", "all"]).user == "8"
    for audience in (None, "x", [], ["x"], 5, {"push": 1}):
        assert reason(issuer, aud=audience) == "foreign: the token is for another audience (aud)"


def test_leeway() -> None:
    """The clocks may be apart by the leeway: the token ends so much later."""
    issuer = JwtIssuer(issuer=ISSUER, leeway_seconds=30)
    identity = judged(issuer, exp=NOW - 29.5, nbf=NOW + 30, iat=NOW + 30)
    assert (identity.expires_at_ms, identity.ends_at_ms) == (NOW_MS - 29_500, NOW_MS + 500)
    assert reason(issuer, exp=NOW - 30).startswith("expired")
    assert judged(exp=10**300).ends_at_ms == 253_402_300_799_000 + 10_000


def test_the_same_user() -> None:
    """Another token is of the same user with the same issuer, name and user rooms, whatever the other rooms."""
    first = judged(rooms=["a"])
    assert judged(rooms=["b", "c"]).is_same_user(SITE, first)
    assert not judged(sub="9", rooms=["a"]).is_same_user(SITE, first)
    assert not judged(rooms=["user_9"]).is_same_user(SITE, first)
    assert not judged(JwtIssuer(issuer="another"), rooms=["a"]).is_same_user(SITE, first)


def test_a_token_of_the_support_module() -> None:
    """The tests' own tokens are read."""
    read = read_token(token_of("8"))
    assert read is not None
    assert judge(SITE, SOME, read.claims, int(read.claims["iat"]) * 1000).user == "8"
