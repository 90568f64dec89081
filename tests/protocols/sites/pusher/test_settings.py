"""The section `pusher:` of a site, through sites.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.load import load_config
from app.config.settings import Config
from app.errors import ConfigError
from app.protocols.listed import PROTOCOLS
from app.protocols.sites.protocol import SITES
from app.protocols.sites.pusher.settings import PusherApp

BLOCK = {"authUrl": "http://localhost/rooms", "apiKey": "a"}
APP = {"app_id": 7, "key": "k", "secret": "s3cr3t"}


def load(directory: Path, *sections: dict[str, Any]) -> Config:
    """Read a sites.yml with a site for each section, and check the sites together."""
    blocks = {f"site{number}": {**BLOCK, "pusher": section} for number, section in enumerate(sections)}
    (directory / "sites.yml").write_text(yaml.safe_dump(blocks))
    config = load_config(None, directory / "sites.yml", {}, PROTOCOLS)
    SITES.check(config)
    return config


def test_an_app(tmp_path: Path) -> None:
    """An id may be a number; a key has its secret; two keys have theirs in order. No output has a secret."""
    config = load(tmp_path, APP, {"app_id": "b", "key": ["new", "old"], "secret": ["1", "2"], "decode": True})
    first, second = (site.require_section(PusherApp) for site in config.sites.values())
    assert (first.id, first.secrets, first.decode_data) == ("7", {"k": "s3cr3t"}, False)
    assert (second.id, second.secrets, second.decode_data) == ("b", {"new": "1", "old": "2"}, True)
    shown = [section.describe(first) for section in SITES.sections if section.settings is PusherApp]
    assert "s3cr3t" not in repr(first) + str(shown)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"app_id": None}, "site 'site0': pusher.app_id: expected 1 to 64 letters"),
        ({"app_id": "a/b"}, "site 'site0': pusher.app_id: expected 1 to 64 letters"),
        ({"app_id": "a" * 65}, "site 'site0': pusher.app_id: expected 1 to 64 letters"),
        ({"app_id": -1}, "pusher.app_id: expected"),
        ({"key": None, "secret": None}, "site 'site0': pusher.key: expected one key"),
        ({"key": ["a", "a"], "secret": ["1", "2"]}, "site 'site0': pusher.key: expected one key"),
        ({"key": ["a", "b", "c"], "secret": ["1", "2", "3"]}, "site 'site0': pusher.key: expected one key"),
        ({"secret": None}, "site 'site0': pusher.secret: expected one for each key"),
        ({"secret": ["1", "2"]}, "site 'site0': pusher.secret: expected one for each key"),
        ({"keys": "a"}, "pusher.keys: unknown key, did you mean key?"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    """Each names the site, the key and what was expected, and no secret."""
    section = {key: value for key, value in {**APP, **changes}.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, section)
    assert text in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_two_sites_are_two_apps(tmp_path: Path) -> None:
    """An app is one site."""
    with pytest.raises(ConfigError, match=r"site 'site1': pusher.app_id: expected another one, site 'site0' has '7'"):
        load(tmp_path, APP, {**APP, "app_id": "7"})
