"""The context of a trace, as W3C Trace Context writes it in headers, and as nodes tell it to each other.

Plain text in, values out: nothing that is read here can raise.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

#: The bytes of a `traceparent`: a later version than 00 may append fields, which nobody reads.
MAX_TRACEPARENT = 256
#: The characters and the members of a `tracestate`. The standard asks for as many at least; a longer one is left out.
MAX_TRACESTATE = 512
MOST_STATE_MEMBERS = 32

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_FORBIDDEN_VERSION = b"ff"
_SAMPLED = 0x01
_KEY = r"(?:[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rf"({_KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")
#: The begin of an announcement on the bus.
TRACE = b"trace\n"


class TraceContext(Struct, frozen=True):
    """A span as others name it. Lives as long as its holders."""

    #: 32 and 16 digits of hexadecimal.
    trace_id: str
    span_id: str
    is_sampled: bool = True
    #: `tracestate`, which is passed on as it came; "" for none.
    state: str = ""

    @property
    def header(self) -> str:
        """The context as the value of `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.is_sampled else 0:02x}"


def read_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The context in the headers of a request. None without one, and where it breaks the standard: a request with such
    a header begins a trace of its own. A `tracestate` that breaks the standard is left out."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    context = _parent(parents[0], states) if len(parents) == 1 else None
    return context


def _parent(value: bytes, states: Sequence[bytes]) -> TraceContext | None:
    value = value.strip(b" \t")
    found = _PARENT.fullmatch(value) if len(value) <= MAX_TRACEPARENT else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _FORBIDDEN_VERSION or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED), _state(states))


def _state(values: Sequence[bytes]) -> str:
    if not values or sum(map(len, values)) + len(values) - 1 > MAX_TRACESTATE:
        return ""
    members = [member for value in values for part in value.split(b",") if (member := part.strip(b" \t"))]
    found = [_MEMBER.fullmatch(member.decode("latin-1")) for member in members]
    keys = {one[1] for one in found if one is not None}
    if len(members) > MOST_STATE_MEMBERS or len(keys) < len(members):
        return ""
    return ",".join(member.decode() for member in members)


class Announcement(Struct, frozen=True):
    """A node tells the others that a message belongs to a trace."""

    site: str
    #: The id of the message.
    id: str
    context: TraceContext
    #: The number of the message in its site; 0 before it is stored.
    seq: int = 0

    def encode(self) -> bytes:
        """The announcement as it is published."""
        words = (self.site, self.id, str(self.seq), self.context.header, self.context.state)
        return TRACE + "\n".join(words).encode("utf-8", "surrogatepass")


def read_announcement(data: bytes) -> Announcement | None:
    """The announcement that was published; None for one of another version, which is passed over."""
    words = data.removeprefix(TRACE).split(b"\n")
    if len(words) < 5 or not words[2].isdigit() or len(words[2]) > 16:
        return None
    context = _parent(words[3], [words[4]] if words[4] else [])
    if context is None:
        return None
    return Announcement(
        words[0].decode("utf-8", "replace"), words[1].decode("utf-8", "replace"), context, int(words[2])
    )
