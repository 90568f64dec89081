"""The keys of a password as clients send them, who have computed them."""

import binascii
from base64 import b64decode
from typing import Annotated

from msgspec import Meta

from app.protocols.messenger.answers import ChatEvent, ChatRefusal
from app.protocols.messenger.bounds import LEAST_ITERATIONS, MAX_KEY_CHARACTERS, MOST_ITERATIONS
from app.protocols.messenger.scram import SALT_BYTES, Keys

#: The bytes of a key of SCRAM-SHA-256.
_KEY_BYTES = 32
_Base64 = Annotated[str, Meta(max_length=MAX_KEY_CHARACTERS)]


class KeysData(ChatEvent):
    """The keys of a password; see `Keys`."""

    salt: _Base64
    iterations: Annotated[int, Meta(ge=LEAST_ITERATIONS, le=MOST_ITERATIONS)]
    stored_key: _Base64
    server_key: _Base64

    @property
    def keys(self) -> Keys:
        """The keys. Raises ChatRefusal. Their salt is as long as that of made-up keys, by which nobody tells who has an
        account."""
        salt = _bytes_of("salt", self.salt, SALT_BYTES)
        stored_key = _bytes_of("stored_key", self.stored_key, _KEY_BYTES)
        return Keys(salt, self.iterations, stored_key, _bytes_of("server_key", self.server_key, _KEY_BYTES))


def _bytes_of(name: str, text: str, count: int) -> bytes:
    try:
        found = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != count:
        raise ChatRefusal("bad_request", f"{name}: expected {count} bytes as base64.")
    return found
