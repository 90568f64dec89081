"""The path of a request: its bound, and what a request that breaks a rule is told. Knows no connection."""

from app.transport import refusals

#: Decoding a path costs 70 ns a byte, several times. The longest honest one names a topic, of which each byte is three.
MAX_PATH_BYTES = 1 << 14


class PathTooLong(Exception):
    """Ends the parsing of a request."""


def check_path(target: bytes) -> None:
    """Raise PathTooLong for a target whose path is over the bound."""
    if len(target) > MAX_PATH_BYTES < len(target.partition(b"?")[0]):
        raise PathTooLong


def refusal_of(error: Exception) -> tuple[int, str, str]:
    """Return status, reason and text for the parser's error: what its callback has raised is the error's context."""
    if isinstance(error.__context__, PathTooLong):
        return 414, refusals.PATH_TOO_LONG, f"expected at most {MAX_PATH_BYTES} bytes of path"
    return 400, refusals.MALFORMED, "Invalid HTTP request received."
