"""The measurement of a messenger, small: the users of its load test log in, write, and hear of every receipt."""

from __future__ import annotations

import pytest

from bench.messenger import main, parse


def test_the_load_test(capsys: pytest.CaptureFixture[str]) -> None:
    """Three users send twenty messages each: in one process each message is eleven operations, and none is lost."""
    main(parse(["--messages", "20", "--workers", "1", "--databases", "sqlite"]))
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    [head, _, row] = rows
    shown = dict(zip(head, row, strict=True))
    assert (shown["database"], shown["processes"], shown["operations"]) == ("sqlite", "1", "660")
    assert float(shown["messages/s"].replace(",", "")) > 0
