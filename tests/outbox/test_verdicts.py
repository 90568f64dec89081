"""The meaning of each answer of a server, and of what is between."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.outbox.row import Meaning, SendReply
from app.outbox.verdicts import KEPT_CHARACTERS, MAX_ATTEMPTS, judge


def failed(code: str) -> str:
    """The body of a refusal of the server."""
    return json.dumps({"ok": False, "error": "the reason", "code": code})


@pytest.mark.parametrize(
    ("status", "text", "meaning"),
    [
        (200, "OK", Meaning.SENT),
        (400, failed("bad_request"), Meaning.PARKED),
        (413, failed("too_large"), Meaning.PARKED),
        (415, failed("unsupported_media_type"), Meaning.PARKED),
        (422, failed("idempotency_key_reused"), Meaning.PARKED),
        # Of a proxy: it takes no body of this size, or speaks no TLS.
        (413, "<html>", Meaning.PARKED),
        (400, "<html>The plain HTTP request was sent to HTTPS port", Meaning.SERVER_WAITS),
        (401, failed("unauthorized"), Meaning.SITE_WAITS),
        (429, failed("sends_per_second"), Meaning.SITE_WAITS),
        (429, "<html>", Meaning.SITE_WAITS),
        (500, failed("not_stored"), Meaning.LATER),
        (500, "<html>", Meaning.SERVER_WAITS),
        (503, failed("unavailable"), Meaning.SERVER_WAITS),
        (301, "", Meaning.SERVER_WAITS),
        (404, "", Meaning.SERVER_WAITS),
        (408, failed("too_slow"), Meaning.SERVER_WAITS),
        (0, "no answer", Meaning.SERVER_WAITS),
    ],
)
def test_each_answer(status: int, text: str, meaning: Meaning) -> None:
    """A refusal of the message parks it, one of the key holds the site, and everything else holds the server."""
    verdict = judge(SendReply(status, text, 7.0), 0)
    assert verdict.meaning is meaning
    assert verdict.wait_seconds == (
        7.0 if meaning in (Meaning.SITE_WAITS, Meaning.SERVER_WAITS) else verdict.wait_seconds
    )
    if text.startswith("{"):
        assert verdict.reason == f"{status}: the reason"


def test_a_message_that_fails_by_itself() -> None:
    """A message that the server cannot store is tried later and later, and is set aside in the end."""
    verdicts = [judge(SendReply(500, failed("not_stored")), attempts) for attempts in range(MAX_ATTEMPTS)]
    assert [one.wait_seconds for one in verdicts[:-1]] == [1, 2, 4, 8]
    assert {one.meaning for one in verdicts[:-1]} == {Meaning.LATER}
    assert (verdicts[-1].meaning, verdicts[-1].reason) == (Meaning.PARKED, "500: the reason (5 times)")


@given(st.integers(0, 600), st.text() | st.from_type(bytes).map(lambda text: text.decode("utf-8", "surrogateescape")))
def test_no_answer_raises(status: int, text: str) -> None:
    """With any answer the reason is a short line that SQL can hold."""
    reason = judge(SendReply(status, text), 0).reason
    assert len(reason) <= KEPT_CHARACTERS + 20
    assert "\0" not in reason
    assert "\n" not in reason
    reason.encode()


def test_deep_answers() -> None:
    """A body that is nested very deeply is a text like any other."""
    assert judge(SendReply(400, "[" * 4000), 0).meaning is Meaning.SERVER_WAITS
