"""Lines of which strangers decide how many there are."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from app.observe import counted_lines
from app.observe.counted_lines import CountedLines
from tests.support.waiting import until


async def test_one_line_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line is written at once; those within a second become one line with their number, of each site."""
    monkeypatch.setattr(counted_lines, "WINDOW_SECONDS", 0.3)
    with capture_logs() as lines:
        counted = CountedLines(structlog.get_logger(), "warning", "send refused")
        for number in range(1_000):
            counted.tell(site="a", reason="wrong key", shown={"path": str(number)})
        counted.tell(site="b", reason="wrong key")
        first = {"event": "send refused", "log_level": "warning", "site": "a", "reason": "wrong key"}
        assert lines == [{**first, "path": "0"}, {**first, "site": "b"}]
        await until(lambda: len(lines) == 3, "the line with the number")
        assert lines[2] == {**first, "path": "999", "count": 999}
        counted.tell(site="a", reason="wrong key")
        await until(lambda: len(lines) == 4, "the next number")
        assert lines[3] == {**first, "count": 1}
        await until(lambda: not counted._waiting, "a second without a line")
        assert counted._shown == {}
        counted.tell(site="a", reason="wrong key")
        assert lines[4] == first
