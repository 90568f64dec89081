"""Verifies the requests of a site's webhook: the form of Standard Webhooks, in constant time, and only recent ones."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from recado_client.errors import BadInput, BadWebhook

#: A request that is older, or that comes from further in the future, may be one that somebody has kept.
TOLERANCE_SECONDS = 300
#: The server makes requests of at most 100 events, far below this.
MAX_BODY_BYTES = 1 << 20
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_MOST_SIGNATURES = 20
_MOMENT = re.compile(r"\d{1,15}", re.ASCII)


def verify_webhook(
    body: bytes | str, headers: Mapping[str, str], secret: str | Sequence[str], now: float | None = None
) -> list[dict[str, Any]]:
    """The events of a request, from its body as it came and its headers; `BadWebhook` when it is not the server's."""
    raw = body.encode("utf-8", "replace") if isinstance(body, str) else body
    if len(raw) > MAX_BODY_BYTES:
        raise BadWebhook("the body is too long")
    secrets = read_secrets(secret)
    if not secrets:
        raise BadInput("webhook_secret: expected the secret of the site's webhook")
    found = {name.lower(): value for name, value in headers.items()}
    given, moment, signatures = (found.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    _check_moment(moment, time.time() if now is None else now)
    # Some servers give bytes of a header that are no UTF-8 as surrogates, which are no text.
    signed = f"{given}.{moment}.".encode("utf-8", "replace") + raw
    if not any(_is_signed(signed, one, signatures) for one in secrets):
        raise BadWebhook("the signature is not that of this site")
    return _events_of(raw)


def read_secrets(secret: str | Sequence[str]) -> list[bytes]:
    """The keys of one or several `whsec_...`; `BadInput` for a wrong one."""
    return [_key_of(one) for one in ([secret] if isinstance(secret, str) else secret)]


def _key_of(secret: str) -> bytes:
    expected = f"webhook_secret: expected {_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in Base64"
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise BadInput(expected) from None
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise BadInput(expected)
    return key


def _check_moment(moment: str, now: float) -> None:
    if not _MOMENT.fullmatch(moment):
        raise BadWebhook("webhook-timestamp is missing, or no number")
    if abs(now - int(moment)) > TOLERANCE_SECONDS:
        raise BadWebhook("webhook-timestamp is too old, or in the future")


def _is_signed(signed: bytes, key: bytes, signatures: str) -> bool:
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    given = signatures.encode("utf-8", "replace").split(b" ")[:_MOST_SIGNATURES]
    # Every signature is compared, so that the time tells nothing.
    return sum(hmac.compare_digest(expected, one) for one in given) > 0


def _events_of(raw: bytes) -> list[dict[str, Any]]:
    try:
        events = json.loads(raw)["data"]["events"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadWebhook("the body is not a list of events") from None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise BadWebhook("the body is not a list of events")
    return events
