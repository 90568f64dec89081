"""The common parts of the pools: reasons for errors, and header values."""

import pytest

from app.backends.exchange import REASONS, BackendError, header_value, reason_of


def test_other_errors_have_no_reason() -> None:
    """An error of our own code has no reason, and is raised."""
    with pytest.raises(KeyError):
        reason_of(ZeroDivisionError(), REASONS)


def test_the_nearest_class_decides() -> None:
    """A time-out is an OSError too, and its reason is that of a time-out."""
    assert reason_of(TimeoutError(), REASONS) == "timed out"
    assert reason_of(ConnectionResetError(), REASONS) == "connection failed"


@pytest.mark.parametrize("text", ["a\nb", "a\0", "\x7f", "\u20ac", "\ud800"])
def test_text_that_no_header_carries(text: str) -> None:
    """The error has the name of the value, and nothing of its text."""
    with pytest.raises(BackendError, match=r"^token cannot be sent in an HTTP header$"):
        header_value(text, "token")
    assert header_value("é\t", "token") == b"\xe9\t"
