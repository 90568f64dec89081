"""`tls:` of config.yml and its variables: what belongs together, and the line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.config.load import load_config
from app.config.settings import Config, TlsSettings
from app.errors import ConfigError
from app.protocols.listed import PROTOCOLS


def load(folder: Path, tls: str = "{}", environ: Mapping[str, str] | None = None, rest: str = "") -> Config:
    """The settings of a config.yml with this `tls:`."""
    path = folder / "config.yml"
    path.write_text(f"production:\n  tls: {tls}\n{rest}")
    return load_config(path, None, environ or {}, PROTOCOLS)


def test_off_by_itself(tmp_path: Path) -> None:
    """Without a certificate the server speaks HTTP, at an address that begins so."""
    config = load(tmp_path)
    assert config.tls == TlsSettings()
    assert not config.tls.is_on
    assert config.own_url == "http://127.0.0.1:1337"


def test_all_keys(tmp_path: Path) -> None:
    """Every key has its setting, and the server's own address begins with https."""
    config = load(tmp_path, "{cert: a.pem, key: a.key, ca: ca.pem, verify_clients: true, redirect_port: 80}")
    files = {"cert": Path("a.pem"), "key": Path("a.key"), "ca": Path("ca.pem")}
    assert config.tls == TlsSettings(**files, verify_clients=True, redirect_port=80)
    assert config.own_url == "https://127.0.0.1:1337"


def test_variables(tmp_path: Path) -> None:
    """Variables win over the file, and stand for all of it."""
    names = {"CERT": "a.pem", "KEY": "a.key", "CA": "c.pem", "VERIFY_CLIENTS": "true", "REDIRECT_PORT": "8080"}
    config = load(tmp_path, "{cert: b.pem}", {f"RECADO_TLS_{name}": value for name, value in names.items()})
    assert config.tls.cert == Path("a.pem")
    assert (config.tls.verify_clients, config.tls.redirect_port) == (True, 8080)


@pytest.mark.parametrize(
    ("tls", "line"),
    [
        ("{cert: a.pem}", "production.tls.key: is missing, expected it beside tls.cert"),
        ("{key: a.key}", "production.tls.cert: is missing, expected it beside tls.key"),
        ("{ca: a.pem}", "production.tls.cert: is missing, expected it beside tls.ca"),
        ("{redirect_port: 80}", "production.tls.cert: is missing, expected it beside tls.redirect_port"),
        ("{cert: a, key: b, verify_clients: true}", "tls.ca: is missing, expected it beside tls.verify_clients"),
        ("{cert: a, key: b, redirect_port: 1337}", "tls.redirect_port: expected a port of its own"),
        ("{cert: a, key: b, redirect_port: 5222}", "tls.redirect_port: expected a port of its own"),
        ("{cert: a, key: b, redirect_port: 0}", "tls.redirect_port: expected a whole number >= 1"),
        ("{cert: a, key: b, verify_clients: perhaps}", "tls.verify_clients: expected true or false"),
        ("{cert: '', key: b}", "tls.cert: expected text that is not empty"),
        ("{cert: a, key: b, certs: c}", "tls.certs: unknown key, did you mean cert?"),
    ],
)
def test_mistakes(tmp_path: Path, tls: str, line: str) -> None:
    """A key that is missing beside another one, and a port that has another use, is named."""
    mounts = "  mounts: {channels: {site: shop, http_port: 5222}}\n"
    with pytest.raises(ConfigError, match=line.replace(".", r"\.")):
        load(tmp_path, tls, rest=mounts)
