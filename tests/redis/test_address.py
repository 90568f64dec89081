"""The forms of `redis.url`, and the texts of refusals, which hold no secret."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.redis.address import Address, ClusterSeeds, SentinelGroup, read_redis_url

PASSWORD = "p-4321-secret"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address()),
        ("redis://host", Address(host="host")),
        ("redis://host/", Address(host="host")),
        ("redis://host:7000/4", Address(host="host", port=7000, database=4)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("redis://:pw@host/0", Address(host="host", password="pw")),
        ("redis://user:p%40w@host", Address(host="host", username="user", password="p@w")),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        (
            "unix://user:pw@/run/redis.sock?db=2",
            Address(path="/run/redis.sock", username="user", password="pw", database=2),
        ),
    ],
)
def test_one_server(url: str, expected: Address) -> None:
    """A URL says where Redis is and how to log in."""
    assert read_redis_url(url) == expected


def test_sentinels() -> None:
    """The hosts are Sentinels; the login before them and the database are for Redis, the options for the Sentinels."""
    found = read_redis_url("redis+sentinel://u:pw@a,b:5000,[::1]/my%20master/3?sentinel_password=spw")
    assert found == SentinelGroup(
        (
            Address(host="a", port=26379, password="spw"),
            Address(host="b", port=5000, password="spw"),
            Address(host="::1", port=26379, password="spw"),
        ),
        "my master",
        Address(host="a", username="u", password="pw", database=3),
    )


def test_cluster() -> None:
    """Each host is a server of the Cluster, with the same login."""
    assert read_redis_url("redis+cluster://:pw@a,b:7001/0") == ClusterSeeds(
        (Address(host="a", password="pw"), Address(host="b", port=7001, password="pw"))
    )


@pytest.mark.parametrize("form", ["rediss://h", "rediss+sentinel://h/m", "rediss+cluster://h"])
def test_tls(form: str) -> None:
    """With rediss the certificates of every server are checked, unless the URL says otherwise."""
    for found in _addresses(form):
        assert found.tls
        assert found.tls.check_hostname
    for found in _addresses(form + "?ssl_cert_reqs=none"):
        assert found.tls
        assert found.tls.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "redis://, rediss:// or unix://"),
        ("host:6379", "redis://, rediss:// or unix://"),
        ("http://host", "redis://, rediss:// or unix://"),
        (f"redis+x://:{PASSWORD}@host", "redis://, rediss:// or unix://"),
        ("unix+cluster:///s", "redis://, rediss:// or unix://"),
        (f"redis://:{PASSWORD}@host:port", "redis://, rediss:// or unix://"),
        (f"redis://:{PASSWORD}@host:99999", "redis://, rediss:// or unix://"),
        (f"redis://:{PASSWORD}@[host", "redis://, rediss:// or unix://"),
        (f"redis://:{PASSWORD}@host/one", "the number of a database"),
        (f"redis://:{PASSWORD}@host/-1", "the number of a database"),
        (f"redis://:{PASSWORD}@host/1/2", "the number of a database"),
        (f"unix://:{PASSWORD}@/s?db=x", "the number of a database"),
        ("unix://", "the path of a socket"),
        (f"redis://:{PASSWORD}@a,b", "one host"),
        (f"redis+sentinel://:{PASSWORD}@a,b", "the name of the primary"),
        (f"redis+sentinel://:{PASSWORD}@a/m/x", "the number of a database"),
        (f"redis+cluster://:{PASSWORD}@a/1", "nothing behind the hosts"),
        (f"redis://:{PASSWORD}@a?sentinel_pasword={PASSWORD}", "no options behind ? but"),
        (f"redis+sentinel://a/m?sentinel_password={PASSWORD}&x=1", "no options behind ? but"),
    ],
)
def test_bad_url(url: str, expected: str) -> None:
    """A URL that cannot be read is a ConfigError that names the setting and what was expected, without secrets."""
    with pytest.raises(ConfigError, match=r"redis\.url: expected") as caught:
        read_redis_url(url)
    assert expected in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_missing_certificates(tmp_path: Path) -> None:
    """A missing file of certificates is named in the error."""
    with pytest.raises(ConfigError, match=r"ssl_ca_certs: expected a file of certificates"):
        read_redis_url(f"rediss://host?ssl_ca_certs={tmp_path}/none.pem")


def test_repr_has_no_password() -> None:
    """The repr of a location shows where it is, and no login."""
    assert repr(Address(host="h", port=1, username="bob", password=PASSWORD)) == "h:1"
    assert repr(Address(path="/run/s", password=PASSWORD)) == "/run/s"
    for url in (f"redis+sentinel://u:{PASSWORD}@h/m?sentinel_password={PASSWORD}", f"redis+cluster://u:{PASSWORD}@h"):
        assert PASSWORD not in repr(read_redis_url(url))


def _addresses(url: str) -> list[Address]:
    match read_redis_url(url):
        case ClusterSeeds(servers):
            return list(servers)
        case SentinelGroup(sentinels, _, login):
            return [*sentinels, login]
        case address:
            return [address]
