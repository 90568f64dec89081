"""The passwords of push0k's users: keys of the stored hash where clients can make it again, else a first password."""

import re
import secrets

from msgspec import Struct

from app.protocols.messenger.scram import OWN_SCHEME, Keys, keys_of

#: The name of the form: SHA-256 of SHA-256 of the password, each as hex digits in small letters.
FORM = "push0k"
_HASH = re.compile(r"[0-9a-f]{64}")
_RANDOM_BYTES = 12


class ImportedKeys(Struct, frozen=True):
    """The keys of an imported user. Its repr shows no password."""

    keys: Keys
    scheme: str
    #: The first password; None: the user keeps its own.
    first: str | None

    def __repr__(self) -> str:
        return f"ImportedKeys({self.scheme!r})"


def is_kept(stored: str) -> bool:
    """Whether clients can make the stored hash of a password again."""
    return _HASH.fullmatch(stored) is not None


def imported_keys(stored: str, iterations: int) -> ImportedKeys:
    """The keys for a stored hash. Takes long: a tenth of a second and more."""
    if is_kept(stored):
        return ImportedKeys(keys_of(stored, iterations), FORM, None)
    first = secrets.token_urlsafe(_RANDOM_BYTES)
    return ImportedKeys(keys_of(first, iterations), OWN_SCHEME, first)
