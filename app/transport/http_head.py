"""The bounds of a request's head beside its size: the path, percent signs and headers, each of which costs more than
its bytes. The names of uvicorn that this module overrides are listed in `internals`."""

from app.transport import refusals
from app.transport.http_unread import ReadProtocol

#: The longest honest path names a topic.
MAX_PATH_BYTES = 1 << 13
#: Decoding one takes 150 ns, in a path twice and more: there as many as fit with their digits.
MAX_ESCAPES = 6_144
#: Each costs 200 ns. Browsers send some twenty.
MAX_HEADERS = 512


class TargetTooLong(Exception):
    """Ends the parsing of a request."""


class TooManyHeaders(Exception):
    """Ends the parsing of a request."""


class HeadProtocol(ReadProtocol):
    """uvicorn's HTTP protocol with a bound of headers. Lives as that does."""

    __slots__ = ()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; raise TooManyHeaders past the bound."""
        name = name.lower()
        headers = self.headers
        headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(headers) > MAX_HEADERS:
            raise TooManyHeaders


def check_target(target: bytes) -> None:
    """Raise TargetTooLong for a target whose path is too long, or that has too many percent signs."""
    if len(target) > MAX_PATH_BYTES // 3:
        path = target.partition(b"?")[0]
        if max(len(path), 3 * path.count(b"%")) > MAX_PATH_BYTES or target.count(b"%") > MAX_ESCAPES:
            raise TargetTooLong


def refusal_of(error: Exception) -> tuple[int, str, str]:
    """Return status, reason and text for the parser's error: what its callback has raised is the error's context."""
    if isinstance(error.__context__, TargetTooLong):
        expected = f"at most {MAX_PATH_BYTES} bytes of path, and {MAX_ESCAPES} percent signs"
        return 414, refusals.TARGET_TOO_LONG, f"expected {expected}"
    if isinstance(error.__context__, TooManyHeaders):
        return 431, refusals.HEAD_TOO_LARGE, f"expected at most {MAX_HEADERS} headers"
    return 400, refusals.MALFORMED, "Invalid HTTP request received."
