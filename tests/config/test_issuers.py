"""The section `jwt` of a site: its issuers, its mistakes, and the warnings about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.advice import warnings_of
from app.config.issuers import MOST_ISSUERS, MOST_KEYS_OF_ISSUER
from app.config.settings import Config, JwtIssuer
from app.errors import ConfigError
from tests.support.configuration import load_config
from tests.support.issuer import EC_KEY, RSA_KEY, pem_of

SECRET = "k" * 40
_KINDS = "expected one of secret, public_key and jwks"
_URL = "expected a URL that begins with http:// or https://, without user name"
SOME: dict[str, Any] = {"issuer": "a", "secret": SECRET}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the files are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, jwt: Any, **more: str) -> Config:
    """The settings of a site with this section."""
    site = {"apiKey": "k" * 40, "userRoomPrefix": "user_", "jwt": jwt}
    (folder / "sites.yml").write_text(yaml.safe_dump({"shop": site}))
    return load_config(None, None, more)


def issuers(folder: Path, jwt: Any, **more: str) -> tuple[JwtIssuer, ...]:
    """The issuers of the site."""
    return read(folder, jwt, **more).sites["shop"].jwt


def mistakes(folder: Path, jwt: Any) -> list[str]:
    """The lines for the mistakes, without the place of the site."""
    with pytest.raises(ConfigError) as caught:
        read(folder, jwt)
    return [line.replace("sites.yml: shop.", "") for line in caught.value.mistakes]


def test_one_issuer_and_several(folder: Path) -> None:
    """A mapping is one issuer, a list several; texts that may be lists become some. Their repr has no secret."""
    (one,) = issuers(folder, SOME)
    assert one == JwtIssuer(issuer="a", secrets=(SECRET,))
    assert SECRET not in repr(one)
    several = [
        {"issuer": "a", "secret": [SECRET, SECRET + "2"], "audience": "push", "leeway": 0},
        {"issuer": "b", "public_key": pem_of(RSA_KEY), "rooms_claim": "r", "user_claim": "u"},
        {"issuer": "c", "jwks": "https://c.example.com/keys", "audience": ["x", "y"]},
    ]
    first, second, third = issuers(folder, several)
    assert (first.secrets, first.audience, first.leeway_seconds) == ((SECRET, SECRET + "2"), ("push",), 0)
    assert (second.public_keys, second.rooms_claim, second.user_claim) == ((pem_of(RSA_KEY),), "r", "u")
    assert (third.jwks, third.audience) == ("https://c.example.com/keys", ("x", "y"))


def test_references(folder: Path) -> None:
    """Secrets and keys come from the environment and from files, also within lists."""
    (folder / "key.pem").write_text(pem_of(EC_KEY))
    jwt = [{"issuer": "a", "secret": ["${NEW}", SECRET]}, {"issuer": "b", "public_key": "file:key.pem"}]
    first, second = issuers(folder, jwt, NEW="n" * 40)
    assert first.secrets == ("n" * 40, SECRET)
    assert second.public_keys == (pem_of(EC_KEY).removesuffix("\n"),)


@pytest.mark.parametrize(
    ("jwt", "expected"),
    [
        ({"issuer": "a"}, [f"jwt: {_KINDS}"]),
        ({**SOME, "jwks": "https://x"}, [f"jwt: {_KINDS}, got secret and jwks"]),
        ({**SOME, "secret": ""}, ["jwt.secret: expected text that is not empty"]),
        ({**SOME, "secret": [""]}, ["jwt.secret: expected text that is not empty"]),
        ({**SOME, "secret": []}, [f"jwt: {_KINDS}"]),
        ({**SOME, "secret": [f"{n}" for n in range(MOST_KEYS_OF_ISSUER + 1)]}, ["jwt.secret: expected at most 5"]),
        ({**SOME, "secret": pem_of(RSA_KEY)}, ["jwt.secret: expected a secret, a key in PEM is a public_key"]),
        ({**SOME, "leeway": 301}, ["jwt.leeway: expected a number <= 300.0"]),
        ({"issuer": "a", "jwks": "ftp://x"}, [f"jwt.jwks: {_URL}"]),
        ([SOME, {"isuer": "b", "secret": SECRET}], ["jwt[1].isuer: unknown key, did you mean issuer?"]),
        ([SOME, SOME], ["jwt[1].issuer: expected another one, 'a' stands twice"]),
        ([{**SOME, "issuer": f"{n}"} for n in range(MOST_ISSUERS + 1)], ["jwt: expected at most 8 issuers"]),
        ([SOME, 5], ["jwt[1]: expected a mapping, got a whole number"]),
        (5, ["jwt: expected a list, got a whole number"]),
    ],
)
def test_mistakes(folder: Path, jwt: Any, expected: list[str]) -> None:
    """Each is named with its place."""
    assert mistakes(folder, jwt) == expected


def test_keys_that_cannot_be_read(folder: Path) -> None:
    """A public key that is none is named at the start, and no part of it is shown."""
    jwt = {"issuer": "a", "public_key": pem_of(RSA_KEY).replace("MII", "XXX")}
    (line,) = mistakes(folder, jwt)
    assert line.startswith("site 'shop': jwt, issuer 'a': public_key: expected a public key or a certificate in PEM")


def test_a_site_needs_one_way_in(folder: Path) -> None:
    """An empty list is no issuer: the line says what may stand there."""
    (line,) = mistakes(folder, [])
    assert "authUrl is missing, expected a URL that begins with http:// or https://, `jwt`, or a section" in line


def test_warnings(folder: Path) -> None:
    """check-config warns of short secrets, of those of the documentation, and of issuers whose tokens are for all."""
    jwt = [
        {"issuer": "a", "secret": "short-of-32-bytes"},
        {"issuer": "b", "secret": "put-32-or-more-random-bytes-of-your-own-here"},
        {"issuer": "c", "jwks": "http://c.example.com/keys"},
        {"issuer": "d", "jwks": "https://d.example.com/keys", "audience": "push"},
        {"issuer": "e", "secret": SECRET},
    ]
    lines = warnings_of(read(folder, jwt), [])
    assert [line.partition(", ")[0] for line in lines] == [
        "shop.jwt: issuer 'a': secret: has fewer than 32 bytes and can be guessed",
        "shop.jwt: issuer 'b': secret: looks like a placeholder",
        "shop.jwt: issuer 'c': audience: without it a token that the issuer makes for another application lets in",
        "shop.jwt: issuer 'c': jwks: without https:// anybody on the way can put in keys of his own",
    ]
    assert "short-of" not in str(lines)
