"""The keys that verify tokens, and the algorithms that each may be used with."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.config.settings import JwtIssuer
from app.protocols.sites.token_keys import (
    HMAC,
    MAX_JWKS_BYTES,
    MAX_JWKS_KEYS,
    MOST_TRIED,
    KeyUnusable,
    TokenKey,
    configured_keys,
    read_key_set,
)
from tests.support.issuer import (
    EC_KEY,
    ED_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    TOKEN_SECRET,
    jwk_of,
    jwks_of,
    pem_of,
    signed,
    text_of_number,
)

CLAIMS = {"sub": "8"}


def verifies(key: TokenKey, token: str) -> bool:
    """Whether the key has signed the token."""
    head, _, signature = token.rpartition(".")
    algorithm = jwt.get_unverified_header(token)["alg"]
    return key.verifies(algorithm, head.encode(), jwt.utils.base64url_decode(signature))


def key_of(**settings: Any) -> TokenKey:
    """The only key of these settings."""
    (key,) = configured_keys(JwtIssuer(issuer=ISSUER, **settings))
    return key


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS512"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA"), (TOKEN_SECRET, "HS256")],
)
def test_a_key_verifies_its_own(private: Any, algorithm: str) -> None:
    """A key of the settings and the same in a set verify its signatures, and no other's."""
    token = signed(CLAIMS, private, algorithm, kid="k")
    if isinstance(private, str):
        keys = [key_of(secrets=(private,))]
    else:
        keys = [
            key_of(public_keys=(pem_of(private),)),
            *read_key_set(jwks_of(jwk_of(private, "k"))).find(algorithm, "k"),
        ]
        assert len(keys) == 2
    for key in keys:
        assert verifies(key, token)
        assert not verifies(key, token[:-6] + "AAAAAA")
        assert "s3cr3t" not in repr(key)
    assert not verifies(key_of(public_keys=(pem_of(OTHER_RSA_KEY),)), token)


def test_no_key_is_used_with_an_algorithm_of_another_kind() -> None:
    """A public key is no secret, a secret no public key, and `none` is nobody's: the token does not choose."""
    keys = [key_of(public_keys=(pem_of(RSA_KEY),)), key_of(public_keys=(pem_of(EC_KEY),)), key_of(secrets=("s" * 40,))]
    known = [key.algorithms for key in keys]
    assert all(one.isdisjoint(other) for one in known for other in known if one is not other)
    assert not any({"none", "None", "NONE"} & one for one in known)
    forged = signed({}, None, "none")
    assert not any(verifies(key, forged) for key in keys)
    for key in keys[:2]:
        assert not key.verifies("HS256", b"x", b"y")
        assert HMAC.isdisjoint(key.algorithms)
    assert "ES256" in keys[1].algorithms
    assert "ES384" not in keys[1].algorithms


def test_a_set_may_narrow_a_key() -> None:
    """A key with `alg` is for this algorithm alone, one for encryption is no key, and one of no id has every token that
    names none."""
    keys = read_key_set(
        jwks_of(
            jwk_of(RSA_KEY, "a", alg="RS512", use="sig"),
            jwk_of(RSA_KEY, "b", use="enc"),
            jwk_of(RSA_KEY, "c", alg="HS256"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "d"},
            {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "e"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "f"},
            {"kid": "g"},
            jwk_of(EC_KEY),
        )
    )
    assert [len(keys.find("RS512", "a")), len(keys.find("RS256", "a"))] == [1, 0]
    assert [keys.find(one, kid) for one in ("RS256", "HS256", "ES256") for kid in "bcdefg"] == [[]] * 18
    assert len(keys.find("ES256", None)) == 1
    assert len(keys.find("RS512", None)) == 1


def test_a_set_is_bounded() -> None:
    """A longer answer or one with more keys is refused, few keys are tried for a token, and a key that would be slow
    to check is none."""
    with pytest.raises(KeyUnusable, match="bytes"):
        read_key_set(b" " * (MAX_JWKS_BYTES + 1))
    with pytest.raises(KeyUnusable, match="keys"):
        read_key_set(jwks_of(*[{}] * (MAX_JWKS_KEYS + 1)))
    for body in (b"", b"[]", b"{}", b'{"keys":{}}', b"[" * 100_000, b'{"keys":' + b"[" * 100_000, b"\xff"):
        with pytest.raises(KeyUnusable, match="JSON object"):
            read_key_set(body)
    assert len(read_key_set(jwks_of(*[jwk_of(RSA_KEY)] * 20)).find("RS256", None)) == MOST_TRIED
    number = RSA_KEY.public_key().public_numbers().n
    for wrong in (
        {"e": text_of_number(2**32 + 1)},
        {"n": text_of_number(number << 4_000)},
        {"n": "A" * 5_000},
        {"n": text_of_number(3)},
        {"n": "ä"},
        {"e": ""},
    ):
        assert read_key_set(jwks_of({**jwk_of(RSA_KEY, "k"), **wrong})).find("RS256", "k") == []


def test_keys_that_cannot_be_used() -> None:
    """Settings with another kind of key are refused in words that tell nothing of it."""
    private = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    others = [pem_of(key) for key in (small, ec.generate_private_key(ec.SECP256K1()), dsa.generate_private_key(2048))]
    for pem in (private, "", "no key", *others):
        with pytest.raises(KeyUnusable) as refusal:
            key_of(public_keys=(pem,))
        assert "expected a" in str(refusal.value)
        assert pem[40:80] not in str(refusal.value) or not pem[40:80]
