"""`tracing:` of config.yml: off by itself, its keys, the line for each mistake, and no secret in any text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from app.config.changes import changes_between
from app.config.load import load_config
from app.config.settings import Config
from app.errors import ConfigError
from app.protocols.listed import PROTOCOLS

_URL = "http://collector:4318/v1/traces"


def load(folder: Path, tracing: str, environ: Mapping[str, str] | None = None) -> Config:
    """The settings of a config.yml with this `tracing:`."""
    path = folder / "config.yml"
    path.write_text(f"production:\n  tracing: {tracing}\n")
    return load_config(path, None, environ or {}, PROTOCOLS)


@pytest.mark.parametrize("tracing", ["null", "{}", "{endpoint: null}", "{endpoint: null, sample: 1, queue: 10000}"])
def test_off_by_itself(tmp_path: Path, tracing: str) -> None:
    """Without an endpoint there is no tracing, also where other keys have their defaults."""
    assert load(tmp_path, tracing).trace_endpoint is None


def test_all_keys(tmp_path: Path) -> None:
    """Every key has its setting, and a header may come from the environment."""
    keys = "headers: {authorization: 'Bearer ${KEY}'}, sample: 0.25, service: push, timeout: 2, queue: 500"
    config = load(tmp_path, f"{{endpoint: '{_URL}', {keys}}}", {"KEY": "from-outside"})
    assert (config.trace_endpoint, config.trace_headers) == (_URL, {"authorization": "Bearer from-outside"})
    assert (config.trace_sample, config.trace_service) == (0.25, "push")
    assert (config.trace_timeout_seconds, config.trace_queue) == (2.0, 500)


@pytest.mark.parametrize(
    ("tracing", "line"),
    [
        ("{sample: 0.5}", "production.tracing.endpoint: is missing"),
        ("{headers: {a: b}}", "production.tracing.endpoint: is missing"),
        ("{endpoint: collector}", "tracing.endpoint: expected a URL"),
        ("{endpoint: 'http://me:secret@collector/v1/traces'}", "tracing.endpoint: expected a URL"),
        ("{endpoint: 'grpc://collector:4317'}", "tracing.endpoint: expected a URL"),
        (f"{{endpoint: '{_URL}', sample: 1.5}}", "tracing.sample: expected"),
        (f"{{endpoint: '{_URL}', sample: -0.1}}", "tracing.sample: expected"),
        (f"{{endpoint: '{_URL}', timeout: 0}}", "tracing.timeout: expected"),
        (f"{{endpoint: '{_URL}', timeout: 61}}", "tracing.timeout: expected"),
        (f"{{endpoint: '{_URL}', queue: 99}}", "tracing.queue: expected"),
        (f"{{endpoint: '{_URL}', queue: 100001}}", "tracing.queue: expected"),
        (f"{{endpoint: '{_URL}', service: ''}}", "tracing.service: expected"),
        (f"{{endpoint: '{_URL}', headers: {{'a b': c}}}}", "tracing.headers: expected"),
        (f'{{endpoint: "{_URL}", headers: {{a: "c\\nd"}}}}', "tracing.headers: expected"),
        (f"{{endpoint: '{_URL}', header: {{}}}}", "tracing.header: unknown key, did you mean headers?"),
    ],
)
def test_mistakes(tmp_path: Path, tracing: str, line: str) -> None:
    """Each mistake names its key and the form that was expected."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, tracing)
    assert line in str(caught.value)
    assert "secret" not in str(caught.value)


def test_too_many_headers(tmp_path: Path) -> None:
    """The headers have a number."""
    headers = ", ".join(f"h{number}: v" for number in range(21))
    with pytest.raises(ConfigError, match=r"tracing\.headers: expected"):
        load(tmp_path, f"{{endpoint: '{_URL}', headers: {{{headers}}}}}")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither the settings nor the names of changes show a header, or the query of the endpoint."""
    config = load(tmp_path, f"{{endpoint: '{_URL}?key=hidden', headers: {{authorization: hidden}}}}")
    assert "hidden" not in repr(config)
    changes = changes_between(Config(), msgspec.structs.replace(config, environment="production"))
    assert changes.settings == ["tracing.endpoint", "tracing.headers"]
    assert "hidden" not in repr(changes)
