"""The client's side of a login by SCRAM-SHA-256 (RFC 5802), for passwords of ASCII that a run makes itself. No I/O."""

import base64
import hashlib
import hmac
import re
import secrets

from app.canary.wire import WireError

_FIRST = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=(\d{1,7})")


class ScramLogin:
    """One login. Lives until its proof was sent."""

    def __init__(self, login: str, password: str) -> None:
        self._password = password
        self._nonce = secrets.token_urlsafe(18)
        self._bare = f"n={login},r={self._nonce}"

    @property
    def first(self) -> str:
        """The client's first message."""
        return f"n,,{self._bare}"

    def final(self, server_first: str) -> str:
        """The client's last message. Raises WireError."""
        found = _FIRST.fullmatch(server_first)
        if found is None or not found[1].startswith(self._nonce):
            raise WireError("the login was answered with something else")
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), base64.b64decode(found[2]), int(found[3]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={found[1]}"
        about = f"{self._bare},{server_first},{bare}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), about, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        return f"{bare},p={base64.b64encode(proof).decode()}"
