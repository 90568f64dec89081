"""Warnings about settings that are valid and yet hardly meant."""

from typing import Any

import pytest

from app.config.advice import warnings_of
from app.config.settings import Config, SiteLimits
from app.protocols.channels.settings import Channels
from app.protocols.listed import PROTOCOLS
from tests.support.store import make_site

SECTIONS = [spec.section for spec in PROTOCOLS if spec.section is not None]
GOOD = {"api_key": "pu3WqTqXo0CqE5q1H5o0Jw"}


def warnings(**settings: Any) -> list[str]:
    """The warnings for a server with one site of these settings."""
    return warnings_of(Config(sites={"shop": make_site(**{**GOOD, **settings})}), SECTIONS)


def test_a_good_configuration_has_none() -> None:
    """A long random key and the defaults are no reason for a warning."""
    assert warnings() == []
    assert warnings(user_room_prefix=None, binds={"news": "all"}, channels=Channels()) == []


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"api_key": "put-a-key-of-your-own-here"}, "shop.apiKey: looks like a placeholder"),
        ({"api_key": "54321"}, "shop.apiKey: looks like a placeholder"),
        ({"api_key": "k7Jq"}, "shop.apiKey: has fewer than 16 characters and can be guessed"),
        ({"user_room_prefix": None, "update_user_url": "http://x/:id"}, "shop.updateUserUrl: has no effect without"),
        ({"user_room_prefix": None, "public_channel": "all"}, "shop.publicChannel: has no effect without"),
        (
            {"user_room_prefix": None, "limits": SiteLimits(connections_per_user=2)},
            "shop.limits.connections_per_user: has no effect without userRoomPrefix",
        ),
        (
            {"user_room_prefix": None, "limits": SiteLimits(devices_per_user=2)},
            "shop.limits.devices_per_user: has no effect without userRoomPrefix",
        ),
        (
            {"limits": SiteLimits(sends_burst=2)},
            "shop.limits.sends_burst: has no effect without limits.sends_per_second",
        ),
        ({"binds": {"news": "all"}}, "shop.binds: has no effect without channels or topics"),
    ],
)
def test_warnings_of_a_site(settings: dict[str, Any], warning: str) -> None:
    """Each doubt is one line that names the site and the key, and never the value of a key."""
    (line,) = warnings(**settings)
    assert line.startswith(warning)
    assert str(settings.get("api_key")) not in line


def test_warnings_of_the_server() -> None:
    """No site at all, and times that look as if they were meant in the other unit, are doubtful."""
    config = Config(ping_interval_ms=25, ping_timeout_ms=20, auth_timeout_seconds=5_000, redis_timeout_seconds=1_500)
    assert [line.partition(":")[0] for line in warnings_of(config, SECTIONS)] == [
        *("sites.yml", "io.pingInterval", "io.pingTimeout", "auth_timeout", "redis_timeout")
    ]
