"""An issuer of tokens: signs them with a secret or with keys of its own, and offers these as a JWKS."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "https://issuer.example.com"
#: Long enough for HS256, and found in no log.
TOKEN_SECRET = "s3cr3t-of-the-issuer-with-more-than-32-bytes"
#: One of each kind: making an RSA key takes long.
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def claims_of(user: str | None = "8", *rooms: str, seconds: float = 300, **more: Any) -> dict[str, Any]:
    """The claims of a token that is valid for so many seconds; None among `more` leaves a claim out."""
    now = time.time()
    found = {"iss": ISSUER, "sub": user, "rooms": list(rooms), "iat": int(now), "exp": now + seconds, **more}
    return {name: value for name, value in found.items() if value is not None}


def signed(claims: Mapping[str, Any], key: Any = TOKEN_SECRET, algorithm: str = "HS256", **header: Any) -> str:
    """The token."""
    return jwt.api_jws.encode(json.dumps(claims).encode(), key, algorithm, headers={"typ": "JWT", **header})


def token_of(user: str | None = "8", *rooms: str, seconds: float = 300, **more: Any) -> str:
    """A token of the secret."""
    return signed(claims_of(user, *rooms, seconds=seconds, **more))


def pem_of(key: Any) -> str:
    """The public key as PEM."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def jwk_of(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public key as a JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        found = {"kty": "RSA", "n": text_of_number(numbers.n), "e": text_of_number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        found = {"kty": "EC", "crv": "P-256", "x": text_of_number(point.x, 32), "y": text_of_number(point.y, 32)}
    else:
        found = {"kty": "OKP", "crv": "Ed25519", "x": _text(public.public_bytes_raw())}
    return {**found, **({} if kid is None else {"kid": kid}), **more}


def jwks_of(*keys: Mapping[str, Any]) -> bytes:
    """The body of a JWKS with these keys."""
    return json.dumps({"keys": list(keys)}).encode()


def text_of_number(number: int, size: int | None = None) -> str:
    """The number as a JWK has it."""
    return _text(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
