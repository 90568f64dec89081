"""The parameters of a request for receipts: the forms that are taken, and the refusals of all others."""

from __future__ import annotations

from datetime import datetime

import pytest

from app.clock import rfc3339
from app.protocols.receipts.parameters import Parameters, message_id
from app.protocols.receipts.refusal import ReceiptRefused


def parameters(**query: str) -> Parameters:
    """A query."""
    return Parameters(query, "key", "/messages")


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("1000", 1000), ("007", 7)])
def test_limits(text: str, limit: int) -> None:
    """A page has 1 to 1,000 items, 100 when nothing is said."""
    assert parameters(limit=text).limit() == limit
    assert parameters().limit() == 100


@pytest.mark.parametrize("text", ["0", "1001", "-1", "", "1.0", "1e2", "٣", "9" * 5_000, " 5", "+5"])
def test_other_limits_are_refused(text: str) -> None:
    """Anything else is no limit."""
    with pytest.raises(ReceiptRefused, match=r"limit: expected a number from 1 to 1000\."):
        parameters(limit=text).limit()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-27T10:00:00Z", "2026-11-27T10:00:00.000Z"),
        ("2026-11-27t10:00:00.1239z", "2026-11-27T10:00:00.124Z"),
        ("2026-11-27T10:00:00.5+01:30", "2026-11-27T08:30:00.500Z"),
        ("1960-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times(text: str, shown: str) -> None:
    """RFC 3339 in any zone; answers are in UTC with milliseconds."""
    assert rfc3339(parameters(since=text).time("since") or 0) == shown
    assert datetime.fromisoformat(shown)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11-27", "2026-11-27T10:00:00", "2026-13-01T00:00:00Z", "20261127T100000Z", "1764237600",
     "2026-11-27T10:00:00 01:00", "2026-11-27T24:00:01Z", "2026-11-27T10:00:00Z\n"],
)  # fmt: skip
def test_other_times_are_refused(text: str) -> None:
    """Anything else is no time; the text says how one looks."""
    with pytest.raises(ReceiptRefused, match=r"since: expected a time like 1970-01-01T00:00:00\.000Z"):
        parameters(since=text).time("since")


def test_names() -> None:
    """A name has at most 1,024 bytes and no NUL; an empty one counts where it may."""
    assert parameters(user="user_é").required("user") == "user_é"
    assert parameters().text("user") is None
    assert parameters(device="").required("device", may_be_empty=True) == ""
    for wrong in ("", "é" * 513, "a\0b"):
        with pytest.raises(ReceiptRefused, match="user: expected"):
            parameters(user=wrong).required("user")
    with pytest.raises(ReceiptRefused, match="Missing query param 'user'"):
        parameters().required("user")


def test_choices_and_flags() -> None:
    """One of the words; true or false in the usual forms."""
    assert parameters(state="acked").choice("state", ("waiting", "acked")) == "acked"
    with pytest.raises(ReceiptRefused, match=r"state: expected one of waiting, acked\."):
        parameters(state="lost").choice("state", ("waiting", "acked"))
    assert [parameters(resync=word).flag("resync") for word in ("true", "TRUE", "1", "false", "0", "")] == [
        *[True] * 3,
        *[False] * 3,
    ]
    assert not parameters().flag("resync")
    with pytest.raises(ReceiptRefused, match=r"resync: expected true or false\."):
        parameters(resync="maybe").flag("resync")


def test_unknown_parameters_are_refused() -> None:
    """A filter with a slip of the pen does not answer too much; site and key are known everywhere."""
    parameters(site="a", apiKey="b", user="c").allow(("user",))
    with pytest.raises(ReceiptRefused, match="usr: expected no such parameter"):
        parameters(usr="c").allow(("user",))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "abc", "0x10", "9" * 20, str(2**63), "٣"])
def test_ids_are_decimal(text: str) -> None:
    """An id is a decimal number that fits into 63 bits."""
    assert message_id("7190012345678901234") == 7190012345678901234
    with pytest.raises(ReceiptRefused):
        message_id(text)
