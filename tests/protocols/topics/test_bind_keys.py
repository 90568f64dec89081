"""Bind keys: the users they name, and one answer and one amount of work for every wrong key."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from app.config.settings import Site
from app.errors import ConfigError
from app.protocols.topics.bind_keys import BindKeyRefused, BindKeys, is_jwt, user_of
from app.protocols.topics.settings import Topics
from tests.support.bind_keys import JWT_SECRET, KeyPair, jwt_of

NOW = 1_800_000_000.0
PAIR = KeyPair()


def keys_with(**settings: Any) -> BindKeys:
    """The keys of a site with these settings."""
    return BindKeys(Site(name="shop", api_key="k", sections={Topics: Topics(**settings)}))


KEYS = keys_with(jwt_secret=JWT_SECRET, jwt_public_key=PAIR.public_pem, private_key=PAIR.private_pem)


def token(secret: object = JWT_SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A JWT made now."""
    payload = {name: value for name, value in {"uid": "u1", "iat": NOW, **claims}.items() if value is not ...}
    return jwt.encode(payload, secret, algorithm)  # type: ignore[arg-type]


def encrypted(**claims: Any) -> str:
    """The original's key, made now."""
    payload = {name: value for name, value in {"uid": "u1", "iat": NOW, **claims}.items() if value is not ...}
    return PAIR.encrypt(json.dumps(payload).encode())


@pytest.mark.parametrize(
    "key",
    [token(), token(PAIR.private, "RS256"), token(iat=NOW - 60), token(iat=NOW + 1), token(exp=NOW + 5, nbf=NOW - 5)],
)
def test_jwt_that_holds(key: str) -> None:
    """A JWT signed with HS256 and the secret, or RS256 and the public key, is valid for at most 60 s."""
    assert KEYS.read_jwt(key, NOW).user == "u1"


@pytest.mark.parametrize(
    "key",
    [
        token("another-secret-of-thirty-two-bytes-or-more"),
        token(KeyPair().private, "RS256"),
        token(JWT_SECRET * 2, "HS512"),
        token(None, "none"),
        token(iat=NOW - 60.5),
        token(iat=NOW - 3600),
        token(iat=NOW + 2),
        token(iat=NOW + 3600),
        token(iat=...),
        token(iat="1800000000"),
        token(iat=True),
        token(iat=float("nan")),
        token(uid=...),
        token(uid=None),
        token(uid=""),
        token(uid="__DONT__"),
        token(uid=["u1"]),
        token(exp=NOW),
        token(exp="never"),
        token(nbf=NOW + 1),
        token(aud="somebody else"),
        token()[:-1],
        token()[1:],
        token().rpartition(".")[0] + ".",
        token().replace(".", ".A", 1),
        "..",
        "a.b.c",
        "x" * 10_000 + "..",
        "",
    ],
)
def test_jwt_that_does_not_hold(key: str) -> None:
    """A JWT that is wrong, truncated, too old, from the future or without a user
    is refused, always with the same text."""
    with pytest.raises(BindKeyRefused, match=r"^Invalid bind_key\.$"):
        KEYS.read_jwt(key, NOW)


def signed(header: bytes, payload: bytes) -> str:
    """A JWT of these texts, signed with the site's secret whatever its header says."""
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(text, JWT_SECRET.encode())
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@pytest.mark.parametrize("algorithm", [b"[]", b"{}", b"null", b"7", b'["HS256"]', b"[" * 1_500 + b"]" * 1_500])
def test_algorithm_that_is_no_text(algorithm: bytes) -> None:
    """A header whose `alg` is anything but text is refused like every wrong key, at any depth."""
    with pytest.raises(BindKeyRefused):
        KEYS.read_jwt(signed(b'{"alg":' + algorithm + b"}", b'{"uid":"u1","iat":1800000000}'), NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 3_000,
        b'{"uid":"u1","iat":1' + b"0" * 400 + b"}",
        b'{"uid":"u1","iat":1800000000,"exp":1' + b"0" * 400 + b"}",
        b'{"uid":"u1\\ud83d","iat":1800000000}',
        b'{"uid":"' + b"u" * 513 + b'","iat":1800000000}',
        b'{"uid":1' + b"0" * 400 + b',"iat":1800000000}',
    ],
)
def test_signed_payload_that_nobody_expects(payload: bytes) -> None:
    """Deep JSON, numbers that are too large for a float, half a surrogate pair and a long name are refused."""
    with pytest.raises(BindKeyRefused):
        KEYS.read_jwt(signed(b'{"alg":"HS256"}', payload), NOW)


def test_public_key_is_no_secret() -> None:
    """A JWT signed with HS256 and the text of the public key, which everybody knows, is refused."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    only_rsa = keys_with(jwt_public_key=PAIR.public_pem)
    payload = base64.urlsafe_b64encode(json.dumps({"uid": "u1", "iat": NOW}).encode()).rstrip(b"=")
    signed = header + b"." + payload
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed, PAIR.public_pem.encode())
    forged = (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
    with pytest.raises(BindKeyRefused):
        only_rsa.read_jwt(forged, NOW)


def test_site_without_keys() -> None:
    """Without keys in the settings of the site every key is refused."""
    bare = keys_with()
    with pytest.raises(BindKeyRefused):
        bare.read_jwt(token(), NOW)
    with pytest.raises(BindKeyRefused):
        bare.read_encrypted(encrypted(), NOW)


@pytest.mark.parametrize(
    ("claims", "user"), [({}, "u1"), ({"iat": NOW - 3}, "u1"), ({"uid": 17}, "17"), ({"uid": "[][][]"}, "[][][]")]
)
def test_encrypted_key_that_holds(claims: dict[str, Any], user: str) -> None:
    """An encrypted key is base64 of RSA with PKCS#1 v1.5, at most bind_key_ttl old; its user may be a number."""
    assert KEYS.read_encrypted(encrypted(**claims), NOW).user == user


def test_ttl_of_encrypted_keys() -> None:
    """The site's bind_key_ttl limits the age of encrypted keys."""
    patient = keys_with(private_key=PAIR.private_pem, bind_key_ttl_seconds=30.0)
    assert patient.read_encrypted(encrypted(iat=NOW - 29), NOW).user == "u1"


def _noise(size: int = 256) -> str:
    return base64.b64encode(b"\0" + os.urandom(size - 1)).decode()


WRONG: dict[str, Callable[[], str]] = {
    "padding": _noise,
    "too short": lambda: _noise(255),
    "too long": lambda: _noise(257),
    "truncated": lambda: encrypted()[:-4],
    "no base64": lambda: "!" * 344,
    "empty": str,
    "too large": lambda: "A" * 100_000,
    "larger than the modulus": lambda: base64.b64encode(b"\xff" * 256).decode(),
    "zero": lambda: base64.b64encode(b"\0" * 256).decode(),
    "no JSON": lambda: PAIR.encrypt(b"hello"),
    "no object": lambda: PAIR.encrypt(b"[]"),
    "no UTF-8": lambda: PAIR.encrypt(b'{"uid":"\xff"}'),
    "no user": lambda: encrypted(uid=...),
    "no time": lambda: encrypted(iat=...),
    "refused": lambda: encrypted(uid="__DONT__"),
    "expired": lambda: encrypted(iat=NOW - 3.5),
    "of the future": lambda: encrypted(iat=NOW + 2),
    "of another key": lambda: KeyPair().encrypt(json.dumps({"uid": "u1", "iat": NOW}).encode()),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=list(WRONG))
def test_encrypted_key_that_does_not_hold(make: Callable[[], str]) -> None:
    """The text of the refusal is the same for every mistake in a key, a wrong padding included."""
    with pytest.raises(BindKeyRefused, match=r"^Invalid bind_key\.$"):
        KEYS.read_encrypted(make(), NOW)


def test_one_decryption_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key, right or wrong, costs exactly one decryption of a whole block, without a shortcut."""
    sizes: list[int] = []

    class Counting:
        key_size = 2_048

        def decrypt(self, ciphertext: bytes, padding: object) -> bytes:
            sizes.append(len(ciphertext))
            return PAIR.private.decrypt(ciphertext, padding)  # type: ignore[arg-type]

    keys = keys_with(private_key=PAIR.private_pem)
    monkeypatch.setattr(keys, "_private_key", Counting())
    for make in (*WRONG.values(), encrypted):
        with contextlib.suppress(BindKeyRefused):
            keys.read_encrypted(make(), NOW)
    assert sizes == [256] * (len(WRONG) + 1)


def test_wrong_padding_takes_as_long_as_wrong_json() -> None:
    """The median time for a key with a broken padding equals that for one with a wrong text."""
    times: dict[str, list[float]] = {"padding": [], "no JSON": [], "expired": []}
    for _ in range(60):
        for kind, taken in times.items():
            key = WRONG[kind]()
            # CPU time: what else runs on the machine does not count.
            begun = time.thread_time()
            with pytest.raises(BindKeyRefused):
                KEYS.read_encrypted(key, NOW)
            taken.append(time.thread_time() - begun)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) < 2 * min(medians)


def test_digest_knows_a_key_again() -> None:
    """A key has one digest, however its base64 is written; two keys made separately for one user have two digests."""
    key = encrypted()
    spaced = "\n".join(key[start : start + 64] for start in range(0, len(key), 64))
    first = KEYS.read_encrypted(key, NOW)
    assert KEYS.read_encrypted(spaced, NOW).digest == first.digest
    assert KEYS.read_encrypted(encrypted(), NOW).digest != first.digest
    assert KEYS.read_jwt(token(), NOW).digest == KEYS.read_jwt(token(), NOW).digest
    assert [KEYS.read_jwt(token(**claims), NOW).is_unique for claims in ({}, {"jti": "1"})] == [False, True]
    assert first.is_unique


def test_kinds_of_keys() -> None:
    """A JWT has two dots; base64 has none."""
    assert is_jwt(jwt_of("u1"))
    assert not is_jwt(encrypted())


@pytest.mark.parametrize("value", [None, "", "__DONT__", 1.5, True, [], {}])
def test_nobody(value: object) -> None:
    """A value that is no user's id, and each refusal of a bindUrl, names no user."""
    with pytest.raises(BindKeyRefused):
        user_of(value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"private_key": PAIR.public_pem}, "private_key"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"}, "private_key"),
        ({"jwt_public_key": PAIR.private_pem}, "jwt_public_key"),
        ({"jwt_secret": "brief-one"}, "jwt_secret"),
    ],
)
def test_keys_that_cannot_be_read(settings: dict[str, str], name: str) -> None:
    """At the server's start the error for an unreadable key names the setting and not its value."""
    with pytest.raises(ConfigError, match=f"site shop: topics.{name}") as caught:
        keys_with(**settings)
    assert settings[name] not in str(caught.value)
