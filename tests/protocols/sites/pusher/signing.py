"""A second implementation of Pusher's signature, from the published rules, and requests that carry it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from app.clock import now_ms


def signature_of(secret: str, method: str, path: str, fields: Mapping[str, str]) -> str:
    """Return the signature of a request whose fields have names in lower case."""
    lines = method + "\n" + path + "\n"
    for number, name in enumerate(sorted(fields)):
        lines += ("&" if number else "") + name + "=" + fields[name]
    return hmac.new(secret.encode(), lines.encode(), hashlib.sha256).hexdigest()


def signed_query(
    method: str,
    path: str,
    body: bytes = b"",
    key: str = "key-new",
    secret: str = "secret-new",
    age_seconds: int = 0,
    **fields: str,
) -> str:
    """Return the query of a signed request; a field that is given replaces the right one, an empty one goes."""
    right = {"auth_key": key, "auth_timestamp": str(now_ms() // 1000 - age_seconds), "auth_version": "1.0"}
    if body:
        right["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
    sent = {name: value for name, value in {**right, **fields}.items() if value}
    sent.setdefault("auth_signature", signature_of(secret, method, path, sent))
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in sent.items() if value != "-")
