"""Bracketed forms: those of PHP and Rails are read, others are refused, and the time grows only with the size."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.protocols.sites.form import MAX_DEPTH, MAX_FIELDS, MAX_NAMES, read_form


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("rooms[]=a&rooms[]=b&event=x", {"rooms": ["a", "b"], "event": "x"}),
        ("args[0]=x&args[1][id]=1&args[1][tags][]=2", {"args": ["x", {"id": "1", "tags": ["2"]}]}),
        ("args[0][0]=1&args[0][1]=2&args[1]=", {"args": [["1", "2"], ""]}),
        ("args[1]=b&args[0]=a", {"args": ["a", "b"]}),
        ("args[5]=x", {"args": ["x"]}),
        ("args[100]=x", {"args": {"100": "x"}}),
        ("args[a]=1&args[0]=2", {"args": {"a": "1", "0": "2"}}),
        ("a=1&a=2&a[]=3", {"a": ["1", "2", "3"]}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a%5Bb%5D=%C3%A9+x", {"a": {"b": "é x"}}),
        ("é[]=ü%C3%A9", {"é": ["üé"]}),
        ("a&b=", {"a": "", "b": ""}),
        ("", {}),
        ("[]=1", {"[]": "1"}),
        ("a[b=1&c]=2&d[e]f=3", {"a[b": "1", "c]": "2", "d[e]f": "3"}),
    ],
)
def test_php_and_plain_forms(form: str, fields: dict[str, object]) -> None:
    """Lists, objects and texts nest as PHP writes them. A key without proper brackets is a name as it stands."""
    assert read_form(form.encode()) == fields


@pytest.mark.parametrize(
    ("form", "args"),
    [
        ("args[][a]=1&args[][b]=2&args[][a]=3&args[][b]=4", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        ("args[]=x&args[][id]=1&args[][tags][]=a&args[][tags][]=b", ["x", {"id": "1", "tags": ["a", "b"]}]),
        ("args[][a][b]=1&args[][a][c]=2&args[][a][b]=3", [{"a": {"b": "1", "c": "2"}}, {"a": {"b": "3"}}]),
        ("args[][]=1", [["1"]]),
    ],
)
def test_rails_lists_of_objects(form: str, args: list[object]) -> None:
    """In `[]` a new object begins when the last object already has the field, as in Rack."""
    assert read_form(form.encode()) == {"args": args}


@pytest.mark.parametrize(
    "form",
    [
        b"a=1&a[b]=2",
        b"a[b]=1&a[]=2",
        b"a[]=1&a[b]=2",
        b"a[b]=1&a=2",
        b"a=%ff",
        b"a=\xff",
        b"a" + b"[b]" * MAX_DEPTH + b"=1",
        b"a=1&" * MAX_FIELDS + b"a=1",
        b"&".join([b"a[]" + b"[b]" * (MAX_DEPTH - 2) + b"=1"] * (MAX_NAMES // MAX_DEPTH + 1)),
    ],
)
def test_what_is_refused(form: bytes) -> None:
    """A name with two types at once, bytes that are not UTF-8, and too deep or too wide forms are refused in words."""
    with pytest.raises(BadRequest, match=r"^Body: .*\.$"):
        read_form(form)


@given(st.binary(max_size=300) | st.text("a[]=&0%+", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """No body raises anything but BadRequest."""
    with contextlib.suppress(BadRequest):
        read_form(body)


def test_nodes_of_a_wide_form_are_visited_a_bounded_number_of_times() -> None:
    """5,000 items in any notation are read whole. A quadratic reader would need minutes for them."""
    for key in ("args[]", "args[%d]", "args[%d][a]", "args[][a]"):
        form = "&".join((key % n if "%" in key else key) + f"={n}" for n in range(MAX_FIELDS))
        assert len(read_form(form.encode())["args"]) == MAX_FIELDS


def test_name_that_is_repeated_costs_the_same_each_time() -> None:
    """Four times the fields take about four times as long, and not sixteen times."""

    def seconds(fields: int) -> float:
        form = b"&".join([b"args=1"] * fields)
        begun = time.thread_time()
        assert len(read_form(form)["args"]) == fields
        return time.thread_time() - begun

    assert min(seconds(MAX_FIELDS) for _ in range(3)) < 8 * min(seconds(MAX_FIELDS // 4) for _ in range(5))
