"""The reading of an event, and its senders."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta

from app.config.settings import Site
from app.protocols.messenger.answers import ChatEvent, ChatRefusal, NoData
from app.protocols.messenger.bounds import MAX_EVENT_BYTES
from app.protocols.messenger.caller import ChatCaller, ChatUser
from app.protocols.messenger.handlers import Handler, Standing, check_standing, read_event


class Sample(ChatEvent):
    """An event with data."""

    text: Annotated[str, Meta(max_length=5)] = ""
    data: Any = None


async def _handle(caller: Any, data: Any) -> None:
    """An event that is never handled here."""


def deep(levels: int) -> Any:
    """Lists within lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED = {
    "two arguments": ([{}, {}], "bad_request"),
    "no object": ([5], "bad_request"),
    "another type": ([{"text": 5}], "bad_request"),
    "unknown": ([{"text": "a", "from": 7}], "unknown_field"),
    "long": ([{"text": "abcdef"}], "too_long"),
    "large": ([{"data": "x" * MAX_EVENT_BYTES}], "too_long"),
    "half a character": ([{"data": "\ud83d"}], "bad_request"),
    "half a key": ([{"data": {"\ud83d": 1}}], "bad_request"),
    "NUL": ([{"data": ["a\0b"]}], "bad_request"),
    "deep": ([{"data": deep(500)}], "bad_request"),
    "too deep for Python": ([{"data": deep(100_000)}], "bad_request"),
    "a large number": ([{"data": 10**5000}], "bad_request"),
    "no JSON": ([{"data": object()}], "bad_request"),
}


@pytest.mark.parametrize(("args", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(args: list[Any], code: str) -> None:
    """Data of any kind is read, or refused with a code; nothing else is raised."""
    with pytest.raises(ChatRefusal) as refused:
        read_event(Handler(Sample, _handle), args)
    assert refused.value.code == code
    assert refused.value.answer["error"]["message"]


def test_what_is_read() -> None:
    """An absent argument is an object without fields; a backslash before u0000 is text."""
    assert read_event(Handler(NoData, _handle), []) == NoData()
    assert read_event(Handler(NoData, _handle), [None]) == NoData()
    assert read_event(Handler(Sample, _handle), [{"data": "\\u0000"}]) == Sample(data="\\u0000")


def caller_with(**columns: Any) -> ChatCaller:
    """A client whose user has these columns; without any, a stranger."""
    caller = ChatCaller(Site(name="team", api_key="k"), None, "10.0.0.1", "d1")  # type: ignore[arg-type]
    if columns:
        known = {"id": 1, "login": "a", "name": "", "sign": "", "icon": "", "is_admin": False, "is_disabled": False}
        caller.user = ChatUser(**{**known, "must_change": False, **columns})
    return caller


CALLERS = {
    Standing.STRANGER: caller_with(),
    Standing.CHANGING: caller_with(must_change=True, is_admin=True),
    Standing.USER: caller_with(is_admin=False),
    Standing.ADMIN: caller_with(is_admin=True),
}
CODES = {
    Standing.STRANGER: "not_logged_in",
    Standing.CHANGING: "must_change_password",
    Standing.USER: "not_admin",
}


@pytest.mark.parametrize("least", list(Standing))
@pytest.mark.parametrize("standing", list(Standing))
def test_standings(standing: Standing, least: Standing) -> None:
    """An event is heard from the standing that it asks for on; who is below hears why not."""
    handler = Handler(NoData, _handle, least)
    if standing >= least:
        check_standing(CALLERS[standing], handler)
        return
    with pytest.raises(ChatRefusal) as refused:
        check_standing(CALLERS[standing], handler)
    assert refused.value.code == CODES[standing]
