"""Logins by SCRAM-SHA-256 (RFC 5802, 7677): keys of passwords, names as they are compared, and one exchange. No I/O.

The password never gets here, except where an operator sets one.
"""

import hashlib
import hmac
import secrets
import unicodedata

from msgspec import Struct
from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_LOGIN_CHARACTERS

#: The salts of the server's own keys, and of those that it makes up.
SALT_BYTES = 16
#: The keys are those of the password itself.
OWN_SCHEME = "scram"
_MECHANISM = ScramMechanism("SCRAM-SHA-256")


class Keys(Struct, frozen=True):
    """The keys of a password, from which the password does not follow. Its repr shows none."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"Keys(iterations={self.iterations})"


def login_text(login: str) -> str:
    """A login as it is shown. Raises ChatRefusal for one that nobody can have."""
    try:
        text = unicodedata.normalize("NFC", saslprep(login)).strip()
    except ScramException:
        raise ChatRefusal("bad_request", "Login: expected text without control characters.") from None
    if not 1 <= len(text) <= MAX_LOGIN_CHARACTERS:
        code = "too_long" if text else "bad_request"
        raise ChatRefusal(code, f"Login: expected 1 to {MAX_LOGIN_CHARACTERS} characters.")
    return text


def login_key(login: str) -> str:
    """A login as it is compared: without case."""
    return unicodedata.normalize("NFC", login.casefold())


def keys_of(password: str, iterations: int) -> Keys:
    """The keys of a password, with a salt of their own. Takes long: a tenth of a second and more."""
    try:
        prepared = saslprep(password).encode()
    except (ScramException, UnicodeEncodeError):
        raise ChatRefusal("bad_request", "Password: expected text without control characters.") from None
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return Keys(salt, iterations, hashlib.sha256(client_key).digest(), server_key)


def made_up_keys(secret: bytes, key: str, iterations: int) -> Keys:
    """Keys for a login that nobody has: the same each time, and no password fits."""

    def part(name: bytes) -> bytes:
        return hmac.digest(secret, name + key.encode(), "sha256")

    return Keys(part(b"salt:")[:SALT_BYTES], iterations, part(b"stored:"), part(b"server:"))


def drawn_place(secret: bytes, key: str, count: int) -> int:
    """One of so many places, numbered from 1, that a login draws with equal chances; 0: there is none. It stays: where
    there is one place more, the login draws that one or keeps its own (jump consistent hash, Lamping and Veach)."""
    state = int.from_bytes(hmac.digest(secret, b"place:" + key.encode(), "sha256")[:8])
    place, following = -1, 0
    while following < count:
        place = following
        state = (state * 2862933555777941757 + 1) % 2**64
        following = (place + 1) * 2**31 // ((state >> 33) + 1)
    return place + 1


def login_of(client_first: str) -> str:
    """The login that a client's first message names. Raises ChatRefusal."""
    names: list[str] = []

    def note(name: str) -> tuple[bytes, bytes, bytes, int]:
        names.append(name)
        return bytes(SALT_BYTES), b"", b"", int(_MECHANISM.iteration_count)

    try:
        _MECHANISM.make_server(note).set_client_first(client_first)
    except (ScramException, UnicodeEncodeError):
        raise ChatRefusal("bad_request", "Expected the first message of SCRAM-SHA-256.") from None
    return login_text(names[0])


class ScramExchange:
    """One login under way. Lives from `login` to `proof`."""

    def __init__(self, login: str, client_first: str, keys: Keys) -> None:
        self.login = login
        self.keys = keys
        self._server = _MECHANISM.make_server(
            lambda name: (keys.salt, keys.stored_key, keys.server_key, keys.iterations)
        )
        self._server.set_client_first(client_first)
        self.server_first: str = self._server.get_server_first()

    def finish(self, client_final: str) -> str | None:
        """The server's last message; None: the proof is wrong."""
        try:
            self._server.set_client_final(client_final)
            return str(self._server.get_server_final())
        except (ScramException, UnicodeEncodeError):
            return None
