"""A finding of the doctor: what one check has seen, and the lines that mend it."""

from collections.abc import Iterable

from msgspec import Struct

#: The states, from good to bad. Only a fault fails the command.
OK, SKIPPED, WARNING, FAULT = "ok", "skipped", "warning", "fault"
_SHOWN_CHARACTERS = 120


class LineToChange(Struct, frozen=True):
    """A line to change: the file (`nginx`, `haproxy`, `caddy`, `config.yml`, ...) and the text of the line."""

    where: str
    line: str


class Finding(Struct, frozen=True):
    """The outcome of one check. It holds no secret."""

    check: str
    state: str
    text: str
    change: tuple[LineToChange, ...] = ()


def shown(text: object) -> str:
    """A text from outside, short and on one line, without characters that a terminal would obey."""
    line = " ".join(str(text).split())
    printable = "".join(character if character.isprintable() else "?" for character in line)
    return printable if len(printable) <= _SHOWN_CHARACTERS else printable[:_SHOWN_CHARACTERS] + "..."


def has_fault(findings: Iterable[Finding]) -> bool:
    """Whether something is wrong."""
    return any(finding.state == FAULT for finding in findings)
