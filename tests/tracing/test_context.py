"""`traceparent` and `tracestate` are read as the standard says, whatever a stranger writes; so are announcements."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.tracing.context import (
    MAX_TRACEPARENT,
    MAX_TRACESTATE,
    MOST_STATE_MEMBERS,
    Announcement,
    TraceContext,
    read_announcement,
    read_context,
)

_TRACE, _SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_PARENT = f"00-{_TRACE}-{_SPAN}-01"
#: A busy machine is no mistake.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_BYTES = (st.binary(min_size=size, max_size=size) for size in (1, 16, 8, 1))
_HEADERS = st.tuples(*_BYTES).map(lambda parts: "-".join(part.hex() for part in parts))


def read(parent: str | bytes, *states: str) -> TraceContext | None:
    """The context of a request with these headers."""
    value = parent if isinstance(parent, bytes) else parent.encode("latin-1")
    return read_context([(b"traceparent", value), *((b"tracestate", state.encode("latin-1")) for state in states)])


def state_of(*states: str) -> str:
    """The `tracestate` that goes on."""
    context = read(_PARENT, *states)
    assert context is not None
    return context.state


def test_a_header_of_the_standard() -> None:
    """A header is read, and written as it came."""
    context = read(_PARENT)
    assert context == TraceContext(_TRACE, _SPAN, True)
    assert context.header == _PARENT
    unsampled = read(_PARENT[:-2] + "00")
    assert unsampled is not None
    assert not unsampled.is_sampled
    assert unsampled.header.endswith("-00")


def test_without_headers() -> None:
    """Without `traceparent` there is no context, whatever `tracestate` says."""
    assert read_context([]) is None
    assert read_context([(b"tracestate", b"a=1")]) is None


@pytest.mark.parametrize(
    ("parent", "is_sampled"),
    [
        (f"00-{_TRACE}-{_SPAN}-ff", True),
        (f"00-{_TRACE}-{_SPAN}-02", False),
        (f" {_PARENT}\t", True),
        # A later version may have more fields; the first four are read.
        (f"cc-{_TRACE}-{_SPAN}-01", True),
        (f"cc-{_TRACE}-{_SPAN}-01-more-fields", True),
        (f"cc-{_TRACE}-{_SPAN}-00-", False),
    ],
)
def test_headers_that_count(parent: str, is_sampled: bool) -> None:
    """Flags that are not known, blanks around, and later versions are no reason to refuse."""
    assert read(parent) == TraceContext(_TRACE, _SPAN, is_sampled)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"ff-{_TRACE}-{_SPAN}-01",
        f"00-{_TRACE}-{_SPAN}-01-",
        f"00-{_TRACE}-{_SPAN}-01-more",
        f"00-{_TRACE}-{_SPAN}-1",
        f"00-{_TRACE}-{_SPAN}",
        f"00-{_TRACE.upper()}-{_SPAN}-01",
        f"00-{'0' * 32}-{_SPAN}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE[1:]}-{_SPAN}-01",
        f"00_{_TRACE}_{_SPAN}_01",
        f"0-{_TRACE}-{_SPAN}-01",
        f"{_PARENT}\n",
        f"cc-{_TRACE}-{_SPAN}-01.more",
        f"cc-{_TRACE}-{_SPAN}-01-{'a' * MAX_TRACEPARENT}",
        "00-" + "\u00e9" * 32 + f"-{_SPAN}-01",
    ],
)
def test_headers_that_break_the_standard(parent: str) -> None:
    """A header that breaks the standard is as none."""
    assert read(parent) is None


def test_two_headers_are_none() -> None:
    """Of two headers none counts: nobody can say which caller is meant."""
    assert read_context([(b"traceparent", _PARENT.encode())] * 2) is None


@_PATIENT
@given(st.binary(max_size=300))
def test_any_bytes(value: bytes) -> None:
    """Nothing that a stranger writes raises; a context has digits of the right number, and is no zero."""
    context = read(value)
    if context is not None:
        assert (len(context.trace_id), len(context.span_id)) == (32, 16)
        assert int(context.trace_id, 16)
        assert int(context.span_id, 16)
        assert read(context.header) == context


@_PATIENT
@given(_HEADERS, st.integers(0, 54), st.binary(max_size=2))
def test_headers_with_a_mistake(parent: str, place: int, wrong: bytes) -> None:
    """A right header with some bytes replaced is read as the standard says or not at all."""
    value = parent.encode()
    value = value[:place] + wrong + value[place + 1 :]
    context = read(value)
    assert context is None or value.strip(b" \t")[3:52].decode() == f"{context.trace_id}-{context.span_id}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=1"], "a=1"),
        (["a=1,b=2", "c=3"], "a=1,b=2,c=3"),
        (["a=1 , ,b=2,"], "a=1,b=2"),
        (
            [
                "tenant@vendor=x",
            ],
            "tenant@vendor=x",
        ),
        (["0a=1"], "0a=1"),
        (["a*/_-1=!~"], "a*/_-1=!~"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a="], ""),
        (["a=1=2"], ""),
        (["a=\u00e9"], ""),
        (["@v=1"], ""),
    ],
)
def test_states(given: list[str], expected: str) -> None:
    """`tracestate` goes on as it came; one that breaks the standard is left out whole."""
    assert state_of(*given) == expected


def test_states_past_the_bounds() -> None:
    """As many members and characters as the standard asks for go on; more are left out."""
    members = [f"k{number}=1" for number in range(MOST_STATE_MEMBERS)]
    assert state_of(",".join(members)) == ",".join(members)
    assert state_of(",".join([*members, "more=1"])) == ""
    longest = "a=" + "x" * 256 + ",b=" + "y" * (MAX_TRACESTATE - 261)
    assert len(longest) == MAX_TRACESTATE
    assert state_of(longest) == longest
    assert state_of(longest + "y") == ""


@_PATIENT
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_state(values: list[bytes]) -> None:
    """No `tracestate` raises, or hurts the trace; what goes on is within the bounds and reads the same again."""
    context = read_context([(b"traceparent", _PARENT.encode()), *((b"tracestate", value) for value in values)])
    assert context is not None
    assert len(context.state) <= MAX_TRACESTATE
    assert state_of(context.state) == context.state


def test_an_announcement_comes_as_it_went() -> None:
    """Site, id, seq and context come through, with any name of a site."""
    sent = Announcement("d\u00eda \U0001f600", "123", TraceContext(_TRACE, _SPAN, True, "a=1"), 5_000_000_000)
    assert read_announcement(sent.encode()) == sent


@_PATIENT
@given(st.binary(max_size=200))
def test_any_announcement(data: bytes) -> None:
    """An announcement of another version is passed over, and does not raise."""
    found = read_announcement(b"trace\n" + data)
    assert found is None or found.seq >= 0
