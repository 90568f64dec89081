"""The packages whose own code speaks HTTP, against a server that ends TLS: PHP and Ruby."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packages.conftest import KEY
from tests.packages.languages import LANGUAGES, Language, Package, Refusal
from tests.support.certificates import Authority
from tests.support.deployment import Deployment

_SPEAKING = [language for language in LANGUAGES if language.name in ("php", "ruby")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that has signed the server's certificate, for 127.0.0.1."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Deployment]:
    """A server with TLS."""
    pair = authority.sign("www.example.com")
    deployment = Deployment(
        {"plain": {"authUrl": "https://shop.example.com/rooms", "apiKey": KEY}},
        {"tls": {"cert": str(pair.cert), "key": str(pair.key)}},
    )
    yield deployment
    deployment.end()


@pytest.mark.parametrize("language", _SPEAKING, ids=str)
def test_a_message_over_tls(
    language: Language,
    packages: Callable[[Language], Package],
    server: Deployment,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """A message goes over TLS to a server whose certificate is trusted; any other one is unreachable."""
    package = packages(language)
    client = {"url": server.url, "site": "plain", "api_key": KEY, "retries": 0}
    trusting = client | {"ca_file": str(authority.cert)}
    long = "é" * 200_000
    assert package.call(trusting, "send", rooms="all", event="news", args=[long])["recipients"] == 0
    for distrusting in (client, client | {"ca_file": str(Authority(tmp_path, "another").cert)}):
        with pytest.raises(Refusal) as raised:
            package.call(distrusting, "send", rooms="all", event="news")
        assert raised.value.kind == "unreachable"
        assert "certificate" in raised.value.text.lower()
        assert KEY not in raised.value.text
