"""The section `webhook:` of a site: its keys, its mistakes, and that no output holds its secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.load import load_config
from app.config.settings import Site, WebhookSettings
from app.errors import ConfigError
from app.protocols.listed import PROTOCOLS

SECRET = "whsec_cHV0LTI0LXJhbmRvbS1ieXRlcy1oZXJlISEh"
OTHER = "whsec_b3RoZXItMjQtcmFuZG9tLWJ5dGVzLWhlcmU="


def load(tmp_path: Path, section: str) -> Site:
    """The site with this section."""
    file = tmp_path / "sites.yml"
    file.write_text(f"shop:\n  authUrl: http://127.0.0.1/rooms\n  apiKey: secret\n  webhook: {section}\n")
    return load_config(None, file, {}, PROTOCOLS).sites["shop"]


def test_the_keys_of_a_webhook(tmp_path: Path) -> None:
    """URL, secret and events are needed; the grace is 5 s, and private addresses are refused, unless said otherwise."""
    site = load(tmp_path, f"{{url: 'https://example.com/a', secret: {SECRET}, events: [user.online]}}")
    assert site.webhook == WebhookSettings(url="https://example.com/a", secrets=(SECRET,), events=("user.online",))
    assert (site.webhook.offline_grace_seconds, site.webhook.allow_private, site.webhook.tells_presence) == (
        5,
        False,
        True,
    )
    given = f"url: 'https://example.com/a', secret: [{SECRET}, {OTHER}], events: [device.resync]"
    site = load(tmp_path, f"{{{given}, offline_grace: 0.5, allow_private: true}}")
    assert site.webhook.secrets == (SECRET, OTHER)
    assert (site.webhook.offline_grace_seconds, site.webhook.allow_private, site.webhook.tells_presence) == (
        0.5,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (f"{{secret: {SECRET}, events: [user.online]}}", "webhook.url: is missing"),
        ("{url: 'https://a.example/', events: [user.online]}", "webhook.secret: is missing"),
        (f"{{url: 'https://a.example/', secret: {SECRET}, events: []}}", "webhook.events: is missing"),
        (f"{{url: 'ftp://a.example/', secret: {SECRET}, events: [user.online]}}", "webhook.url: expected a URL"),
        (f"{{url: 'https://a.example/', secret: {SECRET}, events: [user.left]}}", "webhook.events: expected one of"),
        (
            "{url: 'https://a.example/', secret: whsec_c2hvcnQ=, events: [user.online]}",
            "webhook.secret: expected whsec_",
        ),
        (f"{{url: 'https://a.example/', secret: [{', '.join([SECRET] * 6)}], events: [user.online]}}", "at most 5"),
    ],
)
def test_mistakes_of_a_webhook(tmp_path: Path, section: str, line: str) -> None:
    """A mistake names its key; a wrong secret is not shown."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, section)
    assert line in str(caught.value)
    assert "whsec_c" not in str(caught.value)


def test_no_secret_of_a_webhook_is_shown(tmp_path: Path) -> None:
    """The repr of the site and of its webhook have neither the secret nor the URL."""
    site = load(tmp_path, f"{{url: 'https://example.com/hidden', secret: {SECRET}, events: [user.online]}}")
    for text in (repr(site), repr(site.webhook), str(site.webhook)):
        assert "whsec" not in text
        assert "hidden" not in text
