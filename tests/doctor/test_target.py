"""A URL becomes a target, or is refused without being repeated."""

from __future__ import annotations

import ssl

import pytest

from app.doctor.target import read_target
from app.errors import ConfigError

TLS = ssl.create_default_context()


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://push.example.com", "http://push.example.com"),
        ("https://push.example.com:443/", "https://push.example.com"),
        ("https://push.example.com/live/socket.io/?EIO=4", "https://push.example.com/live"),
        ("http://[::1]:8080/a b\n", "http://[::1]:8080/a%20b"),
        ("http://münchen.example", "http://xn--mnchen-3ya.example"),
    ],
)
def test_a_url(url: str, read: str) -> None:
    """The scheme, host, port and path count; the query does not, nor does the path of Socket.IO."""
    assert read_target(url, TLS).url == read


@pytest.mark.parametrize(
    "url", ["push.example.com", "ftp://h", "http://", "http://a:b@h", "http://h:x", "http://[h", f"http://{'h' * 64}"]
)
def test_a_wrong_url(url: str) -> None:
    """Another scheme, no host, a login or a wrong port is refused; the text does not hold the URL."""
    with pytest.raises(ConfigError) as refused:
        read_target(url, TLS)
    assert str(refused.value) == "URL: expected http:// or https:// with a host, and no login"
