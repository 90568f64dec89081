"""The headers of a POST as Standard Webhooks has them: its id, its time, and a signature by each secret."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def signed_headers(post: str, at_seconds: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers for the body. Each secret gives one signature, so that a receiver may know either of two."""
    content = f"{post}.{at_seconds}.".encode() + body
    return {
        "webhook-id": post,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(f"v1,{_signature(content, secret)}" for secret in secrets),
    }


def _signature(content: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
