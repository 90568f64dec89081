"""The text of `encodeURI`, compared with that of Node."""

from __future__ import annotations

import json
import subprocess
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.redis_publish.uri_text import decode_uri, encode_uri

TEXTS = [
    "Hello, world!",
    '100% of {"a": [1]} & <b>',
    "abcdef ABCDEF %25 %41 %zz",
    "día 😀 漢字 \x00\x1f\x7f\\^`|",
    "".join(map(chr, range(0x250))),
    ";,/?:@&=+$-_.!~*'()#",
]
ENCODED = [
    "%41bc",
    "%23%2f%2F%3B",
    "a%C3%ADo",
    "%E6%BC%A2",
    "%",
    "%4",
    "%zz",
    "%FF",
    "%C3",
    "%ED%A0%80",
    "%C0%80",
    "%25",
]
_SCRIPT = """
const [texts, encoded] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const decode = (text) => { try { return decodeURI(text); } catch { return null; } };
console.log(JSON.stringify([texts.map(encodeURI), encoded.map(decode)]));
"""


def test_same_as_in_javascript() -> None:
    """Node makes the same texts of the same texts, and fails for the same ones."""
    done = subprocess.run(
        ["node", "-e", _SCRIPT], input=json.dumps([TEXTS, ENCODED]), capture_output=True, text=True, check=True
    )
    assert [list(map(encode_uri, TEXTS)), list(map(decode_uri, ENCODED))] == json.loads(done.stdout)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_there_and_back(text: str) -> None:
    """Every text comes back."""
    assert decode_uri(encode_uri(text)) == text


@pytest.mark.parametrize("text", ["a b", "ü", '"', "a\\u0041", "\ud800"])
def test_text_that_was_never_encoded(text: str) -> None:
    """A text with a character that `encodeURI` escapes is not decoded."""
    assert decode_uri(text) is None


@pytest.mark.parametrize("text", ["漢" * 333_000, "a b" * 333_000, "%" * 1_000_000])
def test_long_text_takes_little_time(text: str) -> None:
    """A megabyte is one of a few passes in C, not a step of Python for each character."""
    started = perf_counter()
    assert decode_uri(encode_uri(text)) == text
    assert perf_counter() - started < 1.0
