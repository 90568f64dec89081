"""The user agent of a request, cut, and the same object for equal ones, as most connections have one of few."""

from collections.abc import Iterable
from functools import lru_cache

#: The bytes of a user agent that are kept.
MAX_AGENT_BYTES = 256
#: The user agents that are remembered, to share their memory.
_MAX_AGENTS = 1_024


def user_agent_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The user agent among the headers of a request; "" for none."""
    for name, value in headers:
        if name == b"user-agent":
            return _text(value[:MAX_AGENT_BYTES])
    return ""


@lru_cache(_MAX_AGENTS)
def _text(header: bytes) -> str:
    return header.decode("latin-1")
