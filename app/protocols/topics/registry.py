"""Registered topics: the users who may publish, the users who may subscribe, and
the hash of the password for publishing."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from app.errors import BadRequest
from app.protocols.topics.topic import has_wildcard, is_reserved, levels_of
from app.protocols.validation import decode_json, has_many_items
from app.surrogates import encode_text

EVERYBODY = "*"
#: A user of the site who is not logged in: bound, but without identity.
NO_IDENTITY = "[][][]"
EVERYBODY_BOUND = "+"
MAX_USERS = 10_000
MAX_PASSWORD_BYTES = 1_024
MAX_USER_BYTES = 512
#: The users of both lists, and signs within their names.
_MAX_ITEMS = 4 * MAX_USERS

# OWASP's minimum for scrypt: 16 MB and some 50 ms for each guess.
_COST, _BLOCK_SIZE, _PARALLELISM = 2**14, 8, 1
_SALT_BYTES = 16


class TopicRegistration(Struct, frozen=True, omit_defaults=True):
    """One registered topic, as Redis keeps it. Its repr does not contain the hash."""

    owner: str
    pub: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    #: A result of `hash_password`; None: publishing needs no password.
    password_hash: str | None = None

    def may_publish(self, user: str | None) -> bool:
        """Whether this user (None: not bound) may emit to the topic."""
        return is_among(user, self.publishers)

    @property
    def publishers(self) -> tuple[str, ...]:
        """The users who may emit: those in `pub`, and the owner."""
        return (self.owner, *self.pub)

    @property
    def subscribers(self) -> tuple[str, ...]:
        """The users who may listen: those in `sub`, and the owner."""
        return (self.owner, *self.sub)

    def __repr__(self) -> str:
        return f"Registration(owner={self.owner!r})"


class _RegistrationBody(Struct):
    owner: Any = None
    pub: Any = ()
    sub: Any = ()
    pub_password: Any = None


_body_decoder = msgspec.json.Decoder(_RegistrationBody)
_registration_decoder = msgspec.json.Decoder(TopicRegistration)


def is_among(user: str | None, users: Collection[str]) -> bool:
    """Whether a list of users contains this one (None: not bound): by name, or by `*` or `+`.

    A user bound without identity has the name `[][][]`, and so is found by that name.
    """
    return EVERYBODY in users or (user is not None and (user in users or EVERYBODY_BOUND in users))


def read_registration(body: bytes) -> tuple[TopicRegistration, str | None]:
    """Reads the body of a PUT: the registration without a hash, and the password to be hashed. Raises BadRequest."""
    try:
        if has_many_items(body, _MAX_ITEMS):
            raise BadRequest(f"pub, sub: expected at most {MAX_USERS} users.")
        read = decode_json(_body_decoder, body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise BadRequest("Body: expected a JSON object with owner, pub and sub.") from None
    owner = _user(read.owner, "owner")
    if owner in (EVERYBODY, EVERYBODY_BOUND, NO_IDENTITY):
        raise BadRequest("owner: expected one user.")
    # The original stored "" for a topic without a password.
    password = read.pub_password or None
    if password is not None and not isinstance(password, str):
        raise BadRequest("pub_password: expected text.")
    if password and len(encode_text(password)) > MAX_PASSWORD_BYTES:
        raise BadRequest(f"pub_password: expected at most {MAX_PASSWORD_BYTES} bytes.")
    return TopicRegistration(owner, _users(read.pub, "pub"), _users(read.sub, "sub")), password


def check_registrable(topic: str) -> None:
    """Raises BadRequest for a topic that cannot be registered."""
    levels_of(topic)
    if has_wildcard(topic):
        raise BadRequest("Topic: a registered topic holds no wildcards.")
    if is_reserved(topic):
        raise BadRequest("Topic: topics that begin with @ are the server's own.", status=403)


def pack(registration: TopicRegistration) -> bytes:
    """Encodes a registration for Redis."""
    return msgspec.json.encode(registration)


def unpack(packed: bytes) -> TopicRegistration:
    """Decodes a registration from Redis."""
    return _registration_decoder.decode(packed)


def show(topic: str, registration: TopicRegistration) -> bytes:
    """The registration as GET answers it: instead of the password it says only whether there is one."""
    return msgspec.json.encode(
        {
            "topic": topic,
            "owner": registration.owner,
            "pub": registration.pub,
            "sub": registration.sub,
            "has_pub_password": registration.password_hash is not None,
        }
    )


def hash_password(password: str) -> str:
    """A salted hash that is slow to guess; takes some 50 ms, so call it in a thread."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return ".".join(base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))


def is_password(password: str, password_hash: str) -> bool:
    """Whether the hash was made of this password; as slow as making the hash."""
    salt, expected = (base64.b64decode(part) for part in password_hash.split("."))
    return hmac.compare_digest(_scrypt(password, salt), expected)


def _scrypt(password: str, salt: bytes) -> bytes:
    secret = encode_text(password)
    return hashlib.scrypt(secret, salt=salt, n=_COST, r=_BLOCK_SIZE, p=_PARALLELISM, dklen=32)


def _users(value: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise BadRequest(f"{name}: expected a list of users.")
    if len(value) > MAX_USERS:
        raise BadRequest(f"{name}: expected at most {MAX_USERS} users.")
    return tuple(_user(user, name) for user in value)


def _user(value: object, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: expected the id of a user.")
    if len(encode_text(value)) > MAX_USER_BYTES:
        raise BadRequest(f"{name}: expected at most {MAX_USER_BYTES} bytes for each user.")
    return value
