"""Tracing is off by default and then imports nothing; without its packages the setting is a mistake that names them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.config.settings import Config
from app.errors import ConfigError
from app.observe.counts import Counts
from app.tracing import load
from app.tracing.load import check_tracing_packages, open_tracing
from tests.support.processes import REPOSITORY

_IMPORTED = """
import sys
import app.cli, app.node.run, app.protocols.listed
unwanted = ("app.tracing.export", "opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf")
print([name for name in sys.modules if name.startswith(unwanted)])
"""


def test_off_by_default() -> None:
    """Without the setting there is nothing."""
    check_tracing_packages(Config())
    assert open_tracing(Config(), "node-1", Counts()) is None


def test_nothing_is_imported_while_it_is_off() -> None:
    """A server imports neither the adapter nor the packages for spans. (redis-py imports those for metrics where it
    finds them.)"""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED], cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake names the setting and the extra."""
    monkeypatch.setattr(load, "_ADAPTER", "app.tracing.no_such_module")
    config = Config(trace_endpoint="http://127.0.0.1:4318/v1/traces")
    with pytest.raises(ConfigError, match=r"tracing: .*recado\[tracing\]"):
        open_tracing(config, "node-1", Counts())


async def test_on() -> None:
    """With the setting and its packages there is tracing."""
    config = Config(trace_endpoint="http://127.0.0.1:1/v1/traces", trace_timeout_seconds=0.1)
    tracing = open_tracing(config, "node-1", Counts())
    assert tracing is not None
    await tracing.close()
