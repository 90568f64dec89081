"""The versions that operators see."""

from __future__ import annotations

import platform

import pytest

from app.observe import versions as module
from app.observe.versions import versions


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and the libraries have theirs; a library that is not installed is left out."""
    monkeypatch.setattr(module, "_LIBRARIES", ("starlette", "no such library"))
    versions.cache_clear()
    found = versions()
    assert found["Python"] == platform.python_version()
    assert found["starlette"]
    assert found["OpenSSL"].startswith("OpenSSL")
    assert "no such library" not in found
    versions.cache_clear()
