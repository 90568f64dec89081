"""Tables of commands: aligned, within the terminal, and without characters that it would obey."""

from __future__ import annotations

from app.commands.tables import plain, table


def test_columns_are_aligned() -> None:
    """Each column is as wide as its longest text, and lines end with their text."""
    assert table(("A", "LONG"), [("x", "y"), ("longer", "")], None) == "A       LONG\nx       y\nlonger"
    assert table(("A", "B"), [], None) == "A  B"


def test_lines_fit_the_terminal() -> None:
    """A line that is too long is cut, and shows it."""
    assert table(("A", "B"), [("12345", "67890")], 8) == "A      B\n12345  …"


def test_nothing_steers_the_terminal() -> None:
    """Names of strangers may hold escapes: these are shown as question marks."""
    assert plain("a\x1b[31mb\nc\u202e") == "a?[31mb?c?"
    assert table(("A",), [("\x1b]0;x\x07",)], None) == "A\n?]0;x?"
