"""Tables of a command's output: columns as wide as their texts, lines no wider than the terminal."""

from collections.abc import Sequence

_GAP = "  "


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """The lines of a table. With a width each line is cut there; characters that would steer a terminal are `?`."""
    texts = [heads, *([plain(text) for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    lines = (_GAP.join(text.ljust(size) for text, size in zip(row, widths, strict=True)).rstrip() for row in texts)
    return "\n".join(line if width is None or len(line) <= width else line[: width - 1] + "…" for line in lines)


def plain(text: str) -> str:
    """The text without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
