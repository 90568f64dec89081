"""Reads bind keys: the user of a request, proved by a signed JWT or by the original's RSA-encrypted text.

Decides from its arguments, the time included. Every wrong key gets the same answer, and every RSA key costs one
decryption whatever is wrong with it. So neither answers nor times reveal its padding (Bleichenbacher's attack).
"""

import base64
import binascii
import hashlib
import re
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

#: The answers of a bindUrl that mean no user.
REFUSALS = ("", "__DONT__")
MAX_JWT_AGE_SECONDS = 60.0
#: The tolerance for a key from the future, because its `iat` may have been rounded up.
MAX_AHEAD_SECONDS = 1.0
MAX_KEY_BYTES = 8_192
MAX_USER_BYTES = 512
#: A larger number is neither a time nor an id, and some of them are too large for a float.
_LARGEST = 1e300
_HALF_PAIR = re.compile("[\ud800-\udfff]")
#: PyJWT warns that a shorter secret can be guessed (RFC 7518, 3.2).
MIN_SECRET_BYTES = 32


class BindKeyRefused(RecadoError):
    """Invalid bind_key."""


class BindKey(Struct, frozen=True):
    """A valid key. Its repr does not contain the key."""

    user: str
    #: The digest that identifies the key.
    digest: bytes
    #: Whether two keys made for two requests always differ: then a second use is certainly a replay.
    is_unique: bool

    def __repr__(self) -> str:
        return f"BindKey({self.user!r})"


class _Encrypted(Struct):
    iat: Any = None
    uid: Any = None


_encrypted_decoder = msgspec.json.Decoder(_Encrypted)


class BindKeys:
    """The keys of one site, from its settings. Lives as long as the server."""

    def __init__(self, site: Site) -> None:
        """Raises ConfigError for a key in the settings that cannot be read."""
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
            if len(key) > MAX_KEY_BYTES:
                raise BindKeyRefused
            algorithm = jwt.get_unverified_header(key).get("alg")
            # In an unread header it may be a list, which no dict can look up.
            if not isinstance(algorithm, str) or algorithm not in self._keys:
                raise BindKeyRefused
            # The times are checked below, against our own clock.
            options: Any = {"require": ["iat", "uid"], "verify_iat": False, "verify_exp": False, "verify_nbf": False}
            claims = jwt.decode(key, self._keys[algorithm], algorithms=[algorithm], options=options)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise BindKeyRefused from None
        _check_age(claims["iat"], now_seconds, MAX_JWT_AGE_SECONDS)
        not_before, expires = claims.get("nbf", 0), claims.get("exp", now_seconds + 1)
        if not (_is_number(not_before) and _is_number(expires) and not_before <= now_seconds < expires):
            raise BindKeyRefused
        # Leave the signature out: base64 can write one signature in several ways.
        signed = key.rpartition(".")[0].encode()
        return BindKey(user_of(claims["uid"]), hashlib.sha256(signed).digest(), isinstance(claims.get("jti"), str))

    def read_encrypted(self, key: str, now_seconds: float) -> BindKey:
        """The user of an RSA-encrypted key; takes as long as a decryption, so call it in a thread.

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
            # Some versions of OpenSSL report a wrong padding; newer ones decrypt it to noise.
            text = b""
        try:
            read = _encrypted_decoder.decode(text) if is_sized else _Encrypted()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            read = _Encrypted()
        _check_age(read.iat, now_seconds, self._ttl_seconds)
        return BindKey(user_of(read.uid), hashlib.sha256(encrypted).digest(), True)


def is_jwt(key: str) -> bool:
    """Whether a key is a JWT, the recommended form: base64 has no dots."""
    return key.count(".") == 2


def bytes_of(key: str) -> bytes:
    """Decodes base64; b"" when it is invalid or too long. Spaces and line breaks in it are skipped."""
    if len(key) > MAX_KEY_BYTES:
        return b""
    try:
        return base64.b64decode("".join(key.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def user_of(value: object) -> str:
    """A user's id as text: backends also use numbers. Raises BindKeyRefused when the value names no user.

    Half a surrogate pair is in no name, because other programs could not write that name.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return str(value)
    if not isinstance(value, str) or value in REFUSALS or _HALF_PAIR.search(value):
        raise BindKeyRefused
    if len(value.encode()) > MAX_USER_BYTES:
        raise BindKeyRefused
    return value


def _check_age(made_at: object, now_seconds: float, max_age_seconds: float) -> None:
    # The comparison is written so that NaN is refused.
    if not (_is_number(made_at) and -MAX_AHEAD_SECONDS <= now_seconds - made_at <= max_age_seconds):  # type: ignore[operator]
        raise BindKeyRefused


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


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
