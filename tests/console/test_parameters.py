"""Parameters: the sentence for each mistake, lists, times, cursors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from app.console.parameters import gathered, read_json, read_parameters, read_place, time_ms, write_place
from app.errors import RequestRefused
from app.protocols.operations import Call, Inputs, Operation, Role, Words


class Things(Inputs, frozen=True, kw_only=True):
    """Parameters of several types."""

    name: Words
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    is_new: bool = False
    kind: Literal["a", "b"] | None = None
    sites: Annotated[tuple[Words, ...], Meta(max_length=2)] | None = None


async def _run(call: Call) -> None:
    raise AssertionError("only its parameters are read")


OPERATION = Operation("things.list", "", "GET", "/things", Role.VIEWER, _run, Things)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "name: is missing."),
        ({"name": ""}, "name: expected a text, not empty, without a NUL."),
        ({"name": "a\0"}, "name: expected a text, not empty, without a NUL."),
        ({"name": "a" * 1025}, "name: expected text of length <= 1024."),
        ({"name": 5}, "name: expected text, got a whole number."),
        ({"name": "a", "count": "0"}, "count: expected a whole number >= 1."),
        ({"name": "a", "count": "x"}, "count: expected a whole number, got text."),
        ({"name": "a", "is_new": "maybe"}, "is_new: expected true or false, got text."),
        ({"name": "a", "kind": "c"}, "kind: expected one of a, b."),
        ({"name": "a", "sites": "b"}, "sites: expected a list, got text."),
        ({"name": "a", "sites": ["b", ""]}, "sites: expected a text, not empty, without a NUL."),
        ({"name": "a", "sites": ["b", "c", "d"]}, "sites: expected a list of length <= 2."),
        ({"name": "a", "nane": "b"}, "nane: expected no such parameter."),
    ],
)
def test_mistakes(given: dict[str, Any], sentence: str) -> None:
    """A mistake is one sentence, with the parameter's name and the expected value, and without the given one."""
    with pytest.raises(RequestRefused) as refusal:
        read_parameters(OPERATION, given)
    assert str(refusal.value) == sentence


def test_values() -> None:
    """Numbers and truth may be text."""
    read = read_parameters(OPERATION, {"name": "a", "count": "3", "is_new": "true", "kind": "b", "sites": ["x"]})
    assert read == Things(name="a", count=3, is_new=True, kind="b", sites=("x",))


def test_a_form() -> None:
    """Of equal names a list takes all, another parameter the first; empty fields of a form are not given."""
    pairs = [("name", "a"), ("name", "b"), ("sites", "x"), ("sites", "y"), ("count", "")]
    assert gathered(Things, pairs, drops_empty=True) == {"name": "a", "sites": ["x", "y"]}
    assert gathered(Things, pairs, drops_empty=False)["count"] == ""
    with pytest.raises(RequestRefused):
        gathered(Things, [("name", "a")] * 101, drops_empty=True)


@pytest.mark.parametrize("body", [b"[]", b"{", b"1", b'"\xff"', b"[" * 100_000, b'{"a":"\\ud800"}', b"\xff"])
def test_bodies_that_are_no_object(body: bytes) -> None:
    """Anything but a JSON object is refused in words."""
    with pytest.raises(RequestRefused, match="JSON object"):
        read_json(body)


def test_bodies() -> None:
    """No body is no parameter."""
    assert (read_json(b""), read_json(b'{"a":1}')) == ({}, {"a": 1})


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01T00:00:01.250", 1250),
        ("1970-01-01 00:01", 60_000),
        ("1960-01-01T00:00:00Z", 0),
    ],
)
def test_times(text: str, ms: int) -> None:
    """A time without a zone is UTC."""
    assert time_ms("since", text) == ms


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59-23:00"])
def test_wrong_times(text: str) -> None:
    """Any other text is refused; a time past the last one is the last one."""
    if text.startswith("9999"):
        assert time_ms("since", text) == 253_402_300_799_999
    else:
        with pytest.raises(RequestRefused, match="since"):
            time_ms("since", text)


def test_cursors() -> None:
    """A cursor leads back to its place, and any other text is refused."""
    assert read_place(write_place((5, 7))) == (5, 7)
    assert (read_place(None), write_place(None)) == (None, None)
    for text in ("5", "5.", ".7", "-1.7", "5.7.8", "\u0665.7", "1" * 30 + ".1"):
        with pytest.raises(RequestRefused, match="cursor"):
            read_place(text)
