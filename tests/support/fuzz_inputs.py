"""Strategies for texts and JSON that nobody should send; shared by the fuzzers of all protocols."""

from __future__ import annotations

import json

from hypothesis import strategies as st

#: Half surrogates, control characters, characters of one to four bytes, names of Python and JavaScript.
TEXTS = [
    "",
    "a",
    "\ud800",
    "\udc00x",
    "\x00",
    "\n",
    "é",
    "€",
    "😀",
    "__proto__",
    "_placeholder",
    "x" * 300,
    "..",
    "@",
    "/",
]
texts = st.sampled_from(TEXTS) | st.text(st.characters(), max_size=8)
numbers = st.sampled_from(
    [0, -1, 1, 2**31, 2**53, 10**15, 10**16, 2**64, 10**400, 1.5, 1e308, float("inf"), float("nan")]
) | st.integers(-5, 5)
leaves = st.none() | st.booleans() | numbers | texts
values = leaves | st.lists(leaves, max_size=4) | st.dictionaries(texts, leaves, max_size=3)
#: JSON, mostly right. Half surrogates are escaped, huge numbers are spelled out.
json_texts = st.one_of(
    values.map(json.dumps),
    st.integers(1, 3_000).map(lambda levels: "[" * levels + "]" * levels),
    st.integers(1, 1_500).map(lambda levels: '{"a":' * levels + "1" + "}" * levels),
    st.sampled_from(
        ["9" * 5_000, "-" + "9" * 5_000, "1e400", "[1,]", "{", '"\\ud800"', '"\\u00', "nul", "\ufeff1", ""]
    ),
)
_EDITS = [b"[", b"]", b"{", b"}", b'"', b"&", b"=", b",", b"/", b":", b"\\ud800", b"\xff", b"\x00", b"%", b"9" * 20]


class Large(bytes):
    """A large input, which a failing test does not print."""

    def __repr__(self) -> str:
        """Tell its beginning."""
        return f"<{len(self)} bytes: {bytes(self[:60])!r}...>"


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few bytes changed, removed or inserted."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 3))] = draw(st.sampled_from(_EDITS))
    return bytes(data)
