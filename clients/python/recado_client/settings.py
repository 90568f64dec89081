"""The settings of a client as one checked value, which shows no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict
from urllib.parse import urlsplit

from recado_client.errors import BadInput
from recado_client.webhooks import read_secrets

_SHORTEST_TOKEN_SECRET = 32
ATTEMPT_SECONDS = 10.0
DEADLINE_SECONDS = 30.0
RETRIES = 4


class ClientOptions(TypedDict, total=False):
    """The settings of a client that have defaults."""

    #: `whsec_...`, or several while the secret is changed; for `verify_webhook`.
    webhook_secret: str | Sequence[str]
    #: 32 bytes or more, for `sign_token`; the issuer stands beside it.
    token_secret: str
    token_issuer: str
    token_audience: str
    #: Seconds of one attempt, to the last byte of its answer.
    attempt_timeout: float
    #: Seconds of a call with all its attempts and pauses.
    deadline: float
    #: Attempts after the first.
    retries: int


@dataclass(frozen=True)
class Settings:
    """A site at a server, and the secrets that its backend shares with it. Lives as long as its client."""

    url: str
    site: str
    api_key: str = field(repr=False)
    webhook_secret: str | Sequence[str] = field(default=(), repr=False)
    token_secret: str = field(default="", repr=False)
    token_issuer: str = ""
    token_audience: str = ""
    attempt_timeout: float = ATTEMPT_SECONDS
    deadline: float = DEADLINE_SECONDS
    retries: int = RETRIES

    def __post_init__(self) -> None:
        """Check each setting; `BadInput` names the first wrong one, never its value."""
        for is_right, expected in self._checks():
            if not is_right:
                raise BadInput(expected)
        read_secrets(self.webhook_secret)
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def _checks(self) -> Sequence[tuple[bool, str]]:
        secret = self.token_secret.encode()
        return (
            (_is_address(self.url), "url: expected http:// or https:// with a host, without user, query and fragment"),
            (bool(self.site), "site: expected the name of a site"),
            (is_header_text(self.api_key), "api_key: expected printable characters of ASCII"),
            (
                not secret or len(secret) >= _SHORTEST_TOKEN_SECRET,
                f"token_secret: expected {_SHORTEST_TOKEN_SECRET} bytes or more",
            ),
            (not secret or bool(self.token_issuer), "token_issuer: expected the issuer beside token_secret"),
            (self.attempt_timeout > 0, "attempt_timeout: expected more than 0 seconds"),
            (self.deadline > 0, "deadline: expected more than 0 seconds"),
            (self.retries >= 0, "retries: expected 0 or more"),
        )


def is_header_text(text: str) -> bool:
    """Whether a text can stand in a header: printable, of ASCII, not empty."""
    return bool(text) and text.isascii() and text.isprintable()


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return is_whole and "@" not in parts.netloc and not parts.query and not parts.fragment
