"""Secrets as digests: what is kept of a secret that was made at random, and how one is compared."""

import hashlib
import hmac

from app.surrogates import encode_text


def digest(secret: str) -> bytes:
    """SHA-256 of the secret: the same length for any secret, so that comparing takes the same time.

    A secret made at random needs no salt.
    """
    return hashlib.sha256(encode_text(secret)).digest()


def is_same_secret(given: str, expected: bytes) -> bool:
    """Whether `expected` is the digest of the given secret, in a time that tells nothing."""
    return hmac.compare_digest(digest(given), expected)
