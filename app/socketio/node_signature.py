"""Requests between nodes of different machines, signed: each node proves that it knows the secret, and never sends it.

HMAC-SHA-256 over the method, the target, the headers between nodes, the time and a nonce. A signature counts once, and
only for a short time. Knows no sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable

from app.clock import now_ms
from app.socketio.engine_request import Headers

SIGNATURE = b"x-recado-signature"
CLIENT = b"x-recado-client"
RELEASE = b"x-recado-release"
"""Asks the owner to answer the session's poll, because the node that took the poll is about to end."""

MAX_SKEW_SECONDS = 30
"""The most by which the clocks of two nodes may differ, together with the time of a request on its way."""
MAX_NONCES = 200_000
"""The nonces that are remembered. Past it the oldest are forgotten, so that their requests could be repeated."""

_FORM = re.compile(rb"([0-9]{1,15}) ([0-9a-f]{32}) ([0-9a-f]{64})")
_NONCE_BYTES = 16
_SIGNED = (CLIENT, RELEASE)


class Signer:
    """Signs and checks with one secret; lives as long as the node."""

    def __init__(self, secret: str, clock: Callable[[], int] = now_ms) -> None:
        """Take the secret that all nodes have, and a clock in milliseconds."""
        self._key = secret.encode()
        self._clock = clock
        # Nonce -> the time at which its signature has expired for certain; in the order of their arrival.
        self._seen: dict[bytes, int] = {}

    def sign(self, method: str, target: bytes, headers: Headers) -> tuple[bytes, bytes]:
        """Return the header that signs a request with these headers."""
        moment, nonce = b"%d" % self._clock(), secrets.token_hex(_NONCE_BYTES).encode()
        return SIGNATURE, b" ".join((moment, nonce, self._digest(method, target, headers, moment, nonce)))

    def accepts(self, given: bytes, method: str, target: bytes, headers: Headers) -> bool:
        """Whether another node has signed this request, a moment ago, and it comes for the first time."""
        found = _FORM.fullmatch(given)
        if found is None:
            return False
        moment, nonce, signature = found.groups()
        if not hmac.compare_digest(signature, self._digest(method, target, headers, moment, nonce)):
            return False
        now, skew = self._clock(), MAX_SKEW_SECONDS * 1000
        return abs(now - int(moment)) <= skew and self._is_new(nonce, now, now + 2 * skew)

    def _digest(self, method: str, target: bytes, headers: Headers, moment: bytes, nonce: bytes) -> bytes:
        named = (_value(headers, name) for name in _SIGNED)
        parts = (b"recado 1", method.encode(), wire_target(target), *named, moment, nonce)
        return hmac.new(self._key, b"\n".join(parts), hashlib.sha256).hexdigest().encode()

    def _is_new(self, nonce: bytes, now: int, expiry: int) -> bool:
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now and len(self._seen) < MAX_NONCES:
                break
            del self._seen[oldest]
        if nonce in self._seen:
            return False
        self._seen[nonce] = expiry
        return True


def wire_target(target: bytes) -> bytes:
    """Return the target as it is sent: bytes that no URL may hold are percent-encoded."""
    return target if target.isascii() else b"".join(b"%c" % b if b < 0x80 else b"%%%02X" % b for b in target)


def _value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for given, value in headers if given == name), b"")
