"""The sites of the tests of topics, each with the settings that a group of tests needs."""

from __future__ import annotations

from typing import Any

from tests.support.bind_keys import JWT_SECRET, KeyPair
from tests.support.tenant import SECRET

#: One pair for the session, because its generation takes a while.
PAIR = KeyPair()
ORIGIN = "https://www.example.com"


def topic_sites(bind_url: str | None = None) -> dict[str, dict[str, Any]]:
    """Return sites.yml as a value."""
    keys = {"jwt_secret": JWT_SECRET, "jwt_public_key": PAIR.public_pem, "private_key": PAIR.private_pem}
    sites: dict[str, dict[str, Any]] = {
        "news": {"topics": {}},
        "other": {"topics": {}},
        "quick": {"topics": {"connection_timeout": 3, "max_alive_count": 2, "keep_alive": 0.5}},
        "bound": {"topics": keys},
        "asking": {"topics": {**keys, "bindUrl": bind_url}},
        "narrow": {"topics": {}, "origins": [ORIGIN]},
        "forgetful": {"topics": {"history": {"messages": 3, "seconds": 60}}},
        "limited": {"topics": {"max_topics": 3}, "limits": {"connections": 2, "message_bytes": 2000}},
        "slow": {"topics": {}, "outbox_limit": 20_000},
        "bridged": {"topics": {}, "binds": {"weather/bern": "bern", "weather/chur": "chur", "wetter/bern": "bern"}},
        "off": {"authUrl": "http://127.0.0.1:9/rooms"},
    }
    if bind_url is None:
        del sites["asking"]
    return {name: {"apiKey": f"{SECRET}-key-{name}", **settings} for name, settings in sites.items()}
