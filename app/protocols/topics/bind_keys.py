"""Reads bind keys: who a request is made for, proved by a signed JWT or by the original's RSA-encrypted text.

Decides from what it is given, time included. Every wrong key gets one answer, and an RSA key one decryption whatever
is wrong with it, so that nobody learns from answers or from time what its padding was (Bleichenbacher's attack).
"""

import base64
import binascii
import hashlib
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from msgspec import Struct

from app.config.settings import Site
from app.errors import ConfigError, RecadoError
from app.protocols.topics.settings import Topics

#: A user of the site who is not logged in: bound, but nobody.
NO_IDENTITY = "[][][]"
#: What a bindUrl answers instead of a user.
REFUSALS = ("", "__DONT__")
MAX_JWT_AGE_SECONDS = 60.0
#: A key may be from the future by this much: its `iat` may have been rounded up.
MAX_AHEAD_SECONDS = 1.0
MAX_KEY_BYTES = 8_192
#: PyJWT says that a shorter secret can be guessed (RFC 7518, 3.2).
MIN_SECRET_BYTES = 32


class BindKeyRefused(RecadoError):
    """Invalid bind_key."""


class BindKey(Struct, frozen=True):
    """A key that holds. Its repr has no key in it."""

    user: str
    #: What tells it from every other key.
    digest: bytes
    #: Whether two keys that were made for two requests always differ: then a second use is a replay for certain.
    is_unique: bool

    def __repr__(self) -> str:
        return f"BindKey({self.user!r})"


class _Encrypted(Struct):
    iat: Any = None
    uid: Any = None


_encrypted_decoder = msgspec.json.Decoder(_Encrypted)


class BindKeys:
    """The keys of one site, as its settings give them. Lives as long as the server."""

    def __init__(self, site: Site) -> None:
        """Raises ConfigError for a key of the settings that cannot be read."""
        settings = site.require_section(Topics)
        self._ttl_seconds = settings.bind_key_ttl_seconds
        self._private_key = _read_private_key(site.name, settings.private_key)
        self._keys: dict[str, Any] = {}
        if settings.jwt_secret:
            if len(settings.jwt_secret.encode()) < MIN_SECRET_BYTES:
                raise ConfigError(
                    f"site {site.name}: topics.jwt_secret: expected at least {MIN_SECRET_BYTES} bytes, "
                    "a shorter secret can be guessed"
                )
            self._keys["HS256"] = settings.jwt_secret
        if settings.jwt_public_key:
            self._keys["RS256"] = _read_public_key(site.name, settings.jwt_public_key)

    def read_jwt(self, key: str, now_seconds: float) -> BindKey:
        """The user of a JWT. Raises BindKeyRefused."""
        try:
            algorithm = jwt.get_unverified_header(key).get("alg")
            if len(key) > MAX_KEY_BYTES or algorithm not in self._keys:
                raise BindKeyRefused
            # Its times we look at ourselves, on our clock.
            options: Any = {"require": ["iat", "uid"], "verify_iat": False, "verify_exp": False, "verify_nbf": False}
            claims = jwt.decode(key, self._keys[algorithm], algorithms=[algorithm], options=options)
        except (jwt.PyJWTError, ValueError):
            raise BindKeyRefused from None
        _check_age(claims["iat"], now_seconds, MAX_JWT_AGE_SECONDS)
        not_before, expires = claims.get("nbf", 0), claims.get("exp", now_seconds + 1)
        if not (_is_number(not_before) and _is_number(expires) and not_before <= now_seconds < expires):
            raise BindKeyRefused
        # Without the signature: base64 may say one signature in several ways.
        signed = key.rpartition(".")[0].encode()
        return BindKey(user_of(claims["uid"]), hashlib.sha256(signed).digest(), isinstance(claims.get("jti"), str))

    def read_encrypted(self, key: str, now_seconds: float) -> BindKey:
        """The user of an RSA-encrypted key; takes as long as a decryption, so call it beside the loop.

        Raises BindKeyRefused.
        """
        private_key = self._private_key
        if private_key is None:
            raise BindKeyRefused
        size = (private_key.key_size + 7) // 8
        encrypted = bytes_of(key)
        is_sized = len(encrypted) == size
        try:
            text = private_key.decrypt(encrypted if is_sized else b"\x01" * size, PKCS1v15())
        except ValueError:
            # Where OpenSSL tells a wrong padding at all: newer ones decrypt it to noise.
            text = b""
        try:
            read = _encrypted_decoder.decode(text) if is_sized else _Encrypted()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            read = _Encrypted()
        _check_age(read.iat, now_seconds, self._ttl_seconds)
        return BindKey(user_of(read.uid), hashlib.sha256(encrypted).digest(), True)


def is_jwt(key: str) -> bool:
    """Whether a key is of the form to recommend: base64 has no dots."""
    return key.count(".") == 2


def bytes_of(key: str) -> bytes:
    """What the base64 stands for; b"" where it is none, or too long. Spaces and line breaks in it are skipped."""
    if len(key) > MAX_KEY_BYTES:
        return b""
    try:
        return base64.b64decode("".join(key.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def user_of(value: object) -> str:
    """A user's id as text: backends count their users. Raises BindKeyRefused where it says nobody."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value in REFUSALS:
        raise BindKeyRefused
    return value


def _check_age(made_at: object, now_seconds: float, max_age_seconds: float) -> None:
    # Written so that NaN is refused.
    if not (_is_number(made_at) and -MAX_AHEAD_SECONDS <= now_seconds - made_at <= max_age_seconds):  # type: ignore[operator]
        raise BindKeyRefused


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_private_key(site: str, pem: str | None) -> RSAPrivateKey | None:
    if not pem:
        return None
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"site {site}: topics.private_key: expected an RSA private key in PEM, not encrypted")
    return key


def _read_public_key(site: str, pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise ConfigError(f"site {site}: topics.jwt_public_key: expected an RSA public key in PEM")
    return key
