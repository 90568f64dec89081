"""The figures of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.observe import process
from app.observe.counts import Durations
from app.observe.process import DurationsWindow, cpu_seconds, memory_bytes


def test_memory_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process holds some megabytes, also where the system shows only the most that it ever held."""
    assert 1_000_000 < memory_bytes() < 10_000_000_000
    monkeypatch.setattr(process, "_STATM", Path("/nowhere"))
    assert memory_bytes() > 1_000_000
    assert cpu_seconds() > 0


def test_the_window_shows_what_is_new() -> None:
    """The mean and the longest are those since the last look."""
    durations = Durations()
    durations.observe(4.0)
    window = DurationsWindow(durations)
    assert window.look() == (0.0, 0.0)
    durations.observe(0.001)
    durations.observe(0.02)
    assert window.look() == (10.5, 25.0)
    durations.observe(100.0)
    assert window.look()[1] == 10_000.0
